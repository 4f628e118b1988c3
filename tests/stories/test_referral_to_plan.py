"""From the register to a plan of one's own: Amina is 16, autistic, and on amber.

She is asked first, a keyworker is matched with her, her family is rung before the professionals,
and after two visits there is a plan that begins with what she says.
"""

from tests.stories import papers
from tests.stories.papers import Child
from tests.stories.people import refused
from tests.stories.telling import Telling


async def test_the_story_of_a_referral(telling: Telling) -> None:
    amina = Child("Amina", born="2009-09-14")
    await _comes_from_the_register(telling, amina)
    await _is_referred(telling, amina)
    await _is_asked(telling, amina)
    await _is_matched(telling, amina)
    await _is_rung(telling, amina)
    await _is_visited(telling, amina)
    await _says_what_she_wants(telling, amina)
    await _has_one_plan_with_all(telling, amina)


async def _comes_from_the_register(telling: Telling, amina: Child) -> None:
    """Monday, 2 March: the area's register tells of her.

    Nobody sees her until she has said yes.
    """
    social_worker = telling.social_worker
    await telling.is_on_the_register(amina)
    assert await social_worker.knows(amina) == set()
    await telling.amina.consents(amina, to="register")
    assert await social_worker.knows(amina) == {"Patient", "Flag"}
    (row, *_) = (await social_worker.gets("$register?rating=amber"))["entry"]
    assert row["resource"]["subject"] == {"reference": amina.reference}


async def _is_referred(telling: Telling, amina: Child) -> None:
    """School is at its limits: the social worker refers her."""
    await telling.social_worker.refers(amina, "School is at its limits")
    assert await telling.amina.state_of(amina) == "referred"
    due = await telling.amina.to_do(amina)
    assert due["T-CONTACT"] == "2026-03-09", "five working days"
    assert due["T-DSR-REVIEW-REFERRAL"] == "2026-03-30", "28 days"
    assert due["T-REVIEW-AMBER"] == "2026-03-30"


async def _is_asked(telling: Telling, amina: Child) -> None:
    """Nobody is given a keyworker without having been asked."""
    manager = telling.manager
    await manager.moves(amina, to="consent-pending")
    assert (await telling.amina.to_do(amina))["obtain-consent"] == "2026-03-09"
    with refused(422, "No consent to keyworking is in force"):
        await manager.moves(amina, to="awaiting-allocation")
    await telling.it_is("2026-03-04 10:00")
    await telling.amina.consents(amina, to="keyworking")
    assert await telling.amina.done(amina, "obtain-consent") == {"obtain-consent": "completed"}
    await manager.moves(amina, to="awaiting-allocation")


async def _is_matched(telling: Telling, amina: Child) -> None:
    """She is matched with a keyworker, whose caseload is told. Then she is the keyworker's."""
    manager, keyworker = telling.manager, telling.keyworker
    assert await keyworker.knows(amina) == set()
    assert await manager.allocates(amina, keyworker) == 1
    assert await manager.knows(amina) == set()
    assert await keyworker.state_of(amina) == "information-gathering"
    caseload = f"{keyworker.reference}/$caseload"
    assert papers.value(await keyworker.gets(caseload), "load") == "green"
    named = {one["name"]: one for one in (await manager.gets(caseload))["parameter"]}
    assert "load" not in named, "what is hidden from the manager is not counted"
    assert "may not see" in named["not-seen"]["valueString"]


async def _is_rung(telling: Telling, amina: Child) -> None:
    """The family is rung first, then the professionals, then there is a visit."""
    keyworker = telling.keyworker
    with refused(422, "contact-family"):
        await keyworker.completes(amina, "contact-mdt")
    await keyworker.completes(amina, "contact-family")
    await keyworker.completes(amina, "contact-mdt")
    await keyworker.gathers(amina, social_worker=telling.social_worker, camhs=telling.nurse)
    with refused(422, "first visit has not taken place"):
        await keyworker.moves(amina, to="planning")


async def _is_visited(telling: Telling, amina: Child) -> None:
    """The first visit: a chat where she feels at ease. A draft of the plan is opened."""
    keyworker = telling.keyworker
    await telling.it_is("2026-03-10 16:00")
    await keyworker.visits(amina, where="FLD")
    await keyworker.moves(amina, to="planning")
    assert await keyworker.plans_of(amina) == {"keyworking-plan": "draft"}


async def _says_what_she_wants(telling: Telling, amina: Child) -> None:
    """The second visit: what she wants, in her words, and by when."""
    keyworker = telling.keyworker
    await telling.it_is("2026-03-17 16:00")
    await keyworker.visits(amina)
    with refused(422, "The plan has no goal", "does not say what the young person says"):
        await keyworker.moves(amina, to="plan-active")
    wish = ("I go to college by bus on my own", "Trips a week", "Three", "2026-06-30")
    bus = await keyworker.writes(papers.goal(amina, telling.clock.now.date(), *wish))
    plan = await keyworker.plan_of(amina, "keyworking-plan")
    plan = papers.with_voice(plan, "I like it quiet, and I like to know what comes next")
    await keyworker.writes({**plan, "goal": [{"reference": f"Goal/{bus['id']}"}]})
    await keyworker.moves(amina, to="plan-active")


async def _has_one_plan_with_all(telling: Telling, amina: Child) -> None:
    """She, and those around her, have one plan before them. Nobody else has."""
    keyworker, manager = telling.keyworker, telling.manager
    for person in (telling.amina, keyworker, telling.social_worker, telling.nurse):
        assert await person.plans_of(amina) == {"keyworking-plan": "active"}
        assert [one["lifecycleStatus"] for one in await person.sees("Goal", amina)] == ["active"]
    for other in (manager, telling.hospital, telling.commissioner, telling.stranger):
        assert await other.knows(amina) == set()
    due = await keyworker.to_do(amina)
    assert due["T-REVIEW-AMBER"] == "2026-03-30"
    assert due["T-CONSENT-RECHECK"] == "2027-03-04", "a year after she said yes"
    assert not due.keys() & {"T-CONTACT", "contact-family", "first-visit", "planning-visit"}
