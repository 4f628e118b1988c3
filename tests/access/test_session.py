"""The session: what a caller may not see or write is not there, by every route."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.access.policy import Caller, ClosedPolicy, OpenPolicy, Policy
from fhir_server.access.session import Data, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Everything, IdIn, Node, Not, Nothing, ReferenceTo, Search
from fhir_server.search.match import match
from fhir_server.search.parse import parse, parse_several
from fhir_server.storage.interface import HistoryOf, Position, Store
from tests.storage.backends import Backend
from tests.storage.questions import BASE, NOW, delete, patient, put, query, versions

CALLER: Final = Caller("nurse", "request-1")


class OnePatient:
    """Everything in the compartment of Patient/1, and plans of it to write."""

    def __init__(self, writes: Node | None = None) -> None:
        self._writes = writes

    def readable(self, resource_type: str) -> Node:  # noqa: ARG002
        return ReferenceTo("{Patient}", ("Patient/1",))

    def writable(self, resource_type: str) -> Node:
        return self.readable(resource_type) if self._writes is None else self._writes


class Broken:
    """A policy that cannot decide."""

    def readable(self, resource_type: str) -> Node:
        raise LookupError(resource_type)

    writable = readable


def plan(resource_id: str, patient_id: str, **rest: Any) -> Resource:
    subject = {"reference": f"Patient/{patient_id}"}
    return {"resourceType": "CarePlan", "id": resource_id, "subject": subject, **rest}


def session(store: Store, policy: Policy | None = None) -> Session:
    return Session(store, CALLER, policy)


async def two_patients(store: Store) -> None:
    await put(store, patient("1"), patient("2"))
    for number in range(30):
        await put(store, plan(f"c{number}", str(1 + number % 2), status="active"))


async def all_pages(data: Data | Store, asked: Search, count: int) -> list[list[str]]:
    pages: list[list[str]] = []
    after: Position | None = None
    while True:
        page = await data.search(asked, count, after)
        pages.append([match.id for match in page.matches])
        if page.after is None:
            return pages
        after = page.after


async def assert_hidden(data: Data, resource_type: str, resource_id: str) -> None:
    """As if it had never been."""
    assert await data.read(resource_type, resource_id) is None
    assert await data.vread(resource_type, resource_id, 1) is None
    assert list(await data.history(HistoryOf(resource_type, resource_id), 10)) == []
    asked = query(f"{resource_type}?_id={resource_id}")
    assert await all_pages(data, asked, 5) == [[]]
    assert await data.total(asked) == 0


async def assert_forbidden(attempt: Awaitable[Any]) -> None:
    with pytest.raises(FhirError) as caught:
        await attempt
    assert caught.value.kind is Kind.FORBIDDEN


def writing(resource: Resource) -> Callable[[SessionUnit], Awaitable[None]]:
    async def work(unit: SessionUnit) -> None:
        await unit.put(resource, "PUT")

    return work


def deleting(store: Store, resource_type: str, resource_id: str) -> Any:
    async def work(unit: SessionUnit) -> None:
        current = await store.read(resource_type, resource_id)
        assert current is not None
        await unit.delete(current)

    return work


@pytest.mark.parametrize("policy", [None, ClosedPolicy()])
async def test_without_a_policy_nothing_can_be_seen_or_written(
    store: Store, policy: Policy | None, backend: Backend, tmp_path: Path
) -> None:
    await two_patients(store)
    closed = session(store, policy)
    await assert_hidden(closed, "CarePlan", "c0")
    assert await closed.total(query("CarePlan")) == 0
    assert await all_pages(closed, query("CarePlan?_sort=-date"), 5) == [[]]
    await assert_forbidden(closed.commit("update", writing(plan("c0", "1"))))
    await assert_forbidden(closed.commit("create", writing(plan("new", "1"))))
    await assert_forbidden(closed.commit("delete", deleting(store, "CarePlan", "c0")))
    assert versions(await store.history(HistoryOf("CarePlan", "c0"), 10)) == [1]
    assert await store.read("CarePlan", "new") is None
    assert backend.audited(tmp_path) == []


async def test_a_policy_that_fails_denies(store: Store) -> None:
    await two_patients(store)
    broken = session(store, Broken())
    for attempt in (
        broken.read("CarePlan", "c0"),
        broken.search(query("CarePlan"), 5),
        broken.total(query("CarePlan")),
        broken.commit("update", writing(plan("c0", "1"))),
    ):
        with pytest.raises(LookupError):
            await attempt
    assert versions(await store.history(HistoryOf("CarePlan", "c0"), 10)) == [1]


async def test_the_open_policy_shows_all(store: Store) -> None:
    await two_patients(store)
    everything = session(store, OpenPolicy())
    assert await everything.total(query("CarePlan")) == 30
    assert await everything.read("CarePlan", "c1") == await store.read("CarePlan", "c1")


async def test_a_restricted_caller_sees_one_patient_by_every_route(store: Store) -> None:
    await two_patients(store)
    restricted = session(store, OnePatient())
    assert await restricted.read("CarePlan", "c0") == await store.read("CarePlan", "c0")
    assert versions(await restricted.history(HistoryOf("CarePlan", "c0"), 10)) == [1]
    assert await restricted.total(query("CarePlan")) == 15
    for hidden in ("c1", "c29", "never"):
        await assert_hidden(restricted, "CarePlan", hidden)
    await assert_hidden(restricted, "Patient", "2")


async def test_pages_are_full_of_what_may_be_seen(store: Store) -> None:
    await two_patients(store)
    pages = await all_pages(session(store, OnePatient()), query("CarePlan?_sort=-_id"), 4)
    assert [len(page) for page in pages] == [4, 4, 4, 3]
    assert {name for page in pages for name in page} == {f"c{n}" for n in range(0, 30, 2)}


@pytest.mark.parametrize(
    "criteria",
    [
        "subject=Patient/2",
        "status:not=nothing&subject=Patient/2",
        "subject:missing=true",
        "_id=c1,c3",
        "_id:not=c0",
        "status=active,revoked&patient=2,1&_id=c1",
    ],
)
async def test_no_criterion_widens_what_may_be_seen(store: Store, criteria: str) -> None:
    await two_patients(store)
    restricted = session(store, OnePatient())
    asked = query(f"CarePlan?{criteria}")
    allowed = {f"c{n}" for n in range(0, 30, 2)}
    found = {name for page in await all_pages(restricted, asked, 3) for name in page}
    assert found <= allowed
    assert await restricted.total(asked) == len(found)


async def test_a_policy_of_no_compartment_shows_nothing(store: Store) -> None:
    """An empty list is nobody's, not everybody's (ATTACKS.md, 12)."""

    class NoPatient(OnePatient):
        def readable(self, resource_type: str) -> Node:  # noqa: ARG002
            return ReferenceTo("{Patient}", ())

    await two_patients(store)
    nobody = session(store, NoPatient())
    await assert_hidden(nobody, "CarePlan", "c0")
    assert await nobody.total(query("CarePlan")) == 0


async def test_inside_a_commit_the_same_holds(store: Store) -> None:
    await two_patients(store)

    async def work(unit: SessionUnit) -> int:
        await assert_hidden(unit, "CarePlan", "c1")
        await unit.put(plan("new", "1"), "PUT")
        return await unit.total(query("CarePlan"))

    assert await session(store, OnePatient()).commit("create", work) == 16


@pytest.mark.parametrize(
    "resource", [plan("c1", "2"), plan("c1", "1"), plan("c0", "2"), plan("new", "2")]
)
async def test_nothing_moves_into_or_out_of_what_may_be_written(
    store: Store, resource: Resource
) -> None:
    await two_patients(store)
    before = [await store.read("CarePlan", name) for name in ("c0", "c1", "new")]
    restricted = session(store, OnePatient())
    await assert_forbidden(restricted.commit("update", writing(resource)))
    assert [await store.read("CarePlan", name) for name in ("c0", "c1", "new")] == before


async def test_what_may_be_written_is_written(store: Store) -> None:
    await two_patients(store)
    restricted = session(store, OnePatient())
    await restricted.commit("update", writing(plan("c0", "1", status="revoked")))
    await restricted.commit("delete", deleting(store, "CarePlan", "c2"))
    assert versions(await store.history(HistoryOf("CarePlan", "c0"), 10)) == [2, 1]
    deleted = await store.read("CarePlan", "c2")
    assert deleted is not None
    assert deleted.deleted
    await assert_forbidden(restricted.commit("delete", deleting(store, "CarePlan", "c1")))


async def test_reading_is_not_writing(store: Store) -> None:
    await two_patients(store)
    reader = session(store, OnePatient(writes=Nothing()))
    assert await reader.read("CarePlan", "c0")
    await assert_forbidden(reader.commit("update", writing(plan("c0", "1"))))


async def test_a_version_that_was_another_patients_stays_hidden(store: Store) -> None:
    await put(store, plan("c", "2"))
    await put(store, plan("c", "1"))
    restricted = session(store, OnePatient())
    assert versions(await restricted.history(HistoryOf("CarePlan", "c"), 10)) == [2]
    assert await restricted.vread("CarePlan", "c", 1) is None


async def test_a_deletion_tells_a_restricted_caller_nothing(store: Store) -> None:
    await put(store, plan("c", "2"))
    await delete(store, "CarePlan", "c")
    await assert_hidden(session(store, OnePatient()), "CarePlan", "c")


async def test_a_commit_leaves_one_line_in_the_audit(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    async def work(unit: SessionUnit) -> None:
        await unit.put(plan("a", "1"), "POST")
        await unit.put(plan("b", "1"), "POST")

    async def nothing(unit: SessionUnit) -> None:
        assert await unit.read("CarePlan", "a")

    everything = session(store, OpenPolicy())
    await everything.commit("transaction", work)
    await everything.commit("create", nothing)
    assert backend.audited(tmp_path) == ["transaction"]


def test_open_means_everything_and_closed_nothing() -> None:
    assert OpenPolicy().readable("AuditEvent") == OpenPolicy().writable("AuditEvent") == Nothing()
    for resource_type in ("Patient", "Dragon"):
        assert OpenPolicy().readable(resource_type) == Everything()
        assert OpenPolicy().writable(resource_type) == Everything()
        assert ClosedPolicy().readable(resource_type) == Nothing()
        assert ClosedPolicy().writable(resource_type) == Nothing()


class AllBut:
    """Everything but resources of one type."""

    def __init__(self, hidden: str) -> None:
        self._hidden = hidden

    def readable(self, resource_type: str) -> Node:
        return Nothing() if resource_type == self._hidden else Everything()

    writable = readable


async def chart(store: Store) -> None:
    await put(
        store,
        patient("1", "Ash", generalPractitioner=[{"reference": "Practitioner/gp"}]),
        patient("2", "Birch"),
        {"resourceType": "Practitioner", "id": "gp", "name": [{"family": "Jones"}]},
        {"resourceType": "Goal", "id": "g", "subject": {"reference": "Patient/2"}},
        plan("c1", "1", status="active", goal=[{"reference": "Goal/g"}]),
        plan("c2", "2", status="active"),
        {"resourceType": "List", "id": "l", "entry": [{"item": {"reference": "CarePlan/c2"}}]},
    )


CHAINS: Final = {
    "CarePlan?subject:Patient.name=birch": ("c2", "Patient"),
    "CarePlan?subject.name:exact=Ash": ("c1", "Patient"),
    "CarePlan?subject:Patient.general-practitioner:Practitioner.name=jones": ("c1", "Patient"),
    "CarePlan?patient.general-practitioner:Practitioner.name=jones": ("c1", "Practitioner"),
    "CarePlan?patient.general-practitioner:missing=false": ("c1", "Patient"),
    "Patient?_has:CarePlan:subject:goal:Goal._id=g": ("1", "Goal"),
    "Patient?_has:CarePlan:subject:goal:Goal._id=g&name=ash": ("1", "CarePlan"),
    "Practitioner?_has:Patient:general-practitioner:_has:CarePlan:subject:status=active": (
        "gp",
        "CarePlan",
    ),
    "Patient?_has:CarePlan:subject:status:not=draft&_id=2": ("2", "CarePlan"),
    "CarePlan?_list=l": ("c2", "List"),
    "CarePlan?subject:Patient._content=birch": ("c2", "Patient"),
    "CarePlan?subject:Patient._content=-ash": ("c2", "Patient"),
    "Patient?_has:CarePlan:subject:_content=draft,active&_id=2": ("2", "CarePlan"),
    "CarePlan?_filter=subject.family eq birch": ("c2", "Patient"),
    "CarePlan?_filter=subject[family ne ash]._id pr true": ("c2", "Patient"),
    "CarePlan?_filter=subject.general-practitioner:Practitioner.name sw jon": (
        "c1",
        "Practitioner",
    ),
}
"""Searches that find one resource, and a type without which they would not."""


@pytest.mark.parametrize("search", CHAINS)
async def test_a_chain_goes_through_nothing_that_is_hidden(store: Store, search: str) -> None:
    """Else it would tell of what may not be read, bit by bit (ATTACKS.md, 3)."""
    await chart(store)
    finds, hidden = CHAINS[search]
    asked = query(search)
    assert await all_pages(session(store, OpenPolicy()), asked, 5) == [[finds]]
    blind = session(store, AllBut(hidden))
    assert await all_pages(blind, asked, 5) == [[]]
    assert await blind.total(asked) == 0


async def test_a_chain_goes_through_no_other_patients_resources(store: Store) -> None:
    await chart(store)
    restricted = session(store, OnePatient())
    assert await all_pages(restricted, query("CarePlan?subject:Patient.name=ash"), 5) == [["c1"]]
    for search in ("CarePlan?goal:Goal._id=g", "CarePlan?goal.lifecycle-status:missing=true"):
        assert await all_pages(restricted, query(search), 5) == [[]]


async def test_a_search_without_a_policy_finds_nothing_by_chains_either(store: Store) -> None:
    await chart(store)
    for search in CHAINS:
        assert await session(store).total(query(search)) == 0


def test_a_chain_is_not_decided_without_the_resources_that_it_leads_to() -> None:
    asked = query("CarePlan?subject:Patient.name=ash")
    with pytest.raises(LookupError):
        match(asked.where, plan("c", "1"))


@pytest.mark.parametrize("criteria", [[], [("_id", "1,2,c0,c1,c2")], [("_sort", "-_id")]])
async def test_a_search_of_several_types_shows_what_each_may_show(
    store: Store, criteria: list[tuple[str, str]]
) -> None:
    await two_patients(store)
    asked = parse_several(("Patient", "CarePlan"), criteria, base=BASE, now=NOW).asked
    everything = {name for page in await all_pages(store, asked, 7) for name in page}
    assert {"1", "2", "c0", "c1"} <= everything
    restricted = session(store, OnePatient())
    shown = {name for page in await all_pages(restricted, asked, 7) for name in page}
    assert shown == everything & {"1", *(f"c{n}" for n in range(0, 30, 2))}
    assert await restricted.total(asked) == len(shown)
    assert await session(store, AllBut("Patient")).total(asked) == len(
        [name for name in everything if name.startswith("c")]
    )
    assert await session(store).total(asked) == 0


# Value sets


class WithoutValueSet:
    """All but one value set may be read."""

    def readable(self, resource_type: str) -> Node:
        return Not(IdIn(("hidden",))) if resource_type == "ValueSet" else Everything()

    def writable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()


def value_set(name: str, *imports: str) -> Resource:
    listed = {"system": "http://s", "concept": [{"code": "c"}]}
    include = [listed, *({"valueSet": [url]} for url in imports)]
    url = f"http://vs/{name}"
    return {"resourceType": "ValueSet", "id": name, "url": url, "compose": {"include": include}}


async def refusal(asking: Awaitable[Any]) -> str:
    with pytest.raises(FhirError) as caught:
        await asking
    return str(caught.value)


@pytest.mark.parametrize("form", ["http://vs/{}", "ValueSet/{}"])
async def test_a_value_set_that_may_not_be_read_is_not_known(store: Store, form: str) -> None:
    """Else a search would tell which codes are in it."""
    tagged = patient("1", meta={"tag": [{"system": "http://s", "code": "c"}]})
    await put(store, tagged, value_set("hidden"), value_set("imports", "http://vs/hidden"))
    hidden = query(f"Patient?_tag:in={form.format('hidden')}")
    absent = query(f"Patient?_tag:in={form.format('absent')}")
    imports = query(f"Patient?_tag:in={form.format('imports')}")
    assert await session(store, OpenPolicy()).total(hidden) == 1
    assert await session(store, OpenPolicy()).total(imports) == 1
    limited = session(store, WithoutValueSet())
    told = await refusal(limited.search(hidden, 5))
    assert told == await refusal(limited.total(hidden))
    assert told == (await refusal(limited.search(absent, 5))).replace("absent", "hidden")
    assert "'http://vs/hidden' is not known" in await refusal(limited.search(imports, 5))


async def test_a_value_set_that_may_be_read_is_known(store: Store) -> None:
    tagged = patient("1", meta={"tag": [{"system": "http://s", "code": "c"}]})
    await put(store, tagged, value_set("open"))
    asked = query("Patient?_tag:in=ValueSet/open")
    assert await session(store, WithoutValueSet()).total(asked) == 1

    async def work(unit: SessionUnit) -> int:
        return await unit.total(asked)

    assert await session(store, WithoutValueSet()).commit("count", work) == 1


# Contained resources


async def test_a_contained_resource_is_found_only_where_its_container_may_be_read(
    store: Store,
) -> None:
    """On pages and in totals alike, and whatever is asked of it."""
    await put(store, patient("1"), patient("2"))
    goal = {"resourceType": "Goal", "id": "g", "lifecycleStatus": "active"}
    plans = [plan(f"c{n}", str(1 + n % 2), contained=[goal]) for n in range(10)]
    await put(store, *plans)
    for contained in ("true", "both"):
        pairs = [("lifecycle-status", "active"), ("_contained", contained)]
        asked = parse("Goal", pairs, base=BASE, now=NOW).asked
        assert await session(store, OpenPolicy()).total(asked) == 10
        limited = session(store, OnePatient())
        assert await limited.total(asked) == 5
        assert await all_pages(limited, asked, 2) == [["c0", "c2"], ["c4", "c6"], ["c8"]]
        assert await session(store).total(asked) == 0


async def test_a_chain_out_of_a_contained_resource_ends_where_nothing_may_be_read(
    store: Store,
) -> None:
    await put(store, patient("1", "Seen"), patient("2", "Hidden"))
    for number in "12":
        inner = {"resourceType": "Goal", "id": "g", "subject": {"reference": f"Patient/{number}"}}
        await put(store, plan(f"c{number}", "1", contained=[inner]))
    for family, found in (("Seen", 1), ("Hidden", 0)):
        pairs = [("subject:Patient.family", family), ("_contained", "true")]
        asked = parse("Goal", pairs, base=BASE, now=NOW).asked
        assert await session(store, OpenPolicy()).total(asked) == 1
        assert await session(store, OnePatient()).total(asked) == found
