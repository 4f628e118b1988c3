"""Nothing of some types is changed without If-Match; what a client has already is not sent again.

https://hl7.org/fhir/R4/http.html#concurrency, https://hl7.org/fhir/R4/http.html#cread
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.storage.interface import Store
from tests.support import FHIR_JSON, assert_outcome, body, client_of, put, stored_versions

SUBJECT: Final = {"reference": "Patient/p1"}
GUARDED: Final[Mapping[str, dict[str, Any]]] = {
    "CarePlan": {"status": "active", "intent": "plan", "subject": SUBJECT},
    "Goal": {"lifecycleStatus": "active", "description": {"text": "x"}, "subject": SUBJECT},
    "Consent": {
        "status": "active",
        "scope": {"text": "x"},
        "category": [{"text": "x"}],
        "patient": SUBJECT,
        "policyRule": {"text": "x"},
    },
    "EpisodeOfCare": {"status": "active", "patient": SUBJECT},
    "Flag": {"status": "active", "code": {"text": "x"}, "subject": SUBJECT},
}
JSON_PATCH: Final = {"content-type": "application/json-patch+json"}
CHANGE: Final = b'[{"op": "add", "path": "/language", "value": "en-GB"}]'
NEEDED: Final = "needs If-Match"


def of(name: str) -> dict[str, Any]:
    tag = [{"system": "https://example.org/codes", "code": "one"}]
    return {"resourceType": name, "id": "x1", "meta": {"tag": tag}, **GUARDED[name]}


BY_TAG: Final = "_tag=https://example.org/codes|one"


@pytest.mark.parametrize("name", GUARDED)
async def test_what_several_work_on_is_not_changed_without_if_match(
    client: httpx.AsyncClient, store: Store, name: str
) -> None:
    await put(client, of(name))
    changed = body({**of(name), "language": "en-GB"})
    for address in (f"{name}/x1", f"{name}?{BY_TAG}"):
        for answer in (
            await client.put(address, **changed),
            await client.patch(address, content=CHANGE, headers=JSON_PATCH),
            await client.delete(address),
        ):
            assert_outcome(answer, 412, "conflict", f"{name} {NEEDED}", "http.If-Match")
    assert len(await stored_versions(store)) == 1


@pytest.mark.parametrize("name", GUARDED)
async def test_with_if_match_it_is(client: httpx.AsyncClient, name: str) -> None:
    await put(client, of(name))
    changed = body({**of(name), "language": "cy"})
    changed["headers"]["If-Match"] = 'W/"1"'
    assert (await client.put(f"{name}/x1", **changed)).status_code == 200
    headers = {**JSON_PATCH, "If-Match": 'W/"2"'}
    patched = await client.patch(f"{name}?{BY_TAG}", content=CHANGE, headers=headers)
    assert patched.headers["etag"] == 'W/"3"'
    assert (await client.delete(f"{name}/x1", headers={"If-Match": 'W/"2"'})).status_code == 412
    assert (await client.delete(f"{name}/x1", headers={"If-Match": 'W/"3"'})).status_code == 204
    # What is gone is nobody's version: it is created, and deleted, again.
    assert (await client.delete(f"{name}/x1")).status_code == 204
    assert (await client.put(f"{name}/x1", **body(of(name)))).status_code == 201


async def test_in_a_transaction_the_entry_says_the_version(
    client: httpx.AsyncClient, store: Store
) -> None:
    goal = of("Goal")
    await put(client, goal)

    def bundle(**condition: str) -> dict[str, Any]:
        request = {"method": "PUT", "url": "Goal/x1", **condition}
        entry = {"resource": {**goal, "language": "en-GB"}, "request": request}
        return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}

    refused = await client.post("", **body(bundle()))
    assert_outcome(refused, 412, "conflict", NEEDED, "Bundle.entry[0].request")
    assert len(await stored_versions(store)) == 1
    assert (await client.post("", **body(bundle(ifMatch='W/"1"')))).status_code == 200
    assert len(await stored_versions(store)) == 2


async def test_other_types_are_changed_without(client: httpx.AsyncClient) -> None:
    task = {"resourceType": "Task", "id": "t", "status": "requested", "intent": "order"}
    await client.put("Task/t", **body(task))
    answer = await client.put("Task/t", **body({**task, "status": "accepted"}))
    assert answer.headers["etag"] == 'W/"2"'


@pytest.mark.parametrize(
    ("required", "refused"), [("", set()), ("Task, Patient", {"Task"}), ("Goal", {"Goal"})]
)
async def test_a_setting_says_which_types(tmp_path: Path, required: str, refused: set[str]) -> None:
    async with client_of(tmp_path, if_match_required=required) as client:
        task = {"resourceType": "Task", "id": "x1", "status": "requested", "intent": "order"}
        for resource in (task, of("Goal")):
            await client.put(f"{resource['resourceType']}/x1", **body(resource))
            changed = body({**resource, "language": "en-GB"})
            answer = await client.put(f"{resource['resourceType']}/x1", **changed)
            expected = 412 if resource["resourceType"] in refused else 200
            assert answer.status_code == expected, answer.text


async def test_a_delete_of_several_leaves_those_that_need_if_match(tmp_path: Path) -> None:
    async with client_of(tmp_path, conditional_delete="multiple") as client:
        await client.put("Goal/x1", **body(of("Goal")))
        answer = await client.delete(f"Goal?{BY_TAG}")
        assert_outcome(answer, 412, "conflict", NEEDED, "http.If-Match")
        assert (await client.get("Goal/x1")).status_code == 200


# If-Modified-Since


async def _modified(client: httpx.AsyncClient) -> datetime:
    patient = {"resourceType": "Patient", "id": "p1"}
    stored = await put(client, patient)
    return datetime.fromisoformat(stored["meta"]["lastUpdated"].replace("Z", "+00:00"))


@pytest.mark.parametrize(("seconds", "status"), [(-1, 200), (0, 304), (1, 304), (86_400, 304)])
async def test_a_read_sends_what_was_modified_since(
    client: httpx.AsyncClient, seconds: int, status: int
) -> None:
    modified = (await _modified(client)).replace(microsecond=0)
    since = format_datetime(modified + timedelta(seconds=seconds), usegmt=True)
    answer = await client.get("Patient/p1", headers={"If-Modified-Since": since})
    assert answer.status_code == status
    assert bool(answer.content) is (status == 200)
    assert answer.headers["etag"] == 'W/"1"'


async def test_the_last_modified_that_a_read_gave_is_up_to_date(client: httpx.AsyncClient) -> None:
    await _modified(client)
    given = (await client.get("Patient/p1")).headers["last-modified"]
    again = await client.get("Patient/p1", headers={"If-Modified-Since": given})
    assert again.status_code == 304


async def test_if_none_match_goes_before_if_modified_since(client: httpx.AsyncClient) -> None:
    await _modified(client)
    later = format_datetime(datetime(2999, 1, 1, tzinfo=UTC), usegmt=True)
    for tag, status in (('W/"1"', 304), ('W/"7"', 200)):
        headers = {"If-Modified-Since": later, "If-None-Match": tag}
        assert (await client.get("Patient/p1", headers=headers)).status_code == status


@pytest.mark.parametrize(
    "header",
    ["", "yesterday", "Sun, 06 Nov 99999999 08:49:37 GMT", "2999-01-01", "Mon, 99 Jan 2999 1 GMT"],
)
async def test_a_time_that_cannot_be_read_is_as_none(
    client: httpx.AsyncClient, header: str
) -> None:
    await _modified(client)
    answer = await client.get("Patient/p1", headers={"If-Modified-Since": header})
    assert answer.status_code == 200


async def test_an_entry_of_a_batch_says_since_when(client: httpx.AsyncClient) -> None:
    modified = await _modified(client)

    def entry(since: datetime) -> dict[str, Any]:
        moment = since.isoformat(timespec="microseconds")
        return {"request": {"method": "GET", "url": "Patient/p1", "ifModifiedSince": moment}}

    entries = [entry(modified), entry(modified - timedelta(microseconds=1))]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    answer = await client.post("", content=json.encode(batch), headers=FHIR_JSON)
    statuses = [one["response"]["status"][:3] for one in answer.json()["entry"]]
    assert statuses == ["304", "200"]
