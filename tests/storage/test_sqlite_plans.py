"""The hot searches cost what their answer costs, not what the store holds.

20,000 resources; what counts is SQLite's plan, and the steps of its virtual machine, which do
not depend on the machine that runs the test.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple

import pytest

from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query, ReferenceTo, TokenIn, conjunction
from fhir_server.search.geography import metres
from fhir_server.search.parse import parse
from fhir_server.storage.interface import Position
from fhir_server.storage.sqlite.compile import FOUND, Sql
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import BASE, NOW, patient, put, query

NHS: Final = "https://fhir.nhs.uk/Id/nhs-number"
PATIENTS: Final = 2_000
OTHERS: Final = 9_000


def region() -> Iterator[Resource]:
    """Patients with plans and observations; codes that nearly all have, and codes that few have."""
    random = Random(5)  # noqa: S311
    for n in range(PATIENTS):
        identifier = [{"system": NHS, "value": str(9_000_000_000 + n)}]
        born = f"{2005 + n % 15}-0{1 + n % 9}-1{n % 10}"
        family = f"{random.choice(('Smith', 'Okafor', 'Patel', 'Evans'))}{n % 97}"
        yield patient(f"p{n}", family, identifier=identifier, birthDate=born, gender="female")
    for n in range(1_000):
        position = {"latitude": Decimal(5000 + n) / 100, "longitude": Decimal("-0.12")}
        yield {"resourceType": "Location", "id": f"l{n}", "position": position}
    for n in range(OTHERS):
        subject = {"reference": f"Patient/p{random.randrange(PATIENTS)}"}
        day = f"{random.randint(2020, 2026)}-0{random.randint(1, 9)}-0{random.randint(1, 9)}"
        rest = {"intent": "plan", "subject": subject, "period": {"start": day}}
        status = "active" if n % 10 else "revoked"
        yield {"resourceType": "CarePlan", "id": f"c{n}", "status": status, **rest}
        code = {"coding": [{"system": "http://loinc.org", "code": f"{n % 2}-1"}]}
        rest = {"code": code, "subject": subject, "effectiveDateTime": day}
        yield {"resourceType": "Observation", "id": f"o{n}", "status": "final", **rest}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with asyncio.Runner() as runner:
        store = SqliteStore(tmp_path_factory.mktemp("plans") / "store.db")
        resources = list(region())
        for start in range(0, len(resources), 100):
            runner.run(put(store, *resources[start : start + 100]))
        yield store
        runner.run(store.close())


class Cost(NamedTuple):
    rows: int
    steps: int
    """Of the virtual machine, in tens."""
    plan: str


def cost(store: SqliteStore, sql: Sql) -> Cost:
    with closing(sqlite3.connect(store._path)) as connection:
        steps = 0
        hashed = store._place.last.reader()._questions._hashed
        connection.create_function("keyed_hash", 1, hashed, deterministic=True)
        connection.create_function("metres", 4, metres, deterministic=True)

        def step() -> None:
            nonlocal steps
            steps += 1

        connection.set_progress_handler(step, 10)
        rows = connection.execute(sql.text, sql.arguments).fetchall()
        connection.set_progress_handler(None, 0)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql.text}", sql.arguments).fetchall()
        return Cost(len(rows), steps, "\n".join(row[3] for row in plan))


def page(store: SqliteStore, text: str, after: Position | None = None) -> Cost:
    return cost(store, sql_of(store, query(text), 51, after))


def sql_of(store: SqliteStore, asked: Query, most: int, after: Position | None = None) -> Sql:
    sql = store._place.last.reader()._questions.page(asked, most, after, None).sql
    assert sql is not None
    return sql


HOT: Final = {
    "CarePlan?patient=p77&status=active": 100,
    "CarePlan?patient=Patient/p77&status=active&_sort=-date": 100,
    "CarePlan?patient=p77&_sort=-_lastUpdated": 100,
    "CarePlan?patient=p77,p78,p79": 100,
    "CarePlan?patient=p77&status:not=active": 100,
    "CarePlan?patient=p77&status=http://hl7.org/fhir/request-status|active": 100,
    f"Patient?identifier={NHS}|9000000123": 50,
    "Patient?identifier=9000000123": 50,
    f"Patient?identifier={NHS}|9000000123,{NHS}|9000000124": 50,
    "Patient?_id=p500": 50,
    "Patient?_id=p500,p501&gender=female": 100,
    "Patient?name=okafor11": 100,
    "Patient?family:exact=Okafor11": 100,
    "Patient?name=okafor1&birthdate=ge2010": 800,
    "Observation?patient=p77&date=ge2024-01-01": 100,
    "Observation?patient=p77&date=2024": 100,
    "Observation?patient=p77&date=lt2024-01-01&code=http://loinc.org|0-1&_sort=-date": 200,
    "CarePlan": 200,
    "CarePlan?_sort=_lastUpdated": 200,
    "CarePlan?_sort=-_lastUpdated": 200,
    "CarePlan?_sort=_id": 200,
    "CarePlan?_lastUpdated=gt2020&_sort=_lastUpdated": 200,
    "CarePlan?_lastUpdated=gt2100": 50,
    "CarePlan?status:missing=true&patient=p77": 100,
    f"CarePlan?subject:Patient.identifier={NHS}|9000000123": 100,
    f"CarePlan?subject.identifier={NHS}|9000000123&status=active": 150,
    "CarePlan?subject:Patient.name=okafor11": 200,
    f"Patient?identifier={NHS}|9000000123&_has:CarePlan:subject:status=active": 100,
    "Patient?_has:CarePlan:subject:_id=c77": 50,
    "Observation?subject:Patient._has:CarePlan:subject:_id=c77&_sort=-date": 200,
}
"""Searches and the tens of steps that their first page may take."""


@pytest.mark.parametrize("text", HOT)
def test_a_hot_search_walks_no_table(store: SqliteStore, text: str) -> None:
    found = page(store, text)
    assert "SCAN" not in found.plan.replace("SCAN r\n", ""), found.plan
    assert found.steps < HOT[text], found
    if "patient=" in text:
        assert "entry_by_value (parameter=? AND low=?" in found.plan
        assert found.plan.count("entry_by_value") == 1, found.plan


MANY_CODES: Final = frozenset(("http://loinc.org", f"{n}-9") for n in range(10_000))


def test_ten_thousand_codes_are_read_once_and_walk_no_table(store: SqliteStore) -> None:
    for where in (
        TokenIn("code", MANY_CODES),
        conjunction(ReferenceTo("patient", ("Patient/p77",)), TokenIn("code", MANY_CODES)),
    ):
        sql = sql_of(store, Query("Observation", where), 51)
        found = cost(store, sql)
        assert "entry_by_value (parameter=? AND low=?" in found.plan
        # Each code is read from the lists and looked for: some 20 steps, not one for each row.
        assert found.steps < 60_000, found
    assert cost(store, sql).rows == 0


def test_places_are_looked_for_in_their_box(store: SqliteStore) -> None:
    found = page(store, "Location?near=51.50|-0.12|2")
    assert "entry_by_value (parameter=? AND low>? AND low<?)" in found.plan
    assert found.rows == 3
    assert found.steps < 200, found


@pytest.mark.parametrize("sort", ["", "_lastUpdated", "-_lastUpdated", "_id", "-_id"])
def test_late_pages_cost_what_the_first_costs(store: SqliteStore, sort: str) -> None:
    text = f"CarePlan?_sort={sort}" if sort else "CarePlan"
    with closing(sqlite3.connect(store._path)) as connection:
        everything = sql_of(store, query(text), OTHERS + 1)
        rows = connection.execute(everything.text, everything.arguments).fetchall()
    *_, late = rows[: OTHERS - 100]
    first, last = page(store, text), page(store, text, (*late[len(FOUND) :], late[1]))
    assert first.rows == last.rows == 51
    assert last.steps < first.steps * 2 + 20  # a commit's resources share their time
    assert "TEMP B-TREE" not in last.plan, last.plan


@pytest.mark.parametrize(
    ("text", "tens"),
    [
        ("CarePlan?_sort=-date", 60_000),
        ("CarePlan?status=active&_sort=date", 60_000),
        ("CarePlan?status=active", 15_000),
        ("Observation?code=0-1&status=final", 30_000),
        ("Observation?date=2024-05-05", 500),
    ],
)
def test_a_wide_search_costs_no_more_than_one_look_at_each_match(
    store: SqliteStore, text: str, tens: int
) -> None:
    assert page(store, text).steps < tens


@pytest.mark.parametrize("modifier", ["", ":not"])
@pytest.mark.parametrize(
    ("resource_type", "code", "value"),
    [
        ("CarePlan", "patient", "p{}"),
        ("CarePlan", "patient", "Patient/p{}"),
        ("CarePlan", "status", "s{}"),
        ("CarePlan", "status", "http://s|s{}"),
        ("Patient", "_id", "p{}"),
        ("Patient", "name", "Nobody{}"),
        ("Patient", "birthdate", "gt29{:02}"),
        ("Patient", "identifier", NHS + "|{}"),
    ],
)
async def test_a_thousand_values_are_answered(
    store: SqliteStore, resource_type: str, code: str, value: str, modifier: str
) -> None:
    if modifier and code in ("patient", "name", "birthdate"):
        modifier = ":missing"
    values = "false" if modifier == ":missing" else ",".join(value.format(n) for n in range(1000))
    if code == "birthdate" and not modifier:
        values = ",".join(value.format(n % 100) for n in range(1000))
    parsed = parse(resource_type, [(code + modifier, values)], base=BASE, now=NOW)
    reader = store._place.last.reader()  # its connection has the functions that long lists need
    for sql in (
        reader._questions.page(parsed.query, 11, None, None).sql,
        reader._questions.total(parsed.query).sql,
    ):
        assert sql is not None
        reader._connection.execute(sql.text, sql.arguments).fetchall()


@pytest.mark.parametrize(
    ("text", "threads"), [("CarePlan?patient=p77&status=active", 0), ("CarePlan?_sort=-date", 1)]
)
async def test_only_what_takes_long_is_handed_to_a_thread(
    store: SqliteStore, text: str, threads: int
) -> None:
    """The loop answers nobody else meanwhile; to hand over costs more than most searches."""
    alone = SqliteStore(store._path)
    try:
        found = await alone.search(query(text), 20)
        total = await alone.total(query(text))
        pools = alone._place.last._pools.values()
        assert sum(len(pool._opened) for pool in pools) == threads
        assert 0 < len(found.matches) <= total
    finally:
        await alone.close()


async def test_who_searches_much_in_a_row_lets_others_have_their_turn(store: SqliteStore) -> None:
    alone = SqliteStore(store._path)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    try:
        for number in range(100):
            await alone.search(query(f"Patient?_id=p{number}"), 1)
        assert turns >= 10
    finally:
        watching.cancel()
        await alone.close()
