"""Sets of codes, also such as "any code of that system but these".

Source: https://hl7.org/fhir/R4/valueset.html#compositions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fhir_server.search.ast import Node, Nothing, TokenIn


class Members(NamedTuple):
    """Codes of one system: those listed, or with `every` all but those."""

    codes: frozenset[str]
    every: bool = False

    def both(self, other: "Members") -> "Members":
        match self.every, other.every:
            case True, True:
                return Members(self.codes | other.codes, every=True)
            case True, False:
                return Members(other.codes - self.codes)
            case False, True:
                return Members(self.codes - other.codes)
            case _:
                return Members(self.codes & other.codes)

    def others(self) -> "Members":
        return Members(self.codes, not self.every)

    def either(self, other: "Members") -> "Members":
        return self.others().both(other.others()).others()


_NONE = Members(frozenset())


@dataclass(frozen=True, slots=True)
class CodeSet:
    """Codes by the address of their system; a system that is not there has none."""

    systems: Mapping[str, Members] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many codes it names, whether as members or as those left out."""
        return sum(len(members.codes) for members in self.systems.values())

    def union(self, other: "CodeSet") -> "CodeSet":
        both = dict.fromkeys((*self.systems, *other.systems))
        return CodeSet({system: self.of(system).either(other.of(system)) for system in both})

    def intersection(self, other: "CodeSet") -> "CodeSet":
        return CodeSet(
            {system: members.both(other.of(system)) for system, members in self.systems.items()}
        )

    def minus(self, other: "CodeSet") -> "CodeSet":
        return CodeSet(
            {
                system: members.both(other.of(system).others())
                for system, members in self.systems.items()
            }
        )

    def of(self, system: str) -> Members:
        return self.systems.get(system, _NONE)

    def predicate(self, code: str) -> Node:
        """What a value of the parameter must be to be one of the codes."""
        listed: set[tuple[str, str]] = set()
        left_out: set[tuple[str, str]] = set()
        for system, members in self.systems.items():
            pairs = {(system, one) for one in members.codes}
            (left_out if members.every else listed).update(pairs)
        whole = tuple(system for system, members in self.systems.items() if members.every)
        if not listed and not whole:
            return Nothing()
        return TokenIn(code, frozenset(listed), whole, frozenset(left_out))


def listed(system: str, codes: Iterable[str]) -> CodeSet:
    return CodeSet({system: Members(frozenset(codes))})


def whole(system: str) -> CodeSet:
    """Any code of the system."""
    return CodeSet({system: Members(frozenset(), every=True)})
