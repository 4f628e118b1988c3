"""Invariants by what they take and refuse, on hand-made elements.

The expressions are R4's own, from https://hl7.org/fhir/R4/; what an empty result means stands in
`fhirpath/invariant.py`.
"""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.invariant import compile_invariant, compile_path
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.problems import BadExpression, BadSyntax, EvaluationError
from tests.fhirpath.ask import answer, resource
from tests.support import caseload
from tests.work import ending, steps

_NOWHERE: Final[dict[str, Any]] = {"resourceType": "Basic"}

ELE_1: Final = "hasValue() or (children().count() > id.count())"
EXT_1: Final = "extension.exists() != value.exists()"
REF_1: Final = (
    "reference.startsWith('#').not() or "
    "(reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids'))"
)
DOM_3: Final = (
    "contained.where((('#'+id in (%resource.descendants().reference"
    " | %resource.descendants().as(canonical) | %resource.descendants().as(uri)"
    " | %resource.descendants().as(url))) or descendants().where(reference = '#').exists()"
    " or descendants().where(as(canonical) = '#').exists()).not())"
    ".trace('unmatched', id).empty()"
)
QUE_13: Final = "repeats=true or initial.count() <= 1"
PER_1: Final = "start.hasValue().not() or end.hasValue().not() or (start <= end)"
DRT_1: Final = "code.exists() implies ((system = %ucum) and value.exists())"
QUE_7: Final = "operator = 'exists' implies (answer is Boolean)"
BDL_7: Final = (
    "(type = 'history') or "
    "entry.where(fullUrl.exists()).select(fullUrl&resource.meta.versionId).isDistinct()"
)
CTM_1: Final = (
    "onBehalfOf.exists() implies "
    "(member.resolve().iif(empty(), true, ofType(Practitioner).exists()))"
)
CSD_1: Final = "concept.code.combine($this.descendants().concept.code).isDistinct()"
UCUM: Final = "http://unitsofmeasure.org"


def _flag(reference: str, *contained: str) -> dict[str, Any]:
    return {
        "resourceType": "Flag",
        "subject": {"reference": reference},
        "contained": [{"resourceType": "Patient", "id": one} for one in contained],
    }


def _question(**more: Any) -> dict[str, Any]:
    return {"linkId": "1", "type": "string", **more}


def _entry(url: str, version: str) -> dict[str, Any]:
    return {
        "fullUrl": url,
        "resource": {"resourceType": "Basic", "meta": {"versionId": version}},
    }


@pytest.mark.parametrize(
    ("expression", "type_name", "node", "met"),
    [
        (ELE_1, "Period", {"start": "2026"}, True),
        (ELE_1, "Period", {"id": "a"}, False),
        (ELE_1, "Period", {"id": "a", "start": "2026"}, True),
        (ELE_1, "Period", {"_start": {"extension": [{"url": "a"}]}}, True),
        (ELE_1, "Element", {"id": "a", "start": "2026"}, True),
        (ELE_1, "BackboneElement", {"id": "a"}, False),
        ("contained.contained.empty()", "DomainResource", _flag("#a", "a"), True),
        (
            "contained.contained.empty()",
            "DomainResource",
            {"resourceType": "Flag", "contained": [_flag("#a", "a")]},
            False,
        ),
        ("text.`div`.exists()", "DomainResource", _flag("#a"), False),
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
        (QUE_13, "Questionnaire.item", _question(repeats=True, initial=[{}, {}]), True),
        (QUE_13, "Questionnaire.item", _question(initial=[{"valueCode": "a"}]), True),
        (
            QUE_13,
            "Questionnaire.item",
            _question(initial=[{"valueCode": "a"}, {"valueCode": "b"}]),
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
            {"type": "collection", "entry": [_entry("urn:a", "1"), _entry("urn:a", "2")]},
            True,
        ),
        (
            BDL_7,
            "Bundle",
            {"type": "collection", "entry": [_entry("urn:a", "1"), _entry("urn:a", "1")]},
            False,
        ),
        (
            "(type in ('boolean' | 'decimal')) or maxLength.empty()",
            "Questionnaire.item",
            _question(maxLength=3),
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
    assert compile_invariant(expression, type_name)(node, Scope(_NOWHERE)) is met


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
    assert invariant(value, Scope(_NOWHERE), sibling) is met


def test_by_the_letter_an_empty_result_is_neither() -> None:
    reference = compile_invariant(REF_1, "Reference")
    assert reference.outcome({"display": "nobody"}, Scope(_NOWHERE)) is None
    period = compile_invariant(PER_1, "Period")
    assert period.outcome({"start": "2026-01-02", "end": "2026-01"}, Scope(_NOWHERE)) is None


def test_what_cannot_be_evaluated_is_broken() -> None:
    invariant = compile_invariant("name.family = 'a' and name.given.startsWith('a')", "Patient")
    node = {"name": [{"family": "a", "given": ["a", "b"]}]}
    assert invariant(node, Scope(_NOWHERE)) is False
    with pytest.raises(EvaluationError, match="One item is wanted, and there are 2"):
        invariant.outcome(node, Scope(_NOWHERE))


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
    assert invariant(1, Scope(_NOWHERE))
    in_range = compile_invariant(expression, "Range", ("decimal",))
    assert not in_range({"low": {"value": 1, "code": "mg"}}, Scope(_NOWHERE))


# The resource around -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "met"),
    [
        (_flag("#a", "a"), True),
        (_flag("#a", "a", "b"), False),
        (_flag("Patient/1", "a"), False),
        (_flag("#b"), True),
    ],
)
def test_what_is_contained_is_referred_to(flag: dict[str, Any], met: bool) -> None:
    assert compile_invariant(DOM_3, "Flag")(flag, Scope(flag)) is met


def test_the_container_of_a_contained_resource_is_the_root() -> None:
    container = _flag("#a", "a")
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
    scope = Scope(_NOWHERE)
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
    assert invariant(participant, Scope(_NOWHERE))
    assert invariant(participant, Scope(_NOWHERE, resolver=known.get))
    known["Practitioner/9"] = {"resourceType": "Patient"}
    assert not invariant(participant, Scope(_NOWHERE, resolver=known.get))


def test_helpers_answer_what_the_resource_alone_cannot() -> None:
    asked: list[str] = []

    def member_of(item: Item, value_set: str) -> bool | None:
        asked.append(f"{item.value} in {value_set}")
        return bool(item.value == "female")

    scope = Scope(
        _NOWHERE,
        member_of=member_of,
        conforms_to=lambda _item, url: url.endswith("Patient"),
        html_checks=lambda text: "script" not in text,
    )
    patient = resource("patient")
    member = compile_invariant("gender.memberOf('http://v')", "Patient")
    assert member(patient, scope)
    assert asked == ["female in http://v"]
    assert member(patient, Scope(_NOWHERE))
    assert not compile_invariant("conformsTo('http://x/Flag')", "Patient")(patient, scope)
    html = compile_invariant("htmlChecks()", "xhtml")
    assert html("<div>text</div>", scope)
    assert not html("<script/>", scope)


def test_a_trace_is_told_to_who_asks_for_it() -> None:
    told: list[tuple[str, list[Any]]] = []
    scope = Scope(
        _NOWHERE, trace=lambda name, items: told.append((name, [one.value for one in items]))
    )
    path = compile_path("name.trace('names', use).given.first()", "Patient")
    assert [one.value for one in path(resource("patient"), scope)] == ["Ada"]
    assert told == [("names", ["official", "usual", "maiden"])]


def test_a_modifier_that_is_not_known_is_an_error() -> None:
    node = {"modifierExtension": [{"url": "http://m", "valueCode": "a"}], "status": "active"}
    known = compile_invariant("checkModifiers('http://m').status = 'active'", "Flag")
    unknown = compile_invariant("checkModifiers('http://n').status = 'active'", "Flag")
    assert known(node, Scope(_NOWHERE))
    assert not unknown(node, Scope(_NOWHERE))


# What the compiler has not -------------------------------------------------------------------


def test_functions_newer_than_the_standard_are_left_to_fhirpathpy() -> None:
    assert answer("name.given.first().split('d')", resource("patient")) == ["A", "a"]
    assert answer("(1 | 2).sum() + name.count()", resource("patient")) == [6]
    invariant = compile_invariant("name.given.join('+') = 'Ada+May+Ada'", "Patient")
    assert invariant(resource("patient"), Scope(resource("patient")))


def test_fhirpathpy_may_be_asked_by_several_threads() -> None:
    invariant = compile_invariant("name.given.first().split('a').count() = 2", "Patient")
    patient = resource("patient")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: invariant(patient, Scope(patient)), range(40)))
    assert found == [True] * 40


def test_a_regular_expression_is_never_left_to_fhirpathpy() -> None:
    with pytest.raises(BadExpression, match="cannot be mixed"):
        compile_invariant("id.split('a').first().matches('(a+)+$')", "Patient")


# Hostile content -----------------------------------------------------------------------------

_KEYS: Final = (
    "id reference start end _start code value valueCode low high extension contained resourceType"
    " system repeats initial"
)
_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)
_EXPRESSIONS: Final = [
    (ELE_1, "Period"),
    (EXT_1, "Extension"),
    (REF_1, "Reference"),
    (DOM_3, "Flag"),
    (PER_1, "Period"),
    (QUE_13, "Questionnaire.item"),
    ("low.empty() or high.empty() or (low <= high)", "Range"),
    ("value.toString().length() > 1 and value + 1 > 2", "Quantity"),
    ("value.round(2) = value and value.power(9) > 0", "Quantity"),
    ("descendants().ofType(code).isDistinct()", "Patient"),
    ("(start | end).distinct().count() = 2 and start + 1 day > end", "Period"),
]


@given(_JSON, st.sampled_from(_EXPRESSIONS))
def test_no_content_makes_an_invariant_raise(node: Any, asked: tuple[str, str]) -> None:
    invariant = compile_invariant(*asked)
    scope = Scope(node if isinstance(node, dict) else {})
    assert invariant(node, scope) in (True, False)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "^(.*a){20}$", "([a-z]+)*1", "^(a|aa)+$"]
)
def test_a_pattern_that_backtracks_costs_no_more_on_hostile_text(pattern: str) -> None:
    invariant = compile_invariant(f"id.matches('{pattern}')", "Patient")
    node = {"id": "a" * 50_000 + "!"}
    with ending():
        invariant(node, Scope(node))


def test_the_cost_grows_with_the_resource_and_not_with_its_square() -> None:
    """dom-3 of contained resources, each of which is referred to."""
    invariant = compile_invariant(DOM_3, "Flag")

    def taken(count: int) -> int:
        flag = _flag("#0", *map(str, range(count)))
        flag["extension"] = [
            {"url": "http://x", "valueReference": {"reference": f"#{number}"}}
            for number in range(count)
        ]
        return steps(lambda: invariant(flag, Scope(flag)))

    assert taken(1000) < 15 * taken(100)


def test_a_large_number_is_not_written_out() -> None:
    node = {"value": Decimal("1E+999999")}
    for expression in ("value.toString().length() > 1", "value > 0", "value * value > 0"):
        assert not compile_invariant(expression, "Quantity")(node, Scope(_NOWHERE))


def test_a_code_system_of_many_concepts_is_told_distinct() -> None:
    concepts = [
        {"code": str(number), "concept": [{"code": f"{number}a"}]} for number in range(5000)
    ]
    system = {"resourceType": "CodeSystem", "concept": concepts}
    few = {**system, "concept": concepts[:500]}
    invariant = compile_invariant(CSD_1, "CodeSystem")
    assert invariant(system, Scope(system))
    tenth = steps(lambda: invariant(few, Scope(few)))
    assert steps(lambda: invariant(system, Scope(system))) < 15 * tenth
    concepts[7]["concept"] = [{"code": "9a"}]
    assert not invariant(system, Scope(system))


# Short ways ----------------------------------------------------------------------------------

_SHORT: Final = [
    ("name.exists()", "name.where(true).exists()"),
    ("photo.empty()", "photo.where(true).empty()"),
    ("deceased.exists()", "deceased.where(true).exists()"),
    ("name.family.exists()", "name.family.where(true).exists()"),
    ("gender = 'female'", "gender.where(true) = 'female'"),
    ("gender != 'female'", "gender.where(true) != 'female'"),
    ("gender in ('male' | 'female')", "gender in ('male' | 'female').where(true)"),
    ("id.startsWith('kw')", "id.where(true).startsWith('kw')"),
    (f"({ELE_1})", f"({ELE_1}) and true"),
    ("(name.exists()) = (birthDate.exists())", "name.exists() = birthDate.exists().where(true)"),
]


@pytest.mark.parametrize(("short", "general"), _SHORT)
def test_a_short_way_gives_what_the_general_one_gives(short: str, general: str) -> None:
    patients = [
        entry["resource"]
        for transaction in caseload()
        for entry in transaction["entry"]
        if entry["resource"]["resourceType"] == "Patient"
    ]
    patients += [resource("patient"), {"id": "a"}, {"_gender": {"id": "b"}}, {"name": []}]
    for patient in patients:
        assert answer(short, patient, "Patient") == answer(general, patient, "Patient")


@pytest.mark.parametrize(
    "codings",
    [
        [{"system": "s", "code": "c"}],
        [{"system": "s", "code": "other"}, {"system": "s", "code": "c"}],
        [{"system": "s"}, {"code": "c"}],
        [{"system": ["s"], "code": "c"}],
        [],
        "c",
    ],
)
@pytest.mark.parametrize("criterion", ["code = 'c'", "system = 's' and code = 'c'"])
def test_a_text_among_others_is_found_as_if_they_were_counted(codings: Any, criterion: str) -> None:
    plan = {"resourceType": "CarePlan", "category": [{"coding": codings}]}
    found = [
        compile_invariant(f"category.coding.where({criterion}).{asked}", "CarePlan")(
            plan, Scope(plan)
        )
        for asked in ("exists()", "count() > 0")
    ]
    assert found[0] is found[1]
