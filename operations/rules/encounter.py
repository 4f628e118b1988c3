"""A stay in hospital has its effects, whoever writes the Encounter and however.

A message, a create, an update, a patch and a transaction come to the same: what counts is what has
become of the stay.
"""

from datetime import timedelta
from functools import partial
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.rules import Change
from operations._event import Event, Told
from operations._happenings import known_right
from operations._hindsight import in_hindsight
from operations._known_stays import died_at
from operations._leaving import died, left_for_hospital
from operations._person import (
    CLOCKS_DIFFER,
    OPEN_STAY,
    UNDONE_STAY,
    Person,
    begun,
    is_inpatient,
    since,
    status_of,
)
from operations._plan import plan_id
from operations._stay import admitted, corrected, discharged, may_follow, reopened, undone

ON: Final = ("Encounter",)
_DECISIVE: Final = ("status", "class", "subject", "period", "hospitalization", "extension")
"""Elements that effects are made from; a change of others has none."""
_LONG_AGO: Final = interval("1900").low
"""Due dates that are reckoned from before that could leave the calendar."""
_UNKNOWN: Final[Resource] = {"display": "Not told"}


async def guard(change: Change) -> None:
    """Raise for a change that what the stay has brought cannot be squared with.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    before, after = change.before, change.after
    if before is None or after is None or not await _is_stay(change, before):
        return
    if _patient_id(before) != _patient_id(after):
        raise _refused(
            "subject",
            "A stay does not become another young person's: enter this one in error, and record "
            "another",
        )
    await _require_succession(change, status_of(before), status_of(after))
    _require_day_of_end(before, after)


def _require_day_of_end(before: Resource, after: Resource) -> None:
    known, end = (one.get("period", {}).get("end", "") for one in (before, after))
    if status_of(after) == "finished" and end != known and 0 < len(end) < len("2026-05-01"):
        raise _refused("period.end", f"'{end}' is no day; what is due is reckoned from the day")


async def _require_succession(change: Change, known: str, told: str) -> None:
    if not may_follow(known, told):
        raise _refused(
            "status",
            f"The stay is {known} and cannot become '{told}'; "
            f"{', '.join((*OPEN_STAY, 'finished', *UNDONE_STAY))} are allowed",
        )
    if known in UNDONE_STAY and told not in UNDONE_STAY and await _has_plan(change):
        raise _refused(
            "status",
            f"The stay is {known}, and what it brought has been taken back; record another",
        )


async def follow(change: Change) -> list[str]:
    """What the stay brings about; where they have died, beside all else that is told of them."""
    event = await _event(change)
    if event is None:
        return []
    elsewhere = await died_at(event.person, but=event.stay)
    was_dead = elsewhere is not None or event.was_death
    dies = status_of(event.stay) == "finished" and died(event.stay)
    if not (was_dead or dies):
        return await _effects(change, event)
    effects = partial(_effects, change, event)
    if elsewhere is not None and status_of(event.stay) not in UNDONE_STAY:
        effects = effects if begun(event.stay) <= elsewhere else partial(corrected, event)
    return await in_hindsight(event, effects, was_dead=was_dead)


async def _effects(change: Change, event: Event) -> list[str]:
    status = "" if change.after is None else status_of(event.stay)
    if status in ("", *UNDONE_STAY):
        return await undone(event)
    happened = _LONG_AGO <= event.at <= change.now + CLOCKS_DIFFER
    if not happened:
        return await corrected(event)
    if status in OPEN_STAY:
        again = change.before is not None and status_of(change.before) == "finished"
        return [*(await reopened(event) if again else ()), *await admitted(event)]
    if status == "finished" and not _long_over(change):
        told = _told(change)
        return await discharged(event, None if told is None else told.begun)
    return await corrected(event)


async def _event(change: Change) -> Event | None:
    """What happened; None where nothing did that matters, or to nobody who is known here."""
    stay, told = change.resource, _told(change)
    if told is None and not _is_decisive(change):
        return None
    known = told is not None and status_of(stay) in told.as_stay
    if not (known or await _is_stay(change, stay)):
        return None
    patient = await change.records.get("Patient", _patient_id(stay))
    if patient is None:
        return None
    person = Person(change.records, patient, change.now)
    return Event(
        change.records,
        person,
        stay,
        told.at if told else _happened(change),
        told.author if told else stay.get("serviceProvider", _UNKNOWN),
        await person.consented("register"),
        change.pathway,
        await known_right(change.records, stay, told),
        was_death=change.before is not None and died(change.before),
        went_on=change.before is not None and left_for_hospital(change.before),
    )


def _patient_id(stay: Resource) -> str:
    """'' where it is no patient's who is known by reference."""
    local = parse_relative(stay.get("subject", {}).get("reference", ""))
    return local.id if local is not None and local.type == "Patient" else ""


def _told(change: Change) -> Told | None:
    """What the message says of this stay, where a message told of it."""
    told = change.told
    return told if isinstance(told, Told) and told.stay_id == change.id else None


def _is_decisive(change: Change) -> bool:
    return _decisive(change.before) != _decisive(change.after)


def _decisive(stay: Resource | None) -> list[Any]:
    return [(stay or {}).get(name) for name in _DECISIVE]


async def _is_stay(change: Change, encounter: Resource) -> bool:
    """By what it says, or because a plan hangs on it."""
    return is_inpatient(encounter) or (change.before is not None and await _has_plan(change))


async def _has_plan(change: Change) -> bool:
    return await change.records.get("CarePlan", plan_id(change.resource)) is not None


def _happened(change: Change) -> int:
    """The end of a stay that is over, else its start; now, where neither is told."""
    period = change.resource.get("period", {})
    start = interval(period["start"]).low if period.get("start") else change.now
    if change.after is None or status_of(change.after) != "finished":
        return start
    end = interval(period["end"]).low if period.get("end") else change.now
    return max(start, end) if period.get("start") else end


def _long_over(change: Change) -> bool:
    """Whether a stay is recorded that was over long ago: there is nobody to follow up."""
    before = change.before
    if _told(change) is not None or (before is not None and status_of(before) in OPEN_STAY):
        return False
    held = timedelta(days=change.pathway.red_hold_days) // timedelta(microseconds=1)
    end = since(change.resource.get("period", {}).get("end"))
    return -(2**62) < end < change.now - held


def _refused(element: str, text: str) -> FhirError:
    return FhirError.at(Kind.BUSINESS_RULE, f"Encounter.{element}", text)
