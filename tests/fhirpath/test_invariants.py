"""Invariants by what they take and refuse, on hand-made elements.

The expressions are R4's own, from https://hl7.org/fhir/R4/; what an empty result means stands in
`fhirpath/invariant.py`.
"""

from decimal import Decimal
from typing import Any, Final

import pytest

from fhir_server.fhirpath.invariant import compile_invariant, compile_path
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.problems import BadExpression, BadSyntax, EvaluationError
from tests.fhirpath.ask import answer, resource
from tests.fhirpath.invariants import (
    BDL_7,
    CTM_1,
    DOM_3,
    DRT_1,
    ELE_1,
    EXT_1,
    NOWHERE,
    PER_1,
    QUE_7,
    QUE_13,
    REF_1,
    UCUM,
    entry_of,
    flag_of,
    question,
)


@pytest.mark.parametrize(
    ("expression", "type_name", "node", "met"),
    [
        (ELE_1, "Period", {"start": "2026"}, True),
        (ELE_1, "Period", {"id": "a"}, False),
        (ELE_1, "Period", {"id": "a", "start": "2026"}, True),
        (ELE_1, "Period", {"_start": {"extension": [{"url": "a"}]}}, True),
        (ELE_1, "Element", {"id": "a", "start": "2026"}, True),
        (ELE_1, "BackboneElement", {"id": "a"}, False),
        ("contained.contained.empty()", "DomainResource", flag_of("#a", "a"), True),
        (
            "contained.contained.empty()",
            "DomainResource",
            {"resourceType": "Flag", "contained": [flag_of("#a", "a")]},
            False,
        ),
        ("text.`div`.exists()", "DomainResource", flag_of("#a"), False),
        (EXT_1, "Extension", {"url": "a", "valueCode": "a"}, True),
        (EXT_1, "Extension", {"url": "a", "valueBoolean": False}, True),
        (EXT_1, "Extension", {"url": "a", "_valueCode": {"extension": [{"url": "b"}]}}, True),
        (EXT_1, "Extension", {"url": "a", "extension": [{"url": "b"}]}, True),
        (EXT_1, "Extension", {"url": "a"}, False),
        (EXT_1, "Extension", {"url": "a", "valueCode": "a", "extension": [{"url": "b"}]}, False),
        (REF_1, "Reference", {"reference": "Patient/1"}, True),
        (REF_1, "Reference", {"display": "no reference at all"}, True),
        (REF_1, "Reference", {"reference": "#"}, True),
        (REF_1, "Reference", {"reference": "#absent"}, False),
        (QUE_13, "Questionnaire.item", question(repeats=True, initial=[{}, {}]), True),
        (QUE_13, "Questionnaire.item", question(initial=[{"valueCode": "a"}]), True),
        (
            QUE_13,
            "Questionnaire.item",
            question(initial=[{"valueCode": "a"}, {"valueCode": "b"}]),
            False,
        ),
        (PER_1, "Period", {"start": "2026-01-01", "end": "2026-01-02"}, True),
        (PER_1, "Period", {"start": "2026-01-02", "end": "2026-01-01"}, False),
        (PER_1, "Period", {"start": "2026-01-02", "end": "2026-01"}, True),
        (PER_1, "Period", {"start": "2026-02", "end": "2026-01-31"}, False),
        (
            PER_1,
            "Period",
            {"start": "2026-01-02T10:00:00Z", "end": "2026-01-02T10:30:00+01:00"},
            False,
        ),
        (DRT_1, "Duration", {"value": 1, "code": "d", "system": UCUM}, True),
        (DRT_1, "Duration", {"value": 1, "code": "d"}, False),
        (DRT_1, "Duration", {"value": 1, "unit": "days"}, True),
        ("comparator.empty()", "Quantity", {"value": 1, "comparator": "<"}, False),
        (
            "low.empty() or high.empty() or (low <= high)",
            "Range",
            {"low": {"value": Decimal("2.0"), "unit": "mg"}, "high": {"value": 1, "unit": "mg"}},
            False,
        ),
        (
            "low.empty() or high.empty() or (low <= high)",
            "Range",
            {"low": {"value": 2, "unit": "mg"}, "high": {"value": 1, "unit": "g"}},
            True,
        ),
        (QUE_7, "Questionnaire.item.enableWhen", {"operator": "exists"}, True),
        (
            QUE_7,
            "Questionnaire.item.enableWhen",
            {"operator": "exists", "answerBoolean": True},
            True,
        ),
        (
            QUE_7,
            "Questionnaire.item.enableWhen",
            {"operator": "exists", "answerString": "yes"},
            False,
        ),
        (
            BDL_7,
            "Bundle",
            {"type": "collection", "entry": [entry_of("urn:a", "1"), entry_of("urn:a", "2")]},
            True,
        ),
        (
            BDL_7,
            "Bundle",
            {"type": "collection", "entry": [entry_of("urn:a", "1"), entry_of("urn:a", "1")]},
            False,
        ),
        (
            "(type in ('boolean' | 'decimal')) or maxLength.empty()",
            "Questionnaire.item",
            question(maxLength=3),
            False,
        ),
        (
            "name.matches('^[A-Z]([A-Za-z0-9_]){0,254}$')",
            "ValueSet",
            {"name": "not computable"},
            False,
        ),
        (
            "path.startsWith('a') and path.endsWith('c')",
            "ElementDefinition",
            {"path": "abc"},
            True,
        ),
    ],
)
def test_an_invariant_is_met_or_broken(
    expression: str, type_name: str, node: dict[str, Any], met: bool
) -> None:
    assert compile_invariant(expression, type_name)(node, Scope(NOWHERE)) is met


@pytest.mark.parametrize(
    ("value", "sibling", "met"),
    [
        ("2026", None, True),
        (False, None, True),
        (None, {"extension": [{"url": "a"}]}, True),
        (None, {"id": "a"}, False),
        ("2026", {"id": "a"}, True),
    ],
)
def test_a_primitive_has_a_value_or_children(value: Any, sibling: Any, met: bool) -> None:
    invariant = compile_invariant(ELE_1, "boolean" if value is False else "date")
    assert invariant(value, Scope(NOWHERE), sibling) is met


def test_by_the_letter_an_empty_result_is_neither() -> None:
    reference = compile_invariant(REF_1, "Reference")
    assert reference.outcome({"display": "nobody"}, Scope(NOWHERE)) is None
    period = compile_invariant(PER_1, "Period")
    assert period.outcome({"start": "2026-01-02", "end": "2026-01"}, Scope(NOWHERE)) is None


def test_what_cannot_be_evaluated_is_broken() -> None:
    invariant = compile_invariant("name.family = 'a' and name.given.startsWith('a')", "Patient")
    node = {"name": [{"family": "a", "given": ["a", "b"]}]}
    assert invariant(node, Scope(NOWHERE)) is False
    with pytest.raises(EvaluationError, match="One item is wanted, and there are 2"):
        invariant.outcome(node, Scope(NOWHERE))


@pytest.mark.parametrize(
    ("expression", "type_name", "text"),
    [
        ("nme.exists()", "Patient", "'nme' is not an element of Patient"),
        ("name.givn.exists()", "Patient", "'givn' is not an element of HumanName"),
        ("valueQuantity.exists()", "Observation", "'valueQuantity' is not an element of"),
        ("value.nothing", "Observation", "'nothing' is not an element of CodeableConcept, Period"),
        ("Observation.status = 'a'", "Patient", "Observation is not what the expression is about"),
        ("exists(1, 2)", "Patient", "exists() takes 0 to 1 arguments, not 2"),
        ("frobnicate()", "Patient", "frobnicate() is not a function that is known here"),
        ("name.ofType(Nme)", "Patient", "Nme is not a type"),
        ("%nothing", "Patient", "%nothing is not a variable"),
        ("%resource.nme.exists()", "Patient.contact", "'nme' is not an element of Patient"),
        ("repeat(" * 20 + "contact" + ")" * 20, "Patient", "too long to compile"),
        ("id.matches('(a')", "Patient", "is not a regular expression"),
        ("true", "Pattient", "Pattient is not a type of R4"),
    ],
)
def test_a_slip_of_the_pen_is_found_when_the_definition_is_compiled(
    expression: str, type_name: str, text: str
) -> None:
    with pytest.raises(BadExpression) as caught:
        compile_invariant(expression, type_name)
    assert text in str(caught.value)


def test_what_is_no_fhirpath_is_refused() -> None:
    with pytest.raises(BadSyntax, match="position 5"):
        compile_invariant("a and", "Patient")


def test_an_invariant_of_a_choice_may_name_what_only_one_type_has() -> None:
    expression = "low.empty() or low.code = '%'"
    with pytest.raises(BadExpression):
        compile_invariant(expression, "decimal")
    invariant = compile_invariant(expression, "decimal", ("Range",))
    assert invariant(1, Scope(NOWHERE))
    in_range = compile_invariant(expression, "Range", ("decimal",))
    assert not in_range({"low": {"value": 1, "code": "mg"}}, Scope(NOWHERE))


# The resource around -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "met"),
    [
        (flag_of("#a", "a"), True),
        (flag_of("#a", "a", "b"), False),
        (flag_of("Patient/1", "a"), False),
        (flag_of("#b"), True),
    ],
)
def test_what_is_contained_is_referred_to(flag: dict[str, Any], met: bool) -> None:
    assert compile_invariant(DOM_3, "Flag")(flag, Scope(flag)) is met


def test_the_container_of_a_contained_resource_is_the_root() -> None:
    container = flag_of("#a", "a")
    contained = container["contained"][0]
    scope = Scope(contained, container)
    invariant = compile_invariant(REF_1, "Reference")
    assert invariant({"reference": "#a"}, scope)
    assert not invariant({"reference": "#a"}, Scope(contained))
    assert answer("%resource.id", contained) == ["a"]
    (root,) = compile_path("%rootResource", "Patient")(contained, scope)
    assert root.value is container


def test_the_context_is_the_element_that_is_asked_and_not_one_before_it() -> None:
    invariant = compile_invariant("item.all(linkId != %context.linkId)", "Questionnaire.item")
    scope = Scope(NOWHERE)
    assert invariant({"linkId": "a", "item": [{"linkId": "b"}]}, scope)
    assert not invariant({"linkId": "b", "item": [{"linkId": "b"}]}, scope)


_BUNDLE: Final[dict[str, Any]] = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {
            "fullUrl": "http://a.example/fhir/Flag/1",
            "resource": {"resourceType": "Flag", "id": "1"},
        },
        {
            "fullUrl": "http://a.example/fhir/Patient/1",
            "resource": {"resourceType": "Patient", "id": "1", "gender": "female"},
        },
        {
            "fullUrl": "http://b.example/fhir/Patient/1",
            "resource": {"resourceType": "Patient", "id": "1", "gender": "male"},
        },
        {
            "fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
            "resource": {"resourceType": "Practitioner", "meta": {"versionId": "2"}},
        },
        {
            "fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
            "resource": {"resourceType": "Practitioner", "meta": {"versionId": "3"}},
        },
    ],
}


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("Patient/1", "female"),
        ("http://b.example/fhir/Patient/1", "male"),
        ("http://c.example/fhir/Patient/1", None),
        ("Patient/2", None),
        ("patient", None),
        ("", None),
    ],
)
def test_a_reference_is_resolved_by_the_base_of_the_entry_that_holds_it(
    reference: str, found: str | None
) -> None:
    scope = Scope(_BUNDLE["entry"][0]["resource"], bundle=_BUNDLE)
    items = compile_path("resolve().gender", "Reference")({"reference": reference}, scope)
    assert [item.value for item in items] == ([found] if found else [])


def test_the_version_tells_entries_with_one_address_apart() -> None:
    scope = Scope(_BUNDLE)
    versions = compile_path("resolve().meta.versionId", "Reference")
    address = _BUNDLE["entry"][3]["fullUrl"]
    assert versions({"reference": address}, scope) == []
    (item,) = versions({"reference": f"{address}/_history/3"}, scope)
    assert item.value == "3"


def test_what_is_not_in_the_bundle_is_asked_of_the_resolver() -> None:
    practitioner = {"resourceType": "Practitioner", "id": "9"}
    known = {"Practitioner/9": practitioner}
    participant = {
        "member": {"reference": "Practitioner/9"},
        "onBehalfOf": {"reference": "Organization/1"},
    }
    invariant = compile_invariant(CTM_1, "CareTeam.participant")
    assert invariant(participant, Scope(NOWHERE))
    assert invariant(participant, Scope(NOWHERE, resolver=known.get))
    known["Practitioner/9"] = {"resourceType": "Patient"}
    assert not invariant(participant, Scope(NOWHERE, resolver=known.get))


def test_helpers_answer_what_the_resource_alone_cannot() -> None:
    asked: list[str] = []

    def member_of(item: Item, value_set: str) -> bool | None:
        asked.append(f"{item.value} in {value_set}")
        return bool(item.value == "female")

    scope = Scope(
        NOWHERE,
        member_of=member_of,
        conforms_to=lambda _item, url: url.endswith("Patient"),
        html_checks=lambda text: "script" not in text,
    )
    patient = resource("patient")
    member = compile_invariant("gender.memberOf('http://v')", "Patient")
    assert member(patient, scope)
    assert asked == ["female in http://v"]
    assert member(patient, Scope(NOWHERE))
    assert not compile_invariant("conformsTo('http://x/Flag')", "Patient")(patient, scope)
    html = compile_invariant("htmlChecks()", "xhtml")
    assert html("<div>text</div>", scope)
    assert not html("<script/>", scope)


def test_a_trace_is_told_to_who_asks_for_it() -> None:
    told: list[tuple[str, list[Any]]] = []
    scope = Scope(
        NOWHERE, trace=lambda name, items: told.append((name, [one.value for one in items]))
    )
    path = compile_path("name.trace('names', use).given.first()", "Patient")
    assert [one.value for one in path(resource("patient"), scope)] == ["Ada"]
    assert told == [("names", ["official", "usual", "maiden"])]


def test_a_modifier_that_is_not_known_is_an_error() -> None:
    node = {"modifierExtension": [{"url": "http://m", "valueCode": "a"}], "status": "active"}
    known = compile_invariant("checkModifiers('http://m').status = 'active'", "Flag")
    unknown = compile_invariant("checkModifiers('http://n').status = 'active'", "Flag")
    assert known(node, Scope(NOWHERE))
    assert not unknown(node, Scope(NOWHERE))
