"""Dates as intervals: https://hl7.org/fhir/R4/datatypes.html#dateTime.

The oracle is datetime with zoneinfo.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir.dates import EARLIEST, LATEST, instant, interval, microseconds, moment

LONDON: Final = ZoneInfo("Europe/London")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = 3_600_000_000


def at(text: str) -> int:
    """Microseconds of an ISO time with its offset, by datetime."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026", "2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("2026-12", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("2026-06", "2026-06-01T00:00:00+01:00", "2026-07-01T00:00:00+01:00"),
        ("2026-06-15", "2026-06-15T00:00:00+01:00", "2026-06-16T00:00:00+01:00"),
        ("2024-02-29", "2024-02-29T00:00:00+00:00", "2024-03-01T00:00:00+00:00"),
        ("2026-12-31", "2026-12-31T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        # The days when the clocks change have 23 and 25 hours.
        ("2026-03-29", "2026-03-29T00:00:00+00:00", "2026-03-30T00:00:00+01:00"),
        ("2026-10-25", "2026-10-25T00:00:00+01:00", "2026-10-26T00:00:00+00:00"),
        # London was an hour ahead all through 1970.
        ("1970-01-01", "1970-01-01T00:00:00+01:00", "1970-01-02T00:00:00+01:00"),
        ("2026-06-15T10:30", "2026-06-15T10:30:00+01:00", "2026-06-15T10:31:00+01:00"),
        ("2026-01-15T10:30", "2026-01-15T10:30:00+00:00", "2026-01-15T10:31:00+00:00"),
        ("2026-06-15T10:30Z", "2026-06-15T10:30:00+00:00", "2026-06-15T10:31:00+00:00"),
        ("2026-06-15T10:30:05Z", "2026-06-15T10:30:05+00:00", "2026-06-15T10:30:06+00:00"),
        ("2026-06-15T10:30:05-14:00", "2026-06-16T00:30:05+00:00", "2026-06-16T00:30:06+00:00"),
        ("2026-06-15T10:30:05+05:45", "2026-06-15T04:45:05+00:00", "2026-06-15T04:45:06+00:00"),
        ("2026-06-15T10:30:05.1Z", "2026-06-15T10:30:05.1+00:00", "2026-06-15T10:30:05.2+00:00"),
        (
            "2026-06-15T10:30:05.123Z",
            "2026-06-15T10:30:05.123+00:00",
            "2026-06-15T10:30:05.124+00:00",
        ),
        # A leap second is the first second of the next minute.
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00", "2017-01-01T00:00:01+00:00"),
    ],
)
def test_a_date_is_as_long_as_its_precision(text: str, low: str, high: str) -> None:
    assert interval(text) == (at(low), at(high))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_days_when_the_clocks_change(day: str, hours: int) -> None:
    low, high = interval(day)
    assert high - low == hours * HOUR


def test_a_local_time_that_comes_twice_is_the_first() -> None:
    assert interval("2026-10-25T01:30:00").low == at("2026-10-25T01:30:00+01:00")


def test_digits_beyond_microseconds_do_not_count() -> None:
    assert interval("2026-01-01T00:00:00.1234569Z") == interval("2026-01-01T00:00:00.123456Z")


@pytest.mark.parametrize("text", ["9999", "9999-12", "9999-12-31"])
def test_the_end_of_the_calendar_is_open(text: str) -> None:
    low, high = interval(text)
    assert high == LATEST
    assert low >= at("9999-01-01T00:00:00+00:00")


def test_the_beginning_of_the_calendar() -> None:
    assert interval("0001").low == interval("0001-01-01").low == at("0001-01-01T00:00:00+00:00")
    assert interval("0001-01-01T00:00:00+14:00").low > EARLIEST
    assert interval("9999-12-31T23:59:59-14:00").high < LATEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 2026",
        "2026 ",
        "2026\n",
        "26",
        "02026",
        "0000",
        "10000",
        "-2026",
        "+2026",
        "2026-",
        "2026-00",
        "2026-13",
        "2026-1",
        "2026-02-30",
        "2025-02-29",
        "1900-02-29",
        "2026-04-31",
        "20260101",
        "2026/01/01",
        "2026-W01",
        "2026-001",
        "2026-01-01T",
        "2026-01-01T10",
        "2026-01-01 10:00",
        "2026-01-01t10:00z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T10:60:00Z",
        "2026-01-01T10:00:61Z",
        "2026-01-01T10:00:00.Z",
        "2026-01-01T10:00:00,5Z",
        "2026-01-01T10:00:00+1",
        "2026-01-01T10:00:00+0100",
        "2026-01-01T10:00:00+14:60",
        "2026-01-01T10:00:00+15:00",
        "2026-01-01T10:00:00z",
        "2026-01Z",
        "２０２６",
        "٢٠٢٦-٠١",
        "now",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|month|day|hour|minute|second|offset|year"):
        interval(text)


years: Final = st.integers(1850, 9998)
"""Before 1847, London had its own time; at the calendar's ends there is no zone to apply."""


@given(st.dates(date(1850, 1, 1), date(9998, 12, 30)))
def test_a_day_runs_from_midnight_to_midnight_in_london(day: date) -> None:
    following = day + timedelta(days=1)
    midnights = [datetime(d.year, d.month, d.day, tzinfo=LONDON) for d in (day, following)]
    expected = tuple((midnight - EPOCH) // timedelta(microseconds=1) for midnight in midnights)
    assert interval(day.isoformat()) == expected


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60),
)
def test_times_with_a_zone_are_those_of_datetime(local: datetime, offset: int) -> None:
    zoned = local.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = zoned.isoformat(timespec="microseconds")
    low, high = interval(text)
    assert low == microseconds(zoned) == (zoned - EPOCH) // timedelta(microseconds=1)
    assert high - low == 1


@given(st.datetimes(datetime(1850, 1, 1), datetime(9998, 12, 31)))  # noqa: DTZ001
def test_times_without_a_zone_are_local(local: datetime) -> None:
    expected = (local.replace(tzinfo=LONDON, fold=0) - EPOCH) // timedelta(microseconds=1)
    assert interval(local.isoformat(timespec="microseconds")).low == expected


@given(years, st.integers(1, 12))
def test_months_and_days_fill_the_year_without_gaps(year: int, month: int) -> None:
    months = [interval(f"{year}-{m:02}") for m in range(1, 13)]
    assert (months[0].low, months[-1].high) == interval(f"{year}")
    assert all(one.high == next_.low for one, next_ in pairwise(months))
    day = date(year, month, 1)
    days = []
    while day.month == month:
        days.append(interval(day.isoformat()))
        day += timedelta(days=1)
    assert (days[0].low, days[-1].high) == months[month - 1]
    assert all(one.high == next_.low for one, next_ in pairwise(days))


@given(st.integers(at("1000-01-01T00:00:00+00:00"), at("9999-12-31T23:59:59+00:00")))
def test_instants_come_back(since_epoch: int) -> None:
    text = instant(since_epoch)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert interval(text) == (since_epoch, since_epoch + 1)
    assert microseconds(moment(since_epoch)) == since_epoch


@given(st.text(max_size=25) | st.from_regex(r"\d{4}(-\d\d){0,2}(T[\d:.]{2,12}[Z+-]?[\d:]{0,5})?"))
def test_any_text_is_a_date_or_refused(text: str) -> None:
    try:
        low, high = interval(text)
    except ValueError:
        return
    assert EARLIEST < low < high <= LATEST
