"""The service's own rights: for operations that declare why, and nothing else."""

import re
from pathlib import Path
from typing import Final

import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.access.session import Session, SessionUnit
from fhir_server.operation.api import Call
from fhir_server.operation.registry import load
from fhir_server.settings import Settings
from fhir_server.storage.audited import AuditQuery
from fhir_server.storage.interface import Store
from tests.access.deciding import Decided, about, session
from tests.storage.questions import patient, put
from tests.support import REPOSITORY

DOOR: Final = Path("fhir_server/operation/api.py")


def test_there_is_one_door_to_them() -> None:
    sources = [
        path.relative_to(REPOSITORY)
        for folder in ("fhir_server", "fhir_operations", "operations")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    taking = {
        path: re.findall(r"\b(\w+)\.as_service\(", (REPOSITORY / path).read_text())
        for path in sources
    }
    assert taking[DOOR] == ["call", "session"]  # the first in its words
    for path, names in taking.items():
        assert path == DOOR or set(names) <= {"call"}, path


def test_who_declares_them_says_why() -> None:
    declared = {one.code: one.as_service for one in load(Settings().operations) if one.as_service}
    assert sorted(declared) == [
        *("admission-risk", "allocate", "break-glass", "confirm-discharge", "oversight-report"),
        *("process-adt", "process-message", "refer", "remove-rating", "set-rating", "transition"),
        "withdraw",
    ]


async def test_an_operation_that_does_not_declare_them_has_none(store: Store) -> None:
    call = Call.__new__(Call)
    object.__setattr__(call, "service_reason", "")
    object.__setattr__(call, "code", "meta")
    object.__setattr__(call, "session", session(store, Decided()))
    with pytest.raises(PermissionError, match="AS_SERVICE"):
        call.as_service()


async def test_what_is_done_with_them_is_told_in_the_audit(
    store: Store,
) -> None:
    async def work(unit: SessionUnit) -> None:
        await unit.put(about("Task", "t1", "p1"), "POST")

    nobody = session(store, Decided())
    await nobody.as_service("to try it").commit("try", work)

    async def within(unit: SessionUnit) -> None:
        await unit.as_service("to try it").put(about("Task", "t2", "p1"), "POST")

    await nobody.commit("try", within)
    told = [entry.row for entry in await store.audited(AuditQuery(), 10)]
    assert [row.action for row in told] == ["try", "try"]
    assert [row.description for row in told] == ["as the service: to try it"] * 2
    assert await nobody.read("Task", "t1") is None


async def test_a_load_test_stays_within_its_bounds(store: Store) -> None:
    await put(store, patient("real"))
    caller = Caller("tester", client="tester", roles=frozenset({Role.LOAD_TEST}))
    elevated: Session = session(store, Decided(), caller).as_service("to try it")
    assert await elevated.read("Patient", "real") is None
