"""A no half-way, and a yes again later: Fay is 16, and at odds with everybody in March."""

from tests.events.receiving import Receiver, until
from tests.operations.messages import Spell
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.people import Person, refused
from tests.stories.telling import Telling


async def test_the_story_of_a_consent_that_is_withdrawn(
    notifying: Telling, board: Receiver
) -> None:
    telling, fay = notifying, Child("Fay", born="2009-09-14")
    nurse, hospital = telling.nurse, telling.hospital
    await has_a_plan(telling, fay)
    await telling.it_is("2026-03-10 08:00")
    stay = Spell(fay.nhs_number, telling.clock.now, birth_date=fay.born)
    await hospital.tells(stay.admit())
    await telling.it_is("2026-03-13 12:00")
    for partner in _partners(telling):
        assert {"CarePlan", "Goal", "Task"} <= await partner.knows(fay)
    routes = await _routes(nurse, fay)
    page = await nurse.gets(f"CarePlan?patient={fay.reference}&_count=1")
    (later,) = [one["url"] for one in page["link"] if one["relation"] == "next"]
    for route in (later, *routes):
        assert await nurse.finds_something(route), route
    await nurse.asks_to_be_told("plan-changed", "rating-changed", at=f"{board.origin}/camhs")
    await _says_no_to_keyworking(telling, fay, [later, *routes])
    await _leaves_the_keyworker_with_what_was(telling, fay)
    await _leaves_the_register(telling, fay, stay)
    await _says_yes_again(telling, fay, routes, board)


def _partners(telling: Telling) -> tuple[Person, ...]:
    return telling.nurse, telling.social_worker, telling.strategic_keyworker, telling.hospital


async def _says_no_to_keyworking(telling: Telling, fay: Child, routes: list[str]) -> None:
    """Friday the 13th: no more keyworking.

    With that commit it is over for each of them, whichever way they ask; who has signed the
    register sees the colour still.
    """
    nurse, hospital = telling.nurse, telling.hospital
    await telling.fay.withdraws(fay, "keyworking")
    for partner in (nurse, telling.social_worker):
        assert await partner.knows(fay) == {"Patient", "Flag"}
    for partner in (telling.strategic_keyworker, hospital):
        assert await partner.knows(fay) == set()
    for route in routes:
        assert not await nurse.finds_something(route), route


async def _leaves_the_keyworker_with_what_was(telling: Telling, fay: Child) -> None:
    """The keyworker reads what was, has no part in the rating, writes nothing, and is to ask."""
    keyworker = telling.keyworker
    assert (await keyworker.plans_of(fay))["keyworking-plan"] == "active"
    assert await keyworker.rating_of(fay) == ""
    assert (await keyworker.to_do(fay))["review-consent"] == "2026-03-20", "five working days"
    (goal,) = await keyworker.sees("Goal", fay)
    with refused(403):
        await keyworker.writes({**goal, "lifecycleStatus": "on-hold"})
    with refused(403):
        await keyworker.visits(fay)


async def _leaves_the_register(telling: Telling, fay: Child, stay: Spell) -> None:
    """Monday: off the register, too.

    The rating has ended; the ward may tell, and hears nothing.
    """
    hospital = telling.hospital
    await telling.it_is("2026-03-16 12:00")
    await telling.fay.withdraws(fay, "register")
    for person in (*_partners(telling), telling.paediatrician, telling.manager):
        assert await person.knows(fay) == set()
    assert await telling.fay.rating_of(fay) == ""
    assert await hospital.tells(stay.update()) != []
    assert await hospital.knows(fay) == set()


async def _says_yes_again(telling: Telling, fay: Child, routes: list[str], board: Receiver) -> None:
    """After Easter she says yes to both again: it goes on from where it was."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-04-07 12:00")
    await telling.fay.consents(fay, to="register")
    await telling.fay.consents(fay, to="keyworking")
    assert await keyworker.tasks_of(fay, "review-consent") == []
    assert await keyworker.state_of(fay) == "in-hospital"
    for partner in _partners(telling):
        assert await partner.rating_of(fay) == "blue"
        assert {"CarePlan", "Goal", "Task"} <= await partner.knows(fay)
    for route in routes:
        assert await nurse.finds_something(route), route
    (goal,) = await keyworker.sees("Goal", fay)
    await keyworker.writes({**goal, "note": [{"text": "She wants it still"}]})
    # The first that the screen is told of is the rating that counts again, not the one that ended.
    await until(lambda: len(board.focuses) >= 2, what="a notice of each")
    (rating,) = [one for one in await nurse.sees("Flag", fay) if one["status"] == "active"]
    assert sorted(board.focuses) == [f"Flag/{rating['id']}", f"Goal/{goal['id']}"]
    assert board.numbers == [1, 1]


async def _routes(person: Person, child: Child) -> list[str]:
    """Addresses by which the plan, or what hangs on it, can be come by."""
    plan = await person.plan_of(child, "keyworking-plan")
    address = f"CarePlan/{plan['id']}"
    return [
        address,
        f"{address}/_history",
        f"{address}/_history/1",
        f"{address}/$easy-read",
        f"{child.reference}/$discharge-plan",
        f"CarePlan?subject:Patient.identifier={papers.numbered(child)}",
        f"Goal?patient={child.reference}",
        f"Patient?_has:CarePlan:patient:status=active&_id={child.id}",
        f"Task?patient={child.reference}&_include=Task:focus",
        f"EpisodeOfCare?patient={child.reference}&_revinclude=Task:focus",
        f"{child.episode}",
        f"CareTeam?participant={person.reference}",
    ]
