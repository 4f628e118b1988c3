"""The profiles fit the service: what it writes and what it must take keeps their rules."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES
from tests.operations.chart import Chart
from tests.operations.conftest import chart as chart
from tests.operations.conftest import unknown as unknown
from tests.operations.messages import Spell
from tests.profiles.kinds import profile_of
from tests.profiles.rules import all_rules, broken, load
from tests.support import caseload, official_examples

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
WRITTEN = ("Flag", "CarePlan", "Task", "EpisodeOfCare", "Consent", "Goal", "CareTeam")
RESOURCES = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]


@pytest.mark.parametrize("kind", sorted({profile_of(one) or "none" for one in RESOURCES}))
def test_the_synthetic_caseload_keeps_every_rule(kind: str) -> None:
    found = [one for one in RESOURCES if (profile_of(one) or "none") == kind]
    assert {one["id"]: told for one in found if kind != "none" if (told := broken(kind, one))} == {}


def test_the_synthetic_caseload_has_resources_of_many_profiles() -> None:
    assert len({profile_of(one) for one in RESOURCES} - {None}) == 15


def _errors(resource: dict[str, Any]) -> list[str]:
    name = profile_of(resource)
    if name is None:
        return []
    errors = {rule.name for rule in all_rules(name) if rule.severity == "error"}
    return [rule for rule in broken(name, resource) if rule in errors]


async def _all_errors(chart: Chart) -> dict[str, list[str]]:
    found = [one for kind in WRITTEN for one in await chart.all(kind)]
    return {f"{one['resourceType']}/{one['id']}": told for one in found if (told := _errors(one))}


async def test_what_an_admission_and_a_discharge_write_breaks_no_rule(chart: Chart) -> None:
    spell = Spell(chart.nhs_number, ADMITTED, legal_status="03")
    await chart.tell(spell.admit())
    assert await _all_errors(chart) == {}
    await chart.tell(spell.discharge(ADMITTED + timedelta(days=20)))
    assert await _all_errors(chart) == {}
    assert len(await chart.all("Task")) > 5


async def test_what_an_admission_in_error_leaves_breaks_no_rule(chart: Chart) -> None:
    spell = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(spell.admit())
    await chart.tell(spell.update(status="entered-in-error"))
    assert await _all_errors(chart) == {}


async def test_what_an_admission_of_somebody_unknown_writes_breaks_no_rule(unknown: Chart) -> None:
    spell = Spell(unknown.nhs_number, ADMITTED, birth_date="2010-05-14")
    said = await unknown.tell(spell.admit())
    (plan,) = [text for text in said if text.startswith("The discharge plan is draft")]
    answer = await unknown.client.get(plan.rpartition(" ")[2])
    assert profile_of(answer.json()) == "kw-discharge-plan"
    assert _errors(answer.json()) == []


@pytest.mark.parametrize("path", official_examples())
def test_no_rule_is_applied_to_what_others_send_unless_they_say_so(path: Any) -> None:
    """By category and type: none of the real inputs says that it is the service's own."""
    text = path.read_text("utf-8")
    for system in ("FLAG_CATEGORY", "CARE_PLAN_CATEGORY", "CONSENT_CATEGORY", "EPISODE_TYPE"):
        assert getattr(canonicals, system) not in text
    assert canonicals.KW not in text


@pytest.mark.parametrize("path", official_examples("*message*.json"))
def test_messages_of_others_may_lack_what_our_own_profile_asks_for(path: Any) -> None:
    """They are taken, so that profile is what senders should aim at and not a condition."""
    assert broken("kw-event-message", load(path)) != []


async def test_examples_of_messages_are_acted_on(unknown: Chart) -> None:
    folder = PROFILES / "kw-event-message" / "examples"
    said = await unknown.tell(load(folder / "valid-admission.json"))
    assert any(text.startswith("The discharge plan is draft") for text in said)
    left = load(folder / "valid-discharge.json")
    left["identifier"]["value"] = "6f1d2c3a-0000-4000-8000-000000000001"
    assert any("Follow-up within 72 hours" in text for text in await unknown.tell(left))


async def test_valid_examples_are_stored_as_they_are(unknown: Chart) -> None:
    """Each is of a record of its own: together they would be one that contradicts itself."""
    for number, path in enumerate(sorted(PROFILES.glob("*/examples/valid-*.json"))):
        text = re.sub(r'("reference": "\w+)/\w[^"]*"', rf'\1/of-{number}"', path.read_text("utf-8"))
        resource = json.loads(text)
        if resource["resourceType"] == "AuditEvent":
            continue  # the server alone writes them
        stored = await unknown.write(resource)
        assert stored["meta"]["tag"] == resource["meta"]["tag"], path
