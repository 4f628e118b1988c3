"""search: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.app import create_app
from fhir_server.settings import Settings
from tests.support import assert_outcome, create, exact, found_ids, put

FORM = {"content-type": "application/x-www-form-urlencoded"}


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


async def test_a_page_link_is_gone_after_its_time(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"page_lifetime": 1}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        await _people(client, 3)
        link = _links((await client.get("Patient?_count=1")).json())["next"]
        assert (await client.get(link)).status_code == 200
        await asyncio.sleep(2.05)
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


# Search of several types, and within a compartment


async def two_charts(client: httpx.AsyncClient) -> None:
    base = str(client.base_url).rstrip("/")
    for number in ("1", "2"):
        subject = {"reference": f"Patient/{number}"}
        await put(client, {"resourceType": "Patient", "id": number, "meta": {"tag": [TAG]}})
        await put(client, {"resourceType": "Basic", "id": f"b{number}", "subject": subject} | BASIC)
        plan = {"resourceType": "CarePlan", "status": "active", "intent": "plan"}
        await put(client, {**plan, "id": f"c{number}", "subject": subject})
    absolute = {"reference": f"{base}/Patient/1"}
    elsewhere = {"reference": "https://elsewhere.example/fhir/Patient/1"}
    await put(client, {"resourceType": "Basic", "id": "b3", "subject": absolute} | BASIC)
    await put(client, {"resourceType": "Basic", "id": "b4", "subject": elsewhere} | BASIC)
    entry = [{"item": {"reference": "CarePlan/c2"}}, {"item": {"reference": "Patient/1"}}]
    listed = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    await put(client, {**listed, "entry": entry})


TAG: Final = {"system": "urn:t", "code": "mine"}
BASIC: Final = {"code": {"text": "x"}, "meta": {"tag": [TAG]}}

SEVERAL: Final = {
    "?_type=Patient,CarePlan": ["1", "2", "c1", "c2"],
    "?_tag=mine": ["1", "2", "b1", "b2", "b3", "b4"],
    "?_type=Basic&_tag=mine": ["b1", "b2", "b3", "b4"],
    "?_id=c1,1&_contained=false": ["1", "c1"],
    "?_type=Patient,CarePlan&_list=l": ["1", "c2"],
    "?_type=CarePlan,Basic&patient=1": ["b1", "b3", "c1"],
    "Patient/1/CarePlan": ["c1"],
    "Patient/1/Patient": ["1"],
    "Patient/1/Basic": ["b1", "b3"],
    "Patient/1/*": ["1", "b1", "b3", "c1"],
    "Patient/1/*?_type=Basic,CarePlan": ["b1", "b3", "c1"],
    "Patient/1/CarePlan?status=revoked": [],
    "Patient/2/CarePlan?status=active": ["c2"],
    "Patient/nobody/*": [],
    "CarePlan?_list=l": ["c2"],
    "CarePlan?_list=other": [],
}


@pytest.mark.parametrize("search", SEVERAL)
async def test_searches_of_several_types_and_in_compartments_find(
    client: httpx.AsyncClient, search: str
) -> None:
    await two_charts(client)
    assert sorted(await found_ids(client, search)) == SEVERAL[search]
    address, _, query = search.partition("?")
    by_form = await client.post(f"{address}/_search", content=query, headers=FORM)
    ids = [entry["resource"]["id"] for entry in by_form.json().get("entry", ())]
    assert sorted(ids) == SEVERAL[search]
    separator = "&" if query else "?"
    counted = await client.get(f"{search}{separator}_summary=count")
    assert counted.json()["total"] == len(SEVERAL[search])


@pytest.mark.parametrize("sort", ["", "_id", "-_id", "_lastUpdated", "-_lastUpdated,_id", "_tag"])
@pytest.mark.parametrize("search", ["?_type=Patient,Basic,CarePlan,List", "Patient/1/*?_count=1"])
async def test_pages_over_several_types_show_each_once_and_in_order(
    client: httpx.AsyncClient, search: str, sort: str
) -> None:
    await two_charts(client)
    more = f"&_sort={sort}" if sort else ""
    whole = await found_ids(client, f"{search.replace('_count=1', '_count=50')}{more}")
    response = await client.get(
        f"{search}{more}&_count=2" if "_count" not in search else search + more
    )
    seen: list[str] = []
    while True:
        page = response.json()
        seen += [entry["resource"]["id"] for entry in page.get("entry", ())]
        links = {link["relation"]: link["url"] for link in page["link"]}
        if "next" not in links:
            break
        response = await client.get(links["next"])
    assert seen == whole
    if sort.endswith("_id") and not sort.startswith("-_l"):
        assert whole == sorted(whole, reverse=sort.startswith("-"))


@pytest.mark.parametrize(
    ("search", "status", "says"),
    [
        ("?_type=Dragon", 400, "'Dragon' is not a resource type"),
        ("?_type=Patient&_type=Basic", 400, "twice"),
        ("?status=active", 400, "'status' is not a search parameter of Account"[:37]),
        ("?_type=Patient,CarePlan&status=active", 400, "not a search parameter of Patient"),
        ("?_type=Patient,CarePlan&_sort=status", 400, "not a search parameter of Patient"),
        ("Patient?_type=Patient", 400, "several types"),
        ("Patient?_list:not=l", 400, "no modifier"),
        ("Patient?_list=$current-problems", 400, "not an id"),
        ("Patient?_contained=maybe", 400, "false, true or both"),
        ("Patient/1/Dragon", 404, "no address"),
        ("Patient/1/Questionnaire", 404, "ever in the compartment"),
        ("Location/1/CarePlan", 404, "no compartment"),
        ("Patient/1/CarePlan?_type=CarePlan", 400, "several types"),
        ("Patient/1/*?_type=Questionnaire", 400, "No Questionnaire"),
    ],
)
async def test_refuses_of_several_types_what_makes_no_sense(
    client: httpx.AsyncClient, search: str, status: int, says: str
) -> None:
    response = await client.get(search)
    assert response.status_code == status, response.text
    assert says in response.json()["issue"][0]["diagnostics"]


# Includes of includes


async def family(client: httpx.AsyncClient) -> None:
    """Locations that lie within each other, two of them in a ring."""
    for name, within in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "c")):
        part = {"partOf": {"reference": f"Location/{within}"}}
        trust = {"managingOrganization": {"reference": "Organization/trust"}}
        await put(client, {"resourceType": "Location", "id": name, **part, **trust})
    await put(client, {"resourceType": "Organization", "id": "trust", "name": "Trust"})
    stay = {"resourceType": "Encounter", "id": "stay", "status": "finished"}
    there = {"location": [{"location": {"reference": "Location/a"}}]}
    await put(client, {**stay, "class": {"code": "IMP"}, **there})


INCLUDES: Final = {
    "Location?_id=a&_include=Location:partof": {"b"},
    "Location?_id=a&_include:iterate=Location:partof": {"b", "c", "d"},
    "Location?_id=d&_include:iterate=Location:partof": {"c"},
    "Location?_id=a&_include=*": {"b", "trust"},
    "Location?_id=a&_include=Location:*": {"b", "trust"},
    "Location?_id=a&_include=Location:*:Organization": {"trust"},
    "Location?_id=a&_include:iterate=*": {"b", "c", "d", "trust"},
    "Encounter?_include=Encounter:location": {"a"},
    "Encounter?_include=Encounter:location&_include=Location:partof": {"a"},
    "Encounter?_include=Encounter:location&_include:iterate=Location:partof": {"a", "b", "c", "d"},
    "Encounter?_include:iterate=Location:organization": set[str](),
    "Organization?_revinclude=Location:organization": {"a", "b", "c", "d"},
    "Organization?_revinclude=Location:*": {"a", "b", "c", "d"},
    "Location?_id=c&_revinclude=Location:partof": {"b", "d"},
    "Location?_id=c&_revinclude:iterate=Location:partof": {"a", "b", "d"},
    "Location?_id=b&_revinclude:iterate=Encounter:location&_revinclude=Location:partof": {
        "a",
        "stay",
    },
    "?_type=Location,Encounter&_id=stay,a&_include=Location:partof": {"b"},
}


@pytest.mark.parametrize("search", INCLUDES)
async def test_includes_of_includes_and_of_everything(
    client: httpx.AsyncClient, search: str
) -> None:
    await family(client)
    response = await client.get(search)
    assert response.status_code == 200, response.text
    entries = response.json().get("entry", ())
    modes = [entry["search"]["mode"] for entry in entries]
    assert "outcome" not in modes
    included = [e["resource"]["id"] for e in entries if e["search"]["mode"] == "include"]
    assert sorted(included) == sorted(INCLUDES[search])


async def test_includes_of_includes_end_somewhere_and_say_so(client: httpx.AsyncClient) -> None:
    for number in range(20):
        part = {"partOf": {"reference": f"Location/l{number + 1}"}}
        await put(client, {"resourceType": "Location", "id": f"l{number}", **part})
    bundle = (await client.get("Location?_id=l0&_include:iterate=Location:partof")).json()
    *others, note = bundle["entry"]
    match, *included = [entry["resource"]["id"] for entry in others]
    assert (match, included) == ("l0", sorted(f"l{n}" for n in range(1, 11)))
    assert note["search"]["mode"] == "outcome"
    assert "up to 10 steps" in note["resource"]["issue"][0]["diagnostics"]
