"""What is kept at hand to decide quickly closes as soon as anything that it hangs on does.

Each test first asks, so that whatever may be kept is kept; then it asks again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from fhir_server.access import masking, membership
from fhir_server.access.as_stored import behind, mark_of
from fhir_server.access.caller import Caller, Grant, own_prefix
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.consent_terms import _MOST_MADE, ConsentTerms
from fhir_server.access.decision import Gathered
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.glass import memo
from fhir_server.access.masking import masked
from fhir_server.access.session import Session
from fhir_server.access.tokens.terms import terms
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.references import is_id
from fhir_server.search.ast import Query, ReferenceTo
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Store, StoredVersion, Unit
from fhir_server.storage.sqlite.at_once import AtOnce
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.deciding import about
from tests.access.following import delete, write
from tests.access.people import (
    NOW,
    at,
    child,
    consent,
    episode,
    member,
    organisation,
    role,
    rule,
    somebody,
    team,
)
from tests.clock import go_ahead
from tests.storage.backends import Backend
from tests.support import caseload, official_examples

KEYWORKER: Final = somebody("Practitioner/kw", "X1")
NURSE: Final = somebody("Practitioner/nurse", "X1")
OF_ONE: Final = Query("Goal", ReferenceTo("patient", ("Patient/1", "http://here/Patient/1")))
ALL: Final = Query("Goal")
HOUR: Final = 3600 * 1_000_000


class Asking:
    """One process's caches, with a clock that stands still until it is moved."""

    def __init__(self, store: Store, now: int = NOW) -> None:
        self._store = store
        self._decisions = TableDecisions()
        self._kept: dict[int, Session] = {}
        self.now = now

    async def sees(self, caller: Caller) -> list[bool]:
        """Whether a Goal can be read, also in the short way, is found by its patient and among
        all."""
        session = telling(Session(self._store, caller, self._policy(caller)), self._store)
        # The short way first: it may take nothing for decided that was decided just now.
        reads = [
            await read_plainly(self._plainly(caller), session),
            await session.read("Goal", "g"),
        ]
        pages = [await session.search(query, 10) for query in (OF_ONE, ALL)]
        return [*(one is not None for one in reads), *(bool(page.matches) for page in pages)]

    def _policy(self, caller: Caller) -> ConsentPolicy:
        return ConsentPolicy(self._decisions, caller, lambda: self.now)

    def _plainly(self, caller: Caller) -> Session:
        """The caller's session of plain reads, which is kept."""
        found = self._kept.get(id(caller))
        if found is None:
            found = self._kept[id(caller)] = plainly(self._store, caller, self._policy(caller))
        found.begin()
        return found

    async def opens(self, caller: Caller) -> bool:
        told = {tuple(await self.sees(caller)) for _ in range(3)}
        assert len(told) == 1, told
        (one,) = told
        assert len(set(one)) == 1, one
        return one[0]


def plainly(store: Store, caller: Caller, policy: ConsentPolicy) -> Session:
    """A session of plain reads: with SQLite, the state of the facts is read beside."""
    if not isinstance(store, SqliteStore):
        return Session(store, caller, policy)
    reader = AtOnce(store, watches=True)
    found = Session(reader, caller, policy)
    found.beside = found.epochs = reader
    return found


def telling(session: Session, store: Store) -> Session:
    """The session as the server opens it: of a store that tells of commits where it can."""
    session.epochs = store if isinstance(store, SqliteStore) else None
    return session


async def read_plainly(plain: Session, session: Session) -> StoredVersion | None:
    """The Goal in the short way; in the general one where the store has to be waited for."""
    try:
        return await plain.read("Goal", "g")
    except FhirError as error:
        if error.kind is not Kind.UNAVAILABLE:
            raise
        return await session.read("Goal", "g")


async def started(store: Store, *more: dict[str, object]) -> Asking:
    await remaking.ensure(store)
    await write(store, child(), about("Goal", "g", "1"), *more)
    return Asking(store)


async def test_a_withdrawal_closes_with_its_commit(store: Store) -> None:
    asking = await started(store, episode(None, team=[{"reference": "CareTeam/t"}]))
    await write(store, team(member("Practitioner/nurse")), consent())
    assert await asking.opens(NURSE)
    await write(store, consent(status="inactive"))
    assert not await asking.opens(NURSE)
    await write(store, consent())
    assert await asking.opens(NURSE)
    await delete(store, "Consent", "c")
    assert not await asking.opens(NURSE)


async def test_a_withdrawal_in_another_process_closes_at_once(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    asking = await started(store, episode("Practitioner/kw"), consent())
    other = await backend.open(tmp_path)
    try:
        for _ in range(3):
            assert await asking.opens(KEYWORKER)
            await delete(other, "EpisodeOfCare", "e")
            assert not await asking.opens(KEYWORKER)
            await write(other, episode("Practitioner/kw"))
    finally:
        await other.close()


async def test_whoever_leaves_the_team_sees_nothing_more(store: Store) -> None:
    asking = await started(store, team(member("Practitioner/nurse"), member("Practitioner/x")))
    await write(store, consent())
    assert await asking.opens(NURSE)
    await write(store, team(member("Practitioner/x")))
    assert not await asking.opens(NURSE)


async def test_a_membership_ends_without_a_commit(store: Store) -> None:
    ends = member("Practitioner/nurse", period={"end": "2026-12-24"})
    asking = await started(store, team(ends), consent())
    assert await asking.opens(NURSE)
    asking.now = at("2026-12-25") - 1
    assert await asking.opens(NURSE)
    asking.now += 1
    assert not await asking.opens(NURSE)


async def test_a_consent_ends_without_a_commit(store: Store) -> None:
    until = rule(period={"start": "2026-03-02", "end": "2026-11-22"})
    asking = await started(store, team(member("Practitioner/nurse")), consent(provision=until))
    assert await asking.opens(NURSE)
    asking.now = at("2026-11-23") - 1
    assert await asking.opens(NURSE)
    asking.now += 1
    assert not await asking.opens(NURSE)
    asking.now = NOW
    assert await asking.opens(NURSE)


async def test_a_post_ends_without_a_commit(store: Store) -> None:
    post = role("r", "Practitioner/nurse", "Organization/x", period={"end": "2026-12-24"})
    asking = await started(store, organisation("x", "X1"), post)
    await write(store, team(member("PractitionerRole/r")), consent())
    assert await asking.opens(NURSE)
    asking.now = at("2026-12-25")
    assert not await asking.opens(NURSE)


async def test_broken_glass_closes_without_a_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor = somebody("Practitioner/doctor", "X1")
    asking = await started(store, organisation("x", "X1"))
    assert not await asking.opens(doctor)

    async def work(unit: Unit) -> None:
        kept = memo(doctor, "1", "danger to life", system_clock() + HOUR)
        await unit.keep(replace(kept, key=own_prefix(doctor.name) + kept.key))

    await store.commit(work)
    assert await asking.opens(doctor)
    go_ahead(monkeypatch, HOUR)
    assert not await asking.opens(doctor)


async def test_what_one_token_was_granted_is_not_what_the_other_was(store: Store) -> None:
    """Of one user, and so of the same decisions: what is kept of a search is of the token."""
    asking = await started(store, episode("Practitioner/kw"), consent())
    both = [
        replace(KEYWORKER, grants=(Grant("user", "Goal", frozenset("rs"), criteria),))
        for criteria in ((), (("_id", "other"),))
    ]
    for _ in range(3):
        for caller, wanted in zip(both, (True, False), strict=True):
            policy = ConsentPolicy(asking._decisions, caller, lambda: NOW, terms)
            session = telling(Session(store, caller, policy), store)
            plain = plainly(store, caller, policy)
            for _ in range(2):
                assert (await read_plainly(plain, session) is not None) is wanted
            for query in (OF_ONE, ALL):
                assert bool((await session.search(query, 10)).matches) is wanted
    again = [await policy.terms(store) for _ in range(2)]
    assert again[0].narrowed(ALL) is again[1].narrowed(ALL)


@pytest.mark.sqlite_alone
async def test_criteria_of_a_token_are_looked_at_in_the_short_way_too(store: Store) -> None:
    asking = await started(store, about("Goal", "h", "1"), episode("Practitioner/kw"), consent())
    granted = (Grant("user", "Goal", frozenset("rs"), (("_id", "g"),)),)
    caller = replace(KEYWORKER, grants=granted)
    policy = ConsentPolicy(asking._decisions, caller, lambda: NOW, terms)
    session, plain = Session(store, caller, policy), plainly(store, caller, policy)
    for _ in range(3):
        assert await read_plainly(plain, session) is not None
        assert await session.read("Goal", "g") is not None
        assert await plain.read("Goal", "h") is None


async def test_searches_that_are_kept_are_bounded(store: Store) -> None:
    asking = await started(store, episode("Practitioner/kw"), consent())
    told = await asking._policy(KEYWORKER).terms(store)
    assert isinstance(told, ConsentTerms)
    assert isinstance(told.known, Gathered)
    for number in range(_MOST_MADE + 10):
        told.narrowed(Query("Goal", ReferenceTo("patient", (f"Patient/{number}",))))
    assert len(told.known.made) <= _MOST_MADE


# What is decoded of a resource


@pytest.mark.parametrize("path", official_examples())
def test_what_is_looked_at_of_an_example_says_whose_it_is(path: Path | None) -> None:
    assert path is not None
    whole = json.decode(path.read_bytes())
    if whole.get("resourceType") in resource_types():
        assert_looked_at([whole])


def test_what_is_looked_at_of_the_caseload_says_whose_it_is() -> None:
    entries = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]
    assert_looked_at(entries)


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "#p"},
        {"reference": "Patient/1/_history/2"},
        {"reference": "http://elsewhere/Patient/1"},
        {"reference": "Group/1"},
        {"identifier": {"value": "1"}},
        None,
        [],
    ],
)
def test_a_subject_that_is_not_plain_is_looked_at_in_full(subject: object) -> None:
    contained = [{"resourceType": "Patient", "id": "p"}]
    assert_looked_at(
        [
            {"resourceType": name, "id": "1", "contained": contained, element: subject}
            for name, element in (("CarePlan", "subject"), ("Task", "for"), ("Flag", "subject"))
        ]
    )


def assert_looked_at(wholes: Sequence[dict[str, object]]) -> None:
    """The same is decided by what is looked at as by all that there is."""
    for whole in wholes:
        name = str(whole["resourceType"])
        told = membership.looked_at(name, json.encode(whole))
        assert membership.patients_of(told) == membership.patients_of(whole), whole
        body = json.encode(whole)
        one = membership.patient_as_stored(name, body)
        assert not one or membership.patients_of(whole) == {one}, whole
        read = behind(mark_of(name), body) if mark_of(name) else ""
        assert not is_id(read) or membership.patients_of(whole) == {read}, whole
        for element in ("resourceType", "id", "meta", "status", "category", "code"):
            if element in told or membership.standing(name) is membership.Standing.RECORD:
                assert told.get(element) == whole.get(element), whole


def test_of_most_records_the_one_patient_is_told_by_the_reference_alone() -> None:
    plan = {"resourceType": "CarePlan", "id": "2", "subject": {"reference": "Patient/1"}}
    assert membership.patient_as_stored("CarePlan", json.encode(plan)) == "1"
    assert membership.patient_as_stored("Patient", b'{"resourceType":"Patient","id":"1"}') == "1"
    assert membership.patient_as_stored("Organization", b'{"id":"1"}') == ""


async def test_the_rest_of_a_large_resource_is_not_decoded() -> None:
    plan = about("CarePlan", "c", "1", description="long " * 1000)
    assert "description" not in membership.looked_at("CarePlan", json.encode(plan))


# What is masked


def test_a_version_that_is_masked_is_known_by_all_that_it_is() -> None:
    first = flag("1", "red", 1)
    for other in (flag("1", "green", 1), first._replace(last_updated=2), first._replace(method="")):
        told = [masked(one) for one in (first, other, first)]
        assert told[0] == told[2] == masked(first)
        assert (told[1].last_updated, told[1].method) == (other.last_updated, other.method)
        (coding,) = json.decode(told[1].body)["code"]["coding"]
        assert coding == json.decode(other.body)["code"]["coding"][0]


def test_what_is_kept_of_masked_versions_is_bounded() -> None:
    masking._known.clear()
    for number in range(masking._MOST_KNOWN + 10):
        masked(flag(str(number), "red", 1))
    assert len(masking._known) <= masking._MOST_KNOWN
    long = flag("long", "red", 1, note="x" * masking._LARGE)
    assert masked(long) == masked(long)
    assert not [one for one in masking._known if b"long" in one]


def flag(own: str, colour: str, version: int, **more: object) -> StoredVersion:
    code = {"coding": [{"system": canonicals.DSR_RATING, "code": colour}]}
    told = about("Flag", own, "1", status="active", code=code, **more)
    return StoredVersion("Flag", own, version, 1, "PUT", json.encode(told))
