"""$process-message: one commit for everything, once, whatever order messages come in."""

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from fhir_server.fhir import canonicals
from tests.operations.chart import Chart, code_of, ended, everything
from tests.operations.messages import (
    JSON,
    STAY,
    SUBJECT,
    WARD,
    Spell,
    changed,
    part,
    renamed,
    with_entry,
)
from tests.support import assert_outcome, body

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
HOME = datetime.fromisoformat("2026-07-06T14:00:00+01:00")
ORGANISATION = "urn:uuid:00000000-0000-4000-8000-00000000000d"


@pytest.fixture
def stay(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, ADMITTED)


async def post(chart: Chart, message: JSON) -> httpx.Response:
    return await chart.client.post("$process-message", **body(message))


def diagnosis(**elements: object) -> JSON:
    return {
        "resourceType": "Condition",
        "subject": {"reference": SUBJECT},
        "encounter": {"reference": STAY},
        "code": {"text": "Low mood"},
        **elements,
    }


# One commit ------------------------------------------------------------------------------------


async def test_stores_what_else_the_message_holds_with_references_that_lead_to_it(
    chart: Chart, stay: Spell
) -> None:
    organisation = {"resourceType": "Organization", "name": "Swallow ward"}
    message = with_entry(stay.admit(), organisation, ORGANISATION)
    message = with_entry(message, diagnosis(asserter={"reference": SUBJECT}))
    await chart.tell(changed(message, 0, sender={"reference": ORGANISATION}))
    (condition,) = await chart.all("Condition")
    stored = await chart.stay()
    assert condition["subject"] == condition["asserter"] == {"reference": chart.patient}
    assert condition["encounter"] == {"reference": f"Encounter/{stored['id']}"}
    rating = await chart.rating()
    assert rating is not None
    sender = await chart.client.get(rating["author"]["reference"])
    assert sender.json()["name"] == "Swallow ward"


async def test_stores_nothing_when_a_later_entry_breaks_r4_once_its_references_are_known(
    chart: Chart, stay: Spell
) -> None:
    before = await everything(chart.store)
    message = with_entry(
        stay.admit(), {"resourceType": "Organization", "name": "A trust"}, ORGANISATION
    )
    message = with_entry(message, diagnosis(encounter={"reference": ORGANISATION}))
    response = await post(chart, message)
    assert_outcome(
        response,
        400,
        "value",
        "must refer to Encounter",
        "Bundle.entry[4].resource.encounter.reference",
    )
    assert await everything(chart.store) == before


async def test_stores_nothing_when_an_identifier_belongs_to_two(chart: Chart, stay: Spell) -> None:
    identifier = [{"system": "https://ward.example/Id/site", "value": "7"}]
    for name in ("one", "two"):
        await chart.write({"resourceType": "Location", "id": name, "identifier": identifier})
    before = await everything(chart.store)
    location = {"resourceType": "Location", "identifier": identifier}
    response = await post(chart, with_entry(stay.admit(), location))
    place = "Bundle.entry[3].resource.identifier"
    assert_outcome(response, 409, "conflict", "2 resources of type Location", place)
    assert await everything(chart.store) == before


async def test_stores_nothing_when_one_of_its_effects_cannot_be(
    chart: Chart, stay: Spell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stay and the rating are written by then: the fault comes up at the tasks."""
    await chart.tell(stay.admit())
    before = await everything(chart.store)
    monkeypatch.setattr("fhir_server.operation.records.MOST", 4)
    monkeypatch.setattr("operations._record._MOST_TASKS", 4)
    response = await post(chart, stay.discharge(HOME))
    assert_outcome(response, 403, "too-costly", "More than 4 Task are concerned")
    assert await everything(chart.store) == before
    assert await chart.colour() == "blue"


async def test_is_one_commit_that_shares_one_time(chart: Chart, stay: Spell) -> None:
    before = len(await chart.store.changes(0, 1000))
    await chart.tell(stay.admit())
    written = [version for _, version in (await chart.store.changes(0, 1000))[before:]]
    assert {version.type for version in written} == {
        *("Encounter", "Flag", "CarePlan", "Task", "EpisodeOfCare"),
        *("Binary", "OperationOutcome", "Provenance"),
    }
    assert len({version.last_updated for version in written}) == 1


async def test_leaves_a_receipt_that_names_every_version_and_the_sender(
    chart: Chart, stay: Spell
) -> None:
    before = await everything(chart.store)
    message = stay.admit()
    await chart.tell(message)
    written = (await everything(chart.store))[len(before) :]
    search = f"Provenance?target=Encounter/{(await chart.stay())['id']}"
    (entry,) = (await chart.client.get(search)).json()["entry"]
    receipt = entry["resource"]
    targets = [target["reference"].replace("/_history", "") for target in receipt["target"]]
    kept = ("Binary", "Provenance", "OperationOutcome")
    made = {name for name in written if not name.startswith(kept)}
    patients = {name for name in targets if name.startswith("Patient/") and name.count("/") == 1}
    assert len(patients) == 1
    assert {*targets} - patients == made
    assert [agent["who"] for agent in receipt["agent"]] == [WARD]
    assert receipt["entity"][0]["what"]["identifier"] == message["identifier"]


# Once ------------------------------------------------------------------------------------------


async def test_the_same_message_again_answers_the_same_bytes_and_writes_nothing(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    first = await post(chart, message)
    before = await everything(chart.store)
    again = await post(chart, message)
    shuffled = await post(chart, {name: message[name] for name in reversed(message)})
    assert first.status_code == again.status_code == 200
    assert first.content == again.content == shuffled.content
    assert await everything(chart.store) == before


async def test_the_same_message_after_the_discharge_still_answers_the_same(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    first = await post(chart, message)
    await chart.tell(stay.discharge(HOME))
    before = await everything(chart.store)
    assert (await post(chart, message)).content == first.content
    assert await everything(chart.store) == before


async def test_copies_that_arrive_together_have_one_set_of_effects(
    chart: Chart, stay: Spell
) -> None:
    before = await everything(chart.store)
    message = stay.admit()
    answers = await asyncio.gather(*(post(chart, message) for _ in range(32)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    written = (await everything(chart.store))[len(before) :]
    assert len(written) == len(set(written)) == 15
    assert len(await chart.all("Encounter")) == len(await chart.all("EpisodeOfCare")) == 1
    assert await chart.colour() == "blue"


async def test_admissions_of_one_spell_that_arrive_together_have_one_set_of_effects(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    answers = await asyncio.gather(*(post(chart, renamed(message)) for _ in range(32)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await chart.stay())["meta"]["versionId"] == "1"
    assert await chart.discharge_plan()
    assert len(await chart.tasks()) == 6
    assert await chart.colour() == "blue"


async def test_another_content_under_a_known_identifier_is_a_conflict(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    await chart.tell(message)
    before = await everything(chart.store)
    other = changed(message, 1, status="onleave")
    response = await post(chart, other)
    assert_outcome(response, 409, "conflict", "Another message was received", "Bundle.identifier")
    assert await everything(chart.store) == before


async def test_another_senders_message_may_have_the_same_identifier(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    await chart.tell(message)
    other = Spell(chart.nhs_number, ADMITTED + timedelta(days=2)).admit()
    other = {**other, "identifier": message["identifier"]}
    await chart.tell(changed(other, 0, source={"endpoint": "https://other.example/messages"}))
    assert len(await chart.all("Encounter")) == 2


async def test_an_admission_told_again_makes_no_second_plan_flag_or_tasks(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    await chart.tell(message)
    before = await everything(chart.store)
    await chart.tell(renamed(message))
    written = (await everything(chart.store))[len(before) :]
    kinds = {name.partition("/")[0] for name in written}
    assert kinds == {"Binary", "OperationOutcome", "Provenance"}


async def test_an_admission_told_again_does_not_take_the_pathway_back(
    chart: Chart, stay: Spell
) -> None:
    message = stay.admit()
    await chart.tell(message)
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "status": "active"})
    (episode,) = await chart.all("EpisodeOfCare")
    state = {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "discharge-planning"}
    await chart.write({**episode, "extension": [state]})
    await chart.tell(renamed(message))
    assert await chart.state() == "discharge-planning"


async def test_an_admission_told_again_leaves_what_people_have_done_since(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    plan, rating = await chart.discharge_plan(), await chart.rating()
    task = (await chart.tasks())["contact-hospital"]
    assert plan is not None
    assert rating is not None
    await chart.write({**plan, "status": "active"})
    detail = {"url": canonicals.FLAG_DETAIL_EXTENSION, "valueReference": {"display": "Notes"}}
    await chart.write({**rating, "extension": [detail]})
    await chart.write({**task, "status": "in-progress"})
    before = {kind: await chart.all(kind) for kind in ("CarePlan", "Flag", "Task")}
    await chart.tell(stay.admit())
    assert before == {kind: await chart.all(kind) for kind in before}


async def test_a_corrected_time_of_admission_moves_the_dates(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.admit())
    period = {"start": "2026-06-01T10:00:00+01:00"}
    await chart.tell(stay.admit(period=period))
    rating = await chart.rating()
    assert rating is not None
    assert rating["period"] == period
    assert (await chart.dues())["T-CETR-POSTADM"] == "2026-06-15"


async def test_a_discharge_told_again_opens_nothing_that_was_done(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    discharge = stay.discharge(HOME)
    await chart.tell(discharge)
    task = (await chart.tasks())["T-FU-72"]
    await chart.write({**task, "status": "completed"})
    await chart.tell(renamed(discharge))
    assert (await chart.tasks())["T-FU-72"]["status"] == "completed"
    assert await chart.colour() == "red"


async def test_a_discharge_told_again_does_not_bring_back_a_rating_that_was_superseded(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    discharge = stay.discharge(HOME)
    await chart.tell(discharge)
    red = await chart.rating()
    assert red is not None
    await chart.write({**red, **ended("2026-07-21")})
    await chart.rate("green", "2026-07-21")
    said = await chart.tell(renamed(discharge))
    assert await chart.colour() == "green"
    assert any("superseded already" in text for text in said)


# In any order ----------------------------------------------------------------------------------


async def test_an_admission_that_comes_after_the_discharge_still_has_its_plan_and_its_blue(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.discharge(HOME))
    due = await chart.dues()
    await chart.tell(stay.admit())
    assert ((await chart.stay())["status"], await chart.colour()) == ("finished", "red")
    plan = await chart.discharge_plan()
    assert plan is not None
    assert plan["period"] == {
        "start": stay.start.date().isoformat(),
        "end": HOME.date().isoformat(),
    }
    (blue,) = [flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue"]
    assert blue["status"] == "inactive"
    assert datetime.fromisoformat(blue["period"]["start"]) == stay.start
    assert datetime.fromisoformat(blue["period"]["end"]) == HOME
    assert due.items() <= (await chart.dues()).items()
    assert await chart.state() == "plan-active"


@pytest.mark.parametrize("trigger", ["A02", "A04", "A08"])
async def test_no_late_word_opens_a_stay_again(chart: Chart, stay: Spell, trigger: str) -> None:
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(HOME))
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    await chart.tell(changed(stay.update(), 0, reason=reason))
    assert ((await chart.stay())["status"], await chart.colour()) == ("finished", "red")


async def test_a_correction_of_an_ended_stay_is_stored(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.admit())
    discharge = stay.discharge(HOME)
    await chart.tell(discharge)
    corrected = {**part(discharge, 1), "length": {"value": 33, "unit": "d"}}
    await chart.tell(stay.update(**corrected))
    assert (await chart.stay())["length"] == {"value": 33, "unit": "d"}


async def test_the_discharge_of_an_earlier_stay_leaves_the_rating_of_a_later_one(
    chart: Chart, stay: Spell
) -> None:
    later = Spell(chart.nhs_number, HOME + timedelta(days=30))
    home_again = later.start + timedelta(days=5)
    await chart.tell(later.admit())
    await chart.tell(later.discharge(home_again))
    await chart.tell(stay.discharge(HOME))
    rating = await chart.rating()
    assert rating is not None
    assert datetime.fromisoformat(rating["period"]["start"]) == home_again
