"""The states of the pathway, row by row: what may follow, the status, what each move demands."""

import json
from typing import Final

import pytest

from fhir_server.errors import Issue
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.operation.pathway import Pathway
from operations.pathway.case import Case
from operations.pathway.guards import guards, missing
from operations.pathway.states import CLOSE_REASONS, STATUS, SUCCESSORS, may_follow, statuses
from tests.operations.messages import JSON
from tests.support import REPOSITORY

NOW: Final = interval("2026-06-15T12:00:00+01:00").low
ROWS: Final = {
    "referred": ("planned", {"consent-pending", "cancelled"}),
    "consent-pending": ("planned", {"awaiting-allocation", "cancelled"}),
    "awaiting-allocation": ("waitlist", {"information-gathering", "cancelled"}),
    "information-gathering": ("active", {"planning", "in-hospital"}),
    "planning": ("active", {"plan-active", "in-hospital"}),
    "plan-active": ("active", {"in-hospital", "step-down"}),
    "in-hospital": ("active", {"discharge-planning"}),
    "discharge-planning": ("active", {"plan-active", "step-down"}),
    "step-down": ("active", {"plan-active", "in-hospital", "closed"}),
    "closed": ("finished", set[str]()),
    "cancelled": ("cancelled", set[str]()),
}
"""Written out from the service's table, not from the code."""


def involvement(state: str, status: str | None = None, **elements: object) -> JSON:
    return {
        "resourceType": "EpisodeOfCare",
        "status": status or ROWS[state][0],
        "extension": [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}],
        **elements,
    }


def case(**facts: object) -> Case:
    return Case(**{"now": NOW, "pathway": Pathway(), **facts})  # type: ignore[arg-type]


def texts(issues: list[Issue]) -> str:
    return "\n".join(issue.text for issue in issues)


def test_the_states_are_those_of_the_code_system() -> None:
    path = REPOSITORY / "terminology" / "CodeSystem-pathway-state.json"
    published = [concept["code"] for concept in json.loads(path.read_text())["concept"]]
    assert published == [*ROWS] == [*SUCCESSORS] == [*STATUS]


def test_the_reasons_to_close_are_those_of_the_code_system() -> None:
    path = REPOSITORY / "terminology" / "CodeSystem-episode-close-reason.json"
    published = [concept["code"] for concept in json.loads(path.read_text())["concept"]]
    assert published == [*CLOSE_REASONS]


@pytest.mark.parametrize("state", ROWS)
def test_state_goes_on_to_what_its_row_says_and_nowhere_else(state: str) -> None:
    allowed = ROWS[state][1]
    assert set(SUCCESSORS[state]) == allowed
    for to in ROWS:
        refused = texts(missing(case(), involvement(state), involvement(to)))
        is_illegal = f"{to} cannot follow {state}" in refused
        assert is_illegal == (to not in allowed and to != state), to


@pytest.mark.parametrize("state", ROWS)
def test_state_has_the_status_of_its_row(state: str) -> None:
    status = ROWS[state][0]
    pausable = state in ("information-gathering", "planning", "plan-active", "step-down")
    assert statuses(state) == ((status, "onhold") if pausable else (status,))
    for other in ("planned", "waitlist", "active", "finished", "cancelled"):
        found = missing(case(), involvement(state), involvement(state, other))
        assert bool(found) == (other != status), other


@pytest.mark.parametrize("state", ROWS)
def test_state_closes_early_only_under_way_and_for_a_reason_of_leaving(state: str) -> None:
    under_way = ROWS[state][0] == "active"
    assert ("closed" in may_follow(state, "deceased")) == under_way
    assert ("closed" in may_follow(state, "stepped-down")) == (state == "step-down")
    assert ("closed" in may_follow(state, None)) == (state == "step-down")


@pytest.mark.parametrize(
    ("current", "to", "named"),
    [
        ("referred", "consent-pending", ["referral_stands"]),
        ("consent-pending", "awaiting-allocation", ["consent_is_active"]),
        (
            "awaiting-allocation",
            "information-gathering",
            ["consent_is_active", "keyworker_is_named"],
        ),
        (
            "information-gathering",
            "planning",
            ["consent_has_not_ended", "first_visit_is_over"],
        ),
        (
            "planning",
            "plan-active",
            ["consent_has_not_ended", "plan_is_written", "goal_is_smart", "voice_is_recorded"],
        ),
        ("plan-active", "in-hospital", ["stay_is_open"]),
        ("in-hospital", "discharge-planning", ["discharge_plan_is_active"]),
        ("discharge-planning", "plan-active", ["stay_is_over"]),
        (
            "plan-active",
            "step-down",
            ["consent_has_not_ended", "rating_is_steady", "hold_is_over", "stay_is_over"],
        ),
        ("step-down", "plan-active", ["consent_has_not_ended", "plan_is_written"]),
        ("step-down", "closed", ["reason_is_given", "tasks_are_ended", "goals_are_ended"]),
        ("referred", "cancelled", ["reason_is_given"]),
    ],
)
def test_move_demands(current: str, to: str, named: list[str]) -> None:
    assert [guard.__name__ for guard in guards(current, to)] == named


@pytest.mark.parametrize(
    ("colour", "steady"),
    [("green", True), ("amber", True), ("red", False), ("blue", False), (None, False)],
)
def test_step_down_is_for_amber_and_green(colour: str | None, steady: bool) -> None:
    found = missing(case(colour=colour), involvement("plan-active"), involvement("step-down"))
    assert (found == []) == steady


@pytest.mark.parametrize(
    ("facts", "over"),
    [
        ({"left": interval("2026-06-02").low}, False),
        ({"left": interval("2026-06-01").low}, True),
        ({"held_until": "2026-06-16"}, False),
        ({"held_until": "2026-06-15"}, True),
        ({"left": interval("2026-06-02").low, "pathway": Pathway(red_hold_days=7)}, True),
    ],
)
def test_step_down_waits_for_the_days_after_a_discharge(facts: JSON, over: bool) -> None:
    judged = case(colour="green", **facts)
    found = missing(judged, involvement("plan-active"), involvement("step-down"))
    assert (found == []) == over


def test_referred_goes_on_to_consent_pending_only_while_the_referral_stands() -> None:
    revoked = {"resourceType": "ServiceRequest", "id": "r", "status": "revoked"}
    moves = involvement("referred"), involvement("consent-pending")
    assert "refer anew" in texts(missing(case(referrals=[revoked]), *moves))
    assert missing(case(referrals=[{**revoked, "status": "active"}]), *moves) == []


def test_awaiting_allocation_needs_the_legal_basis() -> None:
    moves = involvement("consent-pending"), involvement("awaiting-allocation")
    without: JSON = {"status": "active"}
    assert "no legal basis" in texts(missing(case(consents=[without]), *moves))
    given = {**without, "policyRule": {"text": "consent"}}
    assert missing(case(consents=[without, given]), *moves) == [], "one that has it is enough"


@pytest.mark.parametrize(
    ("element", "told"),
    [
        ("Goal.description", {"description": {"text": "Cook tea"}}),
        ("Goal.target.measure", {"target": [{"dueDate": "2026-09-30"}]}),
        ("Goal.target.dueDate", {"target": [{"measure": {"text": "Teas cooked"}}]}),
        ("Goal.addresses", {"addresses": []}),
        ("Goal.lifecycleStatus", {"lifecycleStatus": "proposed"}),
    ],
)
def test_plan_active_needs_each_part_of_a_smart_goal(element: str, told: JSON) -> None:
    goal = {
        "resourceType": "Goal",
        "lifecycleStatus": "accepted",
        "description": {"text": "I want to cook tea for my nan"},
        "target": [{"measure": {"text": "Teas cooked"}, "dueDate": "2026-09-30"}],
        "addresses": [{"reference": "Condition/eating"}],
    }
    moves = involvement("planning"), involvement("plan-active")
    places = [
        {issue.expression for issue in missing(case(plan_goals=[one]), *moves)}
        for one in (goal, {**goal, **told})
    ]
    assert places[1] - places[0] == {element}


def test_discharge_planning_needs_the_plan_of_the_stay_that_goes_on() -> None:
    stay = {"resourceType": "Encounter", "id": "now", "status": "in-progress"}
    moves = involvement("in-hospital"), involvement("discharge-planning")

    def plan(of: str) -> JSON:
        hangs_on = {"reference": f"Encounter/{of}"}
        return {"resourceType": "CarePlan", "status": "active", "encounter": hangs_on}

    before = case(open_stays=[stay], discharge_plans=[plan("before")])
    assert "discharge plan is not active" in texts(missing(before, *moves))
    both = case(open_stays=[stay], discharge_plans=[plan("before"), plan("now")])
    assert missing(both, *moves) == []


def test_everything_that_is_missing_is_told_at_once_and_where() -> None:
    found = missing(case(consent_ended=True), involvement("planning"), involvement("plan-active"))
    assert [issue.expression for issue in found] == [
        "Consent.status",
        "CarePlan",
        "CarePlan.goal",
        f"CarePlan.extension.where(url = '{canonicals.YOUNG_PERSONS_VOICE_EXTENSION}')",
    ]


def test_cancelled_is_no_stepping_down() -> None:
    why = {"coding": [{"system": canonicals.EPISODE_CLOSE_REASON, "code": "stepped-down"}]}
    after = involvement("cancelled")
    after["extension"] += [{"url": canonicals.CLOSE_REASON_EXTENSION, "valueCodeableConcept": why}]
    said = texts(missing(case(), involvement("referred"), after))
    assert "'stepped-down' is no reason for that" in said


def test_entered_in_error_is_taken_in_every_state() -> None:
    for state in ROWS:
        assert not missing(case(), involvement(state), involvement(state, "entered-in-error"))
