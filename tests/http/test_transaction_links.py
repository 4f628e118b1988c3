"""transaction, references between its entries: https://hl7.org/fhir/R4/http.html#trules"""

from typing import Any

import httpx
import msgspec
import pytest

from fhir_server.fhir.definitions import PROFILES
from fhir_server.storage.interface import Store
from tests.http.transactions import (
    CHILD,
    CRITERIA,
    PATIENT,
    PLAN,
    entry_of,
    plan_of,
    stored_at,
    transact,
)
from tests.support import assert_outcome, found_ids, put, stored_versions


async def test_links_follow_the_ids_in_both_directions(client: httpx.AsyncClient) -> None:
    response = await transact(
        client,
        entry_of("POST", "CarePlan", plan_of(CHILD), PLAN),
        entry_of("POST", "Patient", PATIENT, CHILD),
        entry_of(
            "POST",
            "Task",
            {
                "resourceType": "Task",
                "status": "requested",
                "intent": "order",
                "basedOn": [{"reference": PLAN}],
                "for": {"reference": CHILD},
            },
        ),
    )
    plan, child, task = [await stored_at(client, response, index) for index in range(3)]
    assert plan["subject"] == {"reference": f"Patient/{child['id']}"}
    assert task["basedOn"] == [{"reference": f"CarePlan/{plan['id']}"}]
    assert task["for"] == {"reference": f"Patient/{child['id']}"}
    assert await found_ids(client, f"CarePlan?subject=Patient/{child['id']}") == [plan["id"]]


async def test_two_resources_may_point_to_each_other(client: httpx.AsyncClient) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", {**PATIENT, "link": [_see_also(PLAN)]}, CHILD),
        entry_of("POST", "Patient", {**PATIENT, "link": [_see_also(CHILD)]}, PLAN),
    )
    one, other = [await stored_at(client, response, index) for index in range(2)]
    assert one["link"][0]["other"]["reference"] == f"Patient/{other['id']}"
    assert other["link"][0]["other"]["reference"] == f"Patient/{one['id']}"


def _see_also(reference: str) -> dict[str, Any]:
    return {"other": {"reference": reference}, "type": "seealso"}


async def test_links_in_extensions_contained_resources_urls_and_narratives_follow_too(
    client: httpx.AsyncClient,
) -> None:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{CHILD}">{CHILD}</a></div>'
    plan = plan_of(
        CHILD,
        text={"status": "additional", "div": div},
        contained=[
            {"resourceType": "Basic", "id": "b", "code": {}, "subject": {"reference": CHILD}}
        ],
        extension=[
            {"url": "http://example.org/who", "valueReference": {"reference": CHILD}},
            {"url": "http://example.org/where", "valueUri": CHILD},
            {"url": "http://example.org/what", "valueCanonical": CHILD},
            {"url": "http://example.org/said", "valueString": CHILD},
        ],
        supportingInfo=[{"reference": "#b"}],
    )
    plan["contained"][0]["code"] = {"text": "note"}
    response = await transact(
        client, entry_of("POST", "Patient", PATIENT, CHILD), entry_of("POST", "CarePlan", plan)
    )
    stored = await stored_at(client, response, 1)
    target = (await stored_at(client, response, 0))["id"]
    address = f"Patient/{target}"
    assert [next(v for k, v in e.items() if k != "url") for e in stored["extension"]] == [
        {"reference": address},
        address,
        CHILD,
        CHILD,
    ]
    assert stored["contained"][0]["subject"] == {"reference": address}
    assert f'<a href="{address}">{CHILD}</a>' in stored["text"]["div"]
    assert stored["supportingInfo"] == [{"reference": "#b"}]


async def test_relative_references_stand_in_the_place_of_their_entry(
    client: httpx.AsyncClient,
) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, "https://sender.example/fhir/Patient/7"),
        entry_of(
            "POST", "CarePlan", plan_of("Patient/7"), "https://sender.example/fhir/CarePlan/9"
        ),
        entry_of("POST", "CarePlan", plan_of("Patient/7"), "https://other.example/fhir/CarePlan/9"),
        entry_of("POST", "CarePlan", plan_of("https://sender.example/fhir/Patient/7"), PLAN),
    )
    child = await stored_at(client, response, 0)
    subjects = [(await stored_at(client, response, i))["subject"]["reference"] for i in (1, 2, 3)]
    assert subjects == [f"Patient/{child['id']}", "Patient/7", f"Patient/{child['id']}"]


async def test_the_url_that_names_a_conformance_resource_stays(client: httpx.AsyncClient) -> None:
    name = "https://sender.example/fhir/ValueSet/ratings"
    value_set = {"resourceType": "ValueSet", "status": "active", "url": name}
    response = await transact(client, entry_of("POST", "ValueSet", value_set, name))
    assert (await stored_at(client, response, 0))["url"] == name


async def test_refuses_a_reference_to_an_entry_that_is_not_there(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, CHILD),
        entry_of("POST", "CarePlan", plan_of(PLAN)),
    )
    place = "Bundle.entry[1].resource.subject.reference"
    assert_outcome(response, 400, "invalid", f"'{PLAN}' is the fullUrl of no entry", place)
    assert not await stored_versions(store)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_an_entry_refers_to_is_of_the_type_that_it_has_to_be(
    client: httpx.AsyncClient, store: Store, method: str
) -> None:
    """The reference tells no type, but its entry does: a plan is for a person or a group."""
    where = {"resourceType": "Location", "name": "Ward", "id": "ward"}
    at = "Location" if method == "POST" else "Location/ward"
    answer = await transact(
        client, entry_of(method, at, where, CHILD), entry_of("POST", "CarePlan", plan_of(CHILD))
    )
    place = "Bundle.entry[1].resource.subject.reference"
    assert_outcome(answer, 400, "value", "not to Location", place)
    assert await stored_versions(store) == []


async def test_a_profile_is_held_to_between_entries_too(
    client: httpx.AsyncClient, store: Store
) -> None:
    """A rating is of a young person: a Location is fine for R4's Flag, and not for this one."""
    path = PROFILES / "kw-rating-flag" / "examples" / "valid-red-held.json"
    flag = {**msgspec.json.decode(path.read_bytes()), "subject": {"reference": CHILD}}
    where = entry_of("POST", "Location", {"resourceType": "Location", "name": "Ward"}, CHILD)
    answer = await transact(client, where, entry_of("POST", "Flag", flag))
    place = "Bundle.entry[1].resource.subject"
    assert_outcome(answer, 422, "value", "not to Location", place)
    assert await stored_versions(store) == []
    answer = await transact(
        client, entry_of("POST", "Patient", PATIENT, CHILD), entry_of("POST", "Flag", flag)
    )
    rating = await stored_at(client, answer, 1)
    assert rating["subject"]["reference"].startswith("Patient/")
    assert "entry" not in rating["subject"]["reference"]


async def test_conditional_create_links_to_the_resource_that_is_there(
    client: httpx.AsyncClient,
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        entry_of("POST", "CarePlan", plan_of(CHILD)),
    )
    assert response.json()["entry"][0]["response"]["status"] == "200 OK"
    assert (await stored_at(client, response, 1))["subject"] == {"reference": "Patient/there"}


async def test_conditional_create_links_to_the_resource_that_it_makes(
    client: httpx.AsyncClient,
) -> None:
    response = await transact(
        client,
        entry_of("POST", "CarePlan", plan_of(CHILD)),
        entry_of("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
    )
    child = await stored_at(client, response, 1)
    reference = f"Patient/{child['id']}"
    assert (await stored_at(client, response, 0))["subject"] == {"reference": reference}


async def test_refuses_two_conditional_creates_of_the_same(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        entry_of("POST", "Patient", PATIENT, PLAN, ifNoneExist=CRITERIA),
        entry_of("POST", "CarePlan", plan_of(PLAN)),
    )
    text = "which this transaction writes itself"
    assert_outcome(response, 400, "invalid", text, "Bundle.entry[1].request")
    assert not await stored_versions(store)


async def test_refuses_a_conditional_create_that_finds_what_is_deleted_beside_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        entry_of("DELETE", "Patient/there"),
    )
    assert_outcome(response, 400, "invalid", "which entry[1] deletes", "Bundle.entry[0].request")
    assert len(await stored_versions(store)) == 1
