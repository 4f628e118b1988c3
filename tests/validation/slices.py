"""The slices of a profile, read from its differential without the checker's help.

Only what can be told from the differential itself is read: a slice whose discriminator is a
value that stands there, or of extensions (https://hl7.org/fhir/R4/profiling.html#slicing).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

Json = Mapping[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """What an item of the slice has at `path`, from the item."""

    path: Path
    value: Any

    def is_on(self, item: Any) -> bool:
        return any(_has(value, self.value) for value in values_at(item, self.path))


@dataclass(frozen=True, slots=True)
class SlicedElement:
    """`needs` are the elements, by path from the item, that the slice requires."""

    path: Path
    name: str
    least: int
    most: str
    marks: tuple[Mark, ...]
    needs: tuple[Path, ...]

    def has(self, item: Any) -> bool:
        return all(mark.is_on(item) for mark in self.marks)


def values_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from values_at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from values_at(value[path[0]], path[1:])


def _has(value: Any, wanted: Any) -> bool:
    """As a pattern asks: each part of what is wanted is there."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and _has(value[key], part) for key, part in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            any(_has(item, part) for item in value) for part in wanted
        )
    return bool(value == wanted)


def slices(definition: Json) -> list[SlicedElement]:
    """But for slices of what is itself in a slice, and those that nothing here tells."""
    elements = definition["differential"]["element"]
    paths = {
        each["path"]: [known["path"] for known in each["slicing"].get("discriminator", ())]
        for each in elements
        if "slicing" in each
    }
    sliced = [number for number, each in enumerate(elements) if "sliceName" in each]
    within = {id(each) for number in sliced for _, each in _inner(elements, number)}
    found = [_slice(elements, n, paths) for n in sliced if id(elements[n]) not in within]
    return [each for each in found if each.marks]


def _slice(elements: Sequence[Json], number: int, paths: Mapping[str, list[str]]) -> SlicedElement:
    first, path = elements[number], elements[number]["path"]
    inner = _inner(elements, number)
    return SlicedElement(
        tuple(path.split(".")[1:]),
        first["sliceName"],
        first.get("min", 0),
        first.get("max", "*"),
        tuple(_marks(first, inner, paths.get(path, []))),
        tuple(_needs(inner)),
    )


def _inner(elements: Sequence[Json], number: int) -> list[tuple[Path, Json]]:
    """The elements within the slice, those of slices of its own as well."""
    path = elements[number]["path"]
    rest = takewhile(lambda each: each["path"].startswith(f"{path}."), elements[number + 1 :])
    return [(tuple(each["path"].removeprefix(f"{path}.").split(".")), each) for each in rest]


def _needs(inner: Sequence[tuple[Path, Json]]) -> Iterator[Path]:
    nested: list[Path] = []
    for steps, each in inner:
        if "sliceName" in each:
            nested.append(steps)
        elif each.get("min", 0) > 0 and not any(steps[: len(one)] == one for one in nested):
            yield steps


def _marks(first: Json, inner: Sequence[tuple[Path, Json]], paths: Sequence[str]) -> Iterator[Mark]:
    if first["path"].endswith("extension"):
        for entry in first.get("type", ()):
            yield from (Mark(("url",), url) for url in entry.get("profile", ()))
        paths = ["url"]
    for path in paths:
        wanted = () if path == "$this" else tuple(path.split("."))
        for steps, each in [((), first), *inner]:
            value = _said(each)
            if value is not None and wanted[: len(steps)] == steps:
                yield Mark(steps, value)
            elif wanted == steps == ("resource",):
                yield Mark(("resource", "resourceType"), each["type"][0]["code"])


def _said(element: Json) -> Any:
    return next((v for k, v in element.items() if k.startswith(("fixed", "pattern"))), None)
