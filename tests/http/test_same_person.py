"""A plan, an involvement and a rating refer to what is of the same young person."""

from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir.definitions import PROFILES
from tests.profiles.rules import load
from tests.support import assert_outcome, body, outcome_issues

Json = dict[str, Any]
CASES: Final = [
    ("kw-care-plan", "example", "CareTeam", "careTeam", "careTeam[0]"),
    ("kw-care-plan", "example", "Goal", "goal", "goal[0]"),
    ("kw-discharge-plan", "example", "Encounter", "encounter", "encounter"),
    ("kw-episode-of-care", "example", "CareTeam", "team", "team[0]"),
    ("kw-rating-flag", "blue", "Encounter", "encounter", "encounter"),
]
_NEEDED: Final[dict[str, Json]] = {
    "CareTeam": {"status": "active"},
    "Goal": {"lifecycleStatus": "proposed", "description": {"text": "To sleep at home"}},
    "Encounter": {"status": "planned", "class": {"code": "IMP"}},
}


def example(profile: str, which: str, element: str, reference: str) -> Json:
    """With that one reference there, to a resource that a test stores."""
    found: Json = load(PROFILES / profile / "examples" / f"valid-{which}.json")
    led = {"reference": reference}
    return {**found, element: [led] if isinstance(found[element], list) else led}


async def store(client: httpx.AsyncClient, kind: str, name: str, whose: str) -> None:
    made = {"resourceType": kind, "id": name, **_NEEDED[kind], "subject": {"reference": whose}}
    stored = await client.put(f"{kind}/{name}", **body(made))
    assert stored.status_code == 201, stored.text


@pytest.mark.parametrize(("profile", "which", "kind", "element", "place"), CASES)
async def test_what_is_of_somebody_else_is_refused(
    client: httpx.AsyncClient, profile: str, which: str, kind: str, element: str, place: str
) -> None:
    await store(client, kind, "theirs", "Patient/somebody-else")
    sent = example(profile, which, element, f"{kind}/theirs")
    address = f"{sent['resourceType']}/{sent['id']}"
    refused = await client.put(address, **body(sent))
    expected = f"{sent['resourceType']}.{place}"
    assert_outcome(refused, 422, "business-rule", f"{kind}/theirs is not of Patient/", expected)
    assert (await client.get(address)).status_code == 404
    validated = await client.post(f"{sent['resourceType']}/$validate", **body(sent))
    assert "is not of Patient/" in outcome_issues(validated)[-1]["diagnostics"]
    await store(client, kind, "own", f"{client.base_url}Patient/kw-patient-example")
    taken = await client.put(address, **body(example(profile, which, element, f"{kind}/own")))
    assert taken.status_code == 201, taken.text


async def test_plans_of_others_are_left_alone(client: httpx.AsyncClient) -> None:
    """Only the service's own are meant."""
    await store(client, "Goal", "one", "Patient/somebody-else")
    plan = {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "subject": {"reference": "Patient/1"},
        "goal": [{"reference": "Goal/one"}],
    }
    assert (await client.post("CarePlan", **body(plan))).status_code == 201
