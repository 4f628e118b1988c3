"""The facts made anew of the resources, and compared with them.

For stores that an older release has written, or a newer one. The first step forgets what is there
and says so; from then on commits follow by themselves, so that one pass through the resources,
whenever and by whomever, completes it. Until then nobody with a token is let in.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from fhir_server.access.facts import kept, reading
from fhir_server.access.facts.kept import State
from fhir_server.fhir import json
from fhir_server.search.ast import Query
from fhir_server.storage.interface import Position, Reader, Store, StoredVersion, Unit

_AT_ONCE: Final = 64
"""Resources in one commit, while other writers wait."""


async def ensure(store: Store) -> bool:
    """Make the facts where they are not complete.

    Returns:
        Whether there was anything to do.
    """
    if (await kept.state(store)).usable:
        return False
    await remake(store)
    return True


async def remake(store: Store) -> None:
    """Make all of them anew, beside other writers; who comes while it goes on is denied.

    Raises:
        FhirError: UNAVAILABLE when the store cannot write; the next `ensure` goes on.
    """
    await store.commit(_begin)
    for resource_type in sorted(reading.TYPES):
        async for several in _pages(store, resource_type):
            await _remake(store, resource_type, [one.id for one in several])
    await store.commit(_end)


async def _begin(unit: Unit) -> None:
    await kept.forget_all(unit)
    await kept.keep_state(unit, State(number=(await kept.state(unit)).number))


async def _end(unit: Unit) -> None:
    reached = await kept.state(unit)
    await kept.keep_state(unit, kept.completed(reached))


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
    """References of resources whose facts are not what the resources say.

    Where nobody writes meanwhile.
    """
    seen: set[str] = set()
    for resource_type in sorted(reading.TYPES):
        async for page in _pages(reader, resource_type):
            for stored in page:
                should = reading.contribution(json.decode_own(stored.body))
                ref = f"{stored.type}/{stored.id}"
                if should is not None:
                    seen.add(ref)
                if await kept.differing(reader, ref, should):
                    seen.add(ref)
                    yield ref
    async for ref in kept.every_ref(reader):
        if ref not in seen:
            seen.add(ref)
            yield ref
