"""The rating on the Dynamic Support Register: its flags, past and present, and the answers.

At most one rating flag is active; a new one ends the one before. Blue goes with an open stay.
Sources: `terminology/SOURCES.md`; R4 https://hl7.org/fhir/R4/flag.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.flag import Flag
from fhir.resources.R4B.questionnaireresponse import (
    QuestionnaireResponse,
    QuestionnaireResponseItem,
    QuestionnaireResponseItemAnswer,
)

from fhir_server.caseload import pathway, service
from fhir_server.caseload.consents import register_day
from fhir_server.caseload.elements import (
    TEST_DATA,
    at,
    coded,
    coded_extension,
    days,
    reference,
    working_day,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import AMBER, BLUE, GREEN, RED

RED_HOLD: Final = timedelta(days=14)

_YES: Final = {
    RED: ("unstable-mental-health", "unstable-environment", "admission-48h"),
    AMBER: ("placement-breakdown", "services-struggling"),
    GREEN: (),
    BLUE: ("unstable-mental-health",),
}


@dataclass(frozen=True, slots=True)
class Rating:
    """One flag: its colour, its place in the history, and its days."""

    number: int
    colour: str
    start: date
    end: date | None = None


def history(person: YoungPerson) -> tuple[Rating, ...]:
    """The ratings one after another; the last one is today's."""
    changes = list(_changes(person))
    closed = None if person.slot.on_register else person.timeline.latest
    ends = [*(later for _, later in changes[1:]), closed]
    return tuple(
        Rating(number, colour, start, end)
        for number, ((colour, start), end) in enumerate(zip(changes, ends, strict=True), 1)
    )


def _changes(person: YoungPerson) -> Iterator[tuple[str, date]]:
    slot, start = person.slot, register_day(person)
    if pathway.STEP_DOWN in slot.path:
        yield from ((RED, start), (AMBER, person.began(pathway.PLAN_ACTIVE)))
        if slot.rating == GREEN:
            yield GREEN, person.began(pathway.STEP_DOWN)
    elif slot.stayed:
        yield from ((AMBER, start), (BLUE, person.began(pathway.IN_HOSPITAL)))
        if slot.home_again:
            yield RED, person.timeline.latest
    else:
        yield from _on_the_way(person, start)


def _on_the_way(person: YoungPerson, start: date) -> Iterator[tuple[str, date]]:
    colour = person.slot.rating
    if colour == GREEN:
        yield from ((AMBER, start), (GREEN, working_day(_lately(person))))
    elif colour == RED:
        yield from ((AMBER, start), (RED, working_day(person.timeline.referred)))
    else:
        if person.serial % 2:
            yield GREEN, start
        yield AMBER, working_day(person.timeline.referred - timedelta(days=5))


def _lately(person: YoungPerson) -> date:
    """Half-way between the latest change of state and today."""
    return person.timeline.latest + (person.as_of - person.timeline.latest) / 2


def current(person: YoungPerson) -> Rating:
    return history(person)[-1]


def at_referral(person: YoungPerson) -> str:
    """The flag that the referral rests on."""
    before = [one for one in history(person) if one.start <= person.timeline.referred]
    return flag_reference(person, before[-1])


def flag_reference(person: YoungPerson, rating: Rating) -> str:
    return f"Flag/{person.id}-rating-{rating.number}"


def flags(person: YoungPerson) -> Iterator[Flag]:
    for rating in history(person):
        yield _flag(person, rating)
    yield _reasonable_adjustment(person)


def _flag(person: YoungPerson, rating: Rating) -> Flag:
    stay = reference(f"Encounter/{person.id}-stay") if rating.colour == BLUE else None
    return Flag(
        id=f"{person.id}-rating-{rating.number}",
        meta=TEST_DATA,
        extension=list(_flag_extensions(person, rating)) or None,
        status="inactive" if rating.end else "active",
        category=[
            coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK),
            coded(canonicals.HL7_FLAG_CATEGORY, "safety"),
        ],
        code=coded(canonicals.DSR_RATING, rating.colour, rating.colour.capitalize()),
        subject=reference(person.patient),
        period=days(rating.start, rating.end),
        encounter=stay,
        author=reference(service.STRATEGIC_KEYWORKER),
    )


def _flag_extensions(person: YoungPerson, rating: Rating) -> Iterator[Extension]:
    if rating.end:
        last = rating == current(person)
        yield coded_extension(
            canonicals.RATING_END_REASON_EXTENSION,
            canonicals.RATING_END_REASON,
            "step-down" if last else "superseded",
        )
    if rating == current(person):
        yield Extension(
            url=canonicals.FLAG_DETAIL_EXTENSION,
            valueReference=reference(answers_reference(person)),
        )
        if person.slot.home_again:
            yield Extension(
                url=canonicals.MINIMUM_UNTIL_EXTENSION, valueDate=rating.start + RED_HOLD
            )


def _reasonable_adjustment(person: YoungPerson) -> Flag:
    """What everyone should do differently: a flag of its own, apart from the rating."""
    return Flag(
        id=f"{person.id}-reasonable-adjustment",
        meta=TEST_DATA,
        status="active",
        code=coded(
            canonicals.PATIENT_FLAG_CATEGORY,
            "national-reasonable-adjustment-flag",
            person.story.helps,
        ),
        subject=reference(person.patient),
        period=days(register_day(person)),
        author=reference(service.GP),
    )


def answers_reference(person: YoungPerson) -> str:
    return f"QuestionnaireResponse/{person.id}-risk"


def answers(person: YoungPerson) -> QuestionnaireResponse:
    """The answers behind today's rating."""
    rating = current(person)
    return QuestionnaireResponse(
        id=f"{person.id}-risk",
        meta=TEST_DATA,
        questionnaire=canonicals.DSR_RISK_QUESTIONNAIRE,
        status="completed",
        subject=reference(person.patient),
        authored=at(rating.start, 11),
        author=reference(service.STRATEGIC_KEYWORKER),
        item=[_answer(person, rating, question) for question in canonicals.RISK_QUESTIONS],
    )


def _answer(person: YoungPerson, rating: Rating, question: str) -> QuestionnaireResponseItem:
    if question == "factors":
        given = QuestionnaireResponseItemAnswer(valueString=person.story.gap)
    else:
        given = QuestionnaireResponseItemAnswer(valueBoolean=question in _YES[rating.colour])
    return QuestionnaireResponseItem(
        linkId=question, text=canonicals.RISK_QUESTIONS[question], answer=[given]
    )
