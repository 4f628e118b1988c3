"""What a move on the pathway demands: each guard says what is missing, and what to do about it.

They judge a Case alone. An issue's expression names the element that is missing or wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from fhir_server.errors import Issue
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.records import reference_to
from operations._person import extension, local_day, local_name, refers, status_of
from operations._record import is_open, task_code
from operations._work import OF_THE_REGISTER
from operations.pathway.case import Case
from operations.pathway.states import (
    AWAITING_ALLOCATION,
    CANCELLED,
    CLOSE_REASONS,
    CLOSED,
    CONSENT_PENDING,
    DISCHARGE_PLANNING,
    IN_HOSPITAL,
    INFORMATION_GATHERING,
    PLAN_ACTIVE,
    PLANNING,
    STEP_DOWN,
    STEPPED_DOWN,
    SUCCESSORS,
    close_reason,
    is_paused,
    may_follow,
    reason_given,
    state_of,
    statuses,
)

Guard = Callable[[Case, Resource], Iterator[Issue]]
"""Judges the case for the EpisodeOfCare as it would be."""

STATE_PLACE: Final = (
    f"EpisodeOfCare.extension.where(url = '{canonicals.PATHWAY_STATE_EXTENSION}').value"
)
_REASON_PLACE: Final = f"EpisodeOfCare.extension.where(url = '{canonicals.CLOSE_REASON_EXTENSION}')"
_PAUSE_PLACE: Final = f"EpisodeOfCare.extension.where(url = '{canonicals.STATUS_REASON_EXTENSION}')"
_VOICE_PLACE: Final = (
    f"CarePlan.extension.where(url = '{canonicals.YOUNG_PERSONS_VOICE_EXTENSION}')"
)
_OVER_GOAL: Final = ("completed", "cancelled", "entered-in-error", "rejected")
_AGREED_GOAL: Final = ("accepted", "active", "on-hold")
_MERELY_PROPOSED: Final = ("proposed", "planned")
_SHORTEST_GOAL: Final = 10
_STEADY: Final = (canonicals.GREEN, canonicals.AMBER)


def missing(case: Case, before: Resource, after: Resource) -> list[Issue]:
    """Everything that the update of an involvement lacks; nothing where it is in order."""
    current, to = state_of(before), state_of(after)
    if status_of(after) == "entered-in-error":
        return []
    found = [*status_fits(after), *pause_has_reason(before, after)]
    if current == to:
        return found
    allowed = may_follow(current, close_reason(after))
    if to not in allowed:
        return [_illegal(current, to, allowed), *found]
    return [*found, *(issue for guard in guards(current, to) for issue in guard(case, after))]


def guards(current: str, to: str) -> tuple[Guard, ...]:
    """What this move demands."""
    if to == PLAN_ACTIVE:
        return _TO_PLAN_ACTIVE[current]
    return _TO.get(to, ())


def _illegal(current: str, to: str, allowed: tuple[str, ...]) -> Issue:
    what = ", ".join(allowed) or "nothing: a new involvement needs a new EpisodeOfCare"
    unknown = "" if to in SUCCESSORS else f"'{to}' is no state of the pathway; "
    text = f"{unknown}{to or 'no state'} cannot follow {current or 'no state'}; allowed: {what}"
    if to == CLOSED and current in SUCCESSORS:
        early = ", ".join(reason for reason in CLOSE_REASONS if reason != STEPPED_DOWN)
        text += f"; closed as well, with one of the close-reasons {early}"
    return Issue(text, STATE_PLACE)


def status_fits(after: Resource) -> Iterator[Issue]:
    state, status = state_of(after), status_of(after)
    fitting = statuses(state)
    if fitting and status not in fitting:
        text = f"The status '{status}' does not fit {state}: make it {' or '.join(fitting)}"
        yield Issue(text, "EpisodeOfCare.status")


def pause_has_reason(before: Resource, after: Resource) -> Iterator[Issue]:
    """A reason that was there already is that of something else."""
    if is_paused(after) and not is_paused(before):
        reason = reason_given(after)
        if not reason or reason == reason_given(before):
            yield Issue("A pause needs a reason: add the extension status-reason", _PAUSE_PLACE)


def referral_stands(case: Case, _after: Resource) -> Iterator[Issue]:
    for referral in case.referrals:
        if status_of(referral) in ("revoked", "entered-in-error"):
            yield Issue(
                f"{reference_to(referral)} is {status_of(referral)}: refer anew",
                "EpisodeOfCare.referralRequest",
            )


def consent_is_active(case: Case, _after: Resource) -> Iterator[Issue]:
    if not case.consents:
        yield Issue(
            "No consent to keyworking is in force: record a Consent of the category keyworking "
            "that is active and in its period",
            "Consent.status",
        )
    elif not any(consent.get("policyRule") for consent in case.consents):
        yield Issue("The consent has no legal basis: record it in policyRule", "Consent.policyRule")


def consent_has_not_ended(case: Case, _after: Resource) -> Iterator[Issue]:
    if case.consent_ended:
        yield Issue(
            "The consent to keyworking has ended, and none is in force: talk about it again, and "
            "record what is decided",
            "Consent.status",
        )


def keyworker_is_named(_case: Case, after: Resource) -> Iterator[Issue]:
    if not after.get("careManager"):
        yield Issue(
            "No keyworker is allocated: name one in careManager, or with $allocate",
            "EpisodeOfCare.careManager",
        )


def first_visit_is_over(case: Case, _after: Resource) -> Iterator[Issue]:
    if not any(status_of(visit) == "finished" for visit in case.visits):
        yield Issue(
            "The first visit has not taken place: record an Encounter of class HH, FLD or VR "
            "that is finished, since the involvement began",
            "Encounter.status",
        )


def plan_is_written(case: Case, _after: Resource) -> Iterator[Issue]:
    if case.plan is None:
        yield Issue("There is no keyworking plan: write a CarePlan of that category", "CarePlan")


def goal_is_smart(case: Case, _after: Resource) -> Iterator[Issue]:
    """One at least is specific, measurable, agreed, relevant and has a due date."""
    lacks = [lacking(goal) for goal in case.plan_goals if status_of_goal(goal) not in _OVER_GOAL]
    if not lacks:
        yield Issue("The plan has no goal: refer to one at least in goal", "CarePlan.goal")
    elif all(lacks):
        for element, text in min(lacks, key=len).items():
            yield Issue(f"No goal of the plan is SMART yet: {text}", element)


def lacking(goal: Resource) -> dict[str, str]:
    """What keeps a goal from being SMART, by element."""
    targets = goal.get("target", [])
    told = {
        "Goal.description": (
            len(said(goal.get("description", {}).get("text"))) >= _SHORTEST_GOAL
            or bool(goal.get("description", {}).get("coding")),
            "say what is wanted, in at least ten characters",
        ),
        "Goal.target.measure": (
            any(target.get("measure") for target in targets),
            "say how it is measured",
        ),
        "Goal.target.dueDate": (
            any(target.get("dueDate") for target in targets),
            "give the day by which it is to be reached",
        ),
        "Goal.addresses": (bool(goal.get("addresses")), "say what it is about"),
        "Goal.lifecycleStatus": (_is_agreed(goal), "it has to be agreed with the young person"),
    }
    return {element: text for element, (there, text) in told.items() if not there}


def _is_agreed(goal: Resource) -> bool:
    """Accepted, or about to be: the young person or the family has said yes."""
    if status_of_goal(goal) in _AGREED_GOAL:
        return True
    acceptance = extension(goal, canonicals.GOAL_ACCEPTANCE_EXTENSION) or {}
    agreed = any(part.get("valueCode") == "agree" for part in acceptance.get("extension", ()))
    return agreed and status_of_goal(goal) in _MERELY_PROPOSED


def status_of_goal(goal: Resource) -> str:
    return str(goal.get("lifecycleStatus", ""))


def is_over_goal(goal: Resource) -> bool:
    return status_of_goal(goal) in _OVER_GOAL


def voice_is_recorded(case: Case, _after: Resource) -> Iterator[Issue]:
    found = extension(case.plan or {}, canonicals.YOUNG_PERSONS_VOICE_EXTENSION) or {}
    if not said(found.get("valueAnnotation", {}).get("text")):
        yield Issue(
            "The plan does not say what the young person says: add the extension "
            "young-persons-voice",
            _VOICE_PLACE,
        )


def stay_is_open(case: Case, _after: Resource) -> Iterator[Issue]:
    if not case.open_stays:
        yield Issue(
            "There is no open stay in hospital: an Encounter of class IMP that is in progress, or "
            "$process-message, brings the move along",
            "Encounter.status",
        )


def stay_is_over(case: Case, _after: Resource) -> Iterator[Issue]:
    for stay in case.open_stays:
        yield Issue(
            f"The young person is in hospital still: {reference_to(stay)} is {status_of(stay)}",
            "Encounter.status",
        )


def discharge_plan_is_active(case: Case, _after: Resource) -> Iterator[Issue]:
    """That of the stay that goes on."""
    plans = [plan for plan in case.discharge_plans if status_of(plan) == "active"]
    stays = [plan.get("encounter") for plan in plans]
    fits = any(stay is None or any(refers(stay, one) for one in case.open_stays) for stay in stays)
    if not (fits or (plans and not case.open_stays)):
        yield Issue(
            "The discharge plan is not active: agree it, and make its status active",
            "CarePlan.status",
        )


def rating_is_steady(case: Case, _after: Resource) -> Iterator[Issue]:
    if case.colour not in _STEADY:
        text = f"The rating is {case.colour}" if case.colour else "There is no rating"
        yield Issue(f"{text}: step-down begins at {' or '.join(_STEADY)}", "Flag.code")


def hold_is_over(case: Case, _after: Resource) -> Iterator[Issue]:
    """The days after a discharge, and what a rating is held for."""
    today = local_day(case.now)
    until = case.held_until
    if case.left is not None:
        home = local_day(case.left) + timedelta(days=case.pathway.red_hold_days)
        until = max(until, home.isoformat())
    if today.isoformat() < until:
        days = case.pathway.red_hold_days
        yield Issue(f"{days} days after discharge are over on {until}", STATE_PLACE)


def reason_is_given(_case: Case, after: Resource) -> Iterator[Issue]:
    reason, state = close_reason(after), state_of(after)
    allowed = [one for one in CLOSE_REASONS if state == CLOSED or one != STEPPED_DOWN]
    if reason not in allowed:
        said = f"'{reason}' is no reason for that" if reason else "It is not said why"
        yield Issue(f"{said}: give a close-reason of {', '.join(allowed)}", _REASON_PLACE)


def tasks_are_ended(case: Case, _after: Resource) -> Iterator[Issue]:
    for task in of_keyworking(case.tasks):
        name = task_code(task) or task.get("description", "a task")
        yield Issue(f"{reference_to(task)} is open ({name}): complete or cancel it", "Task.status")


def of_keyworking(tasks: Sequence[Resource]) -> list[Resource]:
    """Those that are open, and have no point any more once keyworking has ended.

    An escalation goes with what it is about.
    """
    runs_on = {reference_to(task) for task in tasks if task_code(task) in OF_THE_REGISTER}

    def is_escalated(task: Resource) -> bool:
        about = local_name(task.get("focus"))
        return task_code(task) == "escalation" and about in runs_on

    return [
        task
        for task in tasks
        if is_open(task) and reference_to(task) not in runs_on and not is_escalated(task)
    ]


def goals_are_ended(case: Case, _after: Resource) -> Iterator[Issue]:
    for goal in case.goals:
        if not is_over_goal(goal):
            yield Issue(
                f"{reference_to(goal)} is {status_of_goal(goal)}: complete, cancel or reject it",
                "Goal.lifecycleStatus",
            )


_TO: Final[Mapping[str, tuple[Guard, ...]]] = {
    CONSENT_PENDING: (referral_stands,),
    AWAITING_ALLOCATION: (consent_is_active,),
    INFORMATION_GATHERING: (consent_is_active, keyworker_is_named),
    PLANNING: (consent_has_not_ended, first_visit_is_over),
    IN_HOSPITAL: (stay_is_open,),
    DISCHARGE_PLANNING: (discharge_plan_is_active,),
    STEP_DOWN: (consent_has_not_ended, rating_is_steady, hold_is_over, stay_is_over),
    CLOSED: (reason_is_given, tasks_are_ended, goals_are_ended),
    CANCELLED: (reason_is_given,),
}
_TO_PLAN_ACTIVE: Final[Mapping[str, tuple[Guard, ...]]] = {
    PLANNING: (consent_has_not_ended, plan_is_written, goal_is_smart, voice_is_recorded),
    DISCHARGE_PLANNING: (stay_is_over,),
    STEP_DOWN: (consent_has_not_ended, plan_is_written),
}
