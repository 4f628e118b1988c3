"""Structural validation: https://hl7.org/fhir/R4/json.html and elementdefinition.html.

Every resource in `valid/` is right, and the oracle `fhir.resources.R4B` agrees; the tables below
break one thing each and name the one place that must be reported.
"""

import copy
import re
import tarfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.errors import MAX_ISSUES, Issue
from fhir_server.fhir.definitions import resource_types, type_definition
from fhir_server.validation.structure import check_resource
from tests.support import PACKAGE, caseload, needs_package

VALID = {path.stem: path for path in sorted((Path(__file__).parent / "valid").glob("*.json"))}
BROKEN_IN_PACKAGE = 15
"""Ten SearchParameters without the mandatory base, one with an id of more than 64 characters, and
four logical models without a base (sdf-4)."""
DECODER = msgspec.json.Decoder(float_hook=Decimal)
DROP = object()
Json = dict[str, Any]


def load(name: str) -> Json:
    resource: Json = DECODER.decode(VALID[name].read_bytes())
    return resource


def changed(resource: Json, path: str, value: object) -> Json:
    """A copy with the value at `a.0.b` replaced, added or (DROP) removed."""
    result = copy.deepcopy(resource)
    *parents, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    target: Any = result
    for step in parents:
        target = target[step]
    if value is DROP:
        del target[last]
    else:
        target[last] = value
    return result


def problems(name: str, path: str, value: object) -> list[Issue]:
    return check_resource(changed(load(name), path, value))


def assert_one(issues: list[Issue], expression: str, code: str, text: str) -> None:
    assert [(issue.expression, issue.code) for issue in issues] == [(expression, code)], issues
    assert text in issues[0].text, issues[0].text


@pytest.mark.parametrize("name", VALID)
def test_a_valid_resource_has_no_problems_and_the_oracle_agrees(name: str) -> None:
    resource = load(name)
    assert check_resource(resource, expected_type=resource["resourceType"]) == []
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)


EXTENSION = {"url": "http://example.org/x", "valueString": "x"}
MUTATIONS: list[tuple[str, str, object, str, str, str]] = [
    # unknown and misplaced elements
    ("careplan", "statos", "x", "CarePlan.statos", "structure", "did you mean status?"),
    ("careplan", "fhir_comments", ["x"], "CarePlan.fhir_comments", "structure", "not an element"),
    ("careplan", "a b", 1, "CarePlan.`a b`", "structure", "not an element"),
    ("careplan", "_subject", {"id": "x"}, "CarePlan._subject", "structure", "not an element"),
    (
        "careplan",
        "subject.resourceType",
        "Reference",
        "CarePlan.subject.resourceType",
        "structure",
        "resources only",
    ),
    ("questionnaire", "item.0.item.0.x", 1, "Questionnaire.item[0].item[0].x", "structure", "'x'"),
    # JSON types
    ("careplan", "subject", [{}], "CarePlan.subject", "structure", "not an array"),
    ("careplan", "subject", "Patient/1", "CarePlan.subject", "structure", "not a string"),
    ("careplan", "subject", {}, "CarePlan.subject", "structure", "empty object"),
    ("careplan", "category", {"text": "x"}, "CarePlan.category", "structure", "must be an array"),
    ("careplan", "category", [], "CarePlan.category", "structure", "empty array"),
    ("careplan", "category.0", None, "CarePlan.category[0]", "structure", "not null"),
    ("careplan", "title", None, "CarePlan.title", "value", "not null"),
    ("careplan", "title", 3, "CarePlan.title", "value", "not a number"),
    ("careplan", "title", True, "CarePlan.title", "value", "not a boolean"),
    ("patient", "deceasedBoolean", "false", "Patient.deceased", "value", "true or false"),
    ("patient", "name.0.given", "Sam", "Patient.name[0].given", "structure", "must be an array"),
    # cardinality
    ("careplan", "subject", DROP, "CarePlan.subject", "required", "subject is missing"),
    ("careplan", "status", DROP, "CarePlan.status", "required", "status is missing"),
    (
        "questionnaire",
        "item.0.item.1.enableWhen.0.answerCoding",
        DROP,
        "Questionnaire.item[0].item[1].enableWhen[0].answer",
        "required",
        "one of answerBoolean",
    ),
    (
        "observation",
        "valueString",
        "x",
        "Observation.value",
        "structure",
        "valueQuantity, valueString",
    ),
    (
        "observation",
        "_valueString",
        {"extension": [EXTENSION]},
        "Observation.value",
        "structure",
        "only one type",
    ),
    # siblings of primitives
    ("patient", "name.0.given.0", None, "Patient.name[0].given[0]", "value", "not null"),
    ("patient", "name.0._given", [None], "Patient.name[0].given", "structure", "as many items"),
    (
        "patient",
        "name.0._given",
        EXTENSION,
        "Patient.name[0].given",
        "structure",
        "must be an array",
    ),
    (
        "patient",
        "name.0._given.1",
        {},
        "Patient.name[0].given[1]",
        "structure",
        "empty object",
    ),
    ("patient", "_id", {"id": "x"}, "Patient._id", "structure", "not an element of Patient"),
    ("patient", "_birthDate", "x", "Patient.birthDate", "structure", "must be an object"),
    ("patient", "_birthDate", {"value": "x"}, "Patient.birthDate.value", "structure", "only id"),
    ("patient", "_gender", {"id": 3}, "Patient.gender.id", "value", "id must be a string"),
    ("patient", "_active", {"id": "x"}, "Patient.active", "invariant", "ele-1"),
    (
        "patient",
        "_birthDate.extension.0.url",
        DROP,
        "Patient.birthDate.extension[0].url",
        "required",
        "url is missing",
    ),
    # bindings
    ("careplan", "status", "busy", "CarePlan.status", "code-invalid", "entered-in-error"),
    (
        "careplan",
        "activity.2.detail.status",
        "done",
        "CarePlan.activity[2].detail.status",
        "code-invalid",
        "one of cancelled, completed",
    ),
    ("careplan", "status", ["active"], "CarePlan.status", "code-invalid", "not an array"),
    (
        "allergyintolerance",
        "clinicalStatus",
        {"text": "Active"},
        "AllergyIntolerance.clinicalStatus",
        "code-invalid",
        "active, inactive, resolved",
    ),
    (
        "allergyintolerance",
        "clinicalStatus.coding.0.system",
        "http://example.org",
        "AllergyIntolerance.clinicalStatus",
        "code-invalid",
        "allergyintolerance-clinical",
    ),
    # extensions
    ("patient", "extension.0", {"url": "x:y"}, "Patient.extension[0]", "invariant", "neither"),
    (
        "patient",
        "extension.0.valueString",
        "x",
        "Patient.extension[0]",
        "invariant",
        "not both",
    ),
    # contained resources, entries
    ("patient", "contained.0.id", DROP, "Patient.contained[0].id", "required", "needs an id"),
    (
        "patient",
        "contained.0.contained",
        [{"resourceType": "Patient", "id": "x"}],
        "Patient.contained[0].contained",
        "invariant",
        "dom-2",
    ),
    (
        "patient",
        "contained.0.resourceType",
        "Practitionr",
        "Patient.contained[0].resourceType",
        "structure",
        "did you mean Practitioner",
    ),
    (
        "bundle",
        "entry.0.resource.status",
        "here",
        "Bundle.entry[0].resource.status",
        "code-invalid",
        "arrived",
    ),
    (
        "parameters",
        "parameter.0.resource.resourceType",
        DROP,
        "Parameters.parameter[0].resource.resourceType",
        "structure",
        "resourceType is missing",
    ),
    # references
    (
        "careplan",
        "subject.reference",
        "Practitioner/1",
        "CarePlan.subject.reference",
        "value",
        "must refer to Group or Patient",
    ),
    (
        "careplan",
        "subject.reference",
        "Patiant/1",
        "CarePlan.subject.reference",
        "value",
        "not a resource type",
    ),
    # narrative
    ("careplan", "text.div", DROP, "CarePlan.text.div", "required", "div is missing"),
    ("careplan", "id", "a_b", "CarePlan.id", "value", "1 to 64"),
    # what a reference says of its target
    (
        "careplan",
        "subject.reference",
        "https://other.example/fhir/Observation/1/_history/2",
        "CarePlan.subject.reference",
        "value",
        "must refer to Group or Patient, not to Observation",
    ),
    (
        "careplan",
        "subject.type",
        "Group",
        "CarePlan.subject.type",
        "value",
        "type says Group, and the reference is to Patient",
    ),
    (
        "careplan",
        "subject",
        {"type": "Observation", "display": "Synthetic"},
        "CarePlan.subject.type",
        "value",
        "must refer to Group or Patient, not to Observation",
    ),
    (
        "careplan",
        "subject",
        {
            "type": "http://hl7.org/fhir/StructureDefinition/Group",
            "reference": "https://other.example/fhir/Patient/1",
        },
        "CarePlan.subject.type",
        "value",
        "type says Group, and the reference is to Patient",
    ),
]


@pytest.mark.parametrize(("name", "path", "value", "expression", "code", "text"), MUTATIONS)
def test_a_mutation_is_reported_once_at_its_place(
    name: str, path: str, value: object, expression: str, code: str, text: str
) -> None:
    assert_one(problems(name, path, value), expression, code, text)


ECHOES = [
    # bdl-1 and its like compare the type, which is missing or wrong
    ({"resourceType": "Bundle", "total": 1}, "Bundle.type"),
    ({"resourceType": "Bundle", "type": "x", "total": 1}, "Bundle.type"),
]


@pytest.mark.parametrize(("resource", "place"), ECHOES)
def test_an_invariant_about_a_value_that_is_wrong_by_itself_waits(
    resource: Json, place: str
) -> None:
    assert [issue.expression for issue in check_resource(resource)] == [place]


def test_an_invariant_is_told_beside_errors_of_other_elements() -> None:
    bundle = {"resourceType": "Bundle", "type": "collection", "total": 1, "timestamp": "x"}
    found = {(issue.expression, issue.code) for issue in check_resource(bundle)}
    assert found == {("Bundle.timestamp", "value"), ("Bundle", "invariant")}


def test_every_problem_is_reported() -> None:
    plan = load("careplan")
    for path, value in [("status", "x"), ("title", ""), ("foo", 1), ("subject", DROP)]:
        plan = changed(plan, path, value)
    assert {issue.expression for issue in check_resource(plan)} == {
        "CarePlan.status",
        "CarePlan.title",
        "CarePlan.foo",
        "CarePlan.subject",
    }


def test_an_unknown_or_missing_type_is_reported() -> None:
    text = "did you mean CarePlan"
    assert_one(
        check_resource({"resourceType": "Careplan"}), "Resource.resourceType", "structure", text
    )
    assert_one(check_resource({}), "Resource.resourceType", "structure", "missing")
    wrong = check_resource({"resourceType": 3})
    assert_one(wrong, "Resource.resourceType", "structure", "must be a string")


def test_another_type_than_the_expected_one_is_reported() -> None:
    issues = check_resource(load("patient"), expected_type="CarePlan")
    assert_one(issues, "Patient.resourceType", "structure", "must be CarePlan, not Patient")


def test_a_mandatory_primitive_may_be_an_extension_alone() -> None:
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}
    sibling = {"extension": [absent | {"valueCode": "unknown"}]}
    plan = changed(load("careplan"), "status", DROP)
    assert check_resource(changed(plan, "_status", sibling)) == []


def test_an_array_of_siblings_may_stand_alone_but_not_hold_null() -> None:
    sibling = {"extension": [EXTENSION]}
    patient = changed(load("patient"), "name.0.given", DROP)
    assert check_resource(changed(patient, "name.0._given", [sibling])) == []
    issues = check_resource(changed(patient, "name.0._given", [sibling, None]))
    assert_one(issues, "Patient.name[0].given[1]", "value", "must not be null")


def test_an_identifier_of_a_value_may_be_its_only_sibling() -> None:
    assert problems("patient", "_gender", {"id": "g1"}) == []


def test_references_without_a_telling_type_are_accepted() -> None:
    telling_nothing = (
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "https://x.y/A/1",
        "https://x.y/Observation",
        "https://x.y/show?of=/Observation/1",
        "https://x.y/Observation/1#part",
        "https://x.y/Patient/1",
    )
    for reference in telling_nothing:
        assert problems("careplan", "subject.reference", reference) == []


def test_a_type_that_agrees_with_the_reference_is_accepted() -> None:
    named = "http://hl7.org/fhir/StructureDefinition/Patient"
    for type_ in ("Patient", named, "http://example.org/StructureDefinition/logical"):
        assert problems("careplan", "subject.type", type_) == []


def test_a_resource_that_refers_to_itself_is_one_that_may_stand_there() -> None:
    (issue,) = check_resource(changed(load("careplan"), "subject.reference", "#"))
    assert "not to CarePlan" in issue.text


def test_more_problems_than_anyone_reads_are_counted() -> None:
    issues = check_resource({"resourceType": "Basic", **{f"x{i}": 1 for i in range(1000)}})
    assert len(issues) == MAX_ISSUES + 1
    assert issues[-1].text == "and 501 further problems"  # 1,000 and the missing code


def test_long_names_and_values_are_cut_in_what_is_reported() -> None:
    issues = check_resource({"resourceType": "Basic", "x" * 10_000: 1, "language": " " * 10_000})
    assert all(len(issue.text) + len(issue.expression or "") < 300 for issue in issues)


def test_nesting_beyond_the_interpreter_is_an_issue() -> None:
    extension: Json = dict(EXTENSION)
    for _ in range(2000):
        extension = {"url": "http://example.org/x", "extension": [extension]}
    issues = check_resource({"resourceType": "Patient", "extension": [extension]})
    assert [issue.code for issue in issues] == ["too-long"]


def test_every_type_can_be_checked() -> None:
    for name in resource_types():
        required = {e.base_name for e in type_definition(name).elements.values() if e.min}
        found = check_resource({"resourceType": name})
        issues = [issue for issue in found if issue.code != "invariant"]
        assert {issue.expression for issue in issues} == {f"{name}.{base}" for base in required}


def test_the_resources_of_the_synthetic_caseload_are_accepted() -> None:
    resources = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]
    assert len(resources) > 700
    assert len({resource["resourceType"] for resource in resources}) >= 15
    for resource in resources:
        assert check_resource(resource) == [], resource["id"]


@needs_package
def test_the_resources_of_the_standard_are_accepted() -> None:
    resources = [*_package_resources()]
    broken = [name for name, resource in resources if check_resource(resource)]
    assert len(resources) > 4000
    assert len(broken) == BROKEN_IN_PACKAGE, broken


def _package_resources() -> Iterator[tuple[str, Json]]:
    with tarfile.open(PACKAGE) as archive:
        for member in archive:
            if re.fullmatch(r"package/[A-Z]\w+-.*\.json", member.name):
                file = archive.extractfile(member)
                yield member.name, DECODER.decode(file.read() if file else b"{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "extension", "url", "reference", "coding", "_given", "given", "?"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
MEMBERS = sorted({*type_definition("Patient").elements, "_birthDate", "_gender", "resourceType"})


@settings(deadline=None)  # a type is compiled when it is first met
@given(st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=8), JSON, max_size=6))
def test_no_json_makes_it_raise(members: Json) -> None:
    for resource in (members, members | {"resourceType": "Patient"}):
        for issue in check_resource(resource):
            assert issue.text
            assert issue.expression
