"""The outbox of the store as the subscriptions of one process follow it.

The newest changes are read once and kept for all; whoever is further behind reads for itself, some
at a time. So memory is bounded, whatever waits: the outbox is the queue.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from fhir_server.events.topics import WATCHED, topics_of, topics_of_deleted
from fhir_server.fhir import json
from fhir_server.storage.interface import HistoryOf, Store, StoredVersion

_AT_ONCE: Final = 200
_KEPT: Final = 1000
"""Changes; their bodies are what takes room."""


class Change:
    """One version in the order of commits, decoded when somebody looks into it."""

    __slots__ = ("_resource", "_topics", "seq", "stored")

    def __init__(self, seq: int, stored: StoredVersion) -> None:
        self.seq: Final = seq
        self.stored: Final = stored
        self._resource: Any = None
        self._topics: frozenset[str] | None = None

    @property
    def resource(self) -> Any:
        if self._resource is None:
            self._resource = json.decode_own(self.stored.body)
        return self._resource

    async def topics(self, store: Store) -> frozenset[str]:
        """Of which topics it is an event."""
        if self._topics is None:
            self._topics = await self._told(store)
        return self._topics

    async def _told(self, store: Store) -> frozenset[str]:
        stored = self.stored
        if stored.type not in WATCHED:
            return frozenset()
        before = None
        if stored.version > 1:
            before = await store.vread(stored.type, stored.id, stored.version - 1)
        was = None if before is None or before.deleted else json.decode_own(before.body)
        if stored.deleted:
            return frozenset() if was is None else topics_of_deleted(was)
        return topics_of(self.resource, was)


class Feed:
    """What comes into the outbox."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self._recent: deque[Change] = deque(maxlen=_KEPT)
        self._head: int | None = None
        """Of the newest change that was looked at; None before the first look."""

    async def refresh(self) -> bool:
        """Read what is new; whether there was anything."""
        if self._head is None:
            newest = await self.store.history(HistoryOf(), 1)
            self._head = newest[0].seq if newest else 0
            return True
        found = await self._read(self._head)
        if found:
            self._recent.extend(found)
            self._head = found[-1].seq
        return bool(found)

    async def after(self, seq: int) -> Sequence[Change]:
        """Some changes with numbers above `seq`; none where there are no more by now."""
        if self._head is not None and seq >= self._head:
            return ()
        # What comes before the oldest that is kept may not have been kept.
        if not self._recent or seq < self._recent[0].seq:
            return await self._read(seq)
        start = bisect_right(self._recent, seq, key=lambda change: change.seq)
        return list(islice(self._recent, start, start + _AT_ONCE))

    async def _read(self, seq: int) -> list[Change]:
        found = await self.store.changes(seq, _AT_ONCE)
        return [Change(number, stored) for number, stored in found]
