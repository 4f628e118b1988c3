"""Paths of problems with the urls of the extensions in them, as `fhirpath.names` writes them.

An invariant about one extension does not wait for what is wrong with another.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.fhirpath.names import EXTENSION, extension_step

Resource = Mapping[str, Any]
UNKNOWN: Final = extension_step("?")
"""One whose url cannot be read: it may be any."""
_STEP: Final = re.compile(r"(?P<name>\w+)(?:\[(?P<index>\d+)\])?")


def labelled(steps: list[str], resource: Resource | None) -> list[str]:
    """The steps of an expression, without indexes: `["Patient", "extension(url)", "value"]`."""
    value: Any = resource
    found = []
    for number, step in enumerate(steps):
        parts = _STEP.fullmatch(step)
        name, index = (parts["name"], parts["index"]) if parts else (step, None)
        if number:
            value = _inner(value, name, int(index or 0))
        is_known = index is not None and steps[number + 1 :] != ["url"]
        found.append(name if name != EXTENSION else _label(value) if is_known else UNKNOWN)
    return found


def is_alike(path: str, other: str) -> bool:
    """The same path, where an unknown url in the `other` stands for any."""
    if UNKNOWN not in other:
        return False
    steps, others = path.split("."), other.split(".")
    return len(steps) == len(others) and all(map(_are_alike, steps, others))


def _are_alike(step: str, other: str) -> bool:
    return step == other or (other == UNKNOWN and step.startswith(f"{EXTENSION}("))


def _inner(value: Any, name: str, index: int) -> Any:
    """The value of an element; of a choice, whatever type it has."""
    if not isinstance(value, Mapping):
        return None
    inner = value.get(name)
    if inner is None:
        keys = (key for key in value if key.startswith(name) and key[len(name) :][:1].isupper())
        inner = value.get(next(keys, f"_{name}"))
    if isinstance(inner, list):
        return inner[index] if index < len(inner) else None
    return inner


def _label(extension: Any) -> str:
    url = extension.get("url") if isinstance(extension, Mapping) else None
    return extension_step(url) if isinstance(url, str) and url else UNKNOWN
