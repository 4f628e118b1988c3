"""$process-message: the same end state in whichever order the words of some stays arrive.

The oracle is the order in which things happened. What was taken back may have left a trace where
it had been seen, and none where it had not: what is revoked or was added in error is not compared.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.app import create_app
from fhir_server.fhir import canonicals
from fhir_server.settings import Settings
from tests.operations.chart import Chart, code_of
from tests.operations.courses import ADMITTED, V2_LEGAL_STATUS, Manner, as_v2, course, courses, told
from tests.operations.drawn_stays import NUMBER, ODD, PLAIN, SHAPES, Drawn, Word, orders_of_stays
from tests.operations.messages import JSON, Spell
from tests.operations.test_adt import accept
from tests.stores import NIGHTLY, fewer, store_at

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BY_TIME: Final = (
    *("meta", "authoredOn", "lastModified", "created", "id", "statusReason"),
    "statusHistory",
)
"""Of writing rather than of what happened."""


ADMISSION: Final = 1
EVENTS: Final = len(course(Spell("9990000158", ADMITTED)))
AGAIN: Final = EVENTS
AT_LAST: Final = AGAIN + 7
ALL: Final = len(courses("9990000158"))
DIED_AT_LAST: Final = ALL - 1
DEAD: Final = ALL
"""Not in a message."""

Order = tuple[dict[int, Manner], list[int]]


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Some of the courses with the admissions, and the same in any order with duplicates."""
    chosen = draw(st.sets(st.integers(0, EVENTS - 2), max_size=9)) | {ADMISSION}
    if draw(st.integers(0, 5)) == 0:
        chosen.add(EVENTS - 1)
    if draw(st.booleans()):
        chosen.add(AGAIN)
        chosen |= draw(st.sets(st.integers(AGAIN + 1, AT_LAST - 1), max_size=4))
        if draw(st.booleans()):
            chosen.add(AT_LAST + 1)
            chosen |= draw(st.sets(st.integers(AT_LAST, DIED_AT_LAST), max_size=3))
    if draw(st.integers(0, 3)) == 0:
        chosen.add(DEAD)
    told = {
        one: Manner(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(ODD)))
        for one in sorted(chosen)
    }
    again = draw(st.lists(st.sampled_from(sorted(chosen)), max_size=3))
    return told, draw(st.permutations([*sorted(chosen), *again]))


@settings(
    max_examples=fewer(500 if NIGHTLY else 12, 3),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not NIGHTLY,
)
@given(orders())
def test_ends_alike_in_any_order(order: Order) -> None:
    told, shuffled = order
    first, second = asyncio.run(both([*told], shuffled, told))
    assert second == first


@settings(
    max_examples=fewer(400 if NIGHTLY else 5, 3),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not NIGHTLY,
)
@given(orders_of_stays())
def test_stays_that_overlap_and_deaths_end_alike_in_any_order(drawn: Drawn) -> None:
    first, second = drawn
    assert asyncio.run(state_after_words(second)) == asyncio.run(state_after_words(first))


@pytest.mark.parametrize(
    "order",
    [
        [12, 1, 10, 9, 2, 0, 15],
        [13, 9, 1],
        [14, 3, 1, 10],
        [12, 10, 9, 1],
        [11, 12, 9, 10, 1],
        [15, 14, 1, 2],
        # Of two stays.
        [1, 9, 16, 12],
        [1, 16, 20, 19, 18, 12],
        [16, 20, 1, 8, 13, 12],
        [12, 22, 17, 16, 13, 1],
        [9, 20, 22, 19, 12, 1, 16],
        # Of three.
        [16, 20, 25, 1, 17, 24, 12],
        [1, 24, 20, 16, 18, 12],
        [8, 26, 1, 15, 23, 17, 24, 22, 20, 16],
        [15, 12, 16, 25, 1, 20, 27, 24],
        # Of a stay that would have begun after a death, which is told in error or is not.
        [12, 14, 9, 20, 16, 17, 1],
        [16, 20, 24, 1, 14, 12],
        [1, 16, 17, 14, 8, 12, 15],
        [14, 15, 1, 16, 20, 12, 22],
        [17, 24, 29, 16, 20, 12, 14, 1, 15],
        [18, 30, 12, 16, 24, 13, 22, 1, 20],
        # Of a third stay that ends with a death, told again before and after the second's end.
        [25, 29, 1, 24, 26, 12, 20, 16, 17, 15, 19, 24, 14],
        # Of stays that overlap.
        [26, 10, 3, 1, 24, 21, 16, 18, 20],
        [24, 16, 25, 1, 18, 22, 17, 23, 9],
        [26, 24, 16],
        [16, 26, 24, 21],
        # The word that came last says nothing of the legal status.
        [8, 1],
    ],
)
async def test_ends_alike_where_discharges_are_corrected_and_taken_back(order: list[int]) -> None:
    first, second = await both(sorted(order), order)
    assert second == first


@pytest.mark.parametrize("last", ["A11", "A13", "A03"])
async def test_a_visit_that_ended_as_a_stay_does_is_one_whichever_word_came_first(
    last: str,
) -> None:
    """A04 and A03 of a class that is no inpatient one, and what takes the end back."""
    visit = Spell(NUMBER, ADMITTED + timedelta(days=9), "visit")
    ambulatory: JSON = {"class": {"system": canonicals.ACT_CODE, "code": "AMB"}}
    home = ADMITTED + timedelta(days=12)
    sent = [
        visit.event("A04", "in-progress", **ambulatory),
        visit.discharge(home, **ambulatory),
        visit.event("A13", "in-progress", **ambulatory),
        visit.discharge(home + timedelta(days=1), **ambulatory),
    ]
    ending = {"A11": [*sent[:2], visit.event("A11", "cancelled", **ambulatory)], "A13": sent[:3]}
    words = [Word(at, "", told(one, at)) for at, one in enumerate(ending.get(last, sent), start=13)]
    assert await state_after_words(words[::-1]) == await state_after_words(words)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_stay_of_another_class_after_a_death_is_one_where_the_death_was_told_in_error(
    *, ends: bool
) -> None:
    stay = Spell(NUMBER, ADMITTED + timedelta(days=9), "odd")
    ambulatory: JSON = {"class": {"system": canonicals.ACT_CODE, "code": "AMB"}}
    home = stay.discharge(ADMITTED + timedelta(days=12), **ambulatory)
    died = (ADMITTED + timedelta(days=5)).isoformat()
    words = [Word(9.1, "", told(stay.event("A01", "in-progress", **ambulatory), 9.1))]
    words += [Word(12.1, "", told(home, 12.1))] * ends
    deaths = [Word(5.1, "", death=died), Word(13, "")]
    states = [await state_after_words(one) for one in (words, [*deaths, *words], [*words, *deaths])]
    late = [deaths[0], *words, deaths[1]]
    assert await state_after_words(late) == states[0]
    assert states[1] == states[2] == states[0]


async def test_stays_of_which_only_the_ends_are_told_have_no_blue_around_a_death() -> None:
    died = ADMITTED + timedelta(days=5)
    first = Spell(NUMBER, died - timedelta(days=3), "first")
    second = Spell(NUMBER, died - timedelta(days=2), "second")
    home = second.discharge(died + timedelta(days=1))
    words = [
        Word(5.1, "", told(first.discharge(died, to="79", method="4"), 5.1)),
        Word(6.1, "", told(home, 6.1)),
    ]
    states = [await state_after_words(order) for order in (words, words[::-1])]
    assert states[0] == states[1]
    assert {code_of(one["code"]) for one in states[0]["Flag"]} == {"amber"}


@pytest.mark.parametrize("order", [[16, 24, 26], [26, 24, 16]])
async def test_the_blue_is_that_of_the_stay_that_goes_on(order: list[int]) -> None:
    state = await state_after(order, {})
    (active,) = [flag for flag in state["Flag"] if flag["status"] == "active"]
    assert active["period"]["start"] == (ADMITTED + timedelta(days=17.6)).isoformat()


async def both(
    first: Sequence[int], second: Sequence[int], told: Mapping[int, Manner] | None = None
) -> list[JSON]:
    return [await state_after(order, told or {}) for order in (first, second)]


async def state_after(order: Sequence[int], told: Mapping[int, Manner]) -> JSON:
    """What the record says once these were told, on a server of its own."""

    async def tell_all(chart: Chart) -> None:
        sent = courses(chart.nhs_number)
        for index in order:
            if index == DEAD:
                await write_death(chart, (ADMITTED + timedelta(days=18.9)).isoformat())
            else:
                await tell(chart, sent[index], told.get(index, PLAIN))

    return await state_once(tell_all)


async def state_after_words(words: Sequence[Word]) -> JSON:
    """As `state_after`, of what was drawn."""

    async def tell_all(chart: Chart) -> None:
        for word in words:
            if word.message is None:
                await write_death(chart, word.death)
            else:
                await tell(chart, word.message, word.manner)

    return await state_once(tell_all)


async def state_once(tell_all: Callable[[Chart], Awaitable[None]]) -> JSON:
    with TemporaryDirectory() as folder:
        own = Settings(
            store=store_at(Path(folder) / "own.db"),
            auth="none",
            scheduler=False,
            v2_legal_status=V2_LEGAL_STATUS,
        )
        app = create_app(own)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=own.base + "/") as client:
                chart = Chart(client, app.state.store)
                await chart.open()
                await tell_all(chart)
                return await state_of(chart)


async def tell(chart: Chart, sent: JSON, manner: Manner) -> None:
    dressed = manner.dress(sent)
    if manner.shape == "v2":
        await accept(chart, as_v2(dressed))
    else:
        await chart.tell(dressed)


async def write_death(chart: Chart, died: str | None) -> None:
    """Somebody notes in the Patient when it was, or that it was told in error."""
    known = (await chart.client.get(chart.patient)).json()
    kept = {name: value for name, value in known.items() if name != "deceasedDateTime"}
    await chart.write({**kept, **({"deceasedDateTime": died} if died else {})})


async def state_of(chart: Chart) -> JSON:
    (episode,) = await chart.all("EpisodeOfCare")
    tasks = [task for task in await chart.all("Task") if task["status"] != "cancelled"]
    deaths = [task for task in tasks if code_of(task["code"]) == "bereavement"]
    return {
        "Encounter": by_text(await chart.all("Encounter")),
        "EpisodeOfCare": plain(episode),
        "Flag": by_text(flag for flag in await chart.all("Flag") if not in_error(flag)),
        "CarePlan": by_text(
            plan for plan in await chart.all("CarePlan") if plan["status"] != "revoked"
        ),
        "Task": by_text(task for task in tasks if task not in deaths),
        "bereavement": bool(deaths),  # asked for by whoever told of it first
    }


def in_order(told: JSON) -> str:
    """To sort by, whatever the order of its members."""
    return json.dumps(told, sort_keys=True)


def by_text(found: Any) -> list[JSON]:
    return sorted((plain(one) for one in found), key=in_order)


def plain(resource: JSON) -> JSON:
    """Without what is of writing, and with one name for whatever is named by chance."""
    kept = {name: value for name, value in resource.items() if name not in BY_TIME}
    if resource["resourceType"] == "Task":
        kept.pop("owner", None)  # a Task that is opened after a death has nobody to own it
    extensions = sorted(kept.pop("extension", []), key=in_order)
    named: JSON = json.loads(_UUID.sub("named", json.dumps({**kept, "extension": extensions})))
    return named


def in_error(flag: JSON) -> bool:
    reasons = [
        code_of(one["valueCodeableConcept"])
        for one in flag.get("extension", ())
        if one["url"] == canonicals.RATING_END_REASON_EXTENSION
    ]
    return reasons == ["added-in-error"]
