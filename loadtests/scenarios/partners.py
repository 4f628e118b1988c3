"""CAMHS and social care read plans and goals, and page through those whom they look after."""

from functools import partial
from typing import Final

from loadtests.people import Person
from loadtests.scenarios.acting import (
    GOALS_WITH_PLANS,
    Actor,
    Answer,
    Scenario,
    Wrong,
    all_about,
    all_among,
    is_about,
    resources,
)

_PAGES: Final = 3
_PAGE: Final = 10


def play(actor: Actor) -> None:
    if actor.one_in(6):
        actor.ask_for_what_is_hidden()
    planned = [one for one in actor.mine if one.has_plan]
    if not planned:
        return
    if actor.one_in(4):
        _page_through(actor)
    else:
        _read_plan(actor, actor.chance.choice(planned))


def _read_plan(actor: Actor, person: Person) -> None:
    path = f"CarePlan?patient={person.id}"
    if GOALS_WITH_PLANS in actor.lacks:
        actor.ask("plans of one", "GET", path, check=all_about(person, least=1))
    else:
        path = f"{path}&_include=CarePlan:goal"
        actor.ask("plans with goals of one", "GET", path, check=all_about(person, least=3))
    goal = f"Goal/{person.id}-goal-1"
    actor.ask("goal: read", "GET", goal, check=is_about(person, "Goal"))


def _page_through(actor: Actor) -> None:
    """As far as a person at a screen would."""
    path = f"CarePlan?status=active&_count={_PAGE}"
    seen: set[str] = set()
    for _ in range(_PAGES):
        check = partial(_is_further_page, actor=actor, seen=frozenset(seen))
        answer = actor.ask("page of plans", "GET", path, check=check)
        seen |= {one["id"] for one in resources(answer)}
        links = {link["relation"]: link["url"] for link in answer.json().get("link", ())}
        if "next" not in links:
            return
        path = links["next"]


def _is_further_page(answer: Answer, actor: Actor, seen: frozenset[str]) -> None:
    all_among(actor.mine)(answer)
    if seen & {one["id"] for one in resources(answer)}:
        raise Wrong("the same plan on two pages")


_NEEDED: Final = {"CarePlan": ("search-type",), "Goal": ("read",)}
SCENARIO: Final = Scenario(
    *("partners", "partner", 36, 6.0, 0.15, play), own=False, interactions=_NEEDED
)
