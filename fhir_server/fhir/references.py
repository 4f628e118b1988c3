"""References between resources, in their forms.

Source: https://hl7.org/fhir/R4/references.html.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from os import urandom
from typing import Any, Final, NamedTuple
from uuid import UUID

from fhir_server.fhir import json
from fhir_server.fhir.definitions import is_resource_type

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
"""https://hl7.org/fhir/R4/datatypes.html#id"""

_RELATIVE: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?",
    re.ASCII,
)
_LONGEST: Final = 200
"""Characters that a relative reference has at the most, with the longest type and ids."""
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:", re.ASCII)


class LocalReference(NamedTuple):
    """A resource on this server, as `Type/id` names it."""

    type: str
    id: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


def new_id() -> str:
    """A random id that nobody can guess, a version 4 UUID (RFC 9562 section 5.4).

    In half the time that `uuid.uuid4` takes.
    """
    return _uuid(urandom(16).hex(), 4)


def named_id(namespace: UUID, name: str) -> str:
    """The same id for the same name, a version 5 UUID (section 5.5).

    In half the time that `uuid.uuid5` takes.
    """
    digest = sha1(namespace.bytes + name.encode(), usedforsecurity=False)
    return _uuid(digest.hexdigest(), 5)


def _uuid(told: str, version: int) -> str:
    """Of the first 128 bits that hexadecimal digits tell."""
    variant = "89ab"[int(told[16], 16) & 3]
    return f"{told[:8]}-{told[8:12]}-{version}{told[13:16]}-{variant}{told[17:20]}-{told[20:32]}"


def is_id(text: str) -> bool:
    return ID_PATTERN.fullmatch(text) is not None


def parse_relative(text: str) -> LocalReference | None:
    """`Type/id` or `Type/id/_history/version` with a type of R4, else None."""
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> LocalReference | None:
    """The same few are met in what belongs together."""
    found = _RELATIVE.fullmatch(text)
    if found is None or not is_resource_type(found["type"]):
        return None
    return LocalReference(found["type"], found["id"], found["version"])


def parse_local(text: str, base: str) -> LocalReference | None:
    """As `parse_relative`, also for an absolute address below `base` (no slash at its end)."""
    if text.startswith(base + "/"):
        text = text[len(base) + 1 :]
    return parse_relative(text)


def localised(resource: dict[str, Any], base: str) -> dict[str, Any]:
    """The resource with references below `base` told relative to it.

    One resource is then named in one way, in its compartment, in searches and for access.
    """
    if base.encode() not in json.encode(resource):
        return resource
    changed: dict[str, Any] = rewrite(resource, lambda text: _local_text(text, base))
    return changed


def _local_text(text: str, base: str) -> str | None:
    if not text.startswith(base + "/"):
        return None
    relative = text[len(base) + 1 :]
    return relative if parse_relative(relative) is not None else None


def is_absolute(text: str) -> bool:
    """Whether it begins with a scheme: `https:`, `urn:`, ..."""
    return _ABSOLUTE.match(text) is not None


def rewrite(node: Any, replace: Callable[[str], str | None]) -> Any:
    """A copy of `node` in which every `Reference.reference` went through `replace`.

    Only `reference` properties are touched: canonical and identifying URIs stay as they are
    (https://hl7.org/fhir/R4/http.html#trules). `replace` answers None to leave one alone.
    """
    if isinstance(node, dict):
        return {
            name: _replaced(value, replace)
            if name == "reference" and isinstance(value, str)
            else rewrite(value, replace)
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [rewrite(item, replace) for item in node]
    return node


def _replaced(text: str, replace: Callable[[str], str | None]) -> str:
    changed = replace(text)
    return text if changed is None else changed
