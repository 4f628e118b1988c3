"""Conditions on the version that is there: ETag, If-Match.

Sources: https://hl7.org/fhir/R4/http.html#concurrency, RFC 9110 section 13.1.
"""

import re
from typing import Final

from fhir_server.access.session import StoredVersion
from fhir_server.errors import FhirError, Kind

_ETAG: Final = re.compile(r'(?:W/)?"(\d{1,18})"', re.ASCII)


def etag(version: StoredVersion) -> str:
    return f'W/"{version.version}"'


def require_match(if_match: str | None, current: StoredVersion | None) -> None:
    """Raise unless `If-Match` names the current version; without the header, all is well.

    Raises:
        FhirError: PRECONDITION_FAILED, also for a header that is not one version's ETag.
    """
    if if_match is None:
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


def is_current(if_none_match: str | None, version: StoredVersion) -> bool:
    """Whether `If-None-Match` lists the version, so that the client has it already."""
    if if_none_match is None:
        return False
    tags = [_ETAG.fullmatch(tag.strip()) for tag in if_none_match.split(",")]
    return any(tag is not None and int(tag[1]) == version.version for tag in tags)


def _failed(text: str) -> FhirError:
    return FhirError.at(Kind.PRECONDITION_FAILED, "http.If-Match", text)
