"""What is to be done because of birthdays.

At 13 a parent's access is looked at again, at 16 it ends (NHS England DAPB3051, use case 7.2);
`fhir_server.access` denies it from that day on, whatever was written. At 18 the children's register
ends. The service does with the birthday `eligible_until_age`, 25 as a rule: up to it a young person
is referred and rated (https://www.westyorkshirekeyworkerservice.org.uk), from that day on not.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from fhir_server.operation.pathway import Numbers
from fhir_server.operation.records import reference_to
from operations._consenting import decided_since, own_since, parents
from operations._person import Person, begun, local_day
from operations._record import Record
from operations._work import Work

REVIEW_MONTHS: Final = 13 * 12
PARENTS_END_MONTHS: Final = 16 * 12
ADULT_MONTHS: Final = 18 * 12


def exit_months(numbers: Numbers) -> int:
    """The age with which the service ends."""
    return numbers.eligible_until_age * 12


def too_old(person: Person, numbers: Numbers) -> str:
    """Why nothing of the service is begun any more, in words; '' where that is not so."""
    age, end = person.age_at(person.now), numbers.eligible_until_age
    if age is None or age < end:
        return ""
    return f"The age is {age}: keyworking is for those who have not had their {end}th birthday"


def works_of_age(record: Record) -> Iterator[Work]:
    yield from _proxy(
        record,
        "T-PROXY-REVIEW",
        "Assess competence: a parent's access is suspended from the 13th birthday until then",
        REVIEW_MONTHS,
        until=PARENTS_END_MONTHS,
    )
    yield from _proxy(
        record,
        "T-PROXY-16",
        "Ask the young person: a parent's access ends on the 16th birthday",
        PARENTS_END_MONTHS,
        until=ADULT_MONTHS,
    )
    yield from _transition(record)


def _proxy(record: Record, code: str, text: str, months: int, *, until: int) -> Iterator[Work]:
    """Some weeks ahead, so that nobody is taken by surprise."""
    day, last = record.birthday(months), record.birthday(until)
    if day is None or last is None:
        return
    told = day - timedelta(days=record.numbers.proxy_notice_days)
    if told <= record.today < last and parents(record, day):
        is_16 = months == PARENTS_END_MONTHS
        met = decided_since(record, told, day) if is_16 else own_since(record, told)
        yield Work(code, text, day, record.reference, met=met)


def _transition(record: Record) -> Iterator[Work]:
    """The last step that was reached: due then, or some weeks after the record began.

    Who is of that age when they are first known would else be overdue on the first day.
    """
    involved = record.episode or record.rating
    if involved is None:
        return
    reached = [
        (day, months, text)
        for months, text in _steps(record)
        if (day := record.birthday(months)) is not None and day <= record.today
    ]
    if not reached:
        return
    day, months, text = reached[-1]
    # The first of all: a rating that takes another's place asks for nothing anew.
    known = [begun(one) for one in (*record.involvements, *record.flags) if begun(one) > 0]
    since = local_day(min(known)) if known else day
    code = "exit" if months == exit_months(record.numbers) else "T-TRANSITION"
    if code == "T-TRANSITION" and known:
        since += timedelta(days=record.numbers.transition_begin_days)
    focus = reference_to(involved) if code == "exit" else record.reference
    yield Work(code, text, max(day, since), focus, key=str(months))


def _steps(record: Record) -> list[tuple[int, str]]:
    numbers = record.numbers
    steps = [
        (numbers.transition_first_months, "Talk about becoming an adult, and set a goal for it"),
        (numbers.transition_second_months, "Prepare the move to adults' services"),
        (ADULT_MONTHS, "Review the transition: the adults' register needs the adult's consent"),
    ]
    end, age = exit_months(numbers), numbers.eligible_until_age
    last = (end, f"End the involvement: the service is for those below {age}")
    return [*sorted(step for step in steps if step[0] < end), last]


def outgrown(record: Record) -> date | None:
    """The birthday with which the service ends, once it has come."""
    day = record.birthday(exit_months(record.numbers))
    return day if day is not None and day <= record.today else None


def ended_by_age(record: Record) -> bool:
    """Whether a parent's consent does not count any more."""
    day = record.birthday(PARENTS_END_MONTHS)
    return day is not None and day <= record.today
