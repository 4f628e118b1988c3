"""What is read off the bytes of a resource is what decoding it tells, or nothing."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from fhir_server.access.as_stored import behind, category_marks, has_one, mark_of
from fhir_server.access.decision import Area, Decision, Sight
from fhir_server.access.masking import masked
from fhir_server.access.membership import element_of, record_types
from fhir_server.access.sight import Shown, sight_of
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.definitions import type_definition
from fhir_server.storage.interface import StoredVersion
from tests.access.deciding import about, rating

OTHER: Final = {"resourceType": "CarePlan", "id": "x", "subject": {"reference": "Patient/2"}}
PLANS: Final = Decision(5, ((Area.PLAN, Sight.ALL),), plan_categories=frozenset({"a", "b"}))


def _inside(resource_type: str) -> Iterator[str]:
    """The names of all elements below those of the type, but for what is contained."""
    todo, seen = (
        [one.type for one in type_definition(resource_type).elements.values()],
        {"Resource"},
    )
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            elements = type_definition(name).elements
            yield from elements
            todo += [one.type for one in elements.values()]


@pytest.mark.parametrize("resource_type", record_types())
def test_no_element_inside_is_called_as_the_one_that_says_whose_it_is(resource_type: str) -> None:
    inside = set(_inside(resource_type))
    assert "system" in inside
    assert element_of(resource_type) not in inside


def test_no_element_inside_a_plan_is_called_category() -> None:
    assert "category" not in set(_inside("CarePlan"))


@pytest.mark.parametrize(
    ("resource", "read"),
    [
        (about("CarePlan", "c", "1"), "1"),
        (about("Task", "t", "1"), "1"),
        ({"resourceType": "Patient", "id": "1"}, "1"),
        ({"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "2"}]}, ""),
        ({"resourceType": "CarePlan", "id": "c", "contained": [OTHER]}, ""),
        (
            {"resourceType": "CarePlan", "id": "c", "title": ',"subject":{"reference":"Patient/2"'},
            "",
        ),
        ({"resourceType": "CarePlan", "id": "c", "subject": {"reference": "Group/1"}}, ""),
        ({"resourceType": "CarePlan", "id": "c", "author": {"reference": "Patient/2"}}, ""),
    ],
)
def test_whose_it_is(resource: dict[str, Any], read: str) -> None:
    assert behind(mark_of(resource["resourceType"]), json.encode(resource)) == read


def _plan(*codes: str, system: str = canonicals.CARE_PLAN_CATEGORY, **rest: Any) -> dict[str, Any]:
    category = [{"coding": [{"system": system, "code": one}]} for one in codes]
    return {**rest, **about("CarePlan", "c", "1"), "category": category}


@pytest.mark.parametrize(
    "plan",
    [
        _plan("a"),
        _plan("b", "x"),
        _plan("x", "b"),
        _plan("x"),
        _plan("ab"),
        _plan("a", system="http://elsewhere"),
        _plan(),
        {**_plan("x"), "contained": [_plan("a")]},
        {"contained": [_plan("a")], **_plan("x")},
        {**_plan("x"), "title": str(category_marks(frozenset("a"))[0])},
    ],
)
def test_a_plan_is_seen_for_its_categories_alone(plan: dict[str, Any]) -> None:
    body = json.encode(plan)
    version = StoredVersion("CarePlan", "c", 1, 1, "PUT", body)
    if has_one(category_marks(PLANS.plan_categories), body):
        assert sight_of(PLANS, plan) is Sight.ALL
        assert Shown(PLANS).through(version, masks=True) is version
    else:
        assert Shown(PLANS).through(version, masks=True) is None


def test_a_category_is_found_where_it_stands_first() -> None:
    assert has_one(category_marks(PLANS.plan_categories), json.encode(_plan("b", "x")))


@pytest.mark.parametrize(
    "decision",
    [
        Decision(0),
        Decision(2, ((Area.PLAN, Sight.NONE),)),
        Decision(2, ((Area.PLAN, Sight.ALL),), without_types=frozenset({"CarePlan"})),
        Decision(2, ((Area.PLAN, Sight.ALL),), without_labels=frozenset({("s", "c")})),
        Decision(4, ((Area.PLAN, Sight.COLOUR),)),
    ],
)
def test_what_hangs_on_more_is_looked_into(decision: Decision) -> None:
    plan = StoredVersion("CarePlan", "c", 1, 1, "PUT", json.encode(_plan("a")))
    assert Shown(decision).through(plan, masks=True) is None
    whole = Shown(Decision(2, ((Area.PLAN, Sight.ALL),)))
    assert whole.through(plan, masks=False) is plan


def test_what_is_seen_in_part_is_known_only_where_it_was_masked_and_is_shown() -> None:
    shown = Shown(Decision(4, ((Area.FLAG, Sight.COLOUR),)))
    live, over = (
        StoredVersion("Flag", f"shown-{status}", 1, 1, "PUT", json.encode(told))
        for status in ("active", "inactive")
        for told in [rating(f"shown-{status}", "1", status=status)]
    )
    assert shown.through(live, masks=True) is None
    covered = masked(live)
    assert shown.through(live, masks=True) == covered != live
    assert shown.through(live, masks=False) is None
    assert (
        shown.through(live._replace(body=live.body.replace(b"red", b"green")), masks=True) is None
    )
    masked(over)
    assert shown.through(over, masks=True) is None
