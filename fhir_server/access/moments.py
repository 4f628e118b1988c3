"""When the service's rules look at a patient's record again, and which process sees to it.

Rules ask for a moment in the commit whose consequence it is; it is kept as two memos, one found by
time and one by patient. One process leads, by a lease that it renews; its name is looked at again
in each commit, so that one that was stopped meanwhile does nothing more.
"""

from collections.abc import Sequence
from typing import Final

from fhir_server.search.ast import Query
from fhir_server.storage.interface import Memo, Reader, Store, Unit

_BY_TIME: Final = "moment"
_BY_PATIENT: Final = "moment-of"
_LEADER: Final = "moment-leader"
_KEY: Final = "leader"
_DIGITS: Final = 20
_AT_ONCE: Final = 200
"""Patients of one commit."""


async def keep(unit: Unit, patient_id: str, at: int | None) -> None:
    """In place of the one before; in microseconds since the epoch, None for no moment."""
    before = await of(unit, patient_id)
    at = None if at is None else max(at, 0)
    if before == at:
        return
    if before is not None:
        await unit.forget(_BY_TIME, _time_key(before, patient_id))
    if at is None:
        await unit.forget(_BY_PATIENT, _patient_key(patient_id))
        return
    await unit.keep(Memo(_BY_TIME, _time_key(at, patient_id), b""))
    await unit.keep(Memo(_BY_PATIENT, _patient_key(patient_id), str(at).encode()))


async def of(reader: Reader, patient_id: str) -> int | None:
    found = await reader.memo(_BY_PATIENT, _patient_key(patient_id))
    return None if found is None else int(found.value)


async def come(store: Store, now: int, count: int) -> Sequence[str]:
    """At most `count` patients whose moment has come, the first one first."""
    memos = await store.memos(_BY_TIME, "", count)
    parts = [memo.key.partition("/") for memo in memos]
    return [rest.removesuffix("/") for at, _, rest in parts if int(at) <= now]


async def look_at_all(store: Store, now: int, *, whole: bool) -> int:
    """Have rules look soon at every patient for whom no moment is known; how many those are.

    Args:
        whole: at all others too, whose moment is still to come.
    """
    count, after = 0, None
    while True:
        page = await store.search(Query("Patient"), _AT_ONCE, after)
        ids = [found.id for found in page.matches]

        async def work(unit: Unit, ids: Sequence[str] = ids) -> int:
            at = {one: await of(unit, one) for one in ids}
            asked = [one for one, known in at.items() if known is None or (whole and known > now)]
            for one in asked:
                await keep(unit, one, now)
            return len(asked)

        count += await store.commit(work)
        if page.after is None:
            return count
        after = page.after


async def lead(store: Store, name: str, now: int, until: int) -> bool:
    """Take the lead or hold it until then, where nobody else does; whether that is so.

    One that is held for longer than half of that is not taken anew.
    """

    def leads(found: Memo | None) -> bool | None:
        if found is None or found.expires <= now:
            return None
        if found.value.decode() != name:
            return False
        return True if found.expires > (now + until) // 2 else None

    async def work(unit: Unit) -> bool:
        told = leads(await unit.memo(_LEADER, _KEY))
        if told is not None:
            return told
        await unit.keep(Memo(_LEADER, _KEY, name.encode(), until))
        return True

    told = leads(await store.memo(_LEADER, _KEY))
    return await store.commit(work) if told is None else told


async def let_go(store: Store, name: str) -> None:
    """Let another process lead at once."""

    async def work(unit: Unit) -> None:
        if await is_leader(unit, name):
            await unit.forget(_LEADER, _KEY)

    await store.commit(work)


async def is_leader(reader: Reader, name: str) -> bool:
    found = await reader.memo(_LEADER, _KEY)
    return found is not None and found.value.decode() == name


def _time_key(at: int, patient_id: str) -> str:
    return f"{at:0{_DIGITS}d}/{patient_id}/"


def _patient_key(patient_id: str) -> str:
    """Ends so that no other patient's begins with it."""
    return f"{patient_id}/"
