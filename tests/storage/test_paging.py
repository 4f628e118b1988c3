"""Keyset paging: whoever is not written meanwhile appears exactly once, in order.

https://hl7.org/fhir/R4/http.html#paging asks for no more than stable links; DESIGN.md promises
this.
"""

import itertools
import json
from typing import Any, Final

import pytest

from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Position, Store, StoredVersion
from tests.storage.backends import BACKENDS, Backend
from tests.storage.questions import delete, found, patient, put, query
from tests.stores import NIGHTLY

STEADY: Final = 60
PAGE: Final = 7
FAMILIES: Final = ("Ash", None, "ash", "Ásh", "Birch", "Zelkova", "")
BIRTHS: Final = ("2010", None, "2010-06", "2010-06-15", "2011-01-01")


@pytest.fixture
def steady_ones(backend: Backend) -> int:
    """All of them every night; of each family, birth and gap several on a slow test server."""
    return STEADY if NIGHTLY else backend.fewer(STEADY, 24)


def steady(number: int, among: int = STEADY) -> Resource:
    """Duplicates and gaps in every sort value, in an order unlike that of the ids."""
    rest: Resource = {"active": True, "identifier": [{"system": "urn:n", "value": str(number)}]}
    birth = BIRTHS[number % len(BIRTHS)]
    if birth is not None:
        rest["birthDate"] = birth
    if number % 3:
        rest["gender"] = ("male", "female")[number % 2]
    if number % 4:
        rest["generalPractitioner"] = [{"reference": f"Practitioner/{number % 5}"}]
    return patient(f"s{(number * 37) % among:02}", FAMILIES[number % len(FAMILIES)], **rest)


async def write_steady(store: Store, among: int) -> None:
    """Some in each commit, so that some were last updated at one time."""
    for number in range(0, among, 6):
        await put(store, *(steady(number + n, among) for n in range(6)))


def passing(number: int) -> Resource:
    return steady(number) | {"id": f"x{number:03}", "active": False}


async def write_others(store: Store, round_: int) -> None:
    """New ones, changed ones and deleted ones, all over the order."""
    await put(store, *(passing(round_ * 10 + n) for n in range(10)))
    if round_:
        await put(store, *(passing((round_ - 1) * 10 + n) for n in range(5)))
        await delete(store, "Patient", *(f"x{(round_ - 1) * 10 + n:03}" for n in range(5, 10)))


async def leaf_through(store: Store, text: str) -> list[StoredVersion]:
    """Every page, others being written between; positions go through JSON, as in a link."""
    asked = query(text)
    seen: list[StoredVersion] = []
    after: Position | None = None
    for round_ in itertools.count():
        page = await store.search(asked, PAGE, after)
        seen += page.matches
        if page.after is None:
            return seen
        assert len(page.matches) == PAGE
        after = tuple(json.loads(json.dumps(list(page.after), allow_nan=False)))
        if round_ < 12:
            await write_others(store, round_)
    raise AssertionError


SORTS: Final = [
    "",
    *(
        sign + code
        for sign in ("", "-")
        for code in ("_id", "_lastUpdated", "family", "birthdate", "gender", "general-practitioner")
    ),
    "family,-birthdate",
    "-gender,birthdate,-_lastUpdated",
    "birthdate,-_id",
    "_lastUpdated,family",
    "death-date",
]
FEW_SORTS: Final = (
    "",
    "-_id",
    "family",
    "-general-practitioner",
    "-gender,birthdate,-_lastUpdated",
)
"""Of each kind: none, the id, the time, texts, references, and several with gaps."""
ASKED: Final = [
    (name, sort)
    for name in sorted(BACKENDS)
    for sort in (SORTS if name == "sqlite" or NIGHTLY else FEW_SORTS)
]
of_each_sort: Final = pytest.mark.parametrize(("backend", "sort"), ASKED, indirect=["backend"])


@pytest.mark.parametrize(
    ("backend", "sort", "criterion"),
    [
        (name, sort, criterion)
        for name, sort in ASKED
        for criterion in ("", "&active=true")
        if not criterion or NIGHTLY or (name == "sqlite" and sort in FEW_SORTS)
    ],
    indirect=["backend"],
)
async def test_pages_give_each_resource_once_while_others_are_written(
    store: Store, steady_ones: int, sort: str, criterion: str
) -> None:
    await write_steady(store, steady_ones)
    seen = await leaf_through(store, f"Patient?{f'_sort={sort}' if sort else ''}{criterion}")
    ids = [stored.id for stored in seen if stored.id.startswith("s")]
    assert sorted(ids) == sorted(f"s{number:02}" for number in range(steady_ones))
    # Without writes in between, the order is the same.
    plain = await found(store, f"Patient?active=true{f'&_sort={sort}' if sort else ''}", 1000)
    assert ids == plain


@of_each_sort
async def test_a_page_is_found_again_by_where_it_begins_and_ends(
    store: Store, steady_ones: int, sort: str
) -> None:
    await write_steady(store, steady_ones)
    asked = query(f"Patient?_sort={sort}" if sort else "Patient")
    ends: list[Position | None] = [None]
    pages: list[list[str]] = []
    while not pages or ends[-1] is not None:
        page = await store.search(asked, PAGE, ends[-1])
        pages.append([match.id for match in page.matches])
        ends.append(page.after)
    for round_ in range(3):
        await write_others(store, round_)
    for ids, after, until in zip(pages, ends[:-1], ends[1:], strict=True):
        again = await store.search(asked, 1000, after, until)
        assert [match.id for match in again.matches if match.id.startswith("s")] == ids
    at_once = await store.search(asked, 2, ends[0], ends[1])
    assert len(at_once.matches) == 2
    assert at_once.after is not None


@pytest.mark.parametrize("count", [1, 2, 59, 60, 61])
async def test_pages_of_any_size_end_where_the_matches_end(store: Store, count: int) -> None:
    await put(store, *(steady(number) for number in range(STEADY)))
    assert len(await found(store, "Patient?_sort=family", count)) == STEADY
    assert await store.total(query("Patient?_sort=family")) == STEADY


async def test_resources_without_a_value_come_last_in_either_direction(store: Store) -> None:
    await put(store, patient("none"), patient("b", "Birch"), patient("a", "Ash"))
    assert await found(store, "Patient?_sort=family", 1) == ["a", "b", "none"]
    assert await found(store, "Patient?_sort=-family", 1) == ["b", "a", "none"]


async def test_a_quantity_without_an_upper_bound_sorts_and_pages(store: Store) -> None:
    def weighed(resource_id: str, **value: Any) -> Resource:
        code = {"coding": [{"code": "weight"}]}
        observation = {"resourceType": "Observation", "id": resource_id, "status": "final"}
        return {**observation, "code": code, "valueQuantity": {"unit": "kg", **value}}

    await put(store, weighed("open", value=5, comparator=">"), weighed("six", value=6))
    await put(store, weighed("small", value=1, comparator="<"), weighed("none"))
    for sort, expected in {
        "value-quantity": ["small", "open", "six", "none"],
        "-value-quantity": ["open", "six", "small", "none"],
    }.items():
        seen: list[str] = []
        after: Position | None = None
        while True:
            page = await store.search(query(f"Observation?_sort={sort}"), 1, after)
            seen += [match.id for match in page.matches]
            if page.after is None:
                break
            after = tuple(json.loads(json.dumps(list(page.after), allow_nan=False)))
        assert seen == expected


async def test_an_empty_result_is_one_empty_last_page(store: Store) -> None:
    page = await store.search(query("Patient?family=nobody&_sort=family"), 10)
    assert (list(page.matches), page.after) == ([], None)
