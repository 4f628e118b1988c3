"""How texts and numbers are made comparable: https://hl7.org/fhir/R4/search.html#string."""

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.values import INFINITY, fold, to_float


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ash", "ash"),
        ("É", "e"),
        ("E\u0301", "e"),
        ("Straße", "strasse"),
        ("ẞ", "ss"),
        ("İ", "i"),
        ("\ufb01", "fi"),
        ("Ⅷ", "viii"),
        ("ΐ", "ι"),
        ("ŉ", "ʼn"),
        ("Ａｓｈ", "ash"),
        ("각", "각"),
        ("  a \t\n b ", "a b"),
        ("a\u00a0b", "a b"),
        ("\u0301", ""),
        ("", ""),
    ],
)
def test_folding_forgets_case_accents_and_surplus_space(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_folding_does_not_see_the_form_of_normalisation(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, text)) == fold(text)


@given(st.text())
def test_folding_does_not_see_case(text: str) -> None:
    assert fold(text.upper()) == fold(text.casefold().upper())


finite = st.decimals(allow_nan=False, allow_infinity=False)


@given(finite, finite)
def test_doubles_keep_the_order_of_decimals(one: Decimal, other: Decimal) -> None:
    assert (to_float(one) <= to_float(other)) or one > other


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (Decimal("5.40"), 5.4),
        (Decimal("1e400"), INFINITY),
        (Decimal("-1e400"), -INFINITY),
        (10**400, INFINITY),
        (-(10**400), -INFINITY),
        (Decimal("1e-400"), 0.0),
    ],
)
def test_numbers_beyond_a_double_are_its_ends(number: Decimal | int, expected: float) -> None:
    assert to_float(number) == expected
