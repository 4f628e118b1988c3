"""The Tasks that a discharge plan refers to are its checklist.

docs/profiles/kw-discharge-plan.md
"""

from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir.canonicals import DISCHARGE_ITEM
from fhir_server.fhir.definitions import PROFILES
from tests.profiles.rules import load
from tests.support import assert_outcome, body, outcome_issues

Json = dict[str, Any]
_PLAN: Final = PROFILES / "kw-discharge-plan" / "examples" / "valid-example.json"
_TASK: Final = PROFILES / "kw-task" / "examples" / "valid-example.json"


def item(code: str, **changes: Any) -> Json:
    """A Task of the service that is an item of the checklist."""
    task: Json = load(_TASK)
    concept = {"coding": [{"system": DISCHARGE_ITEM, "code": code}]}
    return {**task, "id": code, "code": concept, **changes}


def plan(*references: str, without: tuple[str, ...], **changes: Any) -> Json:
    """The example with Tasks in the place of some coded items."""
    made: Json = load(_PLAN)
    coded = [one for one in made["activity"] if _code(one) not in without]
    tasks = [{"reference": {"reference": one}} for one in references]
    return {**made, "activity": [*coded, *tasks], **changes}


def _code(activity: Json) -> str:
    return str(activity["detail"]["code"]["coding"][0]["code"])


async def store(client: httpx.AsyncClient, task: Json) -> None:
    stored = await client.put(f"Task/{task['id']}", **body(task))
    assert stored.status_code == 201, stored.text


async def send(client: httpx.AsyncClient, sent: Json) -> httpx.Response:
    return await client.put(f"CarePlan/{sent['id']}", **body(sent))


BOTH: Final = ("dp-home", "dp-ra")


async def test_items_that_are_tasks_are_taken(client: httpx.AsyncClient) -> None:
    for code in BOTH:
        await store(client, item(code))
    references = ("Task/dp-home", f"{client.base_url}Task/dp-ra")
    taken = await send(client, plan(*references, without=BOTH))
    assert taken.status_code == 201, taken.text


@pytest.mark.parametrize(
    ("task", "said", "is_of_one"),
    [
        (item("dp-home", **{"for": {"reference": "Patient/other"}}), "is not for Patient/", True),
        (item("dp-funding", id="dp-home"), "dp-funding stands in the plan already", True),
        (load(_TASK) | {"id": "dp-home"}, "The checklist lacks dp-home: add", False),
    ],
)
async def test_others_are_refused_with_their_place(
    client: httpx.AsyncClient, task: Json, said: str, is_of_one: bool
) -> None:
    await store(client, task)
    sent = plan("Task/dp-home", without=("dp-home",))
    last = f"[{len(sent['activity']) - 1}].reference" if is_of_one else ""
    refused = await send(client, sent)
    assert_outcome(refused, 422, "business-rule", said, f"CarePlan.activity{last}")
    validated = await client.post("CarePlan/$validate", **body(sent))
    assert said in outcome_issues(validated)[-1]["diagnostics"]


async def test_one_task_does_not_stand_for_another_that_is_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    """Those that are not here are believed, each for one item."""
    elsewhere = plan("Task/unknown", "https://other.example/fhir/Task/1", without=BOTH)
    assert (await send(client, elsewhere)).status_code == 201
    await store(client, load(_TASK) | {"id": "visit"})
    sent = plan("Task/unknown", "Task/visit", without=BOTH)
    assert_outcome(await send(client, sent), 422, "business-rule", "lacks dp-home, dp-ra")


async def test_other_tasks_may_stand_beside_the_checklist(client: httpx.AsyncClient) -> None:
    await store(client, load(_TASK) | {"id": "visit"})
    assert (await send(client, plan("Task/visit", without=()))).status_code == 201


async def test_a_draft_may_be_anything_yet(client: httpx.AsyncClient) -> None:
    await store(client, item("dp-home", **{"for": {"reference": "Patient/other"}}))
    draft = plan("Task/dp-home", without=("dp-home",), status="draft")
    assert (await send(client, draft)).status_code == 201
