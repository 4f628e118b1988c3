"""What a value of a slice is known by: where its discriminators look, and what they look for.

A value that R4 refuses just there may well be one of a slice that seems to have too few; it is
mended first. Source: https://hl7.org/fhir/R4/profiling.html#discriminator.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fhir_server.validation.places import Place
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.paths import Step, expected, read_path, said_at
from fhir_server.validation.profiles.snapshot import TreeOf
from fhir_server.validation.profiles.tree import Node
from fhir_server.validation.profiles.values import paths_of, texts_of
from fhir_server.validation.report import CODED, Report


class Signs(NamedTuple):
    """`paths` from a value to where it is looked at, '' for itself; `texts` that stand there."""

    paths: frozenset[str] = frozenset({""})
    texts: frozenset[str] = frozenset()
    anywhere: bool = False
    """Whether all of the value is looked at."""


OF_PROFILE: Final = Signs(anywhere=True)


def signs_of_urls(urls: frozenset[str]) -> Signs:
    """Of extensions."""
    return Signs(frozenset({"", "url"}), urls)


def signs(node: Node, each: Node, tree_of: TreeOf) -> Signs:
    """Of the slice `each` of a node that is no extension."""
    known = node.element.get("slicing", {}).get("discriminator") or ()
    found = [_of_one(one, each, tree_of) for one in known]
    return Signs(
        frozenset({""}).union(*(one.paths for one in found)),
        frozenset[str]().union(*(one.texts for one in found)),
        any(one.anywhere for one in found),
    )


def _of_one(known: dict[str, str], each: Node, tree_of: TreeOf) -> Signs:
    if known["type"] == "profile":
        return OF_PROFILE
    steps = read_path(known["path"])
    values = expected(said_at(each, steps, tree_of)) if known["type"] != "type" else []
    *passed, last = _prefixes(steps)
    inner = CODED.union(*map(paths_of, values))
    texts = frozenset(text for value in values for text in texts_of(value))
    return Signs(frozenset({*passed, *(_joined(last, path) for path in inner)}), texts)


def _prefixes(steps: Sequence[Step]) -> Iterator[str]:
    """Each path on the way, as far as it stays in the value."""
    path = ""
    yield path
    for step in steps:
        if step.function == "resolve":
            yield _joined(path, "reference")
            return
        if step.function != "ofType":
            path = _joined(path, step.function or step.argument)
            yield path


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


# In the data -----------------------------------------------------------------------------------


def explained(missing: Sequence[tuple[Signs, int]], unclear: Iterable[Item]) -> list[int]:
    """How many of each slice's missing values may be among those that cannot be told.

    One value stands for one that is missing: of the slice that it looks like, or of any.
    """
    left = [number for _, number in missing]
    rest = []
    for item in unclear:
        texts = frozenset(texts_of(item.value))
        alike = (n for n, (of, _) in enumerate(missing) if left[n] and of.texts & texts)
        found = next(alike, None)
        if found is None:
            rest.append(item)
        else:
            left[found] -= 1
    for _ in rest:
        first = next((n for n, number in enumerate(left) if number), None)
        if first is not None:
            left[first] -= 1
    return [number - still for (_, number), still in zip(missing, left, strict=True)]


def is_unclear(place: Place, of: Iterable[Signs], report: Report) -> bool:
    """Whether R4 refuses what tells to which slice a value belongs."""
    return any(
        report.has_wrong_in(place) if each.anywhere else report.has_wrong(place, each.paths)
        for each in of
    )
