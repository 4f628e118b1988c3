"""Withdrawing what one has given: always possible, and never what somebody else has given."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FIFTEEN,
    FOURTEEN,
    NOW,
    TWELVE,
    carer,
    child,
    consent,
    episode,
    parental,
    ref,
    rule,
)
from tests.access.test_messages import all_of
from tests.access.test_review_writers import puts
from tests.operations.timing import born
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

MOTHER: Final = Caller("mum", user="RelatedPerson/mum")
FATHER: Final = Caller("dad", user="RelatedPerson/dad")
CHILD: Final = Caller("child", user="Patient/1")
KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")


async def withdraws(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    told: Resource = {"resourceType": "Parameters"}
    if more:
        told["parameter"] = [{"name": name, "valueString": value} for name, value in more.items()]
    return await client.post("Consent/$withdraw", content=json.encode(told), headers=FHIR_JSON)


async def withdrawn(client: httpx.AsyncClient) -> int:
    answer = await withdraws(client)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["parameter"][0]["valueUnsignedInt"])


async def standing(app: Application) -> dict[str, str]:
    return {one["id"]: one["status"] for one in await all_of(app, "Consent")}


def given_by_mother(**rest: Any) -> Resource:
    return parental(outcome=None, dateTime="2025-03-02", **rest)


async def reviews(app: Application) -> list[Resource]:
    """Tasks to talk about consent again; timers run beside."""
    tasks = await all_of(app, "Task")
    return [one for one in tasks if one["code"]["coding"][0]["code"] == "review-consent"]


async def test_a_parent_before_the_review_withdraws_what_they_gave(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Row 9: they see nothing any more, and the consent that they gave may still count for others
    once it is reviewed."""
    await stored(app, child("1", FOURTEEN), carer(), given_by_mother(), episode("Practitioner/kw"))
    by_table(MOTHER, NOW)
    ended = {**given_by_mother(), "status": "inactive"}
    assert (await puts(client, ended)).status_code == 404
    assert await withdrawn(client) == 1
    assert (await client.get("Consent/c")).status_code == 404
    (kept,) = await all_of(app, "Consent")
    assert (kept["status"], kept["dateTime"]) == ("inactive", "2025-03-02")
    (task,) = await reviews(app)
    assert (task["for"], task["owner"]) == (ref("Patient/1"), ref("Practitioner/kw"))
    assert await withdrawn(client) == 0
    assert len(await reviews(app)) == 1


async def test_nobody_withdraws_so_what_another_gave(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    father = {**parental(outcome=None, id="d"), "performer": [ref("RelatedPerson/dad")]}
    theirs = given_by_mother()
    await stored(app, child("1", TWELVE), carer(), carer("dad"), theirs, father)
    by_table(FATHER, NOW)
    assert await withdrawn(client) == 1
    assert await standing(app) == {"c": "active", "d": "inactive"}
    by_table(replace(MOTHER, patient="2"), NOW)
    assert await withdrawn(client) == 0  # launched for another child
    by_table(KEYWORKER, NOW)
    assert_outcome(await withdraws(client), 403, "forbidden", "who gave it")
    by_table(ANONYMOUS, NOW)
    assert_outcome(await withdraws(client), 403, "forbidden", "who gave it")
    assert await standing(app) == {"c": "active", "d": "inactive"}


async def test_the_reason_is_kept_and_bounded(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("1", FOURTEEN), carer(), given_by_mother())
    by_table(MOTHER, NOW)
    assert_outcome(await withdraws(client, reason="x" * 501), 400, "invalid", "501 characters")
    assert (await withdraws(client, reason="We have changed our minds")).status_code == 200
    (kept,) = await all_of(app, "Consent")
    told = [one["valueCodeableConcept"] for one in kept["extension"]]
    assert [one["text"] for one in told] == ["We have changed our minds"]
    assert told[0]["coding"][0]["system"] == canonicals.CONSENT_STATUS_REASON


@pytest.mark.parametrize("by", ["$withdraw", "PUT", "PUT, as of today"])
async def test_a_parents_withdrawal_leaves_what_a_competent_child_has_given_since(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, by: str
) -> None:
    """Where the child is competent, the child decides: row 10 lets the parent read, no more."""
    own = consent(provision=rule("permit", "RelatedPerson/mum", "Practitioner/kw"))
    given = given_by_mother(id="old")
    await stored(app, child("1", FIFTEEN), carer(), episode("Practitioner/kw"), own, given)
    by_table(MOTHER, NOW)
    seen = await client.get("Consent/old")
    if by == "$withdraw":
        assert await withdrawn(client) == 1
    else:
        day = "2026-11-21" if "today" in by else given["dateTime"]
        told = {**given, "status": "inactive", "dateTime": day}
        headers = {**FHIR_JSON, "if-match": seen.headers["etag"]}
        answer = await client.put("Consent/old", content=json.encode(told), headers=headers)
        if "today" in by:
            assert_outcome(answer, 403, "forbidden", "leaves dateTime")
        else:
            assert answer.status_code == 200, answer.text
    by_table(KEYWORKER, NOW)
    assert (await client.get("Patient/1")).status_code == 200


async def test_a_parent_refuses_nothing_for_a_competent_child(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    own = consent(provision=rule("permit", "RelatedPerson/mum", "Practitioner/kw"))
    await stored(app, child("1", FIFTEEN), carer(), episode("Practitioner/kw"), own)
    by_table(MOTHER, NOW)
    refusal = parental(status="rejected", outcome=None, dateTime="2026-11-21")
    del refusal["id"]
    answer = await client.post("Consent", content=json.encode(refusal), headers=FHIR_JSON)
    assert_outcome(answer, 403, "forbidden", "found competent")
    by_table(KEYWORKER, NOW)
    assert (await client.get("Patient/1")).status_code == 200


async def test_a_young_person_withdraws_after_being_found_not_competent(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    later = consent("cetr", id="later", outcome=("not-competent", "2026-06-01"), status="inactive")
    await stored(app, child("1", FIFTEEN), consent(), later)
    by_table(CHILD, NOW)
    assert (await client.get("Patient/1")).status_code == 404
    assert await withdrawn(client) == 1
    assert await standing(app) == {"c": "inactive", "later": "inactive"}


async def _with_rules(app: Application, resource: Resource) -> None:
    async def work(unit: SessionUnit) -> None:
        await unit.put(resource, "PUT")

    session = Session(app.state.store, ANONYMOUS, OpenPolicy(), rules=app.state.server.rules)
    await session.commit("record", work)


async def test_a_later_consent_of_the_same_kind_settles_what_is_to_be_talked_about(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """One that stood beside it does not; nor does one to something else, or a refusal."""
    theirs: Resource = {"performer": [ref("RelatedPerson/dad")], "provision": rule()}
    father = {**parental(outcome=None, id="d"), **theirs}
    await stored(app, child("1", born(12)), carer(), carer("dad"), given_by_mother(), father)
    by_table(MOTHER, NOW)
    assert await withdrawn(client) == 1
    today = (await reviews(app))[0]["authoredOn"][:10]
    later = {**father, "dateTime": today}
    review = {**parental("cetr", outcome=None, id="e"), **theirs, "dateTime": today}
    for again, status in (
        ({**father, "language": "en-GB"}, "requested"),
        (review, "requested"),
        ({**later, "id": "f", "status": "rejected"}, "requested"),
        ({**later, "id": "g"}, "completed"),
        ({**later, "id": "g", "language": "en-GB"}, "completed"),
    ):
        await _with_rules(app, again)
        (task,) = await reviews(app)
        assert (again["id"], task["status"]) == (again["id"], status)
