"""The synthetic caseload: what holds for every young person, whatever the seed and the day."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.caseload import generate
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.discharge import DISCHARGE_ITEMS

Json = dict[str, Any]

AS_OF = date(2025, 3, 3)
TERMINOLOGY = Path(__file__).parents[2] / "terminology"
HTEST = {"system": canonicals.ACT_REASON, "code": "HTEST", "display": "test health data"}
CHOICES = [(7, AS_OF), (1, date(2024, 2, 29)), (2, date(2026, 8, 30)), (99, date(2027, 1, 1))]


@cache
def bundles(seed: int = 7, as_of: date = AS_OF) -> tuple[Json, ...]:
    return tuple(generate(seed, as_of))


class Caseload:
    def __init__(self, seed: int, as_of: date) -> None:
        self.as_of = as_of.isoformat()
        self.bundles = bundles(seed, as_of)
        self.by_type: dict[str, list[Json]] = defaultdict(list)
        for resource in self:
            self.by_type[resource["resourceType"]].append(resource)

    def __iter__(self) -> Iterator[Json]:
        return (entry["resource"] for bundle in self.bundles for entry in bundle["entry"])

    def of(self, kind: str, patient: str, **elements: str) -> list[Json]:
        return [
            resource
            for resource in self.by_type[kind]
            if subject(resource) == patient
            and all(resource[name] == value for name, value in elements.items())
        ]

    def patients(self) -> Iterator[str]:
        return (f"Patient/{patient['id']}" for patient in self.by_type["Patient"])

    def episode(self, patient: str) -> Json:
        (episode,) = self.of("EpisodeOfCare", patient)
        return episode

    def ratings(self, patient: str) -> list[Json]:
        return [
            flag
            for flag in self.of("Flag", patient)
            if any(has_code(c, canonicals.FLAG_CATEGORY) for c in flag.get("category", []))
        ]

    def consents(self, patient: str, category: str, status: str) -> list[Json]:
        return [
            consent
            for consent in self.of("Consent", patient, status=status)
            if code_of(consent["category"][1]) == category
        ]

    def open_stays(self, patient: str) -> list[Json]:
        stays = self.of("Encounter", patient, status="in-progress")
        return [stay for stay in stays if stay["class"]["code"] == "IMP"]

    def age(self, patient: str) -> int:
        born = self.born(patient)
        return int(self.as_of[:4]) - int(born[:4]) - (self.as_of[5:] < born[5:])

    def born(self, patient: str) -> str:
        (found,) = [p for p in self.by_type["Patient"] if f"Patient/{p['id']}" == patient]
        birth_date: str = found["birthDate"]
        return birth_date


@pytest.fixture(params=CHOICES, ids=lambda choice: f"seed {choice[0]} as of {choice[1]}")
def caseload(request: pytest.FixtureRequest) -> Caseload:
    return Caseload(*request.param)


def subject(resource: Json) -> str | None:
    for name in ("subject", "patient", "for"):
        if name in resource:
            target: str = resource[name]["reference"]
            return target
    return None


def code_of(concept: Json) -> str:
    code: str = concept["coding"][0]["code"]
    return code


def has_code(concept: Json, system: str) -> bool:
    return any(coding["system"] == system for coding in concept.get("coding", []))


def extension(resource: Json, url: str) -> Any:
    """The value of an extension, or None."""
    for one in resource.get("extension", []):
        if one["url"] == url:
            return next(value for name, value in one.items() if name != "url")
    return None


def state(episode: Json) -> str:
    value: str = extension(episode, canonicals.PATHWAY_STATE_EXTENSION)
    return value


def parts(value: Any) -> Iterator[Json]:
    """Every JSON object inside a value, itself first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)


# The whole


def test_all_pathway_states_are_there_and_two_young_people_are_in_hospital(
    caseload: Caseload,
) -> None:
    counts = Counter(map(state, caseload.by_type["EpisodeOfCare"]))
    known = json.loads((TERMINOLOGY / "CodeSystem-pathway-state.json").read_text("utf-8"))
    assert counts.keys() == {concept["code"] for concept in known["concept"]}
    assert (counts["in-hospital"], counts["discharge-planning"]) == (1, 1)
    assert sum(counts.values()) == 30


def test_eleven_young_people_are_enough_for_all_states() -> None:
    small = [e["resource"] for b in generate(7, AS_OF, 11) for e in b["entry"]]
    episodes = [r for r in small if r["resourceType"] == "EpisodeOfCare"]
    assert len({state(episode) for episode in episodes}) == 11


def test_a_caseload_without_young_people_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one young person"):
        next(generate(7, AS_OF, 0))


def test_the_same_seed_and_day_give_the_same_bytes() -> None:
    assert json.dumps([*generate(7, AS_OF)]) == json.dumps(bundles())


def test_another_seed_gives_other_people_under_the_same_ids() -> None:
    def ids(seed: int) -> list[str]:
        return [p["id"] for p in Caseload(seed, AS_OF).by_type["Patient"]]

    assert bundles(7) != bundles(8)
    assert ids(7) == ids(8)


def test_a_larger_caseload_begins_with_the_same_people() -> None:
    assert [*generate(7, AS_OF, 60)][:31] == list(bundles())[:31]


def test_each_entry_puts_a_resource_at_its_own_address_once(caseload: Caseload) -> None:
    addresses = []
    for bundle in caseload.bundles:
        assert bundle["type"] == "transaction"
        for entry in bundle["entry"]:
            body = entry["resource"]
            address = f"{body['resourceType']}/{body['id']}"
            assert entry["request"] == {"method": "PUT", "url": address}
            addresses.append(address)
    assert len(addresses) == len(set(addresses))


def test_every_reference_points_to_what_came_before_or_stands_in_the_same_bundle(
    caseload: Caseload,
) -> None:
    known: set[str] = set()
    for bundle in caseload.bundles:
        known |= {entry["request"]["url"] for entry in bundle["entry"]}
        named = {part["reference"] for part in parts(bundle) if type(part.get("reference")) is str}
        assert named - known == set()


def test_every_resource_is_read_by_the_typed_models_without_change(caseload: Caseload) -> None:
    for resource in caseload:
        model = get_fhir_model_class(resource["resourceType"])
        assert json.loads(model.model_validate(resource).model_dump_json()) == resource


def test_every_code_of_the_project_is_in_its_code_system(caseload: Caseload) -> None:
    known = {
        (system["url"], concept["code"])
        for path in TERMINOLOGY.glob("CodeSystem-*.json")
        for system in [json.loads(path.read_text("utf-8"))]
        for concept in system["concept"]
    }
    used = {
        (part["system"], part["code"])
        for part in parts([*caseload])
        if str(part.get("system")).startswith(canonicals.KW) and "code" in part
    }
    assert used
    assert used - known == set()


def test_only_verified_snomed_codes_are_used(caseload: Caseload) -> None:
    used = {p["code"] for p in parts([*caseload]) if p.get("system") == canonicals.SNOMED_CT}
    assert used == {"310117003", "828821000000105", "408451000", "310134006"}


def test_the_marker_comes_last_and_names_seed_day_and_everyone(caseload: Caseload) -> None:
    *_, last = caseload
    assert (last["resourceType"], last["id"]) == ("Provenance", "kw-synthetic-caseload")
    assert "seed" in last["activity"]["text"]
    assert caseload.as_of in last["activity"]["text"]
    assert [target["reference"] for target in last["target"]] == [*caseload.patients()]


# Nobody's record


def test_everything_is_tagged_as_test_data(caseload: Caseload) -> None:
    assert all(HTEST in resource["meta"]["tag"] for resource in caseload)


def test_every_family_name_is_visibly_synthetic(caseload: Caseload) -> None:
    names = [name for resource in caseload for name in people_names(resource)]
    assert names
    assert all(name["family"].startswith("Synthetic-") for name in names)


def people_names(resource: Json) -> list[Json]:
    names = resource.get("name", [])
    return names if isinstance(names, list) else []


def test_nhs_numbers_are_valid_unique_and_of_the_test_range(caseload: Caseload) -> None:
    numbers = [p["identifier"][0]["value"] for p in caseload.by_type["Patient"]]
    assert len(set(numbers)) == 30
    assert all(number.startswith("999") and nhs_number.is_valid(number) for number in numbers)


def test_ages_lie_within_the_service_and_both_sexes_are_there(caseload: Caseload) -> None:
    ages = {caseload.age(patient) for patient in caseload.patients()}
    assert min(ages) < 10
    assert max(ages) > 18
    assert ages <= set(range(5, 25))
    assert {p["gender"] for p in caseload.by_type["Patient"]} == {"female", "male"}


# Rating and stay


def test_nobody_has_more_than_one_active_rating(caseload: Caseload) -> None:
    for patient in caseload.patients():
        active = [flag for flag in caseload.ratings(patient) if flag["status"] == "active"]
        assert len(active) <= 1


def test_a_rating_is_blue_exactly_during_an_open_stay(caseload: Caseload) -> None:
    for patient in caseload.patients():
        blue = [
            flag
            for flag in caseload.ratings(patient)
            if flag["status"] == "active" and code_of(flag["code"]) == "blue"
        ]
        stays = [f"Encounter/{stay['id']}" for stay in caseload.open_stays(patient)]
        assert [flag["encounter"]["reference"] for flag in blue] == stays


def test_an_ended_rating_says_why_and_meets_the_next_one(caseload: Caseload) -> None:
    for patient in caseload.patients():
        history = caseload.ratings(patient)
        for before, after in pairwise(history):
            assert before["period"]["end"] == after["period"]["start"]
        for flag in history:
            ended = extension(flag, canonicals.RATING_END_REASON_EXTENSION) is not None
            assert ended == (flag["status"] == "inactive") == ("end" in flag["period"])


def test_a_stay_is_open_exactly_in_the_two_states_of_hospital(caseload: Caseload) -> None:
    for patient in caseload.patients():
        inside = state(caseload.episode(patient)) in ("in-hospital", "discharge-planning")
        assert len(caseload.open_stays(patient)) == inside


def test_a_stay_has_its_spell_legal_status_and_admission_method(caseload: Caseload) -> None:
    stays = [e for e in caseload.by_type["Encounter"] if e["class"]["code"] == "IMP"]
    assert len(stays) == 3
    assert len({(s["identifier"][0]["system"], s["identifier"][0]["value"]) for s in stays}) == 3
    for stay in stays:
        assert extension(stay, canonicals.LEGAL_STATUS_EXTENSION)
        assert extension(stay["hospitalization"], canonicals.ADMISSION_METHOD_EXTENSION)


def test_one_young_person_is_home_and_held_red_for_two_weeks(caseload: Caseload) -> None:
    held = [
        flag
        for flag in caseload.by_type["Flag"]
        if extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION)
    ]
    (flag,) = held
    until = date.fromisoformat(extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION))
    assert (until - date.fromisoformat(flag["period"]["start"])).days == 14
    assert (code_of(flag["code"]), flag["status"]) == ("red", "active")
    assert until.isoformat() > caseload.as_of


def test_a_discharge_plan_has_the_fourteen_items_of_the_code_system(caseload: Caseload) -> None:
    known = json.loads((TERMINOLOGY / "CodeSystem-discharge-item.json").read_text("utf-8"))
    due = {item["code"]: item["property"][2]["valueInteger"] for item in known["concept"]}
    texts = {item["code"]: item["display"] for item in known["concept"]}
    assert {item.code: item.days for item in DISCHARGE_ITEMS} == due
    assert {item.code: item.text for item in DISCHARGE_ITEMS} == texts
    plans = [p for p in caseload.by_type["CarePlan"] if p["id"].endswith("-discharge")]
    assert sorted(plan["status"] for plan in plans) == ["active", "completed", "draft"]
    for plan in plans:
        assert [code_of(a["detail"]["code"]) for a in plan["activity"]] == list(due)


def test_someone_ready_to_leave_and_still_there_has_a_reason_for_the_delay(
    caseload: Caseload,
) -> None:
    (plan,) = [
        p
        for p in caseload.by_type["CarePlan"]
        if p["id"].endswith("-discharge") and p["status"] == "active"
    ]
    assert extension(plan, canonicals.CLINICALLY_READY_EXTENSION) <= caseload.as_of
    assert extension(plan, canonicals.PLANNED_DISCHARGE_EXTENSION) > caseload.as_of
    assert extension(plan, canonicals.DELAY_REASON_EXTENSION)


# Consent


def test_nobody_is_on_the_register_without_consent_to_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        if any(flag["status"] == "active" for flag in caseload.ratings(patient)):
            (consent,) = caseload.consents(patient, "register", "active")
            assert consent["provision"]["period"]["end"] > caseload.as_of


def test_no_rating_is_older_than_the_consent_to_the_register(caseload: Caseload) -> None:
    for patient in caseload.patients():
        given = min(c["dateTime"][:10] for c in caseload.of("Consent", patient))
        assert all(flag["period"]["start"] >= given for flag in caseload.ratings(patient))


def test_no_keyworking_without_consent_to_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        if episode["status"] in ("waitlist", "active"):
            (consent,) = caseload.consents(patient, "keyworking", "active")
            assert consent["provision"]["period"]["end"] > caseload.as_of
        pending = caseload.consents(patient, "keyworking", "proposed")
        assert bool(pending) == (state(episode) == "consent-pending")


def test_a_parent_never_decides_for_someone_of_sixteen(caseload: Caseload) -> None:
    for patient in caseload.patients():
        for consent in caseload.of("Consent", patient):
            if code_of(consent["policyRule"]) != "parental-responsibility":
                continue
            carer = consent["performer"][0]["reference"].partition("/")[2]
            (related,) = [r for r in caseload.by_type["RelatedPerson"] if r["id"] == carer]
            assert caseload.age(patient) < 16
            held = extension(related, canonicals.PARENTAL_RESPONSIBILITY_EXTENSION)[0]
            assert held == {"url": "held", "valueBoolean": True}


def test_a_parents_decision_ends_before_the_birthday_that_ends_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        for consent in caseload.of("Consent", patient):
            if code_of(consent["policyRule"]) == "parental-responsibility":
                born = caseload.born(patient)
                limit = 13 if caseload.age(patient) < 13 else 16
                birthday = f"{int(born[:4]) + limit}{born[4:]}"
                assert consent["provision"]["period"]["end"] < birthday


def test_every_recipient_of_a_consent_has_a_role(caseload: Caseload) -> None:
    for consent in caseload.by_type["Consent"]:
        for actor in consent["provision"]["actor"]:
            assert actor["role"]
            assert actor["reference"]


# The pathway


def test_a_keyworker_and_a_team_come_with_allocation(caseload: Caseload) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        allocated = episode["status"] in ("active", "finished")
        assert ("careManager" in episode) == allocated == bool(caseload.of("CareTeam", patient))


def test_the_status_history_ends_in_the_status_of_today(caseload: Caseload) -> None:
    for episode in caseload.by_type["EpisodeOfCare"]:
        *past, now = episode["statusHistory"]
        assert now["status"] == episode["status"]
        assert "end" not in now["period"]
        assert all("end" in one["period"] for one in past)


def test_a_closed_or_cancelled_episode_says_why_and_leaves_no_task_open(
    caseload: Caseload,
) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        over = episode["status"] in ("finished", "cancelled")
        assert bool(extension(episode, canonicals.CLOSE_REASON_EXTENSION)) == over
        if over:
            assert caseload.of("Task", patient, status="requested") == []


def test_the_family_is_contacted_before_the_team(caseload: Caseload) -> None:
    for patient in caseload.patients():
        due = {
            code_of(task["code"]): task["restriction"]["period"]["end"]
            for task in caseload.of("Task", patient)
        }
        if "contact-mdt" in due:
            assert due["contact-family"] < due["contact-mdt"]


def test_an_active_plan_has_the_young_persons_voice_and_a_goal(caseload: Caseload) -> None:
    plans = [p for p in caseload.by_type["CarePlan"] if p["status"] == "active"]
    assert plans
    for plan in plans:
        assert extension(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION)["text"]
        assert plan["goal"]


def test_goals_are_smart(caseload: Caseload) -> None:
    for goal in caseload.by_type["Goal"]:
        (target,) = goal["target"]
        assert len(goal["description"]["text"]) >= 10
        assert target["measure"]["text"]
        assert target["detailString"]
        assert target["dueDate"] > goal["startDate"]
        assert goal["addresses"]
        assert goal["note"][0]["text"]
        individual, agreed = extension(goal, canonicals.GOAL_ACCEPTANCE_EXTENSION)
        assert individual["valueReference"]["reference"] == goal["subject"]["reference"]
        pending = goal["lifecycleStatus"] == "proposed"
        assert agreed["valueCode"] == ("pending" if pending else "agree")


def test_an_active_goal_is_not_yet_due(caseload: Caseload) -> None:
    active = [g for g in caseload.by_type["Goal"] if g["lifecycleStatus"] == "active"]
    assert active
    assert all(goal["target"][0]["dueDate"] > caseload.as_of for goal in active)


def test_nothing_that_has_happened_lies_in_the_future(caseload: Caseload) -> None:
    for encounter in caseload.by_type["Encounter"]:
        assert encounter["period"]["start"][:10] <= caseload.as_of
    for task in caseload.by_type["Task"]:
        assert task["authoredOn"][:10] <= caseload.as_of
    for consent in caseload.by_type["Consent"]:
        assert consent["dateTime"][:10] <= caseload.as_of


def test_what_was_said_differs_from_one_young_person_to_the_next(caseload: Caseload) -> None:
    voices = {
        plan["subject"]["reference"]: extension(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION)[
            "text"
        ]
        for plan in caseload.by_type["CarePlan"]
    }
    assert len(set(voices.values())) == len(voices)


def test_a_task_is_done_no_later_than_the_day_of_the_caseload(caseload: Caseload) -> None:
    for task in caseload.by_type["Task"]:
        done = task["status"] == "completed"
        assert ("executionPeriod" in task) == done
        if done:
            period = task["executionPeriod"]
            assert task["authoredOn"][:10] <= period["end"] <= caseload.as_of
            assert period["start"] <= period["end"]


def test_a_visit_and_the_task_for_it_fall_on_the_same_day(caseload: Caseload) -> None:
    for patient in caseload.patients():
        done = {
            code_of(task["code"]): task["executionPeriod"]["end"]
            for task in caseload.of("Task", patient, status="completed")
        }
        visits = {
            visit["type"][0]["text"]: visit["period"]["start"][:10]
            for visit in caseload.of("Encounter", patient)
            if "type" in visit
        }
        assert done.get("first-visit") == visits.get("First visit")
        assert done.get("planning-visit") == visits.get("Planning visit")
