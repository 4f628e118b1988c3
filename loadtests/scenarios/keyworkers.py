"""Keyworkers write down visits, goals and tasks, with If-Match, and run into each other.

Each young person is in one hand at a time within a process; with several processes that make load,
each has its own part of them. So a version that has not moved, or has moved twice, is a fault.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from fhir_server.fhir import canonicals
from loadtests.people import Person
from loadtests.scenarios.acting import (
    CONFLICTS,
    WHOLE,
    Actor,
    Answer,
    Scenario,
    Wrong,
    if_match,
    is_about,
    is_first,
    moved_on_from,
    says_what_is_wrong,
    version,
)

_TAG: Final = {"tag": [{"system": canonicals.ACT_REASON, "code": "HTEST"}]}


def play(actor: Actor) -> None:
    if actor.one_in(8):
        actor.ask_for_what_is_hidden()
    with actor.pool("supported", lambda one: one.has_plan).taken(actor.chance) as found:
        for person in found:
            actor.chance.choice((_visit, _goal, _goal, _task))(actor, person)


def _visit(actor: Actor, person: Person) -> None:
    end = datetime.now(UTC).replace(microsecond=0)
    visit = {
        "resourceType": "Encounter",
        "meta": _TAG,
        "status": "finished",
        "class": {"system": canonicals.ACT_CODE, "code": "HH"},
        "type": [{"text": "Visit"}],
        "subject": {"reference": f"Patient/{person.id}"},
        "participant": [{"individual": {"reference": person.keyworker}}],
        "period": {"start": (end - timedelta(hours=1)).isoformat(), "end": end.isoformat()},
    }
    made = _created(actor, "visit: create", visit)
    path = f"Encounter/{made.json()['id']}"
    actor.ask("visit: read", "GET", path, check=is_about(person, "Encounter"))


def _created(actor: Actor, name: str, new: dict[str, Any]) -> Answer:
    check = is_first(actor)
    kind = new["resourceType"]
    return actor.ask(name, "POST", kind, body=new, headers=WHOLE, expect=(201,), check=check)


def _goal(actor: Actor, person: Person) -> None:
    """A goal is looked at again; now and then on the ground of what is not there any more."""
    path = f"Goal/{person.id}-goal-{actor.chance.randint(1, 2)}"
    found = actor.ask("goal: read", "GET", path, check=is_about(person, "Goal"))
    goal, now = found.json(), version(found)
    goal["note"] = [*goal.get("note", ())[:1], _note()]
    check = moved_on_from(now, actor)
    written = actor.ask("goal: update", "PUT", path, body=goal, headers=if_match(now), check=check)
    if CONFLICTS in actor.lacks or not actor.one_in(3):
        return
    actor.ask(
        "goal: conflict",
        "PUT",
        path,
        body=goal,
        headers=if_match(now),
        expect=(412,),
        check=says_what_is_wrong,
    )
    actor.ask("goal: read", "GET", path, check=_is_still(version(written)))


def _note() -> dict[str, Any]:
    """Not twice the same: what says the same is no new version."""
    return {"text": f"Looked at together ({uuid4().hex[:12]})"}


def _is_still(before: str) -> Any:
    def check(answer: Answer) -> None:
        if version(answer) != before:
            raise Wrong("a refused write has left a version")

    return check


def _task(actor: Actor, person: Person) -> None:
    due = (datetime.now(UTC) + timedelta(days=7)).date()
    task = {
        "resourceType": "Task",
        "meta": _TAG,
        "status": "requested",
        "intent": "order",
        "description": "Ask the school for its report",
        "for": {"reference": f"Patient/{person.id}"},
        "owner": {"reference": person.keyworker},
        "restriction": {"period": {"end": due.isoformat()}},
    }
    made = _created(actor, "task: create", task)
    done = {**made.json(), "status": "completed"}
    actor.ask(
        "task: update",
        "PUT",
        f"Task/{done['id']}",
        body=done,
        headers=if_match(version(made)),
        check=moved_on_from(version(made), actor),
    )


_NEEDED: Final = {
    "Encounter": ("create", "read"),
    "Goal": ("read", "update"),
    "Task": ("create", "update"),
}
SCENARIO: Final = Scenario(
    *("keyworkers", "keyworker", 16, 1.5, 0.15, play), own=False, interactions=_NEEDED
)
