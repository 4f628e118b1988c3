"""What a concept map says of a code.

Source: https://hl7.org/fhir/R4/conceptmap.html. Asked the other way round, the sides change
places, and with them what is wider and what is narrower.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text

NO_MATCH: Final = ("unmatched", "disjoint")
_TURNED: Final = {
    "wider": "narrower",
    "narrower": "wider",
    "subsumes": "specializes",
    "specializes": "subsumes",
}
_EQUIVALENCES: Final = (
    *("relatedto", "equivalent", "equal", "wider", "subsumes", "narrower", "specializes"),
    *("inexact", "unmatched", "disjoint"),
)


@dataclass(frozen=True, slots=True)
class Match:
    """A code on the other side; '' where there is none."""

    equivalence: str
    system: str
    code: str
    display: str
    source: str
    """Address of the map that says so."""
    comment: str = ""
    depends: bool = False
    """Whether it holds only with other data, or comes with other data."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A code and where to: '' is anywhere. `folds`: case means nothing to its system."""

    system: str
    code: str
    target_system: str = ""
    reverse: bool = False
    folds: bool = False

    def is_about(self, code: str) -> bool:
        return code == self.code or (self.folds and code.casefold() == self.code.casefold())


def matches(concept_map: Resource, asked: Asked) -> Iterator[Match]:
    """The matches, in the map's order."""
    source = text(concept_map, "url")
    for group in items(concept_map, "group"):
        here, there = text(group, "source"), text(group, "target")
        if asked.reverse:
            here, there = there, here
        if here != asked.system or asked.target_system not in ("", there):
            continue
        if asked.reverse:
            yield from _backward(group, there, asked, source)
        else:
            yield from _forward(group, there, asked, source)


def _forward(group: Resource, system: str, asked: Asked, source: str) -> Iterator[Match]:
    found = [one for one in items(group, "element") if asked.is_about(text(one, "code"))]
    for element in found:
        for target in items(element, "target"):
            yield _match(_equivalence(target), system, target, target, source)
    if not found:
        yield from _unmapped(group.get("unmapped"), system, asked.code, source)


def _backward(group: Resource, system: str, asked: Asked, source: str) -> Iterator[Match]:
    for element in items(group, "element"):
        for target in items(element, "target"):
            if asked.is_about(text(target, "code")):
                said = _equivalence(target)
                yield _match(_TURNED.get(said, said), system, element, target, source)


def _unmapped(rule: Any, system: str, code: str, source: str) -> Iterator[Match]:
    """https://hl7.org/fhir/R4/conceptmap.html#unmapped"""
    mode = text(rule, "mode")
    if mode == "provided":
        yield Match("equal", system, code, "", source)
    elif mode == "fixed" and text(rule, "code"):
        yield Match("wider", system, text(rule, "code"), text(rule, "display"), source)


def other_maps(concept_map: Resource, asked: Asked) -> list[str]:
    """The maps that stand in where this one does not say anything of the code."""
    if asked.reverse:
        return []
    found = []
    for group in items(concept_map, "group"):
        rule = group.get("unmapped")
        if (
            text(group, "source") == asked.system
            and text(rule, "mode") == "other-map"
            and text(rule, "url")
            and not any(asked.is_about(text(one, "code")) for one in items(group, "element"))
        ):
            found.append(text(rule, "url"))
    return found


def _equivalence(target: Resource) -> str:
    said = text(target, "equivalence")
    return said if said in _EQUIVALENCES else "relatedto"


def _match(
    equivalence: str, system: str, concept: Resource, target: Resource, source: str
) -> Match:
    return Match(
        equivalence,
        system,
        text(concept, "code"),
        text(concept, "display"),
        source,
        text(target, "comment"),
        bool(items(target, "dependsOn") or items(target, "product")),
    )
