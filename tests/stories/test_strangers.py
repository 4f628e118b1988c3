"""Who has no part in it: a keyworker of another region, and a hospital that nobody knows.

Kai is 16. At each step of his story they ask by every route, and try to do what others do.
"""

from datetime import timedelta

import pytest

from tests.access.people import ods, ref
from tests.operations.messages import JSON, Spell, changed
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child, code
from tests.stories.people import Person, Refused, refused
from tests.stories.telling import Telling


async def test_the_story_of_those_who_have_no_part(telling: Telling) -> None:
    kai = Child("Kai", born="2009-09-14")
    unknown = await telling.comes("unknown-hospital", ods_code=papers.ELSEWHERE)
    strangers = (telling.stranger, unknown, telling.commissioner)

    # Known to the service alone, then involved, then with a plan: they never learn of it.
    await telling.is_brought(kai)
    await _learn_nothing(kai, strangers)
    await has_a_plan(telling, kai)
    await _learn_nothing(kai, strangers)
    for refusal in await _tried(telling.stranger, kai):
        assert refusal.answer.status_code in (403, 404), refusal

    # Nor do they tell of him: of a stay in their own name, or in that of the hospital.
    await telling.it_is("2026-03-10 09:00")
    stay = Spell(kai.nhs_number, telling.clock.now, birth_date=kai.born)
    own = changed(changed(stay.admit(), 0, sender=ods(papers.ELSEWHERE)), 1, **_at_elsewhere())
    with refused(403):
        await unknown.tells(own)
    with refused(403):
        await unknown.tells(stay.admit())
    assert await telling.keyworker.rating_of(kai) == "amber"

    # In hospital, and home again.
    await telling.hospital.tells(stay.admit())
    await _learn_nothing(kai, strangers)
    with refused(403):
        await unknown.tells(stay.discharge(telling.clock.now + timedelta(minutes=1)))
    assert await telling.keyworker.rating_of(kai) == "blue"
    await telling.it_is("2026-03-20 09:00")
    await telling.hospital.tells(stay.discharge(telling.clock.now))
    await _learn_nothing(kai, (*strangers, telling.hospital))

    # At another region's A&E, in danger of his life: for an hour, and his keyworker is told why.
    why = "He was found on a bridge, and says nothing"
    await telling.stranger.operates(f"{kai.reference}/$break-glass", reason=why)
    assert "CarePlan" in await telling.stranger.knows(kai)
    (task,) = await telling.keyworker.tasks_of(kai, "review-break-glass")
    assert (task["description"], task["owner"]) == (why, ref(telling.keyworker.reference))
    assert await telling.kai.tasks_of(kai, "review-break-glass") == [], "told in confidence"
    await telling.it_is("2026-03-20 10:01")
    await _learn_nothing(kai, strangers)


async def _learn_nothing(child: Child, people: tuple[Person, ...]) -> None:
    for person in people:
        assert await person.knows(child) == set(), person.machine.id
        rows = await person.gets("$register")
        assert "entry" not in rows, person.machine.id


def _at_elsewhere() -> JSON:
    return {"serviceProvider": ods(papers.ELSEWHERE)}


async def _tried(person: Person, child: Child) -> list[Refused]:
    """What the server says to everything that others do."""
    named = {"keyworker": ref(person.reference)}
    attempts = [
        person.operates(f"{child.reference}/$refer", reason="He is ours"),
        person.operates(f"{child.episode}/$transition", to=code("step-down")),
        person.operates(f"{child.episode}/$allocate", **named),
        person.operates(f"{child.episode}/$close", reason=code("moved-away")),
        person.operates(f"{child.reference}/$set-rating", rating=code("green"), reason="Well"),
        person.operates(f"{child.reference}/$discharge-plan"),
        person.visits(child),
        person.records_consent(child, "keyworking", giver=child.reference),
        person.writes(papers.goal(child, person.clock.now.date(), *_WISH)),
    ]
    found = []
    for attempt in attempts:
        with pytest.raises(Refused) as error:
            await attempt
        found.append(error.value)
    return found


_WISH = ("He moves to our region", "Homes", "One", "2026-12-31")
