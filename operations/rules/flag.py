"""At most one active rating: a new one supersedes the one before.

A rating is not set lower than what holds it, nor ended, by accident: `$set-rating` and
`$remove-rating` do so on purpose.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.canonicals import BLUE
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import reference_to
from fhir_server.operation.rules import Change
from operations._holding import Hold, Overridden, hold_of
from operations._person import Person, begun, colour_of, is_rating, refers, status_of
from operations._rating_flag import belongs_to, superseded

ON: Final = ("Flag",)


async def guard(change: Change) -> None:
    """Raise for a rating that is lower than what is held, and for the end of one that is.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    if isinstance(change.told, Overridden) and change.id in change.told.flag_ids:
        return
    await _require_kept(change)
    await _require_not_lower(change)
    await _require_no_second_blue(change)


async def _require_kept(change: Change) -> None:
    """Raise where the active rating ends, however, and none takes its place.

    It ends by right where there is no consent any more, or the young person has died.
    """
    before, after = change.before, change.after
    if before is None or not _is_active(before):
        return
    if after is not None and _is_active(after) and before.get("subject") == after.get("subject"):
        return
    person = await _person(change, before)
    if person is None or person.has_died:
        return
    hold = await _hold(change, person)
    if hold is None:
        return
    if any(not hold.forbids(colour_of(flag)) for flag in await person.active_ratings()):
        return
    text = f"{hold.why}. $remove-rating ends it on purpose, with a role and a reason"
    place = "Flag" if after is None else "Flag.status" if is_rating(after) else "Flag.code"
    raise FhirError.at(Kind.BUSINESS_RULE, place, text)


async def _require_not_lower(change: Change) -> None:
    """Raise for a rating given now that is lower; one from before the hold is a record."""
    after = change.after
    if after is None or not _is_active(after) or _is_as_it_was(change):
        return
    person = await _person(change, after)
    hold = None if person is None else await _hold(change, person)
    if hold is None or not hold.forbids(colour_of(after)) or begun(after) < hold.since:
        return
    text = f"{hold.why}. $set-rating sets it lower on purpose, with a role and a reason"
    raise FhirError.at(Kind.BUSINESS_RULE, "Flag.code", text)


async def _require_no_second_blue(change: Change) -> None:
    """Raise for another blue beside that of the stay: the history would tell of two."""
    after = change.after
    if after is None or not _is_active(after) or _is_as_it_was(change):
        return
    person = await _person(change, after)
    if person is None or colour_of(after) != BLUE:
        return
    stays = [stay for stay in await person.open_stays() if belongs_to(after, stay)]
    for flag in await person.active_ratings():
        of_stay = colour_of(flag) == BLUE and any(belongs_to(flag, stay) for stay in stays)
        if of_stay and flag["id"] != change.id:
            text = f"The rating is blue already, because of the stay: write to {reference_to(flag)}"
            raise FhirError.at(Kind.BUSINESS_RULE, "Flag.code", text)


async def _hold(change: Change, person: Person) -> Hold | None:
    """What holds this person's rating; nothing does without consent to be on the register."""
    if not await person.consented("register"):
        return None
    before = change.before
    of_them = before and _is_active(before) and refers(before.get("subject"), person.patient)
    return await hold_of(person, change.pathway.red_hold_days, before if of_them else None)


def _is_as_it_was(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None or status_of(before) != "active":
        return False
    return colour_of(before) == colour_of(after) and before.get("subject") == after.get("subject")


async def _person(change: Change, flag: Resource) -> Person | None:
    local = parse_relative(flag.get("subject", {}).get("reference", ""))
    patient = None if local is None else await change.records.get(local.type, local.id)
    if patient is None or patient["resourceType"] != "Patient":
        return None
    return Person(change.records, patient, change.now)


async def follow(change: Change) -> list[str]:
    """End whichever ratings are not the latest."""
    if change.after is None or not _is_active(change.after) or _was_active(change):
        return []
    person = await _person(change, change.after)
    if person is None:
        return []
    active = await person.active_ratings()
    new = next((flag for flag in active if flag["id"] == change.id), None)
    if new is None:
        return []
    later = [flag for flag in active if flag is not new and _is_later(flag, new)]
    if later:
        return [await _end(change, new, min(later, key=begun))]
    return [await _end(change, flag, new) for flag in active if flag is not new]


async def _end(change: Change, flag: Resource, by: Resource) -> str:
    ended = await change.records.amend(superseded(flag, by))
    return f"The rating {colour_of(flag)} is superseded by {colour_of(by)}: {reference_to(ended)}"


def _is_active(flag: Resource) -> bool:
    return is_rating(flag) and status_of(flag) == "active"


def _was_active(change: Change) -> bool:
    """It was the active rating before, of the same person's: which others there are is the same."""
    before, after = change.before, change.after
    if before is None or after is None or not _is_active(before):
        return False
    return bool(before.get("subject") == after.get("subject"))


def _is_later(flag: Resource, than: Resource) -> bool:
    """Whether it began when the other was over with beginning, as exactly as that is told."""
    start = than.get("period", {}).get("start")
    return start is not None and begun(flag) >= interval(start).high
