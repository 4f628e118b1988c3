"""The terms of callers, kept until something that they hang on changes.

They are made of the facts and of broken glass, which commits alone change, and of the time, of
which it is known when it changes anything. So a search is put within the terms that are at hand,
and afterwards it is looked whether anybody has committed meanwhile. If so, what decides is read:
where it is as it was, so are the terms; else what was found is forgotten, and asked for anew.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from fhir_server.access.caller import Caller
from fhir_server.access.consent_terms import ConsentTerms, ScopeTerms
from fhir_server.access.facts import kept
from fhir_server.access.glass import opened
from fhir_server.storage.interface import Reader

_MOST_CALLERS: Final = 1000
"""Whose terms are kept."""
_Held = tuple[object, ...]
"""Objects by whose identity something is found, so that no other takes their place."""


class Epochs(Protocol):
    """A store that tells whether anybody has committed."""

    def epoch(self) -> object | None:
        """Another object once any process has committed; None where that cannot be told now."""


@dataclass(slots=True)
class KeptTerms:
    """Terms, and how long they hold."""

    terms: ConsentTerms
    state: bytes
    """Of the facts, as it is stored, while nobody reads the caller's way through broken glass."""
    low: int
    high: int
    """Between them, in microseconds since the epoch, time changes nothing."""
    epoch: object
    """The last one of which it is known that the terms held in it."""

    async def hold(self, reader: Reader, store: Epochs) -> bool:
        """Whether they held until now, by all that was committed.

        No state of the facts comes again, and no glass is mended before its time: what is as it
        was at this moment was so all the time.
        """
        epoch = store.epoch()
        if epoch is self.epoch and epoch is not None:
            return True
        told = await reader.memo(kept.STATE, kept.STATE_KEY)
        if told is None or told.value != self.state:
            return False
        if self.terms.caller.user and await opened(reader, self.terms.caller):
            return False
        self.epoch = epoch
        return True


class TermsAtHand:
    """Those of a process, each by all of its caller that they are made of."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[_Held, KeptTerms]] = {}

    def find(self, caller: Caller, scopes: ScopeTerms, now: int) -> KeptTerms | None:
        """The terms, where time has not ended them; whether a commit has, they tell."""
        found = self._known.get(_key(caller, scopes))
        if found is None:
            return None
        (roles, grants, made), terms = found
        same = roles is caller.roles and grants is caller.grants and made is scopes
        return terms if same and terms.low <= now < terms.high else None

    def keep(self, found: KeptTerms) -> None:
        caller, scopes = found.terms.caller, found.terms.scopes
        if len(self._known) >= _MOST_CALLERS:
            self._known.clear()
        self._known[_key(caller, scopes)] = ((caller.roles, caller.grants, scopes), found)

    def forget(self, gone: KeptTerms) -> None:
        self._known.pop(_key(gone.terms.caller, gone.terms.scopes), None)


def _key(caller: Caller, scopes: ScopeTerms) -> Hashable:
    who = (caller.name, caller.user, caller.organisation, caller.purpose, caller.patient)
    return (*who, id(caller.roles), id(caller.grants), id(scopes))
