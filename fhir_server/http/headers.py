"""The headers of a request as they came: how many, how large, and which were sent twice.

RFC 9110 section 5.3 (a header that is no list is sent once), section 5.4 (limits),
RFC 6585 section 5 (431).
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.http.limits import HttpLimits

SINGLE: Final = {
    name.lower(): name
    for name in (
        "Authorization",
        "Content-Length",
        "Content-Type",
        "Host",
        "If-Match",
        "If-Modified-Since",
        "If-None-Exist",
        "If-Unmodified-Since",
        "X-Correlation-ID",
        "X-Provenance",
        "X-Request-ID",
        "X-Security-Context",
    )
}
"""Sent twice, two readers could take each another one. FHIR's `If-Match` is one version."""


class Headers(NamedTuple):
    """Values by name in small letters; those of one name are one list."""

    values: Mapping[str, str]
    repeated: tuple[str, ...]
    """Names that stood several times."""
    size: int
    """Bytes of all names and values."""
    number: int


def read(raw: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Names are in small letters already: ASGI has them so."""
    found: dict[str, str] = {}
    repeated: list[str] = []
    size = 0
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        size += len(name) + len(value)
        if name in found:
            repeated.append(name)
            value = f"{found[name]}, {value}"
        found[name] = value
    return Headers(found, tuple(repeated), size, len(raw))


def require_sound(headers: Headers, limits: HttpLimits) -> None:
    """Raise for headers that are too many or too large, or that two readers may read in two ways.

    Raises:
        FhirError: HEADERS_TOO_LARGE; INVALID with an issue for each header that was repeated.
    """
    if headers.number > limits.max_headers:
        raise FhirError(
            Kind.HEADERS_TOO_LARGE,
            f"{headers.number} headers; {limits.max_headers} are allowed",
        )
    if headers.size > limits.max_header_bytes:
        raise FhirError(Kind.HEADERS_TOO_LARGE, too_many_bytes(limits))
    if headers.repeated:
        _refuse_twice(headers.repeated)


def _refuse_twice(repeated: Sequence[str]) -> None:
    twice = dict.fromkeys(SINGLE[name] for name in repeated if name in SINGLE)
    if twice:
        raise FhirError.of(
            Kind.INVALID,
            [Issue(f"{name} stands twice; it may stand once", f"http.{name}") for name in twice],
        )


def too_many_bytes(limits: HttpLimits) -> str:
    return f"The headers are too large; {limits.max_header_bytes} bytes are allowed for all"


def url_too_long(limits: HttpLimits) -> str:
    return (
        f"The address is too long; {limits.max_url} bytes are allowed. "
        "A search can be sent as a form to _search"
    )
