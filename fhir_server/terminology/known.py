"""What the terminology that comes with the server says at once, for the check of a binding.

Packages that the settings name belong to it. Nothing stored is looked at, and nothing is asked of
anybody: where that might say more, the answer is `unknown`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from fhir_server.errors import FhirError
from fhir_server.terminology import membership
from fhir_server.terminology.library import Shipped
from fhir_server.terminology.membership import Verdict
from fhir_server.terminology.names import is_called, names_of
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.shipped import shipped

__all__ = ["KnownCodes", "Verdict", "display_of", "is_member"]

_MOST_KEPT: Final = 256
"""Characters of a system with a code that is remembered: senders choose them."""
_MOST_CALLED: Final = 8192
Word = Literal["yes", "no", "unknown"]
_WORDS: Final[Mapping[Verdict, Word]] = {
    Verdict.YES: "yes",
    Verdict.NO: "no",
    Verdict.UNKNOWN: "unknown",
}


class KnownCodes:
    """Whether codes are in value sets, in words; what was answered once is known."""

    def __init__(self, packaged: Packaged = NONE) -> None:
        self._catalogue = Shipped(packaged)
        self._remembered = lru_cache(maxsize=32_768)(self._verdict)
        self._systems = lru_cache(maxsize=4096)(self._systems_of)
        self.well_called: set[tuple[object, object, object]] = set()
        """What `other_names` had nothing to say of: most codings of most resources."""

    def is_member(self, value_set: str, system: str, code: str) -> Word:
        """`system` is '' for a `code` alone, which names none."""
        return _WORDS[self.verdict(value_set, system, code)]

    def verdict(self, value_set: str, system: str, code: str) -> Verdict:
        if len(system) + len(code) > _MOST_KEPT:
            return self._verdict(value_set, system, code)
        return self._remembered(value_set, system, code)

    def draws_on(self, value_set: str, system: str) -> bool:
        """Whether the value set has codes of that system."""
        return system in self._systems(value_set)

    def other_names(self, system: str, code: str, display: str) -> tuple[str, ...]:
        """What a code is called, where that is not the display; () also where nothing is known.

        `system` may end in `|version`.
        """
        held = self._catalogue.code_system(system)
        spelt = held.system.spelt(code) if held else None
        names = names_of(held, spelt) if spelt is not None else []
        if names and not is_called(display, names):
            return tuple(names)
        if len(system) + len(code) + len(display) <= _MOST_KEPT:
            if len(self.well_called) >= _MOST_CALLED:
                self.well_called.clear()
            self.well_called.add((system, code, display))
        return ()

    def _verdict(self, value_set: str, system: str, code: str) -> Verdict:
        try:
            return membership.is_member(self._catalogue, value_set, system, code)
        except FhirError:
            return Verdict.UNKNOWN

    def _systems_of(self, value_set: str) -> frozenset[str]:
        return frozenset(membership.systems_of(self._catalogue, value_set))


SHIPPED: Final = KnownCodes()
"""Without packages."""


def is_member(value_set: str, system: str, code: str) -> Verdict:
    """Whether the value set, named by its canonical address, has the code; without packages."""
    return SHIPPED.verdict(value_set, system, code)


def display_of(system: str, code: str) -> str | None:
    """The code's display in its system; None where the system or the code is not known."""
    held = shipped("CodeSystem", system)
    if held is None:
        return None
    spelt = held.system.spelt(code)
    return None if spelt is None else held.system.display(spelt)
