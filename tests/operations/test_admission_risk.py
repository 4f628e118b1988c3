"""Patient/$admission-risk. Each rule of section 5.1 has a test that is named after its code."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import BORN, Chart, code_of, everything
from tests.operations.messages import JSON, Spell
from tests.operations.parameters import definition, problems
from tests.support import assert_outcome, body, exact

FOUR = ("unstable-mental-health", "challenging-behaviour", "unstable-environment")
CRISIS = "crisis-last-month"


def ago(**span: float) -> datetime:
    """By the clock on the wall, whenever clocks change."""
    return datetime.now(LOCAL).replace(microsecond=0) - timedelta(**span)


class Risk:
    """An answer, by name."""

    def __init__(self, answer: JSON) -> None:
        assert problems(answer, definition("admission_risk.json")) == []
        self._given: list[JSON] = answer.get("parameter", [])

    @property
    def rating(self) -> str | None:
        return next((p["valueCode"] for p in self._named("rating")), None)

    @property
    def registered(self) -> str | None:
        return next((self._parts(p)["rating"] for p in self._named("registered")), None)

    @property
    def missing(self) -> list[str]:
        return [parameter["valueString"] for parameter in self._named("missing")]

    @property
    def rules(self) -> dict[str, JSON]:
        """Parts of each rule that fired, by its code, in order."""
        fired = [self._parts(parameter) for parameter in self._named("rule")]
        assert all(rule["code"]["system"] == canonicals.RATING_RULE for rule in fired)
        return {rule["code"]["code"]: rule for rule in fired}

    def _named(self, name: str) -> list[JSON]:
        return [parameter for parameter in self._given if parameter["name"] == name]

    @staticmethod
    def _parts(parameter: JSON) -> JSON:
        return {
            part["name"]: next(value for name, value in part.items() if name != "name")
            for part in parameter["part"]
        }


async def ask(chart: Chart, **arguments: Any) -> httpx.Response:
    """By GET, and by POST with an empty body and an empty Parameters: all the same."""
    address = f"{chart.patient}/$admission-risk"
    got = await chart.client.get(address, **arguments)
    for request in ({}, body({"resourceType": "Parameters"})):
        assert (await chart.client.post(address, **request)).content == got.content
    return got


async def risk(chart: Chart) -> Risk:
    before = await everything(chart.store)
    answer = await ask(chart)
    assert answer.status_code == 200, answer.text
    assert await everything(chart.store) == before, "nothing is written"
    return Risk(exact(answer))


async def test_r_blue_inpatient(chart: Chart) -> None:
    await chart.answers(*FOUR, CRISIS, "admission-48h", "placement-breakdown")
    await chart.tell(Spell(chart.nhs_number, ago(days=3)).admit())
    found = await risk(chart)
    assert found.rating == "blue"
    assert next(iter(found.rules)) == "R-BLUE-INPATIENT"
    evidence = found.rules["R-BLUE-INPATIENT"]["evidence"]
    assert evidence == {"reference": f"Encounter/{(await chart.stay())['id']}"}


@pytest.mark.parametrize(
    ("status", "kind", "fires"),
    [
        ("in-progress", "IMP", True),
        ("onleave", "IMP", True),
        ("in-progress", "ACUTE", True),
        ("finished", "IMP", False),
        ("cancelled", "IMP", False),
        ("in-progress", "HH", False),
        ("in-progress", "AMB", False),
    ],
)
async def test_r_blue_inpatient_is_for_an_open_stay_alone(
    chart: Chart, status: str, kind: str, fires: bool
) -> None:
    stay = Spell(chart.nhs_number, ago(days=3)).encounter(
        id="stay",
        status=status,
        subject={"reference": chart.patient},
        **{"class": {"system": canonicals.ACT_CODE, "code": kind}},
    )
    await chart.write(stay)
    assert ("R-BLUE-INPATIENT" in (await risk(chart)).rules) is fires


async def test_r_red_four(chart: Chart) -> None:
    await chart.answers(*FOUR, CRISIS)
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == ("red", ["R-RED-FOUR"])
    assert found.rules["R-RED-FOUR"]["evidence"] == {"reference": "QuestionnaireResponse/answers"}


@pytest.mark.parametrize("left_out", [*FOUR, CRISIS])
async def test_r_red_four_needs_all_four(chart: Chart, left_out: str) -> None:
    await chart.answers(*{*FOUR, CRISIS} - {left_out})
    assert not (await risk(chart)).rules


async def test_r_red_48h(chart: Chart) -> None:
    await chart.answers("admission-48h")
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == ("red", ["R-RED-48H"])


async def test_r_red_postdischarge(chart: Chart) -> None:
    left = ago(days=13)
    await chart.tell(Spell(chart.nhs_number, left - timedelta(days=30)).discharge(left))
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == ("red", ["R-RED-POSTDISCHARGE"])
    until = (left.date() + timedelta(days=14)).isoformat()
    assert found.rules["R-RED-POSTDISCHARGE"]["text"].endswith(f"red until {until}")


async def test_r_red_postdischarge_holds_without_consent_too(unknown: Chart) -> None:
    await unknown.open()
    await unknown.consent("register", status="inactive")
    await unknown.tell(Spell(unknown.nhs_number, ago(days=40)).discharge(ago(days=2)))
    assert (await risk(unknown)).rating == "red"


async def test_r_red_postdischarge_ends_after_fourteen_days(chart: Chart) -> None:
    await chart.tell(Spell(chart.nhs_number, ago(days=40)).discharge(ago(days=14)))
    found = await risk(chart)
    assert not found.rules
    assert (found.rating, found.registered) == ("red", "red")


@pytest.mark.parametrize(("to", "method", "rating"), [("53", "1", "blue"), ("79", "4", None)])
async def test_r_red_postdischarge_is_not_for_a_transfer_or_a_death(
    chart: Chart, to: str, method: str, rating: str | None
) -> None:
    stay = Spell(chart.nhs_number, ago(days=9))
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(ago(days=2), to=to, method=method))
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == (rating, [])


@pytest.mark.parametrize("end", ["9999-12-31", "2199-01-01T00:00:00Z", None])
async def test_r_red_postdischarge_is_not_for_a_stay_that_has_not_ended_yet(
    chart: Chart, end: str | None
) -> None:
    period = {"start": "2026-01-01"} | ({"end": end} if end else {})
    subject = {"reference": chart.patient}
    stay = Spell(chart.nhs_number, ago(days=9)).encounter(
        id="stay", status="finished", period=period, subject=subject
    )
    await chart.write(stay)
    assert not (await risk(chart)).rules


INDICATORS = {
    "R-RED-HARM": "serious-harm",
    "R-RED-UNPLANNED-12M": "unplanned-admission-12m",
    "R-RED-CRISISTEAM-12M": "crisis-team-12m",
    "R-RED-OPTIONS-EXHAUSTED": "options-exhausted",
}


@pytest.mark.parametrize("near", ["admission-48h", "admission-2w"])
async def test_r_red_harm_with_an_admission_that_is_near(chart: Chart, near: str) -> None:
    await chart.answers("serious-harm", near)
    found = await risk(chart)
    assert found.rating == "red"
    assert "R-RED-HARM" in found.rules


async def _two(chart: Chart, code: str) -> None:
    """The indicator is red with any other, and alone it is not."""
    for other in INDICATORS.keys() - {code}:
        await chart.answers(INDICATORS[code], INDICATORS[other])
        found = await risk(chart)
        assert (found.rating, {*found.rules}) == ("red", {code, other})
    await chart.answers(INDICATORS[code])
    assert not (await risk(chart)).rules


async def test_r_red_harm(chart: Chart) -> None:
    await _two(chart, "R-RED-HARM")


async def test_r_red_unplanned_12m(chart: Chart) -> None:
    await _two(chart, "R-RED-UNPLANNED-12M")


async def test_r_red_crisisteam_12m(chart: Chart) -> None:
    await _two(chart, "R-RED-CRISISTEAM-12M")


async def test_r_red_options_exhausted(chart: Chart) -> None:
    await _two(chart, "R-RED-OPTIONS-EXHAUSTED")


async def _amber(chart: Chart, code: str, question: str) -> None:
    await chart.answers(question)
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == ("amber", [code])
    await chart.answers("serious-harm")
    assert code not in (await risk(chart)).rules


async def test_r_amber_2w(chart: Chart) -> None:
    await _amber(chart, "R-AMBER-2W", "admission-2w")


async def test_r_amber_placement(chart: Chart) -> None:
    await _amber(chart, "R-AMBER-PLACEMENT", "placement-breakdown")


async def test_r_amber_struggling(chart: Chart) -> None:
    await _amber(chart, "R-AMBER-STRUGGLING", "services-struggling")


async def test_r_green_managed(chart: Chart) -> None:
    await chart.answers()
    found = await risk(chart)
    assert (found.rating, found.registered) == ("green", "amber")
    assert [*found.rules] == ["R-GREEN-MANAGED"]
    await chart.answers(CRISIS)
    assert "R-GREEN-MANAGED" not in (await risk(chart)).rules


async def test_puts_the_weightiest_rule_first(chart: Chart) -> None:
    await chart.answers(*FOUR, CRISIS, "admission-48h", "admission-2w", "services-struggling")
    left = ago(days=2)
    await chart.tell(Spell(chart.nhs_number, left - timedelta(days=9)).discharge(left))
    await chart.tell(Spell(chart.nhs_number, ago(hours=3)).admit())
    found = await risk(chart)
    assert [rule["rating"] for rule in found.rules.values()] == [
        *("blue", "red", "red", "red", "amber", "amber")
    ]
    assert found.rating == "blue"


async def test_reads_the_newest_answers_that_are_complete(chart: Chart) -> None:
    await chart.answers("admission-48h")
    await chart.answers(id="newer", status="amended", authored="2026-05-02T09:00:00+01:00")
    await chart.answers("admission-2w", id="newest", status="in-progress", authored="2026-06-01")
    other = f"{canonicals.KW}/Questionnaire/other"
    await chart.answers("admission-2w", id="other", questionnaire=other, authored="2026-06-01")
    found = await risk(chart)
    assert [*found.rules] == ["R-GREEN-MANAGED"]
    assert found.rules["R-GREEN-MANAGED"]["evidence"] == {
        "reference": "QuestionnaireResponse/newer"
    }


@pytest.mark.parametrize(("until", "rating"), [("2999-01-01", "red"), ("2026-02-01", "amber")])
async def test_is_held_up_by_the_floor_of_the_registered_rating(
    unknown: Chart, until: str, rating: str
) -> None:
    await unknown.open()
    await unknown.rate("amber", "2026-01-05", status="inactive")
    floor = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": until}
    await unknown.rate("red", "2026-01-18", extension=[floor])
    await unknown.answers("services-struggling")
    found = await risk(unknown)
    assert (found.rating, found.registered) == (rating, "red")


async def test_falls_back_on_the_registered_rating_where_no_rule_holds(chart: Chart) -> None:
    found = await risk(chart)
    assert (found.rating, found.registered, found.rules) == ("amber", "amber", {})
    assert found.missing == ["Nobody has answered the risk questions"]


async def test_names_the_newest_of_two_active_ratings(chart: Chart) -> None:
    await chart.rate("green", "2026-02-01")
    assert (await risk(chart)).registered == "green"


@pytest.mark.parametrize("floor", ["2999-01-01", None])
async def test_takes_a_flag_of_an_unknown_colour_for_no_rating(
    unknown: Chart, older: Chart, floor: str | None
) -> None:
    await unknown.open()
    held = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": floor}
    await older.rate("purple", "2026-02-01", **({"extension": [held]} if floor else {}))
    await unknown.answers("services-struggling")
    assert (await risk(unknown)).registered == "amber"
    await unknown.rate("amber", "2026-01-05", status="inactive")
    found = await risk(unknown)
    assert (found.rating, found.registered) == ("amber", None)
    assert "There is no rating on the register" in found.missing


async def test_tells_what_is_missing(unknown: Chart) -> None:
    await unknown.write({**Spell(unknown.nhs_number, ago()).patient(), "id": "young-person"})
    found = await risk(unknown)
    assert (found.rating, found.registered, found.rules) == (None, None, {})
    assert found.missing == [
        "Nobody has answered the risk questions",
        "The date of birth is not known to the day",
        "No consent to be on the register is recorded",
    ]
    await unknown.consent("register")
    await unknown.write({"resourceType": "Patient", "id": "young-person", "birthDate": BORN})
    await unknown.answers(authored=ago(days=89).isoformat())
    assert (await risk(unknown)).missing == ["There is no rating on the register"]


async def test_tells_that_the_answers_are_old_or_not_complete(chart: Chart) -> None:
    answers = await chart.answers(authored=ago(days=91).isoformat())
    day = ago(days=91).date().isoformat()
    old = f"The answers to the risk questions are of {day}, older than 90 days"
    assert (await risk(chart)).missing == [old]
    first = answers["item"][0]["linkId"]
    await chart.write({**answers, "item": answers["item"][1:]})
    assert (await risk(chart)).missing == [f"Risk questions have no answer: {first}", old]


async def test_r_factors(chart: Chart) -> None:
    """They are told, and carry no weight."""
    response = await chart.answers("services-struggling")
    factors = {"linkId": "factors", "answer": [{"valueString": "Has lost her school place"}]}
    items = [item for item in response["item"] if item["linkId"] != "factors"]
    await chart.write({**response, "item": [*items, factors]})
    found = await risk(chart)
    assert (found.rating, [*found.rules]) == ("amber", ["R-AMBER-STRUGGLING", "R-FACTORS"])
    assert found.rules["R-FACTORS"]["text"].endswith("Has lost her school place")
    assert "rating" not in found.rules["R-FACTORS"]


@pytest.mark.parametrize(
    ("days", "method", "fires"), [(360, "25", True), (370, "25", False), (360, "11", False)]
)
async def test_r_red_unplanned_12m_is_seen_in_the_stays(
    chart: Chart, days: int, method: str, *, fires: bool
) -> None:
    await chart.answers("crisis-team-12m")
    spell = Spell(chart.nhs_number, ago(days=days), method=method)
    await chart.tell(spell.discharge(ago(days=300)))
    rules = (await risk(chart)).rules
    assert ("R-RED-UNPLANNED-12M" in rules) is fires
    assert ("R-RED-CRISISTEAM-12M" in rules) is fires


async def test_reads_records_whose_status_is_not_told(chart: Chart) -> None:
    absent = {"extension": [{"url": "https://example.org/why", "valueCode": "unknown"}]}
    subject = {"reference": chart.patient}
    stay = Spell(chart.nhs_number, ago()).encounter(id="s", subject=subject, _status=absent)
    del stay["status"]
    await chart.write(stay)
    assert (await risk(chart)).rating == "amber"


async def test_of_somebody_unknown_is_not_found(unknown: Chart) -> None:
    assert_outcome(await ask(unknown), 404, "not-found", "Patient/young-person is not known")


async def test_of_somebody_deleted_is_not_found(unknown: Chart) -> None:
    await unknown.write({"resourceType": "Patient", "id": "young-person"})
    await unknown.client.delete(unknown.patient)
    assert_outcome(await ask(unknown), 404, "not-found", "Patient/young-person is not known")


async def test_takes_no_other_parameters(chart: Chart) -> None:
    response = await chart.client.get(f"{chart.patient}/$admission-risk?date=2026-01-01")
    text = "'date' is not a parameter of $admission-risk; allowed: apply, reason, role"
    assert_outcome(response, 400, "invalid", text, "http.date")


@pytest.mark.parametrize("address", ["$admission-risk", "Patient/$admission-risk"])
async def test_is_asked_of_one_patient_alone(chart: Chart, address: str) -> None:
    assert_outcome(await chart.client.get(address), 404, "not-found", "There is no operation")


async def test_agrees_with_the_register_after_each_step_of_a_stay(chart: Chart) -> None:
    stay = Spell(chart.nhs_number, ago(days=20))
    for step, colour in ((stay.admit(), "blue"), (stay.discharge(ago(days=1)), "red")):
        await chart.tell(step)
        found, flag = await risk(chart), await chart.rating()
        assert flag is not None
        assert found.rating == found.registered == code_of(flag["code"]) == colour
