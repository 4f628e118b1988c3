"""When things are steadier: Cara is 16, and has been at home all the time."""

from typing import Final

from tests.access.people import ods
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.people import refused
from tests.stories.telling import Telling

_PLANS: Final = ("keyworking-plan", "step-down-plan")


async def test_the_story_of_stepping_down(telling: Telling) -> None:
    cara = Child("Cara", born="2009-09-14")
    await has_a_plan(telling, cara)
    await _has_a_bad_week(telling, cara)
    await _steps_down(telling, cara)
    await _comes_back(telling, cara)
    await _is_closed(telling, cara)
    await _keeps_what_was(telling, cara)


async def _has_a_bad_week(telling: Telling, cara: Child) -> None:
    """A bad week: red. Nobody steps down from there."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-05-05 10:00")
    await nurse.rates(cara, "red", "The school has excluded her")
    with refused(422, "red"):
        await keyworker.operates(f"{cara.episode}/$step-down", reason="She asks for it")


async def _steps_down(telling: Telling, cara: Child) -> None:
    """By July there is another school, and she is on green."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-07-06 10:00")
    await nurse.rates(cara, "green", "Two months at the new school")
    await keyworker.operates(f"{cara.episode}/$step-down", reason="Steady since May")
    assert await keyworker.state_of(cara) == "step-down"
    for person in (telling.cara, keyworker, nurse, telling.social_worker):
        assert await person.plans_of(cara) == dict.fromkeys(_PLANS, "active")
    await _is_read(telling, cara)


async def _is_read(telling: Telling, cara: Child) -> None:
    """By herself, in plain words; whoever is no part of it finds nothing there."""
    told = [
        papers.value({"parameter": one["part"]}, "text")
        for one in (await telling.cara.gets(f"{cara.reference}/$timeline"))["parameter"]
        if one["name"] == "event"
    ]
    assert {"Rated: green", "Plan began: Step-down plan"} <= {*told}
    (plan,) = await telling.cara.sees("CarePlan", cara, "&category=step-down-plan")
    read = await telling.cara.gets(f"CarePlan/{plan['id']}/$easy-read")
    assert "Hello Cara." in str(read)
    for address in (f"{cara.reference}/$timeline", f"CarePlan/{plan['id']}/$easy-read"):
        with refused(404, "is not known"):
            await telling.manager.gets(address)


async def _comes_back(telling: Telling, cara: Child) -> None:
    """It was too early: she goes back to the plan that she had, and steps down in October."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-08-03 10:00")
    await nurse.rates(cara, "amber", "The holidays are hard")
    await keyworker.moves(cara, to="plan-active", reason="The holidays are hard")
    assert (await keyworker.plans_of(cara))["keyworking-plan"] == "active"
    await telling.it_is("2026-10-05 10:00")
    await nurse.rates(cara, "green", "School again, and well")
    await keyworker.operates(f"{cara.episode}/$step-down", reason="Well since the holidays")


async def _is_closed(telling: Telling, cara: Child) -> None:
    """The end: not while anything of keyworking is open. What is the register's may be."""
    keyworker = telling.keyworker
    await telling.it_is("2026-11-02 10:00")
    ending = f"{cara.episode}/$close"
    with refused(422, "Goal/"):
        await keyworker.operates(ending, reason=papers.code("stepped-down"))
    (goal,) = await keyworker.sees("Goal", cara)
    await keyworker.writes({**goal, "lifecycleStatus": "completed"})
    due = await keyworker.to_do(cara)
    assert due["T-REVIEW-GREEN"] == "2027-01-03"
    assert "T-TRANSITION" in due, "overdue, and the strategic keyworker was asked about it"
    assert await telling.strategic_keyworker.has_to_ask_about(cara, "T-TRANSITION")
    await keyworker.operates(ending, reason=papers.code("stepped-down"))


async def _keeps_what_was(telling: Telling, cara: Child) -> None:
    """From now on only she herself sees what was. On the register she stays."""
    keyworker, nurse = telling.keyworker, telling.nurse
    for person in (keyworker, telling.manager, telling.strategic_keyworker):
        assert await person.knows(cara) == set()
    for person in (nurse, telling.social_worker):
        assert await person.knows(cara) == {"Patient", "Flag"}
        assert await person.rating_of(cara) == "green"
    assert await telling.cara.plans_of(cara) == dict.fromkeys(_PLANS, "completed")
    assert await telling.cara.state_of(cara) == "closed"
    (involvement,) = await telling.cara.sees("EpisodeOfCare", cara)
    history = [one["status"] for one in involvement["statusHistory"]]
    assert history == ["planned", "waitlist", "active", "finished"]
    (referral,) = await telling.cara.sees("ServiceRequest", cara)
    assert referral["status"] == "completed"
    (asked,) = await telling.cara.consents_of(cara, "keyworking")
    assert asked["status"] == "inactive", "it ends with what it was for"
    due = await telling.cara.to_do(cara)
    assert due["T-REVIEW-GREEN"] == "2027-01-03"
    assert due["T-TRANSITION"] == "2026-03-30", "as long overdue as before"
    owners = [task["owner"] for task in await telling.cara.tasks_of(cara, "T-REVIEW-GREEN")]
    assert owners[-1] == ods(papers.SERVICE), "who keeps the register, as the keyworker sees it not"
