"""What is kept in memory of terminology resources: by content, and within a bound."""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.app import create_app
from fhir_server.fhir import json
from fhir_server.settings import Settings
from fhir_server.terminology import expansion
from fhir_server.terminology.expansion import Concept, Expansion
from fhir_server.terminology.held import MOST, SHELF, Held, Shelf, read


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
    shelf = Shelf(2 * Held("", json.decode_own(body("a")), size=len(body("a"))).cost)
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


def test_a_lower_bound_counts_at_once() -> None:
    shelf = Shelf()
    first = read(body("a"), shelf)
    shelf.allow(10)
    assert read(body("a"), shelf) is not first


def test_what_is_kept_is_reckoned_as_what_it_takes() -> None:
    """In memory, a code system is some ten times as large as its JSON."""
    concepts = [
        {
            "code": f"{number}",
            "display": f"Something that has a name, number {number}",
            "property": [{"code": "parent", "valueCode": f"{number // 5}"}],
        }
        for number in range(1, 5000)
    ]
    content = body("0", concept=[{"code": "0"}, *concepts])
    tracemalloc.start()
    try:
        held = read(content, Shelf())
        held.prepare()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * taken < held.cost < 2 * taken


def test_parts_are_one_system_that_is_complete_when_all_are_there() -> None:
    def part(code: str, **more: Any) -> Held:
        return read(body(code, content="fragment", count=3, **more), Shelf())

    two = part("a").joined([part("b")])
    assert not two.system.is_complete
    three = part("a").joined([part("b"), part("c")])
    assert three.system.is_complete
    assert {*three.system.concepts} == {"a", "b", "c"}
    assert two.key != three.key


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result()


@pytest.mark.usefixtures("switching")
def test_several_threads_may_read() -> None:
    shelf = Shelf(30)
    held = [Held(str(number), {}, cost=10) for number in range(6)]

    def work(_: int) -> None:
        for number in range(40_000):
            one = held[number % 6]
            if shelf.get(one.key) is None:
                shelf.put(one)

    at_once(work)
    assert sum(shelf.get(one.key) is not None for one in held) == 3


def made(count: int, display: str = "") -> Expansion:
    return Expansion([Concept("s", "c", display, (), False, False)] * count, ())


@pytest.mark.usefixtures("switching")
def test_several_threads_may_keep_expansions() -> None:
    shelf = expansion.Shelf(3 * made(1).size + 1000)

    def work(_: int) -> None:
        for number in range(4000):
            key = "url", str(number % 6)
            if shelf.get(key) is None:
                shelf.put(key, made(1))

    at_once(work)


def test_expansions_of_nothing_and_of_long_texts_are_within_the_bound() -> None:
    shelf = expansion.Shelf(100_000)
    for number in range(1000):
        shelf.put(("u" * 1000, str(number)), made(0))
    kept = [number for number in range(1000) if shelf.get(("u" * 1000, str(number)))]
    assert 50 < len(kept) < 100
    assert kept[-1] == 999
    shelf.put(("u", "long"), made(1, "x" * 200_000))
    assert shelf.get(("u", "long")) is None


def test_a_server_keeps_as_much_as_its_settings_say() -> None:
    try:
        create_app(Settings(auth="none", terminology_memory=1024 * 1024))
        assert SHELF.most == 1024 * 1024
    finally:
        SHELF.allow(MOST)
    assert Settings(auth="none").terminology_memory == MOST
