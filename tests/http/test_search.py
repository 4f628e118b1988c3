"""search: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.app import create_app
from fhir_server.settings import Settings
from fhir_server.storage.clock import MovableClock
from tests.support import FORM, assert_outcome, create, exact, found_ids, put


async def _people(client: httpx.AsyncClient, count: int = 7) -> list[str]:
    """Patients p0, p1 ... of one family, born a day after another."""
    for n in range(count):
        await put(
            client,
            {
                "resourceType": "Patient",
                "id": f"p{n}",
                "name": [{"family": "Synthetic-Searched", "given": [f"Child{n}"]}],
                "birthDate": f"2012-03-0{n + 1}",
            },
        )
    return [f"p{n}" for n in range(count)]


async def _with_plan(client: httpx.AsyncClient) -> None:
    await _people(client, 2)
    await put(
        client,
        {
            "resourceType": "CarePlan",
            "id": "plan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": "Patient/p0"},
            "goal": [{"reference": "Goal/g0"}, {"reference": "Goal/absent"}],
        },
    )
    await put(
        client,
        {
            "resourceType": "Goal",
            "id": "g0",
            "lifecycleStatus": "active",
            "description": {"text": "Home by spring"},
            "subject": {"reference": "Patient/p0"},
        },
    )


def _links(bundle: dict[str, Any]) -> dict[str, str]:
    return {link["relation"]: link["url"] for link in bundle["link"]}


async def _all_pages(client: httpx.AsyncClient, search: str) -> list[list[str]]:
    pages, address = [], search
    while address:
        bundle = (await client.get(address)).json()
        pages.append([entry["resource"]["id"] for entry in bundle.get("entry", ())])
        address = _links(bundle).get("next", "")
    return pages


async def test_returns_a_searchset_of_stored_resources(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await _people(client, 1)
    response = await client.get("Patient?family=synthetic-searched")
    bundle = exact(response)
    assert bundle["type"] == "searchset"
    assert "total" not in bundle
    assert bundle["entry"] == [
        {
            "fullUrl": f"{settings.base}/Patient/p0",
            "resource": exact(await client.get("Patient/p0")),
            "search": {"mode": "match"},
        }
    ]
    Bundle.model_validate_json(response.content)


async def test_without_matches_has_no_entry(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient?family=nobody")
    assert response.status_code == 200
    assert "entry" not in response.json()


async def test_self_link_says_what_was_understood(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    response = await client.get("Patient?family=O%27Neill%20%26%20son&_count=5&_pretty=true")
    address = _links(response.json())["self"]
    assert address.startswith(f"{settings.base}/Patient?")
    assert parse_qsl(urlsplit(address).query) == [("family", "O'Neill & son"), ("_count", "5")]


@pytest.mark.parametrize("total", ["accurate", "estimate"])
async def test_counts_when_asked(client: httpx.AsyncClient, total: str) -> None:
    await _people(client)
    bundle = (await client.get(f"Patient?_count=2&_total={total}")).json()
    assert (bundle["total"], len(bundle["entry"])) == (7, 2)


@pytest.mark.parametrize("asked", ["_count=0", "_summary=count"])
async def test_counts_alone_without_entries_or_next_page(
    client: httpx.AsyncClient, asked: str
) -> None:
    await _people(client)
    bundle = (await client.get(f"Patient?{asked}")).json()
    assert bundle["total"] == 7
    assert "entry" not in bundle
    assert "next" not in _links(bundle)


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that puts few resources on a page."""
    app = create_app(settings.model_copy(update={"max_count": 3, "max_includes": 2}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        yield client


async def test_a_page_holds_no_more_than_the_server_allows(narrow: httpx.AsyncClient) -> None:
    ids = await _people(narrow)
    pages = await _all_pages(narrow, "Patient?_count=999999&_sort=birthdate")
    assert pages == [ids[:3], ids[3:6], ids[6:]]


async def test_includes_no_more_than_the_server_allows_and_says_so(
    narrow: httpx.AsyncClient,
) -> None:
    await _people(narrow, 1)
    for number in range(3):
        flag = {"resourceType": "Flag", "id": f"f{number}", "status": "active"}
        about = {"code": {"text": "x"}, "subject": {"reference": "Patient/p0"}}
        await put(narrow, {**flag, **about})
    bundle = (await narrow.get("Patient?_revinclude=Flag:subject")).json()
    modes = [entry["search"]["mode"] for entry in bundle["entry"]]
    assert modes == ["match", "include", "include", "outcome"]
    issue = bundle["entry"][-1]["resource"]["issue"][0]
    assert (issue["severity"], issue["code"]) == ("warning", "too-costly")
    assert "Only the first 2 included resources" in issue["diagnostics"]


async def test_post_with_a_form_is_the_same_search(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    posted = await client.post(
        "Patient/_search", content="given=Child1&_total=accurate", headers=FORM
    )
    got = await client.get("Patient?given=Child1&_total=accurate")
    assert posted.json() == got.json()


async def test_post_joins_the_form_with_the_query(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    response = await client.post(
        "Patient/_search?given=Child1", content="family=Synthetic-Searched", headers=FORM
    )
    assert [entry["resource"]["id"] for entry in response.json()["entry"]] == ["p1"]


async def test_post_without_a_body_finds_all(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    assert len((await client.post("Patient/_search")).json()["entry"]) == 3


async def test_post_refuses_a_body_that_is_no_form(client: httpx.AsyncClient) -> None:
    response = await client.post("Patient/_search", json={"family": "x"})
    assert_outcome(response, 415, "not-supported", "x-www-form-urlencoded", "http.Content-Type")


async def test_get_is_not_allowed_on_the_address_of_the_form(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient/_search?family=x")
    assert_outcome(response, 405, "not-supported", "allowed: OPTIONS, POST")
    assert response.headers["allow"] == "OPTIONS, POST"


async def test_head_answers_as_get_without_the_body(client: httpx.AsyncClient) -> None:
    await _people(client, 2)
    got, head = await client.get("Patient"), await client.head("Patient")
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_lenient_handling_leaves_out_what_is_not_known_and_says_so(
    client: httpx.AsyncClient,
) -> None:
    await _people(client, 2)
    response = await client.get(
        "Patient?colour=blue&given=Child1&birthdate=never", headers={"Prefer": "handling=lenient"}
    )
    bundle = response.json()
    match, note = bundle["entry"]
    assert match["resource"]["id"] == "p1"
    assert note["search"]["mode"] == "outcome"
    issues = note["resource"]["issue"]
    assert [issue["severity"] for issue in issues] == ["warning", "warning"]
    assert [issue["expression"] for issue in issues] == [["http.colour"], ["http.birthdate"]]
    assert urlsplit(_links(bundle)["self"]).query == "given=Child1"
    Bundle.model_validate_json(response.content)


async def test_sorts(client: httpx.AsyncClient) -> None:
    ids = await _people(client, 4)
    assert await found_ids(client, "Patient?_sort=birthdate") == ids
    assert await found_ids(client, "Patient?_sort=-birthdate") == ids[::-1]


@pytest.mark.parametrize("key", ["birthdate", "_lastUpdated", "_id"])
async def test_of_a_sort_key_that_stands_twice_the_first_counts(
    client: httpx.AsyncClient, key: str
) -> None:
    ids = await _people(client)
    assert await found_ids(client, f"Patient?_sort={key},-{key}") == ids
    assert await found_ids(client, f"Patient?_sort=-{key},{key}") == ids[::-1]


@pytest.mark.parametrize("sort", ["", "&_sort=birthdate", "&_sort=-given", "&_sort=-_lastUpdated"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
async def test_pages_show_each_match_once_and_in_order(
    client: httpx.AsyncClient, sort: str, count: int
) -> None:
    ids = await _people(client)
    pages = await _all_pages(client, f"Patient?_count={count}{sort}")
    everything = await found_ids(client, f"Patient?_count=50{sort}")
    assert [one for page in pages for one in page] == everything
    assert sorted(everything) == ids
    assert all(len(page) <= count for page in pages)


async def test_pages_keep_the_criteria_the_includes_and_the_total(
    client: httpx.AsyncClient,
) -> None:
    await _with_plan(client)
    for n in range(3):
        await create(
            client,
            {
                "resourceType": "Task",
                "status": "requested",
                "intent": "order",
                "description": f"Task {n}",
                "for": {"reference": "Patient/p0"},
            },
        )
    first = (
        await client.get("Task?patient=p0&_include=Task:patient&_count=2&_total=accurate")
    ).json()
    second = (await client.get(_links(first)["next"])).json()
    assert (first["total"], second["total"]) == (3, 3)
    assert [entry["search"]["mode"] for entry in first["entry"]] == ["match", "match", "include"]
    assert [entry["search"]["mode"] for entry in second["entry"]] == ["match", "include"]


async def test_pages_survive_writes_in_between(client: httpx.AsyncClient) -> None:
    await _people(client)
    first = (await client.get("Patient?_count=3&_sort=birthdate")).json()
    await client.delete("Patient/p0")
    await put(client, {"resourceType": "Patient", "id": "older", "birthDate": "1990-01-01"})
    second = (await client.get(_links(first)["next"])).json()
    assert [entry["resource"]["id"] for entry in second["entry"]] == ["p3", "p4", "p5"]


async def test_refuses_a_page_link_that_was_edited(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    link = _links((await client.get("Patient?_count=1")).json())["next"]
    for edited in (link[:-1], link + "A", link[:-20] + "x" * 20, link.split("=")[0] + "=é"):
        response = await client.get(edited)
        assert_outcome(response, 400, "invalid", "not one that the server gave", "http._page")


async def test_refuses_the_page_link_of_another_type(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    link = _links((await client.get("Patient?_count=1")).json())["next"]
    response = await client.get(link.replace("/Patient?", "/Practitioner?"))
    assert_outcome(response, 400, "invalid", "was given for Patient", "http._page")


async def test_refuses_a_page_link_with_further_criteria(client: httpx.AsyncClient) -> None:
    await _people(client, 3)
    link = _links((await client.get("Patient?_count=1")).json())["next"]
    response = await client.get(f"{link}&given=Child2")
    assert_outcome(response, 400, "invalid", "takes no other parameters", "http._page")


async def test_a_page_link_is_gone_after_its_time(settings: Settings, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    update = {"page_lifetime": 600, "movable_clock": clock}
    app = create_app(settings.model_copy(update=update))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        await _people(client, 3)
        link = _links((await client.get("Patient?_count=1")).json())["next"]
        assert (await client.get(link)).status_code == 200
        MovableClock(clock).move_by(602_000_000)
        assert_outcome(await client.get(link), 410, "deleted", "search again", "http._page")


async def test_includes_what_the_matches_point_to(client: httpx.AsyncClient) -> None:
    await _with_plan(client)
    bundle = (await client.get("CarePlan?_include=CarePlan:subject&_include=CarePlan:goal")).json()
    assert [(e["resource"]["id"], e["search"]["mode"]) for e in bundle["entry"]] == [
        ("plan", "match"),
        ("g0", "include"),
        ("p0", "include"),
    ]


async def test_includes_what_points_to_the_matches(client: httpx.AsyncClient) -> None:
    await _with_plan(client)
    bundle = (await client.get("Patient?_id=p0&_revinclude=CarePlan:subject")).json()
    assert [e["resource"]["id"] for e in bundle["entry"]] == ["p0", "plan"]


async def test_includes_each_resource_once(client: httpx.AsyncClient) -> None:
    await _with_plan(client)
    bundle = (
        await client.get("CarePlan?_include=CarePlan:subject&_include=CarePlan:patient")
    ).json()
    assert [e["resource"]["id"] for e in bundle["entry"]] == ["plan", "p0"]


async def test_includes_only_the_type_that_is_asked_for(client: httpx.AsyncClient) -> None:
    await _with_plan(client)
    bundle = (await client.get("CarePlan?_include=CarePlan:subject:Group")).json()
    assert [e["resource"]["id"] for e in bundle["entry"]] == ["plan"]


async def test_does_not_include_what_was_deleted(client: httpx.AsyncClient) -> None:
    await _with_plan(client)
    await client.delete("Goal/g0", headers={"If-Match": 'W/"1"'})
    bundle = (await client.get("CarePlan?_include=CarePlan:goal")).json()
    assert [e["resource"]["id"] for e in bundle["entry"]] == ["plan"]


@pytest.mark.parametrize(
    ("include", "text"),
    [
        ("CarePlan", "is not of the form"),
        ("CarePlan:colour", "'colour' is not a reference parameter of CarePlan"),
        ("CarePlan:status", "'status' is not a reference parameter of CarePlan"),
        ("Plan:subject", "'Plan' is not a resource type"),
        ("CarePlan:subject:Person!", "'Person!' is not a resource type"),
        ("a:b:c:d", "is not of the form"),
    ],
)
async def test_refuses_includes_that_it_cannot_follow(
    client: httpx.AsyncClient, include: str, text: str
) -> None:
    response = await client.get("CarePlan", params={"_include": include})
    assert_outcome(response, 400, "invalid", text, "http._include")


async def test_a_format_in_the_form_counts_as_one_in_the_address(
    client: httpx.AsyncClient,
) -> None:
    await _people(client, 1)
    refused = await client.post("Patient/_search", content="_format=ttl", headers=FORM)
    assert_outcome(refused, 406, "not-supported", "_format=ttl")
    pretty = await client.post("Patient/_search", content="_pretty=true", headers=FORM)
    assert b"\n  " in pretty.content
