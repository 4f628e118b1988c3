"""Answers that are given again, as long as they would be made the same.

An answer is made of resources of some types, of the search parameters that there are and, where
somebody decides, of the caller's terms. The store tells what of the first two was changed, by
whichever process; the terms tell whether they hold. So an answer that was made in one state of all
of these is that of the moment at which it is found that none has changed.
"""

from collections.abc import Callable, Collection
from typing import Final, Protocol

from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.kept_terms import Epochs, KeptTerms
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Reader


class Watched(Epochs, Reader, Protocol):
    """A store that tells what it was asked for, and whether that has changed."""

    met: set[str] | None
    """The types of all that is looked at, while somebody wants to know."""

    @property
    def is_there(self) -> bool:
        """Whether it can be read at this moment."""

    def generation(self, types: Collection[str]) -> int | None:
        """Another number once any process has changed a resource of these types."""


class Basis:
    """What an answer hangs on; made before the answer, and of use once it is `complete`."""

    __slots__ = ("_clock", "_epoch", "_generation", "_kept", "_parameters", "_store", "_types")

    def __init__(self, store: Watched, kept: KeptTerms | None, clock: Callable[[], int]) -> None:
        self._store: Final = store
        self._kept: Final = kept
        self._clock: Final = clock
        self._epoch = store.epoch()
        self._types: frozenset[str] = frozenset()
        self._generation: int | None = None
        self._parameters: ParameterSet | None = None
        store.met = set()

    async def complete(self) -> bool:
        """Once the answer is made: whether it is known what it hangs on, all of one state."""
        store = self._store
        self._types, store.met = frozenset(store.met or ()), None
        self._generation = store.generation(self._types)
        self._parameters = await store.parameters()
        return self._epoch is not None and store.epoch() is self._epoch and self._is_in_time()

    async def holds(self) -> bool:
        """Whether the answer would be the same if it were made now."""
        store, kept = self._store, self._kept
        if not (store.is_there and self._is_in_time()):
            return False
        epoch = store.epoch()
        if epoch is self._epoch:
            return True
        if store.generation(self._types) != self._generation:
            return False
        if await store.parameters() is not self._parameters:
            return False
        if kept is not None and not await kept.hold(store, store):
            return False
        self._epoch = epoch
        return True

    def _is_in_time(self) -> bool:
        kept = self._kept
        return kept is None or kept.low <= self._clock() < kept.high


async def basis(store: Watched, policy: ConsentPolicy | None) -> Basis | None:
    """Of the answer that is made next; None where it cannot be told what that will hang on."""
    if policy is None:
        return Basis(store, None, system_clock)
    found = policy.kept_terms()
    if found is None or found[1] is None or not await found[1].hold(store, store):
        return None
    return Basis(store, found[1], policy.clock)
