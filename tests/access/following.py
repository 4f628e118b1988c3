"""Resources as commits write them, and who is known by them."""

from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.case import Terms
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Store
from tests.access.people import NOW, child, consent, episode, somebody

WRITER: Final = Caller("writer")
KEYWORKER: Final = somebody("Practitioner/kw", "X1")
TERMS: Final = Terms({"H1": "health", "E1": "education"}, frozenset({"W1"}))
WORKED: Final = (child(), episode("Practitioner/kw"), consent())


async def write(store: Store, *resources: Resource) -> None:
    """In one commit."""

    async def work(unit: SessionUnit) -> None:
        for resource in resources:
            await unit.put(resource, "PUT")

    await Session(store, WRITER, OpenPolicy()).commit("update", work)


async def delete(store: Store, resource_type: str, resource_id: str) -> None:
    async def work(unit: SessionUnit) -> None:
        current = await unit.read(resource_type, resource_id)
        assert current is not None
        await unit.delete(current)

    await Session(store, WRITER, OpenPolicy()).commit("delete", work)


async def rows(
    decisions: TableDecisions, store: Store, caller: Caller, now: int = NOW
) -> dict[str, int]:
    """By patient, the row by which the caller knows of them."""
    known = await decisions.known(store, caller, now)
    return {one: decision.row for decision, ids in known.items() for one in ids}


async def started(store: Store, *resources: Resource) -> TableDecisions:
    await remaking.ensure(store)
    await write(store, *resources)
    return TableDecisions(TERMS)
