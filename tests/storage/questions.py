"""Small helpers to ask a store, shared by the tests of storage and search."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query
from fhir_server.search.parameters import BUILT_IN, ParameterSet
from fhir_server.search.parse import parse
from fhir_server.storage.interface import Draft, HistoryEntry, Reader, Store, StoredVersion, Unit
from fhir_server.terminology.resolve import resolved

BASE: Final = "https://keyworking.example/fhir"
NOW: Final = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z"""


def query(text: str, known: ParameterSet = BUILT_IN) -> Query:
    """`CarePlan?patient=1&status=active` as a query."""
    resource_type, _, parameters = text.partition("?")
    pairs = parse_qsl(parameters, keep_blank_values=True)
    return parse(resource_type, pairs, base=BASE, now=NOW, known=known).query


async def found(store: Reader, text: str, count: int = 100) -> list[str]:
    """The ids of all matches in order, page after page; value sets are those in the store."""
    asked = await resolved(query(text, await store.parameters()), store)
    page = await store.search(asked, count)
    ids = [match.id for match in page.matches]
    while page.after is not None:
        page = await store.search(asked, count, page.after)
        assert page.matches, "only a page with something on it may follow"
        ids += [match.id for match in page.matches]
    return ids


async def put(store: Store, *resources: Mapping[str, Any]) -> list[StoredVersion]:
    """Write the resources in one commit."""

    async def work(unit: Unit) -> list[StoredVersion]:
        return [await unit.put(Draft(resource), "PUT") for resource in resources]

    return await store.commit(work)


async def delete(store: Store, resource_type: str, *ids: str) -> list[StoredVersion]:
    async def work(unit: Unit) -> list[StoredVersion]:
        return [await unit.delete(resource_type, resource_id) for resource_id in ids]

    return await store.commit(work)


def patient(resource_id: str, family: str | None = None, **rest: Any) -> Resource:
    names: Resource = {} if family is None else {"name": [{"family": family}]}
    return {"resourceType": "Patient", "id": resource_id, **names, **rest}


def versions(history: Sequence[HistoryEntry]) -> list[int]:
    return [entry.stored.version for entry in history]
