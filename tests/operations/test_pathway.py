"""The pathway on a server: moves by the operations and by plain updates alike.

Each guard is met and missed, whichever way the move is made.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import KEYWORKER, Chart, code_of, concept, extension_of
from tests.operations.messages import JSON, Spell
from tests.support import body, outcome_issues

NOW: Final = datetime.now(LOCAL).replace(microsecond=0)
PAUSE: Final = {"url": canonicals.STATUS_REASON_EXTENSION, "valueString": "Away for a month"}


async def episode(chart: Chart) -> JSON:
    (found,) = await chart.all("EpisodeOfCare")
    return found


async def operate(chart: Chart, code: str, **parameters: Any) -> httpx.Response:
    types: dict[type, str] = {str: "valueString", bool: "valueBoolean", dict: "valueReference"}
    names = {"to": "valueCode"} | ({"reason": "valueCode"} if code == "close" else {})
    given: list[JSON] = []
    for name, value in parameters.items():
        element = names.get(name) or types[type(value)]
        given.append({"name": name.replace("_", "-"), element: value})
    asked = {"resourceType": "Parameters", "parameter": given}
    found = await episode(chart)
    return await chart.client.post(f"EpisodeOfCare/{found['id']}/${code}", **body(asked))


async def by_operation(chart: Chart, to: str, reason: str = "") -> httpx.Response:
    given = {"reason": reason} if reason else {}
    return await operate(chart, "transition", to=to, **given)


STATUS: Final = {
    "referred": "planned",
    "consent-pending": "planned",
    "awaiting-allocation": "waitlist",
    "closed": "finished",
    "cancelled": "cancelled",
}


def moved(found: JSON, to: str, reason: str = "", **elements: Any) -> JSON:
    """The involvement as a client sends it to have it moved."""
    extensions: list[JSON] = [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": to}]
    sent = {**found, "status": STATUS.get(to, "active"), **elements}
    if reason:
        why = concept(canonicals.EPISODE_CLOSE_REASON, reason)
        extensions.append({"url": canonicals.CLOSE_REASON_EXTENSION, "valueCodeableConcept": why})
        sent["period"] = {**found["period"], "end": NOW.date().isoformat()}
    return {**sent, "extension": extensions}


async def by_update(chart: Chart, to: str, reason: str = "") -> httpx.Response:
    sent = moved(await episode(chart), to, reason)
    return await update(chart, sent)


async def update(chart: Chart, sent: JSON) -> httpx.Response:
    match = {"if-match": f'W/"{sent["meta"]["versionId"]}"'}
    given = body(sent)
    given["headers"] = {**given.get("headers", {}), **match}
    return await chart.client.put(f"EpisodeOfCare/{sent['id']}", **given)


async def by_transaction(chart: Chart, to: str, reason: str = "") -> httpx.Response:
    sent = moved(await episode(chart), to, reason)
    match = f'W/"{sent["meta"]["versionId"]}"'
    request = {"method": "PUT", "url": f"EpisodeOfCare/{sent['id']}", "ifMatch": match}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": request, "resource": sent}],
    }
    return await chart.client.post("", **body(bundle))


async def by_patch(chart: Chart, to: str, reason: str = "") -> httpx.Response:
    found = await episode(chart)
    sent = moved(found, to, reason)
    patch = [
        {"op": "add", "path": f"/{name}", "value": sent[name]}
        for name in ("status", "extension", "period")
    ]
    match = f'W/"{found["meta"]["versionId"]}"'
    headers = {"content-type": "application/json-patch+json", "if-match": match}
    return await chart.client.patch(f"EpisodeOfCare/{sent['id']}", json=patch, headers=headers)


WAYS: Final = [by_operation, by_update, by_transaction, by_patch]
every_way = pytest.mark.parametrize("way", WAYS)


def assert_moved(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 201), answer.text


def told(answer: httpx.Response) -> str:
    assert answer.status_code == 422, answer.text
    issues = outcome_issues(answer)
    assert {issue["code"] for issue in issues} == {"business-rule"}
    assert all(issue["expression"] for issue in issues)
    return "\n".join(issue["diagnostics"] for issue in issues)


async def visited(chart: Chart, status: str = "finished", **elements: Any) -> None:
    await chart.write(
        {
            "resourceType": "Encounter",
            "id": "visit",
            "status": status,
            "class": {"system": canonicals.ACT_CODE, "code": "HH"},
            "subject": {"reference": chart.patient},
            "period": {"start": (NOW - timedelta(days=1)).isoformat()},
            **elements,
        }
    )


async def without(chart: Chart, resource_type: str, resource_id: str, *names: str) -> None:
    """Written again without these elements."""
    found = (await chart.client.get(f"{resource_type}/{resource_id}")).json()
    await chart.write({name: value for name, value in found.items() if name not in names})


# Row by row of the pathway: met, and missed ------------------------------------------------------


@every_way
async def test_consent_pending_asks_for_consent(unknown: Chart, way: Any) -> None:
    await unknown.open(state="referred")
    await unknown.consent("keyworking", status="proposed")
    assert_moved(await way(unknown, "consent-pending"))
    found = await episode(unknown)
    assert (found["status"], await unknown.state()) == ("planned", "consent-pending")
    assert "obtain-consent" in await unknown.dues()


@every_way
async def test_awaiting_allocation_needs_a_consent_in_force(unknown: Chart, way: Any) -> None:
    await unknown.open(state="consent-pending")
    await unknown.consent("keyworking", status="proposed")
    assert "No consent to keyworking is in force" in told(await way(unknown, "awaiting-allocation"))
    assert await unknown.state() == "consent-pending"
    await unknown.consent("keyworking")
    assert_moved(await way(unknown, "awaiting-allocation"))
    assert (await episode(unknown))["status"] == "waitlist"


@pytest.mark.parametrize(
    "elements",
    [
        {"provision": {"type": "permit", "period": {"start": "2025-01-05", "end": "2025-02-05"}}},
        {"status": "rejected"},
        {
            "category": [
                concept(canonicals.ACT_CODE, "INFA"),
                concept(canonicals.CONSENT_CATEGORY, "register"),
            ]
        },
    ],
)
async def test_awaiting_allocation_takes_no_other_consent(unknown: Chart, elements: JSON) -> None:
    await unknown.open(state="consent-pending")
    consent = await unknown.consent("keyworking")
    if elements.get("status") == "rejected":
        await unknown.consent("keyworking", **elements)
    else:
        await unknown.write({**consent, **elements})
    assert "No consent" in told(await by_update(unknown, "awaiting-allocation"))


@every_way
async def test_information_gathering_needs_a_keyworker_and_opens_the_first_tasks(
    unknown: Chart, way: Any
) -> None:
    await unknown.open(state="awaiting-allocation")
    await without(unknown, "EpisodeOfCare", "involvement", "careManager", "team")
    if way is by_operation:
        assert "No keyworker is allocated" in told(await way(unknown, "information-gathering"))
    else:  # the profile says so as well, and first
        assert (await way(unknown, "information-gathering")).status_code == 422
    await unknown.write({**await episode(unknown), "careManager": KEYWORKER})
    assert_moved(await way(unknown, "information-gathering"))
    dues = await unknown.dues()
    assert dues["contact-family"] < dues["contact-mdt"] < dues["first-visit"]
    assert (await unknown.tasks())["contact-family"]["owner"] == KEYWORKER


@every_way
async def test_planning_needs_the_first_visit(unknown: Chart, way: Any) -> None:
    await unknown.open(state="information-gathering")
    assert "first visit has not taken place" in told(await way(unknown, "planning"))
    await visited(unknown, "planned")
    assert "first visit has not taken place" in told(await way(unknown, "planning"))
    await visited(unknown)
    assert_moved(await way(unknown, "planning"))
    assert "planning-visit" in await unknown.dues()


@pytest.mark.parametrize(
    "elements",
    [
        {"class": {"system": canonicals.ACT_CODE, "code": "EMER"}},
        {"period": {"start": "2020-03-01"}},
    ],
)
async def test_planning_takes_no_other_encounter_for_the_first_visit(
    unknown: Chart, elements: JSON
) -> None:
    await unknown.open(state="information-gathering")
    await visited(unknown, **elements)
    assert "first visit has not taken place" in told(await by_update(unknown, "planning"))


@every_way
async def test_plan_active_needs_a_goal_with_a_due_date_and_the_voice(
    older: Chart, way: Any
) -> None:
    """Both are told at once. The profiles ask for them too, where they are required."""
    await older.open(state="planning")
    await without(older, "CarePlan", "plan", "extension")
    goal = (await older.client.get("Goal/goal")).json()
    await older.write({**goal, "target": [{"measure": {"text": "Teas cooked"}}]})
    said = told(await way(older, "plan-active"))
    assert "give the day by which it is to be reached" in said
    assert "what the young person says" in said
    assert await older.state() == "planning"


async def test_plan_active_needs_a_goal_that_is_agreed(older: Chart) -> None:
    await older.open(state="planning")
    goal = (await older.client.get("Goal/goal")).json()
    del goal["extension"]
    await older.write({**goal, "lifecycleStatus": "proposed"})
    assert "agreed with the young person" in told(await by_update(older, "plan-active"))
    await older.write({**goal, "lifecycleStatus": "cancelled"})
    assert "The plan has no goal" in told(await by_update(older, "plan-active"))


@every_way
async def test_plan_active_makes_the_plan_and_its_goals_active(unknown: Chart, way: Any) -> None:
    await unknown.open(state="planning")
    plan = (await unknown.client.get("CarePlan/plan")).json()
    await unknown.write({**plan, "status": "draft"})
    goal = (await unknown.client.get("Goal/goal")).json()
    await unknown.write({**goal, "lifecycleStatus": "proposed"})
    assert_moved(await way(unknown, "plan-active"))
    active = (await unknown.client.get("CarePlan/plan")).json()
    assert (active["status"], active["period"]) == ("active", plan["period"])
    assert (await unknown.client.get("Goal/goal")).json()["lifecycleStatus"] == "active"


async def test_plan_active_is_when_the_plan_that_the_service_has_begun_comes_into_effect(
    unknown: Chart,
) -> None:
    """Else the days from the first visit to the plan would be none, whoever is visited."""
    await unknown.open(state="planning")
    plan = (await unknown.client.get("CarePlan/plan")).json()
    ten_days_ago = NOW - timedelta(days=10)
    begun = {"period": {"start": ten_days_ago.date().isoformat()}}
    drafted = {**plan, **begun, "status": "draft", "created": ten_days_ago.isoformat()}
    await unknown.write(drafted)
    assert_moved(await by_operation(unknown, "plan-active"))
    active = (await unknown.client.get("CarePlan/plan")).json()
    assert active["period"] == {"start": NOW.date().isoformat()}


@every_way
async def test_in_hospital_needs_a_stay(chart: Chart, way: Any) -> None:
    assert "no open stay in hospital" in told(await way(chart, "in-hospital"))


@pytest.mark.parametrize("state", ["information-gathering", "planning", "plan-active", "step-down"])
async def test_an_admission_moves_to_in_hospital_and_never_ends_the_involvement(
    unknown: Chart, state: str
) -> None:
    await unknown.open(state=state)
    await unknown.tell(Spell(unknown.nhs_number, NOW - timedelta(days=3)).admit())
    assert ((await episode(unknown))["status"], await unknown.state()) == ("active", "in-hospital")


async def test_an_admission_that_never_was_opens_nothing_anew(unknown: Chart) -> None:
    await unknown.open(state="awaiting-allocation")
    assert_moved(await by_update(unknown, "information-gathering"))
    before = await unknown.dues()
    first = (await unknown.tasks())["contact-family"]
    await unknown.write({**first, "restriction": {"period": {"end": "2026-12-24"}}})
    (plan,) = await unknown.all("CarePlan")
    await unknown.write({**plan, "status": "revoked"})
    spell = Spell(unknown.nhs_number, NOW - timedelta(days=3))
    await unknown.tell(spell.admit())
    stay = await unknown.stay()
    await unknown.write({**stay, "status": "entered-in-error"})
    assert await unknown.state() == "information-gathering"
    assert await unknown.dues() == {**before, "contact-family": "2026-12-24"}


async def test_an_admission_ends_a_pause(chart: Chart) -> None:
    found = await episode(chart)
    await chart.write({**found, "status": "onhold", "extension": [*found["extension"], PAUSE]})
    await chart.tell(Spell(chart.nhs_number, NOW - timedelta(days=3)).admit())
    assert ((await episode(chart))["status"], await chart.state()) == ("active", "in-hospital")


@every_way
async def test_discharge_planning_needs_the_discharge_plan_to_be_active(
    chart: Chart, way: Any
) -> None:
    await chart.tell(Spell(chart.nhs_number, NOW - timedelta(days=3)).admit())
    assert "discharge plan is not active" in told(await way(chart, "discharge-planning"))
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "status": "active"})
    assert_moved(await way(chart, "discharge-planning"))
    said = told(await way(chart, "plan-active"))
    assert "in hospital still" in said


@every_way
async def test_step_down_needs_amber_or_green_and_the_fourteen_days_to_be_over(
    chart: Chart, way: Any
) -> None:
    spell = Spell(chart.nhs_number, NOW - timedelta(days=20))
    await chart.tell(spell.admit())
    await chart.tell(spell.discharge(NOW - timedelta(days=13)))
    said = told(await way(chart, "step-down"))
    assert "The rating is red" in said
    assert "14 days after discharge are over on" in said
    assert await chart.state() == "plan-active"


@every_way
async def test_step_down_begins_on_the_fifteenth_day(chart: Chart, way: Any) -> None:
    spell = Spell(chart.nhs_number, NOW - timedelta(days=20))
    await chart.tell(spell.admit())
    await chart.tell(spell.discharge(NOW - timedelta(days=14)))
    await chart.rate("amber", NOW.isoformat())
    assert_moved(await way(chart, "step-down"))
    plans = [plan for plan in await chart.all("CarePlan") if _kind(plan) == "step-down-plan"]
    assert [plan["status"] for plan in plans] == ["active"]
    assert extension_of(plans[0], canonicals.NEXT_REVIEW_EXTENSION)["valueDate"]


def _kind(plan: JSON) -> str:
    return code_of(plan["category"][0])


async def test_whoever_gets_worse_goes_back_from_step_down(unknown: Chart) -> None:
    await unknown.open()
    assert_moved(await operate(unknown, "step-down", reason="Steadier for months"))
    assert_moved(await by_update(unknown, "plan-active"))
    kinds = {_kind(plan): plan["status"] for plan in await unknown.all("CarePlan")}
    assert kinds == {"keyworking-plan": "active", "step-down-plan": "revoked"}


@every_way
async def test_closed_needs_ended_tasks_and_goals(unknown: Chart, way: Any) -> None:
    await unknown.open(state="step-down")
    await unknown.write(
        {
            "resourceType": "Task",
            "id": "open",
            "status": "requested",
            "intent": "order",
            "code": concept(canonicals.TASK, "contact-mdt"),
            "for": {"reference": unknown.patient},
            "focus": {"reference": "EpisodeOfCare/involvement"},
            "authoredOn": "2026-01-05",
            "restriction": {"period": {"end": "2026-02-05"}},
        }
    )
    said = told(await way(unknown, "closed", "stepped-down"))
    assert "Task/open is open (contact-mdt)" in said
    assert "Goal/goal is active" in said
    await unknown.write({**(await unknown.tasks())["contact-mdt"], "status": "completed"})
    goal = (await unknown.client.get("Goal/goal")).json()
    await unknown.write({**goal, "lifecycleStatus": "completed"})
    assert_moved(await way(unknown, "closed", "stepped-down"))
    found = await episode(unknown)
    assert (found["status"], found["period"]["end"]) == ("finished", NOW.date().isoformat())
    assert [plan["status"] for plan in await unknown.all("CarePlan")] == ["completed"]
    consents = {one["id"]: one["status"] for one in await unknown.all("Consent")}
    assert consents == {"consent-keyworking": "inactive", "consent-register": "active"}


async def test_closed_needs_a_reason(unknown: Chart) -> None:
    await unknown.open(state="step-down")
    answer = await by_operation(unknown, "closed", "because")
    assert "It is not said why" in told(answer)


async def test_a_plan_that_goes_on_closes_for_no_reason_but_those_of_leaving(chart: Chart) -> None:
    assert "closed cannot follow plan-active" in told(
        await by_update(chart, "closed", "stepped-down")
    )
    goal = (await chart.client.get("Goal/goal")).json()
    await chart.write({**goal, "lifecycleStatus": "cancelled"})
    assert_moved(await by_update(chart, "closed", "moved-away"))


@every_way
@pytest.mark.parametrize("state", ["referred", "consent-pending", "awaiting-allocation"])
async def test_cancelled_ends_a_referral_and_what_was_asked_for(
    unknown: Chart, way: Any, state: str
) -> None:
    await unknown.open(state=state)
    assert_moved(await way(unknown, "cancelled", "declined"))
    assert (await episode(unknown))["status"] == "cancelled"
    answer = await by_operation(unknown, "consent-pending")
    assert "cannot follow cancelled" in told(answer)


@every_way
async def test_an_illegal_move_says_what_is_allowed(chart: Chart, way: Any) -> None:
    answer = await way(chart, "referred")
    said = told(answer)
    assert "referred cannot follow plan-active; allowed: in-hospital, step-down" in said
    assert await chart.state() == "plan-active"
