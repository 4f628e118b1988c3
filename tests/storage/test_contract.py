"""What every backend promises: `fhir_server.storage.interface`, read as a list of behaviours."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.dates import interval
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import (
    Draft,
    HistoryEntry,
    HistoryOf,
    Store,
    StoredVersion,
    Unit,
)
from tests.storage.backends import Backend
from tests.storage.questions import delete, found, patient, put, query, versions


class Refused(Exception):
    """What a work raises to be taken back."""


async def assert_absent(store: Store, resource_id: str, family: str) -> None:
    assert await store.read("Patient", resource_id) is None
    assert await store.vread("Patient", resource_id, 1) is None
    assert await store.history(HistoryOf("Patient", resource_id), 10) == []
    assert await found(store, f"Patient?family={family}") == []
    assert await found(store, f"Patient?_id={resource_id}") == []


# Versions


async def test_reads_back_what_was_written_with_its_version_and_time(store: Store) -> None:
    (stored,) = await put(store, patient("a", "Ash", meta={"versionId": "9", "source": "urn:s"}))
    assert await store.read("Patient", "a") == stored
    assert (stored.version, stored.method, stored.deleted) == (1, "PUT", False)
    body = json.loads(stored.body)
    assert body["meta"]["versionId"] == "1"
    assert body["meta"]["source"] == "urn:s"
    assert body["name"] == [{"family": "Ash"}]
    assert interval(body["meta"]["lastUpdated"]).low == stored.last_updated


async def test_a_put_that_changes_nothing_writes_nothing(store: Store) -> None:
    (first,) = await put(store, patient("a", "Ash", active=True))
    reordered = {"active": True, "name": [{"family": "Ash"}], "id": "a", "resourceType": "Patient"}
    for same in (patient("a", "Ash", active=True), reordered):
        assert await put(store, same) == [first]
    assert versions(await store.history(HistoryOf("Patient", "a"), 10)) == [1]
    assert len(await store.changes(0, 10)) == 1


async def test_a_put_that_changes_a_digit_or_an_order_is_a_version(store: Store) -> None:
    def observation(value: str, *codes: str) -> dict[str, Any]:
        categories = [{"text": code} for code in codes]
        quantity = {"value": Decimal(value)}
        named = {"resourceType": "Observation", "id": "a"}
        return {**named, "category": categories, "valueQuantity": quantity}

    changes = [("1.0", "x", "y"), ("1.00", "x", "y"), ("1.00", "y", "x"), ("2.00", "y", "x")]
    for number, (value, *codes) in enumerate(changes, 1):
        (stored,) = await put(store, observation(value, *codes))
        assert stored.version == number


async def test_a_put_after_a_deletion_is_a_version_though_it_says_the_same(store: Store) -> None:
    await put(store, patient("a", "Ash"))
    await delete(store, "Patient", "a")
    (again,) = await put(store, patient("a", "Ash"))
    assert again.version == 3


async def test_knows_nothing_of_what_was_never_written(store: Store) -> None:
    await assert_absent(store, "a", "Ash")


async def test_keeps_resources_of_the_same_id_but_another_type_apart(store: Store) -> None:
    await put(store, patient("a", "Ash"), {"resourceType": "Group", "id": "a", "type": "person"})
    group = await store.read("Group", "a")
    assert group is not None
    assert group.type == "Group"
    assert await found(store, "Group?_id=a") == ["a"]
    await delete(store, "Group", "a")
    assert await found(store, "Patient?_id=a") == ["a"]


async def test_ids_differ_by_case(store: Store) -> None:
    await put(store, patient("a", "Ash"), patient("A", "Birch"))
    assert await found(store, "Patient?_id=A") == ["A"]
    assert sorted(await found(store, "Patient")) == ["A", "a"]


async def test_every_version_stays_readable_after_updates(store: Store) -> None:
    for family in ("Ash", "Birch", "Cedar"):
        await put(store, patient("a", family))
    bodies = [await store.vread("Patient", "a", version) for version in (1, 2, 3)]
    assert [b"Ash" in body.body for body in bodies if body] == [True, False, False]
    assert await store.vread("Patient", "a", 4) is None
    assert await store.vread("Patient", "a", 0) is None


async def test_history_goes_from_the_newest_version_page_by_page(store: Store) -> None:
    for number in range(5):
        await put(store, patient("a", f"Name{number}"))
    assert versions(await store.history(HistoryOf("Patient", "a"), 10)) == [5, 4, 3, 2, 1]
    assert versions(await store.history(HistoryOf("Patient", "a"), 2)) == [5, 4]
    page = await store.history(HistoryOf("Patient", "a"), 2)
    page = await store.history(HistoryOf("Patient", "a"), 2, before=page[-1].seq)
    assert versions(page) == [3, 2]
    page = await store.history(HistoryOf("Patient", "a"), 2, before=page[-1].seq)
    assert versions(page) == [1]
    assert not await store.history(HistoryOf("Patient", "a"), 2, before=page[-1].seq)


async def test_history_of_a_type_and_of_everything_goes_across_resources(store: Store) -> None:
    await put(store, patient("a"))
    await put(store, {"resourceType": "Basic", "id": "b", "code": {"text": "x"}})
    await put(store, patient("c"))
    await delete(store, "Patient", "a")

    def named(entries: Sequence[HistoryEntry]) -> list[str]:
        return [f"{e.stored.type}/{e.stored.id}/{e.stored.version}" for e in entries]

    everything = await store.history(HistoryOf(), 10)
    assert named(everything) == ["Patient/a/2", "Patient/c/1", "Basic/b/1", "Patient/a/1"]
    of_type = await store.history(HistoryOf("Patient"), 2)
    assert named(of_type) == ["Patient/a/2", "Patient/c/1"]
    rest = await store.history(HistoryOf("Patient"), 2, before=of_type[-1].seq)
    assert named(rest) == ["Patient/a/1"]


async def test_history_tells_what_came_into_being(store: Store) -> None:
    await put(store, patient("a"))
    await put(store, patient("a", "Ash"))
    await delete(store, "Patient", "a")
    await put(store, patient("a"))
    entries = await store.history(HistoryOf("Patient", "a"), 10)
    assert [(e.stored.version, e.created) for e in entries] == [
        (4, True),
        (3, False),
        (2, False),
        (1, True),
    ]


async def test_history_since_a_moment_and_at_one(store: Store) -> None:
    for number in range(3):
        await put(store, patient("a", f"Name{number}"))
    newest_first = await store.history(HistoryOf("Patient", "a"), 10)
    third, second, first = [entry.stored.last_updated for entry in newest_first]
    since = await store.history(HistoryOf("Patient", "a", since=second), 10)
    assert versions(since) == [3, 2]
    between = await store.history(HistoryOf("Patient", "a", at=(second, second + 1)), 10)
    assert versions(between) == [2]
    over_all = await store.history(HistoryOf("Patient", at=(first, third)), 10)
    assert versions(over_all) == [2, 1]
    assert not await store.history(HistoryOf("Patient", "a", at=(first - 9, first)), 10)


async def test_an_update_replaces_the_index_values(store: Store) -> None:
    await put(store, patient("a", "Ash", gender="female"))
    await put(store, patient("a", "Birch"))
    assert await found(store, "Patient?family=ash") == []
    assert await found(store, "Patient?gender=female") == []
    assert await found(store, "Patient?gender:missing=true") == ["a"]
    assert await found(store, "Patient?family=birch") == ["a"]


async def test_a_deletion_is_a_version_without_body_that_no_search_finds(store: Store) -> None:
    await put(store, patient("a", "Ash"))
    (deletion,) = await delete(store, "Patient", "a")
    assert (deletion.version, deletion.method, deletion.deleted) == (2, "DELETE", True)
    assert await store.read("Patient", "a") == deletion
    assert await store.vread("Patient", "a", 2) == deletion
    first = await store.vread("Patient", "a", 1)
    assert first is not None
    assert not first.deleted
    for text in ("Patient", "Patient?family=ash", "Patient?_id=a", "Patient?gender:missing=true"):
        assert await found(store, text) == []
        assert await store.total(query(text)) == 0


async def test_versions_continue_when_a_deleted_resource_comes_back(store: Store) -> None:
    await put(store, patient("a", "Ash"))
    await delete(store, "Patient", "a")
    (again,) = await put(store, patient("a", "Birch"))
    assert again.version == 3
    history = await store.history(HistoryOf("Patient", "a"), 10)
    assert [(entry.stored.version, entry.stored.method) for entry in history] == [
        (3, "PUT"),
        (2, "DELETE"),
        (1, "PUT"),
    ]
    assert await found(store, "Patient?family=birch") == ["a"]


async def test_times_grow_from_version_to_version_however_fast_they_come(store: Store) -> None:
    async def work(unit: Unit) -> None:
        for number in range(20):
            await unit.put(Draft(patient("a", f"Name{number}")), "PUT")

    await store.commit(work)
    entries = await store.history(HistoryOf("Patient", "a"), 50)
    times = [entry.stored.last_updated for entry in entries]
    assert all(later > earlier for later, earlier in pairwise(times))


async def test_keeps_awkward_texts_and_numbers_to_the_byte(store: Store) -> None:
    texts = ["İstanbul", "straße", "e\u0301", "\U0010ffff", "a\nb", "'; DROP TABLE version; --"]
    for number, text in enumerate(texts):
        await put(store, patient(f"p{number}", text))
        stored = await store.read("Patient", f"p{number}")
        assert stored is not None
        assert json.loads(stored.body)["name"][0]["family"] == text
        asked = quote(text.replace(",", "\\,"))
        assert await found(store, f"Patient?family:exact={asked}") == [f"p{number}"]


async def test_a_resource_of_megabytes_survives(store: Store) -> None:
    text = "x" * 4_000_000
    await put(store, patient("big", "Big", text={"status": "generated", "div": text}))
    stored = await store.read("Patient", "big")
    assert stored is not None
    assert len(stored.body) > 4_000_000
    assert await found(store, "Patient?family=big") == ["big"]


# Commits


async def test_what_a_raising_work_wrote_is_not_there(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("a", "Ash")), "PUT")
        await unit.put(Draft(patient("b", "Birch", gender="male")), "PUT")
        await unit.audit(AuditRow("me", "refused", "r1"))
        raise Refused

    with pytest.raises(Refused):
        await store.commit(work)
    await assert_absent(store, "a", "Ash")
    await assert_absent(store, "b", "Birch")
    assert await store.changes(0, 10) == []
    assert backend.audited(tmp_path) == []
    (stored,) = await put(store, patient("a", "Ash", gender="male"))
    assert stored.version == 1
    assert await found(store, "Patient?gender=male") == ["a"]


async def test_a_raising_work_leaves_what_was_there_before(store: Store) -> None:
    await put(store, patient("a", "Ash"), patient("b", "Birch"))

    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("a", "Cedar")), "PUT")
        await unit.delete("Patient", "b")
        raise Refused

    with pytest.raises(Refused):
        await store.commit(work)
    assert versions(await store.history(HistoryOf("Patient", "a"), 10)) == [1]
    assert sorted(await found(store, "Patient")) == ["a", "b"]
    assert await found(store, "Patient?family=ash") == ["a"]
    assert await found(store, "Patient?family=cedar") == []


async def test_a_commit_lands_together_with_its_audit(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("a", "Ash")), "PUT")
        await unit.audit(AuditRow("me", "create", "r1", ("Patient/a",)))

    await store.commit(work)
    assert backend.audited(tmp_path) == ["create"]
    assert await found(store, "Patient?family=ash") == ["a"]


async def test_reads_inside_a_commit_see_its_own_writes(store: Store) -> None:
    await put(store, patient("old", "Ash"))

    async def work(unit: Unit) -> list[Any]:
        await unit.put(Draft(patient("new", "Ash")), "PUT")
        await unit.delete("Patient", "old")
        new = await unit.read("Patient", "new")
        old = await unit.read("Patient", "old")
        return [
            new and new.version,
            old and old.deleted,
            await found(unit, "Patient?family=ash"),
            await unit.total(query("Patient")),
            versions(await unit.history(HistoryOf("Patient", "old"), 10)),
            await unit.vread("Patient", "new", 1) == new,
        ]

    assert await store.commit(work) == [1, True, ["new"], 1, [2, 1], True]


async def test_nobody_outside_sees_a_commit_before_it_is_done(store: Store) -> None:
    written, let_go = asyncio.Event(), asyncio.Event()

    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("a", "Ash")), "PUT")
        written.set()
        await let_go.wait()

    committing = asyncio.create_task(store.commit(work))
    await written.wait()
    await assert_absent(store, "a", "Ash")
    let_go.set()
    await committing
    assert await found(store, "Patient?family=ash") == ["a"]


async def test_of_64_concurrent_conditional_creates_one_wins(store: Store) -> None:
    condition = query("Patient?identifier=urn:nhs|1")

    def create(number: int) -> Callable[[Unit], Awaitable[str]]:
        async def work(unit: Unit) -> str:
            page = await unit.search(condition, 2)
            if page.matches:
                return page.matches[0].id
            resource = patient(f"p{number}", identifier=[{"system": "urn:nhs", "value": "1"}])
            return (await unit.put(Draft(resource), "POST")).id

        return work

    ids = await asyncio.gather(*(store.commit(create(number)) for number in range(64)))
    assert len(set(ids)) == 1
    assert await found(store, "Patient?identifier=urn:nhs|1") == [ids[0]]
    assert len(await store.changes(0, 100)) == 1


async def test_of_64_updates_of_the_same_version_one_wins(store: Store) -> None:
    await put(store, patient("a", "Ash"))

    def update(number: int) -> Callable[[Unit], Awaitable[StoredVersion]]:
        async def work(unit: Unit) -> StoredVersion:
            current = await unit.read("Patient", "a")
            if current is None or current.version != 1:
                raise FhirError(Kind.PRECONDITION_FAILED, "Another was first")
            return await unit.put(Draft(patient("a", f"Name{number}")), "PUT")

        return work

    results = await asyncio.gather(
        *(store.commit(update(number)) for number in range(64)), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, StoredVersion)]
    losers = [result for result in results if isinstance(result, FhirError)]
    assert (len(winners), len(losers)) == (1, 63)
    assert versions(await store.history(HistoryOf("Patient", "a"), 10)) == [2, 1]
    assert (await store.read("Patient", "a")) == winners[0]


@pytest.mark.parametrize("fault", [Refused, RecursionError, asyncio.CancelledError])
async def test_a_commit_that_fails_does_not_harm_the_others(
    store: Store, fault: type[BaseException]
) -> None:
    def create(number: int) -> Callable[[Unit], Awaitable[None]]:
        async def work(unit: Unit) -> None:
            await unit.put(Draft(patient(f"p{number}", f"Name{number % 3}")), "PUT")
            if number % 7 == 3:
                raise fault

        return work

    results = await asyncio.gather(
        *(store.commit(create(number)) for number in range(60)), return_exceptions=True
    )
    for number, result in enumerate(results):
        assert isinstance(result, fault) if number % 7 == 3 else result is None
    expected = sorted(f"p{number}" for number in range(60) if number % 7 != 3)
    assert sorted(await found(store, "Patient?family=name")) == expected
    assert len(await store.changes(0, 100)) == len(expected)


async def test_parameters_first_used_in_what_is_taken_back_stay_apart(store: Store) -> None:
    async def work(unit: Unit) -> None:
        for resource_id in ("a", "b", "c"):
            await unit.put(Draft(patient(resource_id, gender="male")), "PUT")
        raise Refused

    with pytest.raises(Refused):
        await store.commit(work)
    await put(store, patient("born", birthDate="2010-01-01"))
    await put(store, patient("male", gender="male"))
    await put(
        store, patient("language", communication=[{"language": {"coding": [{"code": "cy"}]}}])
    )
    assert await found(store, "Patient?gender=male") == ["male"]
    assert await found(store, "Patient?gender:missing=false") == ["male"]
    assert await found(store, "Patient?birthdate:missing=false") == ["born"]
    assert await found(store, "Patient?language:missing=false") == ["language"]


async def test_200_concurrent_commits_all_land(store: Store) -> None:
    await asyncio.gather(*(put(store, patient(f"p{n}", f"N{n % 5}")) for n in range(200)))
    assert await store.total(query("Patient")) == 200
    assert await store.total(query("Patient?family=n3")) == 40
    changed = [stored.id for _, stored in await store.changes(0, 300)]
    assert sorted(changed) == sorted(f"p{n}" for n in range(200))


async def test_a_caller_that_goes_away_does_not_break_the_group(store: Store) -> None:
    started, let_go = asyncio.Event(), asyncio.Event()

    async def slow(unit: Unit) -> None:
        await unit.put(Draft(patient("slow", "Slow")), "PUT")
        started.set()
        await let_go.wait()

    leaving = asyncio.create_task(store.commit(slow))
    await started.wait()
    waiting = [asyncio.create_task(put(store, patient(f"p{n}", "Stay"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in (leaving, waiting[5], waiting[6]):
        task.cancel()
    let_go.set()
    results = await asyncio.gather(leaving, *waiting, return_exceptions=True)
    gone = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
    assert gone == [0, 6, 7]
    stayed = await found(store, "Patient?family=stay")
    assert {f"p{n}" for n in range(20) if n not in (5, 6)} <= set(stayed)
    await put(store, patient("after", "After"))
    assert await found(store, "Patient?family=after") == ["after"]
