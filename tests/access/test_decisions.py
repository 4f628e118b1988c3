"""Facts follow the commits, and decisions the facts: at once, on every backend."""

from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.decision import DENIED
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import kept, remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Draft, Memo, Store, Unit
from tests.access.following import KEYWORKER, TERMS, WORKED, WRITER, delete, rows, started, write
from tests.access.people import (
    NOW,
    SENDS,
    at,
    child,
    consent,
    episode,
    member,
    numbered,
    ods,
    organisation,
    ref,
    role,
    rule,
    somebody,
    stay,
    team,
)
from tests.storage.backends import Backend

# Following


async def test_a_commit_decides_at_once(store: Store) -> None:
    decisions = await started(store)
    assert await rows(decisions, store, KEYWORKER) == {}
    await write(store, *WORKED)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert (await decisions.about(store, KEYWORKER, "1", NOW)).row == 2
    await write(store, consent(status="inactive"))
    assert await rows(decisions, store, KEYWORKER) == {"1": 15}
    await delete(store, "EpisodeOfCare", "e")
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await decisions.about(store, KEYWORKER, "1", NOW) == DENIED


@pytest.mark.parametrize(
    ("resource_type", "resource_id", "left"),
    [("Patient", "1", 0), ("EpisodeOfCare", "e", 0), ("Consent", "c", 0)],
)
async def test_what_is_deleted_opens_nothing(
    store: Store, resource_type: str, resource_id: str, left: int
) -> None:
    decisions = await started(store, *WORKED)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    await delete(store, resource_type, resource_id)
    assert (await decisions.about(store, KEYWORKER, "1", NOW)).row == left
    await write(store, *WORKED)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}


async def test_what_moves_to_another_patient_takes_its_rights_along(store: Store) -> None:
    decisions = await started(store, *WORKED, child("2"))
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    moved = consent(patient=ref("Patient/2"), performer="Patient/2")
    await write(store, episode("Practitioner/kw", "Patient/2"), moved)
    assert await rows(decisions, store, KEYWORKER) == {"2": 2}
    await write(store, episode("Practitioner/other", "Patient/2"))
    assert await rows(decisions, store, KEYWORKER) == {}


async def test_a_commit_that_fails_leaves_no_facts(store: Store) -> None:
    decisions = await started(store, *WORKED)

    async def work(unit: SessionUnit) -> None:
        await unit.put(consent(status="rejected"), "PUT")
        raise FhirError(Kind.CONFLICT, "no")

    with pytest.raises(FhirError):
        await Session(store, WRITER, OpenPolicy()).commit("update", work)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert [ref async for ref in remaking.differences(store)] == []


async def test_a_commit_under_way_decides_by_what_it_has_written(store: Store) -> None:
    """And nobody else does by that, should it fail, even if the next one is as many."""
    decisions = await started(store, *WORKED)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    seen: list[int] = []

    async def work(unit: Unit) -> None:
        guarded = SessionUnit(unit, WRITER, None, "update")
        await guarded.put(consent(status="rejected"), "PUT")
        seen.append((await decisions.about(unit, KEYWORKER, "1", NOW)).row)
        seen.extend(decision.row for decision in await decisions.known(unit, KEYWORKER, NOW))
        raise FhirError(Kind.CONFLICT, "no")

    with pytest.raises(FhirError):
        await store.commit(work)
    assert seen == [15, 15]
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    await write(store, child("2"))
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert (await decisions.about(store, KEYWORKER, "1", NOW)).row == 2


async def test_two_processes_see_each_others_commits_at_once(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    decisions = await started(store, *WORKED)
    other_store, other = await backend.open(tmp_path), TableDecisions(TERMS)
    try:
        for _ in range(2):
            for here, by in ((decisions, store), (other, other_store)):
                assert await rows(here, by, KEYWORKER) == {"1": 2}
            await write(other_store, consent(status="inactive"))
            for here, by in ((decisions, store), (other, other_store)):
                assert await rows(here, by, KEYWORKER) == {"1": 15}
            await write(store, consent())
    finally:
        await other_store.close()


async def test_what_nothing_has_changed_is_not_decided_again(store: Store) -> None:
    decisions = await started(store, *WORKED)
    known = await decisions.known(store, KEYWORKER, NOW)
    await write(store, child("2"), {"resourceType": "Goal", "id": "g"})
    assert await decisions.known(store, KEYWORKER, NOW) is known


async def test_a_decision_holds_until_the_moment_at_which_it_ends(store: Store) -> None:
    until = rule(period={"start": "2026-03-02", "end": "2026-11-22"})
    decisions = await started(store, child(), episode("Practitioner/kw"), consent(provision=until))
    end = at("2026-11-23T00:00:00Z")
    for now, wanted in ((NOW, 2), (end - 1, 2), (end, 15), (NOW, 2), (at("2026-03-01"), 0)):
        assert await rows(decisions, store, KEYWORKER, now) == ({"1": wanted} if wanted else {})


# Who is who


async def test_a_post_is_its_practitioners_while_it_lasts(store: Store) -> None:
    post = role("r", "Practitioner/kw", "Organization/x", period={"end": "2026-12-31"})
    decisions = await started(
        store, organisation("x", "X1"), post, child(), episode("PractitionerRole/r"), consent()
    )
    over = at("2027-01-01")
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert await rows(decisions, store, somebody("PractitionerRole/r", "X1")) == {"1": 2}
    assert await rows(decisions, store, somebody("Practitioner/kw", "X2")) == {}
    assert await rows(decisions, store, somebody("PractitionerRole/r", "X2")) == {}
    assert await rows(decisions, store, somebody("Practitioner/else", "X1")) == {}
    assert await rows(decisions, store, KEYWORKER, over) == {}
    await write(store, role("r", "Practitioner/kw", "Organization/x", active=False))
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await rows(decisions, store, somebody("PractitionerRole/r", "X1")) == {}


async def test_an_organisation_is_known_by_its_code(store: Store) -> None:
    named = team(member("Organization/h"))
    decisions = await started(store, organisation("h", "h1"), child(), named, consent())
    trust = somebody("", "H1")
    assert await rows(decisions, store, trust) == {"1": 3}
    await write(store, organisation("h", "H2"))
    assert await rows(decisions, store, trust) == {}
    assert await rows(decisions, store, somebody("", "H2")) == {"1": 3}
    await write(store, team(member(ods("H1"))))
    assert await rows(decisions, store, trust) == {"1": 3}


async def test_a_system_stands_for_the_posts_of_its_organisation(store: Store) -> None:
    post = role("r", "Practitioner/dr", "Organization/h")
    papers = (child(), team(member("PractitionerRole/r")), consent())
    decisions = await started(store, organisation("h", "H1"), post, *papers)
    assert await rows(decisions, store, somebody("", "H1")) == {"1": 3}
    assert await rows(decisions, store, somebody("", "H2")) == {}
    assert await rows(decisions, store, somebody("Practitioner/colleague", "H1")) == {}


@pytest.mark.parametrize(
    "user", ["Practitioner/kw/_history/1", "https://x/Practitioner/kw", "Group/1", "kw", "?", "/"]
)
async def test_a_user_who_cannot_be_in_the_records_is_nobody(store: Store, user: str) -> None:
    decisions = await started(store, *WORKED, team(member(ods("H1"))))
    assert await rows(decisions, store, somebody(user, "H1")) == {}
    assert (await decisions.about(store, somebody(user, "H1"), "1", NOW)) == DENIED


@pytest.mark.parametrize("code", ["", "h1>", "H1/", "H-1", "?", "H" * 50, "register", "*"])
async def test_a_code_that_is_none_is_nobodys(store: Store, code: str) -> None:
    decisions = await started(store, child(), consent("register"), team(member(ods("H1"))))
    assert await rows(decisions, store, somebody("", code)) == {}


# Forms of references


async def test_a_patient_is_known_by_nhs_number_too(store: Store) -> None:
    """Whether the Patient or the papers come first."""
    number = "9990000042"
    logical: dict[str, Any] = {"identifier": numbered(number)[0]}
    papers = (
        {**episode("Practitioner/kw"), "patient": logical},
        {**consent(), "patient": logical},
    )
    decisions = await started(store, *papers)
    assert await rows(decisions, store, KEYWORKER) == {}
    await write(store, child(identifier=numbered(number)))
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    await write(store, {**consent(status="inactive"), "patient": logical})
    assert await rows(decisions, store, KEYWORKER) == {"1": 15}
    await write(store, child(identifier=numbered("9990000050")))
    assert await rows(decisions, store, KEYWORKER) == {}


async def test_a_contained_member_is_whom_it_refers_to(store: Store) -> None:
    inner = [
        {"resourceType": "PractitionerRole", "id": "r", "practitioner": ref("Practitioner/kw")},
        {**organisation("o", "X1")},
    ]
    within = team(member("#r"), contained=inner)
    decisions = await started(store, child(), within, consent())
    assert await rows(decisions, store, KEYWORKER) == {"1": 3}
    assert await rows(decisions, store, somebody("", "X1")) == {}
    await write(store, team(member("#o"), contained=inner))
    assert await rows(decisions, store, somebody("", "X1")) == {"1": 3}


@pytest.mark.parametrize(
    "subject",
    [
        {},
        None,
        {"display": "Robin"},
        {"reference": "urn:uuid:0"},
        {"reference": "https://elsewhere/Patient/1"},
        {"reference": "#p"},
        {"reference": "Group/1"},
        {"reference": ["Patient/1"]},
        {"identifier": {"system": "urn:x", "value": "9990000042"}},
        "Patient/1",
    ],
)
async def test_papers_of_nobody_open_nothing(store: Store, subject: Any) -> None:
    numbered_child = child(identifier=numbered("9990000042"))
    papers = {**episode("Practitioner/kw"), "patient": subject}
    decisions = await started(store, numbered_child, papers, consent())
    assert await rows(decisions, store, KEYWORKER) == {}


# Whom a caller may know of


async def test_many_patients_are_gathered_by_decision(store: Store, backend: Backend) -> None:
    number = backend.fewer(300, 210)
    people = [child(str(n)) for n in range(number)]
    papers = [
        consent(
            "register",
            id=f"c{n}",
            patient=ref(f"Patient/{n}"),
            performer=f"Patient/{n}",
            status="active" if n % 3 else "inactive",
        )
        for n in range(number)
    ]
    decisions = await started(store, *people, *papers)
    known = await decisions.known(store, somebody("", "H1"), NOW)
    assert list(known.values()) == [frozenset(str(n) for n in range(number) if n % 3)]
    assert {decision.row for decision in known} == {4}
    assert await rows(decisions, store, somebody("", "H2")) == {}


async def test_of_an_event_alone_nobody_is_known(store: Store) -> None:
    decisions = await started(store, child(), stay(ods("W1")))
    sender = somebody("", "W1", grants=SENDS)
    assert await decisions.known(store, sender, NOW) == {}
    about = [await decisions.about(store, sender, one, NOW) for one in ("1", "nobody")]
    assert [one.row for one in about] == [6, 6]
    assert about[0] == about[1]


async def test_a_broken_glass_shows_one_patient_and_no_list(store: Store) -> None:
    decisions = await started(store, child(), child("2"))
    caller = somebody("Practitioner/x", "H1", break_glass="life at risk")
    assert (await decisions.about(store, caller, "1", NOW)).row == 1
    assert await decisions.known(store, caller, NOW) == {}


@pytest.mark.parametrize("patient_id", ["1>", "", "1/", "../1", "1>EpisodeOfCare/e", "x" * 100])
async def test_what_is_no_id_is_nobody(store: Store, patient_id: str) -> None:
    decisions = await started(store, *WORKED)
    assert await decisions.about(store, KEYWORKER, patient_id, NOW) == DENIED


async def test_an_id_that_begins_as_anothers_is_another(store: Store) -> None:
    other = episode("Practitioner/kw", "Patient/12", id="e2")
    decisions = await started(store, *WORKED, child("12"), other)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    await delete(store, "EpisodeOfCare", "e")
    assert (await decisions.about(store, KEYWORKER, "12", NOW)) == DENIED
    assert [ref async for ref in remaking.differences(store)] == []


# Fail closed


async def test_until_the_facts_are_made_everybody_is_denied(store: Store) -> None:
    """As in a store that an older release has written."""
    decisions = TableDecisions(TERMS)

    async def older(unit: Unit) -> None:
        for resource in WORKED:
            await unit.put(Draft(resource), "PUT")

    await store.commit(older)
    assert await rows(decisions, store, KEYWORKER) == {}
    await write(store, child("2"))
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await remaking.ensure(store)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert not await remaking.ensure(store)


@pytest.mark.parametrize("value", [b"", b"{", b"{}", b'{"release":99,"complete":true}', b"[1]"])
async def test_a_state_of_another_release_or_none_is_made_anew(store: Store, value: bytes) -> None:
    decisions = await started(store, *WORKED)

    async def work(unit: Unit) -> None:
        await unit.keep(Memo(kept.STATE, "state", value))

    await store.commit(work)
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await remaking.ensure(store)
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}


async def test_facts_that_cannot_be_read_deny_their_patient_alone(store: Store) -> None:
    mine = episode("Practitioner/kw", "Patient/2", id="e2")
    theirs = consent(id="c2", patient=ref("Patient/2"), performer="Patient/2")
    decisions = await started(store, *WORKED, child("2"), mine, theirs)

    async def spoil(unit: Unit) -> None:
        await unit.keep(Memo(kept.PART, "Patient/1>Consent/c>", b"{"))

    await store.commit(spoil)
    assert await rows(decisions, store, KEYWORKER) == {"2": 2}
    assert await decisions.about(store, KEYWORKER, "1", NOW) == DENIED
    assert [ref async for ref in remaking.differences(store)] == ["Consent/c"]


async def test_what_another_release_left_is_found_when_it_is_written_again(store: Store) -> None:
    decisions = await started(store, *WORKED)

    async def spoil(unit: Unit) -> None:
        await unit.keep(Memo(kept.ORIGIN, "Consent/c>", b'{"old":1}'))

    await store.commit(spoil)
    await write(store, consent(status="rejected"))
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await remaking.ensure(store)
    assert await rows(decisions, store, KEYWORKER) == {"1": 15}


class Broken:
    """A store whose memos cannot be had."""

    async def memo(self, space: str, key: str) -> None:
        raise LookupError(space, key)


async def test_an_exception_denies() -> None:
    decisions, broken = TableDecisions(TERMS), Broken()
    assert await decisions.known(broken, KEYWORKER, NOW) == {}  # type: ignore[arg-type]
    assert await decisions.about(broken, KEYWORKER, "1", NOW) == DENIED  # type: ignore[arg-type]
