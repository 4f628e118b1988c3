"""$process-message: nothing of a message ends up in another child's record, or grants a right."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from fhir_server.fhir import canonicals, nhs_number
from tests.operations.chart import HOST, Chart, code_of, concept, everything
from tests.operations.messages import (
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
ALLERGY_ACTIVE = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
            "code": "active",
        }
    ]
}
OTHER = {"reference": "Patient/another"}
OWN = {"reference": SUBJECT}

Refuse = Callable[[JSON, str, str], Awaitable[None]]


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    """Of the young person; the server knows another one too."""
    await chart.write(
        {
            "resourceType": "Patient",
            "id": "another",
            "identifier": [
                {"system": canonicals.NHS_NUMBER, "value": nhs_number.synthetic(701)},
            ],
        }
    )
    return Spell(chart.nhs_number, ADMITTED)


@pytest.fixture
def refuse(chart: Chart) -> Refuse:
    """Post what a rule refuses, and find that nothing has been stored."""

    async def post(sent: JSON, text: str, place: str) -> None:
        before = await everything(chart.store)
        response = await chart.client.post("$process-message", **body(sent))
        assert_outcome(response, 422, "business-rule", text, place)
        assert await everything(chart.store) == before

    return post


# Whose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "at"),
    [
        ({"resourceType": "Observation", "subject": OWN, "performer": [OTHER]}, ".performer[0]"),
        ({"resourceType": "Condition", "subject": OWN, "asserter": OTHER}, ".asserter"),
        ({"resourceType": "Coverage", "beneficiary": OWN, "payor": [OTHER]}, ".payor[0]"),
        ({"resourceType": "DocumentReference", "subject": OWN, "author": [OTHER]}, ".author[0]"),
        ({"resourceType": "RelatedPerson", "patient": OTHER}, ".patient"),
        (
            {
                "resourceType": "AllergyIntolerance",
                "clinicalStatus": ALLERGY_ACTIVE,
                "patient": {"reference": "Patient/another/_history/1"},
            },
            ".patient",
        ),
    ],
    ids=lambda value: value["resourceType"] if isinstance(value, dict) else None,
)
async def test_a_resource_that_names_another_patient_anywhere_is_refused(
    stay: Spell, refuse: Refuse, resource: JSON, at: str
) -> None:
    needed: dict[str, JSON] = {
        "Observation": {"status": "final", "code": {"text": "Weight"}},
        "Coverage": {"status": "active"},
        "DocumentReference": {
            "status": "current",
            "content": [{"attachment": {"url": "https://ward.example/letter"}}],
        },
    }
    made = resource | needed.get(resource["resourceType"], {})
    text = "this is about 'Patient/another'"
    await refuse(with_entry(stay.admit(), made), text, f"Bundle.entry[3].resource{at}")


async def test_a_patient_linked_to_another_is_refused(stay: Spell, refuse: Refuse) -> None:
    sent = changed(stay.admit(), 2, link=[{"other": OTHER, "type": "refer"}])
    await refuse(sent, "about 'Patient/another'", "Bundle.entry[2].resource.link[0].other")


async def test_a_resource_about_another_nhs_number_is_refused(stay: Spell, refuse: Refuse) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": nhs_number.synthetic(701)}
    condition = {"resourceType": "Condition", "subject": {"identifier": number}}
    sent = with_entry(stay.admit(), condition)
    await refuse(sent, "another NHS number", "Bundle.entry[3].resource")


OTHERS: dict[str, JSON] = {
    "episodeOfCare": {"resourceType": "EpisodeOfCare", "status": "active", "patient": OTHER},
    "appointment": {
        "resourceType": "Appointment",
        "status": "proposed",
        "participant": [{"actor": OTHER, "status": "accepted"}],
    },
    "basedOn": {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": OTHER,
    },
    "reasonReference": {"resourceType": "Condition", "subject": OTHER},
    "account": {"resourceType": "Account", "status": "active", "subject": [OTHER]},
}


@pytest.mark.parametrize("element", [*OTHERS])
async def test_a_stay_that_refers_to_what_is_anothers_is_refused(
    chart: Chart, stay: Spell, refuse: Refuse, element: str
) -> None:
    await chart.write({**OTHERS[element], "id": "theirs"})
    link = f"{OTHERS[element]['resourceType']}/theirs"
    sent = stay.admit(**{element: [{"reference": link}]})
    place = f"Bundle.entry[1].resource.{element}[0]"
    await refuse(sent, f"'{link}' is in another patient's record", place)


async def test_any_resource_that_refers_to_what_is_anothers_is_refused(
    chart: Chart, stay: Spell, refuse: Refuse
) -> None:
    await chart.write({**stay.encounter(subject=OTHER, identifier=None), "id": "theirs"})
    condition = {
        "resourceType": "Condition",
        "subject": OWN,
        "encounter": {"reference": f"{chart.client.base_url}Encounter/theirs"},
    }
    place = "Bundle.entry[3].resource.encounter"
    await refuse(with_entry(stay.admit(), condition), "in another patient's record", place)


async def test_a_stay_may_refer_to_what_is_its_own_patients(chart: Chart, stay: Spell) -> None:
    own = {"reference": chart.patient}
    await chart.write({**OTHERS["account"], "id": "shared", "subject": [own, OTHER]})
    account, episode = {"reference": "Account/shared"}, {"reference": "EpisodeOfCare/involvement"}
    await chart.tell(stay.admit(account=[account], episodeOfCare=[episode]))
    assert (await chart.stay())["account"] == [account]


# What a message may hold -------------------------------------------------------------------------


def forbidden(patient: JSON) -> list[JSON]:
    return [
        {
            "resourceType": "Consent",
            "status": "active",
            "scope": concept(canonicals.CONSENT_SCOPE, "patient-privacy"),
            "category": [
                concept(canonicals.ACT_CODE, "INFA"),
                concept(canonicals.CONSENT_CATEGORY, "register"),
            ],
            "patient": patient,
            "dateTime": "2026-06-01",
            "performer": [patient],
            "organization": [HOST],
            "policyRule": concept(canonicals.NHS_PROXY_LEGAL_BASIS, "consent"),
            "provision": {
                "type": "permit",
                "period": {"start": "2026-06-01", "end": "2027-05-31"},
            },
        },
        {
            "resourceType": "Flag",
            "status": "active",
            "code": concept(canonicals.DSR_RATING, "green"),
            "subject": patient,
        },
        {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": patient},
        {
            "resourceType": "Goal",
            "lifecycleStatus": "active",
            "description": {"text": "Home"},
            "subject": patient,
        },
        {"resourceType": "EpisodeOfCare", "status": "active", "patient": patient},
        {"resourceType": "Task", "status": "requested", "intent": "order", "for": patient},
        {"resourceType": "CareTeam", "subject": patient},
        {"resourceType": "Communication", "status": "completed", "subject": patient},
        {"resourceType": "Account", "status": "active", "subject": [patient]},
    ]


@pytest.mark.parametrize("whose", [OWN, OTHER], ids=["own", "another's"])
@pytest.mark.parametrize("index", range(9), ids=[made["resourceType"] for made in forbidden({})])
async def test_what_an_event_does_not_tell_is_refused_with_what_it_may(
    unknown: Chart, refuse: Refuse, index: int, whose: JSON
) -> None:
    await unknown.open()
    await unknown.consent("register", status="inactive")
    resource = forbidden(whose)[index]
    sent = with_entry(Spell(unknown.nhs_number, ADMITTED).admit(), resource)
    text = f"holds no {resource['resourceType']}; beside its MessageHeader, AllergyIntolerance"
    await refuse(sent, text, "Bundle.entry[3].resource")
    assert await unknown.colour() is None


async def test_a_second_stay_in_one_message_is_refused(stay: Spell, refuse: Refuse) -> None:
    second = stay.encounter(identifier=[{"system": SPELL, "value": "second"}])
    sent = with_entry(stay.admit(), second)
    await refuse(sent, "about one Encounter", "Bundle.entry[3].resource")


# This server's own addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["{base}{patient}", "{patient}/_history/1", "{base}{patient}/_history/1"]
)
async def test_an_own_address_of_the_patient_is_understood_in_every_form(
    chart: Chart, stay: Spell, form: str
) -> None:
    subject = {"reference": form.format(base=chart.client.base_url, patient=chart.patient)}
    sent = message("A01", stay.encounter(subject=subject), [])
    sent = with_entry(sent, {"resourceType": "Condition", "subject": subject})
    await chart.tell(sent)
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    ended = stay.discharge(HOME, subject={"reference": chart.patient})
    await chart.tell({**ended, "entry": ended["entry"][:2]})
    assert await chart.colour() == "red"
    assert len(await chart.all("Condition")) == 1


async def test_an_own_address_of_another_patient_is_another_patient(
    chart: Chart, stay: Spell, refuse: Refuse
) -> None:
    theirs = {"reference": f"{chart.client.base_url}Patient/another"}
    sent = with_entry(stay.admit(), {"resourceType": "Condition", "subject": theirs})
    await refuse(sent, "about 'Patient/another'", "Bundle.entry[3].resource.subject")


async def test_entries_under_this_servers_own_addresses_are_found_by_any_of_their_names(
    chart: Chart, stay: Spell
) -> None:
    base = chart.client.base_url
    sent = stay.admit(subject={"reference": "Patient/theirs/_history/4"})
    sent = changed(sent, 0, focus=[{"reference": "Encounter/s"}])
    sent["entry"][1]["fullUrl"] = f"{base}Encounter/s"
    sent["entry"][2]["fullUrl"] = f"{base}Patient/theirs"
    await chart.tell(sent)
    assert (await chart.stay())["subject"] == {"reference": chart.patient}


async def test_a_stored_stay_of_a_version_of_the_patient_is_the_patients(
    chart: Chart, stay: Spell
) -> None:
    subject = {"reference": f"{chart.client.base_url}{chart.patient}/_history/1"}
    await chart.write({**stay.encounter(subject=subject), "id": "known"})
    await chart.tell(stay.discharge(HOME))
    assert (await chart.stay())["status"] == "finished"


async def test_a_plan_of_a_version_of_the_stay_is_the_stays(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.admit())
    plan = await chart.discharge_plan()
    assert plan is not None
    versioned = {"reference": f"{plan['encounter']['reference']}/_history/1"}
    await chart.write({**plan, "encounter": versioned})
    await chart.tell(stay.discharge(HOME))
    plan = await chart.discharge_plan()
    assert plan is not None
    assert plan["period"]["end"] == "2026-07-06"
    assert code_of(plan["category"][0]) == "discharge-plan"


async def test_entries_keep_their_own_references(chart: Chart, stay: Spell) -> None:
    condition = {"resourceType": "Condition", "subject": OWN, "encounter": {"reference": STAY}}
    await chart.tell(with_part(with_entry(stay.admit(), condition), 1, part(stay.admit(), 1)))
    (stored,) = await chart.all("Condition")
    assert stored["encounter"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}
