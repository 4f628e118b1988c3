"""From a crisis to the ward, and home again with people who ask how it goes."""

from datetime import datetime
from typing import Any, Final

from fhir_server.demo import readings
from fhir_server.demo.year import looking, ward
from fhir_server.demo.year.cast import CAMHS, KEYWORKER, SCHOOL, WARD
from fhir_server.demo.year.record import (
    CLINICIAN,
    KEYWORKER_POST,
    SCHOOL_POST,
    answers,
    link,
    self_harm,
    team,
    voice,
)
from fhir_server.demo.year.year import Code, Year, code, due_of, first, held, is_open, require
from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from fhir_server.fhir.json import Resource

_SPELL: Final = "SPELL-DEMO"
_LEFT: Final = 114
"""Days after the referral on which Skye goes home."""


def crisis(year: Year) -> None:
    year.go_on(70)
    family, line = year.family, year.ask(KEYWORKER)
    told = answers(
        family,
        year.now,
        *("unstable-mental-health", "unstable-environment", "serious-harm", "admission-48h"),
        words="Three nights without sleep; the support worker has left",
    )
    written = line.post("QuestionnaireResponse", told)
    asked = year.deed(KEYWORKER, "writes down how things are", written, 201)
    risk = line.get(f"{family.patient}/$admission-risk")
    rating = readings.rating(risk.resource)
    year.deed(KEYWORKER, "asks the server what the answers come to", risk)
    year.teller.note(f"The server suggests {rating.colour.upper()}:")
    year.teller.table(("Rule", "What it says"), rating.rules, indent=13)
    rate(year, "red", "Three nights without sleep, and nobody to stay with her", asked.resource)
    harm = self_harm(family)
    year.deed(KEYWORKER, "records that Skye may harm herself", line.post("Condition", harm), 201)
    year.go_on(71)
    year.done("T-LAEP", "brings all together the same day: what would keep Skye at home?")


def rate(
    year: Year, colour: str, reason: str, evidence: Resource | None = None, **more: Any
) -> None:
    given = {} if evidence is None else {"evidence": link(_reference(evidence))}
    patient = year.family.patient
    answer = year.operate(
        KEYWORKER, f"{patient}/$set-rating", rating=Code(colour), reason=reason, **given, **more
    )
    year.deed(KEYWORKER, f"rates {colour.upper()}: {reason}", answer)
    year.rated(colour)


def _reference(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def admission(year: Year) -> None:
    year.go_on(72, 9)
    year.spell, year.admitted = f"{_SPELL}-{year.family.serial}", year.now
    message = ward.admitted(year.family, year.spell, year.now)
    _ward_tells(year, message, "tells of an emergency admission, in HL7 v2")
    year.rated("blue")
    year.is_at("in-hospital")
    year.await_notice("admitted")
    plan = discharge_plan(year)
    items = len(plan["activity"])
    require(items == len(DISCHARGE_ITEMS), f"The discharge plan has {items} items, not 14")
    year.teller.note(f"The way home is planned from this hour: a plan with {items} items is open.")
    year.go_on(72, 16)
    led = {**plan, "author": link(KEYWORKER_POST)}
    answer = year.ask(KEYWORKER).put(led, held(plan))
    year.deed(KEYWORKER, "is there the same day, and leads the plan", answer)
    seen = looking.show(year, WARD, CAMHS, year.family.parent, SCHOOL)
    if seen:
        both = ("discharge-plan", "keyworking-plan")
        require(seen[WARD.name].plans == both, "The ward does not see the plans")


def _ward_tells(year: Year, message: str, words: str) -> None:
    told = ward.send(year.ask(WARD), message)
    year.event(WARD, words, f"POST $process-adt -> {told}")


def discharge_plan(year: Year) -> Resource:
    plans = year.find("CarePlan", ("category", "discharge-plan"))
    return first(plans, "There is no discharge plan")


_MISSING: Final = "section-117-missing"


def way_home(year: Year) -> None:
    year.go_on(76, 11)
    line, plan = year.ask(KEYWORKER), discharge_plan(year)
    found = first(year.find("CareTeam"), "No care team")
    more = {"inpatient-rc": CLINICIAN, "education": SCHOOL_POST}
    joined = line.put(team(found, year.family, more=more, day=year.today), held(found))
    year.deed(KEYWORKER, "visits Skye on the ward; its doctor and school join the team", joined)
    planned = {
        "url": canonicals.PLANNED_DISCHARGE_EXTENSION,
        "valueDate": year.day(_LEFT).isoformat(),
    }
    agreed = {
        **plan,
        "status": "active",
        "extension": [*plan.get("extension", ()), planned, voice(year.family, year.now)],
    }
    year.deed(KEYWORKER, "and the ward agree on a day for going home", line.put(agreed, held(plan)))
    year.transition(KEYWORKER, "discharge-planning", "begins to plan the way home")
    items = readings.items(year.read(f"CarePlan/{plan['id']}"))
    rows = [(item.due, item.text) for item in items]
    year.teller.table(("Due", "What has to be there before Skye goes home"), rows, indent=13)
    address = f"CarePlan/{plan['id']}"
    year.go_on(86, 15)
    _work_at(year, address, 8)
    year.go_on(92)
    asked = year.operate(KEYWORKER, f"{address}/$confirm-discharge", destination=Code("19"))
    year.refused(KEYWORKER, "is pressed to send Skye home early", asked, 422, "dp-funding")
    year.go_on(99, 15)
    _decide_aftercare(year, address)
    _work_at(year, address, 9)
    year.go_on(106, 15)
    _work_at(year, address, 14)


def _decide_aftercare(year: Year, address: str) -> None:
    """The ward's messages have no legal status, so the server leaves it open."""
    plan, line = year.read(address), year.ask(KEYWORKER)
    missing = readings.parameter(line.get(f"{address}/$discharge-readiness").resource, _MISSING)
    require(missing is not None, "The right to aftercare is known though nobody has told")
    none = {"url": canonicals.SECTION_117_EXTENSION, "valueBoolean": False}
    answer = line.put({**plan, "extension": [*plan["extension"], none]}, held(plan))
    told = "has asked the ward: Skye is there informally, so no right to aftercare (section 117)"
    year.deed(KEYWORKER, told, answer)


def _work_at(year: Year, address: str, upto: int) -> None:
    """The items of the plan are done, as far as that."""
    plan, line = year.read(address), year.ask(KEYWORKER)
    done = [
        {**one, "detail": {**one["detail"], "status": "completed"}} if number < upto else one
        for number, one in enumerate(plan["activity"])
    ]
    answer = line.put({**plan, "activity": done}, held(plan))
    year.deed(KEYWORKER, f"and the team have done {upto} of the 14 items", answer)
    ready = line.get(f"{address}/$discharge-readiness").resource
    year.teller.note(
        f"$discharge-readiness: {readings.parameter(ready, 'done')} of "
        f"{readings.parameter(ready, 'mandatory')} mandatory items done, "
        f"ready: {'yes' if readings.parameter(ready, 'ready') else 'not yet'}"
    )
    require(readings.parameter(ready, "ready") is (upto == len(done)), "Ready at the wrong time")


def discharge(year: Year) -> None:
    year.go_on(_LEFT, 11)
    plan = discharge_plan(year)
    start = year.admitted or year.now
    message = ward.discharged(year.family, year.spell, start, year.now)
    _ward_tells(year, message, "tells that Skye has gone home")
    year.rated("red")
    year.await_notice("discharged")
    address = f"CarePlan/{plan['id']}/$confirm-discharge"
    answer = year.operate(KEYWORKER, address, destination=Code("19"))
    year.deed(KEYWORKER, "confirms it: the discharge plan has done its work", answer)
    year.is_at("plan-active")


def follow_up(year: Year) -> None:
    """Three in time; the last one is forgotten."""
    year.go_on(_LEFT + 1, 9)
    year.done("T-CAREPLAN-SHARE", "has sent the plan to everybody it names, within 24 hours")
    year.go_on(_LEFT + 2, 9, weekends=True)
    year.done("T-FU-48", "rings Skye: 48 hours")
    year.go_on(_LEFT + 3, 9, weekends=True)
    year.done("T-FU-72", "is there again: 72 hours")
    lower = year.operate(
        KEYWORKER,
        f"{year.family.patient}/$set-rating",
        rating=Code("amber"),
        reason="She seems well",
    )
    year.refused(KEYWORKER, "would rate amber already", lower, 422, "red")
    _one_is_missed(year)
    year.go_on(_LEFT + 15)
    rate(year, "amber", "Two calm weeks at home")


def _one_is_missed(year: Year) -> None:
    missed = year.task("T-FU-7D")
    due = datetime.fromisoformat(due_of(missed))
    year.go_on((due.date() - year.family.start).days, due.hour + 1, weekends=True)
    year.until(
        "the 7 days are over, and nobody has asked", lambda now: _is_late(now.tasks[missed["id"]])
    )
    year.await_notice("task-overdue")
    year.go_on((due.date() - year.family.start).days + 4)
    year.until(
        "and a working day later nobody has made up for it",
        lambda now: any(code(one) == "escalation" and is_open(one) for one in now.tasks.values()),
    )
    year.done("T-FU-7D", "comes at once, and says sorry; Ruth was told")


def _is_late(task: Resource) -> bool:
    return "businessStatus" in task
