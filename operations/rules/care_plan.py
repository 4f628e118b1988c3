"""A discharge plan keeps its due dates, its right to aftercare, and asks why somebody still waits.

Due dates follow the planned discharge. The team is complete, or somebody says why not, before
that item is done. Who is ready to leave and still in hospital has a reason on the plan within a
working day: a Task asks for it.
"""

from datetime import date
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records, reference_to, stable_id
from fhir_server.operation.rules import Change
from operations._aftercare import as_written, with_right
from operations._calendar import working_days_after
from operations._checklist import missing_roles, states_why
from operations._happenings import known_right
from operations._person import (
    OPEN_STAY,
    Person,
    code_in,
    extension,
    has_code,
    is_open_plan,
    local_day,
    local_time,
    status_of,
)
from operations._plan import ready_day, redated
from operations._work import Work, task_of

ON: Final = ("CarePlan",)
_CODE: Final = "delay-reason"
_TEXT: Final = "Say on the plan why the young person, who is ready to leave, is in hospital still"

_ENDED: Final = "There is a reason, or nobody waits any more"


async def guard(change: Change) -> None:
    """Raise where the team is called complete and is not.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    before, after = change.before, change.after
    if before is None or after is None or not _is_discharge_plan(after):
        return
    index = _team_done(after)
    if index is None or _team_done(before) is not None or states_why(after):
        return
    person = await _person(change, after)
    missing = [] if person is None else await missing_roles(change.records, person, after)
    if missing:
        text = (
            f"The team is not complete without {', '.join(missing)}: add them to the CareTeam of "
            "the plan, or say in statusReason why they are left out"
        )
        place = f"CarePlan.activity[{index}].detail"
        raise FhirError.at(Kind.BUSINESS_RULE, place, text)


def _team_done(plan: Resource) -> int | None:
    """Where dp-mdt is completed; None where it is not."""
    for index, activity in enumerate(plan.get("activity", ())):
        detail = activity.get("detail", {})
        if code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) == "dp-mdt":
            return index if status_of(detail) == "completed" else None
    return None


async def follow(change: Change) -> list[str]:
    """Due dates, the right to aftercare, the Task that asks for a reason."""
    plan = change.after
    if plan is None or not _is_discharge_plan(plan):
        return []
    person, stay = await _person(change, plan), await _stay(change, plan)
    if person is None:
        return []
    is_dated = change.by_rule and change.before is None  # the plan that an admission opens
    said = await _dated(change, plan) if is_open_plan(plan) and not is_dated else []
    plan = await change.records.get("CarePlan", change.id) or plan
    plan = await _with_right(change, plan, stay)
    return said + await _ask_why(change, person, plan, stay)


async def _with_right(change: Change, plan: Resource, stay: Resource | None) -> Resource:
    """The plan with a right to aftercare as a person has decided it, else as it was told."""
    noted = plan if change.by_rule else as_written(plan, change.before)
    if stay is not None and is_open_plan(plan):
        noted = with_right(noted, right=await known_right(change.records, stay, change.told))
    return plan if noted is plan else await change.records.amend(noted)


async def _dated(change: Change, plan: Resource) -> list[str]:
    moved = redated(plan, change.before)
    if moved is plan:
        return []
    await change.records.amend(moved)
    return [f"The items of the discharge plan are dated: {reference_to(plan)}"]


async def _ask_why(
    change: Change, person: Person, plan: Resource, stay: Resource | None
) -> list[str]:
    records, task_id = change.records, stable_id(_CODE, reference_to(plan))
    known, ready = await records.get("Task", task_id), ready_day(plan)
    waits = (
        ready is not None
        and ready <= local_day(change.now)
        and is_open_plan(plan)
        and stay is not None
        and status_of(stay) in OPEN_STAY
    )
    has_reason = extension(plan, canonicals.DELAY_REASON_EXTENSION) is not None
    if ready is not None and waits and not has_reason:
        due = working_days_after(ready, change.pathway.delay_reason_days)
        return await _ask(records, known, await _task(person, plan, task_id, due))
    if known is not None and status_of(known) == "requested":
        status = "completed" if has_reason else "cancelled"
        why = {"statusReason": {"text": _ENDED}}
        ended = {"status": status, "lastModified": local_time(change.now), **why}
        await records.amend({**known, **ended})
    return []


async def _ask(records: Records, known: Resource | None, task: Resource) -> list[str]:
    """Open it, date it again, or ask again where there is a reason no more."""
    if known is not None:
        was_ended = known.get("statusReason", {}).get("text") == _ENDED
        if status_of(known) != "requested" and not was_ended:
            return []  # somebody has taken it up, or ended it by hand
        kept = {name: value for name, value in known.items() if name != "statusReason"}
        task = {**kept, "status": "requested", "restriction": task["restriction"]}
    await (records.save if known is None else records.amend)(task)
    due = task["restriction"]["period"]["end"]
    return [f"{_TEXT}, due {due}: {reference_to(task)}"]


async def _task(person: Person, plan: Resource, task_id: str, due: date) -> Resource:
    work = Work(_CODE, _TEXT, due, reference_to(plan), "urgent")
    owner = (await person.episode() or {}).get("careManager")
    return task_of(work, person.reference, person.now, owner, task_id)


def _is_discharge_plan(plan: Resource) -> bool:
    return has_code(plan.get("category"), canonicals.CARE_PLAN_CATEGORY, "discharge-plan")


async def _person(change: Change, plan: Resource) -> Person | None:
    patient = await _referred(change, plan.get("subject"), "Patient")
    return None if patient is None else Person(change.records, patient, change.now)


async def _stay(change: Change, plan: Resource) -> Resource | None:
    return await _referred(change, plan.get("encounter"), "Encounter")


async def _referred(change: Change, element: Resource | None, wanted: str) -> Resource | None:
    local = parse_relative((element or {}).get("reference", ""))
    if local is None or local.type != wanted:
        return None
    return await change.records.get(wanted, local.id)
