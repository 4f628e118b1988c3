"""$process-message: by which identifiers people and stays are found again, and by which not."""

from datetime import datetime, timedelta

import pytest

from fhir_server.fhir import canonicals, nhs_number
from tests.operations.chart import Chart, everything
from tests.operations.messages import JSON, Spell, changed
from tests.support import assert_outcome, body, exact

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
HOME = datetime.fromisoformat("2026-07-06T14:00:00+01:00")
WRONG: JSON = {"system": canonicals.NHS_NUMBER, "value": "9876543219"}
OWN: JSON = {"system": "https://ward.example/Id/mrn", "value": "42"}


@pytest.fixture
def stay(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, ADMITTED)


def of_patient(sent: JSON, *identifiers: JSON) -> JSON:
    return changed(sent, 2, identifier=[*identifiers] or None)


async def answered(chart: Chart, sent: JSON) -> list[JSON]:
    response = await chart.client.post("$process-message", **body(sent))
    assert response.status_code == 200, response.text
    issues: list[JSON] = exact(response)["issue"]
    return issues


async def people(chart: Chart) -> list[str]:
    found = exact(await chart.client.get("Patient"))["entry"]
    return [entry["resource"]["id"] for entry in found]


@pytest.mark.parametrize("separator", [" ", "-"])
async def test_finds_somebody_by_an_nhs_number_that_is_spaced(
    chart: Chart, stay: Spell, separator: str
) -> None:
    digits = chart.nhs_number
    spaced = separator.join((digits[:3], digits[3:6], digits[6:]))
    await chart.tell(of_patient(stay.admit(), {**WRONG, "value": spaced}))
    assert await chart.colour() == "blue"


async def test_finds_somebody_whose_nhs_number_is_stored_with_spaces(unknown: Chart) -> None:
    digits = unknown.nhs_number
    spaced = {**WRONG, "value": f"{digits[:3]} {digits[3:6]} {digits[6:]}"}
    await unknown.write({"resourceType": "Patient", "id": "young-person", "identifier": [spaced]})
    await unknown.tell(Spell(digits, ADMITTED).admit())
    assert await people(unknown) == ["young-person"]


async def test_finds_nobody_by_an_nhs_number_with_a_wrong_check_digit_and_says_so(
    unknown: Chart,
) -> None:
    await unknown.write({"resourceType": "Patient", "id": "young-person", "identifier": [WRONG]})
    issues = await answered(unknown, of_patient(Spell("", ADMITTED).admit(), WRONG))
    (warning,) = [issue for issue in issues if issue["severity"] == "warning"]
    assert (warning["code"], warning["expression"]) == (
        "value",
        ["Bundle.entry[2].resource.identifier"],
    )
    assert "check digit is wrong" in warning["diagnostics"]
    assert len(await people(unknown)) == 2
    assert not await unknown.all("Encounter")


async def test_finds_somebody_by_the_senders_own_identifier_beside_a_wrong_number(
    unknown: Chart,
) -> None:
    await unknown.write({"resourceType": "Patient", "id": "young-person", "identifier": [OWN]})
    await unknown.tell(of_patient(Spell("", ADMITTED).admit(), WRONG, OWN))
    assert await people(unknown) == ["young-person"]


async def test_finds_the_person_of_a_known_stay_though_their_number_is_wrong(
    unknown: Chart,
) -> None:
    stay = Spell(WRONG["value"], ADMITTED)
    await unknown.tell(stay.admit())
    await unknown.tell(stay.discharge(HOME))
    assert len(await people(unknown)) == 1


async def test_a_wrong_number_that_the_known_stays_patient_does_not_have_is_refused(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    before = await everything(chart.store)
    response = await chart.client.post(
        "$process-message", **body(of_patient(stay.discharge(HOME), WRONG))
    )
    place = "Bundle.entry[1].resource.subject"
    assert_outcome(response, 422, "business-rule", "is another patient's", place)
    assert await everything(chart.store) == before


async def test_an_nhs_number_that_is_right_has_no_warning(chart: Chart, stay: Spell) -> None:
    issues = await answered(chart, stay.admit())
    assert {issue["severity"] for issue in issues} == {"information"}


@pytest.mark.parametrize("identifiers", [[], [{"value": "42"}], [{"system": OWN["system"]}]])
async def test_a_patient_who_cannot_be_told_from_others_is_refused(
    chart: Chart, stay: Spell, identifiers: list[JSON]
) -> None:
    before = await everything(chart.store)
    sent = of_patient(stay.admit(), *identifiers)
    response = await chart.client.post("$process-message", **body(sent))
    place = "Bundle.entry[2].resource.identifier"
    assert_outcome(response, 422, "required", "cannot be told from others", place)
    assert await everything(chart.store) == before


async def test_spells_of_one_number_in_two_hospitals_are_two_stays(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    elsewhere = [{"system": "https://other.example/Id/spell", "value": stay.value}]
    other = Spell(nhs_number.synthetic(701), ADMITTED + timedelta(days=1))
    await chart.tell(other.admit(identifier=elsewhere))
    assert len(exact(await chart.client.get("Encounter"))["entry"]) == 2
