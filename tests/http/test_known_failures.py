"""Where other FHIR servers failed, and this one must not: paging, counts, includes, conditions,
transactions, dates, width. https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/R4/search.html

Each test has the report that it comes from in a comment. Races stand in `test_known_races.py`.
These are tested elsewhere:

| report | what failed | tested in |
|---|---|---|
| Microsoft #674, Blaze | an edited link kills the process | test_page_links |
| HAPI #2369, MS ADR-2607 | a link for another caller or time | test_page_links |
| MS ADR-2607 | includes on further pages go past the policy | test_includes |
| HAPI #6065 | `_has` and chains probe what is hidden | access/test_session |
| HAPI #1507, PR 3420 | pages are short where something is hidden | access/test_session |
| HAPI #8183 | an identity twice in a transaction is dropped | test_transaction |
| several | effects are left after a failure | test_transaction |
| several | `*`, weak tags, lists of tags pass for a version | test_update |
| LinuxForHealth #3505 | a move beyond the list is a 500 | test_patch_cases |
| HAPI #1999, #6106 | an insertion overwrites, an addition replaces | test_patch_cases |
| Spark #948, OpenCRVS #9404 | a document near 16 MB is a 500 | test_bad_input |
| FHIRsmith #80 | another body for an operation is a 500 | test_operation |
| InterSystems UCR 2022.2 | nothing allowed shows everything | access/test_session |
"""

import asyncio
import json
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import Application
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.conftest import Restrict
from tests.http.test_includes import OneOf, flag, names, next_of, pages, told
from tests.support import FHIR_JSON, assert_outcome, body, found_ids, put, stored_versions

SYSTEM: Final = "https://keyworking.example/id"
THEIRS: Final = {"identifier": [{"system": SYSTEM, "value": "theirs"}]}
JSON_PATCH: Final = {"content-type": "application/json-patch+json"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_count": 20})


async def two_patients(client: httpx.AsyncClient) -> None:
    """Flags of a and b in turn, and one of b with an identifier."""
    for patient in ("a", "b"):
        await put(client, {"resourceType": "Patient", "id": patient})
    for number in range(12):
        await put(client, flag(f"f{number:02}", "ab"[number % 2]))
    await put(client, flag("theirs", "b", **THEIRS))


# --- counts and pages ------------------------------------------------------------------------


# HAPI #1507, #2012, PR 3420
@pytest.mark.parametrize("search", ["Flag?_summary=count", "Flag?_total=accurate", "Flag?_count=0"])
async def test_a_total_counts_nothing_that_is_hidden(
    client: httpx.AsyncClient, restrict: Restrict, search: str
) -> None:
    await two_patients(client)
    restrict(OneOf("a"))
    response = await client.get(search)
    assert response.json()["total"] == 6
    assert not [name for name in response.headers if name.startswith("x-t")]


# HAPI #1507
async def test_pages_have_no_gaps_where_something_is_hidden(
    client: httpx.AsyncClient, restrict: Restrict
) -> None:
    await two_patients(client)
    restrict(OneOf("a"))
    sizes = [len(names(page, "match")) async for page in pages(client, "Flag?_count=2&_sort=_id")]
    assert sizes == [2, 2, 2]
    assert await found_ids(client, "Flag?subject=Patient/b") == []


# HAPI #2369: consent was not asked on further pages
async def test_access_is_decided_on_every_page_of_matches(
    client: httpx.AsyncClient, restrict: Restrict
) -> None:
    await two_patients(client)
    following = next_of((await client.get("Flag?_count=2&_sort=_id")).json())
    assert following is not None
    restrict(OneOf("a"))
    rest = [name async for page in pages(client, following) for name in names(page, "match")]
    assert rest == [("Flag", f"f{number:02}") for number in range(2, 12, 2)]
    history = next_of((await client.get("Flag/_history?_count=1")).json())
    assert history is not None
    restrict(OneOf("nobody"))
    assert [page async for page in pages(client, history) if names_of_history(page)] == []


def names_of_history(bundle: dict[str, Any]) -> list[str]:
    return [entry["fullUrl"] for entry in bundle.get("entry", ())]


# --- includes --------------------------------------------------------------------------------


# Microsoft ADR-2607: the policy comes before the limit of a page
async def test_what_is_hidden_takes_no_place_among_the_included(
    client: httpx.AsyncClient, app: Application, restrict: Restrict
) -> None:
    await two_patients(client)
    assert app.fhir is not None
    app.fhir.server = replace(app.fhir.server, max_includes=6)
    restrict(OneOf("a"))
    for search in ("Patient?_revinclude=Flag:subject", "Patient?_revinclude:iterate=*"):
        bundle = (await client.get(search)).json()
        assert len(names(bundle, "include")) == 6
        assert (told(bundle), next_of(bundle)) == ("", None)


# HAPI #2669: no-store with an include of everything gave every EpisodeOfCare
async def test_no_store_widens_nothing(client: httpx.AsyncClient) -> None:
    await two_patients(client)
    episode = {"resourceType": "EpisodeOfCare", "status": "active"}
    await put(client, {**episode, "id": "of-a", "patient": {"reference": "Patient/a"}})
    await put(client, {**episode, "id": "of-b", "patient": {"reference": "Patient/b"}})
    search = "EpisodeOfCare?patient=Patient/a&_include=*"
    plain = await client.get(search)
    fresh = await client.get(search, headers={"cache-control": "no-store"})
    assert names(plain.json(), "match") == [("EpisodeOfCare", "of-a")]
    assert fresh.json()["entry"] == plain.json()["entry"]


# --- conditions ------------------------------------------------------------------------------


# Several: a criterion that finds what is hidden is an oracle, or writes blindly over it
async def test_a_condition_finds_nothing_that_is_hidden(
    client: httpx.AsyncClient, store: Store, restrict: Restrict
) -> None:
    await two_patients(client)
    before = await store.read("Flag", "theirs")
    restrict(OneOf("a"))
    told_of_theirs = [await _conditionally(client, "theirs") for _ in range(2)]
    told_of_nobodys = [await _conditionally(client, "nobodys") for _ in range(2)]
    assert told_of_theirs == told_of_nobodys
    assert await store.read("Flag", "theirs") == before


async def _conditionally(client: httpx.AsyncClient, value: str) -> list[Any]:
    """What conditional interactions with that identifier tell; what they make goes away again."""
    criteria = f"identifier={SYSTEM}|{value}"
    mine = flag("x", "a", identifier=[{"system": SYSTEM, "value": value}])
    del mine["id"]
    patch = b'[{"op": "replace", "path": "/status", "value": "inactive"}]'
    patched = await client.patch(f"Flag?{criteria}", content=patch, headers=JSON_PATCH)
    deleted = await client.delete(f"Flag?{criteria}")
    headers = {**FHIR_JSON, "if-none-exist": criteria}
    created = await client.post("Flag", content=json.dumps(mine), headers=headers)
    await _withdraw(client, created)
    updated = await client.put(f"Flag?{criteria}", **body(mine))
    await _withdraw(client, updated)
    assert [one.status_code for one in (patched, deleted, created, updated)] == [404, 204, 201, 201]
    return [patched.json(), deleted.content, created.json()["subject"], updated.json()["subject"]]


async def _withdraw(client: httpx.AsyncClient, made: httpx.Response) -> None:
    address = made.headers["location"].partition("/_history")[0]
    response = await client.delete(address, headers={"if-match": made.headers["etag"]})
    assert response.status_code == 204, response.text


# --- transactions ----------------------------------------------------------------------------


def _bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def _post(resource: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in resource.items() if name != "id"}
    return {"resource": kept, "request": {"method": "POST", "url": resource["resourceType"]}}


# Several: entries were authorised one by one, and the first of them stayed
async def test_a_transaction_with_one_forbidden_entry_leaves_nothing(
    client: httpx.AsyncClient, store: Store, restrict: Restrict
) -> None:
    await two_patients(client)
    before = len(await stored_versions(store))
    restrict(OneOf("a"))
    both = _bundle("transaction", _post(flag("x", "a")), _post(flag("y", "b")))
    response = await client.post("", **body(both))
    assert_outcome(response, 403, "forbidden", "not allowed for the caller")
    assert len(await stored_versions(store)) == before
    alone = await client.post("", **body(_bundle("transaction", _post(flag("x", "a")))))
    assert alone.status_code == 200


# Several: references by criteria told of what is hidden, and linked to it
async def test_a_reference_by_criteria_finds_nothing_that_is_hidden(
    client: httpx.AsyncClient, restrict: Restrict
) -> None:
    await two_patients(client)
    restrict(OneOf("a"))
    answers = []
    for value in ("theirs", "nobodys"):
        focus = {"focus": {"reference": f"Flag?identifier={SYSTEM}|{value}"}}
        task = {"resourceType": "Task", "status": "draft", "intent": "order", **focus}
        response = await client.post("", **body(_bundle("transaction", _post(task))))
        answers.append((response.status_code, response.text.replace(value, "")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 412


# Several: reads within a batch
async def test_a_batch_reads_nothing_that_is_hidden(
    client: httpx.AsyncClient, restrict: Restrict
) -> None:
    await two_patients(client)
    restrict(OneOf("a"))
    urls = ("Flag/theirs", "Flag/nobodys", "Flag/theirs/_history", "Flag/nobodys/_history")
    gets = [{"request": {"method": "GET", "url": url}} for url in (*urls, "Flag?_summary=count")]
    entries = (await client.post("", **body(_bundle("batch", *gets)))).json()["entry"]
    shown = [json.dumps(entry["response"]).replace("theirs", "nobodys") for entry in entries]
    assert shown[0] == shown[1]
    assert shown[2] == shown[3]
    assert '"status": "404' in shown[0]
    assert entries[-1]["resource"]["total"] == 6


# --- dates -----------------------------------------------------------------------------------

BAD_DATES: Final = (
    *("", "today", "2012-13", "2012-00", "2012-02-30", "2013-02-29", "2012-1-1", "12-01-01"),
    *("2012-01-01T25:00", "2012-01-01T24:00:01", "2012-01-01T12:60", "2012-01-01T12:00:61"),
    *("2012-01-01T12:00+15:00", "2012-01-01T12:00+0100", "2012-01-01T", "2012-01-01 12"),
    *("0000", "0000-01-01", "10000", "99999-01-01", "-2012", "+2012", "2012-W01", "20120101"),
    *("ge", "gele2012", "xx2012", "eq eq2012", "2012--01", "²012", "２０１２", "2012-01-01\u0000"),
    *("1/1/2012", "9" * 400, "NaN", "null", "$gt"),
)


# Microsoft #25, #101: a bad date is a 500, or finds what it should not
@pytest.mark.parametrize("date", BAD_DATES)
async def test_a_bad_date_is_refused(client: httpx.AsyncClient, date: str) -> None:
    await put(client, {"resourceType": "Patient", "id": "p", "birthDate": "2012-01-01"})
    for search in ("Patient?birthdate", "Patient?_lastUpdated", "Patient/_history?_since"):
        address, _, name = search.partition("?")
        response = await client.get(address, params={name: date})
        assert response.status_code == 400, (search, response.text)
        assert response.json()["resourceType"] == "OperationOutcome"


EDGES: Final = {
    "9999-12-31T23:59:59Z": (["le9999", "ge9999-12-31", "eq9999"], ["lt9999", "sa9999"]),
    "0001-01-01": (["eq0001", "le0001-01-01", "lt0002"], ["eb0001-01-01", "gt0001", "ge0002"]),
    "2016-12-31T23:59:60Z": (["eq2017-01-01", "ge2016-12-31T23:59:59Z"], ["eq2016", "sa2017"]),
    "2026-03-29T00:59:59Z": (["eq2026-03-29", "lt2026-03-29T02:00"], ["sa2026-03-29T02:00"]),
    "2026-10-25T00:30:00Z": (["eq2026-10-25", "eq2026-10-25T01:30:00%2B01:00"], ["eq2026-10-24"]),
    "2026-10-25T01:30:00Z": (["eq2026-10-25"], ["eq2026-10-25T01:30:00%2B01:00"]),
    "2026-06-30T23:30:00Z": (["eq2026-07-01", "sa2026-06-30"], ["eq2026-06-30", "eb2026-07"]),
    "2024-02-29": (["eq2024-02-29", "eq2024-02", "ge2024-02-29"], ["gt2024-02-29", "sa2024-02"]),
    "2026": (
        ["eq2026", "le2026-12-31", "gt2026-06", "lt2026-06"],
        ["eq2026-06", "sa2026-01"],
    ),
}
"""A date, what finds it and what does not. Without a zone it is one in England."""


# Several: sa, eb and ap at the edges, leap seconds, the last year, days of 23 and 25 hours
@pytest.mark.parametrize("date", EDGES)
async def test_a_date_at_an_edge_is_found_by_what_it_is(
    client: httpx.AsyncClient, date: str
) -> None:
    period = {"period": {"start": date, "end": date}}
    await put(client, {**flag("edge", "a"), **period})
    found, missed = EDGES[date]
    for value in found:
        assert await found_ids(client, f"Flag?date={value}") == ["edge"], value
    for value in missed:
        assert await found_ids(client, f"Flag?date={value}") == [], value


# --- width -----------------------------------------------------------------------------------

DEEP: Final = "partof." * 6 + "name=x"
WIDE: Final = {
    "Patient?_id=" + ",".join(f"p{n}" for n in range(1001)): (403, "too-costly"),
    "Patient?identifier=" + ",".join(f"s|{n}" for n in range(1001)): (403, "too-costly"),
    "Patient?" + "&".join(f"name=n{n}" for n in range(101)): (403, "too-costly"),
    f"Location?{DEEP}": (403, "too-costly"),
    "Patient?_count=-1": (400, "invalid"),
    "Patient?_count=1e9": (400, "invalid"),
    "Patient?_count=99999999999999999999": (400, "invalid"),
}


# Several: bounded, and told
@pytest.mark.parametrize("search", WIDE, ids=lambda search: search[:30])
async def test_a_search_that_is_too_wide_is_refused(client: httpx.AsyncClient, search: str) -> None:
    status, code = WIDE[search]
    assert_outcome(await client.get(search), status, code, "")
    form = await client.post(
        f"{search.partition('?')[0]}/_search",
        content=search.partition("?")[2],
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert_outcome(form, status, code, "")


# Several: 10,000 matches on a page
async def test_a_page_is_no_larger_than_the_server_allows(client: httpx.AsyncClient) -> None:
    await asyncio.gather(
        *(put(client, {"resourceType": "Patient", "id": f"p{n}"}) for n in range(25))
    )
    sizes = [len(names(page, "match")) async for page in pages(client, "Patient?_count=10000")]
    assert sizes == [20, 5]
    nothing = (await client.get("Patient?_count=0")).json()
    assert (nothing["total"], nothing.get("entry")) == (25, None)
