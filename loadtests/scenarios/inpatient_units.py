"""Inpatient units tell of admissions, transfers and discharges: in bursts, twice, and too late.

Between an admission and the discharge the unit sees the plans of the young person in its bed, and
before and afterwards nothing: that is what the messages are held against.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from loadtests.people import Person
from loadtests.scenarios.acting import Actor, Answer, Scenario, Wrong, all_about, is_empty
from loadtests.scenarios.messages import Spell

_BURST: Final = 3


def play(actor: Actor) -> None:
    if actor.one_in(8):
        actor.ask_for_what_is_hidden()
    pool = actor.pool("to be admitted", lambda one: one.at_home)
    count = _BURST if actor.one_in(5) else 1
    # A stay whose discharge was refused goes on, and the unit sees the plans by right.
    with pool.taken(actor.chance, count, whole=True) as people:
        spells = [_spell(actor, person) for person in people]
        if actor.one_in(5):
            _late(actor, spells)
        else:
            _in_order(actor, spells)
        for spell in spells:
            _require_closed(actor, spell.person)


def _spell(actor: Actor, person: Person) -> Spell:
    """A new one: the same number would be the same stay, also in another run."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=4)
    return Spell(person, f"LOAD-{uuid4().hex}", actor.identity.ods, start)


def _in_order(actor: Actor, spells: list[Spell]) -> None:
    for spell in spells:
        _post(actor, "admission", spell.admission())
        if actor.one_in(5):
            _post(actor, "admission again", spell.admission())
    for spell in spells:
        path = f"CarePlan?patient={spell.person.id}&category=discharge-plan,keyworking-plan"
        check = all_about(spell.person, least=2)
        actor.ask("plans of who is in the bed", "GET", path, check=check)
        if actor.one_in(3):
            _post(actor, "transfer", spell.transfer(spell.start + timedelta(seconds=1)))
        _post(actor, "discharge", spell.discharge(spell.start + timedelta(seconds=2)))


def _late(actor: Actor, spells: list[Spell]) -> None:
    """The discharge comes before the admission that it ends."""
    for spell in spells:
        _post(actor, "discharge", spell.discharge(spell.start + timedelta(seconds=2)))
        _post(actor, "late admission", spell.admission())


def _post(actor: Actor, name: str, message: dict[str, Any]) -> None:
    actor.ask(name, "POST", "$process-message", body=message, check=_is_stored)


def _is_stored(answer: Answer) -> None:
    """Nothing but that: the unit is not told what follows."""
    issues = answer.json().get("issue", [{}])
    if not str(issues[0].get("diagnostics", "")).startswith("The event is stored"):
        raise Wrong("the event is not said to be stored")


def _require_closed(actor: Actor, person: Person) -> None:
    path = f"CarePlan?patient={person.id}"
    actor.ask("hidden: plans after the discharge", "GET", path, check=is_empty)


SCENARIO: Final = Scenario("inpatient_units", "unit", 8, 0.02, 0.15, play, ("process-message",))
