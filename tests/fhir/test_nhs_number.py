"""NHS numbers: https://www.datadictionary.nhs.uk/attributes/nhs_number.html."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir.nhs_number import check_digit, is_for_tests, is_valid, synthetic

SERIALS = st.integers(min_value=0, max_value=899_999)


@pytest.mark.parametrize("value", ["9434765919", "9000000009", "9990000018"])
def test_a_number_with_its_check_digit_is_valid(value: str) -> None:
    assert is_valid(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("9434765918", id="wrong check digit"),
        pytest.param("943 476 5919", id="spaces, which an identifier does not carry"),
        pytest.param("943476591", id="nine digits"),
        pytest.param("94347659190", id="eleven digits"),
        pytest.param("٩٤٣٤٧٦٥٩١٩", id="digits that are not ASCII"),
        pytest.param("9434765919\n", id="trailing line break"),
        pytest.param("", id="empty"),
    ],
)
def test_anything_else_is_not_valid(value: str) -> None:
    assert not is_valid(value)


def test_some_nine_digits_begin_no_number() -> None:
    assert check_digit("999000014") is None
    assert not any(is_valid(f"999000014{digit}") for digit in range(10))


@pytest.mark.parametrize("value", ["", "12345678", "1234567890", "12345678x"])
def test_a_check_digit_is_taken_over_nine_digits_only(value: str) -> None:
    with pytest.raises(ValueError, match="nine digits"):
        check_digit(value)


@given(SERIALS)
def test_a_synthetic_number_is_valid_and_of_the_test_range(serial: int) -> None:
    assert is_valid(synthetic(serial))
    assert synthetic(serial).startswith("999")


@given(SERIALS, SERIALS)
def test_two_serials_never_share_a_number(one: int, other: int) -> None:
    assert (synthetic(one) == synthetic(other)) == (one == other)


@pytest.mark.parametrize("serial", [-1, 900_000])
def test_a_serial_outside_the_range_is_refused(serial: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 899999"):
        synthetic(serial)


@given(SERIALS, st.integers(min_value=0, max_value=9), st.integers(min_value=1, max_value=9))
def test_one_changed_digit_is_noticed(serial: int, place: int, change: int) -> None:
    digits = [int(digit) for digit in synthetic(serial)]
    digits[place] = (digits[place] + change) % 10
    assert not is_valid("".join(map(str, digits)))


@given(SERIALS, st.integers(min_value=0, max_value=8))
def test_two_swapped_neighbours_are_noticed(serial: int, place: int) -> None:
    value = synthetic(serial)
    swapped = value[:place] + value[place + 1] + value[place] + value[place + 2 :]
    assert is_valid(swapped) == (swapped == value)


def test_numbers_for_tests_are_told_from_those_of_people() -> None:
    assert is_for_tests(synthetic(7))
    assert not is_for_tests("9430000000")
    assert not is_for_tests("999000")
