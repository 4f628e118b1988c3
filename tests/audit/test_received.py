"""AuditEvents that clients send: taken, marked, chained, found among the rows, and never changed.

https://hl7.org/fhir/R4/auditevent.html, https://hl7.org/fhir/R4/http.html#create
"""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from fhir_server.access.audit import received
from fhir_server.access.audit.chain import verify
from fhir_server.access.audit.events import PROFILE
from fhir_server.access.caller import Caller, Role
from fhir_server.access.policy import OpenPolicy
from fhir_server.app import Application
from fhir_server.fhir.dates import interval
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Draft, Store, Unit
from tests.audit.conftest import Rows
from tests.audit.test_events import _act, ids
from tests.storage.test_contract_audit import add
from tests.support import assert_outcome

DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
OPEN: Final = OpenPolicy()
SERVER: Final = {"display": "Keyworking FHIR server"}
TAG: Final = f"{received.SYSTEM}|{received.CODE}"


def event(recorded: str = "2026-03-01T10:00:00Z", **more: Any) -> dict[str, Any]:
    """A sign-in at a unit's own system."""
    return {
        "resourceType": "AuditEvent",
        "type": {"system": DICOM, "code": "110114", "display": "User Authentication"},
        "action": "E",
        "recorded": recorded,
        "outcome": "0",
        "agent": [{"who": {"display": "A nurse"}, "requestor": True}],
        "source": {"observer": {"display": "Unit system"}},
        **more,
    }


async def post(client: httpx.AsyncClient, sent: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await client.post("AuditEvent", json=sent, headers=headers)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_is_created_and_read_as_it_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("AuditEvent", json=event())
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"].endswith(f"/AuditEvent/{made['id']}/_history/1")
    read = await client.get(f"AuditEvent/{made['id']}")
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, made, 'W/"1"')
    assert {**made, "id": None, "meta": None} == {**event(), "id": None, "meta": None}
    assert (await client.get(f"AuditEvent/{made['id']}/_history/1")).json() == made
    assert (await client.get(f"AuditEvent/{made['id']}/_history/2")).status_code == 404
    past = (await client.get(f"AuditEvent/{made['id']}/_history")).json()
    assert [one["resource"] for one in past["entry"]] == [made]
    assert past["entry"][0]["request"] == {"method": "POST", "url": "AuditEvent"}
    for query, count in (("_since=2099-01-01", 0), ("_at=2020", 0), ("_since=2020", 1)):
        answer = await client.get(f"AuditEvent/{made['id']}/_history?{query}&_summary=count")
        assert answer.json()["total"] == count, query
    assert (await client.get("AuditEvent/none/_history?_at=2020")).status_code == 404
    own = (await client.get("AuditEvent/1/_history")).json()
    assert [one["resource"]["id"] for one in own["entry"]] == ["1"]


async def test_is_marked_as_received_whatever_it_says_of_itself(
    app: Application, client: httpx.AsyncClient
) -> None:
    forged = [{"system": received.SYSTEM, "code": "own"}, {"system": "urn:x", "code": "kept"}]
    sent = event(meta={"source": "urn:server", "tag": forged}, source={"observer": SERVER})
    meta = (await post(client, sent))["meta"]
    assert meta["source"].endswith("/NamingSystem/client/anonymous")
    assert [one["code"] for one in meta["tag"]] == ["kept", received.CODE]
    await _act(app, Caller("hub|x", client="a hub", roles=frozenset({Role.AUDITOR})), OPEN)
    meta = (await post(client, event()))["meta"]
    assert meta["source"].endswith("/NamingSystem/client/a%20hub")
    assert len(await ids(client, f"_tag={TAG}")) == 2
    assert len(await ids(client, f"_source={quote(meta['source'])}")) == 1


async def test_the_profile_of_the_server_s_own_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("AuditEvent", json=event(meta={"profile": [f"{PROFILE}|1"]}))
    assert answer.status_code == 422, answer.text
    assert_outcome(answer, 422, "business-rule", PROFILE, "AuditEvent.meta.profile[0]")


@pytest.mark.usefixtures("patient")
async def test_has_a_row_with_its_hash_beside_it(client: httpx.AsyncClient, rows: Rows) -> None:
    about = [{"what": {"reference": "Patient/kim"}}]
    made = await post(client, event(entity=about))
    (row,) = [one for one in await rows() if one.action == "create"]
    assert row.targets == (f"AuditEvent/{made['id']}/_history/1",)
    assert row.patients == ("kim",)
    (told,) = row.received
    assert told.startswith(f"AuditEvent/{made['id']} ")
    found = await ids(client, "patient=Patient/kim&action=C,E")
    assert made["id"] in found
    assert len(found) == 2  # it, and the server's own row of its creation


@pytest.mark.parametrize("change", ["another", "gone", "added"])
async def test_what_is_done_to_it_behind_the_server_s_back_shows(
    client: httpx.AsyncClient, store: Store, rows: Rows, change: str
) -> None:
    made = await post(client, event())
    await rows()
    assert (await verify(store)).fault == ""

    async def work(unit: Unit) -> None:
        if change == "another":
            await unit.put(Draft({**made, "outcome": "8"}), "PUT")
        elif change == "gone":
            await unit.delete("AuditEvent", made["id"])
        else:
            await unit.put(Draft({**made, "id": "smuggled"}), "PUT")

    await store.commit(work)
    said = {"another": "is not as it was received", "gone": "is gone", "added": "rows tell of 1"}
    assert said[change] in (await verify(store)).fault


async def test_is_found_by_the_same_parameters_as_rows(client: httpx.AsyncClient) -> None:
    made = await post(client, event(outcome="8", subtype=[{"system": DICOM, "code": "110122"}]))
    await post(client, event())
    for query in (
        *("outcome=8", f"type={DICOM}|110114&outcome=8", "subtype=110122", f"_id={made['id']}"),
        *("date=2026-03-01&outcome=8", "_lastUpdated=ge2026&subtype=110122"),
    ):
        assert await ids(client, query) == [made["id"]], query
    assert made["id"] not in await ids(client, "date=2026-03-02")
    assert (await client.get(f"AuditEvent?type={DICOM}|&_summary=count")).json()["total"] == 2


@pytest.mark.parametrize("sort", ["date", "-date", "_lastUpdated", "-_lastUpdated"])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
async def test_rows_and_received_come_in_one_order_over_all_pages(
    client: httpx.AsyncClient, store: Store, sort: str, count: int
) -> None:
    """https://hl7.org/fhir/R4/search.html#sort: compared with all of them sorted by Python."""
    for moment in ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z"):
        await post(client, event(moment))
        await add(store, AuditRow("a", "read"))
    until = (await client.get("AuditEvent?_count=1")).json()["entry"][0]["resource"]
    bound = f"_lastUpdated=le{until['meta']['lastUpdated']}"
    found: list[dict[str, Any]] = []
    address = f"AuditEvent?_sort={sort}&_count={count}&{bound}"
    while address:
        page = (await client.get(address)).json()
        found += [one["resource"] for one in page.get("entry", ())]
        address = {one["relation"]: one["url"] for one in page["link"]}.get("next", "")
    names = [one["id"] for one in found]
    assert len(names) == len({*names}) >= 6
    times = [
        interval(
            one["recorded"]
            if sort.endswith("-date") or sort == "date"
            else one["meta"]["lastUpdated"]
        ).low
        for one in found
    ]
    assert times == sorted(times, reverse=sort.startswith("-"))


async def test_what_is_received_waits_for_the_rows_before_it(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that looked through too few rows to come to it leaves it to the next."""
    from fhir_server.interactions import audit_pages

    made = await post(client, event())
    await add(store, *(AuditRow("a", "delete") for _ in range(9)))
    monkeypatch.setattr(audit_pages, "MOST", 4)
    monkeypatch.setattr(audit_pages, "_AT_ONCE", 2)
    address, pages = f"AuditEvent?type={DICOM}|110114", []
    while address:
        page = (await client.get(address)).json()
        pages.append([one["resource"]["id"] for one in page.get("entry", ())])
        address = {one["relation"]: one["url"] for one in page["link"]}.get("next", "")
    assert pages[0] == []
    assert [one for page in pages for one in page] == [made["id"]]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_comes_in_a_bundle(client: httpx.AsyncClient, kind: str) -> None:
    entries = [
        {
            "fullUrl": "urn:uuid:7f0e0f5e-0000-4000-8000-000000000001",
            "request": {"method": "POST", "url": "Patient"},
            "resource": {"resourceType": "Patient"},
        },
        {
            "request": {"method": "POST", "url": "AuditEvent"},
            "resource": event(
                entity=[{"what": {"reference": "urn:uuid:7f0e0f5e-0000-4000-8000-000000000001"}}]
            ),
        },
    ]
    answer = await client.post("", json={"resourceType": "Bundle", "type": kind, "entry": entries})
    assert answer.status_code == 200, answer.text
    patient, made = (one["response"]["location"] for one in answer.json()["entry"])
    stored = (await client.get(made.partition("/_history")[0])).json()
    if kind == "transaction":
        assert stored["entity"][0]["what"]["reference"] == patient.partition("/_history")[0]
    assert received.CODE in str(stored["meta"]["tag"])


async def test_is_sent_twice_and_stored_once(client: httpx.AsyncClient) -> None:
    sent = event(subtype=[{"system": "urn:event", "code": "7"}])
    first = await post(client, sent)
    again = await client.post(
        "AuditEvent", json=sent, headers={"if-none-exist": "subtype=urn:event|7"}
    )
    assert (again.status_code, again.json()) == (200, first)
    await post(client, sent)
    many = await client.post("AuditEvent", json=sent, headers={"if-none-exist": "subtype=7"})
    assert_outcome(many, 412, "multiple-matches", "More than one", "http.If-None-Exist")
    chained = {"if-none-exist": "patient.name=x"}
    refused = await client.post("AuditEvent", json=sent, headers=chained)
    assert refused.status_code == 400
    headers = {"x-request-id": "the-same"}
    one, two = [await client.post("AuditEvent", json=sent, headers=headers) for _ in range(2)]
    assert (one.status_code, one.json()) == (two.status_code, two.json())


async def test_a_condition_sees_what_the_same_client_sent_alone(
    app: Application, client: httpx.AsyncClient
) -> None:
    """Or it would tell whoever may not read the audit what is in it."""
    sent, asked = event(), {"if-none-exist": f"type={DICOM}|110114"}
    await _act(app, Caller("one", client="one"), OPEN)
    first = await post(client, sent, **asked)
    await _act(app, Caller("two", client="two"), OPEN)
    second = await post(client, sent, **asked)
    assert first["id"] != second["id"]
    again = await client.post("AuditEvent", json=sent, headers=asked)
    assert (again.status_code, again.json()["id"]) == (200, second["id"])


async def test_put_adds_one_under_an_id_and_changes_none(client: httpx.AsyncClient) -> None:
    made = await client.put("AuditEvent/mine", json=event(id="mine"))
    assert made.status_code == 201, made.text
    before = (await client.get("AuditEvent/mine")).content
    for name in ("mine", "1", "99999"):
        again = await client.put(f"AuditEvent/{name}", json=event(id=name, outcome="8"))
        assert_outcome(again, 405, "not-supported", "which nobody changes")
        assert "PUT" not in again.headers["allow"]
    for method, path in (
        *(("PATCH", "AuditEvent/mine"), ("DELETE", "AuditEvent/mine")),
        *(("DELETE", "AuditEvent?_id=mine"), ("PUT", "AuditEvent?_id=mine")),
    ):
        refused = await client.request(method, path, json=event(id="mine"))
        assert_outcome(refused, 405, "not-supported", "not allowed")
    for operation in ("$meta-add", "$meta-delete"):
        refused = await client.post(f"AuditEvent/mine/{operation}", json={})
        assert_outcome(refused, 404, "not-found", "meta")
    assert (await client.get("AuditEvent/mine")).content == before


async def test_two_that_put_the_same_at_once_are_one_created_and_one_refused(
    client: httpx.AsyncClient,
) -> None:
    sent = [event(id="race", outcome=outcome) for outcome in ("0", "4", "8")]
    answers = await asyncio.gather(*(client.put("AuditEvent/race", json=one) for one in sent))
    assert sorted(one.status_code for one in answers) == [201, 405, 405]


async def test_a_recorded_that_is_not_there_but_for_an_extension(client: httpx.AsyncClient) -> None:
    """https://hl7.org/fhir/R4/extensibility.html: a value may be missing with a reason."""
    reason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
    sent = event(_recorded={"extension": [{"url": reason, "valueCode": "unknown"}]})
    del sent["recorded"]
    made = await post(client, sent)
    for sort in ("date", "-date"):
        assert (await ids(client, f"_sort={sort}&_count=500"))[-1] == made["id"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"resourceType": "AuditEvent"}, 400),
        ({"resourceType": "Patient"}, 400),
        (event("yesterday"), 400),
        (event(action="X"), 400),
        (event(meta={"tag": "x"}), 400),
    ],
)
async def test_a_bad_one_is_refused(
    client: httpx.AsyncClient, sent: dict[str, Any], status: int
) -> None:
    answer = await client.post("AuditEvent", json=sent)
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "path",
    [
        "Patient?_id=kim&_revinclude=AuditEvent:patient",
        "Patient?_id=kim&_revinclude=*",
        "Patient/kim/AuditEvent",
        "Patient/kim/*",
        "Patient/kim/$everything",
        "?_type=AuditEvent",
        "_history",
    ],
)
async def test_comes_along_with_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    await post(client, event(entity=[{"what": {"reference": "Patient/kim"}}]))
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert '"resourceType":"AuditEvent"' not in answer.text


async def test_is_not_taken_by_an_import(client: httpx.AsyncClient, rows: Rows) -> None:
    from fhir_server.fhir import json

    headers = {"content-type": "application/fhir+ndjson"}
    await client.post("$import", content=json.encode(event(id="x")) + b"\n", headers=headers)
    assert not [row for row in await rows() if row.received]
