"""A right to aftercare (section 117): noted by the service, decided by people. Decision 0054."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from operations._aftercare import as_written, right_to_aftercare, with_right
from tests.operations.chart import Chart
from tests.operations.messages import JSON, Spell, detained

ADMITTED = datetime.now(LOCAL).replace(microsecond=0) - timedelta(days=20)
RIGHT = canonicals.SECTION_117_EXTENSION
MARK = canonicals.SECTION_117_DERIVED_EXTENSION


def said(plan: JSON) -> tuple[bool | None, bool | None]:
    """Whether there is a right, and what of it the service says by itself."""
    told = {one["url"]: one.get("valueBoolean") for one in plan.get("extension", ())}
    return told.get(RIGHT), told.get(MARK)


async def plan_of(chart: Chart) -> JSON:
    plan = await chart.discharge_plan()
    assert plan is not None
    return plan


def deciding(plan: JSON, right: bool | None, *, mark: bool | None = None) -> JSON:
    """The plan as somebody writes it who says so, with that mark or none."""
    others = [one for one in plan.get("extension", ()) if one["url"] not in (RIGHT, MARK)]
    told = [(RIGHT, right), (MARK, mark)]
    values = [{"url": url, "valueBoolean": value} for url, value in told if value is not None]
    kept = {name: value for name, value in plan.items() if name != "extension"}
    return kept | ({"extension": [*others, *values]} if others or values else {})


def funded(plan: JSON) -> JSON:
    """With dp-funding completed."""
    activities = []
    for activity in plan["activity"]:
        code = activity["detail"]["code"]["coding"][0]["code"]
        done = {"status": "completed"} if code == "dp-funding" else {}
        activities.append({**activity, "detail": {**activity["detail"], **done}})
    return {**plan, "activity": activities}


@pytest.fixture
async def denied(chart: Chart) -> Spell:
    """A stay under section 2, so that the service says that there is no right."""
    stay = Spell(chart.nhs_number, ADMITTED, legal_status="02")
    await chart.tell(stay.admit())
    assert said(await plan_of(chart)) == (False, False)
    return stay


@pytest.mark.parametrize(
    ("statuses", "right"),
    [
        (["02", "77"], None),
        (["02", "99"], None),
        (["02", None], False),
        (["77", "03"], True),
        (["02", "20"], False),
    ],
)
async def test_is_the_same_whichever_status_is_told_first(
    chart: Chart, statuses: Sequence[str | None], right: bool | None
) -> None:
    for number, order in enumerate(permutations(statuses)):
        start = ADMITTED - timedelta(days=40 * number)
        stay = Spell(chart.nhs_number, start, legal_status=None)
        first, second = [[detained(one)] if one else None for one in order]
        await chart.tell(stay.admit(extension=first))
        await chart.tell(stay.update(extension=second))
        await chart.tell(stay.discharge(start + timedelta(days=2), extension=None))
    assert [said(plan) for plan in await chart.all("CarePlan") if "encounter" in plan] == [
        (right, right)
    ] * 2


async def test_what_the_service_said_goes_when_it_is_not_known_any_more(
    chart: Chart, denied: Spell
) -> None:
    told = await chart.tell(denied.update(extension=[detained("77")]))
    assert any("77 is not understood" in one and "left open" in one for one in told)
    assert said(await plan_of(chart)) == (None, None)


@pytest.mark.parametrize("confirmed", ["said", "funded"])
async def test_what_somebody_confirmed_stays(chart: Chart, denied: Spell, confirmed: str) -> None:
    plan = await plan_of(chart)
    await chart.write(deciding(plan, right=False) if confirmed == "said" else funded(plan))
    assert said(await plan_of(chart)) == (False, None)
    told = await chart.tell(denied.update(extension=[detained("77")]))
    assert any("77 is not understood" in one and "look at it again" in one for one in told)
    assert said(await plan_of(chart)) == (False, None)


async def test_a_patch_that_changes_it_makes_it_a_persons(chart: Chart, denied: Spell) -> None:
    plan = await plan_of(chart)
    index = [one["url"] for one in plan["extension"]].index(RIGHT)
    patch = [{"op": "replace", "path": f"/extension/{index}/valueBoolean", "value": True}]
    answer = await chart.client.patch(
        f"CarePlan/{plan['id']}",
        json=patch,
        headers={
            "Content-Type": "application/json-patch+json",
            "If-Match": f'W/"{plan["meta"]["versionId"]}"',
        },
    )
    assert answer.status_code == 200, answer.text
    assert said(await plan_of(chart)) == (True, None)
    await chart.tell(denied.update(extension=[detained("02")]))
    assert said(await plan_of(chart)) == (True, None)


@pytest.mark.usefixtures("denied")
async def test_who_changes_something_else_says_nothing_of_it(chart: Chart) -> None:
    plan = await plan_of(chart)
    await chart.write({**plan, "title": "Going home"})
    assert said(await plan_of(chart)) == (False, False)


async def test_all_that_was_told_counts_when_a_plan_is_written(chart: Chart) -> None:
    """The Encounter as it is says 02; an earlier word said 77."""
    stay = Spell(chart.nhs_number, ADMITTED, legal_status="77")
    await chart.tell(stay.admit())
    await chart.tell(stay.update(extension=[detained("02")]))
    await chart.write({**await plan_of(chart), "title": "Going home"})
    assert said(await plan_of(chart)) == (None, None)
    shown = (await chart.client.get(f"{chart.patient}/$discharge-plan")).json()["parameter"]
    (missing,) = [one for one in shown if one["name"] == "section-117-missing"]
    assert "Another word of the stay" in missing["valueString"]


async def test_a_plain_stay_takes_back_what_does_not_follow_any_more(
    chart: Chart, denied: Spell
) -> None:
    stay = await chart.stay()
    await chart.write({**stay, "extension": [detained("99")]})
    assert said(await plan_of(chart)) == (None, None)
    await chart.write({**stay, "extension": [detained("03")]})
    assert said(await plan_of(chart)) == (True, True)
    await chart.write({**stay, "extension": [detained("01")]})
    assert said(await plan_of(chart)) == (True, True)
    assert denied.legal_status == "02"


def test_a_mark_that_somebody_writes_counts_for_nothing() -> None:
    forged = deciding({}, right=False, mark=False)
    assert said(as_written(forged, None)) == (False, None)
    assert said(as_written(forged, deciding({}, right=True, mark=True))) == (False, None)
    assert as_written(forged, forged) is forged


def test_a_right_is_noted_over_what_anybody_denied() -> None:
    assert said(with_right(deciding({}, right=False), right=True)) == (True, True)


def test_no_status_at_all_denies_nothing() -> None:
    assert right_to_aftercare({}, {"extension": []}) is None
