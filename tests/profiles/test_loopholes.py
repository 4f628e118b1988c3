"""What seems to keep a rule of the profiles and does not: the ways around it that were found."""

from collections.abc import Sequence
from typing import Any

import pytest

from fhir_server.fhir.canonicals import DISCHARGE_DESTINATION, DISCHARGE_ITEM
from fhir_server.fhir.definitions import PROFILES
from fhir_server.terminology.shipped import shipped
from fhir_server.validation.checker import Checker
from tests.profiles.rules import load

CHECKER = Checker()
Node = dict[str, Any]


def example(name: str, which: str = "example") -> Node:
    found: Node = load(PROFILES / name / "examples" / f"valid-{which}.json")
    return found


def errors(resource: Node) -> list[str | None]:
    """The rules that it breaks."""
    return [issue.rule for issue in CHECKER.check(resource).issues if issue.severity == "error"]


def to_tasks(*references: str) -> list[Node]:
    return [{"reference": {"reference": one}} for one in references]


TASKS = [f"Task/{n}" for n in range(13)]


@pytest.mark.parametrize(
    ("activity", "broken"),
    [
        (to_tasks("Task/1"), ["kw-discharge-plan-1"]),
        (to_tasks(*["Task/1"] * 13), ["kw-discharge-plan-1"]),
        (to_tasks(*TASKS[1:]), ["kw-discharge-plan-1"]),
        (to_tasks(*TASKS[1:], "Appointment/1"), ["kw-discharge-plan-1"]),
        ([{"reference": {"display": one}} for one in TASKS], ["kw-discharge-plan-1"]),
        (to_tasks(*TASKS), []),
        (to_tasks(*(f"https://elsewhere.example/fhir/{one}" for one in TASKS)), []),
    ],
)
def test_each_item_of_a_discharge_plan_has_a_task_of_its_own(
    activity: Sequence[Node], broken: Sequence[str]
) -> None:
    assert errors({**example("kw-discharge-plan"), "activity": activity}) == broken


@pytest.mark.parametrize(("tasks", "broken"), [(1, []), (0, ["kw-discharge-plan-1"])])
def test_one_item_may_be_a_task_and_the_others_coded(tasks: int, broken: Sequence[str]) -> None:
    plan = example("kw-discharge-plan")
    coded = [one for one in plan["activity"] if item_of(one) != "dp-home"]
    assert errors({**plan, "activity": [*coded, *to_tasks(*TASKS[:tasks])]}) == broken


def item_of(activity: Node) -> str:
    (coding,) = activity["detail"]["code"]["coding"]
    assert coding["system"] == DISCHARGE_ITEM
    return str(coding["code"])


WORDS = {"display": "somebody"}
KNOWN = {"identifier": {"system": "https://elsewhere.example/Id", "value": "1"}}


@pytest.mark.parametrize(
    ("profile", "element", "rule"),
    [
        ("kw-care-plan", "careTeam", "kw-care-plan-1"),
        ("kw-care-plan", "goal", "kw-care-plan-2"),
        ("kw-episode-of-care", "team", "kw-episode-of-care-5"),
    ],
)
def test_a_reference_that_leads_nowhere_refers_to_nothing(
    profile: str, element: str, rule: str
) -> None:
    def told(reference: Node) -> set[str | None]:
        resource = {**example(profile), element: [reference]}
        return {issue.rule for issue in CHECKER.check(resource).issues}

    assert rule in told(WORDS)
    assert rule not in told(KNOWN)


def test_a_pathway_state_that_is_none_is_told_once() -> None:
    """By its binding; to which status it belongs, nobody can say."""
    episode = example("kw-episode-of-care")
    (state,) = [one for one in episode["extension"] if one["url"].endswith("/pathway-state")]
    state["valueCode"] = "waiting"
    found = [issue for issue in CHECKER.check(episode).issues if issue.severity == "error"]
    assert [issue.rule for issue in found] == ["binding"]
    assert str(found[0].expression).startswith("EpisodeOfCare.extension[")


@pytest.mark.parametrize("left", [0, 1])
def test_what_a_legal_status_lacks_is_told_once(left: int) -> None:
    """By the slices of UK Core's extension, not also by how many parts it has in all."""
    stay = example("kw-inpatient-encounter")
    (status,) = stay["extension"]
    status["extension"] = status["extension"][:left] or [{"url": "x", "valueString": "y"}]
    found = [issue for issue in CHECKER.check(stay).issues if issue.rule == "min"]
    assert len(found) == 2 - left, found
    assert all("of the slice legalStatus" in issue.text for issue in found)


def test_a_finished_stay_ends_at_a_place_of_the_code_system() -> None:
    """At any of its codes, and at nothing that only has its name."""
    held = shipped("CodeSystem", DISCHARGE_DESTINATION)
    assert held is not None
    known = [*held.system.concepts]
    assert len(known) > 20

    def told(*codings: Node) -> list[str | None]:
        stay = example("kw-inpatient-encounter", "discharged")
        stay["hospitalization"]["dischargeDisposition"] = {"coding": [*codings]}
        return errors(stay)

    for code in known:
        assert told({"system": DISCHARGE_DESTINATION, "code": code}) == []
    nowhere = {"system": DISCHARGE_DESTINATION, "code": "ZZ"}
    assert told(nowhere) == ["kw-inpatient-encounter-3"]
    assert told(nowhere, {"system": DISCHARGE_DESTINATION, "code": "19"}) == []
    assert told({"system": "https://ward.example/where-to", "code": "19"}) != []
