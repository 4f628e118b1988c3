"""Facts follow the commits, and decisions the facts: at once, on every backend."""

from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.decision import DENIED
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Store
from tests.access.people import (
    NOW,
    child,
    consent,
    episode,
    somebody,
)

WRITER: Final = Caller("writer")
KEYWORKER: Final = somebody("Practitioner/kw", "X1")


async def write(store: Store, *resources: Resource) -> None:
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


async def test_a_commit_decides_at_once(store: Store) -> None:
    await remaking.ensure(store)
    decisions = TableDecisions()
    assert await rows(decisions, store, KEYWORKER) == {}
    await write(store, child(), episode("Practitioner/kw"), consent())
    assert await rows(decisions, store, KEYWORKER) == {"1": 2}
    assert (await decisions.about(store, KEYWORKER, "1", NOW)).row == 2
    await write(store, consent(status="inactive"))
    assert await rows(decisions, store, KEYWORKER) == {"1": 15}
    await delete(store, "EpisodeOfCare", "e")
    assert await rows(decisions, store, KEYWORKER) == {}
    assert await decisions.about(store, KEYWORKER, "1", NOW) == DENIED
