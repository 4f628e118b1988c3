"""What each partner may see at this moment, asked with their own token."""

from dataclasses import dataclass
from typing import Final

from fhir_server.demo import readings
from fhir_server.demo.conversation import Exchange
from fhir_server.demo.year.cast import CAMHS, KEYWORKER, SCHOOL, SOCIAL, STRANGER, WARD, Person
from fhir_server.demo.year.year import Year, require
from fhir_server.fhir import canonicals

_NOTHING: Final = "-"
_OPEN_PLANS: Final = "draft,active,completed"
_SHORT: Final = {
    "keyworking-plan": "own",
    "discharge-plan": "discharge",
    "step-down-plan": "afterwards",
}
_HEADINGS: Final = ("Who may see what now", "Name", "Rating", "Goals", "Plans")


@dataclass(frozen=True, slots=True)
class View:
    """One person's: whether the young person is known to them, and what else is."""

    known: bool
    rating: str
    """The colour, '' where none is seen."""
    plans: tuple[str, ...]
    """Categories of the plans that are seen."""
    goals: int

    @property
    def is_nothing(self) -> bool:
        return self == View(known=False, rating="", plans=(), goals=0)


def view(year: Year, who: Person) -> View:
    """What the server answers this person, asked for each thing."""
    line, patient = year.ask(who), year.family.id
    plans = line.get("CarePlan", ("patient", patient), ("status", _OPEN_PLANS))
    flags = line.get("Flag", ("patient", patient))
    ratings = [
        readings.code_of(flag["code"], canonicals.DSR_RATING)
        for flag in flags.entries("match", "Flag")
        if flag["status"] == "active"
    ]
    categories = {
        readings.code_of(plan["category"][0], canonicals.CARE_PLAN_CATEGORY)
        for plan in plans.entries("match", "CarePlan")
    }
    return View(
        known=_is_known(line.get(year.family.patient)),
        rating=next(filter(None, ratings), ""),
        plans=tuple(sorted(categories)),
        goals=len(line.get("Goal", ("patient", patient)).entries("match", "Goal")),
    )


def _is_known(answer: Exchange) -> bool:
    require(answer.status in (200, 404), f"Reading the Patient answered {answer.summary}")
    return answer.status == 200


def partners(year: Year) -> tuple[Person, ...]:
    family = year.family
    return (
        *(KEYWORKER, CAMHS, SOCIAL, WARD, family.parent, family.young_person),
        *(SCHOOL, STRANGER),
    )


def show(year: Year, *whom: Person) -> dict[str, View]:
    """A line for each, by name; empty where the server asks for no tokens."""
    if year.house.tokens is None:
        year.teller.note("(This server asks for no tokens: everybody may see everything.)")
        return {}
    found = {who.name: view(year, who) for who in whom or partners(year)}
    labels = {who.name: who.label for who in whom or partners(year)}
    rows = [_row(labels[name], seen) for name, seen in found.items()]
    year.teller.table(_HEADINGS, rows, indent=4)
    year.pace()
    return found


def _row(label: str, seen: View) -> tuple[str, ...]:
    plans = ", ".join(_SHORT.get(plan, plan) for plan in seen.plans)
    return (
        label,
        "yes" if seen.known else _NOTHING,
        seen.rating or _NOTHING,
        str(seen.goals or _NOTHING),
        plans or _NOTHING,
    )
