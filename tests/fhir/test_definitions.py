"""The tables of R4's definitions: https://hl7.org/fhir/R4/resourcelist.html.

`fhir.resources.R4B` is an independent oracle: R4B changed few types, which are listed here.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.fhir import definitions
from fhir_server.fhir.definitions import (
    compartments,
    is_resource_type,
    project_parameters,
    required_codes,
    resource_types,
    search_parameters,
    type_definition,
)
from tests.support import PACKAGE, REPOSITORY, needs_package

DATA = REPOSITORY / "fhir_server" / "fhir" / "data"
SUMS = "checksums.json"
TABLES = sorted(path.name for path in DATA.glob("*.json") if path.name != SUMS)

NOT_IN_R4B = {
    "EffectEvidenceSynthesis",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "RiskEvidenceSynthesis",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
}
CHANGED_IN_R4B = {"ActivityDefinition", "Evidence", "EvidenceVariable", "PlanDefinition"}
SAME_IN_R4B = sorted(set(resource_types()) - NOT_IN_R4B - CHANGED_IN_R4B)
DATATYPES = ("Address", "Attachment", "Dosage", "HumanName", "Identifier", "Meta", "Timing")
CLINICAL = ("CarePlan", "CareTeam", "Consent", "Encounter", "Flag", "Goal", "Patient", "Task")


def test_there_are_146_resource_types_and_abstract_ones_are_not_among_them() -> None:
    assert len(resource_types()) == 146
    assert list(resource_types()) == sorted(resource_types())
    assert is_resource_type("CarePlan")
    assert not any(map(is_resource_type, ("Resource", "DomainResource", "HumanName", "careplan")))


def test_an_unknown_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        type_definition("CarePlanet")
    with pytest.raises(KeyError):
        search_parameters("HumanName")


def test_a_resource_has_the_elements_of_its_bases_first() -> None:
    assert list(type_definition("CarePlan").elements)[:10] == [
        "id",
        "meta",
        "implicitRules",
        "language",
        "text",
        "contained",
        "extension",
        "modifierExtension",
        "identifier",
        "instantiatesCanonical",
    ]
    assert "text" not in type_definition("Bundle").elements


def test_an_element_has_cardinality_targets_and_required_binding() -> None:
    plan = type_definition("CarePlan").elements
    assert (plan["subject"].min, plan["subject"].max) == (1, 1)
    assert plan["subject"].targets == ("Group", "Patient")
    assert (plan["category"].repeats, plan["category"].max) == (True, None)
    assert plan["status"].value_set == "http://hl7.org/fhir/ValueSet/request-status"
    assert plan["category"].value_set is None  # an example binding
    assert plan["supportingInfo"].targets == ()
    assert plan["activity"].type == "CarePlan.activity"


def test_a_choice_is_expanded_and_grouped() -> None:
    observation = type_definition("Observation")
    assert observation.choices["value"] == (
        "valueQuantity",
        "valueCodeableConcept",
        "valueString",
        "valueBoolean",
        "valueInteger",
        "valueRange",
        "valueRatio",
        "valueSampledData",
        "valueTime",
        "valueDateTime",
        "valuePeriod",
    )
    assert observation.elements["valueDateTime"].type == "dateTime"
    assert observation.elements["valueDateTime"].base_name == "value"
    assert "value" not in observation.elements


def test_a_content_reference_leads_to_the_referenced_backbone() -> None:
    assert type_definition("Questionnaire.item").elements["item"].type == "Questionnaire.item"
    assert type_definition("Bundle.entry").elements["link"].type == "Bundle.link"
    assert type_definition("Questionnaire.item").kind == "backbone"


@pytest.mark.parametrize(
    ("owner", "element", "expected"),
    [
        ("Patient", "id", "id"),
        ("HumanName", "id", "string"),
        ("Extension", "url", "uri"),
        ("Narrative", "div", "xhtml"),
        ("Patient", "contained", "Resource"),
        ("Bundle.entry", "resource", "Resource"),
    ],
)
def test_special_types_are_fhir_types(owner: str, element: str, expected: str) -> None:
    assert type_definition(owner).elements[element].type == expected


def test_a_primitive_has_the_elements_of_its_sibling() -> None:
    assert type_definition("string").kind == "primitive"
    assert list(type_definition("code").elements) == ["id", "extension"]


def test_only_backbone_elements_have_modifier_extensions() -> None:
    assert "modifierExtension" in type_definition("Patient.contact").elements
    assert "modifierExtension" not in type_definition("Timing.repeat").elements


def test_every_element_has_a_type_that_is_defined() -> None:
    for name in definitions._table("types"):
        for element in type_definition(name).elements.values():
            assert type_definition(element.type).name == element.type
            assert all(map(is_resource_type, element.targets)), (name, element)


@pytest.mark.parametrize("name", [*SAME_IN_R4B, *DATATYPES])
def test_elements_agree_with_the_oracle(name: str) -> None:
    oracle = get_fhir_model_class(name)
    assert set(type_definition(name).elements) == set(oracle.elements_sequence())


def _oracle_extras(name: str, key: str) -> Iterator[tuple[str, list[str]]]:
    for field in get_fhir_model_class(name).model_fields.values():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and key in extra:
            yield str(field.alias), [str(item) for item in extra[key]]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", CLINICAL)
def test_reference_targets_agree_with_the_oracle(name: str) -> None:
    elements = type_definition(name).elements
    for element, targets in _oracle_extras(name, "enum_reference_types"):
        assert set(elements[element].targets) == set(targets) - {"Resource"}, element


@pytest.mark.parametrize("name", ["CarePlan", "CareTeam", "Consent", "Flag", "Goal", "Patient"])
def test_required_codes_agree_with_the_oracle(name: str) -> None:
    elements = type_definition(name).elements
    for element, codes in _oracle_extras(name, "enum_values"):
        value_set = elements[element].value_set
        if value_set is not None:
            assert _all_codes(value_set) == set(codes), element


def _all_codes(value_set: str) -> set[str]:
    return set().union(*(required_codes(value_set) or {}).values())


def test_required_codes_go_by_system() -> None:
    codes = required_codes("http://hl7.org/fhir/ValueSet/administrative-gender")
    gender = frozenset({"male", "female", "other", "unknown"})
    assert codes == {"http://hl7.org/fhir/administrative-gender": gender}
    assert required_codes("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1") == codes


def test_codes_of_a_hierarchy_and_of_several_systems_are_all_there() -> None:
    types = required_codes("http://hl7.org/fhir/ValueSet/all-types")
    assert types is not None
    assert {"Patient", "DomainResource"} <= types["http://hl7.org/fhir/resource-types"]
    assert {"Age", "code"} <= types["http://hl7.org/fhir/data-types"]


@pytest.mark.parametrize("name", ["mimetypes", "ucum-units", "currencies", "no-such-set"])
def test_codes_that_cannot_be_listed_are_none(name: str) -> None:
    assert required_codes(f"http://hl7.org/fhir/ValueSet/{name}") is None


def test_a_resource_type_has_the_parameters_of_its_bases() -> None:
    bases = {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_content"}
    assert bases | {"_text", "_filter", "_query"} <= set(search_parameters("CarePlan"))
    assert bases <= set(search_parameters("Bundle"))
    assert "_text" not in search_parameters("Bundle")
    assert search_parameters("Patient")["_id"].expression == "Resource.id"
    assert search_parameters("Patient")["_text"].expression == ""


def test_an_expression_over_several_types_keeps_the_branches_of_one() -> None:
    assert search_parameters("Patient")["email"].expression == (
        "Patient.telecom.where(system='email')"
    )
    assert search_parameters("MedicationRequest")["code"].expression == (
        "(MedicationRequest.medication as CodeableConcept)"
    )
    assert search_parameters("Observation")["value-quantity"].expression == (
        "(Observation.value as Quantity) | (Observation.value as SampledData)"
    )
    assert search_parameters("InsurancePlan")["name"].expression == "name | alias"


def test_every_expression_stays_within_its_resource_type() -> None:
    for name in resource_types():
        for parameter in search_parameters(name).values():
            others = set(resource_types()) - {name}
            starts = {part.strip("( ").split(".")[0] for part in parameter.expression.split(" | ")}
            assert not starts & others, parameter


def test_a_composite_names_its_components() -> None:
    composite = search_parameters("Observation")["code-value-quantity"]
    assert composite.type == "composite"
    assert [expression for _, expression in composite.components] == [
        "code",
        "value.as(Quantity)",
    ]


def test_parameters_of_extensions_and_examples_are_not_core() -> None:
    for name in resource_types():
        own = project_parameters().get(name, ())
        for parameter in {*search_parameters(name).values()} - {*own}:
            assert "extension" not in parameter.expression
            assert "example" not in parameter.url


def test_a_reference_parameter_names_its_targets() -> None:
    assert search_parameters("CarePlan")["patient"].targets == ("Group", "Patient")


def test_compartments_are_the_five_of_the_standard() -> None:
    assert set(compartments()) == {
        "Device",
        "Encounter",
        "Patient",
        "Practitioner",
        "RelatedPerson",
    }
    assert compartments()["Patient"]["CarePlan"] == ("patient", "performer")
    assert compartments()["Patient"]["Patient"] == ("link",)
    assert compartments()["Encounter"]["Encounter"] == ("{def}",)
    assert "Organization" not in compartments()["Patient"]


def test_compartment_parameters_are_search_parameters() -> None:
    unknown = {
        (resource, code)
        for types in compartments().values()
        for resource, codes in types.items()
        for code in codes
        if code != "{def}" and code not in search_parameters(resource)
    }
    assert unknown == set()


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_checksum_that_was_committed_with_it(table: str) -> None:
    checksums = json.loads((DATA / SUMS).read_bytes())
    assert hashlib.sha256((DATA / table).read_bytes()).hexdigest() == checksums[table]


@needs_package
def test_the_tables_are_what_the_tool_builds(tmp_path: Path) -> None:
    _build(PACKAGE, tmp_path)
    assert sorted(built.name for built in tmp_path.iterdir()) == [*sorted([*TABLES, SUMS])]
    for built in tmp_path.iterdir():
        assert built.read_bytes() == (DATA / built.name).read_bytes(), built.name


def _build(package: Path, out: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "build_definitions.py")]
    subprocess.run([*command, str(package), "--out", str(out)], check=True, capture_output=True)


BASE = "http://hl7.org/fhir"


def _element(path: str, least: int, most: str, **more: Any) -> dict[str, Any]:
    """`more`: `code` is the type; the rest stands in the element as it is."""
    code = more.pop("code", None)
    types = {"type": [{"code": code, **more.pop("of", {})}]} if code else {}
    return {"path": path, "min": least, "max": most, "base": {"path": path}, **types, **more}


def _structure(name: str, kind: str, *elements: dict[str, Any], base: str = "") -> dict[str, Any]:
    derived = {"baseDefinition": f"{BASE}/StructureDefinition/{base}"} if base else {}
    return {
        "resourceType": "StructureDefinition",
        "url": f"{BASE}/StructureDefinition/{name}",
        "type": name,
        "kind": kind,
        "abstract": False,
        "snapshot": {"element": [{"path": name, "min": 0, "max": "*"}, *elements]},
        **derived,
    }


def _compartment(code: str) -> dict[str, Any]:
    entries = [{"code": "Kite", "param": ["flier"]}, {"code": "String"}]
    return {
        "resourceType": "CompartmentDefinition",
        "id": code.lower(),
        "url": f"{BASE}/CompartmentDefinition/{code}",
        "code": code,
        "resource": entries,
    }


BINDING = {"strength": "required", "valueSet": f"{BASE}/ValueSet/kite-colours|4.0.1"}
SMALL_PACKAGE = [
    _structure("code", "primitive-type", _element("code.value", 0, "1", code="string")),
    _structure(
        "Kite",
        "resource",
        _element("Kite.colour", 1, "1", code="code", binding=BINDING, isSummary=True),
        _element("Kite.tail", 0, "*", code="BackboneElement"),
        _element("Kite.tail.length", 0, "1", code="decimal"),
        _element(
            "Kite.flier",
            0,
            "1",
            code="Reference",
            of={"targetProfile": [f"{BASE}/StructureDefinition/Kite"]},
        ),
        base="DomainResource",
    ),
    {
        "resourceType": "SearchParameter",
        "url": f"{BASE}/SearchParameter/Kite-flier",
        "code": "flier",
        "type": "reference",
        "base": ["Kite"],
        "target": ["Kite"],
        "expression": "Kite.flier | code.flier",
    },
    {
        "resourceType": "SearchParameter",
        "url": f"{BASE}/SearchParameter/example-extension",
        "code": "example",
        "type": "token",
        "base": ["Kite"],
    },
    {
        "resourceType": "ValueSet",
        "url": f"{BASE}/ValueSet/kite-colours",
        "compose": {
            "include": [{"system": "urn:colours"}],
            "exclude": [{"system": "urn:colours", "concept": [{"code": "grey"}]}],
        },
    },
    {
        "resourceType": "CodeSystem",
        "url": "urn:colours",
        "content": "complete",
        "concept": [{"code": "red", "concept": [{"code": "pink"}]}, {"code": "grey"}],
    },
    *map(_compartment, ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")),
]
"""In the shape of HL7's, about what is in none of it."""


def test_the_tool_makes_each_table_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "small.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for number, resource in enumerate(SMALL_PACKAGE):
            content = json.dumps(resource).encode()
            member = tarfile.TarInfo(f"package/{resource['resourceType']}-{number}.json")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    _build(package, tmp_path / "out")
    built = {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "out").iterdir()}
    assert built.keys() == {*TABLES, SUMS}
    colours = f"{BASE}/ValueSet/kite-colours"
    assert built["types.json"]["Kite"] == {
        "kind": "resource",
        "base": "DomainResource",
        "elements": [
            ["colour", 1, 1, [["code"]], colours, True],
            ["tail", 0, None, [["Kite.tail"]], None],
            ["flier", 0, 1, [["Reference", "Kite"]], None],
        ],
    }
    assert built["types.json"]["Kite.tail"]["elements"] == [["length", 0, 1, [["decimal"]], None]]
    assert built["types.json"]["code"] == {"kind": "primitive", "base": "Element", "elements": []}
    assert built["resource-types.json"] == {"Kite": "DomainResource"}
    flier = ["flier", "reference", f"{BASE}/SearchParameter/Kite-flier", "Kite.flier", ["Kite"], []]
    assert built["search-parameters.json"] == {"Kite": [flier]}
    assert built["value-sets.json"] == {colours: {"urn:colours": ["pink", "red"]}}
    assert built["compartments.json"]["Patient"] == {"Kite": ["flier"]}
    for table in TABLES:
        content = (tmp_path / "out" / table).read_bytes()
        assert built[SUMS][table] == hashlib.sha256(content).hexdigest()


def test_the_tables_are_small() -> None:
    assert sum((DATA / table).stat().st_size for table in TABLES) < 1_500_000
