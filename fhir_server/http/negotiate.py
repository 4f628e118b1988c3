"""Media types and content codings: what the client sends and what it takes.

https://hl7.org/fhir/R4/http.html#mime-type, RFC 9110 section 12.5.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from fhir_server.errors import FhirError, Kind

_KNOWN_HEADERS: Final = 256
"""Readings of `Accept` and its like that are kept at hand: clients send the same over and over."""
FHIR_VERSION: Final = "4.0"
"""https://hl7.org/fhir/R4/http.html#version-parameter"""


class Format(Enum):
    """How a resource is written, by the media type that goes out."""

    JSON = "application/fhir+json"
    XML = "application/fhir+xml"

    @property
    def content_type(self) -> str:
        return f"{self.value}; charset=utf-8"


NAMES: Final[Mapping[str, Format]] = {
    "application/fhir+json": Format.JSON,
    "application/json": Format.JSON,
    "text/json": Format.JSON,
    "application/fhir+xml": Format.XML,
    "application/xml": Format.XML,
    "text/xml": Format.XML,
}
_SHORT: Final[Mapping[str, Format]] = {"json": Format.JSON, "xml": Format.XML, **NAMES}
_SENT: Final[Mapping[str, Format]] = {
    f"{name}{charset}": found
    for name, found in NAMES.items()
    for charset in ("", "; charset=utf-8")
}
"""As nearly everyone writes it."""
_GENERAL: Final = ("*/*", "text/*", "application/*")
"""The least exact first."""
_SHOWN: Final = 200
"""Characters of a header that an error repeats."""
_LONG: Final = 1000
"""Characters of a header that is read anew each time."""
ALLOWED: Final = f"{' and '.join(one.value for one in Format)} of FHIR {FHIR_VERSION} in UTF-8"
_QUALITY: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII)
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True, slots=True)
class Presentation:
    """How an answer is to look."""

    format: Format = Format.JSON
    pretty: bool = False


PLAIN: Final = Presentation()
"""What answers look like before they are rendered for a client."""
_LOOKS: Final = {
    (Format.JSON, "false"): PLAIN,
    (Format.JSON, "true"): Presentation(pretty=True),
    (Format.XML, "false"): Presentation(Format.XML),
    (Format.XML, "true"): Presentation(Format.XML, pretty=True),
}


# --- what the client takes ------------------------------------------------------------------


def presentation(headers: Mapping[str, str], parameters: Iterable[tuple[str, str]]) -> Presentation:
    """What the client wants; `_format` goes before `Accept`.

    Raises:
        FhirError: NOT_ACCEPTABLE; INVALID for a `_pretty` that is none.
    """
    accept = headers.get("accept")
    if not parameters:
        return PLAIN if accept is None else _presented(accepted(accept), "false")
    named = dict(parameters)
    wanted = named.get("_format")
    if wanted is not None:
        return _presented(_format(wanted), named.get("_pretty", "false"))
    found = Format.JSON if accept is None else accepted(accept)
    return _presented(found, named.get("_pretty", "false"))


def presentation_of_error(
    headers: Mapping[str, str], parameters: Iterable[tuple[str, str]]
) -> Presentation:
    """The same for a refusal, which comes in JSON where nothing else is understood."""
    try:
        return presentation(headers, parameters)
    except FhirError:
        return PLAIN


def _presented(chosen: Format, pretty: str) -> Presentation:
    found = _LOOKS.get((chosen, pretty))
    if found is None:
        raise FhirError.at(
            Kind.INVALID, "http._pretty", f"'_pretty={pretty}' is not allowed; true and false are"
        )
    return found


def _format(parameter: str) -> Format:
    name, _, rest = parameter.partition(";")
    # The + of application/fhir+json arrives as a space where it was not encoded.
    found = _SHORT.get(name.strip().replace(" ", "+").lower())
    if found is None or _misfit(_parameters(rest)):
        raise _not_acceptable(f"_format={parameter}")
    return found


def accepted(accept: str) -> Format:
    """What `Accept` asks for.

    Raises:
        FhirError: NOT_ACCEPTABLE.
    """
    return _read_accept(accept) if len(accept) < _LONG else _read_accept.__wrapped__(accept)


@lru_cache(maxsize=_KNOWN_HEADERS)
def _read_accept(accept: str) -> Format:
    """The format of the highest quality; then the one named most exactly; then the first named."""
    ranges = media_ranges(accept)
    if not ranges:
        return Format.JSON
    ranked = [(*_rank(one, ranges), one) for one in Format]
    quality, _, _, best = max(ranked, key=lambda rank: rank[:3])
    if quality <= 0:
        raise _not_acceptable(f"Accept: {accept}")
    return best


class _Range(NamedTuple):
    """One media range of `Accept`; a quality of -1 for one that no answer here can have."""

    name: str
    quality: float


def media_ranges(accept: str) -> list[_Range]:
    return [_media_range(part) for part in accept.split(",") if part.strip()]


def _media_range(part: str) -> _Range:
    name, _, rest = part.partition(";")
    parameters = _parameters(rest)
    quality = parameters.get("q", "1")
    fits = _QUALITY.fullmatch(quality) and not _misfit(parameters)
    return _Range(name.strip().lower(), float(quality) if fits else -1)


def _rank(chosen: Format, ranges: Sequence[_Range]) -> tuple[float, int, int]:
    """Quality, exactness and place of the most exact range that has the format."""
    rank = (-1.0, -1, 0)
    for index, (name, quality) in enumerate(ranges):
        exactness = _exactness(name, chosen)
        if quality >= 0 and exactness >= 0 and (exactness, quality) > (rank[1], rank[0]):
            rank = (quality, exactness, -index)
    return rank


def _exactness(name: str, chosen: Format) -> int:
    """-1 for a range without the format, more the fewer others are in it."""
    if name == chosen.value:
        return len(_GENERAL) + 1
    if NAMES.get(name) is chosen:
        return len(_GENERAL)
    return _GENERAL.index(name) if name in _GENERAL else -1


def _parameters(text: str) -> dict[str, str]:
    """Those of a media type, names in small letters."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(" +").lower(): value.strip(' "') for name, _, value in pairs}


def _misfit(parameters: Mapping[str, str]) -> bool:
    """Whether another FHIR or another charset is meant than there is."""
    return (
        parameters.get("fhirversion", FHIR_VERSION) != FHIR_VERSION
        or parameters.get("charset", "utf-8").lower() not in _UTF_8
    )


def _not_acceptable(asked: str) -> FhirError:
    return FhirError(
        Kind.NOT_ACCEPTABLE,
        f"'{asked[:_SHOWN]}' cannot be answered; there are {ALLOWED}",
    )


# --- what the client sends ------------------------------------------------------------------


def sent(headers: Mapping[str, str]) -> Format:
    """How the body is written.

    Raises:
        FhirError: UNSUPPORTED_MEDIA_TYPE.
    """
    declared = headers.get("content-type", "")
    found = _SENT.get(declared) or _read_content_type(declared)
    if found is None:
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Type",
            f"The body is {declared[:_SHOWN] or 'of no declared type'}; {ALLOWED} are expected",
        )
    return found


def _read_content_type(declared: str) -> Format | None:
    name, _, rest = declared.partition(";")
    return None if _misfit(_parameters(rest)) else NAMES.get(name.strip().lower())


# --- content codings ------------------------------------------------------------------------


class Gzip(Enum):
    """Whether an answer may be compressed."""

    NO = "no"
    YES = "yes"
    ONLY = "only"
    """Nothing else is taken."""


def gzip_taken(accept_encoding: str | None) -> Gzip:
    """What `Accept-Encoding` says of gzip (RFC 9110 section 12.5.3)."""
    if accept_encoding is None or len(accept_encoding) >= _LONG:
        return Gzip.NO
    return _read_accept_encoding(accept_encoding)


@lru_cache(maxsize=_KNOWN_HEADERS)
def _read_accept_encoding(header: str) -> Gzip:
    named = {one.name: one.quality for one in map(_media_range, header.split(","))}
    gzip = named.get("gzip", named.get("x-gzip", named.get("*", 0)))
    identity = named.get("identity", 0 if named.get("*") == 0 else None)
    if gzip <= 0:
        return Gzip.NO
    if identity == 0:
        return Gzip.ONLY
    return Gzip.YES if identity is None or gzip >= identity else Gzip.NO
