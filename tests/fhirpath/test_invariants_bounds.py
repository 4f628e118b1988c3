"""Invariants and what they cost: hostile content, and short ways that mean what long ones do."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.invariant import compile_invariant
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.problems import BadExpression
from tests.fhirpath.ask import answer, resource
from tests.fhirpath.invariants import (
    CSD_1,
    DOM_3,
    ELE_1,
    EXT_1,
    NOWHERE,
    PER_1,
    QUE_13,
    REF_1,
    flag_of,
)
from tests.support import caseload
from tests.work import ending, steps

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
        flag = flag_of("#0", *map(str, range(count)))
        flag["extension"] = [
            {"url": "http://x", "valueReference": {"reference": f"#{number}"}}
            for number in range(count)
        ]
        return steps(lambda: invariant(flag, Scope(flag)))

    assert taken(1000) < 15 * taken(100)


def test_a_large_number_is_not_written_out() -> None:
    node = {"value": Decimal("1E+999999")}
    for expression in ("value.toString().length() > 1", "value > 0", "value * value > 0"):
        assert not compile_invariant(expression, "Quantity")(node, Scope(NOWHERE))


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
