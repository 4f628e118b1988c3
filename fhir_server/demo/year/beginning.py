"""The first months: from the referral to a plan that stands."""

from datetime import datetime, timedelta

from fhir_server.demo import readings
from fhir_server.demo.conversation import CannotPlay
from fhir_server.demo.year import looking
from fhir_server.demo.year.cast import (
    CAMHS,
    COMMISSIONER,
    HOST,
    KEYWORKER,
    PROMPTER,
    SCHOOL,
    SOCIAL,
    STRANGER,
)
from fhir_server.demo.year.record import (
    HOST as HOST_ORGANISATION,
)
from fhir_server.demo.year.record import (
    KEYWORKER_POST,
    VOICE,
    WISHES,
    beginning,
    consent,
    goal,
    link,
    not_competent,
    team,
    transaction,
    visit,
    voice,
)
from fhir_server.demo.year.year import Code, Year, first, held, require


def meet(year: Year) -> None:
    """The record as it was before anybody thought of a keyworker."""
    _require_clock(year)
    answer = year.ask(PROMPTER).post("", transaction(beginning(year.family)))
    answer.require(200)
    year.begin()
    year.rated("amber")


def _require_clock(year: Year) -> None:
    """The server goes by the clock that the demo moves: a report says when it was made."""
    year.start()
    told = year.ask(COMMISSIONER).get("$oversight-report", ("snapshot", "week"))
    told.require(200)
    date = datetime.fromisoformat(told.resource["date"])
    if abs(date - year.now) > timedelta(minutes=1):
        raise CannotPlay(
            f"At the server {year.house.base} it is {date:%d %B %Y}, and by the file of --clock "
            f"{year.now:%d %B %Y}: is it that server's KEYWORKING_MOVABLE_CLOCK?"
        )


def referral(year: Year) -> None:
    asked = year.operate(
        SOCIAL,
        f"{year.family.patient}/$refer",
        reason="School is at its limits, and so is home",
        host=link(HOST_ORGANISATION),
    )
    year.deed(SOCIAL, "refers Skye, who is amber on the register, to keyworking", asked)
    year.episode = f"EpisodeOfCare/{first(year.find('EpisodeOfCare'), 'No involvement')['id']}"
    year.go_on(1)
    year.transition(HOST, "consent-pending", "takes the referral; the family is asked")
    sooner = year.operate(HOST, f"{year.episode}/$transition", to=Code("awaiting-allocation"))
    year.refused(HOST, "would rather not wait", sooner, 422, "consent to keyworking")


def consent_and_match(year: Year) -> None:
    year.go_on(4, 16)
    mother = year.family.parent
    given = consent(
        year.family, "keyworking", mother, year.today, basis="parental-responsibility", bodies=()
    )
    answer = year.ask(mother).post("Consent", {**given, "extension": [not_competent(year.family)]})
    year.deed(mother, "says yes to keyworking, for Skye, who is 15", answer, 201)
    year.go_on(6)
    year.transition(HOST, "awaiting-allocation", "sees the consent; Skye waits for a keyworker")
    matched = year.operate(HOST, f"{year.episode}/$allocate", keyworker=link(KEYWORKER_POST))
    year.deed(HOST, "matches Skye with Amina, who becomes her keyworker", matched)
    load = readings.parameter(matched.resource, "caseload")
    year.teller.note(f"Amina now has {load} young people; about ten are a full load.")
    year.is_at("information-gathering")


def family_first(year: Year) -> None:
    year.go_on(7)
    too_soon = year.ask(KEYWORKER).put(
        {**(task := year.task("contact-mdt")), "status": "completed"}, held(task)
    )
    year.refused(KEYWORKER, "rings the services before the family", too_soon, 422, "contact-family")
    year.done("contact-family", "rings Dawn and Skye")
    year.done("contact-mdt", "rings everybody who is involved")
    found = first(year.find("CareTeam"), "No care team")
    joined = team(found, year.family, more={}, day=year.today)
    answer = year.ask(KEYWORKER).put(joined, held(found))
    year.deed(KEYWORKER, "brings CAMHS, social care, GP and Dawn into the team", answer)
    year.subscribe()
    year.note(CAMHS, "asks to be told at once of ratings, admissions and discharges")


def visits_and_plan(year: Year) -> None:
    year.go_on(10, 14)
    _visit(year, "First visit", 'is at home with Skye: "Not the corridor. Not on the day."')
    year.done("first-visit", "has been there for the first time")
    year.transition(KEYWORKER, "planning", "begins to plan, with Skye")
    year.go_on(17, 14)
    _visit(year, "Planning visit", "is there again; Skye says what matters to her")
    _write_goals(year)
    _write_plan(year)
    year.done("planning-visit", "has made the plan together with Skye and Dawn")
    year.go_on(20)
    year.transition(KEYWORKER, "plan-active", "and everybody agree: the plan stands")
    seen = looking.show(year)
    if seen:
        require(seen[CAMHS.name].plans == ("keyworking-plan",), "CAMHS does not see the plan")
        require(seen[STRANGER.name].is_nothing, "A stranger sees something")
        require(seen[SCHOOL.name].is_nothing, "School sees something, and was not asked for")


def _visit(year: Year, what: str, words: str) -> None:
    made = visit(year.family, year.episode, year.now, what, "HH")
    year.deed(KEYWORKER, words, year.ask(KEYWORKER).post("Encounter", made), 201)


def _write_goals(year: Year) -> None:
    for wish in WISHES:
        answer = year.ask(KEYWORKER).post("Goal", goal(year.family, wish, year.today))
        year.deed(KEYWORKER, f'writes Skye\'s goal: {wish.wish}. "{wish.said}"', answer, 201)
        year.goals.append(f"Goal/{answer.resource['id']}")


def _write_plan(year: Year) -> None:
    (draft,) = year.find("CarePlan")
    year.plan = f"CarePlan/{draft['id']}"
    others = draft.get("extension", ())
    written = {
        **draft,
        "extension": [*others, voice(year.family, year.now)],
        "title": "Skye's plan",
        "author": link(KEYWORKER_POST),
        "goal": [link(one) for one in year.goals],
        "addresses": [link(year.family.condition)],
        "activity": [
            {"detail": {"kind": "Task", "status": "in-progress", "description": text}}
            for text in ("Skye is told of each change the day before", "Art by the side door")
        ],
    }
    answer = year.ask(KEYWORKER).put(written, held(draft))
    year.deed(KEYWORKER, f'writes the plan; first in it: "{VOICE}"', answer)
