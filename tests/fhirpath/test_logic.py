"""Boolean algebra with three values: https://hl7.org/fhirpath/N1/#boolean-logic."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.fhirpath.ask import answer, resource
from tests.fhirpath.oracle import theirs

_LEAVES: Final = st.sampled_from(
    [
        "true",
        "false",
        "{}",
        "active",
        "photo.title.hasValue()",
        "gender = 'male'",
        "photo.title = 'a'",
    ]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.builds(
        lambda left, operator, right: f"({left} {operator} {right})",
        inner,
        st.sampled_from(["and", "or", "xor", "implies", "=", "!="]),
        inner,
    )
    return binary | inner.map("({}).not()".format) | inner.map("iif({}, true, false)".format)


_BOOLEANS: Final = st.recursive(_LEAVES, _larger, max_leaves=8)


def _same(left: str, right: str) -> bool:
    return answer(left, resource("patient")) == answer(right, resource("patient"))


@given(_BOOLEANS)
def test_every_boolean_expression_gives_what_fhirpathpy_gives(expression: str) -> None:
    patient = resource("patient")
    assert answer(expression, patient) == theirs(expression, patient, "Patient", patient, patient)


@given(_BOOLEANS, _BOOLEANS)
def test_not_changes_and_into_or(left: str, right: str) -> None:
    assert _same(f"({left} and {right}).not()", f"({left}).not() or ({right}).not()")
    assert _same(f"({left} or {right}).not()", f"({left}).not() and ({right}).not()")


@given(_BOOLEANS, _BOOLEANS)
def test_implies_is_not_or_and_xor_is_difference(left: str, right: str) -> None:
    assert _same(f"{left} implies {right}", f"({left}).not() or {right}")
    assert _same(f"{left} xor {right}", f"({left}) != ({right})")


@given(_BOOLEANS, _BOOLEANS, _BOOLEANS)
def test_the_order_and_grouping_of_and_and_or_do_not_matter(a: str, b: str, c: str) -> None:
    for operator in ("and", "or"):
        assert _same(f"{a} {operator} {b}", f"{b} {operator} {a}")
        assert _same(f"({a} {operator} {b}) {operator} {c}", f"{a} {operator} ({b} {operator} {c})")
    assert _same(f"{a} and ({b} or {c})", f"({a} and {b}) or ({a} and {c})")


@given(_BOOLEANS)
def test_a_criterion_is_what_the_expression_is_alone(expression: str) -> None:
    assert answer(f"$this.all({expression})", resource("patient")) == [
        answer(expression, resource("patient")) == [True]
    ]
