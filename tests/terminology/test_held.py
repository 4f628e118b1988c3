"""What is kept in memory of terminology resources: by content, and within a bound."""

from typing import Any

from fhir_server.fhir import json
from fhir_server.terminology.held import Held, Shelf, read


def body(code: str, **more: Any) -> bytes:
    system = {"resourceType": "CodeSystem", "url": "http://s", "content": "complete"}
    return json.encode({**system, "concept": [{"code": code}], **more})


def test_the_same_content_is_read_once() -> None:
    shelf = Shelf()
    first = read(body("a"), shelf)
    assert read(body("a"), shelf) is first
    assert first.system is first.system
    assert read(body("b"), shelf) is not first


def test_what_was_not_asked_for_the_longest_goes() -> None:
    size = len(body("a"))
    shelf = Shelf(2 * size)
    one, two = read(body("a"), shelf), read(body("b"), shelf)
    assert read(body("a"), shelf) is one
    read(body("c"), shelf)
    assert read(body("a"), shelf) is one
    assert read(body("b"), shelf) is not two


def test_what_is_larger_than_the_bound_is_given_and_not_kept() -> None:
    shelf = Shelf(10)
    first = read(body("a"), shelf)
    assert [*first.system.concepts] == ["a"]
    assert read(body("a"), shelf) is not first


def test_parts_are_one_system_that_is_complete_when_all_are_there() -> None:
    def part(code: str, **more: Any) -> Held:
        return read(body(code, content="fragment", count=3, **more), Shelf())

    two = part("a").joined([part("b")])
    assert not two.system.is_complete
    three = part("a").joined([part("b"), part("c")])
    assert three.system.is_complete
    assert {*three.system.concepts} == {"a", "b", "c"}
    assert two.key != three.key
