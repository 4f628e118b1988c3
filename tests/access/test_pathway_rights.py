"""Who moves an involvement: the host until a keyworker is there, then the keyworker."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.settings import Settings
from tests.access.conftest import ByTable, stored
from tests.access.deciding import about, rating
from tests.access.people import YOUNG, agreed, child, coded, ods, organisation, role
from tests.support import FHIR_JSON, assert_outcome, outcome_issues, stored_versions

HOST: Final = Caller("host", user="Practitioner/host", organisation="X99")
STRANGER: Final = Caller("stranger", user="Practitioner/stranger", organisation="Z99")
SYSTEM: Final = Caller("system", organisation="X99")
KEYWORKER: Final = Caller("keyworker", user="Practitioner/keyworker", organisation="X99")
SOCIAL: Final = Caller("social", user="Practitioner/social", organisation="S11")
FAMILY: Final = Caller("young", user="Patient/1")
KEEPER: Final = Caller(
    "keeper",
    organisation="X99",
    roles=frozenset({Role.ADMINISTRATOR}),
    grants=(Grant("system", "*", frozenset("cruds")),),
)


def involvement(state: str, status: str, **rest: Any) -> Resource:
    return {
        "resourceType": "EpisodeOfCare",
        "id": "e",
        "extension": [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}],
        "status": status,
        "type": [coded(canonicals.EPISODE_TYPE, "keyworking")],
        "patient": {"reference": "Patient/1"},
        "managingOrganization": ods("X99"),
        "period": {"start": "2026-03-02"},
        **rest,
    }


def people() -> list[Resource]:
    return [
        child("1", YOUNG),
        agreed(),
        organisation("o", "X99"),
        organisation("s", "S11"),
        {"resourceType": "Practitioner", "id": "keyworker"},
        role("k", "Practitioner/keyworker", "Organization/o", active=True),
    ]


async def ask(client: httpx.AsyncClient, address: str, **values: Any) -> httpx.Response:
    types: dict[type, str] = {str: "valueString", dict: "valueReference"}
    given: list[Resource] = []
    for name, value in values.items():
        element = "valueCode" if name == "to" else types[type(value)]
        given.append({"name": name, element: value})
    told = {"resourceType": "Parameters", "parameter": given}
    return await client.post(address, content=json.encode(told), headers=FHIR_JSON)


@pytest.mark.parametrize("caller", [STRANGER, SYSTEM, KEYWORKER, SOCIAL, FAMILY])
async def test_a_referral_is_moved_by_a_professional_of_the_host_alone(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, caller: Caller
) -> None:
    host = involvement("referred", "planned", managingOrganization=ods("H11"))
    await stored(app, *people(), host)
    by_table(caller)
    answer = await ask(client, "EpisodeOfCare/e/$transition", to="consent-pending")
    assert answer.status_code in (403, 404), answer.text
    by_table(Caller("other", user="Practitioner/other", organisation="H11"))
    answer = await ask(client, "EpisodeOfCare/e/$transition", to="consent-pending")
    assert answer.status_code == 200, answer.text


async def test_the_host_allocates_and_the_keyworker_goes_on(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, *people(), involvement("awaiting-allocation", "waitlist"))
    link = {"reference": "Practitioner/keyworker"}
    by_table(STRANGER)
    answer = await ask(client, "EpisodeOfCare/e/$allocate", keyworker=link)
    assert_outcome(answer, 404, "not-found", "is not known")
    by_table(HOST)
    answer = await ask(client, "EpisodeOfCare/e/$allocate", keyworker=link)
    assert answer.status_code == 200, answer.text
    # From now on it is the keyworker's, and the host does not see it.
    answer = await ask(client, "EpisodeOfCare/e/$transition", to="planning")
    assert_outcome(answer, 404, "not-found", "is not known")
    by_table(KEYWORKER)
    answer = await ask(client, "EpisodeOfCare/e/$transition", to="planning")
    assert_outcome(answer, 422, "business-rule", "first visit has not taken place")


async def test_who_sees_the_young_person_refers_and_nobody_else(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, settings: Settings
) -> None:
    category = [coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)]
    red = rating("f", "1", category=category, period={"start": "2026-03-02"})
    need = about("Condition", "n", "1", code={"text": "Autism"})
    register = agreed("register", id="r")
    await stored(app, *people(), red, need, register)
    for caller in (STRANGER, FAMILY, SYSTEM):
        by_table(caller)
        answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
        assert answer.status_code in (403, 404), answer.text
    by_table(SOCIAL)
    address = f"{settings.base}/Organization/s"
    named = [{"reference": one} for one in ("Organization/s", address, f"{address}/_history/1")]
    for own in (ods("S11"), ods("s11"), *named):
        answer = await ask(client, "Patient/1/$refer", host=own)
        assert_outcome(answer, 403, "forbidden", "to their own organisation")
    for blank in (" S11", "S11\t", "S 11", "X99 ", " "):
        answer = await ask(client, "Patient/1/$refer", host=ods(blank))
        place = "Parameters.parameter.where(name = 'host')"
        assert_outcome(answer, 400, "invalid", "is no ODS code", place)
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    assert answer.status_code == 200, answer.text
    (referral,) = [
        one["resource"] for one in answer.json()["parameter"] if one["name"] == "referral"
    ]
    assert referral["requester"] == {"reference": "Practitioner/social"}


async def test_who_keeps_the_record_refers_and_is_told_nothing_of_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    need = about("Condition", "n", "1", code={"text": "Autism"})
    kept = child("1", YOUNG, managingOrganization=ods("X99"))
    # Nobody has been asked about keyworking yet.
    await stored(app, organisation("o", "X99"), kept, need, _rated("green"))
    by_table(replace(KEEPER, organisation="Y11"))
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    assert_outcome(answer, 404, "not-found", "is not known")
    by_table(KEEPER)
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    unseen = outcome_issues(answer)
    assert_outcome(answer, 422, "business-rule", "an active rating that calls for it", "Patient")
    await stored(app, _rated("red"))
    answer = await ask(client, "Patient/1/$refer", reason="Too much")
    assert answer.status_code == 200, answer.text
    made = {one["name"]: one["resource"] for one in answer.json()["parameter"]}
    assert made["referral"]["requester"] == ods("X99")
    assert made["episode"]["managingOrganization"] == ods("X99")
    answer = await ask(client, "Patient/1/$refer", reason="Too much")
    assert answer.status_code == 422
    assert outcome_issues(answer) == unseen  # also where another thing stands against it
    (task,) = [one for one in await _tasks(app) if one["focus"]["reference"].startswith("Episode")]
    assert task["code"]["coding"][0]["code"] == "obtain-consent"


async def test_a_referral_that_is_bound_to_fail_does_not_tell_what_is_hidden(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Who signs the register sees the colour alone: neither an involvement nor a diagnosis."""
    consented, under_way = agreed("register", id="r"), involvement("referred", "planned")
    await stored(app, child("1", YOUNG), organisation("s", "S11"), consented, _rated("green"))
    await stored(app, under_way)
    by_table(SOCIAL)
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    assert_outcome(answer, 422, "business-rule", "The rating is green", "Flag.code")
    assert len(answer.json()["issue"]) == 1
    await stored(app, _rated("red"))
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    assert_outcome(answer, 422, "business-rule", "What the caller may not see", "Patient")
    undiagnosed = outcome_issues(answer)
    await stored(app, about("Condition", "n", "1", code={"text": "Autism"}))
    answer = await ask(client, "Patient/1/$refer", host=ods("X99"))
    assert outcome_issues(answer) == undiagnosed


def _rated(colour: str) -> Resource:
    category = [coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)]
    told = rating("f", "1", category=category, period={"start": "2026-03-02"})
    return {**told, "code": coded(canonicals.DSR_RATING, colour)}


async def _tasks(app: Application) -> list[Resource]:
    found = [json.decode_resource(one.body) for one in await stored_versions(app.state.store)]
    return [one for one in found if one["resourceType"] == "Task" and "obtain" in str(one["code"])]


async def test_the_keyworker_closes_and_the_consent_ends_with_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """What follows is the service's: nobody else writes a Consent of somebody's."""
    manager = {"careManager": {"reference": "Practitioner/keyworker"}}
    await stored(app, *people(), involvement("step-down", "active", **manager))
    for caller, status in ((STRANGER, 404), (HOST, 404), (KEYWORKER, 200)):
        by_table(caller)
        told = {"name": "reason", "valueCode": "stepped-down"}
        parameters = {"resourceType": "Parameters", "parameter": [told]}
        answer = await client.post(
            "EpisodeOfCare/e/$close", content=json.encode(parameters), headers=FHIR_JSON
        )
        assert answer.status_code == status, answer.text
    assert answer.json()["status"] == "finished"
    found = await app.state.store.read("Consent", "c")
    assert json.decode(found.body)["status"] == "inactive"
