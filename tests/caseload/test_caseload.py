"""The synthetic caseload: what holds for all of it, whatever the seed and the day."""

import json
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.caseload import generate
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.caseload.reading import AS_OF, Caseload, Json, bundles, code_of, extension, parts, state

TERMINOLOGY = Path(__file__).parents[2] / "terminology"
HTEST = {"system": canonicals.ACT_REASON, "code": "HTEST", "display": "test health data"}
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
