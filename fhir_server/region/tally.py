"""Counts what was made, from the resources themselves, and sets it beside what was asked for."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.region.area import ORGANISATIONS
from fhir_server.region.asked import (
    Asked,
    age_shares,
    band_of,
    rating_shares,
    state_shares,
    stayed_share,
)

_HOSPITAL: Final = "IMP"


@dataclass(slots=True)
class Tally:
    """What has been made so far."""

    asked: Asked
    types: Counter[str] = field(default_factory=Counter)
    found: dict[str, Counter[str]] = field(default_factory=dict)
    """What is counted, to its values."""
    size: int = 0
    """Bytes of JSON."""
    days: int = 0
    """In hospital, of the stays that have ended."""

    def add(self, resource: Resource, size: int) -> None:
        self.types[resource["resourceType"]] += 1
        self.size += size
        looked = _LOOKED.get(resource["resourceType"])
        if looked:
            looked(self, resource)

    def count(self, what: str, value: str) -> None:
        self.found.setdefault(what, Counter())[value] += 1

    def lines(self) -> Iterator[str]:
        """For people."""
        asked, people = self.asked, self.types["Patient"]
        boards = "one board" if asked.boards == 1 else f"{asked.boards} boards"
        yield f"{boards}, seed {asked.seed}, as of {asked.as_of.isoformat()}"
        yield f"{'':46}{'asked':>12}{'made':>12}"
        yield _line("people in the area", f"{asked.boards * asked.population:,}", "")
        yield _line("young people on the register", f"{asked.young_people:,}", f"{people:,}")
        rate = people / (asked.boards * asked.population) * 1e5
        yield _line("to 100,000 people", "", f"{rate:.1f}")
        organisations = asked.boards * ORGANISATIONS
        made = self.types["Organization"]
        yield _line("organisations", f"{organisations:,}", f"{made:,}")
        for what, shares in _asked_shares().items():
            yield from self._compared(what, shares, people)
        for what in ("plan", "goal", "task", "consent", "visit"):
            yield from self._listed(what, people)
        yield from self._rest(people)

    def _compared(self, what: str, shares: Mapping[str, float], people: int) -> Iterator[str]:
        made = self.found.get(what, Counter())
        for value in (*shares, *sorted(made.keys() - shares.keys())):
            asked = f"{shares.get(value, 0):.1%}"
            yield _line(f"{what} {value}", asked, f"{made[value] / max(people, 1):.1%}")

    def _listed(self, what: str, people: int) -> Iterator[str]:
        for value, number in sorted(self.found.get(what, Counter()).items()):
            yield _line(f"{what} {value}, to a person", "", f"{number / max(people, 1):.2f}")

    def _rest(self, people: int) -> Iterator[str]:
        ended = self.found.get("stay", Counter())["finished"]
        if ended:
            yield _line("mean days in hospital", "", f"{self.days / ended:.0f}")
        teams = self.found.get("team size", Counter())
        if teams:
            members = sum(int(size) * number for size, number in teams.items())
            yield _line("mean size of a care team", "", f"{members / teams.total():.1f}")
        total = self.types.total()
        yield _line("resources", "", f"{total:,}")
        yield _line("resources to a person", "", f"{total / max(people, 1):.1f}")
        yield _line("bytes of JSON", "", f"{self.size:,}")


def _line(what: str, asked: str, made: str) -> str:
    return f"{what:46}{asked:>12}{made:>12}"


def _asked_shares() -> dict[str, dict[str, float]]:
    return {
        "age": age_shares(),
        "rating": rating_shares(),
        "state": state_shares(),
        "has stayed": {"yes": stayed_share()},
    }


def _patient(tally: Tally, resource: Resource) -> None:
    born, today = date.fromisoformat(resource["birthDate"]), tally.asked.as_of
    age = today.year - born.year - ((today.month, today.day) < (born.month, born.day))
    tally.count("age", band_of(age))


def _episode(tally: Tally, resource: Resource) -> None:
    state = next(
        one["valueCode"]
        for one in resource["extension"]
        if one["url"] == canonicals.PATHWAY_STATE_EXTENSION
    )
    tally.count("state", state)


def _flag(tally: Tally, resource: Resource) -> None:
    coding = resource["code"]["coding"][0]
    if coding["system"] != canonicals.DSR_RATING:
        return
    if resource["status"] == "active":
        tally.count("rating", coding["code"])
    elif not _is_superseded(resource):
        tally.count("rating", "none")


def _is_superseded(resource: Resource) -> bool:
    reasons = (
        one["valueCodeableConcept"]["coding"][0]["code"]
        for one in resource["extension"]
        if one["url"] == canonicals.RATING_END_REASON_EXTENSION
    )
    return "superseded" in reasons


def _encounter(tally: Tally, resource: Resource) -> None:
    if resource["class"]["code"] != _HOSPITAL:
        tally.count("visit", resource["type"][0]["text"].lower())
        return
    tally.count("has stayed", "yes")
    tally.count("stay", resource["status"])
    period = resource["period"]
    if "end" in period:
        start, end = (date.fromisoformat(period[which][:10]) for which in ("start", "end"))
        tally.days += (end - start).days


def _plan(tally: Tally, resource: Resource) -> None:
    tally.count("plan", resource["category"][0]["coding"][0]["code"])


def _consent(tally: Tally, resource: Resource) -> None:
    kind = resource["category"][1]["coding"][0]["code"]
    tally.count("consent", f"{kind} {resource['status']}")


def _team(tally: Tally, resource: Resource) -> None:
    tally.count("team size", str(len(resource["participant"])))


_Look = Callable[[Tally, Resource], None]
_LOOKED: Final[dict[str, _Look]] = {
    "Patient": _patient,
    "EpisodeOfCare": _episode,
    "Flag": _flag,
    "Encounter": _encounter,
    "CarePlan": _plan,
    "Consent": _consent,
    "CareTeam": _team,
    "Goal": lambda tally, resource: tally.count("goal", resource["lifecycleStatus"]),
    "Task": lambda tally, resource: tally.count("task", resource["status"]),
}
