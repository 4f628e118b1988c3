"""The service's rules: the same effects, whoever writes a stay or a rating and however."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.app import Application, create_app
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.settings import Settings
from tests.operations.chart import Chart, code_of, concept, extension_of
from tests.operations.messages import JSON, Spell
from tests.support import assert_outcome, body

NOW = datetime.now(LOCAL).replace(microsecond=0)
ADMITTED = NOW - timedelta(days=20)
HOME = NOW - timedelta(days=2)
FOLLOW_UP = {"T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D", "T-RED-HOLD"}


@pytest.fixture
def spell(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, ADMITTED)


def stay(chart: Chart, spell: Spell, **elements: Any) -> JSON:
    told = {"id": "stay", "subject": {"reference": chart.patient}, **elements}
    period = {"start": ADMITTED.isoformat()}
    return {"period": period, **spell.encounter(**{"period": period, **told})}


def over(chart: Chart, spell: Spell, at: datetime = HOME) -> JSON:
    home = concept(canonicals.DISCHARGE_DESTINATION, "19")
    told = spell.discharge(at)["entry"][1]["resource"]
    assert told["resourceType"] == "Encounter"
    subject = {"reference": chart.patient}
    hospitalization = {**told.get("hospitalization", {}), "dischargeDisposition": home}
    return {**told, "id": "stay", "subject": subject, "hospitalization": hospitalization}


# A stay, by plain writes -----------------------------------------------------------------------


async def _by_put(chart: Chart, resource: JSON) -> None:
    await chart.write(resource)


async def _by_transaction(chart: Chart, resource: JSON) -> None:
    entry = {
        "request": {"method": "PUT", "url": f"Encounter/{resource['id']}"},
        "resource": resource,
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = await chart.client.post("", **body(bundle))
    assert answer.status_code == 200, answer.text


async def _by_batch(chart: Chart, resource: JSON) -> None:
    entry = {
        "request": {"method": "PUT", "url": f"Encounter/{resource['id']}"},
        "resource": resource,
    }
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    answer = await chart.client.post("", **body(bundle))
    assert answer.json()["entry"][0]["response"]["status"][:3] in ("200", "201"), answer.text


WAYS = [_by_put, _by_transaction, _by_batch]


async def test_a_stay_of_which_nobody_says_who_serves_it_has_its_effects(
    chart: Chart, spell: Spell
) -> None:
    """As has a rating that nobody says who gives: an author is more than a name."""
    await _by_put(chart, stay(chart, spell, serviceProvider={"display": "The ward"}))
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    rating = await chart.rating()
    assert rating is not None
    assert rating["author"]["identifier"]["value"] == "not-told"


@pytest.mark.parametrize("way", WAYS)
async def test_an_open_stay_that_is_plainly_written_has_the_effects_of_an_admission(
    chart: Chart, spell: Spell, way: Any
) -> None:
    await way(chart, stay(chart, spell))
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    assert await chart.discharge_plan()
    assert "contact-hospital" in await chart.dues()


@pytest.mark.parametrize("way", WAYS)
async def test_a_stay_that_is_plainly_finished_has_the_effects_of_a_discharge(
    chart: Chart, spell: Spell, way: Any
) -> None:
    await way(chart, stay(chart, spell))
    await way(chart, over(chart, spell))
    assert (await chart.colour(), await chart.state()) == ("red", "plan-active")
    assert set(await chart.dues()) >= FOLLOW_UP


async def test_a_stay_that_is_finished_without_an_end_is_discharged_now(
    chart: Chart, spell: Spell
) -> None:
    await chart.write(stay(chart, spell))
    ended = over(chart, spell)
    await chart.write({**ended, "period": {"start": ADMITTED.isoformat()}})
    flag = await chart.rating()
    assert flag is not None
    assert datetime.fromisoformat(flag["period"]["start"]) >= NOW
    until = extension_of(flag, canonicals.MINIMUM_UNTIL_EXTENSION)["valueDate"]
    assert until >= (NOW.date() + timedelta(days=14)).isoformat()


async def test_a_patch_finishes_a_stay(chart: Chart, spell: Spell) -> None:
    await chart.write(stay(chart, spell))
    wanted = over(chart, spell)
    patch = [
        {"op": "add", "path": f"/{name}", "value": wanted[name]}
        for name in ("status", "period", "hospitalization", "extension")
        if name in wanted
    ]
    headers = {"content-type": "application/json-patch+json"}
    answer = await chart.client.patch("Encounter/stay", json=patch, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await chart.colour() == "red"


async def test_a_message_and_a_plain_write_of_the_same_stay_come_to_the_same(
    chart: Chart, spell: Spell
) -> None:
    await chart.tell(spell.admit())
    known = await chart.stay()
    before = [await chart.all(kind) for kind in ("Flag", "CarePlan", "Task", "EpisodeOfCare")]
    await chart.write({**known, "length": {"value": 3, "unit": "days"}})
    again = [await chart.all(kind) for kind in ("Flag", "CarePlan", "Task", "EpisodeOfCare")]
    assert before == again


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
async def test_a_stay_that_never_was_is_undone(chart: Chart, spell: Spell, status: str) -> None:
    await chart.write(stay(chart, spell))
    await chart.write(stay(chart, spell, status=status))
    assert (await chart.colour(), await chart.state()) == ("amber", "plan-active")


async def test_a_stay_that_is_deleted_is_undone(chart: Chart, spell: Spell) -> None:
    await chart.write(stay(chart, spell))
    assert (await chart.client.delete("Encounter/stay")).status_code in (200, 204)
    assert (await chart.colour(), await chart.state()) == ("amber", "plan-active")


async def test_a_visit_has_no_effects(chart: Chart, spell: Spell) -> None:
    visit = {"system": canonicals.ACT_CODE, "code": "HH"}
    await chart.write(stay(chart, spell, **{"class": visit}))
    assert (await chart.colour(), await chart.state()) == ("amber", "plan-active")


async def test_a_stay_long_ago_is_a_record_and_no_news(chart: Chart, spell: Spell) -> None:
    await chart.write(over(chart, spell, NOW - timedelta(days=15)))
    assert await chart.colour() == "amber"
    assert await chart.dues() == {}


async def test_a_stay_that_ends_in_the_future_is_not_over(chart: Chart, spell: Spell) -> None:
    await chart.write(over(chart, spell, NOW + timedelta(days=2)))
    assert await chart.colour() == "amber"


async def test_a_stay_does_not_become_another_persons(chart: Chart, spell: Spell) -> None:
    await chart.write(stay(chart, spell))
    await chart.write({"resourceType": "Patient", "id": "other", "birthDate": "2011-01-01"})
    moved = stay(chart, spell, subject={"reference": "Patient/other"})
    answer = await chart.client.put("Encounter/stay", **body(moved))
    assert_outcome(answer, 422, "business-rule", "another young person's")
    assert answer.json()["issue"][0]["expression"] == ["Encounter.subject"]
    assert await chart.colour() == "blue"


async def test_a_stay_that_was_taken_back_does_not_go_on(chart: Chart, spell: Spell) -> None:
    await chart.write(stay(chart, spell))
    await chart.write(stay(chart, spell, status="entered-in-error"))
    answer = await chart.client.put("Encounter/stay", **body(stay(chart, spell)))
    assert_outcome(answer, 422, "business-rule", "taken back")


async def test_a_refusal_leaves_nothing_of_a_transaction(chart: Chart, spell: Spell) -> None:
    """And says which of the resources is meant."""
    await chart.write(stay(chart, spell))
    await chart.write({"resourceType": "Patient", "id": "other", "birthDate": "2011-01-01"})
    moved = stay(chart, spell, subject={"reference": "Patient/other"})
    sent = [
        {**over(chart, spell), "id": "second", "identifier": [{"system": "urn:s", "value": "2"}]},
        moved,
    ]
    entries = [
        {"request": {"method": "PUT", "url": f"Encounter/{one['id']}"}, "resource": one}
        for one in sent
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await chart.client.post("", **body(bundle))
    assert_outcome(answer, 422, "business-rule", "Encounter/stay: A stay does not become")
    assert (await chart.client.get("Encounter/second")).status_code == 404


# Ratings ---------------------------------------------------------------------------------------


def _reason(flag: JSON) -> str:
    value = extension_of(flag, canonicals.RATING_END_REASON_EXTENSION)["valueCodeableConcept"]
    return str(code_of(value))


async def test_a_new_rating_supersedes_the_one_before(chart: Chart) -> None:
    await chart.rate("red", "2026-03-01")
    flags = {flag["id"]: flag for flag in await chart.all("Flag")}
    amber = flags["amber-2026-01-05"]
    assert (amber["status"], _reason(amber)) == ("inactive", "superseded")
    assert amber["period"]["end"].startswith("2026-03-01")
    assert flags["red-2026-03-01"]["status"] == "active"


async def test_a_rating_that_began_before_the_one_that_stands_is_kept_as_past(
    chart: Chart,
) -> None:
    await chart.rate("red", "2026-03-01")
    await chart.rate("green", "2026-02-01")
    active = [flag["id"] for flag in await chart.all("Flag") if flag["status"] == "active"]
    assert active == ["red-2026-03-01"]


async def test_two_ratings_of_one_transaction_leave_the_later(chart: Chart) -> None:
    first = (await chart.all("Flag"))[0]
    del first["meta"]
    entries = []
    for name, start in (("b", "2026-05-01"), ("a", "2026-04-01")):
        flag = {**first, "id": name, "period": {"start": start}}
        request = {"method": "PUT", "url": f"Flag/{name}"}
        entries.append({"request": request, "resource": flag})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await chart.client.post("", **body(bundle))
    assert answer.status_code == 200, answer.text
    flags = {flag["id"]: flag["status"] for flag in await chart.all("Flag")}
    assert flags == {"amber-2026-01-05": "inactive", "a": "inactive", "b": "active"}


async def test_an_active_rating_that_is_only_corrected_supersedes_none(chart: Chart) -> None:
    flag = (await chart.all("Flag"))[0]
    await chart.write({**flag, "code": {**flag["code"], "text": "Amber, said anew"}})
    assert [one["status"] for one in await chart.all("Flag")] == ["active"]


async def test_another_sort_of_flag_is_left_alone(chart: Chart) -> None:
    allergy = {
        "resourceType": "Flag",
        "id": "other",
        "status": "active",
        "code": {"text": "Allergic to latex"},
        "subject": {"reference": chart.patient},
    }
    await chart.write(allergy)
    assert {flag["status"] for flag in await chart.all("Flag")} == {"active"}


# What is told of it ----------------------------------------------------------------------------


async def test_the_audit_tells_that_the_rules_wrote_what_follows(
    chart: Chart, spell: Spell
) -> None:
    await chart.write(stay(chart, spell))
    answer = await chart.client.get("AuditEvent?entity=Encounter/stay&_count=10")
    told = [entry["resource"].get("outcomeDesc", "") for entry in answer.json()["entry"]]
    assert any(text.startswith("by the service's rules: Flag/") for text in told), told


# Numbers ---------------------------------------------------------------------------------------


@pytest.fixture
async def longer(settings: Settings) -> Any:
    """A server of an area that holds red for three weeks."""
    app: Application = create_app(settings.model_copy(update={"red_hold_days": 21}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, app.state.store)


async def test_an_area_holds_red_for_as_long_as_it_sets(longer: Chart) -> None:
    await longer.open()
    spell = Spell(longer.nhs_number, ADMITTED)
    await longer.write(stay(longer, spell))
    await longer.write(over(longer, spell))
    flag = await longer.rating()
    assert flag is not None
    until = extension_of(flag, canonicals.MINIMUM_UNTIL_EXTENSION)["valueDate"]
    assert until == (HOME.date() + timedelta(days=21)).isoformat()
