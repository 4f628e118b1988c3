"""$import: ndjson in the body, stored in the background, each line once.

Lines: https://hl7.org/fhir/R4/nd-json.html. The oracles are what an update of the same resource
answers, and the export of the server that it came from.
"""

import gzip
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_operations import _import
from fhir_server.access.policy import Policy
from fhir_server.app import Application
from fhir_server.fhir import json
from fhir_server.search.ast import Everything, Node, Nothing
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.jobs import LATER, finished, kicked_off, later, lines, served, settings_for, until
from tests.support import (
    assert_outcome,
    body,
    caseload,
    found_ids,
    put,
    stored_versions,
    without_server_parts,
)

NDJSON: Final = {"content-type": "application/fhir+ndjson"}
PROFILES: Final = Path(__file__).parents[2] / "profiles"
COUNTS: Final = "https://keyworking.example/fhir/import-counts"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changed = {"max_entries": 1000, "max_body": 1024 * 1024, "max_import": 8 * 1024 * 1024}
    return settings.model_copy(update=changed)


def _ndjson(resources: Sequence[Any]) -> bytes:
    return b"".join(json.encode(resource) + b"\n" for resource in resources)


def _patients(count: int) -> list[dict[str, Any]]:
    return [{"resourceType": "Patient", "id": f"p{number}"} for number in range(count)]


async def _imported(client: httpx.AsyncClient, content: bytes, **headers: str) -> Any:
    sent = {**NDJSON, **headers}
    return await later(client, "POST", "$import", content=content, headers=sent)


async def test_what_was_exported_is_imported_into_an_empty_server(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    for transaction in caseload():
        assert (await client.post("", **body(transaction))).status_code == 200
    exported = await lines(client, (await later(client, "GET", "$export"))["output"])
    opened = served(settings_for(tmp_path / "other"))
    async with opened as client_of, client_of("somebody") as other:
        # The last comes first: references need not be in order.
        manifest = await _imported(other, _ndjson(exported[::-1]))
        assert manifest["error"] == []
        assert manifest["extension"][COUNTS]["created"] == len(exported)
        copied = await lines(other, (await later(other, "GET", "$export"))["output"])
    assert _by_name(copied) == _by_name(exported)


def _by_name(resources: list[Any]) -> dict[str, Any]:
    return {f"{one['resourceType']}/{one['id']}": without_server_parts(one) for one in resources}


async def test_what_comes_from_elsewhere_is_taken_as_it_is(client: httpx.AsyncClient) -> None:
    """No rule follows it up; a plain write of the same would have effects."""
    stay: dict[str, Any] = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p0"},
    }
    required = {"identifier": [{"system": "urn:spell", "value": "1"}], "period": {"start": "2026"}}
    stay |= {**required, "serviceProvider": {"display": "Ward"}}
    await _imported(client, _ndjson([*_patients(1), {**stay, "id": "imported"}]))
    assert await found_ids(client, "Task") == []
    assert (await client.put("Encounter/plain", **body({**stay, "id": "plain"}))).status_code == 201
    assert await found_ids(client, "Task") != []


async def test_lines_are_created_updated_or_left_as_they_are(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {"resourceType": "Patient", "id": "same", "active": True})
    await put(client, {"resourceType": "Patient", "id": "other", "active": True})
    await put(client, {"resourceType": "Patient", "id": "gone", "active": True})
    await client.delete("Patient/gone")
    content = _ndjson(
        [
            {"resourceType": "Patient", "id": "same", "active": True},
            {"resourceType": "Patient", "id": "other", "active": False},
            {"resourceType": "Patient", "id": "gone", "active": True},
            {"resourceType": "Patient", "id": "new", "meta": {"versionId": "7"}},
            {"resourceType": "Practitioner", "active": True},
        ]
    )
    manifest = await _imported(client, content)
    counts = {"created": 3, "updated": 1, "unchanged": 1, "refused": 0}
    assert manifest["extension"] == {COUNTS: counts}
    assert manifest["output"] == manifest["error"] == []
    assert manifest["request"].endswith("/fhir/$import")
    versions = {f"{one.type}/{one.id}": one.version for one in await stored_versions(store)}
    assert versions.pop("Patient/same") == 1
    assert versions.pop("Patient/other") == 2
    assert versions.pop("Patient/gone") == 3
    assert versions.pop("Patient/new") == 1
    ((name, version),) = versions.items()
    assert name.startswith("Practitioner/")
    assert version == 1


BAD_LINES: Final[Sequence[tuple[bytes, str, str]]] = (
    (b"nonsense", "structure", "not valid JSON"),
    (b"[]", "structure", "JSON array"),
    (b"{}", "structure", "resource type"),
    (b'{"resourceType": "Nonsense"}', "structure", "'Nonsense' is not a resource type"),
    (b'{"resourceType": 7}', "structure", "7 is not a resource type"),
    (b'{"resourceType": "Patient", "gendr": "x"}', "structure", "gendr"),
    (b'{"resourceType": "Patient", "id": "a b"}', "value", "id"),
    (b'{"resourceType": "Patient", "active": true, "active": true}', "structure", "twice"),
    (b"\xff\xfe", "structure", "JSON"),
)


async def test_a_refused_line_is_told_with_its_number_and_the_others_go_in(
    client: httpx.AsyncClient,
) -> None:
    good = _patients(len(BAD_LINES))
    content = b"\n".join(
        one
        for (bad, *_), resource in zip(BAD_LINES, good, strict=True)
        for one in (bad, json.encode(resource), b"  ")
    )
    manifest = await _imported(client, content)
    counts = {"created": len(good), "updated": 0, "unchanged": 0, "refused": len(BAD_LINES)}
    assert manifest["extension"] == {COUNTS: counts}
    outcomes = await lines(client, manifest["error"])
    for number, ((_, code, text), told) in enumerate(zip(BAD_LINES, outcomes, strict=True)):
        issue = told["issue"][0]
        assert issue["diagnostics"].startswith(f"Line {3 * number + 1}: "), issue
        assert text in issue["diagnostics"]
        assert issue["code"] == code, issue
    assert len(await found_ids(client, "Patient")) == len(good)


async def test_a_line_is_refused_as_an_update_of_it_is(client: httpx.AsyncClient) -> None:
    subset = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"}
    wrong: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": "a", "gender": "unknown-to-all"},
        {"resourceType": "Observation", "id": "a", "status": "final"},
        {"resourceType": "Patient", "id": "a", "meta": {"tag": [{**subset, "code": "SUBSETTED"}]}},
    ]
    outcomes = await lines(client, (await _imported(client, _ndjson(wrong)))["error"])
    for number, (resource, told) in enumerate(zip(wrong, outcomes, strict=True), 1):
        refused = await client.put(f"{resource['resourceType']}/a", **body(resource))
        for issue, line_issue in zip(refused.json()["issue"], told["issue"], strict=True):
            text = f"Line {number}: {issue.pop('diagnostics')}"
            assert line_issue == {**issue, "diagnostics": text}


def _limited_consent() -> dict[str, Any]:
    """One that is limited by dates of the data, which grants nothing here."""
    path = PROFILES / "kw-consent/examples/invalid-kw-consent-17.json"
    found: dict[str, Any] = json.decode_resource(path.read_bytes())
    return found


async def test_a_line_that_is_stored_with_a_warning_of_a_profile_is_told(
    client: httpx.AsyncClient,
) -> None:
    """As `return=OperationOutcome` tells it of an update; what R4 recommends is not told."""
    consent = _limited_consent()
    manifest = await _imported(client, _ndjson([*_patients(2), consent]))
    assert manifest["extension"][COUNTS] == {
        "created": 3,
        "updated": 0,
        "unchanged": 0,
        "refused": 0,
    }
    (told,) = await lines(client, manifest["error"])
    (issue,) = told["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", ["Consent.provision"])
    sent = body(consent)
    prefer = {"prefer": "return=OperationOutcome", "if-match": 'W/"1"'}
    headers = {**sent.pop("headers"), **prefer}
    updated = await client.put(f"Consent/{consent['id']}", **sent, headers=headers)
    warned = [one["diagnostics"] for one in updated.json()["issue"] if one["severity"] == "warning"]
    assert len(warned) == 2, "dom-6 of R4 beside it"
    assert issue["diagnostics"] in [f"Line 3: {one}" for one in warned if "kw-consent-17" in one]


async def test_warnings_of_so_many_lines_are_told(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_import, "_MOST_WARNED", 20)
    many = [{**_limited_consent(), "id": f"c{number}"} for number in range(30)]
    manifest = await _imported(client, _ndjson(many))
    assert manifest["extension"][COUNTS]["created"] == 30
    assert [file["count"] for file in manifest["error"]] == [20]


async def test_many_refusals_share_files(client: httpx.AsyncClient) -> None:
    manifest = await _imported(client, b'{"resourceType": "Patient", "x": 1}\n' * 300)
    assert [file["count"] for file in manifest["error"]] == [300]
    told = await lines(client, manifest["error"])
    assert {one["issue"][0]["diagnostics"].split(":")[0] for one in told} == {
        f"Line {number}" for number in range(1, 301)
    }


async def test_lines_across_parts_and_without_an_end_are_whole(client: httpx.AsyncClient) -> None:
    texts = ["ü" * 300_000 + str(number) for number in range(5)]
    resources = [
        {"resourceType": "Basic", "id": f"b{number}", "code": {"text": text}}
        for number, text in enumerate(texts)
    ]
    content = _ndjson(resources).rstrip(b"\n")

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 70_001):
            yield content[start : start + 70_001]

    manifest = await later(client, "POST", "$import", content=slowly(), headers=NDJSON)
    assert manifest["extension"][COUNTS]["created"] == 5
    for resource, text in zip(resources, texts, strict=True):
        assert (await client.get(f"Basic/{resource['id']}")).json()["code"]["text"] == text


async def test_the_body_may_be_compressed(client: httpx.AsyncClient) -> None:
    content = gzip.compress(_ndjson(_patients(500)))
    manifest = await _imported(client, content, **{"content-encoding": "gzip"})
    assert manifest["extension"][COUNTS]["created"] == 500


async def test_progress_is_told_in_lines(client: httpx.AsyncClient) -> None:
    address = await _started(client, _ndjson(_patients(400)))
    seen: set[str] = set()

    async def is_finished() -> bool:
        response = await client.get(address)
        seen.add(response.headers.get("x-progress", ""))
        return response.status_code == 200

    await until(is_finished)
    assert any("of 400 lines" in text for text in seen), seen


async def _started(client: httpx.AsyncClient, content: bytes) -> str:
    return await kicked_off(client, "POST", "$import", content=content, headers=NDJSON)


async def test_each_line_counts_once_when_the_runner_stops_in_the_middle(
    client: httpx.AsyncClient, store: Store, app: Application
) -> None:
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "identifier": [{"value": str(number)}]} for number in range(400)
    ]
    address = await _started(client, _ndjson(resources))

    async def is_under_way() -> bool:
        return " of 400 lines" in (await client.get(address)).headers["x-progress"]

    await until(is_under_way)
    await app.state.jobs.stop()
    assert (await client.get(address)).status_code == 202
    app.state.jobs.start()
    manifest = (await finished(client, address)).json()
    assert manifest["extension"][COUNTS]["created"] == 400
    assert len(await stored_versions(store)) == 400


async def test_a_cancelled_import_leaves_whole_lines_and_no_files(
    client: httpx.AsyncClient, store: Store
) -> None:
    address = await _started(client, _ndjson(_patients(400)))

    async def is_under_way() -> bool:
        return " of 400 lines" in (await client.get(address)).headers["x-progress"]

    await until(is_under_way)
    assert (await client.delete(address)).status_code == 202
    stored = len(await stored_versions(store))
    assert 0 < stored < 400
    await app_is_idle(store)
    assert len(await stored_versions(store)) == stored
    assert await store.memos("job-file") == []


async def app_is_idle(store: Store) -> None:
    async def nothing_open() -> bool:
        return not await store.memos("job-open")

    await until(nothing_open)


@pytest.mark.parametrize(
    ("content", "headers", "status", "text"),
    [
        (b"", NDJSON, 400, "empty"),
        (b"x" * (1024 * 1024 + 1), NDJSON, 413, "Line 1 is too long"),
        (b"{}\n" + b"x" * (1024 * 1024 + 1), NDJSON, 413, "Line 2 is too long"),
        (b"{}\n" * (3 * 1024 * 1024), NDJSON, 413, "too large"),
        (b"{}", {"content-type": "text/csv"}, 415, "text/csv"),
        (b"", {}, 415, "application/fhir+ndjson"),
        (b"not gzip", {**NDJSON, "content-encoding": "gzip"}, 400, "inflated"),
        (
            gzip.compress(b"{}\n" * 3_000_000, mtime=0),
            {**NDJSON, "content-encoding": "gzip"},
            413,
            "large",
        ),
        (
            gzip.compress(b"{}\n", mtime=0)[:-4],
            {**NDJSON, "content-encoding": "gzip"},
            400,
            "inflated",
        ),
        (b"{}", {**NDJSON, "content-encoding": "br"}, 415, "br"),
    ],
)
async def test_a_body_that_cannot_be_taken_in_leaves_nothing_behind(
    client: httpx.AsyncClient,
    store: Store,
    content: bytes,
    headers: dict[str, str],
    status: int,
    text: str,
) -> None:
    response = await client.post("$import", content=content, headers={**LATER, **headers})
    assert response.status_code == status, response.text
    assert text in response.json()["issue"][0]["diagnostics"]
    for space in ("job", "job-open", "job-file"):
        assert await store.memos(space) == [], space


async def test_it_is_answered_later_or_not_at_all(client: httpx.AsyncClient, store: Store) -> None:
    refused = await client.post("$import", content=_ndjson(_patients(1)), headers=NDJSON)
    assert_outcome(refused, 400, "invalid", "Prefer: respond-async", "http.Prefer")
    assert await stored_versions(store) == []
    assert (await client.get("$import", headers=LATER)).status_code == 405


@pytest.mark.parametrize("address", ["$process-message", "$export", "Patient/$export"])
async def test_other_operations_take_no_lines(client: httpx.AsyncClient, address: str) -> None:
    refused = await client.post(address, content=b"{}", headers={**NDJSON, **LATER})
    assert_outcome(refused, 415, "not-supported", "does not take a body of application/fhir+ndjson")


class Reader:
    """May read everything and write Practitioners only."""

    def readable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Everything()

    def writable(self, resource_type: str) -> Node:
        return Everything() if resource_type == "Practitioner" else Nothing()


async def test_a_line_that_its_caller_may_not_write_is_refused(tmp_path: Path) -> None:
    policies: dict[str, Policy] = {"reader": Reader()}
    opened = served(settings_for(tmp_path), policies)
    async with opened as client_of, client_of("reader") as client:
        resources = [{"resourceType": name, "id": "a"} for name in ("Patient", "Practitioner")]
        manifest = await _imported(client, _ndjson(resources))
        (told,) = await lines(client, manifest["error"])
        assert told["issue"][0]["code"] == "forbidden"
        assert (await client.get("Patient/a")).status_code == 404
        assert (await client.get("Practitioner/a")).status_code == 200


@pytest.mark.parametrize("packed", [False, True])
async def test_lines_that_are_sent_again_under_their_id_are_one_import(
    client: httpx.AsyncClient, store: Store, *, packed: bool
) -> None:
    """Lines without ids would be stored twice. https://hl7.org/fhir/R4/http.html#custom"""
    content = _ndjson([{"resourceType": "Patient", "active": True}] * 3)
    headers = {**NDJSON, "X-Request-ID": "5f0c8a52-6d9a-4f0e-9a59-0c1df3a3b1a7"}
    first = await kicked_off(client, "POST", "$import", content=content, headers=headers)
    await finished(client, first)
    files = [memo.key for memo in await store.memos("job-file")]
    if packed:
        content = gzip.compress(content)
        headers["content-encoding"] = "gzip"
    assert await kicked_off(client, "POST", "$import", content=content, headers=headers) == first
    assert len(await stored_versions(store)) == 3
    assert [memo.key for memo in await store.memos("job-file")] == files


async def test_other_lines_under_the_same_id_are_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    headers = {**NDJSON, **LATER, "X-Request-ID": "5f0c8a52-6d9a-4f0e-9a59-0c1df3a3b1a8"}
    empty = await client.post("$import", content=b"", headers=headers)
    assert_outcome(empty, 400, "invalid", "The body is empty")
    mended = await client.post("$import", content=_ndjson(_patients(1)), headers=headers)
    assert mended.status_code == 202
    await finished(client, mended.headers["content-location"])
    other = await client.post("$import", content=_ndjson(_patients(2)), headers=headers)
    assert_outcome(other, 409, "conflict", "was that of another request", "http.X-Request-ID")
    assert len(await stored_versions(store)) == 1
    assert len(await store.memos("job")) == 1
