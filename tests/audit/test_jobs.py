"""What a job reads in the background is in the audit, in the commit that keeps it."""

import asyncio
import json
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.audit.record import Record
from fhir_server.access.audit.trail import Trail
from fhir_server.storage.audited import MOST_TARGETS, AuditRow
from fhir_server.storage.interface import Store, StoredVersion
from tests.audit.conftest import Rows
from tests.jobs import finished
from tests.support import FHIR_JSON

ASYNC: Final = {"prefer": "respond-async"}
PEOPLE: Final = [f"p{number}" for number in range(7)]


@pytest.fixture
async def people(client: httpx.AsyncClient) -> None:
    for name in PEOPLE:
        plan = {
            "resourceType": "CarePlan",
            "id": f"plan-{name}",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": f"Patient/{name}"},
        }
        for one in ({"resourceType": "Patient", "id": name}, plan):
            answer = await client.put(f"{one['resourceType']}/{one['id']}", json=one)
            assert answer.status_code == 201, answer.text


async def ran(client: httpx.AsyncClient, path: str, **sent: Any) -> str:
    """The id of the job, once it is done."""
    method = "POST" if sent else "GET"
    answer = await client.request(method, path, headers={**FHIR_JSON, **ASYNC}, **sent)
    assert answer.status_code == 202, answer.text
    address = answer.headers["content-location"]
    assert (await finished(client, address)).status_code == 200
    return address.rpartition("/")[2]


async def of_job(rows: Rows, job_id: str) -> list[AuditRow]:
    """The rows that the job itself left."""
    return [row for row in await rows() if row.asked.startswith(f"job {job_id}: ")]


@pytest.mark.usefixtures("people")
async def test_an_export_names_everybody_whose_data_went_out(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    job_id = await ran(client, "$export?_type=Patient,CarePlan")
    left = await of_job(rows, job_id)
    assert {name for row in left for name in row.patients} == {*PEOPLE}
    targets = [name for row in left for name in row.targets]
    assert sorted(targets) == sorted(
        [f"Patient/{one}/_history/1" for one in PEOPLE]
        + [f"CarePlan/plan-{one}/_history/1" for one in PEOPLE]
    )
    assert {(row.caller, row.action, row.outcome) for row in left} == {("anonymous", "export", "0")}
    (started,) = [row for row in await rows() if "$export" in row.asked]
    assert {row.request_id for row in left} == {started.request_id}


@pytest.mark.usefixtures("people")
async def test_a_search_that_is_answered_later_names_what_it_found_alone(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    job_id = await ran(client, "CarePlan?subject=Patient/p3")
    (row,) = await of_job(rows, job_id)
    assert row.targets == ("CarePlan/plan-p3/_history/1",)
    assert row.patients == ("p3",)
    assert row.asked.endswith(": GET /CarePlan?subject=Patient%2Fp3")


@pytest.mark.usefixtures("people")
async def test_an_operation_that_is_answered_later_does_too(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    (row,) = await of_job(rows, await ran(client, "Patient/p2/$everything"))
    assert sorted(row.targets) == ["CarePlan/plan-p2/_history/1", "Patient/p2/_history/1"]


@pytest.mark.usefixtures("people")
async def test_each_entry_of_a_batch_that_is_answered_later_has_its_row(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    entries = [
        {"request": {"method": "GET", "url": "Patient/p1"}},
        {
            "request": {"method": "POST", "url": "Basic"},
            "resource": {"resourceType": "Basic", "code": {"text": "x"}},
        },
        {"request": {"method": "GET", "url": "Patient/nobody"}},
    ]
    sent = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    left = await of_job(rows, await ran(client, "", content=json.dumps(sent)))
    kinds = [(row.targets[0].partition("/")[0], row.patients) for row in left]
    assert kinds == [("Patient", ("p1",)), ("Basic", ())]


async def test_rows_name_all_of_more_than_one_can(store: Store) -> None:
    count = 2 * MOST_TARGETS + 1
    trail = Trail(store)
    record = Record(trail, "job x")
    versions = [StoredVersion("Patient", f"p{n}", 1, 0, "PUT", b"{}") for n in range(count)]
    record.see(*versions, *versions[:3])
    left = [*record.reads("export")]
    assert [len(row.targets) for row in left] == [MOST_TARGETS, MOST_TARGETS, 1]
    assert {name for row in left for name in row.patients} == {one.id for one in versions}
    assert {row.further for row in left} == {0}
    await asyncio.sleep(0)
