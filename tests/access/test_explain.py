"""Why somebody sees what they see: told to who may know, and to nobody else."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.app import Application
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    NOW,
    SEVENTEEN,
    child,
    consent,
    episode,
    member,
    organisation,
    rule,
    team,
)
from tests.support import FHIR_JSON, assert_outcome

KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")
TEACHER: Final = Caller("teacher", user="Practitioner/teacher", organisation="S11")
STRANGER: Final = Caller("stranger", user="Practitioner/stranger", organisation="Y11")
AUDITOR: Final = Caller("auditor", roles=frozenset({Role.AUDITOR}))
PERIOD: Final = {"start": "2026-03-02", "end": "2027-03-01"}


@pytest.fixture
async def region(app: Application) -> None:
    await stored(
        app,
        child("1", SEVENTEEN),
        episode("Practitioner/kw"),
        organisation("s", "S11"),
        team(member("Practitioner/teacher")),
        consent(basis="consent", outcome=None, provision=rule(period=PERIOD)),
    )


async def explained(client: httpx.AsyncClient, asked: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"Patient/1/$explain-access{asked}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["parameter"]
    return found


def named(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [one for one in found if one["name"] == name]


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [KEYWORKER, AUDITOR], ids=lambda one: one.name)
async def test_auditors_and_the_keyworker_learn_of_everybody(
    client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    by_table(who, NOW)
    found = await explained(client, "?caller=Practitioner/teacher&organisation=S11")
    assert named(found, "row") == [{"name": "row", "valueInteger": 3}]
    assert named(found, "consent") == [
        {"name": "consent", "valueReference": {"reference": "Consent/c"}}
    ]
    assert named(found, "since")
    assert {one["part"][0]["valueInteger"] for one in named(found, "before")} >= {1, 2}
    nobody = await explained(client, "?caller=Practitioner/stranger&organisation=Y11")
    assert named(nobody, "row")[0]["valueInteger"] == 0
    assert not named(nobody, "sees")


@pytest.mark.usefixtures("region")
async def test_others_learn_of_themselves_what_they_may_know(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(TEACHER, NOW)
    found = await explained(client)
    assert named(found, "row")[0]["valueInteger"] == 3
    assert named(found, "consent")
    assert not named(found, "before")
    other = await client.get("Patient/1/$explain-access?caller=Practitioner/kw")
    assert_outcome(other, 404, "not-found", "Patient/1")


@pytest.mark.usefixtures("region")
async def test_for_whoever_may_not_know_there_is_no_such_patient(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(STRANGER, NOW)
    hidden = await client.get("Patient/1/$explain-access")
    absent = await client.get("Patient/2/$explain-access")
    assert_outcome(hidden, 404, "not-found", "Patient/1")
    assert hidden.text.replace("Patient/1", "") == absent.text.replace("Patient/2", "")


@pytest.mark.usefixtures("region")
async def test_what_is_no_user_is_refused(client: httpx.AsyncClient, by_table: ByTable) -> None:
    by_table(AUDITOR, NOW)
    answer = await client.get("Patient/1/$explain-access?caller=CarePlan/1")
    assert_outcome(answer, 400, "invalid", "Practitioner/12", "http.caller")


@pytest.mark.usefixtures("region")
async def test_a_role_of_a_token_is_one_that_there_is(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(AUDITOR, NOW)
    answer = await client.get("Patient/1/$explain-access?role=king")
    assert_outcome(answer, 400, "invalid", "cetr-panel", "http.role")
    found = await explained(client, "?role=load-test&role=auditor")
    assert named(found, "row")[0]["valueInteger"] == 14


@pytest.mark.usefixtures("region")
async def test_an_auditor_who_has_broken_glass_is_told_so(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """As the decision has it, and not what would hold without it."""
    by_table(replace(STRANGER, organisation="S11", roles=frozenset({Role.AUDITOR})))
    assert named(await explained(client), "row")[0]["valueInteger"] == 0
    reason = {"name": "reason", "valueString": "life at risk, nobody else is there"}
    sent = {"resourceType": "Parameters", "parameter": [reason]}
    glass = await client.post("Patient/1/$break-glass", json=sent, headers=FHIR_JSON)
    assert glass.status_code == 200, glass.text
    assert named(await explained(client), "row")[0]["valueInteger"] == 1


async def test_an_open_server_decides_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("Patient/1/$explain-access")
    assert_outcome(answer, 400, "not-supported", "open")
