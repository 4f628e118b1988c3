"""$validate: https://hl7.org/fhir/R4/resource-operation-validate.html"""

from typing import Any, Final

import httpx
import msgspec
import pytest

from fhir_server.fhir.definitions import PROFILES
from tests.conftest import Restrict
from tests.fhir_operations.conftest import OnePatient
from tests.support import assert_outcome, body, exact, outcome_issues, put

BMI: Final = "http://hl7.org/fhir/StructureDefinition/bmi"
PATIENT: Final = {"resourceType": "Patient", "active": True}
WRONG: Final = {"resourceType": "Patient", "gender": "f", "birthDate": "1.2.2010", "colour": 1}


def parameters(*given: dict[str, Any]) -> dict[str, Any]:
    return body({"resourceType": "Parameters", "parameter": list(given)})


def resource(given: Any) -> dict[str, Any]:
    return {"name": "resource", "resource": given}


async def asked(
    client: httpx.AsyncClient, address: str, sent: dict[str, Any]
) -> list[dict[str, Any]]:
    """The issues that it answers with."""
    response = await client.post(address, **sent)
    assert response.status_code == 200, response.text
    return outcome_issues(response)


def errors(issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [issue for issue in issues if issue["severity"] == "error"]


def assert_sound(issues: list[dict[str, Any]]) -> None:
    """It says first that there are no errors; what should be better stands behind."""
    first, *others = issues
    assert first["severity"] == "information"
    assert first["diagnostics"].startswith("No errors")
    assert {issue["severity"] for issue in others} <= {"warning", "information"}


def places(issues: list[dict[str, Any]]) -> set[str]:
    return {place for issue in issues for place in issue.get("expression", ())}


@pytest.mark.parametrize("sent", [body(WRONG), parameters(resource(WRONG))])
async def test_every_problem_is_told_with_its_place(
    client: httpx.AsyncClient, sent: dict[str, Any]
) -> None:
    issues = await asked(client, "/Patient/$validate", sent)
    assert places(errors(issues)) == {"Patient.gender", "Patient.birthDate", "Patient.colour"}


async def test_what_has_no_problem_is_told_so(client: httpx.AsyncClient) -> None:
    issues = await asked(client, "/Patient/$validate", body(PATIENT))
    assert_sound(issues)
    assert "R4" in issues[0]["diagnostics"]


async def test_what_should_be_better_is_a_warning(client: httpx.AsyncClient) -> None:
    """dom-6 of https://hl7.org/fhir/R4/domainresource.html: a resource should have a narrative."""
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">He</div>'}
    without = await asked(client, "/Patient/$validate", body(PATIENT))
    assert [issue["severity"] for issue in without] == ["information", "warning"]
    (told,) = await asked(client, "/Patient/$validate", body({**PATIENT, "text": text}))
    assert told["severity"] == "information"


async def test_nothing_is_stored(client: httpx.AsyncClient) -> None:
    await asked(client, "/Patient/$validate?mode=create", body({**PATIENT, "id": "p"}))
    assert exact(await client.get("/Patient?_summary=count"))["total"] == 0


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}, "resourceType"),
        ({"active": True}, "resourceType"),
        ({"resourceType": "Patientt"}, "resourceType"),
        ({"resourceType": 5}, "resourceType"),
    ],
)
async def test_a_resource_of_another_type_or_of_none_is_a_problem(
    client: httpx.AsyncClient, given: Any, place: str
) -> None:
    issues = await asked(client, "/Patient/$validate", parameters(resource(given)))
    assert any(name.endswith(place) for name in places(issues)), issues


@pytest.mark.parametrize(
    "sent",
    [
        parameters(resource(PATIENT), {"name": "profile", "valueUri": BMI}),
        parameters({"name": "profile", "valueUri": BMI}, resource(PATIENT)),
    ],
)
async def test_a_profile_of_another_type_is_a_problem(
    client: httpx.AsyncClient, sent: dict[str, Any]
) -> None:
    issues = await asked(client, "/Patient/$validate", sent)
    assert any("profile of Observation" in issue["diagnostics"] for issue in issues)


async def test_a_resource_is_checked_against_the_profile_that_is_named(
    client: httpx.AsyncClient,
) -> None:
    """HL7's profile of the body mass index asks for its LOINC code, a subject and a time."""
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "39156-5"}]},
    }
    address = "/Observation/$validate"
    assert_sound(await asked(client, address, body(observation)))
    wrong = errors(await asked(client, f"{address}?profile={BMI}", body(observation)))
    assert {"Observation.category", "Observation.subject"} <= places(wrong)
    assert all(BMI in str(issue["details"]) or "vitalsigns" in str(issue) for issue in wrong)


async def test_what_it_was_checked_against_is_told_as_it_was(client: httpx.AsyncClient) -> None:
    """With what is required of it, without what is claimed and not known."""
    kw = "https://keyworking.example/fhir/StructureDefinition/kw-rating-flag"
    path = PROFILES / "kw-rating-flag" / "examples" / "valid-blue.json"
    flag = msgspec.json.decode(path.read_bytes())
    unknown = f"{kw}|9.9.9"
    given = {**flag, "meta": {"profile": [unknown]}}
    first, *_ = await asked(client, "/Flag/$validate", body(given))
    assert first["diagnostics"] == f"No errors: this Flag was checked against R4, {kw}"


async def test_a_profile_that_is_not_known_is_refused(client: httpx.AsyncClient) -> None:
    """The standard: the server SHALL return an error where it cannot validate against it."""
    address = "/Patient/$validate?profile=https://example.org/unknown"
    response = await client.post(address, **body(PATIENT))
    assert_outcome(response, 400, "not-found", "is not known here", "http.profile")


class TestStored:
    """Asked of a resource that is there."""

    @pytest.fixture(autouse=True)
    async def stored(self, client: httpx.AsyncClient) -> None:
        await put(client, {**PATIENT, "id": "p"})

    async def test_it_is_checked_as_it_is(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/Patient/p/$validate")
        assert response.status_code == 200
        assert_sound(outcome_issues(response))

    async def test_against_a_profile(self, client: httpx.AsyncClient) -> None:
        core = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"
        response = await client.get(f"/Patient/p/$validate?mode=profile&profile={core}")
        assert response.status_code == 200
        assert core in response.text

    async def test_whether_it_may_be_deleted(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/Patient/p/$validate?mode=delete")
        assert [issue["severity"] for issue in outcome_issues(response)] == ["information"]
        gone = await client.get("/Patient/q/$validate?mode=delete")
        assert gone.status_code == 404

    async def test_an_update_names_the_same_resource(self, client: httpx.AsyncClient) -> None:
        address = "/Patient/p/$validate?mode=update"
        for wrong in ({**PATIENT, "id": "q"}, PATIENT):
            issues = await asked(client, address, body(wrong))
            assert places(errors(issues)) == {"Patient.id"}
        assert_sound(await asked(client, address, body({**PATIENT, "id": "p"})))

    async def test_a_part_of_it_would_not_be_taken_back(self, client: httpx.AsyncClient) -> None:
        part = exact(await client.get("/Patient/p?_elements=id"))
        issues = await asked(client, "/Patient/p/$validate?mode=update", body(part))
        assert places(errors(issues)) == {"Patient.meta.tag[0]"}


@pytest.mark.parametrize(
    ("address", "parameter"),
    [
        ("Patient/$validate", "resource"),
        ("Patient/$validate?mode=destroy", "mode"),
        ("Patient/$validate?mode=delete", "mode"),
        ("Patient/$validate?mode=profile&profile=x", "mode"),
        ("Patient/p/$validate?mode=create", "mode"),
        ("Patient/p/$validate?mode=profile", "profile"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, address: str, parameter: str
) -> None:
    response = await client.get(f"/{address}")
    assert_outcome(response, 400, "invalid", "", f"http.{parameter}")


@pytest.mark.parametrize("given", ["x", 5, None, [], [{}], {"resourceType": []}])
async def test_what_is_around_the_resource_has_to_be_right(
    client: httpx.AsyncClient, given: Any
) -> None:
    response = await client.post("/Patient/$validate", **parameters(resource(given)))
    assert response.status_code in (200, 400), response.text
    assert any(issue["severity"] == "error" for issue in outcome_issues(response))


async def test_parameters_themselves_can_be_checked(client: httpx.AsyncClient) -> None:
    inner = {"resourceType": "Parameters", "parameter": [{"value": 5}]}
    issues = await asked(client, "/Parameters/$validate", parameters(resource(inner)))
    assert "Parameters.parameter[0].name" in places(issues)


async def test_what_may_not_be_seen_cannot_be_checked(
    caseload: httpx.AsyncClient, restrict: Restrict
) -> None:
    restrict(OnePatient())
    hidden = await caseload.get("/Patient/kw-synthetic-002/$validate")
    assert hidden.status_code == 404


async def test_a_resource_in_xml_is_answered_in_xml(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/Patient/$validate",
        content=b'<Patient xmlns="http://hl7.org/fhir"><gender value="f"/></Patient>',
        headers={"content-type": "application/fhir+xml", "accept": "application/fhir+xml"},
    )
    assert response.status_code == 200
    assert b'<expression value="Patient.gender"/>' in response.content
