"""The project's value sets, concept maps and naming systems, against R4 and against the rules."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.fhir import canonicals
from fhir_server.terminology.known import Verdict, is_member
from fhir_server.terminology.shipped import shipped
from fhir_server.terminology.translation import NO_MATCH, Asked, matches
from fhir_server.validation.structure import check_resource
from operations._aftercare import _AFTERCARE_STATUSES
from operations._leaving import died, left_for_hospital, was_planned
from tests.support import REPOSITORY

FOLDER: Final = REPOSITORY / "terminology"
FILES: Final = sorted(FOLDER.glob("*.json"))
KW: Final = canonicals.KW
UK: Final = "https://fhir.hl7.org.uk/CodeSystem"
DISPOSITION: Final = "http://terminology.hl7.org/CodeSystem/discharge-disposition"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def concept_map(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load(FOLDER / f"ConceptMap-{name}.json")
    return found


def codes(system: str) -> list[str]:
    held = shipped("CodeSystem", system)
    assert held is not None
    return [*held.system.concepts]


def meaning(name: str, system: str, code: str) -> str | None:
    found = [
        one.code
        for one in matches(concept_map(name), Asked(system, code))
        if one.equivalence not in NO_MATCH
    ]
    return found[0] if found else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_as_r4_defines_it(path: Path) -> None:
    resource = load(path)
    assert path.stem == f"{resource['resourceType']}-{resource['id']}"
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    assert check_resource(resource) == []
    if resource["resourceType"] != "NamingSystem":
        assert resource["url"] == f"{KW}/{resource['resourceType']}/{resource['id']}"
        assert resource["version"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("CodeSystem-*")), ids=lambda path: path.stem)
def test_each_code_system_has_a_value_set_of_all_its_codes(path: Path) -> None:
    system = load(path)
    value_set = f"{KW}/ValueSet/{system['id']}"
    for concept in system["concept"]:
        assert is_member(value_set, system["url"], concept["code"]) is Verdict.YES
    assert is_member(value_set, system["url"], "no-such-code") is Verdict.NO


def test_every_code_that_a_map_or_value_set_names_is_one() -> None:
    for path in FOLDER.glob("ConceptMap-*.json"):
        for group in load(path)["group"]:
            told = [one["code"] for one in group["element"]]
            assert sorted(told) == sorted(codes(group["source"])), (path.stem, group["source"])
            targets = {
                target["code"]
                for one in group["element"]
                for target in one["target"]
                if "code" in target
            }
            assert targets <= {*codes(group["target"])}, path.stem
    for path in FOLDER.glob("ValueSet-*.json"):
        for part in load(path)["compose"]["include"]:
            if "concept" in part and shipped("CodeSystem", part["system"]) is not None:
                assert {one["code"] for one in part["concept"]} <= {*codes(part["system"])}


@pytest.mark.parametrize("code", codes(canonicals.LEGAL_STATUS_CLASSIFICATION))
def test_the_map_to_section_117_says_what_the_rules_say(code: str) -> None:
    system = canonicals.LEGAL_STATUS_CLASSIFICATION
    told = meaning("legal-status-section-117", system, code)
    assert (told == "Y") is (code in _AFTERCARE_STATUSES)
    named = is_member(f"{KW}/ValueSet/section-117-legal-status", system, code)
    assert named is Verdict.of(told == "Y")


@pytest.mark.parametrize("system", ["UKCore-%sEngland", "NHSDataModelAndDictionary-%s"])
def test_the_map_of_admission_methods_says_what_the_rules_say(system: str) -> None:
    url = f"{UK}/{system % 'AdmissionMethod'}"
    for code in codes(url):
        told = {"coding": [{"system": url, "code": code}]}
        extension = {
            "url": canonicals.ADMISSION_METHOD_EXTENSION,
            "valueCodeableConcept": told,
        }
        stay = {"hospitalization": {"extension": [extension]}}
        found = meaning("admission-method-planning", url, code)
        assert (found == "planned") is was_planned(stay), code
        assert found == "unplanned" or not code.startswith("2")


@pytest.mark.parametrize(
    "system",
    [
        f"{UK}/UKCore-DischargeDestinationEngland",
        f"{UK}/NHSDataModelAndDictionary-DischargeDestination",
        DISPOSITION,
    ],
)
def test_the_map_of_discharge_destinations_says_what_the_rules_say(system: str) -> None:
    for code in codes(system):
        told = {"coding": [{"system": system, "code": code}]}
        stay = {"hospitalization": {"dischargeDisposition": told}}
        found = meaning("discharge-destination-meaning", system, code)
        assert (found == "transferred") is left_for_hospital(stay), code
        assert (found == "died") is died(stay), code


def test_naming_systems_name_the_identifiers_that_the_server_goes_by() -> None:
    named = {
        one["value"]
        for path in FOLDER.glob("NamingSystem-*.json")
        for one in load(path)["uniqueId"]
    }
    assert {canonicals.NHS_NUMBER, canonicals.ODS_ORGANIZATION, canonicals.ODS_SITE} <= named
