"""Text to tree: https://hl7.org/fhirpath/N1/#operator-precedence."""

from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    Empty,
    External,
    Index,
    Literal,
    Moment,
    Node,
    QuantityLiteral,
    Sign,
    Step,
    TypeTest,
    Variable,
)
from fhir_server.fhirpath.parse import LEVELS, MAX_DEPTH, MAX_LENGTH, parse
from fhir_server.fhirpath.problems import BadSyntax
from tests.fhirpath.render import render
from tests.work import ending

_NAMES: Final = st.sampled_from(
    ["name", "given", "value", "contains", "in", "is", "as", "div", "`", "a b", "Patient", "é"]
)
_TEXT: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
_LEAVES: Final[st.SearchStrategy[Node]] = st.one_of(
    st.booleans().map(Literal),
    _TEXT.map(Literal),
    st.integers(0, 10**9).map(Literal),
    st.decimals(0, 10**6, places=3).map(Literal),
    st.just(Empty()),
    st.sampled_from(["2012", "2012-03-29", "2012-03-29T10:30:00.5+01:00", "T10:30"]).map(Moment),
    st.builds(QuantityLiteral, st.decimals(0, 99, places=1), _TEXT, st.just(False)),
    st.builds(QuantityLiteral, st.decimals(0, 99, places=1), st.just("day"), st.just(True)),
    _NAMES.map(External),
    st.sampled_from(["this", "index", "total"]).map(Variable),
    st.builds(Step, st.none(), _NAMES),
)


_TYPE_TESTS: Final = ("is", "as")


def _larger(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    operators = [operator for level in LEVELS for operator in level if operator not in _TYPE_TESTS]
    return st.one_of(
        st.builds(Binary, st.sampled_from(operators), inner, inner),
        st.builds(Step, inner, _NAMES),
        st.builds(Call, st.none() | inner, _NAMES, st.lists(inner, max_size=2).map(tuple)),
        st.builds(Index, inner, inner),
        st.builds(Sign, st.sampled_from("+-"), inner),
        st.builds(TypeTest, st.sampled_from(_TYPE_TESTS), inner, _NAMES),
    )


@given(st.recursive(_LEAVES, _larger, max_leaves=12))
def test_a_tree_that_is_written_out_is_read_as_itself(tree: Node) -> None:
    assert parse(render(tree)) == tree


@given(st.text(max_size=40) | st.text("ab.()[]{}'`%$@+-=<>~!&|*/,0123T:\\ ", max_size=40))
def test_whatever_is_no_expression_is_refused_with_its_position(text: str) -> None:
    position = 0
    try:
        parse(text)
    except BadSyntax as error:
        position = error.position
    assert 0 <= position <= len(text)


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("a or b and c", "a or (b and c)"),
        ("a implies b or c", "a implies (b or c)"),
        ("a implies b implies c", "(a implies b) implies c"),
        ("a and b in c", "a and (b in c)"),
        ("a in b = c", "a in (b = c)"),
        ("a = b < c", "a = (b < c)"),
        ("a < b | c", "a < (b | c)"),
        ("a | b + c", "a | (b + c)"),
        ("a < b is C", "(a < b) is C"),
        ("a + b is C", "(a + b) is C"),
        ("a = b is C", "a = (b is C)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a & b + c", "(a & b) + c"),
        ("-a.b", "-(a.b)"),
        ("-a * b", "(-a) * b"),
        ("a.b[c].d", "((a.b)[c]).d"),
        ("a div b mod c", "(a div b) mod c"),
    ],
)
def test_operators_bind_as_the_standard_says(short: str, whole: str) -> None:
    assert parse(short) == parse(whole)


def test_keywords_are_names_where_an_operand_stands() -> None:
    assert parse("contains.in") == Step(Step(None, "contains"), "in")
    assert parse("a.contains('b')") == Call(Step(None, "a"), "contains", (Literal("b"),))
    assert parse("is is as") == TypeTest("is", Step(None, "is"), "as")


def test_a_decimal_keeps_its_digits() -> None:
    assert str(parse("1.50")) == str(Literal(Decimal("1.50")))


@pytest.mark.parametrize(
    ("text", "position"),
    [("a.b c", 4), ("(a", 2), ("a = ", 4), ("a ? b", 2), ("a.where(b", 9), ("'a", 0), ("a[1", 3)],
)
def test_the_position_is_that_of_what_does_not_belong(text: str, position: int) -> None:
    with pytest.raises(BadSyntax) as caught:
        parse(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    [
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "(" * 10_000,
        "-" * 5_000 + "1",
        "a.where(" * 100 + "b" + ")" * 100,
        "a" + ".b" * 5_000,
        "a" + " and b" * 1_000,
        "a" * (MAX_LENGTH + 1),
        "1" * 1_000,
        "a[" * 1_000,
    ],
)
def test_what_is_too_long_or_too_deep_is_refused_at_once(text: str) -> None:
    with ending(), pytest.raises(BadSyntax):
        parse(text)


def test_the_deepest_that_is_allowed_can_be_read() -> None:
    assert parse("(" * (MAX_DEPTH - 1) + "a" + ")" * (MAX_DEPTH - 1)) == Step(None, "a")
