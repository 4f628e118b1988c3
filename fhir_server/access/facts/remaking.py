"""The facts made anew of the resources, and compared with them.

For stores that an older release has written, or a newer one. The first step forgets what is there
and says so; from then on commits follow by themselves, so that one pass through the resources,
whenever and by whomever, completes it. Until then nobody with a token is let in.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from fhir_server.access.facts import kept, reading
from fhir_server.access.facts.parts import Contribution
from fhir_server.fhir import json
from fhir_server.search.ast import Query
from fhir_server.storage.interface import Memo, Position, Reader, Store, StoredVersion, Unit

_LOOKS: Final = 3
_AT_ONCE: Final = 64
"""Resources in one commit, while other writers wait."""


async def ensure(store: Store) -> bool:
    """Make the facts where they are not complete; several processes may do so at once.

    Returns:
        Whether there was anything to do.

    Raises:
        FhirError: UNAVAILABLE when the store cannot write; the next `ensure` goes on.
    """
    if (await kept.state(store)).usable:
        return False
    while not await _pass(store, whole=False):
        pass
    return True


async def remake(store: Store) -> None:
    """Make all of them anew, beside other writers; who comes while it goes on is denied.

    Raises:
        FhirError: as `ensure`.
    """
    if not await _pass(store, whole=True):
        await ensure(store)


async def _pass(store: Store, *, whole: bool) -> bool:
    """One pass through all resources: False where another remaking has forgotten what it made."""
    run = await store.commit(lambda unit: kept.begin_anew(unit, whole=whole))
    for resource_type in sorted(reading.TYPES):
        async for several in _pages(store, resource_type):
            await _remake(store, resource_type, [one.id for one in several])
    return await store.commit(lambda unit: kept.complete(unit, run))


async def _remake(store: Store, resource_type: str, ids: Sequence[str]) -> None:
    """As they are inside the commit: they may have been written since."""

    async def work(unit: Unit) -> None:
        for resource_id in ids:
            found = await unit.read(resource_type, resource_id)
            if found is not None and not found.deleted:
                await kept.follow(unit, found, json.decode_own(found.body))

    await store.commit(work)


async def _pages(reader: Reader, resource_type: str) -> AsyncIterator[Sequence[StoredVersion]]:
    after: Position | None = None
    while True:
        page = await reader.search(Query(resource_type), _AT_ONCE, after)
        if page.matches:
            yield page.matches
        if page.after is None:
            return
        after = page.after


async def differences(reader: Reader) -> AsyncIterator[str]:
    """References of resources whose facts are not what the resources say, each once.

    What others write meanwhile is looked at again.
    """
    told: set[str] = set()
    for resource_type in sorted(reading.TYPES):
        async for page in _pages(reader, resource_type):
            for stored in page:
                ref = f"{stored.type}/{stored.id}"
                if await kept.is_less(reader, ref, _should(stored)) and await _still_less(
                    reader, ref
                ):
                    told.add(ref)
                    yield ref
    async for memo, ref in kept.every_memo(reader):
        if ref not in told and await _is_stray(reader, memo, ref):
            told.add(ref)
            yield ref


async def _still_less(reader: Reader, ref: str) -> bool:
    """Whether something is missing or otherwise, however often one looks."""
    for _ in range(_LOOKS):
        if not await kept.is_less(reader, ref, await _current(reader, ref)):
            return False
    return True


async def _is_stray(reader: Reader, memo: Memo, ref: str) -> bool:
    """Whether it is there and should not be, however often one looks."""
    for _ in range(_LOOKS):
        if kept.belongs(memo, await _current(reader, ref)):
            return False
        if await reader.memo(memo.space, memo.key) is None:
            return False
    return True


async def _current(reader: Reader, ref: str) -> Contribution | None:
    stored = await reader.read(*ref.split("/"))
    return None if stored is None else _should(stored)


def _should(stored: StoredVersion) -> Contribution | None:
    return None if stored.deleted else reading.contribution(json.decode_own(stored.body))
