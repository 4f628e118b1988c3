"""A large resource is checked beside everything else: other requests, and other commits."""

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.json import Resource, Template
from fhir_server.operation.records import Records
from fhir_server.storage.interface import Draft, Store
from fhir_server.validation.checker import Checker, Findings, standard_checker
from tests.jobs import finished, kicked_off
from tests.support import assert_outcome, body, outcome_issues, put, stored_versions

JSON_PATCH: Final = {"Content-Type": "application/json-patch+json"}
LARGE: Final[Resource] = {
    "resourceType": "Basic",
    "id": "large",
    "code": {"text": "x" * 200_000},
}
OTHER: Final[Resource] = {"resourceType": "Basic", "id": "other", "code": {"text": "small"}}
SUBJECT: Final = {"reference": "Patient/synthetic"}
PATCH: Final = [{"op": "add", "path": "/subject", "value": SUBJECT}]
_PATIENCE: Final = 60.0


class _Gate:
    """Holds every check of the large resource, and tells whether it was let through."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.met = threading.Event()
        self.passed: list[bool] = []

    def hold(self) -> None:
        self.met.set()
        self.passed.append(self._open.wait(_PATIENCE))

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        await asyncio.to_thread(self.met.wait, _PATIENCE)


Held = Callable[[], None]


def _hold(monkeypatch: pytest.MonkeyPatch, hold: Held) -> None:
    check = Checker.check

    def holding(checker: Checker, resource: Resource, **more: Any) -> Findings:
        if resource["resourceType"] == "Basic" and resource.get("id") != OTHER["id"]:
            hold()
        return check(checker, resource, **more)

    monkeypatch.setattr(Checker, "check", holding)


def _threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those in which a Basic other than OTHER is checked from now on, one for each check."""
    threads: list[int] = []
    _hold(monkeypatch, lambda: threads.append(threading.get_ident()))
    return threads


def _entry(method: str, resource: Resource, kind: str) -> Resource:
    request = {"method": method, "url": "Basic/large"}
    entry = {"resource": resource, "request": request}
    return {"resourceType": "Bundle", "type": kind, "entry": [entry]}


def _patch_entry(kind: str) -> Resource:
    data = base64.b64encode(json.dumps(PATCH).encode()).decode()
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    return _entry("PATCH", binary, kind)


async def _later(client: httpx.AsyncClient, bundle: Resource) -> httpx.Response:
    sent = body(bundle)
    return await finished(client, await kicked_off(client, "POST", "", **sent))


def _patched(client: httpx.AsyncClient, **headers: str) -> Awaitable[httpx.Response]:
    return client.patch("Basic/large", content=json.dumps(PATCH), headers=JSON_PATCH | headers)


Send = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
WAYS: Final[dict[str, Send]] = {
    "update": lambda client: client.put("Basic/large", **body({**LARGE, "subject": SUBJECT})),
    "patch": _patched,
    "conditional patch": lambda client: client.patch(
        "Basic?_id=large", content=json.dumps(PATCH), headers=JSON_PATCH
    ),
    "patch in a transaction": lambda client: client.post("", **body(_patch_entry("transaction"))),
    "patch in a batch": lambda client: client.post("", **body(_patch_entry("batch"))),
    "patch in a later batch": lambda client: _later(client, _patch_entry("batch")),
    "update in a batch": lambda client: client.post(
        "", **body(_entry("PUT", {**LARGE, "subject": SUBJECT}, "batch"))
    ),
    "update in a later batch": lambda client: _later(
        client, _entry("PUT", {**LARGE, "subject": SUBJECT}, "batch")
    ),
}


@pytest.mark.parametrize("send", WAYS.values(), ids=WAYS)
async def test_others_write_while_a_large_resource_is_checked(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, send: Send
) -> None:
    await put(client, LARGE)
    gate = _Gate()
    _hold(monkeypatch, gate.hold)
    sending = asyncio.ensure_future(send(client))
    await gate.reached()
    await put(client, OTHER)
    gate.open()
    assert (await sending).status_code == 200
    assert gate.passed == [True]
    assert (await client.get("Basic/large")).json()["subject"] == SUBJECT


async def test_a_patch_is_carried_out_on_what_is_there_in_the_end(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, LARGE)
    gate = _Gate()
    _hold(monkeypatch, gate.hold)
    operations = [
        {"op": "add", "path": "/identifier", "value": []},
        {"op": "add", "path": "/identifier/-", "value": {"value": "1"}},
    ]
    sending = asyncio.ensure_future(
        client.patch("Basic/large", content=json.dumps(operations), headers=JSON_PATCH)
    )
    await gate.reached()
    change = {"op": "add", "path": "/created", "value": "2026-11-22"}
    gate.open()
    quick = await client.patch("Basic/large", content=json.dumps([change]), headers=JSON_PATCH)
    patched = await sending
    assert {quick.status_code, patched.status_code} == {200}
    found = (await client.get("Basic/large")).json()
    assert (found["created"], found["identifier"]) == ("2026-11-22", [{"value": "1"}])
    assert found["meta"]["versionId"] == "3"


def _operation(path: str, name: str, **value: Any) -> Resource:
    told = {"type": "add", "path": path, "name": name}
    parts: list[Resource] = [{"name": key, "valueString": text} for key, text in told.items()]
    return {"name": "operation", "part": [*parts, {"name": "value", **value}]}


TWICE: Final[dict[str, Send]] = {
    "JSON Patch": lambda client: client.patch(
        "Basic/large",
        content=json.dumps(
            [
                {"op": "add", "path": "/identifier", "value": []},
                {"op": "add", "path": "/identifier/-", "value": {}},
                {"op": "add", "path": "/identifier/0/value", "value": "1"},
            ]
        ),
        headers=JSON_PATCH,
    ),
    "FHIRPath Patch": lambda client: client.patch(
        "Basic/large",
        **body(
            {
                "resourceType": "Parameters",
                "parameter": [
                    _operation("Basic", "identifier", valueIdentifier={"use": "official"}),
                    _operation("Basic.identifier[0]", "value", valueString="1"),
                    {
                        "name": "operation",
                        "part": [
                            {"name": "type", "valueCode": "delete"},
                            {"name": "path", "valueString": "Basic.identifier[0].use"},
                        ],
                    },
                ],
            }
        ),
    ),
}
"""Patches whose later operations change what an earlier one brought."""


@pytest.mark.parametrize("send", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_patch_that_others_are_quicker_than_is_tried_again_and_carried_out(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, times: int, send: Send
) -> None:
    await put(client, LARGE)
    loop, checks = asyncio.get_running_loop(), 0
    gone_on = Checker.check

    def overtaken() -> None:
        nonlocal checks
        checks += 1
        if checks <= times:
            moved = {**LARGE, "created": f"2026-11-0{checks}"}
            asyncio.run_coroutine_threadsafe(write(moved), loop).result(_PATIENCE)

    async def write(resource: Resource) -> None:
        # Not through the checker, which would come to be held here again.
        monkeypatch.setattr(Checker, "check", gone_on)
        await put(client, resource)
        _hold(monkeypatch, overtaken)

    _hold(monkeypatch, overtaken)
    patched = await send(client)
    assert patched.status_code == 200, patched.text
    assert checks == times + 1
    found = (await client.get("Basic/large")).json()
    assert (found["created"], found["identifier"]) == (f"2026-11-0{times}", [{"value": "1"}])


async def test_a_large_result_that_breaks_its_definition_is_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, LARGE)
    wrong = [{"op": "add", "path": "/created", "value": "never"}]
    response = await client.patch("Basic/large", content=json.dumps(wrong), headers=JSON_PATCH)
    assert_outcome(response, 422, "value", "created", "Basic.created")
    stale = await _patched(client, **{"If-Match": 'W/"7"'})
    assert_outcome(stale, 412, "conflict", "the current version is 1")
    assert len(await stored_versions(store)) == 1


async def test_copies_that_make_a_small_resource_large_are_checked_beside_others(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, {**LARGE, "code": {"coding": [{"code": "x"}]}})
    threads = _threads(monkeypatch)
    copies = [{"op": "copy", "from": "/code/coding/0", "path": "/code/coding/-"}]
    response = await client.patch("Basic/large", content=json.dumps(copies), headers=JSON_PATCH)
    assert response.status_code == 200
    assert threads
    assert threading.get_ident() not in threads


async def test_what_an_operation_writes_is_checked_beside_other_requests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = _threads(monkeypatch)

    async def work(unit: SessionUnit) -> None:
        records = Records(unit, base="http://s/fhir", now=0, checker=standard_checker())
        await records.save(LARGE)

    await Session(store, Caller(""), OpenPolicy()).commit("test", work)
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("way", ["create", "update", "patch"])
async def test_an_outcome_has_the_warnings_of_the_one_check(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    claim = {"meta": {"profile": ["http://example.org/none"]}}
    small: Resource = {**OTHER, "id": LARGE["id"]}
    await put(client, {**small, **({} if way == "update" else claim)})
    checks = _threads(monkeypatch)
    sent = body({**small, **claim})
    if way == "create":
        sent = body({name: value for name, value in {**small, **claim}.items() if name != "id"})
    sent["headers"]["Prefer"] = "return=OperationOutcome"
    match way:
        case "create":
            response = await client.post("Basic", **sent)
        case "update":
            response = await client.put("Basic/large", **sent)
        case _:
            response = await _patched(client, Prefer="return=OperationOutcome")
    assert response.status_code in (200, 201)
    places = [(one["severity"], one.get("expression")) for one in outcome_issues(response)]
    assert places[0] == ("information", None)
    assert places.count(("warning", ["Basic.meta.profile[0]"])) == 1
    assert len(checks) == 1


@pytest.mark.parametrize(("resource", "is_beside"), [(LARGE, True), (OTHER, False)])
async def test_a_large_resource_is_made_ready_to_be_written_beside_the_loop(
    resource: Resource,
    is_beside: bool,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    make = Draft.__init__

    def noted(draft: Draft, given: Resource, template: Template | None = None) -> None:
        threads.append(threading.get_ident())
        make(draft, given, template)

    monkeypatch.setattr(Draft, "__init__", noted)
    created = await client.post("Basic", **body(resource))
    updated = await client.put(f"Basic/{resource['id']}", **body(resource))
    assert (created.status_code, updated.status_code) == (201, 201)
    assert [one != threading.get_ident() for one in threads] == [is_beside, is_beside]
    assert updated.json()["code"] == resource["code"]


async def test_an_entry_of_a_transaction_is_made_ready_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Resource] = []
    make = Draft.__init__

    def noted(draft: Draft, given: Resource, template: Template | None = None) -> None:
        made.append(given)
        make(draft, given, template)

    monkeypatch.setattr(Draft, "__init__", noted)
    stored = await client.post("", **body(_entry("PUT", LARGE, "transaction")))
    assert stored.status_code == 200, stored.text
    assert [one["id"] for one in made] == ["large"]
