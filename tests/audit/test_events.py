"""AuditEvents: the audit as auditors read it.

https://hl7.org/fhir/R4/auditevent.html
"""

import base64
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.audit.events import PROFILE, event_of
from fhir_server.access.caller import Caller, Role
from fhir_server.access.policy import ClosedPolicy, OpenPolicy
from fhir_server.access.session import Session
from fhir_server.app import Application
from fhir_server.checking import checker
from fhir_server.http.messages import HttpRequest
from fhir_server.interactions.table import ROUTER
from fhir_server.settings import Settings
from fhir_server.storage.audited import AuditEntry, AuditRow, Link, encode
from fhir_server.storage.interface import Store
from tests.audit.conftest import Rows
from tests.storage.test_contract_audit import add
from tests.support import assert_outcome

FULL: Final = AuditRow(
    caller="hub|Practitioner/1",
    action="search-type",
    request_id="r-1",
    targets=("CarePlan/p/_history/2", "Patient/kim/_history/1"),
    further=7,
    patients=("kim", "alex"),
    client="hub",
    user="Practitioner/1",
    organisation="RX1",
    roles=("auditor",),
    purpose="TREAT",
    break_glass="A&E asks",
    address="192.0.2.7",
    asked="GET /CarePlan?_include=CarePlan:patient",
    outcome="4",
    description="403 no",
)
BARE: Final = AuditRow("anonymous", "unknown")


async def _act(app: Application, caller: Caller, policy: Any = None) -> None:
    """From now on, whoever asks is that one."""

    def open_session(request: HttpRequest) -> Session:  # noqa: ARG001
        return Session(app.state.store, caller, policy or ClosedPolicy())

    assert app.fhir is not None
    app.fhir._open_session = open_session


async def ids(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"AuditEvent?{query}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", ())]


@pytest.fixture
async def five(store: Store) -> None:
    """Rows 1 to 5."""
    rows = [
        AuditRow("a", "read", "r1", ("Patient/kim/_history/1",), patients=("kim",)),
        AuditRow("b", "update", "r2", ("CarePlan/p/_history/2",), patients=("kim",)),
        AuditRow("b", "read", "r3", ("Patient/alex",), patients=("alex",), outcome="4"),
        AuditRow("c", "search-type", "r4", user="Practitioner/1", address="192.0.2.7"),
        AuditRow("d", "process-message admission", "r5", organisation="RX1", outcome="8"),
    ]
    for row in rows:
        await add(store, row)


@pytest.mark.parametrize("row", [FULL, BARE], ids=["full", "bare"])
def test_fits_the_profile(settings: Settings, row: AuditRow) -> None:
    event = event_of(AuditEntry(Link().next(1_700_000_000_000_000, encode(row)), encode(row)))
    # No narrative: nobody reads them one by one.
    assert [one.text for one in checker(settings).check(event).issues if one.rule != "dom-6"] == []
    assert event["meta"]["profile"] == [PROFILE]


@pytest.mark.parametrize(
    "code", sorted({route.interaction.code for route in ROUTER.routes} | {"audit-export", "prune"})
)
def test_fits_the_profile_whatever_the_interaction(settings: Settings, code: str) -> None:
    told = encode(AuditRow("x", code))
    event = event_of(AuditEntry(Link().next(1, told), told))
    # No narrative: nobody reads them one by one.
    assert [one.text for one in checker(settings).check(event).issues if one.rule != "dom-6"] == []


def test_says_who_asked_for_what_and_what_came_of_it() -> None:
    told = encode(FULL)
    event = event_of(AuditEntry(Link(6, 0, bytes(32)).next(1_700_000_000_000_000, told), told))
    assert (event["id"], event["action"], event["outcome"]) == ("7", "E", "4")
    assert event["recorded"] == "2023-11-14T22:13:20.000000Z"
    who = [agent["who"] for agent in event["agent"]]
    assert [one["type"] for one in who] == ["Practitioner", "Device", "Organization"]
    assert who[0]["reference"] == "Practitioner/1"
    assert event["agent"][0]["network"]["address"] == "192.0.2.7"
    codes = [one["coding"][0]["code"] for one in event["purposeOfEvent"]]
    assert codes == ["TREAT", "BTG"]
    assert event["purposeOfEvent"][1]["text"] == "A&E asks"
    query, *others = event["entity"]
    assert base64.b64decode(query["query"]).decode() == FULL.asked
    references = [one["what"]["reference"] for one in others]
    assert references == ["CarePlan/p/_history/2", "Patient/kim/_history/1", "Patient/alex"]


def test_a_row_that_somebody_spoilt_is_an_event_that_says_so() -> None:
    event = event_of(AuditEntry(Link(1, 1, bytes(32)), b"\xff"))
    assert (event["outcome"], event["outcomeDesc"]) == ("12", "The row cannot be read")


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "54321"),
        ("_sort=date", "12345"),
        ("_sort=-date", "54321"),
        ("patient=kim", "21"),
        ("patient=Patient/kim", "21"),
        ("patient=Patient/alex", "3"),
        ("entity=Patient/kim", "21"),
        ("entity=CarePlan/p", "2"),
        ("entity=CarePlan/p,Patient/alex", "32"),
        ("agent=Practitioner/1", "4"),
        ("agent:identifier=https://keyworking.example/fhir/NamingSystem/caller|b", "32"),
        ("agent:identifier=https://fhir.nhs.uk/Id/ods-organization-code|RX1", "5"),
        ("address=192.0.2.7", "4"),
        ("action=R", "31"),
        ("action=U,E", "542"),
        ("outcome=4", "3"),
        ("outcome:not=0", "53"),
        ("subtype=http://hl7.org/fhir/restful-interaction|operation", "5"),
        ("type=rest", "54321"),
        ("entity-type=1", "321"),
        ("patient=kim&action=U", "2"),
        ("date=lt2000-01-01", ""),
        ("date=ge2000-01-01&date=lt2100-01-01", "54321"),
        ("_lastUpdated=gt2000", "54321"),
        ("_id=3,4", "43"),
        ("patient=nobody", ""),
    ],
)
async def test_is_found_by_the_parameters_of_r4(
    client: httpx.AsyncClient, query: str, found: str
) -> None:
    before = "&date=lt2100" if "date" not in query else ""
    only = [one for one in await ids(client, query + before) if one in "12345"]
    assert "".join(only) == found


@pytest.mark.usefixtures("five")
async def test_is_found_by_time(client: httpx.AsyncClient) -> None:
    third = (await client.get("AuditEvent/3")).json()["recorded"]
    second = (await client.get("AuditEvent/2")).json()["recorded"]
    assert await ids(client, f"date=le{second}&_sort=date") == ["1", "2"]
    assert await ids(client, f"date=gt{second}&date=le{third}") == ["3"]
    assert await ids(client, f"date={third}") == ["3"]
    assert await ids(client, f"date=lt{second}&patient=kim") == ["1"]


async def test_each_stands_once_on_the_pages_whatever_is_written_meanwhile(
    client: httpx.AsyncClient, store: Store
) -> None:
    for number in range(12):
        patients = ("kim",) if number % 2 else ("alex",)
        await add(store, AuditRow("a", "read", f"r{number}", patients=patients))
    seen: list[str] = []
    address = "AuditEvent?patient=kim&_count=2"
    while address:
        page = (await client.get(address)).json()
        seen += [entry["resource"]["id"] for entry in page.get("entry", ())]
        links = {link["relation"]: link["url"] for link in page["link"]}
        address = links.get("next", "")
        await add(store, AuditRow("a", "read", "later", patients=("kim",)))
    assert seen == ["12", "10", "8", "6", "4", "2"]


async def test_a_page_looks_through_so_many_rows_and_the_next_goes_on(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fhir_server.interactions import audit_pages

    monkeypatch.setattr(audit_pages, "MOST", 4)
    monkeypatch.setattr(audit_pages, "_AT_ONCE", 2)
    await add(store, AuditRow("a", "delete", "the one"))
    await add(store, *(AuditRow("a", "read") for _ in range(9)))
    first = (await client.get("AuditEvent?action=D&date=lt2100")).json()
    assert "entry" not in first
    second = (await client.get(first["link"][1]["url"])).json()
    assert "entry" not in second
    third = (await client.get(second["link"][1]["url"])).json()
    assert [entry["resource"]["id"] for entry in third["entry"]] == ["1"]


@pytest.mark.usefixtures("five")
async def test_is_counted_up_to_a_bound(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fhir_server.interactions import audit_pages

    assert (await client.get("AuditEvent?patient=kim&_summary=count")).json()["total"] == 2
    monkeypatch.setattr(audit_pages, "MOST_COUNTED", 2)
    monkeypatch.setattr(audit_pages, "_AT_ONCE", 2)
    answer = await client.get("AuditEvent?action=R&_summary=count")
    assert_outcome(answer, 403, "too-costly", "narrow it with date")


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("_include=AuditEvent:patient", 400, "no includes"),
        ("_revinclude=Provenance:target", 400, "no includes"),
        ("patient.name=x", 400, "no chains"),
        ("_has:Provenance:target:_id=1", 400, "no chains"),
        ("_sort=action", 400, "sorted by date alone"),
        ("_sort=date,action", 400, "sorted by date alone"),
        ("nothing=1", 400, "nothing"),
        ("_page=forged", 400, "not one that the server gave"),
    ],
)
async def test_what_it_cannot_be_asked_is_refused(
    client: httpx.AsyncClient, query: str, status: int, text: str
) -> None:
    answer = await client.get(f"AuditEvent?{query}")
    assert answer.status_code == status
    assert text in answer.text


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    "path", ["9999", "0", "01x", "3/_history/2", "-1", "99999999999999999999999"]
)
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"AuditEvent/{path}")).status_code == 404


@pytest.mark.usefixtures("five")
async def test_is_read_by_its_number_in_one_version(client: httpx.AsyncClient) -> None:
    answer = await client.get("AuditEvent/2")
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"1"')
    assert (await client.get("AuditEvent/2/_history/1")).json() == answer.json()
    again = await client.get("AuditEvent/2", headers={"if-none-match": 'W/"1"'})
    assert again.status_code == 304
    some = (await client.get("AuditEvent/2?_elements=outcome")).json()
    assert "entity" not in some
    assert (await client.get("AuditEvent/2?_format=xml")).text.count("<AuditEvent ") == 1


_WRITES: Final = [
    ("POST", "AuditEvent", 422),
    ("PUT", "AuditEvent/1", 405),
    ("PUT", "AuditEvent?_id=1", 405),
    ("PATCH", "AuditEvent/1", 405),
    ("PATCH", "AuditEvent?_id=1", 405),
    ("DELETE", "AuditEvent/1", 405),
    ("DELETE", "AuditEvent?_id=1", 405),
    ("POST", "AuditEvent/1/$meta-add", 404),
    ("POST", "AuditEvent/1/$meta-delete", 404),
    ("DELETE", "AuditEvent/1/_history", 405),
    ("GET", "AuditEvent/_history", 404),
]


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(("method", "path", "status"), _WRITES)
async def test_is_changed_and_deleted_by_nobody_and_cannot_be_forged(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """ATTACKS.md class 29, even with `--auth none`."""
    before = (await client.get("AuditEvent/1")).content
    event = {**(await client.get("AuditEvent/1")).json(), "outcome": "0"}
    answer = await client.request(method, path, json=None if method == "GET" else event)
    assert answer.status_code == status
    assert (await client.get("AuditEvent/1")).content == before
    if method != "GET":
        entry = {"request": {"method": method, "url": path}, "resource": event}
        for kind, expected in (("transaction", status), ("batch", 200)):
            sent = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            answer = await client.post("", json=sent)
            assert answer.status_code in (expected, 400), answer.text
            if kind == "batch":
                assert answer.json()["entry"][0]["response"]["status"].startswith("4")
    assert (await client.get("AuditEvent/1")).content == before


async def test_is_not_written_by_a_session_either(store: Store) -> None:
    """Whatever operation, import or message it comes by."""
    from fhir_server.errors import FhirError, Kind

    session = Session(store, Caller("any"), OpenPolicy())
    with pytest.raises(FhirError) as refused:
        await session.commit(
            "x", lambda unit: unit.put({"resourceType": "AuditEvent", "id": "a"}, "PUT")
        )
    assert refused.value.kind is Kind.FORBIDDEN


@pytest.mark.usefixtures("five", "patient")
@pytest.mark.parametrize("path", ["AuditEvent", "AuditEvent/1", "AuditEvent?patient=kim"])
async def test_is_read_by_auditors_alone_and_their_reading_is_audited(
    app: Application, client: httpx.AsyncClient, rows: Rows, path: str
) -> None:
    await _act(app, Caller("clinician", roles=frozenset({Role.ADMINISTRATOR})))
    refused = await client.get(path)
    assert_outcome(refused, 403, "forbidden", "The audit is read by auditors alone")
    assert (await client.get("AuditEvent/777")).content == refused.content
    await _act(app, Caller("auditor", roles=frozenset({Role.AUDITOR})))
    answer = await client.get(path)
    assert answer.status_code == 200
    last = (await rows())[-1]
    assert (last.caller, last.outcome) == ("auditor", "0")
    assert any(target.startswith("AuditEvent/") for target in last.targets)
    denied = (await rows())[-3]
    assert (denied.caller, denied.outcome, denied.description[:3]) == ("clinician", "4", "403")


@pytest.mark.usefixtures("five", "patient")
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
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert '"resourceType":"AuditEvent"' not in answer.text


@pytest.mark.usefixtures("patient")
async def test_one_that_was_stored_before_is_as_if_it_were_not(
    client: httpx.AsyncClient, store: Store
) -> None:
    """By a release that took them for resources as any others."""
    from fhir_server.storage.interface import Draft, Unit

    event = {"resourceType": "AuditEvent", "id": "old", "outcome": "0"}
    event["entity"] = [{"what": {"reference": "Patient/kim"}}]  # type: ignore[assignment]

    async def work(unit: Unit) -> None:
        await unit.put(Draft(event), "PUT")

    await store.commit(work)
    assert (await client.get("AuditEvent/old")).status_code == 404
    for path in ("Patient?_revinclude=AuditEvent:patient", "?_type=AuditEvent", "_history"):
        assert "AuditEvent/old" not in (await client.get(path)).text
    assert "old" not in await ids(client, "patient=kim")


async def test_a_search_by_form_says_what_was_asked(client: httpx.AsyncClient, rows: Rows) -> None:
    await client.post("AuditEvent/_search", data={"action": "R"})
    assert (await rows())[-1].asked == "POST /AuditEvent/_search action=R"
