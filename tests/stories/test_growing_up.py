"""On to the services for adults: Dev is 17, on amber, and 18 in October.

What was agreed for a child ends with childhood. What he agrees to as an adult goes on from there.
"""

from tests.operations.messages import Spell
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.telling import Telling


async def test_the_story_of_growing_up(telling: Telling) -> None:
    dev = Child("Dev", born="2008-10-01")
    keyworker, signatory = telling.keyworker, telling.paediatrician
    await has_a_plan(telling, dev)
    await keyworker.completes(dev, "T-TRANSITION")  # what is due from 14 on: they talk about it
    assert await signatory.rating_of(dev) == "amber"

    # At 17 and a half: a plan for the move, with those who will be there then.
    await telling.it_is("2026-04-01 09:00")
    assert (await keyworker.to_do(dev))["T-TRANSITION"] == "2026-04-01"
    adults = await telling.joins("adults-social-worker", papers.COUNCIL)
    await keyworker.gathers(dev, lead_professional=adults)
    plan = await keyworker.plan_of(dev, "keyworking-plan")
    await keyworker.writes(papers.for_adulthood(plan, telling.clock.now.date(), "2026-07-01"))
    await keyworker.completes(dev, "T-TRANSITION")
    for person in (telling.dev, adults, telling.nurse):
        assert (await person.plans_of(dev))["transition-plan"] == "active"

    # At 18 his yes to the children's register is over: who sees him by the register sees nothing.
    await telling.it_is("2026-10-01 09:00")
    assert await signatory.knows(dev) == set()
    (task,) = await keyworker.tasks_of(dev, "T-TRANSITION")
    assert "the adults' register needs the adult's consent" in task["description"]
    assert await adults.rating_of(dev) == "amber", "who works with him goes on"

    # As an adult he says yes himself, and what the register knew of him goes on.
    await telling.dev.consents(dev, to="register")
    assert await signatory.knows(dev) == {"Patient", "Flag"}
    assert await signatory.rating_of(dev) == "amber"
    (rating,) = await keyworker.sees("Flag", dev)
    assert rating["period"] == {"start": "2026-03-02T09:00:00+00:00"}
    await keyworker.completes(dev, "T-TRANSITION")
    assert await keyworker.tasks_of(dev, "T-TRANSITION") == []

    # In hospital he is an adult too.
    await telling.it_is("2026-11-02 09:00")
    stay = Spell(dev.nhs_number, telling.clock.now, birth_date=dev.born)
    await telling.hospital.tells(stay.admit())
    due = await keyworker.to_do(dev)
    assert due["T-OVERSIGHT-VISIT"] == "2026-12-28", "eight weeks, where a child has six"
    assert due["T-CETR-REPEAT"] == "2027-05-02", "six months, where a child has three"
    assert await telling.stranger.knows(dev) == set()
