"""_include and _revinclude, page by page: https://hl7.org/fhir/R4/search.html#include"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import pytest

from fhir_server.access.policy import OpenPolicy
from fhir_server.app import Application
from fhir_server.fhir.definitions import resource_types
from fhir_server.interactions import include
from fhir_server.search.ast import Everything, Node, Nothing, ReferenceTo
from fhir_server.storage.interface import Store
from tests.conftest import Restrict
from tests.http import including
from tests.storage.questions import put as write
from tests.support import assert_outcome, found_ids, put

Name = tuple[str, str]
Narrow = Callable[[int], None]


@pytest.fixture
def narrow(app: Application) -> Narrow:
    """From now on, so many included resources are on a page."""

    def to(most: int) -> None:
        assert app.fhir is not None
        app.fhir.server = replace(app.fhir.server, max_includes=most)

    return to


async def pages(client: httpx.AsyncClient, search: str) -> AsyncIterator[dict[str, Any]]:
    following: str | None = search
    while following is not None:
        response = await client.get(following)
        assert response.status_code == 200, response.text
        bundle = response.json()
        yield bundle
        following = next_of(bundle)


def next_of(bundle: dict[str, Any]) -> str | None:
    links: dict[str, str] = {link["relation"]: link["url"] for link in bundle["link"]}
    return links.get("next")


def names(bundle: dict[str, Any], mode: str) -> list[Name]:
    return [
        including.named(entry["resource"])
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] == mode
    ]


def told(bundle: dict[str, Any]) -> str:
    """What the outcomes among the entries say."""
    return "; ".join(
        issue["diagnostics"]
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    )


async def written(client: httpx.AsyncClient, seed: int) -> including.World:
    resources = list(including.world(Random(seed)))  # noqa: S311
    await asyncio.gather(*(put(client, resource) for resource in resources))
    return {including.named(resource): resource for resource in resources}


SEARCHES: Final = (
    "CarePlan?_include=CarePlan:subject&_include=CarePlan:encounter",
    "CarePlan?_include=CarePlan:instantiates-canonical",
    "CarePlan?_include=CarePlan:instantiates-canonical:PlanDefinition&_include=CarePlan:subject",
    "CarePlan?_include=CarePlan:*",
    "CarePlan?_include=*",
    "CarePlan?_include:iterate=*",
    "CarePlan?_include=CarePlan:encounter&_include:iterate=Encounter:location"
    "&_include:iterate=Location:partof",
    "Encounter?_include=Encounter:location&_include=Location:partof",
    "Location?_include:iterate=Location:partof&_revinclude:iterate=Location:partof",
    "Location?_include=Location:partof&_revinclude=Location:partof",
    "PlanDefinition?_revinclude=CarePlan:instantiates-canonical",
    "PlanDefinition?_revinclude=*",
    "PlanDefinition?_revinclude:iterate=PlanDefinition:depends-on",
    "PlanDefinition?_include:iterate=PlanDefinition:depends-on",
    "Organization?_revinclude=*",
    "Organization?_revinclude=*&_include=*",
    "Organization?_revinclude:iterate=*",
    "Patient?_revinclude=CarePlan:subject&_revinclude=Encounter:subject"
    "&_include=Patient:organization&_revinclude=CarePlan:subject:Patient",
    "Patient?_revinclude=CarePlan:*&_revinclude:iterate=Location:*",
    "Patient?_revinclude=CarePlan:subject:Group",
)


SIZES: Final = ((1000, 100), (5, 100), (1000, 2), (2, 3), (1, 1))
"""Included resources and matches on a page at the most."""


@pytest.mark.parametrize("search", SEARCHES)
async def test_every_included_resource_comes_once_beside_its_matches(
    client: httpx.AsyncClient, narrow: Narrow, search: str
) -> None:
    world = await written(client, len(search))
    includes = parse_qsl(search.partition("?")[2])
    for most, count in SIZES[:3] if "iterate=*" in search else SIZES:
        narrow(most)
        matches: list[Name] = []
        shown: list[Name] = []
        async for bundle in pages(client, f"{search}&_count={count}&_sort=_id"):
            if names(bundle, "match"):
                matches, shown = names(bundle, "match"), []
            some = names(bundle, "include")
            assert len(some) <= most
            assert matches == names(bundle, "match") or some, "a page with nothing on it"
            shown += some
            expected = including.included(includes, matches, world)
            assert len(shown) == len(set(shown)), "nothing comes twice"
            if "included resources are on this page" in told(bundle):
                assert set(shown) < expected
                assert next_of(bundle) is not None
            else:
                assert set(shown) == expected


async def test_the_cap_is_told_on_every_page_that_is_not_the_last(
    client: httpx.AsyncClient, narrow: Narrow
) -> None:
    narrow(2)
    await put(client, {"resourceType": "Patient", "id": "p"})
    await put(client, {"resourceType": "Patient", "id": "q"})
    for number in range(5):
        await put(client, flag(f"f{number}", "p"))
    seen = [
        (names(bundle, "match"), len(names(bundle, "include")), told(bundle))
        async for bundle in pages(client, "Patient?_count=1&_sort=_id&_revinclude=Flag:subject")
    ]
    others = "its link 'next' leads to the others"
    assert seen == [
        ([("Patient", "p")], 2, f"Only the first 2 included resources are on this page; {others}"),
        ([], 2, f"Only the next 2 included resources are on this page; {others}"),
        ([], 1, ""),
        ([("Patient", "q")], 0, ""),
    ]


def flag(resource_id: str, patient: str, **more: Any) -> dict[str, Any]:
    about = {"status": "active", "code": {"text": "x"}}
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    return {"resourceType": "Flag", "id": resource_id, **about, **subject, **more}


@pytest.mark.parametrize("search", ["_revinclude=Flag:subject", "_revinclude:iterate=Flag:*"])
async def test_what_is_not_written_meanwhile_comes_once_whatever_is_written(
    client: httpx.AsyncClient, narrow: Narrow, search: str
) -> None:
    narrow(3)
    for patient in ("a", "b", "c", "d"):
        await put(client, {"resourceType": "Patient", "id": patient})
    for number in range(24):
        await put(client, flag(f"f{number:02}", "abcd"[number % 4]))
    shown: list[Name] = []
    page = 0
    async for bundle in pages(client, f"Patient?_count=2&_sort=_id&{search}"):
        shown += names(bundle, "include")
        # A match of this page, one of the next, and flags among those that are to come.
        born = {"birthDate": f"2012-01-{page + 1:02}"}
        await put(client, {"resourceType": "Patient", "id": "b", **born})
        await put(client, {"resourceType": "Patient", "id": f"aa{page}"})
        await put(client, flag("f22", "a", status="inactive"))
        await client.delete("Patient/c")
        page += 1
    assert page > 6
    steady = {("Flag", f"f{number:02}") for number in range(24) if "abcd"[number % 4] in "abd"}
    steady -= {("Flag", "f22")}
    assert steady <= set(shown)
    assert all(shown.count(name) == 1 for name in steady)


async def test_a_link_stays_short_however_much_is_included(
    client: httpx.AsyncClient, narrow: Narrow
) -> None:
    narrow(1)
    for number in range(60):
        await put(client, {"resourceType": "Patient", "id": f"{'p' * 60}{number:02}"})
        await put(client, flag(f"{'f' * 60}{number:02}", f"{'p' * 60}{number:02}"))
    for parameter in ("_revinclude", "_revinclude:iterate"):
        first = await client.get(f"Patient?_count=60&{parameter}=Flag:subject")
        following = next_of(first.json())
        assert following is not None
        assert len(following) < 600


async def test_what_includes_of_includes_lead_to_is_bounded_and_that_is_said(
    client: httpx.AsyncClient, narrow: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(include, "_MOST", 5)
    narrow(2)
    for number in range(9):
        part = {"partOf": {"reference": f"Location/l{number + 1}"}}
        await put(client, {"resourceType": "Location", "id": f"l{number}", **part})
    shown: list[Name] = []
    async for bundle in pages(client, "Location?_id=l0&_include:iterate=Location:partof"):
        shown += names(bundle, "include")
        assert "Only 5 resources to which the includes of includes lead" in told(bundle)
    assert shown == [("Location", f"l{number}") for number in range(1, 6)]


class OneOf:
    """Who may see all but flags, and of them those about one patient."""

    def __init__(self, patient: str) -> None:
        self._patient = patient

    def readable(self, resource_type: str) -> Node:
        if resource_type != "Flag":
            return Everything()
        return ReferenceTo("subject", (f"Patient/{self._patient}",))

    writable = readable


@pytest.mark.parametrize(
    "search",
    [
        "Patient?_revinclude=Flag:subject",
        "Patient?_revinclude=*",
        "Patient?_revinclude:iterate=*",
        "Patient?_sort=-_id&_revinclude=Flag:subject",
    ],
)
async def test_access_is_decided_again_on_every_page(
    client: httpx.AsyncClient, narrow: Narrow, restrict: Restrict, search: str
) -> None:
    narrow(2)
    for patient in ("a", "b"):
        await put(client, {"resourceType": "Patient", "id": patient})
        for number in range(4):
            await put(client, flag(f"{patient}{number}", patient))
    first = (await client.get(search)).json()
    following = next_of(first)
    assert following is not None
    restrict(OneOf("a"))
    rest = [name async for page in pages(client, following) for name in names(page, "include")]
    assert {name[1][0] for name in rest} == {"a"}
    restrict(OpenPolicy())
    rest = [name async for page in pages(client, following) for name in names(page, "include")]
    assert len(rest) == 6


async def test_what_is_hidden_leads_nowhere_by_a_canonical(
    client: httpx.AsyncClient, restrict: Restrict
) -> None:
    url = f"{including.PLAN}1"
    plan = {"resourceType": "PlanDefinition", "id": "d", "status": "active", "url": url}
    await put(client, plan)
    following = {"status": "active", "intent": "plan", "subject": {"reference": "Patient/a"}}
    careplan = {"resourceType": "CarePlan", "id": "c", **following, "instantiatesCanonical": [url]}
    await put(client, careplan)

    class Without(OpenPolicy):
        def __init__(self, hidden: str) -> None:
            self._hidden = hidden

        def readable(self, resource_type: str) -> Node:
            return Nothing() if resource_type == self._hidden else Everything()

    searches = (
        "CarePlan?_include=CarePlan:instantiates-canonical",
        "CarePlan?_include:iterate=*",
    )
    for search in searches:
        assert names((await client.get(search)).json(), "include") == [("PlanDefinition", "d")]
    chain = "CarePlan?instantiates-canonical.status=active"
    back = "PlanDefinition?_has:CarePlan:instantiates-canonical:status=active"
    assert await found_ids(client, chain) == ["c"]
    assert await found_ids(client, back) == ["d"]
    restrict(Without("PlanDefinition"))
    for search in searches:
        assert names((await client.get(search)).json(), "include") == []
    assert await found_ids(client, chain) == []
    restrict(Without("CarePlan"))
    assert await found_ids(client, back) == []


@pytest.mark.parametrize(
    ("include", "text"),
    [
        ("*:subject", "'*' is not a resource type"),
        ("*:*", "'*' is not a resource type"),
        ("Flag:subject:*", "'*' is not a resource type"),
    ],
)
async def test_refuses_other_forms_with_a_star(
    client: httpx.AsyncClient, include: str, text: str
) -> None:
    response = await client.get("Flag", params={"_revinclude": include})
    assert_outcome(response, 400, "invalid", text, "http._revinclude")


async def test_everything_may_be_included_beside_resources_of_every_type(
    client: httpx.AsyncClient, store: Store
) -> None:
    """More than a hundred of each, so that lists of ids are long."""
    sixth = {*resource_types()[::6]} - {"AuditEvent"}  # which are no stored resources
    types = (*sorted(sixth), "Patient", "Organization", "PlanDefinition")
    for name in types:
        await write(store, *({"resourceType": name, "id": f"n{n}"} for n in range(120)))
    refused = []
    for name in types:
        search = f"{name}?_count=100&_elements=id&_include=*&_revinclude=*"
        response = await client.get(search)
        if response.status_code != 200 or names(response.json(), "include"):
            refused.append((name, response.text[:200]))
    assert refused == []
