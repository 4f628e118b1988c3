"""The SQL of a page by its shape is what the same search is compiled to by itself."""

from typing import Any

import pytest

from fhir_server.search.ast import (
    And,
    Everything,
    IdIn,
    Missing,
    Node,
    Not,
    Or,
    Query,
    ReferenceTo,
    SortKey,
    TokenIs,
)
from fhir_server.storage.sqlite.compile import Compiler
from fhir_server.storage.sqlite.entries import ParameterNumbers, keyed_hash
from fhir_server.storage.sqlite.shapes import Shapes
from fhir_server.storage.sqlite.sql import Lists, Sql

HASHED = keyed_hash(b"secret")
PATIENT = ReferenceTo("patient", ("Patient/1", "https://example.org/Patient/1"))
OTHER = ReferenceTo("patient", ("Patient/22", "https://example.org/Patient/22"))
PLAN = TokenIs("category", "https://example.org", "plan")
OPEN = Or((TokenIs("status", None, "draft"), TokenIs("status", None, "active")))
OVER = Or((TokenIs("status", None, "draft"), TokenIs("status", None, "completed")))
LATEST = (SortKey("_lastUpdated", "date", descending=True),)


class Compiling:
    """Compiles, and counts how often it had to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, query: Query) -> tuple[Sql, bool]:
        self.times += 1
        return compiled(query, 0), True


def compiled(query: Query, count: int) -> Sql:
    return Compiler(query, HASHED, lambda kind, code: len(kind + code), Lists()).page(count, None)


def told(sql: Sql | None) -> tuple[str, list[Any]] | None:
    return None if sql is None else (sql.text, sql.arguments)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PATIENT, OTHER),
        (And((PATIENT, PLAN, OPEN)), And((OTHER, PLAN, OPEN))),
        (And((PATIENT, PLAN)), And((OTHER, TokenIs("category", "https://example.org", "goal")))),
        (And((PLAN, PATIENT)), And((PLAN, OTHER))),
        (And((PATIENT, PATIENT)), And((OTHER, PATIENT))),
        (
            And((PATIENT, Not(Missing("encounter", "reference")))),
            And((OTHER, Not(Missing("encounter", "reference")))),
        ),
        (And((PATIENT, Everything())), And((OTHER, Everything()))),
        (TokenIs("identifier", "a", "1"), TokenIs("identifier", "a", "2")),
    ],
)
@pytest.mark.parametrize("sort", [(), LATEST, (SortKey("date", "date"),)])
def test_searches_of_one_shape_are_compiled_once(
    first: Node, second: Node, sort: tuple[SortKey, ...]
) -> None:
    shapes, compiling = Shapes(HASHED, ParameterNumbers()), Compiling()
    for count, where in enumerate((first, second, first)):
        query = Query("CarePlan", where, sort)
        assert told(shapes.page(query, count, compiling)) == told(compiled(query, count))
    assert compiling.times == 1


@pytest.mark.parametrize(
    "other",
    [
        Query("CarePlan", And((PATIENT, PLAN, OVER))),
        Query("CarePlan", And((PATIENT, PLAN, OPEN)), LATEST),
        Query("Goal", And((PATIENT, PLAN, OPEN))),
        Query("CarePlan", And((PLAN, PATIENT, OPEN))),
        Query("CarePlan", And((PATIENT, TokenIs("category", None, "plan"), OPEN))),
        Query("CarePlan", And((PATIENT, TokenIs("category", "https://example.org", None), OPEN))),
        Query("CarePlan", And((ReferenceTo("patient", ("Patient/1",)), PLAN, OPEN))),
        Query("CarePlan", And((ReferenceTo("subject", PATIENT.targets), PLAN, OPEN))),
    ],
)
def test_searches_of_another_shape_are_compiled_by_themselves(other: Query) -> None:
    shapes, compiling = Shapes(HASHED, ParameterNumbers()), Compiling()
    shapes.page(Query("CarePlan", And((PATIENT, PLAN, OPEN))), 10, compiling)
    assert told(shapes.page(other, 10, compiling)) == told(compiled(other, 10))
    assert compiling.times == 2


@pytest.mark.parametrize(
    "where",
    [
        IdIn(("a",)),
        ReferenceTo("patient", PATIENT.targets, version="1"),
        ReferenceTo("patient", tuple(f"Patient/{number}" for number in range(9))),
        And((PATIENT, Or((PATIENT, OTHER)))),
        And((PATIENT, Or(tuple(TokenIs("status", None, str(number)) for number in range(17))))),
        And((PATIENT, Not(PLAN))),
    ],
)
def test_what_is_not_plain_has_no_shape(where: Node) -> None:
    shapes = Shapes(HASHED, ParameterNumbers())
    assert shapes.page(Query("CarePlan", where), 10, Compiling()) is None


def test_what_may_not_last_is_not_kept() -> None:
    numbers, query = ParameterNumbers(), Query("CarePlan", PATIENT)
    shapes = Shapes(HASHED, numbers)
    assert shapes.page(query, 10, lambda asked: (compiled(asked, 0), False)) is None
    kept = Compiling()
    shapes.page(query, 10, kept)
    numbers.forget()
    shapes.page(query, 10, kept)
    assert kept.times == 2


def test_what_is_compiled_while_numbers_are_forgotten_is_not_kept() -> None:
    numbers, query = ParameterNumbers(), Query("CarePlan", PATIENT)

    def meanwhile(asked: Query) -> tuple[Sql, bool]:
        numbers.forget()
        return compiled(asked, 0), True

    shapes, kept = Shapes(HASHED, numbers), Compiling()
    assert shapes.page(query, 10, meanwhile) is None
    shapes.page(query, 10, kept)
    assert kept.times == 1
