"""A rating that is held is not ended by a plain write, and blue is one rating for a whole stay."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import (
    CONSENT_ENDED,
    KEYWORKER,
    Chart,
    code_of,
    concept,
    ended,
    extension_of,
)
from tests.operations.messages import JSON, SPELL, Spell
from tests.operations.test_set_rating import WHY, flag_of, rate
from tests.support import assert_outcome, body, write_over

NOW = datetime.now(LOCAL).replace(microsecond=0)
HOME = NOW - timedelta(days=3)


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    stay = Spell(chart.nhs_number, NOW - timedelta(days=30))
    await chart.tell(stay.admit())
    return stay


@pytest.fixture
async def home(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(HOME))


def _over(flag: JSON) -> JSON:
    """As somebody ends it who thinks that it is time."""
    told = ended(flag["period"]["start"])
    extensions = [*flag.get("extension", []), *told["extension"]]
    return {**flag, **told, "status": "inactive", "extension": extensions}


async def _by_put(chart: Chart, flag: JSON) -> httpx.Response:
    return await write_over(chart.client, _over(flag))


async def _as_another_flag(chart: Chart, flag: JSON) -> httpx.Response:
    other = concept("urn:other", "x")
    return await write_over(chart.client, {**flag, "category": [other], "code": {"text": "Loud"}})


async def _by_patch(chart: Chart, flag: JSON) -> httpx.Response:
    patch = [
        {"op": "add", "path": f"/{name}", "value": value}
        for name, value in _over(flag).items()
        if name in ("status", "period", "extension")
    ]
    kind = "application/json-patch+json"
    headers = {"content-type": kind, "if-match": f'W/"{flag["meta"]["versionId"]}"'}
    return await chart.client.patch(f"Flag/{flag['id']}", json=patch, headers=headers)


async def _by_delete(chart: Chart, flag: JSON) -> httpx.Response:
    headers = {"if-match": f'W/"{flag["meta"]["versionId"]}"'}
    return await chart.client.delete(f"Flag/{flag['id']}", headers=headers)


async def _by_transaction(chart: Chart, flag: JSON, *others: JSON) -> httpx.Response:
    entries = [_put(one) for one in (_over(flag), *others)]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return await chart.client.post("", **body(bundle))


def _put(resource: JSON) -> JSON:
    request = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    if "meta" in resource:
        request["ifMatch"] = f'W/"{resource["meta"]["versionId"]}"'
    return {"request": request, "resource": resource}


WAYS = [_by_put, _as_another_flag, _by_patch, _by_delete, _by_transaction]


@pytest.mark.parametrize("way", WAYS)
async def test_a_plain_write_does_not_end_it(chart: Chart, stay: Spell, way: Any) -> None:
    """Neither blue in hospital nor red after it; what is not held ends as ever."""
    blue = await chart.rating()
    assert blue is not None
    refused = await way(chart, blue)
    assert_outcome(refused, 422, "business-rule", "blue until the discharge. $remove-rating ends")
    await chart.tell(stay.discharge(HOME))
    red = await chart.rating()
    assert red is not None
    refused = await way(chart, red)
    assert_outcome(refused, 422, "business-rule", "red at least until")
    assert await chart.rating() == red


@pytest.mark.parametrize("way", [_by_put, _by_patch, _by_delete, _by_transaction])
async def test_what_nothing_holds_is_ended_by_a_plain_write(chart: Chart, way: Any) -> None:
    amber = await chart.rating()
    assert amber is not None
    assert (await way(chart, amber)).is_success
    assert await chart.rating() is None


@pytest.mark.usefixtures("home")
async def test_red_gives_way_to_red_and_ends_with_the_consent(chart: Chart) -> None:
    """In one transaction each: what counts is what there is in the end."""
    red = await chart.rating()
    assert red is not None
    told = {name: value for name, value in red.items() if name != "meta"}
    other = {**told, "id": "other", "period": {"start": NOW.isoformat()}}
    assert (await _by_transaction(chart, red, other)).is_success
    found = await chart.rating()
    assert found is not None
    assert found["id"] == "other"
    consent = (await chart.client.get("Consent/consent-register")).json()
    withdrawn = {**consent, "status": "inactive", "extension": [CONSENT_ENDED]}
    assert (await _by_transaction(chart, found, withdrawn)).is_success
    assert await chart.rating() is None


def _blue(chart: Chart, encounter: JSON) -> JSON:
    return {
        "resourceType": "Flag",
        "id": "by-hand",
        "status": "active",
        "category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")],
        "code": concept(canonicals.DSR_RATING, "blue"),
        "subject": {"reference": chart.patient},
        "period": {"start": NOW.isoformat()},
        "author": KEYWORKER,
        "encounter": encounter,
    }


async def _blues(chart: Chart) -> list[JSON]:
    return [flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue"]


@pytest.mark.usefixtures("stay")
async def test_blue_that_is_said_again_is_one_rating(chart: Chart) -> None:
    before = await chart.rating()
    assert before is not None
    flag = flag_of(await rate(chart, "blue", role="camhs"))
    assert (flag["id"], flag["period"]) == (before["id"], before["period"])
    note = extension_of(flag, canonicals.FLAG_NOTES_EXTENSION)["valueAnnotation"]
    assert (note["text"], note["authorString"]) == (WHY, "camhs")
    assert await _blues(chart) == [flag]


@pytest.mark.usefixtures("stay")
async def test_another_blue_beside_that_of_the_stay_is_refused(chart: Chart) -> None:
    known = await chart.rating()
    assert known is not None
    answer = await chart.client.put("Flag/by-hand", **body(_blue(chart, known["encounter"])))
    assert_outcome(answer, 422, "business-rule", f"write to Flag/{known['id']}", "Flag.code")


async def test_blue_that_is_given_before_the_stay_is_told_is_that_of_the_stay(
    chart: Chart,
) -> None:
    stay = Spell(chart.nhs_number, NOW - timedelta(days=30))
    await chart.write(_blue(chart, {"identifier": {"system": SPELL, "value": stay.value}}))
    await chart.tell(stay.admit())
    (blue,) = await _blues(chart)
    assert blue["period"]["start"] == stay.start.isoformat()
    assert blue["encounter"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}
    amber = await chart.client.get("Flag/amber-2026-01-05")
    assert amber.json()["period"]["end"] == stay.start.isoformat()
    await chart.tell(stay.discharge(HOME))
    await chart.tell(stay.event("A13", "in-progress"))
    assert (await chart.rating() or {})["id"] == "by-hand"
    await chart.tell(stay.event("A11", "cancelled"))
    assert await chart.colour() == "amber"
