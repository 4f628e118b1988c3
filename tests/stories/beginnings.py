"""How stories begin that are not about the beginning, told in short by the same requests."""

from tests.access.people import ref
from tests.stories import papers
from tests.stories.papers import Child
from tests.stories.people import Person
from tests.stories.telling import Telling


async def waits(telling: Telling, child: Child, giver: Person | None = None) -> None:
    """Rated and referred, with both consents: somebody is to be matched.

    Args:
        giver: who consents; the young person, where nobody is named.
    """
    if not child.id:
        await telling.is_brought(child)
    giver = giver or telling.people[child.name.lower()]
    await giver.consents(child, to="register")
    await telling.paediatrician.rates(child, "amber", "School is at its limits")
    await telling.social_worker.refers(child, "It is too much for everybody")
    await telling.manager.moves(child, to="consent-pending")
    await giver.consents(child, to="keyworking")
    await telling.manager.moves(child, to="awaiting-allocation")


async def has_a_keyworker(telling: Telling, child: Child, giver: Person | None = None) -> None:
    """The keyworker knows the family, and the team is together."""
    await waits(telling, child, giver)
    await telling.manager.allocates(child, telling.keyworker)
    for code in ("contact-family", "contact-mdt"):
        await telling.keyworker.completes(child, code)
    members = {"social_worker": telling.social_worker, "camhs": telling.nurse}
    leading = {"strategic_keyworker": telling.strategic_keyworker}
    await telling.keyworker.gathers(child, **members, **leading)


async def has_a_plan(telling: Telling, child: Child, giver: Person | None = None) -> None:
    """With a goal, after two visits."""
    keyworker = telling.keyworker
    await has_a_keyworker(telling, child, giver)
    await keyworker.visits(child)
    await keyworker.moves(child, to="planning")
    await keyworker.visits(child)
    today = telling.clock.now.date()
    by = today.replace(year=today.year + 1).isoformat()
    agreed = papers.goal(child, today, "I cook tea for my nan", "Teas cooked", "One a week", by)
    goal = await keyworker.writes(agreed)
    plan = await keyworker.plan_of(child, "keyworking-plan")
    plan = papers.with_voice(plan, "I want to be asked first")
    await keyworker.writes({**plan, "goal": [ref(f"Goal/{goal['id']}")]})
    await keyworker.moves(child, to="plan-active")
