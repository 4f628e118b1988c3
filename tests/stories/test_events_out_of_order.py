"""A ward whose system was down: what it tells late, twice and out of order comes to the same.

Lena and Mo are admitted on the same night, are on leave, come home on the same day, and a second
admission of each was a mistake. Of Lena all is told when it happens; of Mo a day after the end.
"""

from datetime import datetime
from typing import Any

from fhir_server.fhir.dates import LOCAL
from tests.operations.messages import JSON, Spell
from tests.stories.beginnings import has_a_plan
from tests.stories.papers import Child
from tests.stories.people import code_of
from tests.stories.telling import Telling


def _events(child: Child) -> list[tuple[str, JSON]]:
    """When each happened, and the message about it."""
    stay = Spell(child.nhs_number, _moment("2026-03-10 23:30"), birth_date=child.born)
    mistaken = Spell(child.nhs_number, _moment("2026-03-22 08:00"), birth_date=child.born)
    return [
        ("2026-03-10 23:30", stay.admit()),
        ("2026-03-13 14:00", stay.event("A21", "onleave")),
        ("2026-03-15 18:00", stay.event("A22", "in-progress")),
        ("2026-03-20 11:00", stay.discharge(_moment("2026-03-20 11:00"))),
        ("2026-03-22 08:00", mistaken.admit()),
        ("2026-03-22 09:00", mistaken.event("A11", "cancelled")),
    ]


async def test_the_story_of_a_ward_that_tells_late(telling: Telling) -> None:
    lena, mo = Child("Lena", "2009-09-14", 701), Child("Mo", "2009-09-14", 702)
    hospital = telling.hospital
    for child in (lena, mo):
        await has_a_plan(telling, child)
    for moment, event in _events(lena):
        await telling.it_is(moment)
        await hospital.tells(event)

    # Monday morning: of Mo nothing was heard. Then everything comes at once.
    await telling.it_is("2026-03-23 09:00")
    assert await telling.keyworker.rating_of(mo) == "amber"
    admitted, leaves, returns, goes_home, again, mistaken = _events(mo)
    for late in (goes_home, mistaken, returns, admitted, goes_home, again, leaves, admitted):
        moment, event = late
        await hospital.tells(event, _moment(moment))
        assert await telling.keyworker.rating_of(mo) == "red", "home, whatever is told after it"

    # Nobody can tell from the end in which order it was told, or how often.
    stands = await _as_it_stands(telling, lena)
    assert await _as_it_stands(telling, mo) == stands
    assert stands["state"] == "plan-active"
    assert stands["ratings"] == [
        ("2026-03-02T09:00", "2026-03-10T23:30", "amber"),
        ("2026-03-10T23:30", "2026-03-20T11:00", "blue"),
        ("2026-03-20T11:00", "", "red"),
    ]
    assert stands["due"]["T-RED-HOLD"] == "2026-04-03"
    assert stands["due"]["T-FU-7D"] == "2026-03-27 11:00"


async def _as_it_stands(telling: Telling, child: Child) -> dict[str, Any]:
    """What counts in the end; what was believed for a time, and taken back, is left out."""
    keyworker = telling.keyworker
    plans = await keyworker.sees("CarePlan", child)
    due = await keyworker.to_do(child)
    due.pop("escalation", None)  # it was late on the way, or was not
    return {
        "state": await keyworker.state_of(child),
        "rating": await keyworker.rating_of(child),
        "ratings": sorted(map(_span, filter(_was, await keyworker.sees("Flag", child)))),
        "plans": sorted(
            (code_of(one["category"][0]), one["status"], *one["period"].values())
            for one in plans
            if one["status"] != "revoked"
        ),
        "due": due,
        "stays": sorted(
            (one["status"], *one["period"].values())
            for one in await keyworker.sees("Encounter", child, "&class=IMP")
        ),
    }


def _was(flag: JSON) -> bool:
    return "added-in-error" not in str(flag.get("extension"))


def _span(flag: JSON) -> tuple[str, str, str]:
    start, end = (flag["period"].get(name, "")[:16] for name in ("start", "end"))
    return start, end, code_of(flag["code"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LOCAL)
