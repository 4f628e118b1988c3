"""England's bank holidays, compared with the library `holidays`."""

from datetime import date, timedelta

import holidays
import pytest

from operations._calendar import is_working_day
from tools import build_bank_holidays

_DAYS = (date(2101, 1, 1) - date(2000, 1, 1)).days
_LIBRARY = holidays.country_holidays("GB", subdiv="ENG", language="en_GB")


def test_the_table_is_what_the_library_makes_of_it() -> None:
    """Whoever takes a newer release of the library, which may know more, builds the table anew."""
    assert build_bank_holidays.TABLE.read_text() == build_bank_holidays.text()


def test_each_day_is_a_working_day_as_the_library_has_it() -> None:
    for day in (date(2000, 1, 1) + timedelta(days=number) for number in range(_DAYS)):
        assert is_working_day(day) == (day.weekday() < 5 and day not in _LIBRARY), day


@pytest.mark.parametrize(
    ("day", "why"),
    [
        (date(2026, 4, 3), "Good Friday"),
        (date(2026, 12, 28), "in place of Boxing Day, a Saturday"),
        (date(2022, 9, 19), "proclaimed for the state funeral of Queen Elizabeth II"),
        (date(2023, 5, 8), "proclaimed for the coronation of King Charles III"),
    ],
)
def test_nobody_works_on(day: date, why: str) -> None:
    assert not is_working_day(day), why


def test_a_year_beyond_the_table_has_its_weekdays() -> None:
    assert is_working_day(date(2107, 12, 26))
