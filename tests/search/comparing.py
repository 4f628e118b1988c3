"""What a backend finds beside what `match` says, in the order that the sort says, page by page."""

import asyncio
import json as stdlib_json
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import total_ordering
from random import Random
from typing import Any, Final, TypeVar

from hypothesis import event
from hypothesis import strategies as st

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query, Search, SortKey
from fhir_server.search.extract import extract
from fhir_server.search.match import Others, match
from fhir_server.search.parse import parse
from fhir_server.search.values import (
    CompositeValue,
    ContainedValue,
    DateValue,
    IndexValue,
    NumberValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from fhir_server.storage.interface import Position, Store
from fhir_server.terminology.resolve import resolved
from tests.search import generate
from tests.search.shelf import Shelf
from tests.storage.backends import BACKENDS
from tests.storage.questions import BASE, NOW, put

COMMON: Final = (
    "Patient",
    "CarePlan",
    "Goal",
    "Flag",
    "Consent",
    "EpisodeOfCare",
    "Encounter",
    "Observation",
    "Task",
    "RiskAssessment",
    "Condition",
    "ChargeItem",
    "ValueSet",
    "Location",
)
EXAMPLES: Final = {"default": 300, "nightly": 20_000}[
    os.environ.get("HYPOTHESIS_PROFILE", "default")
]
SEEDS: Final = st.integers(0, 2**32)


def random_of(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - test data


_seen: Final[Counter[str]] = Counter()
_failed: Final[set[str]] = set()


def run_share(
    runner: asyncio.Runner, backend: str, compare: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Compare one example in so many on a slow server; all of them where one has failed."""
    test = os.environ["PYTEST_CURRENT_TEST"]
    _seen[test] += 1
    if (_seen[test] - 1) % BACKENDS[backend].share and test not in _failed:
        return
    try:
        runner.run(compare())
    except BaseException:
        _failed.add(test)
        raise


async def write(store: Store, resources: Sequence[Resource]) -> list[Resource]:
    """As they are stored, with `meta`; some were something else before."""
    await put(store, *(resource | {"implicitRules": "urn:old"} for resource in resources[::3]))
    await put(store, *resources[::2])
    versions = [(await put(store, resource))[0] for resource in resources[1::2]]
    for resource in resources[::2]:
        found = await store.read(resource["resourceType"], resource["id"])
        assert found is not None
        versions.append(found)
    return [json.decode_resource(version.body) for version in versions]


async def compare_asked(
    store: Store,
    resource_type: str,
    parameters: Sequence[tuple[str, str]],
    stored: Sequence[Resource],
    world: Others,
    random: Random,
) -> None:
    asked = [(name, with_times(value, stored, random)) for name, value in parameters]
    try:
        query = await told(parse(resource_type, asked, base=BASE, now=NOW).query)
    except FhirError:
        event("refused")
        return
    count = random.randint(1, 7)
    found = await pages(store, query, count)
    expected = {resource["id"] for resource in stored if match(query.where, resource, world)}
    assert sorted(found) == sorted(expected), f"{resource_type}?{asked} by {count}: {stored}"
    assert await store.total(query) == len(expected), f"{resource_type}?{asked}"
    by_id = {resource["id"]: resource for resource in stored}
    assert_sorted([by_id[resource_id] for resource_id in found], query.sort)
    event("some" if expected else "none")


def linked_resource(number: int, random: Random) -> Resource:
    """One whose id others are likely to refer to."""
    resource_type = generate.WORLD[number % len(generate.WORLD)]
    return generate.linked(resource_type, str(1 + number // len(generate.WORLD)), random, 3)


Asked = TypeVar("Asked", Query, Search)


async def told(search: Asked) -> Asked:
    """The search with the codes of the value sets in it."""
    found: Any = await resolved(search, Shelf(generate.TERMINOLOGY))
    return found  # type: ignore[no-any-return]


def with_times(text: str, stored: Sequence[Resource], random: Random) -> str:
    """`@3` is about the time when the third resource was written."""
    before, at, number = text.partition("@")
    if not at:
        return text
    written: str = stored[int(number) % len(stored)]["meta"]["lastUpdated"]
    return before + random.choice((written, written[:-4] + "Z", written[:-8] + "Z", written[:10]))


async def pages(store: Store, query: Search, count: int) -> list[str]:
    found: list[str] = []
    after: Position | None = None
    while True:
        page = await store.search(query, count, after)
        found += [match.id for match in page.matches]
        if page.after is None:
            return found
        assert len(page.matches) == count
        # Through JSON, as in a link.
        after = tuple(stdlib_json.loads(stdlib_json.dumps(page.after, allow_nan=False)))


# The sort, said once more in other words


@total_ordering
class Backwards:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backwards) and self.value == other.value

    def __lt__(self, other: "Backwards") -> bool:
        return bool(other.value < self.value)


def assert_sorted(resources: Sequence[Resource], sort: Sequence[SortKey]) -> None:
    places = [[place(resource, key) for key in sort] for resource in resources]
    assert places == sorted(places), sort


def place(resource: Resource, key: SortKey) -> tuple[Any, ...]:
    if key.code == "_id":
        values: list[Any] = [resource["id"]]
    else:
        values = [
            comparable(value)[key.descending]
            for code, value in extract(resource)
            if code == key.code
        ]
    if not values:
        return (1,)
    return (0, Backwards(max(values))) if key.descending else (0, min(values))


def comparable(value: IndexValue) -> tuple[Any, Any]:
    """What stands for the value ascending, and descending."""
    match value:
        case StringValue(text) | TokenValue(code=text) | ReferenceValue(text) | UriValue(text):
            return text, text
        case DateValue(low, high) | NumberValue(low, high) | QuantityValue(low, high):
            return low, high
        case CompositeValue() | TextValue() | PositionValue() | ContainedValue():
            raise TypeError(f"nothing is sorted by {value!r}")
