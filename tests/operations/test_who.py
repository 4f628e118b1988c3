"""A Patient that is written plainly: a death, another date of birth, another NHS number."""

from datetime import timedelta
from typing import Any, Final

import pytest

from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.storage.clock import system_clock
from tests.clock import go_ahead
from tests.operations.chart import BORN, Chart, code_of, extension_of
from tests.operations.messages import Spell
from tests.operations.test_discharge import HOME
from tests.support import assert_outcome, body, create

OTHER: Final = nhs_number.synthetic(701)


async def corrected(chart: Chart, **changes: Any) -> Resource:
    """The Patient with changes; None takes an element away."""
    known = (await chart.client.get(chart.patient)).json() | changes
    return await chart.write({name: one for name, one in known.items() if one is not None})


async def end_state(chart: Chart) -> dict[str, Any]:
    """What is left of the service in the record."""
    (episode,) = await chart.all("EpisodeOfCare")
    told = [
        one.get("valueCode") or code_of(one["valueCodeableConcept"]) for one in episode["extension"]
    ]
    return {
        "episode": (episode["status"], sorted(told), "end" in episode["period"]),
        "ratings": [_ended(flag) for flag in await chart.all("Flag")],
        "plans": [one["status"] for one in await chart.all("CarePlan")],
        "consents": {one["id"]: one["status"] for one in await chart.all("Consent")},
        "tasks": {
            *(
                code_of(one["code"])
                for one in await chart.all("Task")
                if one["status"] == "requested"
            )
        },
    }


def _ended(flag: Resource) -> tuple[str, str]:
    why = extension_of(flag, canonicals.RATING_END_REASON_EXTENSION)
    return flag["status"], code_of(why["valueCodeableConcept"])


async def doubts(chart: Chart) -> list[Resource]:
    return [one for one in await chart.all("Task") if code_of(one["code"]) == "check-identity"]


@pytest.mark.parametrize(
    "death",
    [{"deceasedBoolean": True}, {"deceasedDateTime": "2026-06-01"}, {"deceasedDateTime": "2020"}],
    ids=["yes", "day", "before all of it"],
)
async def test_a_death_at_home_closes_the_involvement_with_care(
    chart: Chart, death: dict[str, Any]
) -> None:
    await corrected(chart, **death)
    assert await end_state(chart) == {
        "episode": ("finished", ["closed", "deceased"], True),
        "ratings": [("inactive", "deceased")],
        "plans": ["completed"],
        "consents": {"consent-keyworking": "inactive", "consent-register": "active"},
        "tasks": {"bereavement"},
    }


async def test_a_death_comes_to_the_same_whoever_tells_it(chart: Chart) -> None:
    """By the ward alone, by the Patient alone, and by both in either order."""
    spell = Spell(chart.nhs_number, HOME)
    await chart.tell(spell.admit())
    await corrected(chart, deceasedDateTime="2026-07-06")
    by_patient = await end_state(chart)
    await chart.tell(spell.discharge(HOME, to="79", method="4"))
    by_both = await end_state(chart)
    await corrected(chart, deceasedDateTime=None)
    by_ward = await end_state(chart)
    assert by_ward == by_both, "the stay still tells of it"
    more = {"root-cause-analysis"}
    assert by_both["tasks"] - more == by_patient["tasks"] - more == {"bereavement"}
    for element in ("episode", "ratings", "plans", "consents"):
        assert by_patient[element] == by_both[element], element


async def test_a_death_without_a_time_stays_at_when_it_was_first_on_record(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    await corrected(chart, deceasedBoolean=True)
    (amber,) = await chart.all("Flag")
    go_ahead(monkeypatch, 3_600_000_000)
    spell = Spell(chart.nhs_number, HOME - timedelta(days=9))
    await chart.tell(spell.admit())
    await chart.tell(spell.discharge(HOME))
    ended = {code_of(one["code"]): one["period"]["end"] for one in await chart.all("Flag")}
    assert ended["red"] == amber["period"]["end"]


async def test_nobody_is_asked_to_see_to_the_family_of_somebody_who_lives(chart: Chart) -> None:
    await corrected(chart, deceasedBoolean=True)
    assert "bereavement" in await chart.dues()
    await corrected(chart, deceasedBoolean=None)
    assert "bereavement" not in await chart.dues()


async def test_a_death_that_was_told_in_error_is_taken_back(chart: Chart) -> None:
    before = await chart.state(), await chart.colour()
    await corrected(chart, deceasedBoolean=True)
    await corrected(chart, deceasedBoolean=None)
    assert (await chart.state(), await chart.colour()) == before
    assert {one["status"] for one in await chart.all("Consent")} == {"active"}
    assert [one["status"] for one in await chart.all("CarePlan")] == ["active"]


async def test_a_death_that_was_told_in_error_is_taken_back_in_hospital_too(chart: Chart) -> None:
    await chart.tell(Spell(chart.nhs_number, HOME).admit())
    await corrected(chart, deceasedBoolean=True)
    await corrected(chart, deceasedBoolean=False)
    assert (await chart.state(), await chart.colour()) == ("in-hospital", "blue")


@pytest.mark.parametrize("status", ["draft", "revoked"])
async def test_a_plan_that_the_service_revoked_is_followed_again_and_no_other(
    chart: Chart, status: str
) -> None:
    """Of a stay that would have begun after a death, which then was none."""
    await chart.tell(Spell(chart.nhs_number, HOME).admit())
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "status": status})
    await corrected(chart, deceasedDateTime="2026-05-01")
    assert (await chart.discharge_plan() or {})["status"] == "revoked"
    await corrected(chart, deceasedDateTime=None)
    again = await chart.discharge_plan() or {}
    assert (again["status"], "note" in again) == (status, False)


async def test_a_death_that_is_to_come_is_refused(chart: Chart) -> None:
    known = (await chart.client.get(chart.patient)).json()
    tomorrow = instant(system_clock() + 48 * 3_600_000_000)
    answer = await chart.client.put(chart.patient, **body({**known, "deceasedDateTime": tomorrow}))
    assert_outcome(answer, 422, "business-rule", "is to come", "Patient.deceased")


async def test_another_date_of_birth_or_number_is_for_the_keyworker_to_look_at(
    chart: Chart,
) -> None:
    await corrected(chart, gender="female")
    assert await doubts(chart) == []
    await corrected(chart, birthDate="2010-05-15")
    [first] = await doubts(chart)
    assert "the date of birth" in first["description"]
    assert first["focus"] == first["for"] == {"reference": chart.patient}
    assert first["owner"] == {"reference": "PractitionerRole/keyworker"}
    assert first["meta"]["security"][0]["code"] == "TBOO"
    await corrected(chart, identifier=[{"system": canonicals.NHS_NUMBER, "value": OTHER}])
    assert len(await doubts(chart)) == 2


@pytest.mark.parametrize("how", ["create", "update"])
async def test_a_number_that_somebody_has_is_taken_and_who_has_it_hears_of_it(
    chart: Chart, how: str
) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}
    own = number if how == "create" else {**number, "value": OTHER}
    other = {"resourceType": "Patient", "birthDate": BORN, "identifier": [own]}
    made = await create(chart.client, other)
    if how == "update":
        assert await doubts(chart) == []
        await chart.write({**made, "identifier": [number]})
    [asked] = await doubts(chart)
    assert asked["focus"] == {"reference": f"Patient/{made['id']}"}
    assert "NHS number" in asked["description"]
    there = await chart.client.get(f"Task?patient=Patient/{made['id']}&_summary=count")
    assert there.json()["total"] == 0, "whoever writes the other learns nothing"
    await chart.write({**made, "identifier": [number], "gender": "male"})
    assert len(await doubts(chart)) == 1


async def test_test_data_and_what_is_not_in_use_are_in_no_doubt_until_it_is(chart: Chart) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}
    twin = {"resourceType": "Patient", "birthDate": BORN, "identifier": [number]}
    marked = {"tag": [{"system": canonicals.ACT_REASON, "code": "HTEST"}]}
    await create(chart.client, {**twin, "meta": marked})
    made = await create(chart.client, {**twin, "active": False})
    assert await doubts(chart) == []
    await chart.write({**made, "active": True})
    assert len(await doubts(chart)) == 1


async def test_messages_mean_the_record_that_is_in_use(chart: Chart) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}
    twin = {"resourceType": "Patient", "birthDate": BORN, "identifier": [number]}
    made = await create(chart.client, twin)
    admission = body(Spell(chart.nhs_number, HOME).admit())
    answer = await chart.client.post("$process-message", **admission)
    assert_outcome(answer, 409, "conflict", "2 resources of type Patient")
    await chart.write({**made, "active": False})
    assert (await chart.client.post("$process-message", **admission)).status_code == 200
    assert await chart.colour() == "blue"


async def test_who_is_not_in_the_service_has_nobody_to_ask(unknown: Chart) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": unknown.nhs_number}
    twin = {"resourceType": "Patient", "birthDate": BORN, "identifier": [number]}
    await create(unknown.client, twin)
    await create(unknown.client, twin)
    tasks = await unknown.client.get("Task?_summary=count")
    assert tasks.json()["total"] == 0
