"""Asynchronous requests: https://hl7.org/fhir/R4/async.html, RFC 7240 section 4.1.

The result of a search or batch is a Bundle as in R5: https://hl7.org/fhir/R5/async-bundle.html
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.app import Application
from fhir_server.search.ast import Everything, IdIn, Node, Not, Nothing
from fhir_server.storage.interface import Store
from tests.jobs import LATER, finished, kicked_off, later, served, settings_for, until, with_body
from tests.support import assert_outcome, body, create, put, stored_versions

SYSTEM: Final = "http://example.org/async"


def _patient(value: str, **more: Any) -> dict[str, Any]:
    identifier = {"system": SYSTEM, "value": value}
    return {"resourceType": "Patient", "identifier": [identifier], **more}


def _batch(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "batch", "entry": list(entries)}


def _get(url: str) -> dict[str, Any]:
    return {"request": {"method": "GET", "url": url}}


def _post(value: str) -> dict[str, Any]:
    return {"resource": _patient(value), "request": {"method": "POST", "url": "Patient"}}


def _statuses(answered: Any) -> list[str]:
    return [entry["response"]["status"][:3] for entry in answered["entry"]]


@pytest.mark.parametrize(
    ("method", "address", "form"),
    [
        ("GET", "Patient?identifier=a,b&_sort=_id", None),
        ("POST", "Patient/_search", {"identifier": "a,b", "_sort": "_id"}),
        ("GET", "?_type=Patient&_sort=_id", None),
        ("GET", "Patient/one/Patient", None),
        ("GET", "Patient/one/*", None),
        ("GET", "Patient/one/$everything", None),
        ("GET", "Patient?identifier=nobody", None),
    ],
)
async def test_a_search_is_answered_later_as_it_would_be_at_once(
    client: httpx.AsyncClient, method: str, address: str, form: dict[str, str] | None
) -> None:
    for resource in (_patient("a", id="one"), _patient("b", id="two")):
        await put(client, resource)
    more: dict[str, Any] = {} if form is None else {"data": form}
    answered = await later(client, method, address, **more)
    Bundle.model_validate(answered)
    assert answered["type"] == "batch-response"
    (entry,) = answered["entry"]
    assert entry["response"]["status"] == "200 OK"
    at_once = await client.request(method, address, **more)
    assert entry["resource"] == at_once.json()


async def test_a_batch_is_answered_later_entry_by_entry(client: httpx.AsyncClient) -> None:
    there = await create(client, _patient("there"))
    stale = {"method": "PUT", "url": f"Patient/{there['id']}", "ifMatch": 'W/"7"'}
    answered = await later(
        client,
        "POST",
        "",
        **with_body(
            _batch(
                _post("new"),
                _get(f"Patient/{there['id']}"),
                _get("Patient/nobody"),
                _get("Patient?identifier=new"),
                {"resource": {**there, "active": True}, "request": stale},
                {"request": {"method": "DELETE", "url": f"Patient/{there['id']}"}},
            )
        ),
    )
    Bundle.model_validate(answered)
    assert answered["type"] == "batch-response"
    assert _statuses(answered) == ["201", "200", "404", "200", "412", "204"]
    # What came before in the Bundle was there already when the search came by.
    assert answered["entry"][3]["resource"]["entry"][0]["resource"]["identifier"][0] == {
        "system": SYSTEM,
        "value": "new",
    }


async def test_refused_entries_say_why_and_where(client: httpx.AsyncClient) -> None:
    wrong = {"resourceType": "Patient", "gendr": "male"}
    bad = {"resource": wrong, "request": {"method": "POST", "url": "Patient"}}
    nested = {"resource": _batch(), "request": {"method": "POST", "url": "/"}}
    job = {"request": {"method": "GET", "url": "_jobs/1/Patient/output-1.ndjson"}}
    export = {"request": {"method": "GET", "url": "$export"}}
    answered = await later(client, "POST", "", **with_body(_batch(bad, nested, job, export)))
    assert _statuses(answered) == ["400", "400", "400", "400"]
    issues = [entry["response"]["outcome"]["issue"][0] for entry in answered["entry"]]
    assert issues[0]["expression"] == ["Patient.gendr"]
    assert "may not hold what is about a job" in issues[2]["diagnostics"]
    assert "may not hold another batch" in issues[1]["diagnostics"]
    assert "Prefer: respond-async" in issues[3]["diagnostics"]


async def test_an_empty_batch_has_an_empty_answer(client: httpx.AsyncClient) -> None:
    answered = await later(
        client, "POST", "", **with_body({"resourceType": "Bundle", "type": "batch"})
    )
    assert answered == {"resourceType": "Bundle", "type": "batch-response"}


async def test_a_bundle_that_is_none_is_refused_at_once(client: httpx.AsyncClient) -> None:
    response = await client.post("", **with_body({"resourceType": "Bundle", "typ": "batch"}))
    assert_outcome(response, 400, "structure", "typ")


async def test_a_transaction_a_read_and_a_write_do_not_wait(client: httpx.AsyncClient) -> None:
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [_post("x")]}
    assert (await client.post("", **with_body(transaction))).status_code == 200
    written = await client.post("Patient", **with_body(_patient("y")))
    assert written.status_code == 201
    address = f"Patient/{written.json()['id']}"
    assert (await client.get(address, headers=LATER)).status_code == 200


async def test_a_search_that_is_refused_says_so_at_its_address(client: httpx.AsyncClient) -> None:
    address = await kicked_off(client, "GET", "Patient?colour=red")
    for _ in range(2):
        assert_outcome(await finished(client, address), 400, "invalid", "colour", "http.colour")


async def test_the_result_comes_in_xml_too_and_until_it_expires(client: httpx.AsyncClient) -> None:
    address = await kicked_off(client, "GET", "Patient?identifier=nobody")
    await finished(client, address)
    response = await client.get(address, headers={"accept": "application/fhir+xml"})
    assert response.text.startswith("<Bundle") or response.text.startswith("<?xml")
    assert response.headers["expires"].endswith(" GMT")
    assert (await client.head(address)).status_code == 200


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancelled_job_is_gone(client: httpx.AsyncClient, when: str, store: Store) -> None:
    address = await kicked_off(client, "POST", "", **with_body(_batch(*map(_post, "abcdef"))))
    if when == "after":
        await finished(client, address)
    response = await client.delete(address)
    assert response.status_code == 202
    assert response.json()["issue"][0]["severity"] == "information"
    assert_outcome(await client.get(address), 404, "not-found", "no such job")
    assert_outcome(await client.delete(address), 404, "not-found", "no such job")
    for space in ("job", "job-open", "job-file", "job-index"):
        assert await store.memos(space) == [], space


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "_jobs/nobody", 404),
        ("GET", "_jobs/%20", 400),
        ("DELETE", "_jobs/nobody", 404),
        ("GET", "_jobs", 404),
        ("GET", "_jobs/nobody/Patient/output-1.ndjson", 404),
        ("GET", "_jobs/nobody/Nonsense/output-1.ndjson", 404),
        ("POST", "_jobs/nobody", 405),
        ("GET", "_jobs/nobody?a=b", 400),
    ],
)
async def test_other_addresses_are_refused(
    client: httpx.AsyncClient, method: str, address: str, status: int
) -> None:
    response = await client.request(method, address)
    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


async def test_another_callers_job_is_not_there(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with served(settings) as client_of, client_of("a/b") as mine, client_of("a") as other:
        address = await kicked_off(mine, "GET", "Patient?active=true")
        assert (await finished(mine, address)).status_code == 200
        assert_outcome(await other.get(address), 404, "not-found", "no such job")
        assert_outcome(await other.delete(address), 404, "not-found", "no such job")
        assert (await mine.get(address)).status_code == 200


class Withdrawn:
    """May do everything until that is withdrawn."""

    def __init__(self) -> None:
        self.allowed: Node = Everything()

    def readable(self, resource_type: str) -> Node:  # noqa: ARG002
        return self.allowed

    writable = readable


async def test_what_is_withdrawn_meanwhile_counts(tmp_path: Path) -> None:
    policy = Withdrawn()
    settings = settings_for(tmp_path, job_concurrency=1)
    async with served(settings, {"a": policy}) as client_of, client_of("a") as client:
        await put(client, _patient("a", id="one"))
        search = "Patient?identifier=a"
        (entry,) = (await later(client, "GET", search))["entry"]
        assert len(entry["resource"]["entry"]) == 1
        address = await kicked_off(client, "GET", search)
        policy.allowed = Nothing()  # before the runner has its turn, which comes as we wait
        (entry,) = (await finished(client, address)).json()["entry"]
        assert "entry" not in entry["resource"]


async def test_a_result_holds_nothing_that_was_withdrawn_since(tmp_path: Path) -> None:
    policy = Withdrawn()
    async with served(settings_for(tmp_path), {"a": policy}) as client_of, client_of("a") as client:
        await put(client, _patient("a", id="one"))
        await put(client, _patient("a", id="two"))
        search = await kicked_off(client, "GET", "Patient?identifier=a")
        first = (await finished(client, search)).json()
        (output,) = (await later(client, "GET", "$export"))["output"]
        policy.allowed = Not(IdIn(("one",)))
        again = (await client.get(search)).json()
        assert again["entry"] == [{"response": first["entry"][0]["response"]}]
        exported = (await client.get(output["url"])).text.splitlines()
        assert [json.loads(line)["id"] for line in exported] == ["two"]
        policy.allowed = Everything()
        assert (await client.get(search)).json() == first
        assert len((await client.get(output["url"])).text.splitlines()) == 2


async def test_no_caller_may_queue_without_end(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_jobs=2, job_concurrency=0)
    async with served(settings) as client_of, client_of("a") as client, client_of("b") as other:
        first = await kicked_off(client, "GET", "Patient")
        await kicked_off(client, "GET", "Patient")
        refused = await client.get("Patient", headers=LATER)
        assert_outcome(refused, 403, "too-costly", "2 jobs are under way already")
        await kicked_off(other, "GET", "Patient")
        await client.delete(first)
        await kicked_off(client, "GET", "Patient")


async def test_others_are_served_while_a_job_runs(client: httpx.AsyncClient) -> None:
    entries = [_post(str(number)) for number in range(50)]
    address = await kicked_off(client, "POST", "", **with_body(_batch(*entries)))
    assert (await client.get("metadata")).status_code == 200
    seen: set[str] = set()

    async def is_finished() -> bool:
        assert (await client.get("Patient/nobody")).status_code == 404
        response = await client.get(address)
        seen.add(response.headers.get("x-progress", ""))
        return response.status_code == 200

    await until(is_finished)
    assert len(seen) > 5


async def _is_under_way(client: httpx.AsyncClient, address: str) -> bool:
    return "of 30" in (await client.get(address)).headers["x-progress"]


async def test_a_batch_is_done_once_when_the_runner_stops_in_the_middle(
    store: Store, client: httpx.AsyncClient, app: Application
) -> None:
    entries = [_post(str(number)) for number in range(30)]
    address = await kicked_off(client, "POST", "", **with_body(_batch(*entries)))
    await until(lambda: _is_under_way(client, address))
    await app.state.jobs.stop()
    assert (await client.get(address)).status_code == 202
    app.state.jobs.start()
    done = (await finished(client, address)).json()
    assert _statuses(done) == ["201"] * 30
    versions = await stored_versions(store)
    assert len(versions) == 30
    assert len({version.id for version in versions}) == 30


async def test_the_kinds_of_jobs_that_a_process_does_not_know_are_left_alone(
    client: httpx.AsyncClient, app: Application
) -> None:
    app.state.jobs._steps = {}
    address = await kicked_off(client, "GET", "Patient")
    await asyncio.sleep(0.1)
    assert (await client.get(address)).headers["x-progress"] == "waiting for its turn"


async def test_a_fault_of_the_server_fails_the_job_without_telling_of_the_inside(
    client: httpx.AsyncClient, app: Application
) -> None:
    async def broken(work: Any) -> None:  # noqa: ARG001
        raise ZeroDivisionError("inside")

    app.state.jobs._steps = {"interaction": broken}
    address = await kicked_off(client, "GET", "Patient")
    response = await finished(client, address)
    assert_outcome(response, 500, "exception", "The server failed at this job")
    assert "inside" not in response.text


async def test_a_plain_request_is_unchanged(client: httpx.AsyncClient) -> None:
    response = await client.post("Patient", **body(_patient("x")))
    assert response.status_code == 201
    assert "preference-applied" not in response.headers


async def test_a_batch_that_is_sent_again_is_the_same_job(client: httpx.AsyncClient) -> None:
    sent = with_body(_batch(_post("once")))
    sent["headers"] |= {"x-request-id": "7a0e"}
    first, second = [await client.post("", **sent) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.headers["content-location"] == second.headers["content-location"]
    await finished(client, first.headers["content-location"])
    found = (await client.get("Patient?identifier=once")).json()
    assert len(found["entry"]) == 1


async def test_an_operation_that_writes_is_an_entry_too(client: httpx.AsyncClient) -> None:
    await put(client, _patient("a", id="one"))
    tag = {"system": SYSTEM, "code": "seen"}
    parameter = {"name": "meta", "valueMeta": {"tag": [tag]}}
    entry = {
        "resource": {"resourceType": "Parameters", "parameter": [parameter]},
        "request": {"method": "POST", "url": "Patient/one/$meta-add"},
    }
    answered = await later(client, "POST", "", **with_body(_batch(entry, entry)))
    assert _statuses(answered) == ["200", "200"]
    assert (await client.get("Patient/one")).json()["meta"]["tag"] == [tag]
