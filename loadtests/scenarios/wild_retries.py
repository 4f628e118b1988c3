"""A partner whose system is broken: it sends what cannot be taken, and at once again.

Each refusal has to say what is wrong, cost little and never be a 5xx but for 503.
"""

from typing import Any, Final

from loadtests.scenarios.acting import Actor, Scenario, says_what_is_wrong

_TRIES: Final = 5
_REFUSED: Final = (400, 403, 404, 409, 422, 429, 503)


def play(actor: Actor) -> None:
    if actor.one_in(20):
        headers = {"Authorization": "Bearer not.a.token"}
        path = "CarePlan?status=active"
        actor.ask(
            "wild: no token of ours",
            *("GET", path),
            headers=headers,
            expect=(401, 429),
            check=says_what_is_wrong,
        )
        return
    name, method, path, body = actor.chance.choice(_broken(actor))
    for _ in range(_TRIES):
        actor.ask(
            f"wild: {name}", method, path, body=body, expect=_REFUSED, check=says_what_is_wrong
        )


def _broken(actor: Actor) -> list[tuple[str, str, str, Any]]:
    other = actor.chance.choice(actor.hidden).id if actor.hidden else "nobody"
    task = {
        "resourceType": "Task",
        "status": "no such",
        "intent": "order",
        "for": {"reference": f"Patient/{other}"},
    }
    return [
        ("half a body", "POST", "Task", b'{"resourceType": "Task", "sta'),
        ("a task that is none", "POST", "Task", task),
        ("a parameter that is none", "GET", "CarePlan?colour=mauve&_count=many", None),
        ("an id that is none", "GET", "CarePlan/no%20such", None),
        ("a type that is none", "GET", "Dragon?_count=1", None),
    ]


SCENARIO: Final = Scenario("wild_retries", "wild", 6, 0.5, 0.5, play)
