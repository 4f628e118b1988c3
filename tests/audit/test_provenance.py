"""What is written for an organisation has a Provenance beside it, in the same commit.

https://hl7.org/fhir/R4/provenance.html
"""

from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session
from fhir_server.app import Application
from fhir_server.checking import checker
from fhir_server.fhir import canonicals
from fhir_server.http.messages import HttpRequest
from fhir_server.settings import Settings

PLAN: Final = {
    "resourceType": "CarePlan",
    "id": "plan",
    "status": "active",
    "intent": "plan",
    "subject": {"reference": "Patient/kim"},
}
WARD: Final = Caller(
    "ward|Practitioner/7", client="ward", user="Practitioner/7", organisation="RX1"
)


@pytest.fixture
def ward(app: Application) -> None:
    """Whoever asks is a practitioner of an organisation."""

    def open_session(request: HttpRequest) -> Session:  # noqa: ARG001
        return Session(app.state.store, WARD, OpenPolicy())

    assert app.fhir is not None
    app.fhir._open_session = open_session


async def told(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    found = (await client.get(f"Provenance?_sort=_lastUpdated&{query}")).json()
    return [entry["resource"] for entry in found.get("entry", ())]


@pytest.mark.usefixtures("patient", "ward")
async def test_each_change_says_whose_it_is(client: httpx.AsyncClient, settings: Settings) -> None:
    await client.put("CarePlan/plan", json=PLAN)
    await client.put("CarePlan/plan", json={**PLAN, "title": "anew"}, headers={"if-match": 'W/"1"'})
    await client.delete("CarePlan/plan", headers={"if-match": 'W/"2"'})
    found = await told(client)
    assert [one["activity"]["coding"][0]["code"] for one in found] == ["CREATE", "UPDATE", "DELETE"]
    for number, one in enumerate(found, 1):
        targets = [target["reference"] for target in one["target"]]
        assert targets == [f"CarePlan/plan/_history/{number}", "Patient/kim"]
        agent = one["agent"][0]
        assert agent["who"] == {"reference": "Practitioner/7"}
        assert agent["onBehalfOf"]["identifier"]["value"] == "RX1"
        issues = checker(settings).check(one).issues
        assert [issue.text for issue in issues if issue.rule != "dom-6"] == []


@pytest.mark.usefixtures("patient")
async def test_what_follows_is_told_as_the_service_s(
    client: httpx.AsyncClient, app: Application, settings: Settings
) -> None:
    """One for what the ward wrote, and others for what the rules did."""

    def open_session(request: HttpRequest) -> Session:  # noqa: ARG001
        return Session(app.state.store, WARD, OpenPolicy(), rules=app.state.server.rules)

    assert app.fhir is not None
    app.fhir._open_session = open_session
    answer = await client.put("Encounter/stay", json=_STAY)
    assert answer.status_code == 201, answer.text
    found = {one["agent"][0]["who"].get("reference", ""): one for one in await told(client)}
    own, service = found.pop("Practitioner/7"), found.pop("")
    assert [one["reference"] for one in own["target"]] == [
        "Encounter/stay/_history/1",
        "Patient/kim",
    ]
    written = {one["reference"].partition("/")[0] for one in service["target"]}
    assert written == {"CarePlan", "Task", "Patient"}
    issues = checker(settings).check(service).issues
    assert [issue.text for issue in issues if issue.rule != "dom-6"] == []


_STAY: Final = {
    "resourceType": "Encounter",
    "id": "stay",
    "identifier": [{"system": "https://ward.example/Id/spell", "value": "1"}],
    "status": "in-progress",
    "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
    "subject": {"reference": "Patient/kim"},
    "period": {"start": "2026-11-01"},
    "serviceProvider": {"display": "Ward"},
}


@pytest.mark.usefixtures("patient", "ward")
async def test_a_transaction_has_one_for_each_sort_of_change(client: httpx.AsyncClient) -> None:
    entries = [
        {"request": {"method": "PUT", "url": "CarePlan/plan"}, "resource": PLAN},
        {
            "request": {"method": "PUT", "url": "Patient/kim"},
            "resource": {"resourceType": "Patient", "id": "kim", "active": True},
        },
        {"request": {"method": "POST", "url": "Basic"}, "resource": _BASIC},
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await client.post("", json=sent)).status_code == 200
    found = await told(client)
    assert [len(one["target"]) for one in found] == [3, 2]
    assert len(await told(client, "patient=kim")) == 2


_BASIC: Final = {"resourceType": "Basic", "code": {"text": "note"}}


@pytest.mark.usefixtures("patient", "ward")
async def test_nothing_is_told_of_what_changed_nothing(client: httpx.AsyncClient) -> None:
    await client.put("CarePlan/plan", json=PLAN)
    await client.put("CarePlan/plan", json=PLAN, headers={"if-match": 'W/"1"'})
    await client.post("CarePlan", json={"resourceType": "CarePlan"})
    await client.get("CarePlan/plan")
    assert len(await told(client)) == 1


@pytest.mark.usefixtures("ward")
async def test_a_provenance_of_the_caller_s_own_does_not_stand_for_the_server_s(
    client: httpx.AsyncClient,
) -> None:
    own = {
        "resourceType": "Provenance",
        "target": [{"reference": "Basic/b"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "somebody else"}}],
    }
    assert (await client.post("Provenance", json=own)).status_code == 201
    assert len(await told(client)) == 2


@pytest.mark.usefixtures("patient")
async def test_without_an_organisation_there_is_none(client: httpx.AsyncClient) -> None:
    await client.put("CarePlan/plan", json=PLAN)
    assert await told(client) == []
