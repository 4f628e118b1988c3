"""What the terminology that comes with the server says at once, for the check of a binding.

Nothing stored is looked at, and nothing is asked of anybody: where that might say more, the
answer is `unknown`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from fhir_server.errors import FhirError
from fhir_server.terminology import membership
from fhir_server.terminology.library import Shipped
from fhir_server.terminology.membership import Verdict
from fhir_server.terminology.shipped import shipped

__all__ = ["KnownCodes", "Verdict", "display_of", "is_member"]

_SHIPPED = Shipped()


_LONGEST: Final = 300
"""Characters of a question whose answer is kept: codes and systems are what senders write."""


def is_member(value_set: str, system: str, code: str) -> Verdict:
    """Whether the value set, named by its canonical address, has the code."""
    if len(system) + len(code) > _LONGEST:
        return _is_member(value_set, system, code)
    return _kept_answer(value_set, system, code)


@lru_cache(maxsize=32_768)
def _kept_answer(value_set: str, system: str, code: str) -> Verdict:
    return _is_member(value_set, system, code)


def _is_member(value_set: str, system: str, code: str) -> Verdict:
    try:
        return membership.is_member(_SHIPPED, value_set, system, code)
    except FhirError:
        return Verdict.UNKNOWN


class KnownCodes:
    """The same in words."""

    def is_member(self, value_set: str, system: str, code: str) -> Literal["yes", "no", "unknown"]:
        """`system` is '' for a `code` alone, which names none."""
        return _WORDS[is_member(value_set, system, code)]

    def draws_on(self, value_set: str, system: str) -> bool:
        """Whether the value set has codes of that system."""
        return system in _systems(value_set)


@lru_cache(maxsize=4096)
def _systems(value_set: str) -> frozenset[str]:
    return frozenset(membership.systems_of(_SHIPPED, value_set))


_WORDS: Final[Mapping[Verdict, Literal["yes", "no", "unknown"]]] = {
    Verdict.YES: "yes",
    Verdict.NO: "no",
    Verdict.UNKNOWN: "unknown",
}


def display_of(system: str, code: str) -> str | None:
    """The code's display in its system; None where the system or the code is not known."""
    held = shipped("CodeSystem", system)
    if held is None:
        return None
    spelt = held.system.spelt(code)
    return None if spelt is None else held.system.display(spelt)
