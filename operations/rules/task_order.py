"""The keyworker contacts the family first, then the professionals, and visits after both."""

from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import reference_to
from fhir_server.operation.rules import Change
from operations._person import person_named, status_of
from operations._record import task_code

ON: Final = ("Task",)
_ORDER: Final = ("contact-family", "contact-mdt", "first-visit")


async def guard(change: Change) -> None:
    """Raise for one that is completed before its turn.

    Raises:
        FhirError: BUSINESS_RULE, with an issue for each that comes before it.
    """
    task = change.after
    if task is None or not _is_completed(task) or change.before is None:
        return
    code = task_code(task)
    if _is_completed(change.before) or code not in _ORDER:
        return
    earlier = await _earlier(change, task, _ORDER[: _ORDER.index(code)])
    issues = [
        Issue(f"{task_code(one)} comes before {code}: {reference_to(one)} is open", "Task.status")
        for one in earlier
    ]
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)


async def _earlier(change: Change, task: Resource, codes: tuple[str, ...]) -> list[Resource]:
    """Open ones of the same involvement that come before it."""
    person = await person_named(change.records, task, change.now)
    return [
        one
        for one in (await person.open_tasks() if person else ())
        if task_code(one) in codes and _focus(one) == _focus(task)
    ]


def _focus(task: Resource) -> str:
    local = parse_relative(task.get("focus", {}).get("reference", ""))
    return str(local)


def _is_completed(task: Resource) -> bool:
    return status_of(task) == "completed"
