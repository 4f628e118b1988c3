"""What seems to keep a rule of the profiles and does not: the ways around it that were found."""

from collections.abc import Sequence
from typing import Any

import pytest

from fhir_server.fhir.canonicals import (
    CARE_TEAM_ROLE,
    DISCHARGE_DESTINATION,
    DISCHARGE_ITEM,
    NHS_PROXY_LEGAL_BASIS,
    URI_SYSTEM,
    UUID_SYSTEM,
    V2_EVENT,
)
from fhir_server.fhir.definitions import PROFILES
from fhir_server.terminology.shipped import shipped
from fhir_server.validation.checker import Checker
from tests.profiles.rules import load

CHECKER = Checker()
UK = "https://fhir.hl7.org.uk"
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


# Codes ---------------------------------------------------------------------------------------

CODED = [
    ("LegalStatusClassification", ("extension", 0, "extension", 1), "kw-inpatient-encounter-6"),
    ("DischargeMethod", ("extension", 2), "kw-inpatient-encounter-2"),
    ("AdmissionMethod", ("hospitalization", "extension", 0), "kw-inpatient-encounter-8"),
]


@pytest.mark.parametrize(("name", "place", "rule"), CODED, ids=lambda one: str(one)[:20])
def test_what_section_117_and_reviews_hang_on_is_a_code_of_its_system(
    name: str, place: Sequence[str | int], rule: str
) -> None:
    """Each of UK Core's for England passes; an unknown one was a warning."""
    system = f"{UK}/CodeSystem/UKCore-{name}England"
    held = shipped("CodeSystem", system)
    assert held is not None

    def told(*codings: Node) -> list[str | None]:
        stay = example("kw-inpatient-encounter", "discharged")
        at(stay, place)["valueCodeableConcept"] = {"coding": [*codings]}
        return errors(stay)

    known = [*held.system.concepts]
    assert len(known) >= 8
    for code in known:
        assert told({"system": system, "code": code}) == []
    for wrong in ({"system": system, "code": "77"}, {"system": system, "code": "99x"}):
        assert told(wrong) == [rule]
        assert told(wrong, {"system": system, "code": known[0]}) == []
    assert told({"code": known[0]}) == [rule]


@pytest.mark.parametrize("name", ["AdmissionMethod", "DischargeMethod"])
def test_the_older_name_of_a_code_system_of_stays_passes(name: str) -> None:
    """As what is done on an admission takes it."""
    stay = example("kw-inpatient-encounter", "discharged")
    (place,) = [one for coded, one, _ in CODED if coded == name]
    (coding,) = at(stay, place)["valueCodeableConcept"]["coding"]
    coding["system"] = f"{UK}/CodeSystem/NHSDataModelAndDictionary-{name}"
    assert errors(stay) == []


def test_a_legal_status_that_never_was_on_admission_is_none_of_admission() -> None:
    stay = example("kw-inpatient-encounter")
    (status,) = stay["extension"]
    (coding,) = status["extension"][0]["valueCodeableConcept"]["coding"]
    coding["system"] = "https://ward.example/CodeSystem/when"
    assert errors(stay) == ["kw-inpatient-encounter-7"]


def at(node: Any, place: Sequence[str | int]) -> Any:
    for step in place:
        node = node[step]
    return node


@pytest.mark.parametrize("profile", ["kw-care-team", "kw-consent", "kw-message-header"])
def test_of_two_codes_that_contradict_each_other_neither_counts(profile: str) -> None:
    """Who reads the first acts on another than who reads the last."""
    place, system, other = {
        "kw-care-team": (("participant", 0, "role", 0), CARE_TEAM_ROLE, "parent-carer"),
        "kw-consent": (("policyRule",), NHS_PROXY_LEGAL_BASIS, "best-interest"),
        "kw-message-header": (("reason",), V2_EVENT, "A03"),
    }[profile]
    resource = example(profile)
    at(resource, place)["coding"].append({"system": system, "code": other})
    assert errors(resource)


# References ----------------------------------------------------------------------------------

LED = [
    *(("kw-care-plan", "subject", "example"), ("kw-care-team", "subject", "example")),
    *(("kw-communication", one, "example") for one in ("subject", "about", "recipient")),
    *(("kw-consent", one, "example") for one in ("patient", "performer", "organization")),
    ("kw-discharge-plan", "encounter", "example"),
    *(
        ("kw-episode-of-care", one, "example")
        for one in ("patient", "careManager", "managingOrganization")
    ),
    *(("kw-goal", "subject", "example"), ("kw-goal", "addresses", "example")),
    *(("kw-inpatient-encounter", one, "example") for one in ("subject", "serviceProvider")),
    ("kw-provenance", "target", "example"),
    *(("kw-questionnaire-response", one, "example") for one in ("subject", "author")),
    *(("kw-rating-flag", one, "blue") for one in ("subject", "author", "encounter")),
    *(("kw-referral", one, "example") for one in ("subject", "requester", "supportingInfo")),
    ("kw-related-person", "patient", "example"),
    *(("kw-task", one, "example") for one in ("focus", "for")),
]


@pytest.mark.parametrize(("profile", "element", "which"), LED, ids=lambda one: str(one))
def test_who_and_what_has_to_be_there_is_led_to(profile: str, element: str, which: str) -> None:
    """By a reference or an identifier: a display alone, or a type beside it, leads nowhere."""
    resource = example(profile, which)
    repeats = isinstance(resource[element], list)

    def told(reference: Node) -> list[str | None]:
        return errors({**resource, element: [reference] if repeats else reference})

    kind = "Flag" if element == "supportingInfo" else None
    typed = {"type": kind} if kind else {}
    for nowhere in (WORDS, {**WORDS, **typed}, {"identifier": {"use": "official"}, **typed}):
        (rule,) = told(nowhere)
        assert str(rule).startswith(profile)
    assert told({**KNOWN, **typed}) == []


def test_the_keyworker_of_a_team_is_somebody() -> None:
    team = example("kw-care-team")
    team["participant"][0]["member"] = WORDS
    assert errors(team) == ["kw-care-team-1"]
    team["participant"][0]["member"] = KNOWN
    assert errors(team) == []


def test_competence_is_found_by_somebody() -> None:
    consent = example("kw-consent", "gillick")
    (competence,) = consent["extension"]
    (found_by,) = [one for one in competence["extension"] if one["url"] == "assessedBy"]
    found_by["valueReference"] = WORDS
    assert errors(consent) == ["kw-competence-1"]


# Consent -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "performer", "rule"),
    [
        ("gillick", {"reference": "RelatedPerson/dad"}, "kw-consent-4"),
        ("gillick", {**KNOWN, "type": "RelatedPerson"}, "kw-consent-4"),
        ("example", {**KNOWN, "type": "Practitioner"}, "kw-consent-4"),
        ("parental", {**KNOWN, "type": "Patient"}, "kw-consent-3"),
        ("best-interest", {**KNOWN, "type": "RelatedPerson"}, "kw-consent-5"),
    ],
)
def test_nobody_decides_on_a_legal_basis_that_is_not_theirs(
    which: str, performer: Node, rule: str
) -> None:
    """However they are named, and also as a Gillick consent."""
    assert errors({**example("kw-consent", which), "performer": [performer]}) == [rule]


def test_a_permit_below_a_denial_is_no_denial() -> None:
    consent = example("kw-consent")
    actor = consent["provision"]["provision"][0]["actor"]
    consent["provision"]["provision"][0]["provision"] = [{"type": "permit", "actor": actor}]
    assert errors(consent) == ["kw-consent-10"]


@pytest.mark.parametrize(
    "reason", [{"valueBoolean": True}, {"valueCodeableConcept": {"text": " "}}]
)
def test_a_reason_for_the_end_of_a_consent_says_something(reason: Node) -> None:
    consent = example("kw-consent", "ended")
    consent["extension"][0] = {"url": consent["extension"][0]["url"], **reason}
    assert "kw-consent-1" in errors(consent)


# Dates, words, numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("due", ["2026", "2026-07"])
def test_a_goal_is_not_due_in_some_month(due: str) -> None:
    goal = example("kw-goal")
    goal["target"][0]["dueDate"] = due
    assert errors(goal) == ["kw-goal-8"]


@pytest.mark.parametrize("text", [" " * 20, "\n\t " * 5, "Go out   \n    "])
def test_a_goal_of_blanks_is_none(text: str) -> None:
    assert errors({**example("kw-goal"), "description": {"text": text}}) == ["kw-goal-5"]


def test_a_goal_of_two_lines_is_one() -> None:
    goal = {**example("kw-goal"), "description": {"text": "  Two mornings\na week at school "}}
    assert errors(goal) == []


def test_a_professional_does_not_accept_a_goal_for_the_young_person() -> None:
    goal = example("kw-goal")
    individual = goal["extension"][0]["extension"][0]
    individual["valueReference"] = {"reference": "Practitioner/1"}
    assert errors(goal) == ["kw-goal-2"]
    goal["extension"].append(
        {
            "url": goal["extension"][0]["url"],
            "extension": [
                {"url": "individual", "valueReference": {"reference": "RelatedPerson/1"}},
                {"url": "status", "valueCode": "agree"},
            ],
        }
    )
    assert errors(goal) == []


@pytest.mark.parametrize("number", [str(digit) * 10 for digit in range(10)])
def test_a_digit_ten_times_is_no_nhs_number(number: str) -> None:
    """Though its last digit fits the nine before it."""
    patient = example("kw-patient")
    patient["identifier"][0]["value"] = number
    assert errors(patient) == ["kw-patient-5"]


@pytest.mark.parametrize(
    ("system", "value", "broken"),
    [
        (UUID_SYSTEM, "6F1D2C3A-0000-4000-8000-000000000000", []),
        (URI_SYSTEM, "urn:uuid:6f1d2c3a-0000-4000-8000-000000000000", []),
        ("https://ward.example/messages", "6f1d2c3a-0000-4000-8000-000000000000", []),
        (URI_SYSTEM, "urn:not a uuid", ["kw-event-message-6"]),
        (URI_SYSTEM, "urn:uuid:not-a-uuid", ["kw-event-message-6"]),
        (URI_SYSTEM, "6f1d2c3a-0000-4000-8000-000000000000", ["kw-event-message-6"]),
        (UUID_SYSTEM, "6f1d2c3a-0000-4000-8000-00000000000", ["kw-event-message-6"]),
        (UUID_SYSTEM, "1", ["kw-event-message-6"]),
    ],
)
def test_a_message_is_known_by_a_uuid(system: str, value: str, broken: Sequence[str]) -> None:
    message = example("kw-event-message", "admission")
    assert errors({**message, "identifier": {"system": system, "value": value}}) == broken


# Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ({"linkId": "sleep", "answer": [{"valueBoolean": True}]}, 5),
        ({"linkId": "Serious-harm", "answer": [{"valueBoolean": True}]}, 5),
        ({"linkId": "factors", "answer": [{"valueCoding": {"code": "school"}}]}, 7),
        ({"linkId": "factors", "item": [{"linkId": "serious-harm"}]}, 6),
    ],
)
def test_answers_are_to_the_questions_that_are_asked(item: Node, rule: int) -> None:
    answers = example("kw-questionnaire-response")
    answers["item"][12] = item
    found = [issue for issue in CHECKER.check(answers).issues if issue.severity == "error"]
    assert [(issue.rule, issue.expression) for issue in found] == [
        (f"kw-questionnaire-response-{rule}", "QuestionnaireResponse.item[12]")
    ]


# Discharge plans -----------------------------------------------------------------------------


def contained_plan(**changes: Any) -> Node:
    """A plan with one item as a Task in itself, the others coded."""
    plan = example("kw-discharge-plan")
    coded = [one for one in plan["activity"] if item_of(one) != "dp-home"]
    task = {
        "resourceType": "Task",
        "id": "home",
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": DISCHARGE_ITEM, "code": "dp-home"}]},
        "for": plan["subject"],
        **changes,
    }
    return {**plan, "contained": [task], "activity": [*coded, *to_tasks("#home")]}


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"for": {"reference": "Patient/another"}}, ["kw-discharge-plan-1"]),
        ({"code": {"text": "Anything"}}, ["kw-discharge-plan-1"]),
        (
            {"code": {"coding": [{"system": DISCHARGE_ITEM, "code": "dp-ra"}]}},
            ["kw-discharge-plan-1"],
        ),
    ],
)
def test_a_task_in_the_plan_is_an_item_and_for_the_same_person(
    changes: Node, broken: Sequence[str]
) -> None:
    assert errors(contained_plan(**changes)) == broken


def test_a_task_in_thirteen_versions_is_one_task() -> None:
    versions = [f"Task/1/_history/{n}" for n in range(1, 14)]
    plan = {**example("kw-discharge-plan"), "activity": to_tasks(*versions)}
    assert errors(plan) == ["kw-discharge-plan-1"]
