"""Due dates: working days, hours, months, birthdays.

Bank holidays are those of England (https://www.gov.uk/bank-holidays).
"""

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from fhir_server.fhir.dates import LOCAL
from operations._bank_holidays import is_bank_holiday
from operations._person import local_time

MICROSECONDS: Final = timedelta(microseconds=1)


def due_text(due: int | date) -> str:
    return local_time(due) if isinstance(due, int) else due.isoformat()


@lru_cache(maxsize=4096)
def is_working_day(day: date) -> bool:
    """Monday to Friday, but for England's bank holidays."""
    return day.weekday() < 5 and not is_bank_holiday(day)


def working_days_after(day: date, count: int) -> date:
    """The day itself after none, be it a working day or not."""
    while count:
        day += timedelta(days=1)
        count -= is_working_day(day)
    return day


def days_after(day: date, count: int) -> date:
    return day + timedelta(days=count)


def hours_after(at: int, hours: int) -> int:
    return at + hours * 3_600_000_000


def months_after(day: date, months: int) -> date:
    """The same day of a later month, or its last day; at most the end of the calendar."""
    years, month = divmod(day.month - 1 + months, 12)
    if day.year + years >= date.max.year:
        return date.max
    first = date(day.year + years, month + 1, 1)
    following = (first + timedelta(days=32)).replace(day=1)
    return min(first + timedelta(days=day.day - 1), following - timedelta(days=1))


def birthday(born: date, months: int) -> date:
    """The day on which somebody has that age; of those born on 29 February, 1 March."""
    reached = months_after(born, months)
    is_there = reached.day == born.day or reached == date.max
    return reached if is_there else reached + timedelta(days=1)


def midnight(day: date) -> int:
    """When the day begins in England, in microseconds since the epoch."""
    return round(datetime.combine(day, time(), LOCAL).timestamp() * 1_000_000)
