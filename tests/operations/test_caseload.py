"""Practitioner/$caseload"""

from datetime import datetime

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.operation.pathway import Pathway
from fhir_server.storage.interface import Store
from operations._calendar import working_days_after
from operations.caseload import load_of
from tests.operations.asking import counted, got, named, parts
from tests.operations.chart import Chart, concept
from tests.operations.messages import JSON
from tests.operations.parameters import definition, problems
from tests.support import assert_outcome, put

POST = "PractitionerRole/post"


def involvement(serial: int, manager: str, status: str = "active") -> list[JSON]:
    state = {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "plan-active"}
    return [
        {
            "resourceType": "Patient",
            "id": f"p{serial}",
            "name": [{"family": f"Synthetic-{serial}"}],
        },
        {
            "resourceType": "EpisodeOfCare",
            "id": f"e{serial}",
            "extension": [state],
            "status": status,
            "type": [concept(canonicals.EPISODE_TYPE, "keyworking")],
            "patient": {"reference": f"Patient/p{serial}"},
            "managingOrganization": {"display": "The host"},
            "careManager": {"reference": manager},
            "team": [{"reference": "CareTeam/any"}],
            "period": {"start": "2026-01-05", **({"end": "2026-02-01"} if _over(status) else {})},
        },
    ]


def _over(status: str) -> bool:
    return status == "finished"


def task(serial: int, due: str, status: str = "requested") -> JSON:
    return {
        "resourceType": "Task",
        "id": f"t{serial}-{due}",
        "status": status,
        "intent": "order",
        "code": concept(canonicals.TASK, "first-visit"),
        "for": {"reference": f"Patient/p{serial}"},
        "focus": {"reference": f"EpisodeOfCare/e{serial}"},
        "authoredOn": "2026-01-01",
        "restriction": {"period": {"end": due}},
        **({"executionPeriod": {"end": "2026-02-20"}} if status == "completed" else {}),
    }


@pytest.fixture
async def keyworker(older: Chart, client: httpx.AsyncClient) -> httpx.AsyncClient:
    """In one post with p1, by themselves with p2; p3 is over, p4 another's."""
    person = {"reference": "Practitioner/kw"}
    written: list[JSON] = [
        {"resourceType": "Practitioner", "id": "kw"},
        {"resourceType": "PractitionerRole", "id": "post", "practitioner": person},
        *involvement(1, POST),
        *involvement(2, "Practitioner/kw", "planned"),
        *involvement(3, POST, "finished"),
        *involvement(4, "Practitioner/another"),
        task(1, "2099-02-01"),
        task(1, "2026-02-01"),
        task(1, "2025-02-01", "completed"),
    ]
    for resource in written:
        await put(older.client, resource)
    return client


async def test_tells_involvements_states_and_what_is_due_next(keyworker: httpx.AsyncClient) -> None:
    answer = await got(keyworker, "Practitioner/kw/$caseload")
    assert problems(answer, definition("caseload.json")) == []
    first, second = map(parts, named(answer, "involvement"))
    assert first["episode"] == {"reference": "EpisodeOfCare/e1"}
    assert first["patient"] == {"reference": "Patient/p1", "display": "Synthetic-1"}
    assert first["state"] == "plan-active"
    assert parts({"part": first["next-task"]}) == {
        "task": {"reference": "Task/t1-2026-02-01"},
        "due": "2026-02-01",
        "overdue": True,
    }
    assert first["overdue"] == 1
    assert second["episode"] == {"reference": "EpisodeOfCare/e2"}
    # There is no consent, so the server asks for it.
    asked_for = working_days_after(datetime.now(LOCAL).date(), 5).isoformat()
    assert parts({"part": second["next-task"]})["due"] == asked_for
    assert second["overdue"] == 0


async def test_of_a_post_is_what_is_done_in_it(keyworker: httpx.AsyncClient) -> None:
    answer = await got(keyworker, f"{POST}/$caseload")
    assert [parts(one)["episode"]["reference"] for one in named(answer, "involvement")] == [
        "EpisodeOfCare/e1"
    ]
    assert named(answer, "count")[0]["valueInteger"] == 1
    assert named(answer, "target")[0]["valueInteger"] == 10


@pytest.mark.parametrize(
    ("count", "load"), [(0, "green"), (12, "green"), (13, "amber"), (15, "amber"), (16, "red")]
)
def test_is_amber_above_the_warning_and_red_above_the_limit(count: int, load: str) -> None:
    assert load_of(count, Pathway()) == load


async def test_of_nobody_is_not_found(client: httpx.AsyncClient) -> None:
    assert_outcome(await client.get("Practitioner/x/$caseload"), 404, "not-found", "not known")


async def test_asks_four_questions_however_many_there_are(
    keyworker: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(store, monkeypatch) as questions:
        await got(keyworker, "Practitioner/kw/$caseload")
    assert questions == ["PractitionerRole", "EpisodeOfCare", "Patient", "Task"]
