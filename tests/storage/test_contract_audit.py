"""The audit's chain, on every backend (`fhir_server.storage.audited`)."""

import asyncio
from pathlib import Path

import pytest

from fhir_server.access.audit.chain import verify
from fhir_server.errors import FhirError, Kind
from fhir_server.storage.audited import AuditQuery, AuditRow, Link, encode, hash_of
from fhir_server.storage.interface import Store, Unit
from tests.storage.backends import Backend


async def add(store: Store, *rows: AuditRow) -> None:
    async def work(unit: Unit) -> None:
        await unit.audit(*rows)

    await store.commit(work)


def row(request_id: str, *patients: str, user: str = "") -> AuditRow:
    return AuditRow("caller", "read", request_id, patients=patients, user=user)


async def ids(store: Store, asked: AuditQuery, count: int = 100) -> list[str]:
    return [entry.row.request_id for entry in await store.audited(asked, count)]


async def test_rows_are_numbered_and_chained_in_the_order_of_their_commits(store: Store) -> None:
    assert await store.audit_ends() == (Link(), Link())
    await add(store, row("r1"), row("r2"))
    await add(store, row("r3"))
    entries = await store.audited(AuditQuery(), 10)
    assert [entry.link.number for entry in entries] == [1, 2, 3]
    before = bytes(32)
    for entry in entries:
        link = entry.link
        assert link.hash == hash_of(before, link.number, link.at, entry.told)
        assert entry.told == encode(entry.row)
        before = link.hash
    assert await store.audit_ends() == (Link(), entries[-1].link)
    assert (await verify(store)).fault == ""


async def test_a_row_says_again_what_it_was_told(store: Store) -> None:
    told = AuditRow(
        "client|user",
        "search-type",
        "r",
        ("Patient/a/_history/1",),
        further=3,
        patients=("a",),
        client="client",
        user="Practitioner/1",
        organisation="RX1",
        roles=("auditor",),
        purpose="TREAT",
        break_glass="a reason \N{PILE OF POO} \x00\n",
        address="10.0.0.1",
        asked="GET /Patient?name=\N{LATIN SMALL LETTER E WITH ACUTE}",
        outcome="4",
        description="403",
    )
    await add(store, told)
    assert [one.row for one in await store.audited(AuditQuery(), 10)] == [told]


async def test_a_commit_that_fails_leaves_no_gap(store: Store) -> None:
    async def fails(unit: Unit) -> None:
        await unit.audit(row("lost"))
        raise FhirError(Kind.CONFLICT, "no")

    async def refused() -> None:
        with pytest.raises(FhirError):
            await store.commit(fails)

    await asyncio.gather(add(store, row("r1")), refused(), add(store, row("r2")), refused())
    assert sorted(await ids(store, AuditQuery())) == ["r1", "r2"]
    assert (await verify(store)).end.number == 2


async def test_commits_of_many_and_of_several_processes_are_one_chain(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    other = await backend.open(tmp_path)
    try:
        names = [f"r{number}" for number in range(backend.fewer(60, 12))]
        stores = (store, other)
        await asyncio.gather(
            *(add(stores[index % 2], row(name)) for index, name in enumerate(names))
        )
        assert sorted(await ids(store, AuditQuery())) == sorted(names)
        verdict = await verify(other)
    finally:
        await other.close()
    assert (verdict.fault, verdict.end.number) == ("", len(names))


async def test_rows_are_found_by_whom_they_are_about_and_by_who_asked(store: Store) -> None:
    await add(store, row("r1", "a", "b"), row("r2", "b", user="Practitioner/1"), row("r3"))
    assert await ids(store, AuditQuery(name="Patient/a")) == ["r1"]
    assert await ids(store, AuditQuery(name="Patient/b", backwards=True)) == ["r2", "r1"]
    assert await ids(store, AuditQuery(name="Practitioner/1")) == ["r2"]
    assert await ids(store, AuditQuery(name="Patient/c")) == []


async def test_rows_are_found_by_number_and_time_in_either_direction(store: Store) -> None:
    for number in range(1, 6):
        await add(store, row(f"r{number}", "a"))
        await asyncio.sleep(0.002)
    times = [entry.link.at for entry in await store.audited(AuditQuery(), 10)]
    assert times == sorted(times)
    for name in ("", "Patient/a"):
        assert await ids(store, AuditQuery(name, after=1, before=4)) == ["r2", "r3"]
        assert await ids(store, AuditQuery(name, backwards=True), 2) == ["r5", "r4"]
        assert await ids(store, AuditQuery(name, low=times[1])) == ["r2", "r3", "r4", "r5"]
        assert await ids(store, AuditQuery(name, low=times[1] + 1, high=times[3])) == ["r3"]
        assert await ids(store, AuditQuery(name, high=times[0])) == []
        assert await ids(store, AuditQuery(name, low=times[4] + 1)) == []
