"""Risk rules: which colour the records suggest, and why.

The codes are those of the code system `rating-rule`; sources in terminology/SOURCES.md. A rating
informs; people decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import AMBER, BLUE, GREEN, RED
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import reference_to
from operations._leaving import died, left_for_hospital
from operations._person import Person, colour_of, extension, local_day, since, status_of

_RANK: Final = {BLUE: 4, RED: 3, AMBER: 2, GREEN: 1}

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


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that holds, with what it rests on."""

    code: str
    colour: str
    text: str
    evidence: Sequence[str]


async def fired_rules(person: Person, pathway: Pathway) -> list[Fired]:
    """Every rule that holds now, the weightiest first."""
    found = [*await _hospital(person, pathway.red_hold_days), *await _answered(person)]
    return sorted(found, key=lambda rule: -_RANK[rule.colour])


async def _hospital(person: Person, days: int) -> list[Fired]:
    found = [
        Fired("R-BLUE-INPATIENT", BLUE, "In a mental health hospital", [reference_to(stay)])
        for stay in await person.open_stays()
    ]
    for stay in await person.stays():
        held_until = _held_until(stay, days, person.now)
        if held_until is not None:
            text = f"Discharged less than {days} days ago: red until {held_until}"
            found.append(Fired("R-RED-POSTDISCHARGE", RED, text, [reference_to(stay)]))
    return found


def _held_until(stay: Resource, days: int, now: int) -> date | None:
    """The first day on which this stay does not hold the rating at red; None where none does."""
    left = since(stay.get("period", {}).get("end"))
    if status_of(stay) != "finished" or left_for_hospital(stay) or died(stay):
        return None
    if not 0 < left <= now:
        return None
    until = local_day(left) + timedelta(days=days)
    return until if local_day(now) < until else None


async def _answered(person: Person) -> list[Fired]:
    response = await person.answers()
    if response is None:
        return []
    evidence = [reference_to(response)]
    yes = _yes(response)
    return [Fired(code, colour, text, evidence) for code, colour, text in _judged(yes)]


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
    if not any(yes.values()):
        yield "R-GREEN-MANAGED", GREEN, "No sign of an admission that is near: risks are managed"


def _indicated(yes: Mapping[str, bool]) -> Iterator[tuple[str, str, str]]:
    found = [code for code, question in _INDICATORS.items() if yes.get(question)]
    near = yes.get("admission-48h") or yes.get("admission-2w")
    if len(found) >= 2 or (yes.get("serious-harm") and near):
        for code in found:
            text = canonicals.RISK_QUESTIONS[_INDICATORS[code]].rstrip("?")
            yield code, RED, f"Answered yes: {text}"


def _yes(response: Resource) -> dict[str, bool]:
    return {
        item["linkId"]: any(answer.get("valueBoolean") is True for answer in item.get("answer", ()))
        for item in response.get("item", ())
        if item.get("linkId") in canonicals.RISK_QUESTIONS
    }


def suggested(fired: Sequence[Fired], registered: Resource | None, today: str) -> str | None:
    """The weightiest rule's colour; the registered one where none fires or a floor holds it up."""
    colour = fired[0].colour if fired else None
    if registered is None:
        return colour
    current = colour_of(registered)
    floor = extension(registered, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
    held = current is not None and today < floor.get("valueDate", "")
    if colour is None or (held and current and _RANK[current] > _RANK[colour]):
        return current
    return colour
