"""What follows when an involvement comes to a state: tasks, the referral, the plans, the goals.

Written with the service's rights in the commit that moves it, whoever does and however. What a
person has taken up or ended by hand stays.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._calendar import working_days_after
from operations._person import (
    Person,
    is_open_plan,
    local_day,
    local_time,
    refers,
    status_of,
    with_extension,
)
from operations._record import is_open, task_code
from operations._work import register_keeper
from operations.pathway.guards import is_over_goal, lacking, status_of_goal
from operations.pathway.states import (
    AWAITING_ALLOCATION,
    CANCELLED,
    CLOSED,
    INFORMATION_GATHERING,
    PLAN_ACTIVE,
    PLANNING,
    STEP_DOWN,
    close_reason,
    may_follow,
    state_of,
)
from operations.pathway.tasks import Step, cancel, open_steps
from operations.pathway.team import hand_back

OF_KEYWORKING: Final = ("keyworking-plan", "step-down-plan", "transition-plan")
ENDED: Final = "Keyworking has ended"
"""Why a consent has ended with the involvement."""


@dataclass(frozen=True, slots=True)
class Move:
    """An involvement that has come to a state."""

    records: Records
    person: Person
    episode: Resource
    """As it is now."""
    came_from: str
    pathway: Pathway

    @property
    def now(self) -> int:
        return self.person.now


Effect = Callable[[Move], Awaitable[list[str]]]


async def follow_move(move: Move) -> list[str]:
    """What comes with the new state; what was done, in words.

    A move back, once a stay is undone, brings nothing anew.
    """
    state = state_of(move.episode)
    effect = _EFFECTS.get(state)
    goes_on = state in may_follow(move.came_from, close_reason(move.episode))
    return await effect(move) if effect is not None and goes_on else []


async def _consented(move: Move) -> list[str]:
    return await _complete(move, "obtain-consent")


async def _allocated(move: Move) -> list[str]:
    """The family is contacted first, then the team, and both before the first visit."""
    bounds = move.pathway
    steps = [
        Step("contact-family", "Contact the family", _due(move, bounds.family_contact_days)),
        Step(
            "contact-mdt",
            "Contact the professionals around the young person",
            _due(move, bounds.team_contact_days),
        ),
        Step("first-visit", "First visit", _due(move, bounds.first_visit_days)),
    ]
    return [
        *await _complete(move, "obtain-consent"),
        *await _end_referrals(move, "completed"),
        *await _open(move, *steps),
    ]


async def _visited(move: Move) -> list[str]:
    days = move.pathway.planning_visit_days
    step = Step("planning-visit", "Second visit: begin the plan together", _due(move, days))
    done = await _complete(move, "first-visit")
    return [*done, *await _draft_plan(move), *await _open(move, step)]


async def _draft_plan(move: Move) -> list[str]:
    if await move.person.keyworking_plan() is not None:
        return []
    plan = _plan(move, "keyworking-plan", "Keyworking plan", "draft")
    return [f"The plan is begun: {reference_to(await move.records.save(plan))}"]


def _plan(move: Move, kind: str, title: str, status: str) -> Resource:
    plan: Resource = {
        "resourceType": "CarePlan",
        "id": stable_id(kind, reference_to(move.episode), local_time(move.now)),
        "status": status,
        "intent": "plan",
        "category": [{"coding": [{"system": canonicals.CARE_PLAN_CATEGORY, "code": kind}]}],
        "title": title,
        "subject": {"reference": move.person.reference},
        "period": {"start": local_day(move.now).isoformat()},
        "created": local_time(move.now),
    }
    teams = move.episode.get("team", [])[:1]
    return {**plan, "careTeam": teams} if teams else plan


async def _planned(move: Move) -> list[str]:
    """The plan and the goals that were agreed are worked on from now."""
    plan = await move.person.keyworking_plan()
    if move.came_from == STEP_DOWN:
        return await _end_plans(move, ("step-down-plan",), "revoked")
    if plan is None or move.came_from != PLANNING:
        return []
    goals = [goal for goal in await move.person.goals() if _is_of(plan, goal)]
    for goal in goals:
        if status_of_goal(goal) in ("proposed", "planned", "accepted") and not lacking(goal):
            await move.records.save({**goal, "lifecycleStatus": "active"})
    said = await _complete(move, "planning-visit")
    if status_of(plan) == "draft" and (teams := plan.get("careTeam") or move.episode.get("team")):
        told = {"status": "active", "careTeam": teams, "period": _in_effect(plan, move)}
        await move.records.save({**plan, **told})
        said.append(f"The plan is active: {reference_to(plan)}")
    return said


def _in_effect(plan: Resource, move: Move) -> Resource:
    """When a plan that was a draft is followed; a start that somebody has set by hand stays."""
    period: Resource = plan.get("period", {})
    if period.get("start") != plan.get("created", "")[:10]:
        return period
    return {**period, "start": local_day(move.now).isoformat()}


def _is_of(plan: Resource, goal: Resource) -> bool:
    return any(refers(one, goal) for one in plan.get("goal", ()))


async def _steadier(move: Move) -> list[str]:
    """A plan for the way out, of the goals that are open; a draft where it lacks something."""
    if await move.person.has_active_plan("step-down-plan"):
        return []
    known = await move.person.keyworking_plan() or {}
    goals = [goal for goal in await move.person.goals() if not is_over_goal(goal)]
    named = [{"reference": reference_to(goal)} for goal in goals if _is_of(known, goal)]
    plan = _plan(move, "step-down-plan", "Step-down plan", "draft")
    if known:
        plan["partOf"] = [{"reference": reference_to(known)}]
    if named:
        plan["goal"] = named
    if named and "careTeam" in plan:
        plan["status"] = "active"
    days = timedelta(days=move.pathway.step_down_review_days)
    review = (local_day(move.now) + days).isoformat()
    noted = {"url": canonicals.NEXT_REVIEW_EXTENSION, "valueDate": review}
    saved = await move.records.save(with_extension(plan, noted))
    return [f"The step-down plan is {status_of(saved)}: {reference_to(saved)}"]


async def _closed(move: Move) -> list[str]:
    await hand_back(move.records, move.person, move.episode, register_keeper(move.pathway))
    return [
        *await _end_plans(move, OF_KEYWORKING, "completed"),
        *await _end_consents(move),
        *await _end_referrals(move, "completed"),
    ]


async def _cancelled(move: Move) -> list[str]:
    """What was begun for it has no point any more."""
    tasks = [task for task in await move.person.tasks() if refers(task.get("focus"), move.episode)]
    await cancel(move.records, move.person, tasks, "The referral was cancelled")
    return await _end_referrals(move, "revoked")


async def _end_plans(move: Move, kinds: Iterable[str], status: str) -> list[str]:
    """Whether they came to an end or are broken off; a draft was never followed."""
    said = []
    for kind in kinds:
        for plan in await move.person.plans(kind):
            if is_open_plan(plan):
                followed = status_of(plan) != "draft" and plan.get("careTeam")
                period = {**plan.get("period", {}), "end": local_day(move.now).isoformat()}
                ended = {**plan, "status": status if followed else "revoked", "period": period}
                saved = await move.records.amend(ended)
                said.append(f"The plan is {status_of(saved)}: {reference_to(saved)}")
    return said


async def _end_consents(move: Move) -> list[str]:
    """Consent was to keyworking, which is over."""
    said = []
    for consent in await move.person.consents_in_force("keyworking"):
        why = {
            "url": canonicals.CONSENT_STATUS_REASON_EXTENSION,
            "valueCodeableConcept": {
                "coding": [{"system": canonicals.CONSENT_STATUS_REASON, "code": "OTHER"}],
                "text": ENDED,
            },
        }
        # Never refused: an old consent may fit no profile of today.
        saved = await move.records.amend(with_extension({**consent, "status": "inactive"}, why))
        said.append(f"The consent to keyworking has ended with it: {reference_to(saved)}")
    return said


async def _end_referrals(move: Move, status: str) -> list[str]:
    said = []
    for link in move.episode.get("referralRequest", ()):
        local = parse_relative(link.get("reference", ""))
        found = await move.records.get(local.type, local.id) if local else None
        if found and found["resourceType"] == "ServiceRequest" and status_of(found) == "active":
            saved = await move.records.amend({**found, "status": status})
            said.append(f"The referral is {status}: {reference_to(saved)}")
    return said


async def _complete(move: Move, code: str) -> list[str]:
    """What the move shows to be done."""
    said = []
    for task in await move.person.tasks():
        if task_code(task) == code and is_open(task) and _is_focus(task, move.episode):
            done = {"status": "completed", "lastModified": local_time(move.now)}
            period = {**task.get("executionPeriod", {}), "end": local_time(move.now)}
            await move.records.amend({**task, **done, "executionPeriod": period})
            said.append(f"Done: {reference_to(task)}")
    return said


def _is_focus(task: Resource, episode: Resource) -> bool:
    return refers(task.get("focus"), episode)


async def _open(move: Move, *steps: Step) -> list[str]:
    return await open_steps(move.records, move.person, move.episode, steps)


def _due(move: Move, days: int) -> date:
    return working_days_after(local_day(move.now), days)


_EFFECTS: Final[Mapping[str, Effect]] = {
    AWAITING_ALLOCATION: _consented,
    INFORMATION_GATHERING: _allocated,
    PLANNING: _visited,
    PLAN_ACTIVE: _planned,
    STEP_DOWN: _steadier,
    CLOSED: _closed,
    CANCELLED: _cancelled,
}
