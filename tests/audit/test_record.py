"""What a request's row says of what was shown: the references, and the patients in them."""

from typing import Any

import httpx
import pytest

from fhir_server.access.audit.record import bounded, patients_of
from fhir_server.fhir import json
from fhir_server.settings import Settings
from fhir_server.storage.audited import MOST_TARGETS, AuditQuery
from fhir_server.storage.interface import StoredVersion
from tests.audit.conftest import Rows
from tests.audit.test_trail import serving

PLAN = {"status": "active", "intent": "plan", "subject": {"reference": "Patient/kim"}}


def version(resource: dict[str, Any]) -> StoredVersion:
    kind, name = resource["resourceType"], resource.get("id", "x")
    return StoredVersion(kind, name, 1, 1, "PUT", json.encode(resource))


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient", "id": "kim"}, ["kim"]),
        ({"resourceType": "Flag", "subject": {"reference": "Patient/kim"}}, ["kim"]),
        ({"resourceType": "Flag", "subject": {"reference": "Patient/kim/_history/3"}}, ["kim"]),
        (
            {
                "resourceType": "Group",
                "member": [
                    {"entity": {"reference": f"Patient/{name}"}} for name in ("a", "b", "a")
                ],
            },
            ["a", "b"],
        ),
        ({"resourceType": "Flag", "subject": {"reference": "Group/Patient"}}, []),
        ({"resourceType": "Flag", "subject": {"reference": "https://x.example/Patient/1"}}, []),
        ({"resourceType": "Basic", "code": {"text": '"reference":"Patient/forged"'}}, []),
        ({"resourceType": "Basic", "code": {"text": '{"reference":"Patient/forged/"}'}}, []),
    ],
)
def test_patients_are_read_off_references(resource: dict[str, Any], expected: list[str]) -> None:
    assert patients_of([version(resource)]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\nb\x00c", "a\ufffdb\ufffdc"),
        ("\u202eleft", "\ufffdleft"),
        ("x" * 12, "x" * 10 + "[...]"),
    ],
)
def test_texts_are_cut_and_harmless(text: str, expected: str) -> None:
    assert bounded(text, 10) == expected


@pytest.mark.usefixtures("patient")
async def test_a_search_names_its_matches_and_what_came_along(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    await client.put("CarePlan/plan", json={"resourceType": "CarePlan", "id": "plan", **PLAN})
    await client.put("CarePlan/other", json={"resourceType": "CarePlan", "id": "other", **PLAN})
    await client.get("CarePlan?_id=plan&_include=CarePlan:subject")
    row = (await rows())[-1]
    assert row.targets == ("CarePlan/plan/_history/1", "Patient/kim/_history/1")
    assert row.patients == ("kim",)
    await client.get("CarePlan?_summary=count")
    assert (await rows())[-1].targets == ()


@pytest.mark.usefixtures("patient")
async def test_a_history_names_the_versions_of_its_page(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    await client.put("Patient/kim", json={"resourceType": "Patient", "id": "kim", "active": True})
    await client.get("Patient/kim/_history?_count=1")
    assert (await rows())[-1].targets == ("Patient/kim/_history/2",)


async def test_more_targets_than_a_row_names_are_counted(settings: Settings) -> None:
    entry = [
        {"request": {"method": "POST", "url": "Basic"}, "resource": _basic(number)}
        for number in range(MOST_TARGETS + 5)
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    async with serving(settings, max_count=1000, max_entries=1000) as (app, client):
        await client.post("", json=sent)
        await client.get("Basic?_count=1000")
        await app.state.trail.flushed()
        written, shown = (await app.state.store.audited(AuditQuery(), 10))[-2:]
    for one in (written.row, shown.row):
        assert (len(one.targets), one.further) == (MOST_TARGETS, 5)


def _basic(number: int) -> dict[str, Any]:
    return {"resourceType": "Basic", "code": {"text": f"note {number}"}}


@pytest.mark.usefixtures("patient")
async def test_a_transaction_names_what_it_wrote_and_what_it_read(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    entry = [
        {"request": {"method": "GET", "url": "Patient/kim"}},
        {"request": {"method": "POST", "url": "Basic"}, "resource": _basic(1)},
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    before = len(await rows())
    assert (await client.post("", json=sent)).status_code == 200
    (row,) = (await rows())[before:]
    assert row.action == "transaction"
    assert sorted(target.partition("/")[0] for target in row.targets) == ["Basic", "Patient"]
    assert row.patients == ("kim",)


@pytest.mark.usefixtures("patient")
async def test_each_entry_of_a_batch_has_a_row(client: httpx.AsyncClient, rows: Rows) -> None:
    entry = [
        {"request": {"method": "GET", "url": "Patient/kim"}},
        {"request": {"method": "GET", "url": "Patient/nobody"}},
        {"request": {"method": "POST", "url": "Basic"}, "resource": _basic(1)},
        {"request": {"method": "PATCH", "url": "AuditEvent/1"}, "resource": _basic(1)},
        {"resource": _basic(1)},
    ]
    before = len(await rows())
    sent = {"resourceType": "Bundle", "type": "batch", "entry": entry}
    assert (await client.post("", json=sent)).status_code == 200
    found = sorted((await rows())[before:], key=lambda row: row.asked)
    assert [(row.action, row.outcome) for row in found] == [
        ("read", "0"),
        ("read", "4"),
        ("create", "0"),
        ("unknown", "4"),
        ("unknown", "4"),
    ]
    assert [row.asked for row in found][:2] == [
        "POST / entry[0]: GET Patient/kim",
        "POST / entry[1]: GET Patient/nobody",
    ]
    assert len({row.request_id for row in found}) == 1


async def test_an_import_of_audit_events_stores_none(client: httpx.AsyncClient) -> None:
    line = b'{"resourceType":"AuditEvent","id":"forged"}\n'
    headers = {"content-type": "application/fhir+ndjson"}
    answer = await client.post("$import", content=line, headers=headers)
    assert answer.status_code in (202, 400, 403)
    assert (await client.get("AuditEvent/forged")).status_code == 404


async def test_a_repeated_request_is_told_each_time(client: httpx.AsyncClient, rows: Rows) -> None:
    headers = {"x-request-id": "same"}
    for _ in range(2):
        await client.post("Basic", json=_basic(1), headers=headers)
    first, second = await rows()
    assert first.targets == second.targets
    assert (first.request_id, second.request_id) == ("same", "same")
