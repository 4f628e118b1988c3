"""Searches that were read before mean what they meant, as long as what they hang on is the same."""

from typing import Any, Final

import pytest

from fhir_server.errors import FhirError
from fhir_server.search.again import Read
from fhir_server.search.ast import KeptQuery
from fhir_server.search.limits import Limits
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import SearchRequest, parse
from tests.storage.questions import BASE, NOW

KNOWN: Final = ParameterSet()
LIMITS: Final = Limits()
USUAL: Final[dict[str, Any]] = {
    "base": BASE,
    "now": NOW,
    "limits": LIMITS,
    "lenient": False,
    "known": KNOWN,
}
ASKED: Final = [("patient", "1"), ("status", "active"), ("_count", "5"), ("_sort", "-date")]


def read(reader: Read, parameters: list[tuple[str, str]], **changed: Any) -> SearchRequest:
    return reader.parse("CarePlan", parameters, **{**USUAL, **changed})


def test_the_same_is_read_once_and_then_the_same_object_for_the_store() -> None:
    reader = Read()
    first, second, third = (read(reader, list(ASKED)) for _ in range(3))
    assert type(first.query) is not KeptQuery
    assert isinstance(second.query, KeptQuery)
    assert third.query is second.query
    expected = parse("CarePlan", ASKED, **USUAL)
    for one in (first, second, third):
        assert (one.query.resource_type, one.query.where, one.query.sort) == (
            *("CarePlan", expected.query.where),
            expected.query.sort,
        )
        assert (one.count, one.used, one.total) == (5, tuple(ASKED), False)


@pytest.mark.parametrize(
    "changed",
    [
        {"base": "https://elsewhere.example/fhir"},
        {"limits": Limits(max_count=3)},
        {"known": ParameterSet()},
        {"lenient": True},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_it_hangs_on_is_part_of_it(changed: dict[str, Any]) -> None:
    reader = Read()
    for _ in range(2):
        read(reader, ASKED)
    found = read(reader, ASKED, **changed)
    expected = parse("CarePlan", ASKED, **{**USUAL, **changed})
    assert (found.query.where, found.count) == (expected.query.where, expected.count)
    assert found.known is expected.known


def test_what_is_about_now_is_read_each_time() -> None:
    reader, asked = Read(), [("date", "ap2020-01-01")]
    earlier = read(reader, asked)
    assert read(reader, asked, now=NOW + 10**14).query.where != earlier.query.where


def test_what_is_refused_is_refused_each_time_and_left_out_when_lenient() -> None:
    reader, asked = Read(), [*ASKED, ("nothing", "1")]
    for _ in range(3):
        with pytest.raises(FhirError, match="nothing"):
            read(reader, asked)
    for _ in range(3):
        assert [one.text[:8] for one in read(reader, asked, lenient=True).ignored] == ["Ignored:"]


def test_other_values_orders_and_types_are_other_searches() -> None:
    reader = Read()
    others = [[("patient", "2"), *ASKED[1:]], ASKED[::-1], ASKED[:-1], ASKED]
    for _ in range(3):
        for one in others:
            assert read(reader, one).query.where == parse("CarePlan", one, **USUAL).query.where
    goals = reader.parse("Goal", [("patient", "1")], **USUAL)
    plans = reader.parse("CarePlan", [("patient", "1")], **USUAL)
    assert (goals.query.resource_type, plans.query.resource_type) == ("Goal", "CarePlan")
