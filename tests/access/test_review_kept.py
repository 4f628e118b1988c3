"""Answers that were kept, asked for when less may be seen than when they were made."""

from typing import Any, Final

import httpx
import pytest

from fhir_server.access.decision import Decision
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from tests.access.conftest import As
from tests.access.deciding import CARE_TEAM, COLOUR, KEYWORKER, Decided, rating
from tests.jobs import finished, kicked_off
from tests.storage.questions import patient, put
from tests.support import FHIR_JSON

RATED: Final[dict[str, Any]] = {
    "category": [
        {"coding": [{"system": canonicals.FLAG_CATEGORY, "code": canonicals.DSR_ADMISSION_RISK}]}
    ]
}
LATER: Final = [COLOUR, Decision(0)]
"""What is decided after the consent has ended for the caller."""


@pytest.fixture
async def decided(app: Application, signed_in: As) -> Decided:
    await put(app.state.store, patient("p1"), rating("f1", "p1", **RATED))
    made = Decided({"p1": CARE_TEAM})
    signed_in(made)
    return made


@pytest.mark.parametrize("later", LATER, ids=["colour", "nothing"])
@pytest.mark.parametrize(
    "address",
    [
        "Flag?patient=p1",
        "Flag?patient=p1&_elements=author,encounter,code",
        "Patient/$export?_type=Flag",
        "Patient/p1/$admission-risk",
        "Patient/p1/$everything",
    ],
)
async def test_the_result_of_a_job_shows_what_is_seen_now(
    client: httpx.AsyncClient, decided: Decided, address: str, later: Decision
) -> None:
    """ATTACKS 6, 12."""
    job = await kicked_off(client, "GET", address)
    told = await _all(client, job)
    assert '"red"' in told
    decided.by_patient["p1"] = later
    told = await _all(client, job)
    assert "told in confidence" not in told
    assert later is COLOUR or '"red"' not in told


async def _all(client: httpx.AsyncClient, job: str) -> str:
    answer = await finished(client, job)
    told = answer.text
    if "output" in answer.json():
        for one in answer.json()["output"]:
            told += (await client.get(one["url"])).text
    return told


async def test_an_answer_that_is_repeated_shows_what_is_seen_now(
    client: httpx.AsyncClient, decided: Decided
) -> None:
    """ATTACKS 12."""
    decided.by_patient["p1"] = KEYWORKER
    headers = {**FHIR_JSON, "x-request-id": "again", "prefer": "return=representation"}
    flag = {**rating("x", "p1"), **RATED}
    del flag["id"]
    entries = [
        {"request": {"method": "POST", "url": "Flag"}, "resource": flag},
        {"request": {"method": "GET", "url": "Flag/f1"}},
        {"request": {"method": "GET", "url": "Patient/p1/$admission-risk"}},
    ]
    sent = json.encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    first = await client.post("", content=sent, headers=headers)
    assert "told in confidence" in first.text, first.text
    for later in LATER:
        decided.by_patient["p1"] = later
        again = await client.post("", content=sent, headers=headers)
        assert again.status_code == 200
        assert "told in confidence" not in again.text
        assert '"red"' not in again.text or later is COLOUR


async def test_who_saw_the_colour_from_the_beginning_keeps_what_they_saw(
    client: httpx.AsyncClient, decided: Decided
) -> None:
    decided.by_patient["p1"] = COLOUR
    decided.by_patient["p2"] = KEYWORKER
    headers = {**FHIR_JSON, "x-request-id": "again", "prefer": "return=representation"}
    goal = {"resourceType": "Goal", "lifecycleStatus": "active", "description": {"text": "swim"}}
    whose = {"subject": {"reference": "Patient/p2"}}
    entries = [
        {"request": {"method": "POST", "url": "Goal"}, "resource": {**goal, **whose}},
        {"request": {"method": "GET", "url": "Flag/f1"}},
        {"request": {"method": "GET", "url": "Flag?patient=p1&_elements=code"}},
    ]
    sent = json.encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    for _ in range(2):
        answer = await client.post("", content=sent, headers=headers)
        assert answer.text.count('"red"') == 2, answer.text
        assert "told in confidence" not in answer.text
