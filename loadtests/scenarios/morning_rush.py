"""Nine in the morning: every keyworker opens their caseload, and what is due for each."""

from typing import Final

from loadtests.scenarios.acting import Actor, Answer, Scenario, Wrong, all_about

_LOOKED_AT: Final = 3


def play(actor: Actor) -> None:
    own = {f"Patient/{one.id}" for one in actor.mine}
    path = f"{actor.identity.user}/$caseload"
    actor.ask("caseload", "GET", path, check=lambda answer: _is_own(answer, own))
    some = actor.chance.sample(list(actor.mine), min(_LOOKED_AT, len(actor.mine)))
    for person in some:
        path = f"Task?patient={person.id}&status=requested&_count=50"
        actor.ask("tasks of one", "GET", path, check=all_about(person))
    if actor.one_in(10):
        actor.ask_for_what_is_hidden()


def _is_own(answer: Answer, own: set[str]) -> None:
    """Nobody else's young people, and all of the keyworker's."""
    listed = {
        part["valueReference"]["reference"]
        for one in answer.json().get("parameter", ())
        for part in one.get("part", ())
        if part["name"] == "patient"
    }
    if listed - own:
        raise Wrong("a record that is not for this caller")
    if own - listed:
        raise Wrong("a caseload with somebody missing")


SCENARIO: Final = Scenario("morning_rush", "keyworker", 20, 1.0, 0.6, play, ("caseload",))
