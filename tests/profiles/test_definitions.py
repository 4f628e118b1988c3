"""The project's profiles and extensions, against R4's own tables and UK Core's definitions."""

import json
import re
import tarfile
from functools import cache
from typing import Any

import pytest
from fhir.resources.R4B.structuredefinition import StructureDefinition
from fhir.resources.R4B.valueset import ValueSet

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import ElementDefinition, is_resource_type, type_definition
from fhir_server.validation.structure import check_resource
from tests.profiles.rules import (
    FOLDERS,
    TERMINOLOGY,
    Element,
    all_rules,
    codes_of,
    definition,
    element_type,
    elements,
    is_extension,
    load,
    own,
    rules,
)
from tests.support import SHARED, needs_package

NAMES = [folder.name for folder in FOLDERS]
OURS = [name for name in NAMES if definition(name)["url"].startswith(canonicals.KW)]
"""Not those that somebody has added."""
PROFILES = [name for name in OURS if not is_extension(name)]
EXTENSIONS = [name for name in OURS if is_extension(name)]
UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/"
UK_CORE_PACKAGE = SHARED / "fhir" / "uk.core.r4.tgz"
VALUE_SETS = sorted(TERMINOLOGY.glob("ValueSet-*.json"))


def test_there_are_the_profiles_and_extensions_that_clients_are_written_against() -> None:
    assert set(PROFILES) == {
        *("kw-patient", "kw-related-person", "kw-episode-of-care", "kw-consent"),
        *("kw-rating-flag", "kw-care-plan", "kw-discharge-plan", "kw-step-down-plan"),
        *("kw-transition-plan", "kw-goal", "kw-care-team", "kw-task", "kw-inpatient-encounter"),
        *("kw-referral", "kw-questionnaire", "kw-questionnaire-response", "kw-communication"),
        *("kw-provenance", "kw-audit-event", "kw-event-message", "kw-message-header"),
    }
    assert {canonicals.structure_definition(name) for name in EXTENSIONS} == {
        value
        for name, value in vars(canonicals).items()
        if name.endswith("_EXTENSION") and value.startswith(canonicals.KW)
    }


@pytest.mark.parametrize("name", NAMES)
def test_is_a_valid_structure_definition_named_as_its_folder(name: str) -> None:
    found = definition(name)
    StructureDefinition.model_validate(found)
    assert check_resource(found, expected_type="StructureDefinition") == []
    assert found["id"] == name
    assert found["url"].endswith(f"/StructureDefinition/{name}")
    assert (found["fhirVersion"], found["derivation"]) == ("4.0.1", "constraint")
    assert "snapshot" not in found


@pytest.mark.parametrize("name", NAMES)
def test_says_what_its_elements_mean(name: str) -> None:
    """All but those that only say how slices are told apart."""
    assert definition(name)["description"].endswith(".")
    ids = [element["id"] for element in elements(name)]
    assert len(set(ids)) == len(ids)
    for element in elements(name):
        assert element["path"] == re.sub(r":[^.]+", "", element["id"])
        if {"min", "max", "binding", "type"} & element.keys() and not element["id"].endswith(
            ".url"
        ):
            assert element.get("short"), element["id"]
        for constraint in element.get("constraint", ()):
            assert len(constraint["human"]) > 20


@pytest.mark.parametrize("name", PROFILES)
def test_stands_on_uk_core_where_that_has_a_parent(name: str) -> None:
    found = definition(name)
    base = found["baseDefinition"]
    if own(base):
        assert definition(str(own(base)))["type"] == found["type"]
    elif found["type"] == "Goal":
        assert base == "http://hl7.org/fhir/StructureDefinition/Goal"
    else:
        assert base == f"{UK_CORE}UKCore-{found['type']}"


@needs_package
@pytest.mark.parametrize("name", NAMES)
def test_leans_on_definitions_that_uk_core_has(name: str) -> None:
    text = json.dumps(definition(name))
    named = set(re.findall(rf"{UK_CORE}([A-Za-z-]+)", text)) - {"Extension-UKCore"}
    assert not named - uk_core().keys()
    base = definition(name)["baseDefinition"]
    if base.startswith(UK_CORE):
        assert uk_core()[base.removeprefix(UK_CORE)]["type"] == definition(name)["type"]
    assert not any("goal" in other.lower() for other in uk_core())


@cache
def uk_core() -> dict[str, Any]:
    """UK Core's StructureDefinitions by name."""
    found = {}
    with tarfile.open(UK_CORE_PACKAGE) as package:
        for member in package:
            if "StructureDefinition-" in member.name:
                content = json.loads(package.extractfile(member).read())  # type: ignore[union-attr]
                found[content["url"].removeprefix(UK_CORE)] = content
    return found


@pytest.mark.parametrize("name", NAMES)
def test_narrows_what_r4_has(name: str) -> None:
    """Each path is there, and nothing is looser than in the base."""
    for element in elements(name):
        if "." in element["path"]:
            _assert_narrows(element, _r4(element["path"]))


def _r4(path: str) -> ElementDefinition:
    """KeyError where R4 has no such path; of a choice, the first of its types."""
    parent, _, last = path.rpartition(".")
    within = type_definition(element_type(parent.replace("value[x]", "valueCodeableConcept")))
    choice = last.removesuffix("[x]")
    return within.elements[within.choices[choice][0] if choice != last else last]


def _assert_narrows(element: Element, base: ElementDefinition) -> None:
    assert element.get("min", base.min) >= base.min
    if "min" in element and "sliceName" not in element:
        assert element["min"] > base.min, f"{element['id']} has that min in R4"
    if "max" in element and base.max is not None:
        assert int(element["max"]) < base.max, f"{element['id']} has that max in R4"
    for one in element.get("type", ()):
        targets = [target.rpartition("/")[2] for target in one.get("targetProfile", ())]
        assert set(targets) <= set(base.targets or targets)
        assert _is_of_base(element, one["code"], base)


def _is_of_base(element: Element, code: str, base: ElementDefinition) -> bool:
    parent, _, last = element["path"].rpartition(".")
    if last.endswith("[x]"):
        return (
            f"{last[:-3]}{code[0].upper()}{code[1:]}"
            in type_definition(element_type(parent)).choices[last[:-3]]
        )
    return code == base.type or (base.type == "Resource" and is_resource_type(code))


@pytest.mark.parametrize("name", NAMES)
def test_binds_to_value_sets_that_have_codes(name: str) -> None:
    for element in elements(name):
        if "binding" in element:
            assert element["binding"]["strength"] in ("required", "extensible")
            assert all(codes for _, codes in codes_of(element["binding"]["valueSet"]))


@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_has_valid_value_sets(path: Any) -> None:
    found = load(path)
    ValueSet.model_validate(found)
    assert check_resource(found, expected_type="ValueSet") == []
    assert found["url"] == f"{canonicals.KW}/ValueSet/{path.stem.removeprefix('ValueSet-')}"


def test_gives_each_rule_a_name_of_its_own() -> None:
    keys = [rule.name for name in NAMES for rule in rules(name) if " " not in rule.name]
    assert len(set(keys)) == len(keys)
    for name in NAMES:
        slugs = [rule.slug for rule in rules(name)]
        assert len(set(slugs)) == len(slugs)
        numbered = [rule.name for rule in rules(name) if " " not in rule.name]
        stem = f"kw-{name}" if is_extension(name) else name
        assert sorted(numbered) == sorted(f"{stem}-{n}" for n, _ in enumerate(numbered, 1))


def test_takes_the_rules_of_the_profile_that_it_stands_on() -> None:
    assert {rule.name for rule in rules("kw-care-plan")} < {
        rule.name for rule in all_rules("kw-discharge-plan")
    }
