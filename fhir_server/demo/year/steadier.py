"""The second half of the year: a crisis without hospital, a birthday, and the end."""

from typing import Final

from fhir_server.demo.year import looking
from fhir_server.demo.year.cast import CAMHS, KEYWORKER, SOCIAL
from fhir_server.demo.year.hospital import rate
from fhir_server.demo.year.record import BIRTHDAY, HOST, ICB, answers, consent
from fhir_server.demo.year.year import Code, Year, held, is_open, require
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource

_WARNED: Final = 28
"""Days before the 16th birthday on which the server asks for the young person's own word."""


def prevented(year: Year) -> None:
    """Red again, and nobody is admitted."""
    year.go_on(198)
    told = answers(
        year.family,
        year.now,
        *("unstable-environment", "crisis-last-month", "admission-2w"),
        words="A new teacher, and the side door is locked",
    )
    line = year.ask(KEYWORKER)
    written = line.post("QuestionnaireResponse", told)
    asked = year.deed(KEYWORKER, "writes down how things are", written, 201)
    rate(year, "red", "A crisis at school; she does not go out any more", asked.resource)
    year.go_on(204, 14)
    year.done("T-CETR-COMMUNITY", "and all the others hold the review: the side door is opened")
    stays = len(_stays(year))
    year.go_on(218)
    role = Code("keyworker")
    rate(year, "amber", "Back at art class; no need of hospital", avoided=True, role=role)
    require(stays == len(_stays(year)) == 1, "Somebody was admitted")
    year.teller.note("Nobody was admitted this time; the report counts it as avoided.")


def _stays(year: Year) -> list[Resource]:
    return [one for one in year.find("Encounter") if one["class"]["code"] == "IMP"]


def step_down(year: Year) -> None:
    year.go_on(245)
    _reached(year, 0, 'hears from Skye: "Nan came ten times".')
    rate(year, "green", "Steady for weeks, at home and at school")
    answer = year.operate(
        KEYWORKER, f"{year.episode}/$step-down", reason="Steady, and others know what helps"
    )
    year.deed(KEYWORKER, "hands over step by step, with a plan for afterwards", answer)
    year.is_at("step-down")


def _reached(year: Year, number: int, words: str) -> None:
    """A goal that was reached."""
    goal = year.read(year.goals[number])
    reached = {
        **goal,
        "lifecycleStatus": "completed",
        "achievementStatus": {
            "coding": [{"system": canonicals.GOAL_ACHIEVEMENT, "code": "achieved"}]
        },
        "statusDate": year.today.isoformat(),
    }
    answer = year.ask(KEYWORKER).put(reached, held(goal))
    year.deed(KEYWORKER, f"{words} Goal reached: {goal['description']['text']}", answer)


def birthday(year: Year) -> None:
    """What the mother decided ends; the young person decides."""
    _is_told_ahead(year)
    mother, skye = year.family.parent, year.family.young_person
    looking.show(year, mother, CAMHS)
    year.go_on(BIRTHDAY, 8, weekends=True)
    year.until("Skye is 16 today, and what her mother decided for her ends", lambda _: _ended(year))
    seen = looking.show(year, mother, CAMHS, skye)
    if seen:
        require(seen[mother.name].is_nothing, "The mother sees the record still")
        require(not seen[CAMHS.name].plans, "CAMHS sees the plans without consent")
    # The same day: from the next on the question is overdue, and partners may be told of that.
    year.go_on(BIRTHDAY, 16, weekends=True)
    for category, organisation in (("register", ICB), ("keyworking", HOST)):
        bodies = [year.family.carer, *_asked(organisation)]
        given = consent(year.family, category, skye, year.today, basis="consent", bodies=bodies)
        answer = year.ask(skye).post("Consent", given)
        words = f"says yes to {_KINDS[category]} herself; her mother may see it too"
        year.deed(skye, words, answer, 201)
    seen = looking.show(year, mother, CAMHS, SOCIAL, skye)
    if seen:
        require(seen[mother.name].known, "The mother does not see what Skye shows her")
        require(bool(seen[CAMHS.name].plans), "CAMHS does not see the plans again")


_KINDS: Final = {"register": "the register", "keyworking": "keyworking"}


def _asked(organisation: str) -> list[str]:
    """Whom the consent means: the bodies that help."""
    return [organisation, *(f"Organization/kw-org-{name}" for name in ("camhs", "council"))]


def _is_told_ahead(year: Year) -> None:
    day = BIRTHDAY - _WARNED
    year.go_on(day, 9, weekends=True)
    year.until(
        f"in {_WARNED} days Skye is 16, and her own word will be asked for",
        lambda now: any(_is_proxy(one) for one in now.tasks.values()),
    )


def _is_proxy(task: Resource) -> bool:
    codes = [one["code"] for one in task["code"].get("coding", ())]
    return "T-PROXY-16" in codes and is_open(task)


def _ended(year: Year) -> bool:
    """Every consent that the mother gave."""
    given = [
        one for one in year.find("Consent") if one["performer"][0]["reference"] == year.family.carer
    ]
    return bool(given) and all(one["status"] == "inactive" for one in given)


def goodbye(year: Year) -> None:
    year.go_on(340)
    sooner = year.operate(KEYWORKER, f"{year.episode}/$close", reason=Code("stepped-down"))
    year.refused(KEYWORKER, "would close, with a goal still open", sooner, 422, "Goal/")
    _reached(year, 1, 'hears from Skye: "Every Tuesday now".')
    answer = year.operate(
        KEYWORKER, f"{year.episode}/$close", reason=Code("stepped-down"), end_tasks=True
    )
    year.deed(KEYWORKER, "says goodbye, and is not needed any more", answer)
    year.is_at("closed")
