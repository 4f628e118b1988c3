"""Dates and times against Python's own, and the laws of their order."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.moments import Moment, added, moment, order, time_of_day

_INSTANTS: Final = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-720, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
).map(lambda one: one.replace(microsecond=one.microsecond // 1000 * 1000))
_PARTIAL: Final = st.builds(
    lambda one, length: moment(one.isoformat()[:length]),
    _INSTANTS,
    st.sampled_from([4, 7, 10, 13, 16, 19]),
)


def _read(text: str) -> Moment:
    found = moment(text)
    assert found is not None
    return found


@given(_INSTANTS, _INSTANTS)
def test_whole_instants_have_python_s_order(one: datetime, other: datetime) -> None:
    expected = (one > other) - (one < other)
    assert order(_read(one.isoformat()), _read(other.isoformat())) == expected


@given(_INSTANTS)
def test_the_zone_does_not_matter(one: datetime) -> None:
    first, second = _read(one.isoformat()), _read(one.astimezone(UTC).isoformat())
    assert order(first, second) == 0
    assert first.key == second.key


@given(_PARTIAL, _PARTIAL)
def test_the_other_way_round_the_order_is_turned(one: Moment, other: Moment) -> None:
    found, turned = order(one, other), order(other, one)
    assert (found is None and turned is None) or (found == -(turned or 0))
    assert order(one, one) == 0


@given(_INSTANTS, st.integers(-100_000, 100_000))
def test_seconds_are_added_as_python_adds_them(one: datetime, seconds: int) -> None:
    found = added(_read(one.isoformat()), Decimal(seconds), "second")
    assert found is not None
    assert order(found, _read((one + timedelta(seconds=seconds)).isoformat())) == 0
    assert order(_read(found.text), found) == 0


@given(_INSTANTS, st.integers(-1000, 1000))
def test_days_are_added_as_python_adds_them(one: datetime, days: int) -> None:
    found = added(_read(one.date().isoformat()), Decimal(days), "day")
    assert found == _read((one.date() + timedelta(days=days)).isoformat())


@pytest.mark.parametrize(
    "text",
    [
        *("", "12", "2012-13", "2012-02-30", "2012-3", "2012T10", "2012-03-29T24:00"),
        *("2012-03-29Z", "2012-03-29TZ", "2012-03-29T10:60", "2012-03-29T10:00+15:00"),
        *("2012-03-29 10:00", "٢٠١٢"),
    ],
)
def test_what_is_not_in_the_calendar_is_no_moment(text: str) -> None:
    assert moment(text) is None


@pytest.mark.parametrize("text", ["24:00", "10:60", "1:00", "", "T", "10:00Z"])
def test_what_no_clock_shows_is_no_time(text: str) -> None:
    assert time_of_day(text) is None
