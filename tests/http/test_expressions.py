"""`_filter`, `_text` and `_content` wherever criteria stand.

https://hl7.org/fhir/R4/search_filter.html, https://hl7.org/fhir/R4/search.html#text. What they find
is in tests/search/cases.
"""

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import assert_outcome, body, create, found_ids, outcome_issues, put

FORM = {"content-type": "application/x-www-form-urlencoded"}


def _patient(resource_id: str, family: str, story: str) -> dict[str, Any]:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{story}</p></div>'
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "text": {"status": "additional", "div": div},
        "name": [{"family": family}],
        "active": True,
    }


@pytest.fixture
async def people(client: httpx.AsyncClient) -> None:
    await put(client, _patient("a", "Synthetic-Ash", "Sleeps badly &amp; <b>eats</b> well"))
    await put(client, _patient("b", "Synthetic-Birch", "Sleeps well"))
    await put(
        client,
        {
            "resourceType": "CarePlan",
            "id": "plan",
            "status": "active",
            "intent": "plan",
            "title": "Sensory plan",
            "subject": {"reference": "Patient/a"},
        },
    )


pytestmark = pytest.mark.usefixtures("people")

ASKED = [
    ("_filter", 'family co "ash"'),
    ("_text", "badly"),
    ("_content", "synthetic-ash"),
]


@pytest.mark.parametrize(("name", "value"), ASKED)
async def test_in_a_search_of_a_type(client: httpx.AsyncClient, name: str, value: str) -> None:
    response = await client.get("Patient", params={name: value, "_total": "accurate"})
    assert response.status_code == 200, response.text
    bundle = response.json()
    assert bundle["total"] == 1
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["a"]
    assert quote(name) in bundle["link"][0]["url"]


@pytest.mark.parametrize(("name", "value"), ASKED)
async def test_in_a_form(client: httpx.AsyncClient, name: str, value: str) -> None:
    content = f"{name}={quote(value)}"
    response = await client.post("Patient/_search", content=content, headers=FORM)
    assert [entry["resource"]["id"] for entry in response.json()["entry"]] == ["a"]


async def test_in_a_search_of_several_types(client: httpx.AsyncClient) -> None:
    assert sorted(await found_ids(client, "?_content=sensory,badly")) == ["a", "plan"]
    asked = "?_type=Patient,CarePlan&_filter=_id eq b or _id eq plan"
    assert sorted(await found_ids(client, asked)) == ["b", "plan"]
    response = await client.get("?_type=Patient,CarePlan&_filter=family eq x")
    assert_outcome(response, 400, "invalid", "At character 1: 'family'", "http._filter")


async def test_narratives_are_not_of_every_type(client: httpx.AsyncClient) -> None:
    assert await found_ids(client, "?_type=Patient,CarePlan&_text=badly") == ["a"]
    response = await client.get("?_type=Patient,Bundle&_text=badly")
    assert_outcome(response, 400, "invalid", "'_text' is not a search parameter of Bundle")


async def test_in_a_compartment(client: httpx.AsyncClient) -> None:
    assert await found_ids(client, "Patient/a/CarePlan?_content=sensory") == ["plan"]
    assert await found_ids(client, "Patient/b/CarePlan?_content=sensory") == []
    assert await found_ids(client, "Patient/a/*?_type=CarePlan&_filter=status eq active") == [
        "plan"
    ]


async def test_in_a_chain_but_filters_not(client: httpx.AsyncClient) -> None:
    assert await found_ids(client, "CarePlan?subject:Patient._text=badly") == ["plan"]
    assert await found_ids(client, "Patient?_has:CarePlan:subject:_content=sensory") == ["a"]
    for asked in ("CarePlan?subject._filter=x", "Patient?_has:CarePlan:subject:_filter=x"):
        assert_outcome(await client.get(asked), 400, "not-supported", "stands in no chain")


@pytest.mark.parametrize(("name", "value"), ASKED)
async def test_in_the_criteria_of_a_conditional_create(
    client: httpx.AsyncClient, name: str, value: str
) -> None:
    sent = body({"resourceType": "Patient", "active": True})
    sent["headers"]["if-none-exist"] = f"{name}={quote(value)}"
    assert (await client.post("Patient", **sent)).status_code == 200
    other = value.replace("ash", "elm").replace("badly", "never")
    sent["headers"]["if-none-exist"] = f"{name}={quote(other)}"
    assert (await client.post("Patient", **sent)).status_code == 201


async def test_pages_go_on_where_they_ended(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await create(client, _patient(f"p{number}", "Synthetic-Rowan", "All the same"))
    seen: list[str] = []
    address: str | None = "Patient?_text=same&_filter=family sw synthetic&_count=2"
    while address:
        bundle = (await client.get(address)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        address = links.get("next")
    assert len(seen) == len(set(seen)) == 5


async def test_names_the_character_and_what_is_expected(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient", params={"_filter": "family is x"})
    assert_outcome(
        response, 400, "invalid", "At character 8: 'is' stands where an operator", "http._filter"
    )
    response = await client.get("Patient", params={"_text": "bone and"})
    assert_outcome(response, 400, "invalid", "At character 9: the text ends", "http._text")


async def test_what_is_too_long_or_too_deep_is_too_costly(client: httpx.AsyncClient) -> None:
    for name in ("_filter", "_text", "_content"):
        for value in ("x" * 10_001, "(" * 21):
            response = await client.post("Patient/_search", content=f"{name}={value}", headers=FORM)
            assert_outcome(response, 403, "too-costly", "allowed", f"http.{name}")


pieces = st.sampled_from(
    (
        *(
            "family",
            "gender",
            "birthdate",
            "general-practitioner",
            "_id",
            "not",
            "and",
            "or",
            "AND",
        ),
        *("eq", "ne", "co", "pr", "gt", "re", "in", "true", "male", "2010", "Patient/a", "x", "é"),
        *(
            " ",
            " ",
            " ",
            "(",
            ")",
            "[",
            "]",
            ".",
            '"',
            "\\",
            "*",
            "-",
            ",",
            "|",
            "\x00",
            "\U0010ffff",
        ),
    )
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from(["_filter", "_text", "_content"]),
    value=st.text(max_size=30) | st.lists(pieces, max_size=12).map("".join),
)
async def test_any_text_is_answered(client: httpx.AsyncClient, name: str, value: str) -> None:
    response = await client.get("Patient", params={name: value})
    assert response.status_code in (200, 400, 403), (response.request.url, response.text)
    if response.status_code != 200:
        assert outcome_issues(response)
