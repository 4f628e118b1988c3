"""$process-message: the same end state in whichever order the words of a stay arrive.

The oracle is the order in which things happened. What was taken back may have left a trace where
it had been seen, and none where it had not: what is revoked or was added in error is not compared.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.app import create_app
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.settings import Settings
from tests.operations.chart import Chart, code_of
from tests.operations.messages import JSON, Spell, detained
from tests.stores import NIGHTLY, fewer, store_at

NOW: Final = datetime.now(LOCAL).replace(microsecond=0)
ADMITTED: Final = NOW - timedelta(days=20)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BY_TIME: Final = (
    *("meta", "authoredOn", "lastModified", "created", "id", "statusReason"),
    "statusHistory",
)
"""Of writing rather than of what happened."""


def told(sent: JSON, days: float) -> JSON:
    """The message as it was sent so long after the admission."""
    return {**sent, "timestamp": (ADMITTED + timedelta(days=days)).isoformat()}


def ward(name: str) -> list[JSON]:
    return [{"location": {"display": name}}]


def course(stay: Spell) -> list[JSON]:
    """What may happen in a stay, in its order; all of it may be left out but the admission."""
    home = ADMITTED + timedelta(days=17)
    return [
        told(stay.preadmit(), -1),
        told(stay.admit(), 0),
        told(stay.update(extension=[detained("03")]), 1),
        told(stay.transfer(location=ward("Swift")), 2),
        told(stay.transfer(location=ward("Swallow")), 3),
        told(stay.event("A12", "in-progress", location=ward("Swift")), 4),
        told(stay.event("A21", "onleave", location=ward("Swallow")), 5),
        told(stay.event("A22", "in-progress", location=ward("Swallow")), 6),
        told(stay.update(location=ward("Lark"), extension=None), 7),
        told(stay.discharge(ADMITTED + timedelta(days=9)), 9),
        told(stay.event("A13", "in-progress", location=ward("Lark")), 10),
        told(stay.update(location=ward("Wren")), 11),
        told(stay.discharge(home), 17),
        told(stay.discharge(home, to="84"), 17.5),
        told(stay.discharge(home, to="79", method="4"), 18),
        told(stay.event("A11", "entered-in-error"), 19),
    ]


def course_again(nhs_number: str) -> list[JSON]:
    """What may happen in another stay, which begins after the first has ended."""
    stay = Spell(nhs_number, ADMITTED + timedelta(days=17.6), "again")
    home = ADMITTED + timedelta(days=18.6)
    return [
        told(stay.admit(), 17.6),
        told(stay.transfer(location=ward("Swift")), 17.8),
        told(stay.event("A21", "onleave", location=ward("Swift")), 18),
        told(stay.event("A22", "in-progress", location=ward("Swift")), 18.2),
        told(stay.discharge(home), 18.6),
        told(stay.event("A13", "in-progress", location=ward("Swift")), 18.8),
        told(stay.event("A11", "entered-in-error"), 19.5),
    ]


def courses(nhs_number: str) -> list[JSON]:
    """Of both stays."""
    return [*course(Spell(nhs_number, ADMITTED, "spell")), *course_again(nhs_number)]


ADMISSION: Final = 1
HOME: Final = 12
DIED: Final = 14
EVENTS: Final = len(course(Spell("9990000158", ADMITTED)))
ALL: Final = len(courses("9990000158"))


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Some of the courses with the admissions, and the same in any order with duplicates."""
    chosen = draw(st.sets(st.integers(0, EVENTS - 2), max_size=9)) | {ADMISSION}
    if draw(st.integers(0, 5)) == 0:
        chosen.add(EVENTS - 1)
    if draw(st.booleans()):  # nobody is admitted after death, or twice at a time
        chosen = chosen - {DIED} | {HOME, EVENTS}
        chosen |= draw(st.sets(st.integers(EVENTS + 1, ALL - 1), max_size=4))
    again = draw(st.lists(st.sampled_from(sorted(chosen)), max_size=3))
    return sorted(chosen), draw(st.permutations([*sorted(chosen), *again]))


@settings(
    max_examples=fewer(500 if NIGHTLY else 16, 4),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not NIGHTLY,
)
@given(orders())
def test_ends_alike_in_any_order(order: tuple[list[int], list[int]]) -> None:
    expected, shuffled = order
    first, second = asyncio.run(both(expected, shuffled))
    assert second == first


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
        # The word that came last says nothing of the legal status.
        [8, 1],
    ],
)
async def test_ends_alike_where_discharges_are_corrected_and_taken_back(order: list[int]) -> None:
    first, second = await both(sorted(order), order)
    assert second == first


async def both(*orders: Sequence[int]) -> list[JSON]:
    return [await state_after(order) for order in orders]


async def state_after(order: Sequence[int]) -> JSON:
    """What the record says once these were told, on a server of its own."""
    with TemporaryDirectory() as folder:
        own = Settings(store=store_at(Path(folder) / "own.db"), auth="none", scheduler=False)
        app = create_app(own)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=own.base + "/") as client:
                chart = Chart(client, app.state.store)
                await chart.open()
                sent = courses(chart.nhs_number)
                for index in order:
                    await chart.tell(sent[index])
                return await state_of(chart)


async def state_of(chart: Chart) -> JSON:
    (episode,) = await chart.all("EpisodeOfCare")
    return {
        "Encounter": by_text(await chart.all("Encounter")),
        "EpisodeOfCare": plain(episode),
        "Flag": by_text(flag for flag in await chart.all("Flag") if not in_error(flag)),
        "CarePlan": by_text(
            plan for plan in await chart.all("CarePlan") if plan["status"] != "revoked"
        ),
        "Task": by_text(
            task for task in await chart.all("Task") if task["status"] not in ("cancelled",)
        ),
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
