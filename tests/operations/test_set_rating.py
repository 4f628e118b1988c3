"""Patient/$set-rating, $remove-rating and the suggestion that is applied."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.asking import got
from tests.operations.chart import KEYWORKER, Chart, code_of, everything, extension_of
from tests.operations.messages import JSON, Spell
from tests.support import assert_outcome, body, exact, write_over

NOW = datetime.now(LOCAL).replace(microsecond=0)
HOME = NOW - timedelta(days=3)
WHY = "She has had a hard week at school"


def parameters(**given: Any) -> dict[str, Any]:
    kinds = {"rating": "valueCode", "role": "valueCode", "evidence": "valueReference"}
    kinds |= {"why": "valueCode", "override": "valueBoolean", "apply": "valueBoolean"}
    kinds |= {"avoided": "valueBoolean"}
    made = [
        {"name": name, kinds.get(name, "valueString"): one}
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return body({"resourceType": "Parameters", "parameter": made})


async def rate(chart: Chart, rating: str, **given: Any) -> httpx.Response:
    sent = parameters(rating=rating, **{"reason": WHY, **given})
    return await chart.client.post(f"{chart.patient}/$set-rating", **sent)


async def remove(chart: Chart, reason: str, **given: Any) -> httpx.Response:
    sent = parameters(**given, why=reason)
    sent["content"] = sent["content"].replace(b'"why"', b'"reason"')
    return await chart.client.post(f"{chart.patient}/$remove-rating", **sent)


def flag_of(answer: httpx.Response) -> JSON:
    assert answer.status_code == 200, answer.text
    flag: JSON = exact(answer)
    assert flag["resourceType"] == "Flag"
    return flag


def end_reason(flag: JSON) -> str:
    value = extension_of(flag, canonicals.RATING_END_REASON_EXTENSION)["valueCodeableConcept"]
    return code_of(value)


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    stay = Spell(chart.nhs_number, NOW - timedelta(days=30))
    await chart.tell(stay.admit())
    return stay


@pytest.fixture
async def home(chart: Chart, stay: Spell) -> str:
    """Discharged; the first day on which red is not held any more."""
    await chart.tell(stay.discharge(HOME))
    return (HOME.date() + timedelta(days=14)).isoformat()


async def test_a_stay_that_is_to_begin_holds_no_rating(chart: Chart) -> None:
    ahead = Spell(chart.nhs_number, NOW + timedelta(days=5)).encounter()
    await chart.write({**ahead, "id": "ahead", "subject": {"reference": chart.patient}})
    assert code_of(flag_of(await rate(chart, "green"))["code"]) == "green"
    suggested = await chart.client.get(f"{chart.patient}/$admission-risk")
    assert "R-BLUE-INPATIENT" not in suggested.text
    opened = await chart.client.post(f"{chart.patient}/$discharge-plan")
    assert_outcome(opened, 404, "not-found", "has no discharge plan")


# Giving a rating -------------------------------------------------------------------------------


async def test_who_has_no_keyworker_yet_is_rated(chart: Chart) -> None:
    involvement = "EpisodeOfCare/involvement"
    etag = (await chart.client.get(involvement)).headers["etag"]
    gone = await chart.client.delete(involvement, headers={"If-Match": etag})
    assert gone.status_code == 204, gone.text
    assert code_of(flag_of(await rate(chart, "red"))["code"]) == "red"


async def test_a_rating_says_who_why_and_on_what(chart: Chart) -> None:
    await chart.answers("placement-breakdown")
    evidence = [{"reference": "QuestionnaireResponse/answers"}, {"reference": "CarePlan/plan"}]
    flag = flag_of(await rate(chart, "red", evidence=evidence))
    assert (flag["status"], code_of(flag["code"])) == ("active", "red")
    assert flag["author"] == KEYWORKER
    note = extension_of(flag, canonicals.FLAG_NOTES_EXTENSION)["valueAnnotation"]
    assert note["text"] == WHY
    details = [
        one["valueReference"]
        for one in flag["extension"]
        if one["url"] == canonicals.FLAG_DETAIL_EXTENSION
    ]
    assert details == evidence
    assert await chart.rating() == flag


async def test_the_rating_before_is_superseded_and_its_history_stays(chart: Chart) -> None:
    flag_of(await rate(chart, "red"))
    flags = {code_of(flag["code"]): flag for flag in await chart.all("Flag")}
    assert flags["amber"]["status"] == "inactive"
    assert end_reason(flags["amber"]) == "superseded"
    assert flags["amber"]["period"]["end"] == flags["red"]["period"]["start"]
    history = await chart.client.get("Flag/amber-2026-01-05/_history")
    assert [entry["resource"]["status"] for entry in history.json()["entry"]] == [
        *("inactive", "active")
    ]


async def test_a_rating_may_be_confirmed(chart: Chart) -> None:
    flag_of(await rate(chart, "amber"))
    assert [flag["status"] for flag in await chart.all("Flag")].count("active") == 1
    assert len(await chart.all("Flag")) == 2


async def test_ten_at_once_leave_one_active(chart: Chart) -> None:
    colours = ["red", "amber", "green", "red", "amber"] * 2
    answers = await asyncio.gather(*(rate(chart, colour) for colour in colours))
    assert [answer.status_code for answer in answers] == [200] * 10
    flags = await chart.all("Flag")
    assert len(flags) == 11
    active = [flag for flag in flags if flag["status"] == "active"]
    assert len(active) == 1
    assert {end_reason(flag) for flag in flags if flag not in active} == {"superseded"}


async def test_without_consent_to_the_register_there_is_no_rating(chart: Chart) -> None:
    await chart.consent("register", status="inactive")
    before = await everything(chart.store)
    assert_outcome(await rate(chart, "red"), 422, "business-rule", "No active Consent", "Consent")
    assert await everything(chart.store) == before


async def test_everything_that_is_missing_is_told(chart: Chart) -> None:
    await chart.consent("register", status="inactive")
    answer = await rate(chart, "blue")
    assert_outcome(answer, 422, "business-rule", "Blue means in hospital, and no stay")
    assert len(answer.json()["issue"]) == 2


async def test_nobody_rates_somebody_who_has_died(chart: Chart) -> None:
    patient = (await chart.client.get(chart.patient)).json()
    await chart.write({**patient, "deceasedDateTime": "2026-06-01"})
    assert_outcome(await rate(chart, "green"), 422, "business-rule", "has died")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rating": "purple"}, "'purple' is no rating; red, amber, green, blue are allowed"),
        ({"reason": "  "}, "'reason' says why, in 1 to 2000 characters"),
        ({"role": "chief"}, "'chief' is no role; keyworker, family-support-worker"),
    ],
)
async def test_bad_input_is_told(chart: Chart, given: dict[str, str], text: str) -> None:
    sent = {"rating": "green", **given}
    (name,) = given
    place = f"Parameters.parameter.where(name='{name}')"
    assert_outcome(await rate(chart, **sent), 400, "invalid", text, place)


@pytest.mark.parametrize("left_out", ["rating", "reason"])
async def test_rating_and_reason_are_required(chart: Chart, left_out: str) -> None:
    given = {"rating": "red", "reason": WHY}
    del given[left_out]
    answer = await chart.client.post(f"{chart.patient}/$set-rating", **parameters(**given))
    assert_outcome(answer, 400, "required", f"'{left_out}' is missing")


@pytest.mark.parametrize("reference", ["Condition/none", "Patient/other", "Observation/others"])
async def test_evidence_is_of_the_same_young_person(chart: Chart, reference: str) -> None:
    await chart.write({"resourceType": "Patient", "id": "other", "birthDate": "2011-01-01"})
    observation = {"resourceType": "Observation", "id": "others", "status": "final"}
    about = {"code": {"text": "x"}, "subject": {"reference": "Patient/other"}}
    await chart.write({**observation, **about})
    answer = await rate(chart, "red", evidence=[{"reference": reference}])
    assert_outcome(answer, 422, "business-rule", f"'{reference}' is nothing that is known of")


async def test_of_somebody_unknown_is_not_found(unknown: Chart) -> None:
    assert_outcome(await rate(unknown, "red"), 404, "not-found", "is not known")
    assert_outcome(await remove(unknown, "step-down"), 404, "not-found", "is not known")


# What holds it ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("stay")
@pytest.mark.parametrize("colour", ["red", "amber", "green"])
async def test_blue_holds_while_in_hospital(chart: Chart, colour: str) -> None:
    assert_outcome(await rate(chart, colour), 422, "business-rule", "blue until the discharge")
    assert await chart.colour() == "blue"
    flag = flag_of(await rate(chart, "blue"))
    assert flag["encounter"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}


@pytest.mark.parametrize("colour", ["amber", "green"])
async def test_red_holds_for_fourteen_days_after_discharge(
    chart: Chart, home: str, colour: str
) -> None:
    answer = await rate(chart, colour)
    assert_outcome(answer, 422, "business-rule", f"red at least until {home}")
    assert "'override' true with a 'role'" in answer.text
    assert await chart.colour() == "red"


async def test_red_is_given_again_with_its_hold(chart: Chart, home: str) -> None:
    flag = flag_of(await rate(chart, "red"))
    assert extension_of(flag, canonicals.MINIMUM_UNTIL_EXTENSION)["valueDate"] == home


async def test_after_fourteen_days_red_is_not_held_any_more(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(NOW - timedelta(days=14)))
    assert await chart.colour() == "red"
    assert code_of(flag_of(await rate(chart, "amber"))["code"]) == "amber"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("role", [None, "parent-carer", "advocate"])
async def test_an_override_needs_a_professional_role(chart: Chart, role: str | None) -> None:
    given = {"override": True} | ({"role": role} if role else {})
    place = "Parameters.parameter.where(name='role')"
    assert_outcome(await rate(chart, "green", **given), 422, "business-rule", "role", place)
    assert await chart.colour() == "red"


async def test_an_override_says_that_it_is_one(chart: Chart, home: str) -> None:
    flag = flag_of(await rate(chart, "amber", override=True, role="camhs"))
    note = extension_of(flag, canonicals.FLAG_NOTES_EXTENSION)["valueAnnotation"]
    assert note["authorString"] == "camhs"
    assert WHY in note["text"]
    assert "set lower on purpose, by camhs: Discharged not long ago" in note["text"]
    assert home in note["text"]
    assert await chart.colour() == "amber"


@pytest.mark.usefixtures("stay")
async def test_an_override_in_hospital_stays_when_the_stay_is_told_again(
    chart: Chart, stay: Spell
) -> None:
    flag_of(await rate(chart, "amber", override=True, role="keyworker"))
    await chart.tell(stay.update())
    assert await chart.colour() == "amber"


@pytest.mark.usefixtures("home")
async def test_a_plain_write_does_not_set_it_lower_either(chart: Chart) -> None:
    flag = await chart.rating()
    assert flag is not None
    made = {name: one for name, one in flag.items() if name not in ("id", "meta", "extension")}
    green = {"coding": [{"system": canonicals.DSR_RATING, "code": "green"}]}
    lower = {**made, "code": green, "period": {"start": NOW.isoformat()}}
    answers = [
        await chart.client.post("Flag", **body(lower)),
        await write_over(chart.client, {**flag, "code": green}),
    ]
    for answer in answers:
        assert_outcome(answer, 422, "business-rule", "$set-rating sets it lower", "Flag.code")
    assert await chart.rating() == flag


@pytest.mark.usefixtures("home")
async def test_a_rating_of_before_is_recorded_still(chart: Chart) -> None:
    await chart.rate("green", "2026-02-01")
    assert await chart.colour() == "red"


# Removing it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["step-down", "consent-withdrawn", "aged-out", "deceased", "added-in-error"]
)
async def test_a_rating_is_removed_for_a_reason(chart: Chart, reason: str) -> None:
    flag = flag_of(await remove(chart, reason, text="The family asked for it"))
    assert (flag["status"], end_reason(flag)) == ("inactive", reason)
    assert flag["period"]["end"]
    assert await chart.rating() is None
    assert_outcome(await remove(chart, reason), 422, "business-rule", "no active rating")


async def test_superseded_is_no_reason_to_remove(chart: Chart) -> None:
    text = "'superseded' is no reason to remove a rating; step-down, consent-withdrawn"
    assert_outcome(await remove(chart, "superseded"), 400, "invalid", text)
    answer = await chart.client.post(f"{chart.patient}/$remove-rating", **parameters(text=WHY))
    assert_outcome(answer, 400, "required", "'reason' is missing")


@pytest.mark.usefixtures("stay")
@pytest.mark.parametrize("reason", ["step-down", "aged-out", "added-in-error"])
async def test_blue_is_not_removed_by_accident(chart: Chart, reason: str) -> None:
    refused = await remove(chart, reason)
    assert_outcome(refused, 422, "business-rule", "blue until the discharge")
    no_text = await remove(chart, reason, override=True, role="camhs")
    assert_outcome(no_text, 422, "business-rule", "says why in 'text'")
    assert await chart.colour() == "blue"
    flag_of(await remove(chart, reason, override=True, role="camhs", text="Wrong child"))
    assert await chart.rating() is None


@pytest.mark.usefixtures("stay")
async def test_consent_that_is_withdrawn_ends_blue_as_well(chart: Chart) -> None:
    flag_of(await remove(chart, "consent-withdrawn"))
    assert await chart.rating() is None


# Applying the suggestion -----------------------------------------------------------------------


async def apply(chart: Chart, **given: Any) -> httpx.Response:
    return await chart.client.post(
        f"{chart.patient}/$admission-risk", **parameters(apply=True, **given)
    )


async def test_the_suggestion_is_applied_with_its_evidence(chart: Chart) -> None:
    await chart.answers("admission-48h")
    answer = await apply(chart, reason=WHY, role="camhs")
    assert answer.status_code == 200, answer.text
    (applied,) = [one for one in answer.json()["parameter"] if one["name"] == "applied"]
    flag = await chart.rating()
    assert flag is not None
    assert applied["valueReference"] == {"reference": f"Flag/{flag['id']}"}
    assert code_of(flag["code"]) == "red"
    detail = extension_of(flag, canonicals.FLAG_DETAIL_EXTENSION)["valueReference"]
    assert detail == {"reference": "QuestionnaireResponse/answers"}
    note = extension_of(flag, canonicals.FLAG_NOTES_EXTENSION)["valueAnnotation"]
    assert (note["text"], note["authorString"]) == (WHY, "camhs")


async def test_nothing_is_applied_without_a_reason_or_by_get(chart: Chart) -> None:
    before = await everything(chart.store)
    assert_outcome(await apply(chart), 400, "invalid", "'reason' says why")
    got = await chart.client.get(f"{chart.patient}/$admission-risk?apply=true&reason=x")
    assert_outcome(got, 405, "not-supported", "POST is allowed")
    assert await everything(chart.store) == before


async def test_nothing_is_applied_where_nothing_is_known(unknown: Chart) -> None:
    await unknown.write({"resourceType": "Patient", "id": "young-person"})
    assert_outcome(await apply(unknown, reason=WHY), 422, "business-rule", "Nothing is known")


async def test_nothing_is_applied_without_consent(chart: Chart) -> None:
    await chart.answers("admission-48h")
    await chart.consent("register", status="inactive")
    assert_outcome(await apply(chart, reason=WHY), 422, "business-rule", "No active Consent")


# An admission that was avoided -----------------------------------------------------------------


async def test_a_professional_declares_that_an_admission_was_avoided(chart: Chart) -> None:
    flag = flag_of(await rate(chart, "green", avoided=True, role="camhs"))
    assert extension_of(flag, canonicals.ADMISSION_AVOIDED_EXTENSION)["valueBoolean"] is True
    plain = flag_of(await rate(chart, "green", avoided=False))
    assert canonicals.ADMISSION_AVOIDED_EXTENSION not in {one["url"] for one in plain["extension"]}


@pytest.mark.parametrize(
    ("colour", "role", "text", "place"),
    [
        ("green", "", "says in which professional 'role'", "role"),
        ("green", "parent-carer", "says in which professional 'role'", "role"),
        ("red", "camhs", "the rating before is amber", "avoided"),
        ("amber", "camhs", "'avoided' goes with one that is lower", "avoided"),
    ],
)
async def test_it_is_declared_by_a_professional_with_a_lower_rating(
    chart: Chart, colour: str, role: str, text: str, place: str
) -> None:
    given = {"role": role} if role else {}
    answer = await rate(chart, colour, avoided=True, **given)
    expression = f"Parameters.parameter.where(name='{place}')"
    assert_outcome(answer, 422, "business-rule", text, expression)


async def test_it_is_declared_with_the_end_of_a_rating_too(chart: Chart) -> None:
    today = NOW.date().isoformat()
    query = f"$oversight-report?start={today}&end={today}"
    ended = flag_of(await remove(chart, "step-down", avoided=True, role="camhs"))
    why = extension_of(ended, canonicals.RATING_END_REASON_EXTENSION)["valueCodeableConcept"]
    assert extension_of(why, canonicals.ADMISSION_AVOIDED_EXTENSION)["valueBoolean"] is True
    assert extension_of(ended, canonicals.RATING_END_REASON_EXTENSION)
    groups = (await got(chart.client, query))["group"]
    assert "admissions-avoided" in {one["code"]["text"] for one in groups}


@pytest.mark.parametrize(
    ("reason", "given", "status", "text"),
    [
        ("step-down", {}, 422, "says in which professional 'role'"),
        ("aged-out", {"role": "camhs"}, 400, "'avoided' goes with the reason 'step-down'"),
    ],
)
async def test_with_an_end_it_is_declared_by_a_professional_for_a_lower_risk(
    chart: Chart, reason: str, given: dict[str, str], status: int, text: str
) -> None:
    answer = await remove(chart, reason, avoided=True, **given)
    code = "business-rule" if status == 422 else "invalid"
    assert_outcome(answer, status, code, text)


async def test_the_end_of_a_green_rating_avoids_no_admission(chart: Chart) -> None:
    await rate(chart, "green")
    answer = await remove(chart, "step-down", avoided=True, role="camhs")
    assert_outcome(answer, 422, "business-rule", "the rating before is green")


@pytest.mark.usefixtures("stay")
async def test_nobody_in_hospital_has_avoided_an_admission(chart: Chart) -> None:
    answer = await rate(chart, "green", avoided=True, role="camhs", override=True)
    text = "The young person is in hospital: no admission was avoided"
    assert text in {issue["diagnostics"] for issue in answer.json()["issue"]}
