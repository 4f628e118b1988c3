"""What R4 says a search finds, case by case: `cases/*.json`, cut along the standard's chapters.

Each case is asked of `match`, and of every backend.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query
from fhir_server.search.match import match, others
from fhir_server.terminology.resolve import resolved
from tests.search.shelf import Shelf
from tests.storage.backends import BACKENDS
from tests.storage.questions import found, put, query

FILES: Final = sorted((Path(__file__).with_name("cases")).glob("*.json"))


def content(path: Path) -> Any:
    return json.decode(path.read_bytes())


def resources(path: Path) -> list[Resource]:
    return [
        {**resource, "id": resource_id}
        for resource_id, resource in content(path)["resources"].items()
    ]


def every_case() -> Iterator[Any]:
    for path in FILES:
        for case in content(path)["cases"]:
            yield pytest.param(
                path, case["search"], case["finds"], id=f"{path.stem}: {case['rule']}"
            )


@pytest.mark.parametrize(("path", "search", "finds"), [*every_case()])
async def test_match_finds(path: Path, search: str, finds: list[str]) -> None:
    asked = await resolved(query(search), Shelf(resources(path)))
    assert isinstance(asked, Query)
    world = others(resources(path))
    matching = [
        resource["id"]
        for resource in resources(path)
        if resource["resourceType"] == asked.resource_type and match(asked.where, resource, world)
    ]
    assert sorted(matching) == sorted(finds)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_backend_finds(backend: str, path: Path, tmp_path: Path) -> None:
    store = await BACKENDS[backend].open(tmp_path)
    try:
        await put(store, *resources(path))
        wrong = {}
        for case in content(path)["cases"]:
            if any(name in case["search"] for name in content(path).get("set_by_the_store", ())):
                continue
            ids = await found(store, case["search"], 3)
            if sorted(ids) != sorted(case["finds"]):
                wrong[case["search"]] = ids
        assert wrong == {}
    finally:
        await store.close()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_names_resources_of_its_file(path: Path) -> None:
    known = set(content(path)["resources"])
    for case in content(path)["cases"]:
        assert set(case["finds"]) <= known, case["rule"]
        assert len(set(case["finds"])) == len(case["finds"]), case["rule"]
