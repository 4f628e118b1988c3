"""`X-Provenance`: a Provenance of what is written, stored in the same commit.

https://hl7.org/fhir/R4/provenance.html#header
"""

import json
from typing import Any, Final

import httpx
import pytest

from tests.support import assert_outcome

SAID: Final = {
    "resourceType": "Provenance",
    "recorded": "2026-03-01T10:00:00Z",
    "agent": [{"who": {"display": "Ward of St \N{LATIN CAPITAL LETTER E WITH ACUTE}loi"}}],
}
READ: Final = {"method": "GET", "url": "Basic"}
BASIC: Final = {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}
PATIENT: Final = {"resourceType": "Patient", "id": "kim"}


def header(said: Any = SAID, *, ascii_only: bool = True) -> dict[bytes, bytes]:
    text = json.dumps(said, ensure_ascii=ascii_only)
    return {b"x-provenance": text.encode(), b"content-type": b"application/fhir+json"}


async def provenances(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found = (await client.get("Provenance?_sort=_lastUpdated")).json()
    return [one["resource"] for one in found.get("entry", ())]


def targets(provenance: dict[str, Any]) -> list[str]:
    return [one["reference"] for one in provenance["target"]]


@pytest.mark.parametrize("ascii_only", [True, False])
async def test_is_stored_with_what_was_created(client: httpx.AsyncClient, ascii_only: bool) -> None:
    headers = header(ascii_only=ascii_only)
    made = await client.post("Basic", json=BASIC, headers=headers)
    assert made.status_code == 201, made.text
    (said,) = await provenances(client)
    assert {**said, "id": None, "meta": None, "target": None} == {
        "id": None,
        "meta": None,
        "target": None,
        **SAID,
    }
    assert targets(said) == [f"Basic/{made.json()['id']}/_history/1"]
    found = await client.get(f"Provenance?target=Basic/{made.json()['id']}")
    assert len(found.json()["entry"]) == 1


async def test_names_the_patients_too(client: httpx.AsyncClient) -> None:
    await client.put("Patient/kim", json=PATIENT)
    about = {**BASIC, "subject": {"reference": "Patient/kim"}}
    await client.put("Basic/b", json=about, headers=header())
    (said,) = await provenances(client)
    assert targets(said) == ["Basic/b/_history/1", "Patient/kim"]


async def test_comes_with_every_single_write(client: httpx.AsyncClient) -> None:
    assert (await client.put("Basic/b", json=BASIC, headers=header())).status_code == 201
    changed = {**BASIC, "code": {"text": "y"}}
    assert (await client.put("Basic?_id=b", json=changed, headers=header())).status_code == 200
    patch = [{"op": "replace", "path": "/code/text", "value": "z"}]
    media = {b"content-type": b"application/json-patch+json"}
    sent = {**header(), **media}
    assert (await client.patch("Basic/b", json=patch, headers=sent)).status_code == 200
    assert (await client.delete("Basic/b", headers=header())).status_code in (200, 204)
    said = await provenances(client)
    assert [targets(one) for one in said] == [[f"Basic/b/_history/{n}"] for n in (1, 2, 3, 4)]


async def test_comes_with_all_that_a_transaction_writes(client: httpx.AsyncClient) -> None:
    entry = [
        {"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one}
        for one in (PATIENT, BASIC)
    ]
    sent = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    answer = await client.post("", json=sent, headers=header())
    assert answer.status_code == 200, answer.text
    (said,) = await provenances(client)
    expected = ["Patient/kim/_history/1", "Basic/b/_history/1", "Patient/kim"]
    assert sorted(targets(said)) == sorted(expected)


async def test_where_it_is_refused_nothing_is_written(client: httpx.AsyncClient) -> None:
    lacking = {name: value for name, value in SAID.items() if name != "agent"}
    for said in (lacking, {**SAID, "recorded": "x"}, {**SAID, "nonsense": 1}):
        answer = await client.put("Basic/b", json=BASIC, headers=header(said))
        assert answer.status_code == 400, answer.text
        assert {place for one in answer.json()["issue"] for place in one["expression"]} == {
            "http.X-Provenance"
        }
        assert "Provenance" in answer.json()["issue"][0]["diagnostics"]
    sent = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "PUT", "url": "Basic/b"}, "resource": BASIC}],
    }
    assert (await client.post("", json=sent, headers=header(lacking))).status_code == 400
    assert (await client.get("Basic/b")).status_code == 404
    assert await provenances(client) == []


@pytest.mark.parametrize(
    ("raw", "code", "text"),
    [
        (b"{", "structure", ""),
        (b"[]", "structure", ""),
        (b'"Provenance"', "structure", ""),
        (b"\xff\xfe", "structure", ""),
        (b'{"resourceType":"Patient"}', "structure", "a Provenance in JSON is expected"),
        (json.dumps({**SAID, "target": []}).encode(), "invalid", "leave it out"),
        (b"[" * 3000, "structure", ""),
    ],
)
async def test_what_is_no_provenance_is_refused(
    client: httpx.AsyncClient, raw: bytes, code: str, text: str
) -> None:
    headers = {b"x-provenance": raw, b"content-type": b"application/fhir+json"}
    answer = await client.post("Basic", json=BASIC, headers=headers)
    assert_outcome(answer, 400, code, text, "http.X-Provenance")


async def test_twice_is_refused(client: httpx.AsyncClient) -> None:
    headers = [*header().items(), (b"x-provenance", b"{}")]
    answer = await client.post("Basic", json=BASIC, headers=headers)
    assert answer.status_code == 400
    assert "X-Provenance" in answer.text


async def test_with_what_does_not_take_it_it_is_refused(client: httpx.AsyncClient) -> None:
    event = {
        "resourceType": "AuditEvent",
        "type": {"display": "x"},
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [{"requestor": True}],
        "source": {"observer": {"display": "x"}},
    }
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": READ}]}
    for method, path, sent in (
        ("GET", "Basic", None),
        ("GET", "Basic/b", None),
        ("POST", "Basic/$validate", BASIC),
        ("POST", "", batch),
        ("POST", "AuditEvent", event),
    ):
        for more in ({}, {b"prefer": b"respond-async"}):
            answer = await client.request(method, path, json=sent, headers={**header(), **more})
            assert_outcome(
                answer, 400, "invalid", "create, update, patch, delete and transaction take it"
            )
    assert len((await client.get("AuditEvent?_tag=received")).json().get("entry", ())) == 0


async def test_sent_twice_it_is_stored_once(client: httpx.AsyncClient) -> None:
    headers = {**header(), b"x-request-id": b"one"}
    for _ in range(2):
        assert (await client.post("Basic", json=BASIC, headers=headers)).status_code == 201
    assert len(await provenances(client)) == 1
    other = {**headers, **header({**SAID, "recorded": "2026-03-02T10:00:00Z"})}
    assert (await client.post("Basic", json=BASIC, headers=other)).status_code == 409
    found = {**header(), b"if-none-exist": b"code:text=x"}
    assert (await client.post("Basic", json=BASIC, headers=found)).status_code == 200
    assert len(await provenances(client)) == 1


async def test_a_row_of_the_audit_names_both(client: httpx.AsyncClient) -> None:
    await client.put("Basic/b", json=BASIC, headers=header())
    rows = (await client.get("AuditEvent?action=U")).json()["entry"]
    assert "Provenance/" in json.dumps(rows[0])
    assert "Basic/b/_history/1" in json.dumps(rows[0])
