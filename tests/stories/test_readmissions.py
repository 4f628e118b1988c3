"""Two who were in hospital in March and might have been again in May: Gil and Hana, both 16."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operations.messages import JSON, Spell
from tests.stories import papers
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.telling import Telling, told


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Telling]:
    """A server whose report keeps no small numbers back: the story has small ones alone."""
    async with told(tmp_path, small_number=0) as found:
        yield found


async def test_the_story_of_two_readmissions_that_did_not_come(counting: Telling) -> None:
    telling = counting
    gil, hana = Child("Gil", "2009-09-14", 701), Child("Hana", "2009-11-02", 702)
    for child in (gil, hana):
        await has_a_plan(telling, child)
    stays = [Spell(one.nhs_number, telling.clock.now, birth_date=one.born) for one in (gil, hana)]
    for stay in stays:
        await telling.hospital.tells(stay.admit())
    await telling.it_is("2026-03-30 11:00")
    for stay in stays:
        await telling.hospital.tells(stay.discharge(telling.clock.now))
    await telling.it_is("2026-04-13 11:00")
    for child in (gil, hana):
        await telling.nurse.rates(child, "amber", "A fortnight at home")
    await _is_in_crisis(telling, gil)
    await _is_reviewed(telling, gil, hana)
    await _moves_house(telling, hana)
    await _stayed_at_home(telling, (gil, hana))
    await _is_read_in_numbers(telling)


async def _is_in_crisis(telling: Telling, gil: Child) -> None:
    """Friday, 1 May: Gil is in crisis.

    What the keyworker answers makes it red, and what has to be done before anybody thinks of a
    bed is asked for. Monday is a bank holiday.
    """
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-05-01 15:00")
    await keyworker.writes(papers.answers(gil, telling.clock.now, "admission-48h"))
    risk = await nurse.gets(f"{gil.reference}/$admission-risk")
    assert papers.value(risk, "rating") == "red"
    because = {"apply": True, "reason": "He has not slept for three nights"}
    await nurse.operates(f"{gil.reference}/$admission-risk", **because)
    assert await telling.social_worker.rating_of(gil) == "red"
    due = await keyworker.to_do(gil)
    assert due["T-LAEP"] == "2026-05-05", "the next working day: everybody at one table"
    assert due["T-CETR-COMMUNITY"] == "2026-05-15", "a fortnight, for the review itself"
    assert due["T-REVIEW-RED"] == "2026-05-15"


async def _is_reviewed(telling: Telling, gil: Child, hana: Child) -> None:
    """They meet on Tuesday; that is no review.

    The review is on the 12th, by a panel that Gil has agreed to: its papers are with it a day
    before, and it sees him from his yes on.
    """
    keyworker, nurse = telling.keyworker, telling.nurse
    await telling.it_is("2026-05-05 11:00")
    await keyworker.completes(gil, "T-LAEP")
    assert (await keyworker.to_do(gil))["T-CETR-COMMUNITY"] == "2026-05-15"
    await keyworker.dates(gil, "T-CETR-COMMUNITY", "2026-05-12T14:00:00+01:00")
    assert (await keyworker.to_do(gil))["T-CETR-PAPERS"] == "2026-05-11 14:00"
    panel = await telling.joins("panel", papers.BOARD, roles=("cetr-panel",))
    assert await panel.knows(gil) == set()
    to_them = papers.named(panel.reference, telling.clock.now.date(), "2026-05-31")
    await telling.gil.consents(gil, to="cetr", provision=to_them)
    assert {"CarePlan", "Flag", "QuestionnaireResponse"} <= await panel.knows(gil)
    assert await panel.knows(hana) == set()
    await telling.it_is("2026-05-12 14:00")
    await keyworker.completes(gil, "T-CETR-COMMUNITY")
    await nurse.rates(gil, "amber", "Somebody is there at night, and he sleeps", avoided=True)


async def _moves_house(telling: Telling, hana: Child) -> None:
    """Hana's placement gives notice in the same week: red, a review, another placement, amber."""
    keyworker, nurse = telling.keyworker, telling.nurse
    await nurse.rates(hana, "red", "The placement has given notice")
    due = await keyworker.to_do(hana)
    assert due["T-CETR-COMMUNITY"] == "2026-05-26"
    assert "T-LAEP" not in due, "nobody speaks of a bed within two days"
    await telling.it_is("2026-05-26 10:00")
    await keyworker.completes(hana, "T-CETR-COMMUNITY")
    await nurse.rates(hana, "amber", "She moves on Saturday", avoided=True)


async def _stayed_at_home(telling: Telling, children: tuple[Child, ...]) -> None:
    """Nobody was admitted: both are on amber at home, and keyworking was never interrupted."""
    keyworker = telling.keyworker
    await telling.it_is("2026-07-01 10:00")
    for child in children:
        (past,) = await keyworker.sees("Encounter", child, "&class=IMP")
        assert past["status"] == "finished"
        assert await keyworker.state_of(child) == "plan-active"
        assert await telling.social_worker.rating_of(child) == "amber"


async def _is_read_in_numbers(telling: Telling) -> None:
    """The steering group reads it, in numbers."""
    report = await telling.commissioner.gets("$oversight-report?start=2026-03-01&end=2026-06-30")
    measures = {one["code"]["text"]: one for one in report["group"]}
    assert _count(measures["admissions"]) == 2, "those of March"
    assert _count(measures["admissions-avoided"]) == 2, "as the nurse declares"
    for measure in ("readmissions-30", "readmissions-90"):
        assert measures[measure]["measureScore"]["value"] == 0
    assert measures["length-of-stay"]["measureScore"]["value"] == 28
    for step in ("consent", "allocation", "first-visit", "plan"):
        assert measures[f"referral-to-{step}"]["measureScore"]["value"] == 0, "all on one day"


def _count(measure: JSON) -> int:
    return int(measure["population"][0]["count"])
