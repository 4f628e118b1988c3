"""How far a discharge plan is: each item of its checklist, and what stands against leaving."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Lookup
from operations._person import Person, code_in, codes, covers, local_day, status_of

_TEXTS: Final = {item.code: item.text for item in DISCHARGE_ITEMS}
_EDUCATED_BELOW: Final = 19
"""Age from which education is looked at only where there is an EHC plan."""
_TEAM: Final = ("inpatient-rc", "camhs", "social-worker", "gp", "keyworker")
"""Roles without which a team is not complete; education besides, where it is mandatory."""
_OF_TASK: Final = {"requested": "not-started", "draft": "not-started", "ready": "not-started"}
"""What the status of a Task is called in a plan, where the words differ."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the checklist."""

    code: str
    text: str
    status: str
    """Of the activity; '' where the plan has none."""
    place: str
    """FHIRPath of it."""
    mandatory: bool = True
    """Whether it has to be done; one that was cancelled with a reason does not apply."""
    why: str = ""
    """Why it is open though its status says otherwise."""
    due: str = ""
    """A day."""
    due_when: str = ""
    """In words, where the day depends on something that is not known."""
    owner: Resource | None = None

    @property
    def is_open(self) -> bool:
        return self.status != "completed" or bool(self.why)

    def is_overdue(self, today: str) -> bool:
        return self.is_open and "" < self.due < today


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far the mandatory items are."""

    items: Sequence[Item]
    """The mandatory ones, in the order of the checklist."""

    @property
    def blockers(self) -> list[Item]:
        return [item for item in self.items if item.is_open]

    @property
    def done(self) -> int:
        return len(self.items) - len(self.blockers)


async def readiness(lookup: Lookup, person: Person, plan: Resource) -> Readiness:
    """How far the plan is now."""
    found = {item.code: item async for item in _items(lookup, plan)}
    education = needs_education(person, plan)
    missing = await missing_roles(lookup, person, plan)
    items = []
    for code, text in _TEXTS.items():
        item = found.get(code) or Item(code, text, "", "CarePlan.activity")
        applies = item.mandatory and (code != "dp-education" or education)
        if applies:
            items.append(_with_team(item, plan, missing) if code == "dp-mdt" else item)
    return Readiness(items)


async def _items(lookup: Lookup, plan: Resource) -> AsyncIterator[Item]:
    for index, activity in enumerate(plan.get("activity", ())):
        place = f"CarePlan.activity[{index}]"
        if "detail" in activity:
            detail = activity["detail"]
            if code := code_in(detail.get("code"), canonicals.DISCHARGE_ITEM):
                yield _of_detail(code, detail, f"{place}.detail")
        else:
            task = await _task(lookup, activity)
            if task and (code := code_in(task.get("code"), canonicals.DISCHARGE_ITEM)):
                yield _of_task(code, task, f"{place}.reference")


async def _task(lookup: Lookup, activity: Resource) -> Resource | None:
    local = parse_relative(activity.get("reference", {}).get("reference", ""))
    if local is None or local.type != "Task":
        return None
    return await lookup.get("Task", local.id)


def _of_detail(code: str, detail: Resource, place: str) -> Item:
    status = status_of(detail)
    return Item(
        code,
        detail.get("code", {}).get("text") or _TEXTS.get(code, code),
        status,
        place,
        mandatory=not (status == "cancelled" and "statusReason" in detail),
        due=detail.get("scheduledPeriod", {}).get("end", "")[:10],
        due_when=detail.get("scheduledString", ""),
        owner=next(iter(detail.get("performer", ())), None),
    )


def _of_task(code: str, task: Resource, place: str) -> Item:
    status = status_of(task)
    return Item(
        code,
        task.get("code", {}).get("text") or _TEXTS.get(code, code),
        _OF_TASK.get(status, status),
        place,
        mandatory=not (status == "cancelled" and "statusReason" in task),
        due=task.get("restriction", {}).get("period", {}).get("end", "")[:10],
        owner=task.get("owner"),
    )


def needs_education(person: Person, plan: Resource) -> bool:
    """Below 19, or with an EHC plan: then the item says by a reason what there is to review."""
    age = person.age_at(person.now)
    details = (activity.get("detail", {}) for activity in plan.get("activity", ()))
    has_plan = any(
        ("reasonCode" in detail or "reasonReference" in detail)
        and code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) == "dp-education"
        for detail in details
    )
    return age is None or age < _EDUCATED_BELOW or has_plan


async def missing_roles(lookup: Lookup, person: Person, plan: Resource) -> list[str]:
    """Roles that the teams of the plan have not now."""
    wanted = (*_TEAM, *(("education",) if needs_education(person, plan) else ()))
    there = {role async for role in _roles(lookup, person, plan)}
    return [role for role in wanted if role not in there]


async def _roles(lookup: Lookup, person: Person, plan: Resource) -> AsyncIterator[str]:
    for reference in plan.get("careTeam", ()):
        local = parse_relative(reference.get("reference", ""))
        team = None if local is None else await lookup.get(local.type, local.id)
        for participant in (team or {}).get("participant", ()):
            if "member" in participant and covers(participant.get("period"), person.now):
                for system, code in codes(participant.get("role", [])):
                    if system == canonicals.CARE_TEAM_ROLE:
                        yield code
    if (await person.episode() or {}).get("careManager"):
        yield "keyworker"


def states_why(plan: Resource) -> bool:
    """Whether somebody has said why not every role is there, in `statusReason` of dp-mdt."""
    details = (activity.get("detail", {}) for activity in plan.get("activity", ()))
    return any(
        "statusReason" in detail
        and code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) == "dp-mdt"
        for detail in details
    )


def _with_team(item: Item, plan: Resource, missing: Sequence[str]) -> Item:
    if not missing or item.status != "completed" or states_why(plan):
        return item
    return replace(item, why=f"Not in the team, and nobody says why: {', '.join(missing)}")


def today_of(person: Person) -> str:
    return local_day(person.now).isoformat()
