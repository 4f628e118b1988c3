"""A subscription as the server keeps it: memos of its caller, moved in the store's own commits.

`subscription` holds the record, with what no answer shows (headers, the caller's rights);
`subscription-open` marks those that are at work; `subscription-event` holds what was numbered,
by its number. The Subscription itself is a resource beside them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from fhir_server.access.caller import Caller, caller_from_json, own_prefix
from fhir_server.events.asked import Asked
from fhir_server.storage.interface import Memo, Reader, Unit

TYPE: Final = "Subscription"
RECORDS: Final = "subscription"
OPEN: Final = "subscription-open"
EVENTS: Final = "subscription-event"
TOKENS: Final = "subscription-token"
REQUESTED: Final = "requested"
ACTIVE: Final = "active"
ERROR: Final = "error"
OFF: Final = "off"
AT_WORK: Final = (REQUESTED, ACTIVE)
_DIGITS: Final = 15
"""Of a number in a key, so that keys stand in the order of numbers."""


@dataclass(frozen=True, slots=True)
class Record:
    """Times are in microseconds since the epoch; 0 is never."""

    id: str
    who: Mapping[str, Any]
    """The whole caller, as `caller_to_json` writes them: notices hold what they may see."""
    asked: Asked
    status: str
    mark: str
    """Another one whenever its caller writes the Subscription."""
    cursor: int
    """Of the outbox: changes up to this number were looked at."""
    end: int
    numbered: int = 0
    """Of the last event that has a number; they begin at 1."""
    acked: int = 0
    """Of the last event that the receiver has taken."""
    failures: int = 0
    """In a row."""
    failing: int = 0
    """Since when."""
    retry: int = 0
    """When the next attempt may be."""
    error: str = ""
    told: int = 0
    """When the receiver took something last."""
    holder: str = ""
    """The process that is sending."""
    until: int = 0
    """When its hold ends."""
    bound: str = ""
    """The process that has its websocket."""

    @property
    def caller(self) -> Caller:
        return caller_from_json(self.who)

    @property
    def key(self) -> str:
        return key_of(str(self.who["name"]), self.id)

    @property
    def at_work(self) -> bool:
        return self.status in AT_WORK

    @property
    def pending(self) -> bool:
        """Whether events have numbers that the receiver has not taken."""
        return self.acked < self.numbered

    def memo(self) -> Memo:
        told = {**asdict(self), "asked": self.asked.to_json()}
        return Memo(RECORDS, self.key, json.dumps(told).encode())

    def released(self) -> "Record":
        """Held by nobody, so that any process may go on at once."""
        return replace(self, holder="", until=0)


@dataclass(frozen=True, slots=True)
class Event:
    """One event that has a number: a version, by which it is found again when it is sent."""

    number: int
    at: int
    """Microseconds since the epoch."""
    type: str
    id: str
    version: int
    deleted: bool = False

    @property
    def focus(self) -> str:
        return f"{self.type}/{self.id}"

    def memo(self, record: Record, expires: int = 0) -> Memo:
        told = [self.number, self.at, self.type, self.id, self.version]
        value = json.dumps([*told, True] if self.deleted else told)
        return Memo(EVENTS, event_key(record.key, self.number), value.encode(), expires)


def event_key(key: str, number: int) -> str:
    return f"{key}{number:0{_DIGITS}}"


def key_of(name: str, subscription_id: str) -> str:
    """The key of a caller's record. It ends in what stands in no id, as keys are forgotten by how
    they begin."""
    return f"{own_prefix(name)}{own_key(subscription_id)}"


def own_key(subscription_id: str) -> str:
    """The same in the caller's own session."""
    return f"{subscription_id}>"


def read(memo: Memo) -> Record:
    told = json.loads(memo.value)
    return Record(**{**told, "asked": Asked.from_json(told["asked"])})


async def find(reader: Reader, key: str) -> Record | None:
    """The record with that key of the store."""
    found = await reader.memo(RECORDS, key)
    return None if found is None else read(found)


def read_events(memos: Sequence[Memo]) -> list[Event]:
    return [Event(*json.loads(memo.value)) for memo in memos]


async def events(reader: Reader, record: Record, after: int, count: int) -> list[Event]:
    """At most `count` events with numbers above `after`, in their order."""
    found = await reader.memos(EVENTS, record.key, count, event_key(record.key, after))
    return read_events(found)


def delivered(memos: Iterable[Memo]) -> int | None:
    """Up to which number of a change every subscription has looked; None where there are none.

    Those that are suspended count: they may be resumed.
    """
    cursors = (record.cursor for record in map(read, memos) if record.status != OFF)
    return min(cursors, default=None)


async def keep(unit: Unit, record: Record) -> None:
    """Keep the record, and its mark while it is at work."""
    await unit.keep(record.memo())
    if record.at_work:
        await unit.keep(Memo(OPEN, record.key, record.mark.encode()))
    else:
        await unit.forget(OPEN, record.key)


async def forget_events(unit: Unit, record: Record) -> None:
    await unit.forget(EVENTS, record.key)
