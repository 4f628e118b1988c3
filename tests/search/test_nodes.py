"""Every kind of node is known wherever nodes are read: a new one that is forgotten fails here.

What a node means is the cases' and the oracle's; here each kind stands once in every position,
and no reader may stumble over it or leave untouched what lies within it.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, get_args

import pytest

from fhir_server.fhir.json import Resource
from fhir_server.search import ast, contained
from fhir_server.search.ast import (
    And,
    Chain,
    CompositeMatches,
    Contains,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    Has,
    IdIn,
    InValueSet,
    Missing,
    Near,
    Node,
    Not,
    Nothing,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    Query,
    ReferenceTo,
    StringMatches,
    StringMode,
    Subsumes,
    TextMatches,
    TokenIn,
    TokenIs,
    TokenLike,
    UriBelow,
    UriIs,
)
from fhir_server.search.match import match, others
from fhir_server.search.rewrite import guarded
from fhir_server.storage.interface import Store
from fhir_server.terminology.resolve import resolved
from tests.search.shelf import Shelf
from tests.storage.conftest import backend, store
from tests.storage.questions import put

__all__ = ["backend", "store"]
KINDS: Final[tuple[type, ...]] = get_args(ast.Node)
"""`Node` is one flat union of all of them."""
TOKEN: Final = TokenIs("code", None, "a")
CODES: Final = "https://keyworking.example/ValueSet/codes"
HELD: Final = (CompositeMatches, Differs)
"""They hold predicates alone, which no rewrite changes."""
EXAMPLES: Final[tuple[Node, ...]] = (
    Everything(),
    Nothing(),
    And((TOKEN, IdIn(("1",)))),
    Or((TOKEN, IdIn(("2",)))),
    Not(TOKEN),
    Missing("code", "token"),
    IdIn(("1",)),
    TOKEN,
    TokenIn("code", frozenset({("urn:s", "a")})),
    TokenLike("code", None, "a"),
    StringMatches("value-string", StringMode.STARTS, "calm"),
    TextMatches("_content", "calm"),
    ReferenceTo("subject", ("Patient/p",)),
    UriIs("_source", "urn:ward"),
    UriBelow("_source", "urn:ward"),
    DateCompares("date", Prefix.LT, 10**15, 10**15),
    DateCovers("date", 0, 1),
    NumberCompares("value-quantity", Prefix.GE, 1.0, 1.0, 1.0),
    QuantityCompares("value-quantity", Prefix.GE, 5.0, 5.0, 5.0, "", ""),
    Near("near", 51.5, 0.0, 1000.0),
    CompositeMatches("code-value-string", (TOKEN, Everything())),
    Differs("code", TOKEN),
    Chain("subject", "Patient", ("Patient/",), IdIn(("p",))),
    Has("Observation", "focus", ("Observation/",), IdIn(("1",))),
    Contains("Patient", TokenIs("gender", None, "male")),
    InValueSet("code", CODES),
    Subsumes("code", "urn:s", "a"),
)
LEAVES: Final = tuple(
    one
    for one in EXAMPLES
    if not isinstance(one, Everything | Nothing | And | Or | Not | Has | Contains | IdIn)
)


def changed(one: Node, /, **values: Any) -> Any:
    return replace(one, **values)


def of_kind(kind: type) -> Node:
    return next(one for one in EXAMPLES if type(one) is kind)


def inner(node: Any) -> Iterator[Any]:
    """Whatever nodes lie within it, found by the fields of their classes."""
    for field in fields(node):
        value = getattr(node, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if is_dataclass(one):
                yield one
                yield from inner(one)


def holding(node: Node) -> Iterator[Node]:
    """Each kind that can hold nodes, with this one in it."""
    for kind in KINDS:
        names = {field.name for field in fields(kind)}
        if kind in HELD:
            continue
        if "node" in names:
            yield changed(of_kind(kind), node=node)
        elif "nodes" in names:
            yield changed(of_kind(kind), nodes=(TOKEN, node))


def observation(resource_id: str, code: str, **rest: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": code}], "text": "Calm"},
        **rest,
    }


RESOURCES: Final[tuple[Resource, ...]] = (
    observation("1", "a", subject={"reference": "Patient/p"}, effectiveDateTime="2020-01-01"),
    observation("2", "b", valueQuantity={"value": 7}, meta={"source": "urn:ward"}),
    observation("3", "A", focus=[{"reference": "Observation/1"}], valueString="calm"),
    observation("4", "c", contained=[{"resourceType": "Patient", "id": "x", "gender": "male"}]),
    {"resourceType": "Patient", "id": "p", "gender": "male"},
)
CODE_SYSTEM: Final[Resource] = {
    "resourceType": "CodeSystem",
    "url": "urn:s",
    "content": "complete",
    "concept": [{"code": "a", "concept": [{"code": "b"}]}],
}
VALUE_SET: Final[Resource] = {
    "resourceType": "ValueSet",
    "url": CODES,
    "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}]}]},
}


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(one) for one in EXAMPLES} == set(KINDS)


POSITIONS: Final[dict[str, Callable[[Node], Node]]] = {
    "alone": lambda node: node,
    "denied": Not,
    "beside": lambda node: And((Missing("focus", "reference"), node)),
    "either": lambda node: Or((IdIn(("4",)), node)),
    "either of one parameter": lambda node: Or((TokenIs("code", None, "c"), node)),
    "behind": lambda node: Has("Observation", "focus", ("Observation/",), node),
    "before": lambda node: Chain("focus", "Observation", ("Observation/",), node),
    "denied behind": lambda node: Chain("focus", "Observation", ("Observation/",), Not(node)),
    "contained": lambda node: Contains("Patient", contained.inside(node)),
    "not contained": lambda node: Contains("Patient", contained.inside(Not(node))),
}


@pytest.mark.parametrize("position", POSITIONS)
async def test_a_backend_takes_every_kind_in_every_position(store: Store, position: str) -> None:
    await put(store, *RESOURCES)
    stored = [
        {**one, "meta": {**one.get("meta", {}), "lastUpdated": "2026-01-01T00:00:00Z"}}
        for one in RESOURCES
    ]
    world = others(stored)
    shelf = Shelf([CODE_SYSTEM, VALUE_SET])
    for example in EXAMPLES:
        query = await resolved(Query("Observation", POSITIONS[position](example)), shelf)
        assert isinstance(query, Query)
        found = {version.id for version in (await store.search(query, 100)).matches}
        meant = {
            one["id"]
            for one in stored
            if one["resourceType"] == "Observation" and match(query.where, one, world)
        }
        assert found == meant, example
        assert await store.total(query) == len(meant), example


async def test_codes_are_looked_up_within_every_kind() -> None:
    shelf = Shelf([CODE_SYSTEM, VALUE_SET])
    for asked in (InValueSet("code", CODES), Subsumes("code", "urn:s", "a")):
        for example in holding(asked):
            query = await resolved(Query("Observation", example), shelf)
            assert isinstance(query, Query)
            assert not any(isinstance(one, InValueSet | Subsumes) for one in inner(query)), example


def test_the_policy_is_within_every_kind() -> None:
    """At the end of every hop, wherever it stands."""
    allowed = TokenIs("_tag", None, "allowed")
    for hop in (of_kind(Chain), of_kind(Has)):
        for example in holding(hop):
            query = guarded(Query("Observation", example), lambda _type, _used, _targets: allowed)
            for one in inner(query):
                if isinstance(one, Chain | Has):
                    assert allowed in inner(one), example


def test_what_no_contained_resource_has_is_taken_out_of_every_kind() -> None:
    for asked in (of_kind(Has), TextMatches("_content", "calm")):
        for outer in (And, Or):
            found = contained.inside(outer((TOKEN, asked)))
            assert asked not in (found, *inner(found))
        found = contained.inside(Not(Not(asked)))
        assert asked not in (found, *inner(found))


def test_added_parameters_are_seen_in_every_kind() -> None:
    for leaf in LEAVES:
        asked = changed(leaf, code="risk~1")
        assert contained.asks_added(asked), asked
        assert contained.asks_added(Not(Or((TOKEN, And((TOKEN, asked))))))
        assert not contained.asks_added(leaf), leaf
    for example in EXAMPLES:
        assert not contained.asks_added(example), example


SOME: Final = ReferenceTo("patient", ("Patient/1", "Patient/2"))
ONE: Final = ReferenceTo("patient", ("Patient/1",))


@pytest.mark.parametrize(
    ("asked", "allowed", "wanted"),
    [
        (SOME, ONE, ONE),
        (ONE, ONE, ONE),
        (And((TOKEN, SOME)), ONE, And((TOKEN, ONE))),
        (SOME, And((ONE, TOKEN)), And((ONE, TOKEN))),
        (ONE, SOME, And((ONE, SOME))),
        (replace(SOME, code="subject"), ONE, And((replace(SOME, code="subject"), ONE))),
        (replace(SOME, version="2"), ONE, And((replace(SOME, version="2"), ONE))),
        (SOME, replace(ONE, version="2"), And((SOME, replace(ONE, version="2")))),
        (Or((SOME, TOKEN)), ONE, And((Or((SOME, TOKEN)), ONE))),
        (Not(SOME), ONE, And((Not(SOME), ONE))),
        (SOME, Not(ONE), And((SOME, Not(ONE)))),
        (SOME, Or((ONE, TOKEN)), And((SOME, Or((ONE, TOKEN))))),
        (SOME, Nothing(), Nothing()),
        (SOME, Everything(), SOME),
    ],
)
def test_what_a_policy_narrows_is_asked_once(asked: Node, allowed: Node, wanted: Node) -> None:
    query = guarded(Query("CarePlan", asked), lambda _type, _used, _targets: allowed)
    assert query == Query("CarePlan", wanted)
