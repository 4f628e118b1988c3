"""$process-message refuses, names the place and what is allowed, and stores nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.fhir import canonicals, nhs_number
from tests.operations.chart import Chart, everything
from tests.operations.messages import (
    DAVINCI,
    HEADER,
    JSON,
    SPELL,
    STAY,
    SUBJECT,
    Spell,
    changed,
    message,
    part,
    with_entry,
    with_part,
)
from tests.support import assert_outcome, body

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
HOME = datetime.fromisoformat("2026-07-06T14:00:00+01:00")
ABSENT = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "unknown",
        }
    ]
}
OTHER_NUMBER = nhs_number.synthetic(701)
STAY_PLACE = "Bundle.entry[1].resource"

Refuse = Callable[..., Any]


@pytest.fixture
def stay(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, ADMITTED)


@pytest.fixture
def refuse(chart: Chart) -> Refuse:
    """Post what is refused, and find that nothing has been stored."""

    async def post(sent: JSON, status: int, code: str, text: str, place: str) -> httpx.Response:
        before = await everything(chart.store)
        response = await chart.client.post("$process-message", **body(sent))
        assert_outcome(response, status, code, text, place)
        assert await everything(chart.store) == before
        return response

    return post


async def test_an_unknown_event(stay: Spell, refuse: Refuse) -> None:
    event = {"system": canonicals.NHS_MESSAGE_EVENT, "code": "referral"}
    response = await refuse(
        changed(stay.admit(), 0, eventCoding=event),
        400,
        "not-supported",
        "referral is not known",
        "Bundle.entry[0].resource.event",
    )
    assert "notification-transfer" in response.text


async def test_an_unknown_notification(stay: Spell, refuse: Refuse) -> None:
    event = {"system": DAVINCI, "code": "notification-birth"}
    place = "Bundle.entry[0].resource.event"
    await refuse(
        changed(stay.admit(), 0, eventCoding=event), 400, "not-supported", "is not known", place
    )


async def test_an_event_without_a_code(stay: Spell, refuse: Refuse) -> None:
    header = {**part(stay.admit(), 0), "eventUri": "https://ward.example/admitted"}
    del header["eventCoding"]
    place = "Bundle.entry[0].resource.event"
    sent = with_part(stay.admit(), 0, header)
    await refuse(sent, 400, "invalid", "Only coded events are known", place)


@pytest.mark.parametrize("trigger", ["A28", "A40", "B01"])
async def test_a_trigger_that_is_not_supported(stay: Spell, refuse: Refuse, trigger: str) -> None:
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    place = "Bundle.entry[0].resource.reason"
    response = await refuse(
        changed(stay.admit(), 0, reason=reason),
        400,
        "not-supported",
        f"The trigger {trigger} is not supported",
        place,
    )
    for allowed in ("A01", "A02", "A03", "A04", "A08"):
        assert allowed in response.text


@pytest.mark.parametrize(
    "reason",
    [
        None,
        {"text": "admission"},
        {"coding": [{"system": "https://ward.example/why", "code": "A01"}]},
        {"coding": [{"system": canonicals.V2_EVENT, "display": "Admit"}]},
    ],
)
async def test_no_trigger(stay: Spell, refuse: Refuse, reason: JSON | None) -> None:
    sent = changed(stay.admit(), 0, reason=reason)
    place = "Bundle.entry[0].resource.reason"
    await refuse(sent, 400, "invalid", "says why it is sent", place)


async def test_no_patient(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit()
    sent = {**sent, "entry": sent["entry"][:2]}
    place = f"{STAY_PLACE}.subject.reference"
    await refuse(sent, 400, "not-found", "is no fullUrl of the Bundle", place)


async def test_a_stay_of_nobody(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit(subject=None)
    await refuse(sent, 400, "required", "has no subject", f"{STAY_PLACE}.subject")


async def test_a_patient_who_is_neither_here_nor_in_the_message(
    stay: Spell, refuse: Refuse
) -> None:
    encounter = stay.encounter(subject={"reference": "Patient/nobody"})
    sent = message("A01", encounter, [])
    await refuse(sent, 400, "required", "is not known here", f"{STAY_PLACE}.subject")


async def test_takes_a_patient_of_this_server_that_the_message_only_refers_to(
    chart: Chart, stay: Spell
) -> None:
    encounter = stay.encounter(subject={"reference": chart.patient})
    await chart.tell(message("A01", encounter, []))
    assert await chart.colour() == "blue"


async def test_two_patients(stay: Spell, refuse: Refuse) -> None:
    second = {**stay.patient(), "identifier": [{"value": OTHER_NUMBER}]}
    sent = with_entry(stay.admit(), second)
    await refuse(sent, 400, "invalid", "is about one Patient", "Bundle.entry")


async def test_an_entry_about_nobody(stay: Spell, refuse: Refuse) -> None:
    condition = {"resourceType": "Condition", "subject": {"reference": "urn:uuid:nobody"}}
    place = "Bundle.entry[3].resource.subject.reference"
    sent = with_entry(stay.admit(), condition)
    await refuse(sent, 400, "not-found", "is no fullUrl of the Bundle", place)


@pytest.mark.parametrize("reference", ["Patient/another", "https://ward.example/Patient/7"])
async def test_an_entry_about_somebody_else(stay: Spell, refuse: Refuse, reference: str) -> None:
    condition = {"resourceType": "Condition", "subject": {"reference": reference}}
    sent = with_entry(stay.admit(), condition)
    place = "Bundle.entry[3].resource.subject"
    await refuse(sent, 422, "business-rule", f"this is about '{reference}'", place)


async def test_an_entry_with_an_identifier_of_somebody_elses_record(
    chart: Chart, stay: Spell, refuse: Refuse
) -> None:
    identifier = [{"system": "https://ward.example/Id/diagnosis", "value": "1"}]
    condition = {"resourceType": "Condition", "identifier": identifier}
    await chart.write({**condition, "id": "c", "subject": {"reference": "Patient/another"}})
    sent = with_entry(stay.admit(), {**condition, "subject": {"reference": SUBJECT}})
    place = "Bundle.entry[3].resource.identifier"
    await refuse(sent, 422, "business-rule", "is another patient's", place)


@pytest.mark.parametrize(
    "identifier",
    [None, [{"system": SPELL}], [{"type": {"text": "spell"}}], [{"value": "17"}]],
    ids=["none", "without value", "without either", "without system"],
)
async def test_no_spell_identifier(
    stay: Spell, refuse: Refuse, identifier: list[JSON] | None
) -> None:
    sent = stay.admit(identifier=identifier)
    place = f"{STAY_PLACE}.identifier"
    await refuse(sent, 422, "required", "the provider's spell id is required", place)


async def test_another_type_of_bundle(stay: Spell, refuse: Refuse) -> None:
    sent = {**stay.admit(), "type": "collection"}
    await refuse(sent, 400, "invalid", "'message' is expected", "Bundle.type")


@pytest.mark.parametrize(
    ("bundle_type", "rule"), [("transaction", "bdl-3"), ("document", "bdl-11")]
)
async def test_a_bundle_that_breaks_the_rules_of_its_type(
    stay: Spell, refuse: Refuse, bundle_type: str, rule: str
) -> None:
    sent = {**stay.admit(), "type": bundle_type}
    await refuse(sent, 400, "invariant", f"({rule})", "Bundle")


async def test_no_header_in_front(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit()
    text = "the first entry of a message is a MessageHeader (bdl-12)"
    for entries in (sent["entry"][1:], [*reversed(sent["entry"])]):
        await refuse({**sent, "entry": entries}, 400, "invariant", text, "Bundle")
    del sent["entry"]
    text = "a message has entries, the first a MessageHeader"
    await refuse(sent, 400, "required", text, "Bundle.entry")


async def test_an_entry_without_a_resource(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit()
    sent = {**sent, "entry": [*sent["entry"], {"fullUrl": "urn:uuid:empty"}]}
    await refuse(sent, 400, "invariant", "(bdl-5)", "Bundle.entry[3]")


@pytest.mark.parametrize("focus", [None, [{"reference": "Encounter/none"}], [{"display": "A"}]])
async def test_a_focus_that_is_not_there(
    stay: Spell, refuse: Refuse, focus: list[JSON] | None
) -> None:
    sent = changed(stay.admit(), 0, focus=focus)
    place = "Bundle.entry[0].resource.focus"
    await refuse(sent, 400, "invalid", "names no entry of the message", place)


async def test_a_focus_that_is_no_stay(stay: Spell, refuse: Refuse) -> None:
    sent = changed(stay.admit(), 0, focus=[{"reference": SUBJECT}])
    place = "Bundle.entry[0].resource.focus"
    await refuse(sent, 400, "invalid", "an Encounter is expected", place)


async def test_two_entries_of_one_name(stay: Spell, refuse: Refuse) -> None:
    sent = with_entry(stay.admit(), {"resourceType": "Organization"}, STAY)
    await refuse(sent, 400, "invariant", "Another entry has the fullUrl", "Bundle.entry[3].fullUrl")


async def test_a_sender_who_is_no_one(stay: Spell, refuse: Refuse) -> None:
    sent = with_entry(stay.admit(), {"resourceType": "Location"}, "urn:uuid:place")
    sent = changed(sent, 0, sender={"reference": "urn:uuid:place"})
    place = "Bundle.entry[0].resource.sender.reference"
    await refuse(sent, 400, "value", "not to Location", place)


async def test_a_sender_who_is_no_one_by_an_address_elsewhere(stay: Spell, refuse: Refuse) -> None:
    """R4's check does not look up what an absolute address is of."""
    place = "https://ward.example/swallow"
    sent = with_entry(stay.admit(), {"resourceType": "Location", "id": "swallow"}, place)
    sent = changed(sent, 0, sender={"reference": place})
    text = "The sender is a Location; Organization, Practitioner, PractitionerRole are allowed"
    await refuse(sent, 400, "invalid", text, "Bundle.entry[0].resource.sender")


async def test_no_name_of_its_own(stay: Spell, refuse: Refuse) -> None:
    sent = {name: value for name, value in stay.admit().items() if name != "identifier"}
    sent["entry"][0] = {"resource": sent["entry"][0]["resource"]}
    await refuse(sent, 400, "required", "has no identifier", "Bundle.identifier")


@pytest.mark.parametrize("named_by", ["id", "header", "fullUrl"])
async def test_takes_another_name_where_the_bundle_has_no_identifier(
    chart: Chart, stay: Spell, named_by: str
) -> None:
    sent = {name: value for name, value in stay.admit().items() if name != "identifier"}
    if named_by == "id":
        sent = {**sent, "id": "message-1"}
    elif named_by == "header":
        sent = changed(sent, 0, id="message-1")
    await chart.tell(sent)
    before = await everything(chart.store)
    await chart.tell(sent)
    assert await everything(chart.store) == before
    assert part(sent, 0).get("id") or sent.get("id") or sent["entry"][0]["fullUrl"] == HEADER


async def test_a_source_without_an_address(stay: Spell, refuse: Refuse) -> None:
    sent = changed(stay.admit(), 0, source={"_endpoint": ABSENT})
    place = "Bundle.entry[0].resource.source.endpoint"
    await refuse(sent, 400, "required", "The source has no endpoint", place)


@pytest.mark.parametrize("status", ["finished", "planned", "cancelled", "unknown"])
async def test_an_admission_whose_stay_is_not_open(
    stay: Spell, refuse: Refuse, status: str
) -> None:
    sent = stay.admit(status=status)
    await refuse(sent, 422, "business-rule", f"not '{status}'", f"{STAY_PLACE}.status")


async def test_a_stay_whose_status_is_not_told(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit(status=None, _status=ABSENT)
    await refuse(sent, 422, "business-rule", "not ''", f"{STAY_PLACE}.status")


async def test_a_discharge_whose_stay_is_open(stay: Spell, refuse: Refuse) -> None:
    sent = stay.discharge(HOME, status="in-progress")
    await refuse(sent, 422, "business-rule", "is finished", f"{STAY_PLACE}.status")


@pytest.mark.parametrize("end", [ADMITTED - timedelta(minutes=1), ADMITTED - timedelta(days=400)])
async def test_a_discharge_before_the_admission(stay: Spell, refuse: Refuse, end: datetime) -> None:
    sent = stay.discharge(end)
    await refuse(sent, 400, "invariant", "before it starts (per-1)", f"{STAY_PLACE}.period")


@pytest.mark.parametrize("start", [None, "2026-05-01"])
async def test_a_discharge_before_the_admission_that_is_known_here(
    chart: Chart, stay: Spell, refuse: Refuse, start: str | None
) -> None:
    await chart.tell(stay.admit())
    period = {"end": "2026-06-02T12:00:00+01:00"} | ({"start": start} if start else {})
    sent = stay.discharge(HOME, period=period)
    text = f"The stay would end before it began, at {ADMITTED.isoformat()}"
    await refuse(sent, 422, "business-rule", text, f"{STAY_PLACE}.period.end")
    assert await chart.colour() == "blue"


@pytest.mark.parametrize(("start", "end"), [("0001-01-01", "0001-02-01"), ("2026", "9999-12-31")])
async def test_a_stay_at_the_ends_of_the_calendar(
    stay: Spell, refuse: Refuse, start: str, end: str
) -> None:
    sent = stay.discharge(HOME, period={"start": start, "end": end})
    await refuse(sent, 422, "business-rule", "1900 to 2199", f"{STAY_PLACE}.period")


async def test_when_something_happened_is_told_to_the_day(
    chart: Chart, stay: Spell, refuse: Refuse
) -> None:
    month = f"{ADMITTED:%Y-%m}"
    place = f"{STAY_PLACE}.period.start"
    await refuse(stay.admit(period={"start": month}), 422, "business-rule", "is no day", place)
    await chart.tell(stay.admit())
    period = {"start": ADMITTED.isoformat(), "end": f"{HOME:%Y}"}
    sent = stay.discharge(HOME, period=period)
    await refuse(sent, 422, "business-rule", "is no day", f"{STAY_PLACE}.period.end")
    over = {**await chart.stay(), "status": "finished", "period": period}
    answer = await chart.client.put(f"Encounter/{over['id']}", **body(over))
    assert_outcome(answer, 422, "business-rule", "is no day", "Encounter.period.end")


@pytest.mark.parametrize("trigger", ["A01", "A02", "A04", "A08"])
async def test_an_admission_that_has_not_happened_yet(
    chart: Chart, refuse: Refuse, trigger: str
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    sent = changed(Spell(chart.nhs_number, tomorrow).admit(), 0, reason=reason)
    text = f"The start of the stay lies in the future, at {tomorrow.isoformat()}"
    await refuse(sent, 422, "business-rule", text, f"{STAY_PLACE}.period.start")
    assert await chart.colour() == "amber"


@pytest.mark.parametrize("trigger", ["A03", "A08"])
async def test_a_discharge_that_has_not_happened_yet(
    stay: Spell, refuse: Refuse, trigger: str
) -> None:
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    sent = changed(stay.discharge(datetime.now(UTC) + timedelta(hours=2)), 0, reason=reason)
    text = "The end of the stay lies in the future"
    await refuse(sent, 422, "business-rule", text, f"{STAY_PLACE}.period.end")


async def test_an_admission_without_a_time_in_a_message_from_the_future(
    stay: Spell, refuse: Refuse
) -> None:
    sent = {**stay.admit(period=None), "timestamp": "2190-01-01T00:00:00Z"}
    await refuse(sent, 422, "business-rule", "lies in the future", f"{STAY_PLACE}.period.start")


async def test_takes_an_event_by_a_clock_that_is_a_little_fast(chart: Chart) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=50)
    await chart.tell(Spell(chart.nhs_number, soon).admit())
    assert await chart.colour() == "blue"


async def test_takes_a_stay_that_is_planned_or_is_to_end_at_a_known_time(chart: Chart) -> None:
    now = datetime.now(UTC)
    ahead = Spell(chart.nhs_number, now + timedelta(days=5))
    await chart.tell(ahead.update(status="planned"))
    assert await chart.colour() == "amber"
    period = {"start": ADMITTED.isoformat(), "end": (now + timedelta(days=30)).isoformat()}
    await chart.tell(Spell(chart.nhs_number, ADMITTED).admit(period=period))
    assert await chart.colour() == "blue"


async def test_a_known_nhs_number_with_another_date_of_birth(chart: Chart, refuse: Refuse) -> None:
    sent = Spell(chart.nhs_number, ADMITTED, birth_date="2010-05-15").admit()
    text = "The date of birth is not the one of the patient"
    await refuse(sent, 422, "business-rule", text, "Bundle.entry[2].resource.birthDate")


async def test_takes_a_date_of_birth_that_says_less(chart: Chart) -> None:
    await chart.tell(Spell(chart.nhs_number, ADMITTED, birth_date="2010").admit())
    assert await chart.colour() == "blue"


async def test_the_spell_of_another_patient(chart: Chart, stay: Spell, refuse: Refuse) -> None:
    await chart.tell(stay.admit())
    for sent in (
        Spell(OTHER_NUMBER, ADMITTED, stay.value).admit(),
        Spell(OTHER_NUMBER, ADMITTED, stay.value).discharge(HOME),
    ):
        text = "is another patient's"
        await refuse(sent, 422, "business-rule", text, f"{STAY_PLACE}.subject")


async def test_a_patient_of_whom_there_are_two_here(
    chart: Chart, stay: Spell, refuse: Refuse
) -> None:
    await chart.write({**stay.patient(), "id": "twice"})
    place = "Bundle.entry[2].resource.identifier"
    await refuse(stay.admit(), 409, "conflict", "2 resources of type Patient", place)


async def test_something_else_than_a_bundle(chart: Chart, stay: Spell) -> None:
    before = await everything(chart.store)
    response = await chart.client.post("$process-message", **body(stay.patient()))
    assert_outcome(response, 400, "invalid", "does not take a Patient", "resourceType")
    response = await chart.client.post("$process-message?content=abc")
    assert_outcome(response, 400, "invalid", "sent in a Parameters resource", "http.content")
    response = await chart.client.post("$process-message")
    assert_outcome(response, 400, "required", "'content' is missing", "Parameters.parameter")
    assert await everything(chart.store) == before


async def test_a_bundle_that_breaks_r4(stay: Spell, refuse: Refuse) -> None:
    sent = stay.admit(period={"start": "yesterday"})
    await refuse(sent, 400, "value", "must be a dateTime", f"{STAY_PLACE}.period.start")


async def test_takes_the_message_as_a_parameter_too(chart: Chart, stay: Spell) -> None:
    parameter = {"name": "content", "resource": stay.admit()}
    parameters = {"resourceType": "Parameters", "parameter": [parameter]}
    response = await chart.client.post("$process-message", **body(parameters))
    assert response.status_code == 200
    assert await chart.colour() == "blue"


async def test_is_not_processed_by_get(chart: Chart) -> None:
    response = await chart.client.get("$process-message")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
