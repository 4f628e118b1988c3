"""Risk rules: which colour the records suggest, and why.

The codes are those of the code system `rating-rule`; sources in terminology/SOURCES.md. A rating
informs; people decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import AMBER, BLUE, GREEN, RED
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import reference_to
from operations._holding import RANK, held_until
from operations._leaving import was_planned
from operations._person import UNDONE_STAY, Person, begun, colour_of, extension, status_of

_FOUR: Final = (
    "unstable-mental-health",
    "challenging-behaviour",
    "unstable-environment",
    "crisis-last-month",
)
_INDICATORS: Final = {
    "R-RED-HARM": "serious-harm",
    "R-RED-UNPLANNED-12M": "unplanned-admission-12m",
    "R-RED-CRISISTEAM-12M": "crisis-team-12m",
    "R-RED-OPTIONS-EXHAUSTED": "options-exhausted",
}
"""Each counts; two of them suggest red, and so does harm with an admission that is near."""
_BY_STAYS: Final = "R-RED-UNPLANNED-12M"
"""The stays show it as well as an answer does."""
_ADMITTED: Final = _INDICATORS[_BY_STAYS]
_MANAGED: Final = "No sign of an admission that is near: risks are managed"
_YEAR: Final = timedelta(days=365) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that holds, with what it rests on."""

    code: str
    colour: str | None
    """None of what carries no weight."""
    text: str
    evidence: Sequence[str]


async def fired_rules(person: Person, pathway: Pathway) -> list[Fired]:
    """Every rule that holds now, the weightiest first."""
    found = [*await _hospital(person, pathway.red_hold_days), *await _answered(person)]
    return sorted(found, key=lambda rule: -RANK[rule.colour] if rule.colour else 0)


async def _hospital(person: Person, days: int) -> list[Fired]:
    found = [
        Fired("R-BLUE-INPATIENT", BLUE, "In a mental health hospital", [reference_to(stay)])
        for stay in await person.open_stays()
    ]
    for stay in await person.stays():
        until = held_until(stay, days, person.now)
        if until is not None:
            text = f"Discharged less than {days} days ago: red until {until}"
            found.append(Fired("R-RED-POSTDISCHARGE", RED, text, [reference_to(stay)]))
    return found


async def _answered(person: Person) -> list[Fired]:
    response, admissions = await person.answers(), await _unplanned(person)
    evidence = [reference_to(response)] if response else []
    answers = _yes(response) if response else {}
    yes = answers | ({_ADMITTED: True} if admissions else {})
    found = [Fired(code, colour, text, evidence) for code, colour, text in _judged(yes)]
    if response and not any(answers.values()):
        found.append(Fired("R-GREEN-MANAGED", GREEN, _MANAGED, evidence))
    if factors := _factors(response):
        found.append(Fired("R-FACTORS", None, f"What else is known: {factors}", evidence))
    return [_with(rule, admissions) if rule.code == _BY_STAYS else rule for rule in found]


async def _unplanned(person: Person) -> list[str]:
    """Unplanned admissions in the last year, by reference."""
    return [
        reference_to(stay)
        for stay in await person.stays()
        if status_of(stay) not in (*UNDONE_STAY, "planned", "")
        and not was_planned(stay)
        and person.now - _YEAR < begun(stay) <= person.now
    ]


def _with(rule: Fired, evidence: Sequence[str]) -> Fired:
    return replace(rule, evidence=[*rule.evidence, *evidence])


def _judged(yes: Mapping[str, bool]) -> Iterator[tuple[str, str, str]]:
    if all(yes.get(question) for question in _FOUR):
        yield "R-RED-FOUR", RED, "All four signs of high risk are there"
    if yes.get("admission-48h"):
        yield "R-RED-48H", RED, "An admission is likely within 48 hours"
    yield from _indicated(yes)
    if yes.get("admission-2w"):
        yield "R-AMBER-2W", AMBER, "An admission is likely within two weeks"
    if yes.get("placement-breakdown"):
        yield "R-AMBER-PLACEMENT", AMBER, "The placement or the support may break down"
    if yes.get("services-struggling"):
        yield "R-AMBER-STRUGGLING", AMBER, "Services struggle; a review by the team may help"


def _indicated(yes: Mapping[str, bool]) -> Iterator[tuple[str, str, str]]:
    found = [code for code, question in _INDICATORS.items() if yes.get(question)]
    near = yes.get("admission-48h") or yes.get("admission-2w")
    if len(found) >= 2 or (yes.get("serious-harm") and near):
        for code in found:
            text = canonicals.RISK_QUESTIONS[_INDICATORS[code]].rstrip("?")
            yield code, RED, f"Yes: {text}"


def unanswered(response: Resource) -> list[str]:
    """Questions without a yes or a no, by linkId."""
    answered = {
        item.get("linkId")
        for item in response.get("item", ())
        if any("valueBoolean" in answer for answer in item.get("answer", ()))
    }
    asked = [question for question in canonicals.RISK_QUESTIONS if question != "factors"]
    return [question for question in asked if question not in answered]


def _factors(response: Resource | None) -> str:
    """What was answered in free text, '' where nothing was."""
    told = [
        answer.get("valueString", "").strip()
        for item in (response or {}).get("item", ())
        if item.get("linkId") == "factors"
        for answer in item.get("answer", ())
    ]
    return "; ".join(filter(None, told))


def _yes(response: Resource) -> dict[str, bool]:
    return {
        item["linkId"]: any(answer.get("valueBoolean") is True for answer in item.get("answer", ()))
        for item in response.get("item", ())
        if item.get("linkId") in canonicals.RISK_QUESTIONS
    }


def suggested(fired: Sequence[Fired], registered: Resource | None, today: str) -> str | None:
    """The weightiest rule's colour; the registered one where none fires or a floor holds it up."""
    colour = next((rule.colour for rule in fired if rule.colour), None)
    if registered is None:
        return colour
    current = colour_of(registered)
    floor = extension(registered, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
    held = current is not None and today < floor.get("valueDate", "")
    if colour is None or (held and current and RANK[current] > RANK[colour]):
        return current
    return colour
