"""SMART scopes, of version 1 and 2: what is granted is what can be read exactly, and no more.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html. A scope of another sort, such
as `openid` or `launch`, grants nothing here; nor does one that is malformed, in whatever way.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from fhir_server.access.caller import Grant
from fhir_server.access.tokens.problems import BadToken
from fhir_server.fhir.definitions import is_resource_type

ANY: Final = "*"
LETTERS: Final = "cruds"
"""create, read, update, delete, search: in a scope they stand in this order."""
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": "cruds"}
"""https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources"""
_SCOPE: Final = re.compile(
    r"(patient|user|system)/([A-Za-z]{1,64}|\*)\.(?:(read|write|\*)|(c?r?u?d?s?)(?:\?(.+))?)",
    re.ASCII,
)
_MOST_CRITERIA: Final = 20


def grants(claim: Any) -> tuple[Grant, ...]:
    """What a claim with scopes grants: text with spaces between them, or a list of texts.

    Raises:
        BadToken: for a claim that is neither.
    """
    found = (grant for scope in _scopes(claim) if (grant := parsed(scope)) is not None)
    return tuple(dict.fromkeys(found))


def _scopes(claim: Any) -> Iterator[str]:
    for text in claim if isinstance(claim, list) else [claim]:
        if not isinstance(text, str):
            raise BadToken("the scopes are neither text nor a list of texts")
        yield from text.split(" ")


def parsed(scope: str) -> Grant | None:
    """One scope; None for one that grants nothing."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        return None
    level, resource_type, version_1, letters, query = found.groups()
    granted = _VERSION_1[version_1] if version_1 else letters
    if not granted or not (resource_type == ANY or is_resource_type(resource_type)):
        return None
    criteria = () if query is None else _criteria(query)
    return None if criteria is None else Grant(level, resource_type, frozenset(granted), criteria)


def _criteria(query: str) -> tuple[tuple[str, str], ...] | None:
    """None where a part of it cannot be read: left out, it would grant more than was meant."""
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_CRITERIA,
        )
    except ValueError:
        return None
    whole = all(name and value and "\x00" not in name + value for name, value in pairs)
    return tuple(pairs) if whole else None


def written(resource_type: str, letters: Iterable[str]) -> str:
    """Type and letters as a scope has them, without its level."""
    return f"{resource_type}.{''.join(sorted(letters, key=LETTERS.index))}"
