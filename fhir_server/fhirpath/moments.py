"""Dates, times and their partial precision.

Two moments that agree as far as the less precise one goes are neither equal nor different: the
answer is None. Seconds and their fraction are one precision.

Sources: https://hl7.org/fhirpath/N1/#equals (precision, time zones),
https://hl7.org/fhirpath/N1/#datetime-arithmetic.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Final

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
    r"(?:(T)(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d{1,12})?))?)?)?)?(Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_TIME: Final = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d{1,12})?))?)?", re.ASCII)
_DAY: Final = 3
_MINUTES: Final = 5
"""Parts of a moment that is precise to the minute."""
_NAMES: Final = ("year", "month", "day", "hour", "minute", "second")
_SECONDS: Final = {"week": 604800, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
_EARLIEST_YEAR: Final = 1
_LATEST_YEAR: Final = 9999


@dataclass(frozen=True, slots=True)
class Moment:
    """`parts` are year, month, day, hour, minute, second, as many as are known; of a time of day
    they begin with the hour. `offset` are minutes ahead of UTC."""

    kind: str
    """date, dateTime or time"""
    parts: tuple[int | Decimal, ...]
    offset: int | None
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def key(self) -> tuple[object, ...]:
        """The same for moments that are equal."""
        return (self.kind == "time", _in_utc(self) if self.offset is not None else self.parts)


@lru_cache(maxsize=4096)
def moment(text: str) -> Moment | None:
    """A date or dateTime; None when it is neither, or not in the calendar."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day = [int(part) for part in found.group(1, 2, 3) if part]
    if found[4] and found[5] is None and found[8]:
        return None
    if not _in_calendar(day) or (found[5] and len(day) < 3) or (found[8] and not found[4]):
        return None
    clock = _clock(found[5], found[6], found[7])
    offset = _offset(found[8])
    if clock is None or (found[8] and offset is None):
        return None
    return Moment("dateTime" if found[4] else "date", (*day, *clock), offset, text)


@lru_cache(maxsize=1024)
def time_of_day(text: str) -> Moment | None:
    found = _TIME.fullmatch(text)
    clock = _clock(*found.groups()) if found else None
    return Moment("time", clock, None, text.removeprefix("T")) if clock else None


def _in_calendar(day: list[int]) -> bool:
    try:
        date(*[*day, 1, 1][:3])
    except ValueError:
        return False
    return True


def _clock(
    hour: str | None, minute: str | None, second: str | None
) -> tuple[int | Decimal, ...] | None:
    if hour is None:
        return ()
    parts: list[int | Decimal] = [int(hour)]
    if minute is not None:
        parts.append(int(minute))
    if second is not None:
        parts.append(Decimal(second))
    in_range = int(hour) < 24 and int(minute or 0) < 60 and Decimal(second or 0) < 61
    return tuple(parts) if in_range else None


def _offset(zone: str | None) -> int | None:
    if zone is None or zone == "Z":
        return None if zone is None else 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    if minutes > 14 * 60:
        return None
    return -minutes if zone[0] == "-" else minutes


def order(left: Moment, right: Moment) -> int | None:
    """-1, 0 or 1; None where precision or time zones do not let one say."""
    if (left.kind == "time") != (right.kind == "time"):
        return None
    if left.offset == right.offset or min(len(left.parts), len(right.parts)) <= _DAY:
        return _order_of_parts(left.parts, right.parts)
    if left.offset is None or right.offset is None:
        return _order_of_days(left, right)
    return _order_of_parts(_in_utc(left), _in_utc(right))


def _order_of_parts(
    left: tuple[int | Decimal, ...], right: tuple[int | Decimal, ...]
) -> int | None:
    for one, other in zip(left, right, strict=False):
        if one != other:
            return -1 if one < other else 1
    return 0 if len(left) == len(right) else None


def _order_of_days(left: Moment, right: Moment) -> int | None:
    """Only one names a zone: what is more than a day apart can be told all the same."""
    first, second = (date(*map(int, one.parts[:_DAY])) for one in (left, right))
    days = (first - second).days
    return None if abs(days) <= 1 else -1 if days < 0 else 1


def _in_utc(given: Moment) -> tuple[int | Decimal, ...]:
    parts = given.parts
    if len(parts) <= _DAY or not given.offset:
        return parts
    whole = [int(part) for part in (*parts[:_MINUTES], 0)[:_MINUTES]]
    try:
        moved = datetime(*whole) - timedelta(minutes=given.offset)  # type: ignore[arg-type]  # noqa: DTZ001
    except OverflowError:
        return parts
    return (*moved.timetuple()[:_MINUTES][: len(parts)], *parts[_MINUTES:])


# Arithmetic ----------------------------------------------------------------------------------


def added(given: Moment, amount: Decimal, unit: str) -> Moment | None:
    """The moment that much later, of the same precision; None beyond the calendar.

    `unit` is a calendar word; an amount in a finer unit than the moment has counts in whole
    units of what it has. Of units above the second, a part of one is left out.
    """
    if unit == "millisecond":
        unit, amount = "second", amount / 1000
    elif unit != "second":
        amount = Decimal(int(amount))
    if given.kind == "time":
        return _added_to_time(given, amount, unit)
    if unit in ("year", "month"):
        return _added_months(given, int(amount) * (12 if unit == "year" else 1))
    finest = _NAMES[len(given.parts) - 1]
    seconds = amount * _SECONDS[unit]
    if finest in ("year", "month"):
        days = int(seconds / _SECONDS["day"])
        return _added_months(given, int(days / 365) * 12 if finest == "year" else int(days / 30))
    whole = int(seconds / _SECONDS[finest]) * _SECONDS[finest] if finest != "second" else seconds
    return _added_seconds(given, Decimal(whole))


def _added_to_time(given: Moment, amount: Decimal, unit: str) -> Moment | None:
    if unit not in ("hour", "minute", "second"):
        return None
    hour, minute, second = (*given.parts, 0, 0)[:3]
    total = (
        Decimal(int(hour) * 3600 + int(minute) * 60) + second + amount * _SECONDS[unit]
    ) % 86400
    if total < 0:
        total += 86400
    parts = (int(total // 3600), int(total // 60 % 60), total % 60)[: len(given.parts)]
    return _remade(given, parts)


def _added_months(given: Moment, months: int) -> Moment | None:
    parts = list(given.parts)
    index = int(parts[0]) * 12 + (int(parts[1]) - 1 if len(parts) > 1 else 0) + months
    year, month = divmod(index, 12)
    if not _EARLIEST_YEAR <= year <= _LATEST_YEAR:
        return None
    parts[0] = year
    if len(parts) > 1:
        parts[1] = month + 1
    if len(parts) > 2:
        parts[2] = min(int(parts[2]), calendar.monthrange(year, month + 1)[1])
    return _remade(given, tuple(parts))


def _added_seconds(given: Moment, seconds: Decimal) -> Moment | None:
    year, month, day, hour, minute, second = (*given.parts, 0, 0, 0)[:6]
    try:
        start = datetime(int(year), int(month), int(day), int(hour), int(minute))  # noqa: DTZ001
        total = Decimal(second) + seconds
        minutes = int((total / 60).to_integral_value(ROUND_FLOOR))
        moved = start + timedelta(minutes=minutes)
    except (OverflowError, ArithmeticError):
        return None
    rest = total - minutes * 60
    parts = (*moved.timetuple()[:_MINUTES], rest)[: len(given.parts)]
    return _remade(given, parts)


def _remade(given: Moment, parts: tuple[int | Decimal, ...]) -> Moment:
    clock = parts if given.kind == "time" else parts[3:]
    pieces = [f"{int(part):02d}" for part in clock[:2]] + [_seconds(part) for part in clock[2:]]
    text = ":".join(pieces)
    if given.kind != "time":
        day = "-".join(
            f"{part:0{4 if at == 0 else 2}d}" for at, part in enumerate(map(int, parts[:3]))
        )
        text = day + ("T" + text if given.kind == "dateTime" else "") + _zone(given.text)
    return Moment(given.kind, parts, given.offset, text)


def _seconds(part: int | Decimal) -> str:
    text = f"{Decimal(part):f}"
    return text if len(text.partition(".")[0]) == 2 else "0" + text


def _zone(text: str) -> str:
    found = re.search(r"(?:Z|[+-]\d\d:\d\d)$", text, re.ASCII)
    return found[0] if found and "T" in text else ""
