"""A consent to be on the register that comes late, or goes, does to the rating what it would have.
A parent's is refused of somebody who had turned 16 when it was given.

Somebody who is in hospital turns blue once there is consent, red where they came home less long
ago than red is held. Withdrawal ends the rating, and so does a refusal; that a consent runs out, or
that a parent's ends with the 16th birthday, does not: somebody has to talk about it first.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import BLUE, RED
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from operations import _rating
from operations._ageing import PARENTS_END_MONTHS, ended_by_age
from operations._calendar import birthday
from operations._consenting import is_parents
from operations._event import Event
from operations._leaving import left_for_hospital
from operations._person import (
    Person,
    ended_at_16,
    has_code,
    local_day,
    person_named,
    since,
    status_of,
)
from operations._record import Record, patient_in, record_of

ON: Final = ("Consent",)
_ENDED: Final = ("inactive", "rejected", "entered-in-error")
_NOT_TOLD: Final[Resource] = {"display": "Not told"}


async def guard(change: Change) -> None:
    """Raise for a parent's consent that was given from the 16th birthday on.

    One that was given before is a record of what was, and over; what does not count is no decision.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    after = change.after
    if after is None or not _is_given_by_parent(after) or _was_so(change.before, after):
        return
    person = await person_named(change.records, after, change.now)
    given = since(after["dateTime"]) if after.get("dateTime") else change.now
    if person is None or not _had_turned_16(person, given):
        return
    raise FhirError.at(
        Kind.BUSINESS_RULE,
        "Consent.policyRule",
        "The young person had turned 16 then: nobody decides by parental responsibility from the "
        "16th birthday on. Record their own consent, or that of whoever decides for them; one that "
        "was given before has the dateTime of then",
    )


def _is_given_by_parent(consent: Resource) -> bool:
    return status_of(consent) == "active" and is_parents(consent)


def _was_so(before: Resource | None, after: Resource) -> bool:
    """It said so before, of the same person and day: something else of it is corrected."""
    if before is None or not _is_given_by_parent(before):
        return False
    return all(before.get(name) == after.get(name) for name in ("dateTime", "patient"))


def _had_turned_16(person: Person, at: int) -> bool:
    """Whatever day it was of the month or year of birth, where no more is known."""
    born = person.patient.get("birthDate")
    if not born:
        return False
    latest = local_day(interval(born).high - 1)
    return birthday(latest, PARENTS_END_MONTHS) <= local_day(at)


async def follow(change: Change) -> list[str]:
    if not (_is_to_register(change.before) or _is_to_register(change.after)):
        return []
    record = await record_of(
        change.records, patient_in(change.resource), change.now, change.pathway, {}
    )
    if record is None or record.dead:
        return []
    if record.consented("register"):
        return await _given(change, record)
    return await _withdrawn(change, record)


def _is_to_register(consent: Resource | None) -> bool:
    return consent is not None and has_code(
        consent.get("category"), canonicals.CONSENT_CATEGORY, "register"
    )


async def _given(change: Change, record: Record) -> list[str]:
    """Rate as the stay would have, had the consent been there; a later rating stands."""
    was_active = change.before is not None and status_of(change.before) == "active"
    if was_active and change.after is not None and status_of(change.after) == "active":
        return []
    stay = _last_stay(record)
    if stay is None:
        return []
    at = record.admitted(stay) if record.in_hospital else record.left(stay)
    event = Event(
        change.records,
        Person(change.records, record.patient, change.now),
        stay,
        at,
        stay.get("serviceProvider", _NOT_TOLD),
        True,
        change.pathway,
    )
    return await _rating.rate_stay(event, BLUE if record.in_hospital else RED)


def _last_stay(record: Record) -> Resource | None:
    """That which decides about the rating: one that goes on, else the last that ended at home."""
    if record.in_hospital:
        among = record.open_stays or [one for one in record.stays if left_for_hospital(one)]
        return max(among, key=record.admitted, default=None)
    home = [one for one in record.stays if record.went_home(one)]
    last = max(home, key=record.left, default=None)
    held = record.numbers.red_hold_days * 86_400_000_000
    return last if last is not None and record.left(last) > record.now - held else None


async def _withdrawn(change: Change, record: Record) -> list[str]:
    if record.rating is None or not (_is_withdrawn(change) or _is_refused(change, record)):
        return []
    person = Person(change.records, record.patient, change.now)
    await _rating.end_ratings(change.records, person, change.now, "consent-withdrawn")
    return ["The consent to be on the register is withdrawn: the rating has ended"]


def _is_withdrawn(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or status_of(before) != "active":
        return False
    return after is None or (status_of(after) in _ENDED and not ended_at_16(after))


def _is_refused(change: Change, record: Record) -> bool:
    """Whether it says no where it did not, and is the last word about the register.

    A parent's no does not count where their yes would not.
    """
    before, after = change.before, change.after
    if after is None or not _says_no(after) or (before is not None and _says_no(before)):
        return False
    if is_parents(after) and ended_by_age(record):
        return False
    said = since(after["dateTime"]) if after.get("dateTime") else change.now
    others = (one for one in record.consents_to("register") if one["id"] != after["id"])
    return all(since(one.get("dateTime")) <= said for one in others)


def _says_no(consent: Resource) -> bool:
    return status_of(consent) == "rejected"
