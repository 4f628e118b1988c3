"""The facts as memos of the store, followed in the commit that writes their resource.

Spaces, each key ended by `>`, which stands in no name, so that none is the beginning of another:

- `access-origin`: `ref>`, what the resource contributes now;
- `access-part`: `subject>ref>`, the same once more for each subject, to be read together;
- `access-grantee`: `grantee>subject>`, with the resource at the end: to whom it may matter;
- `access-change`: the number of a change, whose facts it changed: for caches, some minutes;
- `access-state`: one memo, the number and mark of the last change.
"""

from collections.abc import AsyncIterator, Container
from functools import lru_cache
from secrets import token_hex
from typing import Final

import msgspec

from fhir_server.access.facts import reading
from fhir_server.access.facts.parts import RELEASE, Contribution, Names, decoded, encoded
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Memo, Reader, StoredVersion, Unit

ORIGIN: Final = "access-origin"
PART: Final = "access-part"
GRANTEE: Final = "access-grantee"
CHANGE: Final = "access-change"
STATE: Final = "access-state"
STATE_KEY: Final = "state"
_REMEMBERED: Final = 10 * 60 * 1_000_000
"""Microseconds for which a change can be looked up."""
_AT_ONCE: Final = 1000
_MOST: Final = 5000
"""Parts that are read of one subject: whoever has more has facts that cannot be read."""


class State(msgspec.Struct, frozen=True):
    """Where the facts are; `mark` is random, so that what was rolled back is never met again."""

    release: int = RELEASE
    complete: bool = False
    """Whether they are of all resources; until then nothing can be decided by them."""
    number: int = 0
    mark: str = ""
    run: str = ""
    """Of a remaking that is under way: since it began, nothing old is there."""

    @property
    def usable(self) -> bool:
        return self.complete and self.release == RELEASE


class Change(msgspec.Struct, frozen=True):
    """`before` and `mark`: those of the states on either side."""

    before: str
    mark: str
    subjects: Names


class Overfull(Exception):
    """More parts than are read."""


async def state(reader: Reader) -> State:
    """Where the facts are by now; a store that never had any has none that are complete."""
    found = await reader.memo(STATE, STATE_KEY)
    if found is None:
        return State()
    return state_of(found.value)


@lru_cache(maxsize=8)
def state_of(told: bytes) -> State:
    try:
        return msgspec.json.decode(told, type=State)
    except msgspec.MsgspecError:
        return State()


async def keep_state(unit: Unit, reached: State) -> None:
    await unit.keep(Memo(STATE, STATE_KEY, msgspec.json.encode(reached)))


async def follow(unit: Unit, stored: StoredVersion, resource: Resource | None) -> None:
    """Take what the version that was just written contributes in place of what was there before.

    `resource` is what was stored, its references local ones; None after a deletion.
    """
    if stored.type in reading.TYPES:
        new = None if resource is None else reading.contribution(resource)
        await replace(unit, f"{stored.type}/{stored.id}", new, stored.last_updated)


async def replace(unit: Unit, ref: str, new: Contribution | None, now: int) -> None:
    """`now` is in microseconds since the epoch."""
    there = await unit.memo(ORIGIN, ref + ">")
    value = b"" if new is None else encoded(new)
    if value == (b"" if there is None else there.value):
        return
    old = await _known(unit, there)
    kept, gone = _memos(new, value), _memos(old, b"")
    for space, key in gone.keys() - kept.keys():
        await unit.forget(space, key)
    for (space, key), content in kept.items():
        await unit.keep(Memo(space, key, content))
    subjects = [*(old.subjects if old else ()), *(new.subjects if new else ())]
    await _note(unit, tuple(dict.fromkeys(subjects)), now)


async def _known(unit: Unit, there: Memo | None) -> Contribution | None:
    """What another release has written cannot be taken back: all has to be made anew."""
    if there is None:
        return None
    try:
        return decoded(there.value)
    except msgspec.MsgspecError:
        await keep_state(unit, msgspec.structs.replace(await state(unit), complete=False, run=""))
        return None


def _memos(told: Contribution | None, value: bytes) -> dict[tuple[str, str], bytes]:
    if told is None:
        return {}
    found = {(ORIGIN, f"{told.ref}>"): value}
    for subject in told.subjects:
        found[PART, f"{subject}>{told.ref}>"] = value
        for grantee in told.grantees:
            found[GRANTEE, f"{grantee}>{subject}>{told.ref}>"] = b"-"
    return found


async def _note(unit: Unit, subjects: Names, now: int) -> None:
    before = await state(unit)
    after = msgspec.structs.replace(before, number=before.number + 1, mark=token_hex(8))
    change = msgspec.json.encode(Change(before.mark, after.mark, subjects))
    await unit.keep(Memo(CHANGE, _number(after.number), change, now + _REMEMBERED))
    await keep_state(unit, after)


def _number(number: int) -> str:
    return f"{number:020d}"


async def changed(reader: Reader, since: State, until: State) -> Names | None:
    """Whose facts have changed between the two; None where that is not known any more."""
    expected, found = since.mark, set[str]()
    distance = until.number - since.number
    if not 0 <= distance <= _AT_ONCE:
        return None
    changes = await reader.memos(CHANGE, "", distance, _number(since.number)) if distance else ()
    for memo in changes:
        change = msgspec.json.decode(memo.value, type=Change)
        if change.before != expected:
            return None
        expected = change.mark
        found.update(change.subjects)
    return tuple(found) if expected == until.mark else None


async def begin_anew(unit: Unit, *, whole: bool) -> str:
    """Forget everything, and say so; the name of the remaking that begins.

    Unless `whole`, one that another process is at is joined: what it has made stays.
    """
    before = await state(unit)
    if not whole and before.run and before.release == RELEASE:
        return before.run
    for space in (ORIGIN, PART, GRANTEE, CHANGE):
        await unit.forget(space, "")
    began = State(number=before.number, run=token_hex(8))
    await keep_state(unit, began)
    return began.run


async def complete(unit: Unit, run: str) -> bool:
    """All has been gone through since that remaking began: whether no other began meanwhile."""
    reached = await state(unit)
    if reached.run != run:
        return reached.usable
    done = State(complete=True, number=reached.number + 1, mark=token_hex(8))
    await keep_state(unit, done)
    return True


async def of_subject(reader: Reader, subject: str) -> list[Contribution]:
    """What is told of the subject.

    Raises:
        Overfull: for more than is read of one.
        msgspec.DecodeError: for what another release has written.
    """
    found = [memo async for memo in _every(reader, PART, f"{subject}>", _MOST)]
    return [decoded(memo.value) for memo in found]


async def at_origin(reader: Reader, ref: str) -> Contribution | None:
    """What one resource contributes."""
    found = await reader.memo(ORIGIN, f"{ref}>")
    return None if found is None else decoded(found.value)


async def of_grantee(reader: Reader, grantee: str) -> set[str]:
    """The subjects whose facts name the grantee."""
    found = _every(reader, GRANTEE, f"{grantee}>")
    return {memo.key.split(">")[1] async for memo in found}


async def of_many(
    reader: Reader, kind: str, subjects: Container[str]
) -> AsyncIterator[tuple[str, Contribution]]:
    """Every part of these with its subject; `kind` is how the names of all of them begin."""
    async for memo in _every(reader, PART, kind):
        subject = memo.key.partition(">")[0]
        if subject in subjects:
            yield subject, decoded(memo.value)


async def _every(
    reader: Reader, space: str, prefix: str, most: int | None = None
) -> AsyncIterator[Memo]:
    after, seen = "", 0
    while page := await reader.memos(space, prefix, _AT_ONCE, after):
        for memo in page:
            yield memo
        after, seen = page[-1].key, seen + len(page)
        if most is not None and seen > most:
            raise Overfull(prefix)
        if len(page) < _AT_ONCE:
            return


async def is_less(reader: Reader, ref: str, should: Contribution | None) -> bool:
    """Whether anything is missing of what should be kept of the resource, or is otherwise."""
    value = b"" if should is None else encoded(should)
    for (space, key), wanted in {(ORIGIN, f"{ref}>"): value, **_memos(should, value)}.items():
        found = await reader.memo(space, key)
        if (b"" if found is None else found.value) != wanted:
            return True
    return False


def belongs(memo: Memo, should: Contribution | None) -> bool:
    """Whether the memo is one that should be kept of a resource that contributes this."""
    return (memo.space, memo.key) in _memos(should, b"")


async def every_memo(reader: Reader) -> AsyncIterator[tuple[Memo, str]]:
    """All that is kept, each with the reference of the resource that it is of."""
    for space in (ORIGIN, PART, GRANTEE):
        async for memo in _every(reader, space, ""):
            yield memo, memo.key.split(">")[-2]
