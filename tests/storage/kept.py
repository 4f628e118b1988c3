"""A file with something of each kind that a store keeps, and ways to look at it and damage it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from fhir_server.fhir.json import Resource
from fhir_server.search.parameters import Definition
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Memo, Unit
from fhir_server.storage.remaking import remake
from fhir_server.storage.sqlite.fulltext import FulltextWriter
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import delete, patient, put

BY_GENDER: Final = Definition("urn:x", "x", "token", "Patient.gender", ("Patient",))
TEXT: Final = '<div xmlns="http://www.w3.org/1999/xhtml">Fond of trains and of rain</div>'
PLAN: Final[Resource] = {
    "resourceType": "CarePlan",
    "id": "plan",
    "status": "active",
    "intent": "plan",
    "subject": {"reference": "Patient/a"},
    "contained": [{"resourceType": "Goal", "id": "g", "description": {"text": "Sleep"}}],
    "goal": [{"reference": "#g"}],
}


async def fill(path: Path) -> None:
    """Two patients, one with three versions; one deleted; a plan with a goal; a parameter."""
    store = SqliteStore(path)
    try:
        text = {"status": "generated", "div": TEXT}
        await put(store, patient("a", "Ash", gender="male", text=text))
        await put(store, patient("b", "Birch", gender="female"), PLAN)
        await put(store, patient("b", "Beech", gender="female"))
        await put(store, patient("b", "Beech", gender="other"))
        await put(store, patient("c", "Cedar"))
        await delete(store, "Patient", "c")
        await store.commit(_beside)
        await remake(store)
    finally:
        await store.close()
    with closing(sqlite3.connect(path)) as connection:
        FulltextWriter().move(connection)
        connection.commit()


async def _beside(unit: Unit) -> None:
    await unit.define((await unit.parameters()).defined("one", BY_GENDER))
    await unit.keep(Memo("space", "key", b"value"))
    await unit.audit(AuditRow("caller", "create", "r1", ("Patient/a/_history/1",)))


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()
