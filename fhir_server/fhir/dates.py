"""FHIR dates as intervals of time.

A date is as long as its precision says: `2026` is a year, `2026-03-29` a day of 23 hours in
London. Intervals are half open, `[low, high)`, in microseconds since 1970-01-01T00:00:00Z.
Sources: https://hl7.org/fhir/R4/datatypes.html#dateTime,
https://hl7.org/fhir/R4/search.html#date.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

LOCAL: Final = ZoneInfo("Europe/London")
"""The zone of dates that name none: the service is English."""

EARLIEST: Final = -(2**62)
LATEST: Final = 2**62
"""Open ends of a period."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PATTERN: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


class Interval(NamedTuple):
    """`[low, high)` in microseconds since the epoch."""

    low: int
    high: int


@lru_cache(maxsize=4096)
def interval(text: str) -> Interval:
    """The time that a FHIR date, dateTime or instant, or a search date, covers.

    Raises:
        ValueError: when it is no date, or a day that the calendar does not have.
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is not a date")
    if found["hour"] is None:
        return _calendar_interval(found)
    return _clock_interval(found)


def _calendar_interval(found: re.Match[str]) -> Interval:
    year, month, day = int(found["year"]), int(found["month"] or 1), int(found["day"] or 1)
    first = date(year, month, day)
    if found["day"]:
        following = first + timedelta(days=1) if first < date.max else None
    elif found["month"]:
        following = _first_of_month(year, month + 1)
    else:
        following = _first_of_month(year + 1, 1)
    return Interval(_midnight(first), LATEST if following is None else _midnight(following))


def _first_of_month(year: int, month: int) -> date | None:
    year, month = (year + 1, 1) if month > 12 else (year, month)
    return date(year, month, 1) if year <= date.max.year else None


def _midnight(day: date) -> int:
    local = datetime(day.year, day.month, day.day, tzinfo=LOCAL)
    # At the ends of the calendar, the change of zone would leave it.
    if day.year in (1, 9999):
        local = local.replace(tzinfo=UTC)
    return microseconds(local)


def _clock_interval(found: re.Match[str]) -> Interval:
    second = int(found["second"] or 0)
    leap = second == 60
    moment = datetime(
        int(found["year"]),
        int(found["month"]),
        int(found["day"]),
        int(found["hour"]),
        int(found["minute"]),
        59 if leap else second,
        tzinfo=UTC,
    )
    low = microseconds(moment) - _offset(found["zone"], moment) + (1_000_000 if leap else 0)
    if found["second"] is None:
        return Interval(low, low + 60_000_000)
    if found["fraction"] is None:
        return Interval(low, low + 1_000_000)
    digits = found["fraction"][:6]
    low += int(digits.ljust(6, "0"))
    return Interval(low, low + 10 ** (6 - len(digits)))


def _offset(zone: str | None, moment: datetime) -> int:
    """Microseconds that the zone is ahead of UTC at that local time."""
    if zone is None:
        if moment.year in (1, 9999):
            return 0
        ahead = moment.replace(tzinfo=LOCAL).utcoffset()
        return (ahead or timedelta()) // _MICROSECOND
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError(f"'{zone}' is not an offset between -14:00 and +14:00")
    total = (hours * 60 + minutes) * 60_000_000
    return -total if zone[0] == "-" else total


def microseconds(moment: datetime) -> int:
    """Since the epoch; `moment` has a zone."""
    return (moment - _EPOCH) // _MICROSECOND


_FIRST: Final = microseconds(datetime(1, 1, 2, tzinfo=UTC))
_LAST: Final = microseconds(datetime.max.replace(tzinfo=UTC))
"""The ends of the calendar, each of which is a day in London too."""


def moment(since_epoch: int) -> datetime:
    """The time in UTC that many microseconds after the epoch; at most an end of the calendar."""
    return _EPOCH + timedelta(microseconds=min(max(since_epoch, _FIRST), _LAST))


def instant(since_epoch: int) -> str:
    """A FHIR instant in UTC with microseconds, as in `meta.lastUpdated`."""
    seconds, microseconds = divmod(min(max(since_epoch, _FIRST), _LAST), 1_000_000)
    return f"{_second(seconds)}.{microseconds:06}Z"


@lru_cache(maxsize=64)
def _second(since_epoch: int) -> str:
    """Many are told in one second."""
    return moment(since_epoch * 1_000_000).replace(tzinfo=None).isoformat()
