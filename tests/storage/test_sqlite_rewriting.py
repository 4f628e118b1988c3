"""The index rows of a resource when its next version is written: those that stay are left alone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.fhir.json import Resource
from fhir_server.search.ast import component
from fhir_server.storage.interface import Draft, Unit
from fhir_server.storage.sqlite.check import check
from fhir_server.storage.sqlite.findings import Fault
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.unit import SqliteUnit
from tests.storage.kept import damage
from tests.storage.questions import found

MASS: Final = {"system": "http://unitsofmeasure.org", "code": "g", "unit": "g", "value": 5}
VERSIONS: Final[tuple[dict[str, Any], ...]] = (
    {"status": "final", "valueQuantity": MASS},
    {"status": "amended", "valueQuantity": MASS},  # one row
    {"status": "amended", "valueQuantity": {**MASS, "unit": "gram"}},  # the unit alone
    {"status": "amended", "valueQuantity": {**MASS, "unit": "gram", "value": 6}},
    {  # rows come in between, so that others have another ordinal
        "meta": {"tag": [{"system": "urn:x", "code": "a", "display": "Ash"}, {"code": "b"}]},
        "identifier": [{"system": "urn:x", "value": "1"}],
        "status": "amended",
        "valueQuantity": MASS,
    },
    {"status": "amended", "text": {"status": "additional", "div": "<div>sleeps badly</div>"}},
    {
        "status": "final",
        "component": [{"code": {"coding": [{"code": "c"}]}, "valueQuantity": MASS}],
    },
    {"status": "final", "contained": [{"resourceType": "Patient", "id": "p", "gender": "male"}]},
    {"status": "final", "contained": [{"resourceType": "Patient", "id": "p", "gender": "other"}]},
    {"status": "final"},
    {"status": "final", "category": [{"coding": [{"code": f"c{n}"} for n in range(70)]}]},
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    await opened.close()


def faults(path: Path) -> list[str]:
    told: list[str] = []

    def tell(fault: Fault, mended: bool) -> None:  # noqa: ARG001
        told.append(str(fault))

    check(path, repair=False, told=tell, progress=lambda _done, _total: None)
    return told


def observation(**members: Any) -> Resource:
    code = {"coding": [{"system": "urn:x", "code": "mass", "display": "Mass"}]}
    return {"resourceType": "Observation", "id": "o", "code": code, **members}


async def rows_written(store: SqliteStore, resource: Resource) -> int:
    """Rows of any table that the next version changes."""

    async def work(unit: Unit) -> int:
        assert isinstance(unit, SqliteUnit)
        before = unit._connection.total_changes
        await unit.put(Draft(resource), "PUT")
        return unit._connection.total_changes - before

    return await store.commit(work)


@pytest.mark.parametrize("reverse", [False, True])
async def test_after_each_version_the_index_holds_what_it_should(
    tmp_path: Path, store: SqliteStore, reverse: bool
) -> None:
    for members in VERSIONS[::-1] if reverse else VERSIONS:
        await rows_written(store, observation(**members))
        assert faults(tmp_path / "store.db") == [], members


async def test_what_stays_is_left_alone(store: SqliteStore) -> None:
    plain = {"status": "final", "valueQuantity": MASS, "issued": "2026-01-01T00:00:00Z"}
    all_new = await rows_written(store, observation(**plain))
    same = await rows_written(store, observation(**plain, implicitRules="urn:x"))
    one = await rows_written(store, observation(**{**plain, "status": "amended"}))
    beside = 3  # the version, what points to it, the words
    assert (same, one) == (beside, beside + 2)
    assert all_new > one + 5
    assert await found(store, "Observation?status=amended&value-quantity=5") == ["o"]
    assert await found(store, "Observation?status=final") == []


async def test_a_file_whose_rows_another_release_numbered_otherwise_is_sound(
    tmp_path: Path, store: SqliteStore
) -> None:
    path = tmp_path / "store.db"
    parts = {"component": [{"code": {"coding": [{"code": "c"}]}, "valueQuantity": MASS}]}
    await rows_written(store, observation(status="final", **parts))
    plain = "(SELECT number FROM parameter WHERE code IN ('status', 'code'))"
    damage(path, f"UPDATE entry SET ordinal = ordinal + 100 WHERE parameter IN {plain}")
    assert faults(path) == []
    first = component("component-code-value-quantity", 0)
    of_group = f"(SELECT number FROM parameter WHERE code = '{first}')"
    damage(path, f"UPDATE entry SET ordinal = ordinal + 100 WHERE parameter IN {of_group}")
    assert faults(path) != []
