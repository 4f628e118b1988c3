"""Forbidden is as absent: status, headers and body, by every route that names a resource."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import Application
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from tests.access.conftest import As
from tests.access.deciding import CARE_TEAM, KEYWORKER, NURSE, Decided, about, rating
from tests.storage.questions import delete, patient, put
from tests.support import FHIR_JSON

HIDDEN: Final = ("hidden", "gone-one")
ABSENT: Final = ("absent", "gone-two")
"""`gone-one` was deleted, `gone-two` never was."""


@pytest.fixture
async def region(app: Application, signed_in: As) -> None:
    store = app.state.store
    mine = [patient("p1"), rating("f1", "p1"), about("CarePlan", "c1", "p1", status="active")]
    theirs = [patient("hidden"), patient("gone-one")]
    for one in HIDDEN:
        theirs += [rating(one, "hidden"), about("CarePlan", one, "hidden", status="active")]
    await put(store, *mine, *theirs)
    for name in ("Patient", "Flag", "CarePlan"):
        await delete(store, name, "gone-one")
    signed_in(Decided({"p1": KEYWORKER}))


def told(answer: httpx.Response, name: str) -> Any:
    """The answer, but for what differs by time and by the name that was asked for."""
    changing = ("date", "x-request-id", "last-modified", "content-length")
    headers = {key: value for key, value in answer.headers.items() if key not in changing}
    body = answer.text.replace(name, "NAME")
    headers = {key: value.replace(name, "NAME") for key, value in headers.items()}
    return answer.status_code, headers, _timeless(body)


def _timeless(body: str) -> Any:
    if not body:
        return body
    found = json.decode(body.encode())
    return {name: found[name] for name in found if name not in ("timestamp", "meta", "id")}


READS: Final = (
    *("Flag/{}", "Flag/{}/_history", "Flag/{}/_history/1", "Flag/{}/_history/2"),
    *("Flag?_id={}", "Flag?_id={}&_total=accurate", "Flag?_id={}&_summary=count"),
    *("Patient/{}", "Patient/{}/Flag", "Patient/{}/*", "Patient/{}/$everything"),
    *("Patient/{}/_history", "CarePlan/{}", "Flag?patient={}", "Flag/{}/$meta"),
    *("Patient/{}/$admission-risk", "Patient/{}/$discharge-plan", "Patient?_id={}&_summary=count"),
    *("Flag?patient._id={}", "Patient?_has:Flag:patient:_id={}", "Flag?_id=f1,{}"),
    *("Observation/$lastn?patient={}&category=vital-signs&code=1",),
    *("Flag?_id={}&_include=Flag:patient", "Flag/_history?_since=2020&_count=100"),
)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("address", READS)
async def test_a_read_of_what_is_hidden_is_that_of_what_is_absent(
    client: httpx.AsyncClient, address: str
) -> None:
    for hidden, absent in zip(HIDDEN, ABSENT, strict=True):
        one = told(await client.get(address.format(hidden)), hidden)
        other = told(await client.get(address.format(absent)), absent)
        assert one == other


def _plan(resource_id: str) -> Resource:
    return about("CarePlan", resource_id, "p1", status="active", intent="plan")


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("headers", [{}, {"if-match": 'W/"1"'}, {"if-none-match": "*"}])
async def test_a_write_of_what_is_hidden_is_that_of_what_is_absent(
    app: Application, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    async def every(name: str) -> list[Any]:
        content = json.encode(_plan(name))
        patch = json.encode([{"op": "replace", "path": "/status", "value": "revoked"}])
        as_patch = {"content-type": "application/json-patch+json", **headers}
        as_json = {**FHIR_JSON, **headers}
        meta = {"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}
        added = json.encode({"resourceType": "Parameters", "parameter": [meta]})
        return [
            await client.put(f"CarePlan/{name}", content=content, headers=as_json),
            await client.patch(f"CarePlan/{name}", content=patch, headers=as_patch),
            await client.delete(f"CarePlan/{name}", headers=headers),
            await client.delete(f"CarePlan?_id={name}", headers=headers),
            await client.put(f"CarePlan?_id={name}", content=content, headers=as_json),
            await client.patch(f"CarePlan?_id={name}", content=patch, headers=as_patch),
            await client.post(f"CarePlan/{name}/$meta-add", content=added, headers=as_json),
        ]

    for hidden, absent in zip(HIDDEN, ABSENT, strict=True):
        one = [told(answer, hidden) for answer in await every(hidden)]
        assert one == [told(answer, absent) for answer in await every(absent)]
        assert not any(status in (200, 201) for status, _, _ in one)
    there = await app.state.store.read("CarePlan", "hidden")
    assert (there.version, there.deleted) == (1, False)


@pytest.mark.usefixtures("region")
async def test_a_conditional_create_does_not_find_what_is_hidden(
    client: httpx.AsyncClient,
) -> None:
    """ATTACKS 15: it is as if there were none."""
    content = json.encode({"resourceType": "CarePlan", **_plan("x")})
    for one in ("hidden", "absent"):
        headers = {**FHIR_JSON, "if-none-exist": f"_id={one}"}
        answer = await client.post("CarePlan", content=content, headers=headers)
        assert answer.status_code == 201, answer.text


@pytest.mark.usefixtures("region")
async def test_a_transaction_finds_no_hidden_reference(client: httpx.AsyncClient) -> None:
    """ATTACKS 16."""

    async def transaction(name: str) -> httpx.Response:
        task = about("Task", "t", "p1", status="requested", intent="order")
        task["basedOn"] = [{"reference": f"CarePlan?_id={name}"}]
        entry = {"resource": task, "request": {"method": "POST", "url": "Task"}}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        return await client.post("", content=json.encode(bundle), headers=FHIR_JSON)

    hidden, absent = await transaction("hidden"), await transaction("absent")
    assert hidden.status_code == 412
    assert told(hidden, "hidden") == told(absent, "absent")
    assert (await transaction("c1")).status_code == 200


@pytest.mark.usefixtures("region")
async def test_one_hidden_entry_undoes_the_whole_transaction(client: httpx.AsyncClient) -> None:
    entries = [
        {"resource": _plan("c1"), "request": {"method": "PUT", "url": "CarePlan/c1"}},
        {"resource": _plan("hidden"), "request": {"method": "PUT", "url": "CarePlan/hidden"}},
    ]
    entries[0]["request"]["ifMatch"] = 'W/"1"'
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", content=json.encode(bundle), headers=FHIR_JSON)
    assert answer.status_code == 404
    assert (await client.get("CarePlan/c1")).json()["meta"]["versionId"] == "1"


@pytest.mark.usefixtures("region")
async def test_includes_bring_nothing_hidden(app: Application, client: httpx.AsyncClient) -> None:
    plan = about("CarePlan", "c2", "p1", status="active")
    plan["supportingInfo"] = [{"reference": "Flag/hidden"}]
    plan["partOf"] = [{"reference": "CarePlan/hidden"}]
    plan["basedOn"] = [{"reference": "CarePlan/c1"}]
    await put(app.state.store, plan)
    for address in ("CarePlan?_id=c2&_include=*", "CarePlan?_id=c2&_include:iterate=CarePlan:*"):
        found = (await client.get(address)).json()["entry"]
        assert {one["resource"]["id"] for one in found} <= {"c2", "c1", "p1"}
    assert (await client.get("CarePlan?_id=c2&_include=*")).json()["entry"][1:]


async def test_a_page_is_decided_again_and_belongs_to_its_caller(
    app: Application, client: httpx.AsyncClient, signed_in: As
) -> None:
    """ATTACKS 5 and 32."""
    await put(app.state.store, *(rating(f"f{n}", f"p{n % 2}") for n in range(20)))
    decided = Decided({"p0": CARE_TEAM, "p1": CARE_TEAM})
    signed_in(decided)
    first = (await client.get("Flag?_count=5")).json()
    following = next(one["url"] for one in first["link"] if one["relation"] == "next")
    del decided.by_patient["p1"]
    second = (await client.get(following)).json()
    whose = {one["resource"]["subject"]["reference"] for one in second["entry"]}
    assert whose == {"Patient/p0"}
    signed_in(decided, replace(NURSE, name="somebody-else"))
    assert (await client.get(following)).status_code == 400
    signed_in(Decided())
    assert "entry" not in (await client.get(following)).json()
