"""NHS numbers: nine digits and a modulus 11 check digit.

Source: NHS Data Dictionary, NHS NUMBER
https://www.datadictionary.nhs.uk/attributes/nhs_number.html. Numbers beginning 999 are never
given to a person: NHS England keeps them for tests, so the synthetic caseload takes only those.
"""

import re
from typing import Final

_SHAPE: Final = re.compile(r"[0-9]{10}")
_WEIGHTS: Final = range(10, 1, -1)
_TEST_PREFIX: Final = "999"
_TEST_SERIALS: Final = 9 * 10**5


def check_digit(nine_digits: str) -> int | None:
    """The tenth digit for the first nine, or None where no valid number begins with them."""
    if not re.fullmatch(r"[0-9]{9}", nine_digits):
        raise ValueError(f"An NHS number is checked over nine digits, not {nine_digits!r}")
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, nine_digits, strict=True))
    check = -total % 11
    return None if check == 10 else check


def is_valid(value: str) -> bool:
    """Ten digits without spaces, as FHIR identifiers carry them, whose last digit checks."""
    return bool(_SHAPE.fullmatch(value)) and check_digit(value[:9]) == int(value[9])


def is_for_tests(value: str) -> bool:
    """Ten digits of the range that is never given to a person."""
    return bool(_SHAPE.fullmatch(value)) and value.startswith(_TEST_PREFIX)


def synthetic(serial: int) -> str:
    """The valid number of the 999 range that belongs to a serial from 0 to 899,999.

    The ninth digit weighs two, which no other digit cancels modulo 11, so at most one of its ten
    values leaves no check digit: nine serials to every five-digit block are always there.
    """
    if not 0 <= serial < _TEST_SERIALS:
        raise ValueError(f"A synthetic serial lies between 0 and {_TEST_SERIALS - 1}")
    block, place = divmod(serial, 9)
    candidates = (f"{_TEST_PREFIX}{block:05d}{digit}" for digit in range(10))
    checked = ((first, check_digit(first)) for first in candidates)
    return [f"{first}{check}" for first, check in checked if check is not None][place]
