"""What every backend promises of its outbox, of opening, closing and sharing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import (
    Draft,
    HistoryOf,
    Store,
    Unit,
)
from tests.storage.backends import Backend
from tests.storage.questions import delete, found, patient, put, query, versions


async def assert_unavailable(attempt: Awaitable[Any]) -> None:
    with pytest.raises(FhirError) as caught:
        await attempt
    assert caught.value.kind is Kind.UNAVAILABLE


# Outbox


async def test_changes_give_every_version_once_in_the_order_of_the_commits(store: Store) -> None:
    done: list[tuple[str, int]] = []

    async def write(number: int) -> None:
        stored = await put(
            store, patient(f"p{number % 10}", f"Ash {number}"), patient(f"q{number}", "Oak")
        )
        done.extend((version.id, version.version) for version in stored)

    follower = asyncio.create_task(follow(store, 120))
    await asyncio.gather(*(write(number) for number in range(60)))
    seen = await asyncio.wait_for(follower, 60)
    assert len(seen) == len(set(seen)) == 120
    assert set(seen) == set(done)
    for resource_id in {name for name, _ in seen}:
        of_one = [version for name, version in seen if name == resource_id]
        assert of_one == list(range(1, len(of_one) + 1))


async def follow(store: Store, expected: int) -> list[tuple[str, int]]:
    """Reads the outbox as a subscriber would, while commits go on."""
    seen: list[tuple[str, int]] = []
    place = 0
    while len(seen) < expected:
        changes = await store.changes(place, 7)
        seen += [(stored.id, stored.version) for _, stored in changes]
        place = changes[-1][0] if changes else place
        await asyncio.sleep(0)
    assert await store.changes(place, 7) == []
    return seen


async def test_a_deletion_is_a_change(store: Store) -> None:
    await put(store, patient("a", "Ash"))
    await delete(store, "Patient", "a")
    assert [stored.deleted for _, stored in await store.changes(0, 10)] == [False, True]


# Opening, closing, sharing


async def test_everything_is_there_after_a_reopen(backend: Backend, tmp_path: Path) -> None:
    first = await backend.open(tmp_path)
    secret = await first.secret("pages")
    await put(first, patient("a", "Ash", gender="female"))
    await put(first, patient("a", "Birch", gender="female"))
    await first.close()
    second = await backend.open(tmp_path)
    try:
        assert await second.secret("pages") == secret
        assert versions(await second.history(HistoryOf("Patient", "a"), 10)) == [2, 1]
        assert await found(second, "Patient?family=birch&gender=female") == ["a"]
        (stored,) = await put(second, patient("a", "Cedar"))
        assert stored.version == 3
    finally:
        await second.close()


async def test_secrets_are_32_bytes_by_name_and_the_same_for_everyone(
    backend: Backend, tmp_path: Path
) -> None:
    stores = [await backend.open(tmp_path) for _ in range(2)]
    try:
        asked = await asyncio.gather(*(one.secret("pages") for one in stores for _ in range(5)))
        assert len(set(asked)) == 1
        assert len(asked[0]) == 32
        assert await stores[0].secret("tokens") != asked[0]
    finally:
        for one in stores:
            await one.close()


async def test_two_stores_on_one_place_write_and_see_each_other(
    backend: Backend, tmp_path: Path
) -> None:
    stores = [await backend.open(tmp_path) for _ in range(2)]
    try:
        await asyncio.gather(
            *(
                put(stores[n % 2], patient(f"p{n}", f"N{n % 4}"), patient("shared", f"S{n}"))
                for n in range(80)
            )
        )
        for one in stores:
            assert await one.total(query("Patient?family=n")) == 80
            shared = await one.history(HistoryOf("Patient", "shared"), 100)
            assert versions(shared) == list(range(80, 0, -1))
            assert len(await one.changes(0, 200)) == 160
    finally:
        for one in stores:
            await one.close()


async def test_conditions_hold_across_two_stores(backend: Backend, tmp_path: Path) -> None:
    stores = [await backend.open(tmp_path) for _ in range(2)]
    condition = query("Patient?family=only")

    def create(number: int) -> Callable[[Unit], Awaitable[None]]:
        async def work(unit: Unit) -> None:
            if not await unit.total(condition):
                await unit.put(Draft(patient(f"p{number}", "Only")), "POST")

        return work

    try:
        await asyncio.gather(*(stores[n % 2].commit(create(n)) for n in range(40)))
        assert await stores[0].total(condition) == 1
    finally:
        for one in stores:
            await one.close()


async def test_a_store_that_is_closing_finishes_its_commits_and_takes_no_more(
    backend: Backend, tmp_path: Path
) -> None:
    closing = await backend.open(tmp_path)
    commits = [asyncio.create_task(put(closing, patient(f"p{n}", "Ash"))) for n in range(30)]
    await asyncio.sleep(0)
    await closing.close()
    assert len(await asyncio.gather(*commits)) == 30
    await assert_unavailable(put(closing, patient("late", "Late")))
    again = await backend.open(tmp_path)
    try:
        assert await again.total(query("Patient?family=ash")) == 30
    finally:
        await again.close()


async def test_an_open_store_is_ready(store: Store) -> None:
    await store.ready()


async def test_a_patient_view_of_the_store_is_the_same_store(store: Store) -> None:
    patiently = store.patient(60.0)
    await put(patiently, patient("p1", "Written-There"))
    await put(store, patient("p2", "Written-Here"))
    for one in (store, patiently):
        assert await found(one, "Patient?family=written&_sort=_id") == ["p1", "p2"]
        assert await one.read("Patient", "p2") is not None
