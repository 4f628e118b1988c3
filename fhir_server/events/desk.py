"""What a caller does with subscriptions beside writing them: asks how they are and what was sent.

All through the caller's session: another's subscription is as if it were not there.
"""

from collections.abc import Sequence
from typing import Final

from fhir_server.access.session import Session, SessionUnit, current
from fhir_server.errors import FhirError, Kind
from fhir_server.events.notification import Told
from fhir_server.events.record import (
    ERROR,
    EVENTS,
    RECORDS,
    REQUESTED,
    TYPE,
    Record,
    event_key,
    own_key,
    read,
    read_events,
)
from fhir_server.events.watching import seen
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_AT_ONCE: Final = 200
Asking = Session | SessionUnit


async def find_own(session: Asking, subscription_id: str) -> Record:
    """The caller's subscription of that id.

    Raises:
        FhirError: NOT_FOUND, also for another's and for one that the server does not keep.
    """
    found = await session.memo(RECORDS, own_key(subscription_id))
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{TYPE}/{subscription_id} is not known")
    return read(found)


async def all_own(session: Asking, most: int) -> list[Record]:
    """At most so many of the caller's subscriptions, by id."""
    return [read(memo) for memo in await session.memos(RECORDS, "", most)]


async def told_before(
    session: Asking, record: Record, first: int, last: int, most: int
) -> Sequence[Told]:
    """Events with numbers from `first` to `last`, with what the caller may see of each now."""
    found: list[Told] = []
    after = first - 1
    while len(found) < most:
        key = event_key(own_key(record.id), after)
        memos = await session.memos(EVENTS, own_key(record.id), _AT_ONCE, key)
        for event in read_events(memos):
            if event.number > last or len(found) == most:
                return found
            found.append(Told(event, await seen(session, event)))
            after = event.number
        if len(memos) < _AT_ONCE:
            break
    return found


async def resume(session: Asking, subscription_id: str) -> Resource:
    """Let a suspended subscription go on where it stopped; the Subscription as it is then.

    Raises:
        FhirError: NOT_FOUND; BUSINESS_RULE for one that is not suspended.
    """

    async def work(unit: SessionUnit) -> Resource:
        record = await find_own(unit, subscription_id)
        if record.status != ERROR:
            text = f"It is {record.status}; only one that is suspended, with {ERROR}, is resumed"
            raise FhirError.at(Kind.BUSINESS_RULE, f"{TYPE}.status", text)
        resource = json.decode_resource((await current(unit, TYPE, subscription_id)).body)
        stored = await unit.put({**resource, "status": REQUESTED}, "PUT")
        return json.decode_resource(stored.body)

    return await session.commit("resume", work)
