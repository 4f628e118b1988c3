"""What every backend promises of codes that were looked up, places and contained resources."""

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.fhir.dates import interval
from fhir_server.search.ast import (
    And,
    Contains,
    DateCompares,
    Everything,
    IdIn,
    Node,
    Not,
    Prefix,
    Query,
    TokenIn,
    TokenIs,
)
from fhir_server.storage.interface import (
    Draft,
    Store,
    Unit,
)
from tests.storage.questions import delete, found, put

# Codes that were looked up, and places


async def test_codes_are_found_among_thousands(store: Store) -> None:
    def condition(resource_id: str, system: str, code: str) -> dict[str, Any]:
        coding = [{"system": system, "code": code}] if code else [{"system": system}]
        return {"resourceType": "Condition", "id": resource_id, "code": {"coding": coding}}

    await put(
        store,
        condition("in", "http://s", "c777"),
        condition("elsewhere", "http://t", "c777"),
        condition("whole", "http://w", "any"),
        condition("but", "http://w", "not"),
        condition("bare", "http://w", ""),
    )
    pairs = frozenset(("http://s", f"c{number}") for number in range(10_000))
    node = TokenIn("code", pairs, ("http://w",), frozenset({("http://w", "not")}))
    for where, expected in ((node, ["in", "whole"]), (Not(node), ["elsewhere", "but", "bare"])):
        page = await store.search(Query("Condition", where), 10)
        assert sorted(match.id for match in page.matches) == sorted(expected)
        assert await store.total(Query("Condition", where)) == len(expected)


async def test_places_are_found_over_the_date_line_and_the_pole(store: Store) -> None:
    def location(resource_id: str, latitude: float, longitude: float) -> dict[str, Any]:
        position = {"latitude": Decimal(str(latitude)), "longitude": Decimal(str(longitude))}
        return {"resourceType": "Location", "id": resource_id, "position": position}

    await put(store, location("west", 0, 179.9), location("east", 0, -179.9))
    await put(store, location("pole", 89.9, 0), location("beyond", 89.9, 180))
    assert await found(store, "Location?near=0|180|12") == ["west", "east"]
    assert await found(store, "Location?near=0|180|11") == []
    assert await found(store, "Location?near=89.9|0|23") == ["pole", "beyond"]
    assert await found(store, "Location?near=89.9|0|22") == ["pole"]


# Contained resources


def with_goal(resource_id: str, *goals: dict[str, Any]) -> dict[str, Any]:
    inner = [{"resourceType": "Goal", "id": f"g{n}", **goal} for n, goal in enumerate(goals)]
    return {"resourceType": "CarePlan", "id": resource_id, "contained": inner, "status": "draft"}


async def containing(store: Store, node: Node) -> list[str]:
    asked = Query("CarePlan", Contains("Goal", node))
    page = await store.search(asked, 10)
    assert await store.total(asked) == len(page.matches)
    return [match.id for match in page.matches]


async def test_what_a_resource_contains_is_found_as_it_is_now(store: Store) -> None:
    active = TokenIs("lifecycle-status", None, "active")
    await put(store, with_goal("1", {"lifecycleStatus": "active"}), with_goal("2", {}))
    await put(store, {"resourceType": "Goal", "id": "g0", "lifecycleStatus": "active"})
    assert await containing(store, active) == ["1"]
    assert await containing(store, Everything()) == ["1", "2"]
    assert await containing(store, Not(active)) == ["2"]
    await put(store, with_goal("1", {"lifecycleStatus": "planned"}))
    await put(store, with_goal("2", {}, {"lifecycleStatus": "active"}))
    assert await containing(store, active) == ["2"]
    await delete(store, "CarePlan", "2")
    assert await containing(store, active) == []
    assert await found(store, "Goal?lifecycle-status=active") == ["g0"]


async def test_one_contained_resource_must_satisfy_it_all(store: Store) -> None:
    started = DateCompares("start-date", Prefix.GE, *interval("2026"))
    active = TokenIs("lifecycle-status", None, "active")
    apart = ({"lifecycleStatus": "active"}, {"startDate": "2026-02-01"})
    together = {"lifecycleStatus": "active", "startDate": "2026-02-01"}
    await put(store, with_goal("apart", *apart), with_goal("together", {}, together))
    assert await containing(store, And((active, started))) == ["together"]
    assert await containing(store, And((IdIn(("g1",)), active))) == ["together"]


async def test_a_commit_that_is_taken_back_leaves_nothing_contained(store: Store) -> None:
    async def work(unit: Unit) -> None:
        await unit.put(Draft(with_goal("1", {"lifecycleStatus": "active"})), "PUT")
        page = await unit.search(Query("CarePlan", Contains("Goal", Everything())), 5)
        assert len(page.matches) == 1
        raise LookupError

    with pytest.raises(LookupError):
        await store.commit(work)
    assert await containing(store, Everything()) == []
    await put(store, with_goal("2", {"lifecycleStatus": "active"}))
    assert await containing(store, TokenIs("lifecycle-status", None, "active")) == ["2"]


# Of which types there is something


async def test_a_commit_tells_of_which_types_something_refers_to_a_target(store: Store) -> None:
    def about(kind: str, element: str, whose: str) -> dict[str, Any]:
        return {"resourceType": kind, "id": whose, element: {"reference": f"Patient/{whose}"}}

    types, both = ("Consent", "Flag", "Goal", "Task"), ["Patient/1", "http://here/Patient/1"]

    async def asked(unit: Unit) -> list[frozenset[str]]:
        before = await unit.referring(types, "patient", both)
        await unit.put(Draft(about("Goal", "subject", "1")), "PUT")
        await unit.delete("Flag", "1")
        return [before, await unit.referring(types, "patient", both)]

    await put(store, about("Flag", "subject", "1"), about("Consent", "patient", "2"))
    assert await store.commit(asked) == [{"Flag"}, {"Goal"}]
