"""A commissioner asks for the week's report, and for what is none of their business."""

from typing import Any, Final

from loadtests.scenarios.acting import Actor, Answer, Scenario, Wrong

_SMALL: Final = 5


def play(actor: Actor) -> None:
    snapshot = actor.chance.choice(("week", "month"))
    path = f"$oversight-report?area={actor.identity.area}&snapshot={snapshot}"
    actor.ask("report", "GET", path, check=_has_nobody_in_it)
    if actor.hidden:
        other = actor.chance.choice(actor.hidden)
        actor.ask("hidden: read", "GET", f"Patient/{other.id}", expect=(404,))


def _has_nobody_in_it(answer: Answer) -> None:
    report = answer.json()
    if report.get("resourceType") != "MeasureReport" or not report.get("group"):
        raise Wrong("no report with groups")
    if b"Patient/" in answer.content:
        raise Wrong("a report with a person in it")
    counts = {population["count"] for population in _populations(report) if "count" in population}
    if any(0 < count < _SMALL for count in counts):
        raise Wrong("a small number that is not masked")


def _populations(report: dict[str, Any]) -> list[dict[str, Any]]:
    groups = report["group"]
    strata = [
        stratum
        for group in groups
        for stratifier in group.get("stratifier", ())
        for stratum in stratifier.get("stratum", ())
    ]
    return [one for part in (*groups, *strata) for one in part.get("population", ())]


SCENARIO: Final = Scenario(
    "commissioner", "commissioner", 0, 0.01, 0.25, play, ("oversight-report",)
)
