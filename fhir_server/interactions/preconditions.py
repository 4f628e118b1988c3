"""Conditions on the version that is there: ETag, If-Match, If-None-Match, If-Modified-Since.

Sources: https://hl7.org/fhir/R4/http.html#concurrency, RFC 9110 section 13.1.
"""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from fhir_server.access.session import StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.dates import microseconds
from fhir_server.interactions.exchange import Request

_ETAG: Final = re.compile(r'(?:W/)?"(\d{1,18})"', re.ASCII)


def etag(version: StoredVersion) -> str:
    return f'W/"{version.version}"'


def require_match(request: Request, current: StoredVersion | None) -> None:
    """Raise unless `If-Match` names the current version.

    Without the header all is well, but for a type that the server never changes without it: a
    plan that two services work on would lose what one of them wrote.

    Raises:
        FhirError: PRECONDITION_FAILED, also for a header that is not one version's ETag.
    """
    if_match = request.if_match
    if if_match is None:
        if current is not None and not current.deleted:
            refuse_unconditional(request)
        return
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise _failed(f'If-Match is {if_match!r}; one ETag such as W/"3" is expected')
    if current is None or current.deleted:
        raise _failed(f"If-Match asks for version {found[1]}; the resource is not there")
    if int(found[1]) != current.version:
        raise _failed(
            f"If-Match asks for version {found[1]}; the current version is {current.version}"
        )


def refuse_unconditional(request: Request) -> None:
    """Raise where what is there may be changed with `If-Match` alone.

    Raises:
        FhirError: PRECONDITION_FAILED.
    """
    if request.resource_type in request.server.if_match_required:
        raise _failed(
            f"Changing or deleting what is there of {request.resource_type} needs If-Match: read "
            'it and send its ETag, such as W/"3", so that no change by somebody else is lost'
        )


def require_no_match(if_none_match: str | None, current: StoredVersion | None) -> None:
    """Raise when a write that is to happen without that version, or any (`*`), finds it.

    Raises:
        FhirError: PRECONDITION_FAILED.
    """
    if if_none_match is None or current is None or current.deleted:
        return
    if if_none_match.strip() == "*" or is_current(if_none_match, current):
        text = f"If-None-Match is {if_none_match!r}; version {current.version} is there"
        raise FhirError.at(Kind.PRECONDITION_FAILED, "http.If-None-Match", text)


def is_unmodified(request: Request, version: StoredVersion) -> bool:
    """Whether the client has the version already: by `If-None-Match`, else by its time."""
    held = request.if_none_match
    if held is not None:
        return held.strip() == "*" or is_current(held, version)
    since = request.if_modified_since
    return since is not None and version.last_updated <= since


def http_date(header: str | None) -> int | None:
    """The last microsecond of the second that a header names.

    None without one, and for one that cannot be read, which is as none (RFC 9110 section 13.1.3).
    """
    try:
        read = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    zoned = read if read.tzinfo else read.replace(tzinfo=UTC)
    return microseconds(zoned) + 999_999


def is_current(if_none_match: str | None, version: StoredVersion) -> bool:
    """Whether `If-None-Match` lists the version, so that the client has it already."""
    if if_none_match is None:
        return False
    tags = [_ETAG.fullmatch(tag.strip()) for tag in if_none_match.split(",")]
    return any(tag is not None and int(tag[1]) == version.version for tag in tags)


def _failed(text: str) -> FhirError:
    return FhirError.at(Kind.PRECONDITION_FAILED, "http.If-Match", text)
