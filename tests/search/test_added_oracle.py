"""Every backend finds by added parameters what it finds by R4's own with the same definition."""

from pathlib import Path
from random import Random
from typing import Final

import pytest

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import parse
from fhir_server.storage.interface import Store, Unit
from fhir_server.storage.remaking import remake
from fhir_server.terminology.resolve import resolved
from tests.search import ask, generate
from tests.search.comparing import COMMON, pages, random_of, with_times
from tests.search.shelf import Shelf
from tests.search.test_parameters import again
from tests.storage.backends import BACKENDS
from tests.storage.questions import BASE, NOW, put
from tests.stores import NIGHTLY

Asked = list[tuple[str, str]]


FEWER: Final = ("CarePlan", "Consent", "Encounter", "Flag", "Location", "Observation", "Patient")
"""Those with the most kinds of parameters, for a backend that is slow here."""


@pytest.mark.parametrize(
    ("backend", "resource_type"),
    [
        (backend, resource_type)
        for backend in sorted(BACKENDS)
        for resource_type in (FEWER if backend == "mongo" else COMMON)
    ],
)
async def test_an_added_parameter_finds_what_r4_s_own_finds(
    backend: str, resource_type: str, tmp_path: Path
) -> None:
    random = random_of(len(resource_type))
    resources = [generate.resource(resource_type, f"r{n}", random) for n in range(30)]
    store = await BACKENDS[backend].open(tmp_path)
    try:
        await put(store, *resources[:20])
        await store.commit(lambda unit: define(unit, resource_type))
        await put(store, *resources[15:25])
        await remake(store)
        await put(store, *resources[20:])
        stored = [json.decode_resource(one.body) for _, one in await store.changes(0, 1000)]
        known = await store.parameters()
        asked = range(150 if NIGHTLY else 75 if backend == "sqlite" else 40)
        found = [await compare(store, known, resource_type, stored, random_of(n)) for n in asked]
        told_apart = sum(found)
        assert told_apart > len(asked) / 8, "of the searches that some but not all resources match"
    finally:
        await store.close()


async def define(unit: Unit, resource_type: str) -> None:
    known = await unit.parameters()
    for code, definition in again(resource_type).items():
        known = known.defined(code, definition)
    await unit.define(known)


async def compare(
    store: Store, known: ParameterSet, resource_type: str, stored: list[Resource], random: Random
) -> bool:
    """Whether there was something to be told apart."""
    drawn = ask.parameters(resource_type, random)
    asked = [(name, with_times(value, stored, random)) for name, value in drawn]
    named = renamed(asked, set(again(resource_type)))
    try:
        plain = await read(resource_type, asked, known)
    except FhirError:
        with pytest.raises(FhirError):
            await read(resource_type, named, known)
        return False
    added = await read(resource_type, named, known)
    expected = await pages(store, plain, 7)
    assert await pages(store, added, 7) == expected, named
    assert await store.total(added) == len(expected)
    return named != asked and 0 < len(expected) < 30


async def read(resource_type: str, asked: Asked, known: ParameterSet) -> Search:
    query = parse(resource_type, asked, base=BASE, now=NOW, known=known).query
    return await resolved(query, Shelf(generate.TERMINOLOGY))


def renamed(asked: Asked, codes: set[str]) -> Asked:
    """The same, by the added parameters."""

    def one(name: str) -> str:
        code, colon, modifier = name.partition(":")
        return f"x-{code}{colon}{modifier}" if code in codes else name

    def key(part: str) -> str:
        return "-" + one(part[1:]) if part.startswith("-") else one(part)

    return [
        (name, ",".join(map(key, value.split(",")))) if name == "_sort" else (one(name), value)
        for name, value in asked
    ]
