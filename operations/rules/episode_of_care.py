"""The pathway: an involvement moves only as it may, and what comes with its state follows.

A create is taken as it is: it may be a record that comes from elsewhere. What is missing for its
state becomes a Task. An update is judged, whoever sends it and however. A move that a rule makes,
such as that of an admission, is judged by that rule.
"""

from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.rules import Change
from operations._person import Person, local_time, person_named, status_of
from operations._work import register_keeper
from operations.pathway.case import Case, case_of
from operations.pathway.effects import Move, follow_move
from operations.pathway.guards import missing
from operations.pathway.states import UNDER_WAY, is_keyworking, state_of
from operations.pathway.team import hand_over

ON: Final = ("EpisodeOfCare",)
_KEPT: Final = {
    "patient": "An involvement does not become another young person's: enter this one in error, "
    "and begin another",
    "type": "An involvement of keyworking stays one",
}


async def guard(change: Change) -> None:
    """Raise with all that an update of an involvement lacks.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    before, after = change.before, change.after
    if before is None or after is None or not is_keyworking(before):
        return
    issues = [*_changed(before, after)]
    person = await person_named(change.records, after, change.now)
    if not issues:
        issues += missing(await _case(change, person, after), before, after)
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)


async def _case(change: Change, person: Person | None, episode: Resource) -> Case:
    """Of somebody who is not known here nothing is on record."""
    if person is None:
        return Case(change.now, change.pathway)
    return await case_of(change.records, person, episode, change.pathway)


def _changed(before: Resource, after: Resource) -> list[Issue]:
    changed = []
    if parse_relative(_patient(before)) != parse_relative(_patient(after)):
        changed.append("patient")
    if not is_keyworking(after):
        changed.append("type")
    return [Issue(_KEPT[name], f"EpisodeOfCare.{name}") for name in changed]


async def follow(change: Change) -> list[str]:
    """Note the status, and write what comes with the state."""
    episode = await change.records.get(change.type, change.id)
    if change.after is None or episode is None or not is_keyworking(episode):
        return []
    person = await person_named(change.records, episode, change.now)
    if person is None or status_of(episode) == "entered-in-error":
        return []
    if change.before is None:
        return []
    episode = await change.records.amend(_with_history(change, change.before, episode))
    said = await _new_keyworker(change, person, change.before, episode)
    episode = await change.records.get(change.type, change.id) or episode
    came_from = state_of(change.before)
    if came_from == state_of(episode):
        return said
    move = Move(change.records, person, episode, came_from, change.pathway)
    return said + await follow_move(move)


async def _new_keyworker(
    change: Change, person: Person, before: Resource, after: Resource
) -> list[str]:
    manager = after.get("careManager")
    if not manager or manager == before.get("careManager") or state_of(after) not in UNDER_WAY:
        return []
    keeper = register_keeper(change.pathway)
    return await hand_over(change.records, person, after, before.get("careManager"), keeper)


def _with_history(change: Change, before: Resource, after: Resource) -> Resource:
    """The status that ended and the one that began: the server's own, whatever was sent.

    A status of today has no end.
    """
    history = [*before.get("statusHistory", [])]
    if status_of(before) == status_of(after):
        if change.by_rule:
            return after
    else:
        now = local_time(change.now)
        history = [
            *_ended(history, before, now),
            {"status": status_of(after), "period": {"start": now}},
        ]
    rest = {name: value for name, value in after.items() if name != "statusHistory"}
    return {**rest, "statusHistory": history} if history else rest


def _ended(history: list[Resource], before: Resource, now: str) -> list[Resource]:
    *earlier, last = history or [{}]
    if last.get("status") == status_of(before) and "end" not in last.get("period", {}):
        return [*earlier, {**last, "period": {**last.get("period", {}), "end": now}}]
    start = last.get("period", {}).get("end") or before.get("period", {}).get("start")
    period = {"start": start, "end": now} if start else {"end": now}
    return [*history, {"status": status_of(before), "period": period}]


def _patient(episode: Resource) -> str:
    return str(episode.get("patient", {}).get("reference", ""))
