"""At most one active rating: a new one supersedes the one before."""

from typing import Final

from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import reference_to
from fhir_server.operation.rules import Change
from operations._person import Person, begun, colour_of, is_rating, status_of
from operations._rating import superseded

ON: Final = ("Flag",)


async def follow(change: Change) -> list[str]:
    """End whichever ratings are not the latest."""
    if change.after is None or not _is_active(change.after) or _was_active(change):
        return []
    local = parse_relative(change.after.get("subject", {}).get("reference", ""))
    patient = None if local is None else await change.records.get(local.type, local.id)
    if patient is None or patient["resourceType"] != "Patient":
        return []
    active = await Person(change.records, patient, change.now).active_ratings()
    new = next((flag for flag in active if flag["id"] == change.id), None)
    if new is None:
        return []
    later = [flag for flag in active if flag is not new and _is_later(flag, new)]
    if later:
        return [await _end(change, new, min(later, key=begun))]
    return [await _end(change, flag, new) for flag in active if flag is not new]


async def _end(change: Change, flag: Resource, by: Resource) -> str:
    ended = await change.records.save(superseded(flag, by))
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
