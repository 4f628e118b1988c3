"""$process-message, A01: https://hl7.org/fhir/R4/messageheader-operation-process-message.html"""

from datetime import datetime, timedelta

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.operations.chart import KEYWORKER, Chart, code_of, concept, extension_of
from tests.operations.messages import (
    JSON,
    PLANNED,
    SPELL,
    STAY,
    SUBJECT,
    Spell,
    changed,
    detained,
    notification,
)

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
"""A Wednesday."""


def spell(chart: Chart, start: datetime = ADMITTED, **elements: str) -> Spell:
    return Spell(chart.nhs_number, start, **elements)


async def test_stores_the_stay_by_its_spell_id_and_links_it_to_the_involvement(
    chart: Chart,
) -> None:
    stay = spell(chart)
    await chart.tell(stay.admit())
    stored = await chart.stay()
    assert stored["identifier"] == [{"system": SPELL, "value": stay.value}]
    assert (stored["status"], stored["subject"]) == ("in-progress", {"reference": chart.patient})
    assert stored["episodeOfCare"] == [{"reference": "EpisodeOfCare/involvement"}]


async def test_is_read_in_the_da_vinci_shape_too(chart: Chart) -> None:
    await chart.tell(notification("notification-admit", spell(chart).admit()))
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    assert await chart.discharge_plan()


async def test_is_read_whichever_order_encounter_and_patient_are_in_focus(chart: Chart) -> None:
    focus = [{"reference": SUBJECT}, {"reference": STAY}]
    await chart.tell(changed(spell(chart).admit(), 0, focus=focus))
    assert await chart.colour() == "blue"


async def test_turns_the_rating_blue_and_ends_the_one_before(chart: Chart) -> None:
    await chart.tell(spell(chart).admit())
    blue = await chart.rating()
    assert blue is not None
    assert code_of(blue["code"]) == "blue"
    assert blue["period"] == {"start": "2026-06-03T19:40:00+01:00"}
    assert blue["encounter"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}
    (amber,) = [flag for flag in await chart.all("Flag") if flag["status"] == "inactive"]
    assert amber["id"] == "amber-2026-01-05"
    assert amber["period"] == {"start": "2026-01-05", "end": "2026-06-03T19:40:00+01:00"}
    reason = extension_of(amber, canonicals.RATING_END_REASON_EXTENSION)
    assert reason["valueCodeableConcept"] == concept(canonicals.RATING_END_REASON, "superseded")


async def test_turns_blue_over_a_rating_that_was_given_after_it_and_before_it_was_told(
    chart: Chart,
) -> None:
    await chart.rate("red", "2026-06-03T21:00:00+01:00")
    await chart.tell(spell(chart).admit())
    assert await chart.colour() == "blue"


async def test_leaves_the_rating_of_a_later_stay(chart: Chart) -> None:
    later = spell(chart, ADMITTED + timedelta(days=9))
    await chart.tell(later.admit())
    said = await chart.tell(spell(chart).admit())
    assert any("A later rating stands: blue" in text for text in said)
    rating = await chart.rating()
    assert rating is not None
    assert rating["period"]["start"].startswith("2026-06-12")


@pytest.mark.parametrize(
    "consent",
    [
        {"status": "proposed"},
        {"status": "inactive"},
        {"provision": {"type": "deny"}},
        {"provision": {"period": {"end": "2026-01-31"}}},
        {"provision": {"period": {"start": "2999-01-01"}}},
    ],
)
async def test_without_a_consent_that_counts_gives_no_rating_and_has_it_asked_for(
    unknown: Chart, older: Chart, consent: dict[str, object]
) -> None:
    await unknown.open()
    await older.consent("register", **consent)
    said = await unknown.tell(spell(unknown).admit())
    withdrawn = consent.get("status") == "inactive"
    assert await unknown.colour() == (None if withdrawn else "amber")
    assert any("not put on the register" in text for text in said)
    assert (await unknown.dues())["obtain-consent"] == "2026-06-10"
    assert await unknown.discharge_plan()


async def test_takes_a_consent_to_something_else_for_none(chart: Chart) -> None:
    await chart.consent("keyworking", id="consent-register")
    await chart.tell(spell(chart).admit())
    assert await chart.colour() == "amber"


async def test_takes_a_denial_as_stronger_than_a_permission(chart: Chart, older: Chart) -> None:
    await older.consent("register", id="denial", provision={"type": "deny"})
    await chart.tell(spell(chart).admit())
    assert await chart.colour() == "amber"


async def test_does_not_ask_for_a_consent_that_there_is(chart: Chart) -> None:
    await chart.tell(spell(chart).admit())
    assert "obtain-consent" not in await chart.tasks()


async def test_of_somebody_unknown_is_stored_without_a_rating(unknown: Chart) -> None:
    said = await unknown.tell(spell(unknown).admit())
    answer = await unknown.client.get(f"Patient?identifier={unknown.nhs_number}")
    (entry,) = answer.json()["entry"]
    assert "The young person is not known to the keyworking service" in said
    search = f"Flag?patient=Patient/{entry['resource']['id']}"
    assert not (await unknown.client.get(search)).json().get("entry")


async def test_opens_the_discharge_plan_as_a_draft_on_the_same_day(chart: Chart) -> None:
    await chart.tell(spell(chart).admit())
    plan = await chart.discharge_plan()
    assert plan is not None
    assert (plan["status"], plan["intent"], plan["period"]) == (
        "draft",
        "plan",
        {"start": "2026-06-03"},
    )
    assert plan["partOf"] == [{"reference": "CarePlan/plan"}]
    assert plan["goal"] == [{"reference": "Goal/goal"}]
    assert plan["careTeam"] == [{"reference": "CareTeam/team"}]
    assert plan["encounter"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}


async def test_puts_the_fourteen_items_on_the_plan_with_what_is_due_when(chart: Chart) -> None:
    await chart.tell(spell(chart).admit())
    plan = await chart.discharge_plan()
    assert plan is not None
    details = [activity["detail"] for activity in plan["activity"]]
    assert [code_of(detail["code"]) for detail in details] == [i.code for i in DISCHARGE_ITEMS]
    assert len(details) == 14
    dues = {
        code_of(detail["code"]): detail.get("scheduledPeriod", {}).get("end") for detail in details
    }
    assert {code: due for code, due in dues.items() if due} == {
        "dp-start": "2026-06-03",
        "dp-voice": "2026-06-10",
        "dp-carers": "2026-06-10",
        "dp-cetr": "2026-06-17",
        "dp-planned-date": "2026-06-17",
    }
    waiting = [detail["scheduledString"] for detail in details if "scheduledString" in detail]
    assert len(waiting) == 9
    assert waiting[0] == "28 days before the planned discharge, once it is set"
    assert [detail["status"] for detail in details] == ["in-progress", *["not-started"] * 13]


@pytest.mark.parametrize(
    ("legal_status", "right"),
    [("01", False), ("02", False), ("03", True), ("20", False), ("15", True), ("38", True)],
)
async def test_notes_a_right_to_aftercare_by_the_legal_status(
    chart: Chart, legal_status: str, right: bool
) -> None:
    await chart.tell(spell(chart, legal_status=legal_status).admit())
    plan = await chart.discharge_plan()
    assert plan is not None
    assert extension_of(plan, canonicals.SECTION_117_EXTENSION)["valueBoolean"] is right


async def test_leaves_the_right_to_aftercare_open_where_a_legal_status_is_none(
    chart: Chart,
) -> None:
    stay = spell(chart, legal_status="77")
    said = await chart.tell(stay.admit())
    assert any("legal status 77 is not understood" in text for text in said)
    plan = await chart.discharge_plan()
    assert plan is not None
    urls = [one["url"] for one in plan.get("extension", ())]
    assert canonicals.SECTION_117_EXTENSION not in urls
    said = await chart.tell(stay.update(extension=[detained("03")]))
    assert any("right to aftercare under section 117" in text for text in said)
    plan = await chart.discharge_plan()
    assert plan is not None
    assert extension_of(plan, canonicals.SECTION_117_EXTENSION)["valueBoolean"] is True


async def test_keeps_the_right_to_aftercare_that_any_time_of_the_stay_gave(chart: Chart) -> None:
    stay = spell(chart)
    await chart.tell(stay.admit())
    said = await chart.tell(stay.update(extension=[detained("03")]))
    await chart.tell(stay.update(extension=[detained("01")]))
    plan = await chart.discharge_plan()
    assert plan is not None
    assert extension_of(plan, canonicals.SECTION_117_EXTENSION)["valueBoolean"] is True
    assert any("section 117" in text for text in said)


async def test_opens_the_first_tasks(chart: Chart) -> None:
    await chart.tell(spell(chart).admit())
    assert await chart.dues() == {
        "contact-hospital": "2026-06-04",
        "T-DPLAN-START": "2026-06-03",
        "T-OVERSIGHT-VISIT": "2026-07-15",
        "T-CETR-REPEAT": "2026-09-03",
        "T-CETR-POSTADM": "2026-06-17",
        "root-cause-analysis": "2026-07-01",
    }
    task = (await chart.tasks())["contact-hospital"]
    assert task["owner"] == KEYWORKER
    assert task["for"] == {"reference": chart.patient}
    assert task["focus"] == {"reference": f"Encounter/{(await chart.stay())['id']}"}


async def test_on_a_friday_has_the_hospital_contacted_on_monday(chart: Chart) -> None:
    friday = datetime.fromisoformat("2026-06-05T23:30:00+01:00")
    await chart.tell(spell(chart, friday).admit())
    assert (await chart.dues())["contact-hospital"] == "2026-06-08"


async def test_t_cetr_postadm_is_only_for_an_unplanned_admission(chart: Chart) -> None:
    await chart.tell(spell(chart, method=PLANNED).admit())
    dues = await chart.dues()
    assert "T-CETR-POSTADM" not in dues
    assert "root-cause-analysis" in dues


async def test_t_cetr_postadm_is_opened_when_nobody_says_that_it_was_planned(
    chart: Chart,
) -> None:
    await chart.tell(spell(chart).admit(hospitalization=None))
    assert (await chart.dues())["T-CETR-POSTADM"] == "2026-06-17"


@pytest.mark.parametrize("by", ["executionPeriod", "lastModified"])
async def test_t_cetr_postadm_is_not_for_somebody_reviewed_in_the_community(
    chart: Chart, by: str
) -> None:
    await chart.reviewed("T-CETR-COMMUNITY", "2026-05-01T15:00:00+01:00", by=by)
    await chart.tell(spell(chart).admit())
    dues = await chart.dues()
    assert not {"T-CETR-POSTADM", "root-cause-analysis"} & dues.keys()
    assert dues["T-CETR-REPEAT"] == "2026-08-01"


@pytest.mark.parametrize(
    ("code", "day"),
    [
        ("T-LAEP", "2026-06-02"),
        ("T-CETR-COMMUNITY", "2026-03-04"),
        ("T-CETR-COMMUNITY", "2026-06-04"),
    ],
    ids=["an emergency meeting", "too long ago", "after the admission"],
)
async def test_t_cetr_postadm_is_opened_whatever_else_took_place(
    chart: Chart, code: str, day: str
) -> None:
    await chart.reviewed(code, day)
    await chart.tell(spell(chart).admit())
    assert (await chart.dues())["T-CETR-POSTADM"] == "2026-06-17"


@pytest.mark.parametrize(
    ("born", "visit", "review"),
    [
        ("2008-06-04", "2026-07-15", "2026-09-03"),
        ("2008-06-03", "2026-07-29", "2026-12-03"),
        ("2008-02-29", "2026-07-29", "2026-12-03"),
        ("2008", "2026-07-15", "2026-09-03"),
    ],
    ids=["the day before 18", "18 today", "18 by a leap day", "born some day of 2008"],
)
async def test_dates_t_oversight_visit_and_t_cetr_repeat_by_age(
    unknown: Chart, born: str, visit: str, review: str
) -> None:
    await unknown.open(born=born)
    await unknown.tell(spell(unknown).admit())
    dues = await unknown.dues()
    assert (dues["T-OVERSIGHT-VISIT"], dues["T-CETR-REPEAT"]) == (visit, review)


def stay_type(*kinds: str) -> list[JSON]:
    return [concept(canonicals.STAY_TYPE, kind) for kind in kinds]


@pytest.mark.parametrize(
    ("born", "kinds", "review"),
    [
        ("2008-06-03", ["secure"], "2027-06-03"),
        ("2008-06-03", ["secure", "out-of-area"], "2027-06-03"),
        ("2008-06-04", ["secure"], "2026-09-03"),
    ],
    ids=["an adult", "out of the area too", "the day before 18"],
)
async def test_t_cetr_repeat_of_an_adult_in_a_secure_ward_is_a_year_on(
    unknown: Chart, born: str, kinds: list[str], review: str
) -> None:
    await unknown.open(born=born)
    await unknown.tell(spell(unknown).admit(type=stay_type(*kinds)))
    assert (await unknown.dues())["T-CETR-REPEAT"] == review


@pytest.mark.parametrize(
    ("kinds", "is_visited"),
    [([], True), (["out-of-area"], True), (["in-area"], False), (["in-area", "secure"], False)],
)
async def test_t_oversight_visit_is_not_to_a_hospital_in_the_area(
    chart: Chart, kinds: list[str], is_visited: bool
) -> None:
    await chart.tell(spell(chart).admit(type=stay_type(*kinds) or None))
    assert ("T-OVERSIGHT-VISIT" in await chart.dues()) is is_visited


async def test_t_oversight_visit_ends_when_the_hospital_turns_out_to_be_near(chart: Chart) -> None:
    stay = spell(chart)
    await chart.tell(stay.admit())
    assert "T-OVERSIGHT-VISIT" in await chart.dues()
    await chart.tell(stay.update(type=stay_type("in-area")))
    assert "T-OVERSIGHT-VISIT" not in await chart.dues()


async def test_counts_days_by_the_clock_in_england(chart: Chart) -> None:
    """Half past eleven in UTC, on the day on which summer time began, is a day later there."""
    await chart.tell(spell(chart, datetime.fromisoformat("2026-03-29T23:30:00+00:00")).admit())
    plan, rating = await chart.discharge_plan(), await chart.rating()
    assert plan is not None
    assert rating is not None
    assert plan["period"]["start"] == "2026-03-30"
    assert rating["period"]["start"] == "2026-03-30T00:30:00+01:00"
    assert (await chart.dues())["T-CETR-POSTADM"] == "2026-04-13"


async def test_t_cetr_repeat_falls_on_the_last_day_of_a_shorter_month(chart: Chart) -> None:
    await chart.tell(spell(chart, datetime.fromisoformat("2025-11-30T10:00:00Z")).admit())
    assert (await chart.dues())["T-CETR-REPEAT"] == "2026-02-28"


@pytest.mark.parametrize(
    "state",
    ["information-gathering", "planning", "plan-active", "discharge-planning", "step-down"],
)
async def test_moves_an_involvement_to_in_hospital(unknown: Chart, state: str) -> None:
    await unknown.open(state=state)
    await unknown.tell(spell(unknown).admit())
    assert await unknown.state() == "in-hospital"


@pytest.mark.parametrize("state", ["referred", "consent-pending", "awaiting-allocation"])
async def test_leaves_the_state_while_keyworking_has_not_begun(unknown: Chart, state: str) -> None:
    await unknown.open(state=state)
    await unknown.tell(spell(unknown).admit())
    assert await unknown.state() == state


async def test_keeps_demographics_as_they_are_known(chart: Chart) -> None:
    patient = {**spell(chart).patient(), "name": [{"family": "Misspelt"}], "birthDate": "2010-05"}
    message = spell(chart).admit()
    message["entry"][2]["resource"] = patient
    await chart.tell(message)
    answer = await chart.client.get(chart.patient)
    assert answer.json()["name"][0]["family"] == "Synthetic-Alder"
    assert answer.json()["meta"]["versionId"] == "1"


async def test_after_a_plain_entry_of_the_stay_still_has_its_effects(chart: Chart) -> None:
    """A pre-admission is known as `planned` already; the admission makes it more."""
    stay = spell(chart)
    await chart.tell(stay.update(status="planned"))
    await chart.tell(stay.admit())
    assert (await chart.stay())["status"] == "in-progress"
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")


FOLLOW_UP = ("T-FU-48", "T-FU-72", "T-FU-7D", "T-RED-HOLD")


async def test_after_a_discharge_cancels_the_follow_up_and_still_shares_the_plan(
    chart: Chart,
) -> None:
    await chart.condition(canonicals.SNOMED_CT, "401206008")
    await chart.tell(spell(chart, ADMITTED - timedelta(days=9)).discharge(ADMITTED))
    await chart.tell(spell(chart, ADMITTED + timedelta(days=1)).admit())
    tasks = await chart.tasks()
    for code in FOLLOW_UP:
        assert tasks[code]["status"] == "cancelled"
        assert tasks[code]["statusReason"] == {"text": "Admitted again"}
    assert tasks["T-CAREPLAN-SHARE"]["status"] == "requested"


async def test_after_a_discharge_leaves_a_follow_up_that_has_taken_place(chart: Chart) -> None:
    await chart.tell(spell(chart, ADMITTED - timedelta(days=9)).discharge(ADMITTED))
    task = (await chart.tasks())["T-FU-72"]
    done = await chart.write({**task, "status": "completed"})
    await chart.tell(spell(chart, ADMITTED + timedelta(days=1)).admit())
    assert (await chart.tasks())["T-FU-72"] == done


async def test_that_comes_late_leaves_the_follow_up_of_a_later_discharge(chart: Chart) -> None:
    later = spell(chart, ADMITTED + timedelta(days=5))
    await chart.tell(later.discharge(ADMITTED + timedelta(days=9)))
    await chart.tell(spell(chart).admit())
    assert {"T-FU-72", "T-FU-7D", "T-RED-HOLD"} <= (await chart.dues()).keys()


async def reviewed_by(chart: Chart, colour: str) -> None:
    review = {
        "resourceType": "Task",
        "id": f"review-{colour}",
        "status": "requested",
        "intent": "order",
        "code": concept(canonicals.TIMER, f"T-REVIEW-{colour.upper()}"),
        "for": {"reference": chart.patient},
    }
    await chart.write(review)


@pytest.mark.parametrize("colour", ["red", "amber", "green"])
async def test_that_turns_blue_cancels_the_review_of_the_rating_before(
    chart: Chart, colour: str
) -> None:
    await reviewed_by(chart, colour)
    await chart.tell(spell(chart).admit())
    review = (await chart.tasks())[f"T-REVIEW-{colour.upper()}"]
    assert review["status"] == "cancelled"
    assert review["statusReason"] == {"text": "In hospital: rated blue"}


async def test_that_gives_no_rating_leaves_the_review_of_the_one_there_is(unknown: Chart) -> None:
    await unknown.open()
    await unknown.consent("register", status="inactive")
    await reviewed_by(unknown, "amber")
    await unknown.tell(spell(unknown).admit())
    assert (await unknown.tasks())["T-REVIEW-AMBER"]["status"] == "requested"


async def test_is_elective_by_the_codes_of_its_own_systems_alone(chart: Chart) -> None:
    def admitted_by(system: str) -> dict[str, object]:
        coded = {"valueCodeableConcept": concept(system, PLANNED)}
        return {"extension": [{"url": canonicals.ADMISSION_METHOD_EXTENSION, **coded}]}

    older = "https://fhir.hl7.org.uk/CodeSystem/NHSDataModelAndDictionary-AdmissionMethod"
    stay = spell(chart)
    await chart.tell(stay.admit(hospitalization=admitted_by(older)))
    assert "T-CETR-POSTADM" not in await chart.dues()
    await chart.tell(stay.admit(hospitalization=admitted_by("https://ward.example/how")))
    assert "T-CETR-POSTADM" in await chart.dues()


async def test_leaves_a_flag_of_an_unknown_colour_alone(chart: Chart, older: Chart) -> None:
    purple = await older.rate("purple", "2026-06-04")
    await chart.tell(spell(chart).admit())
    active = [flag for flag in await chart.all("Flag") if flag["status"] == "active"]
    assert {code_of(flag["code"]) for flag in active} == {"blue", "purple"}
    assert purple in active


@pytest.mark.parametrize("sender", [None, {"display": "The ward"}])
async def test_of_a_sender_without_a_name_is_known_by_where_it_came_from(
    chart: Chart, sender: dict[str, str] | None
) -> None:
    """A rating's author has to lead to somebody."""
    await chart.tell(changed(spell(chart).admit(), 0, sender=sender))
    rating = await chart.rating()
    assert rating is not None
    assert rating["author"] == {
        "identifier": {"system": canonicals.URI_SYSTEM, "value": "https://ward.example/messages"},
        "display": sender["display"] if sender else "Unnamed sender",
    }
