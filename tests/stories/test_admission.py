"""Into hospital and home again, with a keyworker who stays: Ben is 16, and has a plan.

The hospital's message at night is all that anybody has to send. Whoever has a part in it sees
where Ben is, what is to be done and by when, until he is home and the fortnight is over.
"""

from tests.events.receiving import Receiver, until
from tests.operations.messages import Spell
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.people import Person, refused
from tests.stories.telling import Telling


async def test_the_story_of_an_admission(notifying: Telling, board: Receiver) -> None:
    telling, ben = notifying, Child("Ben", born="2009-09-14", harms_himself=True)
    keyworker, hospital, nurse = telling.keyworker, telling.hospital, telling.nurse
    await has_a_plan(telling, ben)
    await keyworker.asks_to_be_told("admitted", "discharged", "rating-changed", "task-overdue")
    await nurse.asks_to_be_told("admitted", "discharged", at=f"{board.origin}/camhs")
    assert await hospital.knows(ben) == set()
    stay = await _is_admitted(telling, ben, board)
    await _is_visited_there(telling, ben)
    await _plans_to_leave(telling, ben)
    await _goes_home(telling, ben, stay, board)
    await _is_followed_up(telling, ben)
    await _is_asked_about(telling, ben)
    await _is_held_at_red(telling, ben)


def _team(telling: Telling) -> tuple[Person, ...]:
    return telling.ben, telling.keyworker, telling.nurse, telling.social_worker


async def _is_admitted(telling: Telling, ben: Child, board: Receiver) -> Spell:
    """Tuesday night: an emergency, under section 2."""
    keyworker, hospital = telling.keyworker, telling.hospital
    await telling.it_is("2026-03-10 23:30")
    stay = Spell(ben.nhs_number, telling.clock.now, birth_date=ben.born)
    await hospital.tells(stay.admit())
    for person in (*_team(telling), hospital):
        assert await person.rating_of(ben) == "blue"
        plans = {"keyworking-plan": "active", "discharge-plan": "draft"}
        assert await person.plans_of(ben) == plans, "leaving is planned from the first day"
        assert await person.state_of(ben) == "in-hospital"
    await keyworker.is_told_of(ben, "admitted")
    await keyworker.is_told_of(ben, "rating-changed")
    await until(lambda: len(board.events) == 1, what="a notice to the screen")
    due = await keyworker.to_do(ben)
    assert due["contact-hospital"] == "2026-03-11", "the next working day"
    assert due["T-DPLAN-START"] == "2026-03-10"
    assert due["T-CETR-POSTADM"] == "2026-03-24", "no review had been held before"
    assert due["root-cause-analysis"] == "2026-04-07", "and why not, is asked"
    assert due["T-OVERSIGHT-VISIT"] == "2026-04-21", "six weeks"
    assert due["T-CETR-REPEAT"] == "2026-06-10", "three months"
    return stay


async def _is_visited_there(telling: Telling, ben: Child) -> None:
    """Keyworking goes on: contact, visits in hospital, a review."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-03-11 11:00")
    await keyworker.completes(ben, "contact-hospital")
    await keyworker.visits(ben, where="FLD")
    with refused(422, "the rating is blue until the discharge"):
        await nurse.rates(ben, "amber", "Much better")
    await telling.it_is("2026-03-20 14:00")
    await keyworker.completes(ben, "T-CETR-POSTADM")
    await keyworker.visits(ben, where="FLD")


async def _plans_to_leave(telling: Telling, ben: Child) -> None:
    """The discharge plan: what Ben wants, who sees to what, and for which day."""
    keyworker, hospital = telling.keyworker, telling.hospital
    with refused(422, "discharge plan"):
        await keyworker.moves(ben, to="discharge-planning")
    plan = await keyworker.plan_of(ben, "discharge-plan")
    plan = await keyworker.writes(papers.followed(plan, "I want my own room back"))
    await keyworker.moves(ben, to="discharge-planning")
    leaving = f"CarePlan/{plan['id']}/$confirm-discharge"
    with refused(422, "dp-home is open", "dp-crisis-plan is open", "dp-funding is open"):
        await keyworker.operates(leaving, destination=papers.code("19"))
    plan = papers.all_arranged(plan, "2026-04-10", keyworker.reference)
    await keyworker.writes(plan)
    ready = await hospital.gets(f"CarePlan/{plan['id']}/$discharge-readiness")
    assert papers.value(ready, "ready") is True


async def _goes_home(telling: Telling, ben: Child, stay: Spell, board: Receiver) -> None:
    """Friday afternoon: home. The hospital tells of it, and sees no more of him from then on."""
    keyworker, hospital = telling.keyworker, telling.hospital
    await telling.it_is("2026-04-10 15:00")
    await hospital.tells(stay.discharge(telling.clock.now))
    assert await hospital.knows(ben) == set()
    for person in _team(telling):
        assert await person.rating_of(ben) == "red"
    assert await keyworker.state_of(ben) == "plan-active"
    await keyworker.is_told_of(ben, "discharged")
    await until(lambda: len(board.events) == 2, what="a second notice to the screen")
    due = await keyworker.to_do(ben)
    assert due["T-CAREPLAN-SHARE"] == "2026-04-11 15:00"
    assert due["T-FU-48"] == "2026-04-12 15:00", "he has harmed himself before"
    assert due["T-FU-72"] == "2026-04-13 15:00"
    assert due["T-FU-7D"] == "2026-04-17 15:00"
    assert due["T-RED-HOLD"] == "2026-04-24"
    assert not due.keys() & {"T-OVERSIGHT-VISIT", "T-CETR-REPEAT"}


async def _is_followed_up(telling: Telling, ben: Child) -> None:
    """The plan goes to everybody within a day, somebody sees him within two.

    The third is missed.
    """
    keyworker = telling.keyworker
    await telling.it_is("2026-04-11 10:00")
    await keyworker.completes(ben, "T-CAREPLAN-SHARE")
    await telling.it_is("2026-04-12 10:00")
    await keyworker.visits(ben)
    await keyworker.completes(ben, "T-FU-48")
    await telling.it_is("2026-04-13 18:00")
    await keyworker.is_told_of(ben, "task-overdue", "T-FU-72")


async def _is_asked_about(telling: Telling, ben: Child) -> None:
    """A working day later it is the strategic keyworker's to ask why."""
    keyworker = telling.keyworker
    await telling.it_is("2026-04-15 09:00")
    (why,) = await telling.strategic_keyworker.has_to_ask_about(ben, "T-FU-72")
    assert why["restriction"]["period"]["end"] == "2026-04-16"
    await keyworker.visits(ben)
    await keyworker.completes(ben, "T-FU-72")
    assert await telling.strategic_keyworker.has_to_ask_about(ben, "T-FU-72") == []


async def _is_held_at_red(telling: Telling, ben: Child) -> None:
    """Red for a fortnight, whoever thinks otherwise; then amber, by somebody's decision."""
    keyworker, nurse = telling.keyworker, telling.nurse
    with refused(422, "2026-04-24"):
        await nurse.rates(ben, "amber", "Quiet days")
    with refused(422, "discharge"):
        await keyworker.operates(f"{ben.episode}/$step-down", reason="Quiet days")
    await telling.it_is("2026-04-24 16:00")
    await nurse.rates(ben, "amber", "A quiet fortnight")
    assert await telling.ben.rating_of(ben) == "amber"
    due = await keyworker.to_do(ben)
    assert due["T-REVIEW-AMBER"] == "2026-05-22"
    assert "T-RED-HOLD" not in due
