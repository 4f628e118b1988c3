"""$refer, $allocate, $close, the order of the first tasks, and consent that has ended."""

from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir import canonicals
from fhir_server.settings import Settings
from operations._calendar import working_days_after
from tests.operations.chart import HOST, KEYWORKER, Chart, code_of, concept, extension_of
from tests.operations.messages import JSON
from tests.operations.parameters import definition, problems
from tests.operations.test_pathway import by_operation, episode, operate, told
from tests.operations.timing import TODAY, due, timers
from tests.support import body, outcome_issues

OTHER: Final = {"reference": "PractitionerRole/other"}


async def young_person(chart: Chart, colour: str = "amber", born: str = "2010-05-14") -> None:
    """On the register, with a diagnosis, and not referred."""
    person = {
        "resourceType": "Patient",
        "id": "young-person",
        "identifier": [{"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}],
        "name": [{"family": "Synthetic-Alder"}],
        "birthDate": born,
    }
    await chart.write(person)
    await chart.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    await chart.consent("register")
    await chart.rate(colour, "2026-01-05")
    await diagnosed(chart)


async def diagnosed(chart: Chart, **elements: Any) -> None:
    clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    await chart.write(
        {
            "resourceType": "Condition",
            "id": "need",
            "clinicalStatus": concept(clinical, "active"),
            "code": {"text": "Autism"},
            "subject": {"reference": chart.patient},
            **elements,
        }
    )


async def refer(chart: Chart, **parameters: Any) -> httpx.Response:
    given: list[JSON] = [{"name": "host", "valueReference": HOST}]
    given += [{"name": name, "valueString": value} for name, value in parameters.items()]
    asked = {"resourceType": "Parameters", "parameter": given}
    return await chart.client.post("Patient/young-person/$refer", **body(asked))


# $refer ------------------------------------------------------------------------------------------


async def test_refer_makes_the_referral_and_the_involvement(unknown: Chart) -> None:
    await young_person(unknown)
    answer = await refer(unknown, reason="School is at its limits")
    assert answer.status_code == 200, answer.text
    assert problems(answer.json(), definition("refer.json")) == []
    found = await episode(unknown)
    (referral,) = await unknown.all("ServiceRequest")
    assert (await unknown.state(), found["status"]) == ("referred", "planned")
    assert (referral["status"], referral["requester"]) == ("active", KEYWORKER)
    assert referral["supportingInfo"] == [{"reference": "Flag/amber-2026-01-05"}]
    assert found["referralRequest"] == [{"reference": f"ServiceRequest/{referral['id']}"}]


async def test_refer_tells_everything_that_is_missing_and_writes_nothing(unknown: Chart) -> None:
    await young_person(unknown, "green", "1999-05-14")
    await diagnosed(unknown, code={"text": "Asthma"})
    answer = await refer(unknown)
    said = told(answer)
    # The rating ended with the 25th birthday.
    assert "There is no active rating: keyworking takes red, amber, blue" in said
    assert "keyworking is for those who have not had their 25th birthday" in said
    assert "No learning disability or autism is on record" in said
    assert await unknown.all("ServiceRequest") == []


async def test_refer_takes_nobody_on_green(unknown: Chart) -> None:
    await young_person(unknown, "green")
    said = told(await refer(unknown))
    assert "The rating is green: keyworking takes red, amber, blue" in said
    assert await unknown.all("ServiceRequest") == []


@pytest.mark.parametrize(
    ("elements", "counts"),
    [
        ({"code": {"text": "Mild learning disability"}}, True),
        ({"code": concept("http://hl7.org/fhir/sid/icd-10", "F84.0")}, True),
        ({"code": concept("http://hl7.org/fhir/sid/icd-10", "F32.1")}, False),
        ({"code": {"text": "Specific learning difficulty"}}, False),
        (
            {
                "verificationStatus": concept(
                    "http://terminology.hl7.org/CodeSystem/condition-ver-status", "refuted"
                )
            },
            False,
        ),
    ],
)
async def test_refer_takes_a_confirmed_learning_disability_or_autism(
    unknown: Chart, elements: JSON, counts: bool
) -> None:
    await young_person(unknown)
    await diagnosed(unknown, **elements)
    assert (await refer(unknown)).status_code == (200 if counts else 422)


async def test_refer_takes_nobody_twice(unknown: Chart) -> None:
    await young_person(unknown)
    assert (await refer(unknown)).status_code == 200
    assert "referred already" in told(await refer(unknown))


# $allocate ---------------------------------------------------------------------------------------


async def _waiting(chart: Chart) -> None:
    await chart.open(state="awaiting-allocation")
    found = await episode(chart)
    for name in ("careManager", "team"):
        del found[name]
    await chart.write(found)
    await chart.write({"resourceType": "PractitionerRole", "id": "other"})


async def test_allocate_names_the_keyworker_and_begins_keyworking(unknown: Chart) -> None:
    await _waiting(unknown)
    answer = await operate(unknown, "allocate", keyworker=OTHER)
    assert answer.status_code == 200, answer.text
    assert problems(answer.json(), definition("allocate.json")) == []
    found = await episode(unknown)
    assert (await unknown.state(), found["careManager"]) == ("information-gathering", OTHER)
    (team,) = await unknown.all("CareTeam")
    assert found["team"] == [{"reference": f"CareTeam/{team['id']}"}]
    times = {one["member"]["reference"]: "end" in one["period"] for one in team["participant"]}
    assert times == {KEYWORKER["reference"]: True, OTHER["reference"]: False}
    assert (await unknown.tasks())["contact-family"]["owner"] == OTHER


async def test_allocate_hands_an_involvement_over_with_its_open_tasks(unknown: Chart) -> None:
    await _waiting(unknown)
    await operate(unknown, "allocate", keyworker=KEYWORKER)
    await operate(unknown, "allocate", keyworker=OTHER)
    assert await unknown.state() == "information-gathering"
    assert {task["owner"]["reference"] for task in await unknown.all("Task")} == {
        OTHER["reference"]
    }


async def test_allocate_needs_the_consent_and_somebody_who_is_known(unknown: Chart) -> None:
    await _waiting(unknown)
    await unknown.consent("keyworking", status="inactive")
    assert "No consent to keyworking" in told(await operate(unknown, "allocate", keyworker=OTHER))
    nobody = {"reference": "PractitionerRole/nobody"}
    assert "not known" in told(await operate(unknown, "allocate", keyworker=nobody))
    patient = {"reference": unknown.patient}
    assert "is no keyworker" in told(await operate(unknown, "allocate", keyworker=patient))


@pytest.fixture
async def small(settings: Settings) -> Any:
    """An area where two are enough, and more than three need a reason."""
    bounds = {"caseload_warning": 1, "caseload_limit": 2}
    app = create_app(settings.model_copy(update=bounds))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, app.state.store)


async def test_allocate_warns_of_many_and_asks_for_a_reason_beyond(small: Chart) -> None:
    await _waiting(small)
    found = await episode(small)
    active = [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "plan-active"}]
    for number in range(3):
        await small.write({"resourceType": "Patient", "id": f"p{number}"})
        other = {**found, "id": f"e{number}", "status": "active", "extension": active}
        del other["meta"]
        other["patient"] = {"reference": f"Patient/p{number}"}
        await small.write({**other, "careManager": OTHER if number else KEYWORKER})
    answer = await operate(small, "allocate", keyworker=KEYWORKER)
    parts = {part["name"]: part for part in answer.json()["parameter"]}
    assert parts["caseload"]["valueInteger"] == 2
    assert "2 involvements with this one; up to 1 are advised" in parts["warning"]["valueString"]
    assert "give a reason" in told(await operate(small, "allocate", keyworker=OTHER))
    answer = await operate(small, "allocate", keyworker=OTHER, reason="She knows the family")
    assert answer.status_code == 200


# $close ------------------------------------------------------------------------------------------


async def test_close_tells_what_is_open_or_ends_it_with_the_reason(unknown: Chart) -> None:
    await _waiting(unknown)
    await operate(unknown, "allocate", keyworker=KEYWORKER)
    said = told(await operate(unknown, "close", reason="moved-away"))
    assert "Goal/goal is active" in said
    assert said.count("is open (") == 3
    answer = await operate(unknown, "close", reason="moved-away", end_tasks=True, end_goals=True)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    why = extension_of(found, canonicals.CLOSE_REASON_EXTENSION)["valueCodeableConcept"]
    assert (found["status"], code_of(why)) == ("finished", "moved-away")
    tasks = (await unknown.tasks("cancelled")).values()
    texts = {task["statusReason"]["text"] for task in tasks}
    assert texts == {"Keyworking has ended: moved-away"}
    assert [plan["status"] for plan in await unknown.all("CarePlan")] == ["completed"]


async def test_close_takes_a_reason_of_the_code_system_alone(chart: Chart) -> None:
    said = told(await operate(chart, "close", reason="bored"))
    assert "'bored' is no reason to close; allowed: stepped-down" in said


# Which task comes first --------------------------------------------------------------------------


async def test_the_family_is_contacted_before_the_team_and_both_before_the_visit(
    unknown: Chart,
) -> None:
    await _waiting(unknown)
    await operate(unknown, "allocate", keyworker=KEYWORKER)
    tasks = await unknown.tasks()

    async def complete(code: str) -> httpx.Response:
        sent = {**tasks[code], "status": "completed"}
        given = body(sent)
        given["headers"]["if-match"] = f'W/"{sent["meta"]["versionId"]}"'
        return await unknown.client.put(f"Task/{sent['id']}", **given)

    said = told(await complete("first-visit"))
    assert "contact-family comes before first-visit" in said
    assert "contact-mdt comes before first-visit" in said
    assert "contact-family comes before" in told(await complete("contact-mdt"))
    for code in ("contact-family", "contact-mdt", "first-visit"):
        assert (await complete(code)).status_code == 200


# Consent that has ended --------------------------------------------------------------------------


async def _write(chart: Chart, resource: JSON) -> httpx.Response:
    given = body(resource)
    given["headers"]["if-match"] = f'W/"{resource["meta"]["versionId"]}"'
    return await chart.client.put(f"{resource['resourceType']}/{resource['id']}", **given)


@pytest.mark.parametrize("status", ["inactive", "rejected"])
async def test_plans_and_goals_are_not_written_once_consent_has_ended(
    chart: Chart, status: str
) -> None:
    await chart.consent("keyworking", status=status)
    for kind in ("CarePlan", "Goal"):
        (found,) = await chart.all(kind)
        answer = await _write(chart, {**found, "language": "en-GB"})
        assert "consent to keyworking has ended" in told(answer)
        assert outcome_issues(answer)[0]["expression"] == [f"{kind}.subject"]
    assert await chart.state() == "plan-active"
    (task,) = await timers(chart, "review-consent")
    assert task["focus"] == {"reference": "Consent/consent-keyworking"}
    assert due(task) == working_days_after(TODAY, 5).isoformat()


async def test_plans_and_goals_are_written_again_once_there_is_consent(chart: Chart) -> None:
    await chart.consent("keyworking", status="inactive")
    await chart.consent("keyworking")
    for kind in ("CarePlan", "Goal"):
        (found,) = await chart.all(kind)
        assert (await _write(chart, {**found, "language": "en-GB"})).status_code == 200
    assert await timers(chart, "review-consent") == []
    assert len(await timers(chart, "review-consent", "cancelled")) == 1


async def test_a_plan_may_be_ended_without_consent(chart: Chart) -> None:
    await chart.consent("keyworking", status="inactive")
    (goal,) = await chart.all("Goal")
    assert (await _write(chart, {**goal, "lifecycleStatus": "cancelled"})).status_code == 200


async def test_a_consent_to_the_register_stops_no_plan(chart: Chart) -> None:
    await chart.consent("register", status="inactive")
    (plan,) = await chart.all("CarePlan")
    assert (await _write(chart, {**plan, "language": "en-GB"})).status_code == 200


async def test_a_consent_that_ended_stops_a_move_that_is_keyworking(unknown: Chart) -> None:
    await unknown.open(state="planning")
    await unknown.consent("keyworking", status="inactive")
    assert "consent to keyworking has ended" in told(await by_operation(unknown, "plan-active"))


async def test_a_parent_s_consent_that_the_16th_birthday_ended_is_no_withdrawal(
    chart: Chart,
) -> None:
    reached = concept(canonicals.CONSENT_STATUS_REASON, "ROLE_DEACTIVATED_END_DATE_REACHED")
    why = {"url": canonicals.CONSENT_STATUS_REASON_EXTENSION, "valueCodeableConcept": reached}
    await chart.consent("keyworking", status="inactive", extension=[why])
    (plan,) = await chart.all("CarePlan")
    assert (await _write(chart, {**plan, "language": "en-GB"})).status_code == 200


async def test_a_consent_that_ran_out_is_no_withdrawal(chart: Chart) -> None:
    (consent,) = [one for one in await chart.all("Consent") if one["id"].endswith("keyworking")]
    period = {"start": "2025-01-05", "end": "2025-02-05"}
    await chart.write({**consent, "provision": {"type": "permit", "period": period}})
    (plan,) = await chart.all("CarePlan")
    assert (await _write(chart, {**plan, "language": "en-GB"})).status_code == 200
    (task,) = await timers(chart, "review-consent")
    assert task["focus"] == {"reference": "Consent/consent-keyworking"}
