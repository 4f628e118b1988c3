"""transaction: https://hl7.org/fhir/R4/http.html#transaction, rules: #trules"""

from typing import Any

import httpx
import msgspec
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.fhir.definitions import PROFILES
from fhir_server.storage.interface import Store
from tests.support import (
    assert_outcome,
    body,
    exact,
    found_ids,
    outcome_issues,
    put,
    stored_versions,
)

CHILD = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000001"
PLAN = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000002"
NHS_NUMBER = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}
CRITERIA = f"identifier={NHS_NUMBER['system']}|{NHS_NUMBER['value']}"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [NHS_NUMBER],
    "name": [{"family": "Synthetic-Entry"}],
}

Entry = dict[str, Any]


def _entry(method: str, url: str, resource: Any = None, full_url: str = "", **more: str) -> Entry:
    entry: Entry = {"request": {"method": method, "url": url, **more}}
    if resource is not None:
        entry["resource"] = resource
    if full_url:
        entry["fullUrl"] = full_url
    return entry


def _plan(subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CarePlan",
        "status": "draft",
        "intent": "plan",
        "subject": {"reference": subject},
        **more,
    }


async def _post(client: httpx.AsyncClient, *entries: Entry) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    return await client.post("", **body(bundle))


async def _stored(client: httpx.AsyncClient, response: httpx.Response, index: int) -> Any:
    assert response.status_code == 200, response.text
    location = response.json()["entry"][index]["response"]["location"]
    return exact(await client.get(location))


async def test_answers_every_entry_in_its_place(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "gone"})
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(
        client,
        _entry("GET", "Patient/there"),
        _entry("PUT", "Patient/there", {**PATIENT, "id": "there", "active": True}),
        _entry("POST", "Patient", PATIENT),
        _entry("DELETE", "Patient/gone"),
    )
    bundle = response.json()
    assert bundle["type"] == "transaction-response"
    assert [entry["response"]["status"] for entry in bundle["entry"]] == [
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
    ]
    assert [entry["response"]["etag"] for entry in bundle["entry"]] == [
        'W/"2"',
        'W/"2"',
        'W/"1"',
        'W/"2"',
    ]
    Bundle.model_validate_json(response.content)


async def test_reads_see_what_the_same_transaction_wrote(client: httpx.AsyncClient) -> None:
    response = await _post(
        client,
        _entry("GET", "Patient/p1"),
        _entry("GET", "Patient?family=Synthetic-Entry"),
        _entry("PUT", "Patient/p1", {**PATIENT, "id": "p1"}),
    )
    read, searched, _ = response.json()["entry"]
    assert read["resource"]["id"] == "p1"
    assert [entry["resource"]["id"] for entry in searched["resource"]["entry"]] == ["p1"]


async def test_links_follow_the_ids_in_both_directions(client: httpx.AsyncClient) -> None:
    response = await _post(
        client,
        _entry("POST", "CarePlan", _plan(CHILD), PLAN),
        _entry("POST", "Patient", PATIENT, CHILD),
        _entry(
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
    plan, child, task = [await _stored(client, response, index) for index in range(3)]
    assert plan["subject"] == {"reference": f"Patient/{child['id']}"}
    assert task["basedOn"] == [{"reference": f"CarePlan/{plan['id']}"}]
    assert task["for"] == {"reference": f"Patient/{child['id']}"}
    assert await found_ids(client, f"CarePlan?subject=Patient/{child['id']}") == [plan["id"]]


async def test_two_resources_may_point_to_each_other(client: httpx.AsyncClient) -> None:
    response = await _post(
        client,
        _entry("POST", "Patient", {**PATIENT, "link": [_see_also(PLAN)]}, CHILD),
        _entry("POST", "Patient", {**PATIENT, "link": [_see_also(CHILD)]}, PLAN),
    )
    one, other = [await _stored(client, response, index) for index in range(2)]
    assert one["link"][0]["other"]["reference"] == f"Patient/{other['id']}"
    assert other["link"][0]["other"]["reference"] == f"Patient/{one['id']}"


def _see_also(reference: str) -> dict[str, Any]:
    return {"other": {"reference": reference}, "type": "seealso"}


async def test_links_in_extensions_contained_resources_urls_and_narratives_follow_too(
    client: httpx.AsyncClient,
) -> None:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{CHILD}">{CHILD}</a></div>'
    plan = _plan(
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
    response = await _post(
        client, _entry("POST", "Patient", PATIENT, CHILD), _entry("POST", "CarePlan", plan)
    )
    stored = await _stored(client, response, 1)
    target = (await _stored(client, response, 0))["id"]
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
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, "https://sender.example/fhir/Patient/7"),
        _entry("POST", "CarePlan", _plan("Patient/7"), "https://sender.example/fhir/CarePlan/9"),
        _entry("POST", "CarePlan", _plan("Patient/7"), "https://other.example/fhir/CarePlan/9"),
        _entry("POST", "CarePlan", _plan("https://sender.example/fhir/Patient/7"), PLAN),
    )
    child = await _stored(client, response, 0)
    subjects = [(await _stored(client, response, i))["subject"]["reference"] for i in (1, 2, 3)]
    assert subjects == [f"Patient/{child['id']}", "Patient/7", f"Patient/{child['id']}"]


async def test_the_url_that_names_a_conformance_resource_stays(client: httpx.AsyncClient) -> None:
    name = "https://sender.example/fhir/ValueSet/ratings"
    value_set = {"resourceType": "ValueSet", "status": "active", "url": name}
    response = await _post(client, _entry("POST", "ValueSet", value_set, name))
    assert (await _stored(client, response, 0))["url"] == name


async def test_refuses_a_reference_to_an_entry_that_is_not_there(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, CHILD),
        _entry("POST", "CarePlan", _plan(PLAN)),
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
    answer = await _post(
        client, _entry(method, at, where, CHILD), _entry("POST", "CarePlan", _plan(CHILD))
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
    where = _entry("POST", "Location", {"resourceType": "Location", "name": "Ward"}, CHILD)
    answer = await _post(client, where, _entry("POST", "Flag", flag))
    place = "Bundle.entry[1].resource.subject"
    assert_outcome(answer, 422, "value", "not to Location", place)
    assert await stored_versions(store) == []
    answer = await _post(
        client, _entry("POST", "Patient", PATIENT, CHILD), _entry("POST", "Flag", flag)
    )
    rating = await _stored(client, answer, 1)
    assert rating["subject"]["reference"].startswith("Patient/")
    assert "entry" not in rating["subject"]["reference"]


async def test_order_is_delete_create_update_read_whatever_the_bundle_says(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "old"})
    response = await _post(
        client,
        _entry("GET", "Patient?_total=accurate&_count=0"),
        _entry("PUT", "Patient/new", {**PATIENT, "id": "new"}),
        _entry("POST", "Patient", PATIENT),
        _entry("DELETE", "Patient/old"),
    )
    assert response.json()["entry"][0]["resource"]["total"] == 2
    methods = [version.method for version in await stored_versions(store)]
    assert methods == ["PUT", "DELETE", "POST", "PUT"]


@pytest.mark.parametrize(
    ("wrong", "status", "code", "text", "place"),
    [
        (
            _entry("POST", "Patient", {"resourceType": "Patient", "colour": "blue"}),
            400,
            "structure",
            "colour",
            "Bundle.entry[1].resource.colour",
        ),
        (_entry("GET", "Patient/nobody"), 404, "not-found", "nobody", "Bundle.entry[1]"),
        (
            _entry("GET", "Patient?colour=blue"),
            400,
            "invalid",
            "'colour'",
            "Bundle.entry[1].request",
        ),
        (
            _entry("PUT", "Patient/there", {**PATIENT, "id": "there"}, ifMatch='W/"9"'),
            412,
            "conflict",
            "current version is 1",
            "Bundle.entry[1].request",
        ),
        (
            _entry("GET", "metadata"),
            400,
            "not-supported",
            "capabilities",
            "Bundle.entry[1].request",
        ),
        (_entry("PATCH", "Patient/there"), 400, "structure", "patch", "Bundle.entry[1]"),
        (_entry("POST", "Patient"), 400, "structure", "empty", "Bundle.entry[1]"),
        (_entry("GET", "Dragon/1"), 404, "not-found", "'Dragon'", "Bundle.entry[1]"),
    ],
)
async def test_one_wrong_entry_leaves_nothing_of_the_others(
    client: httpx.AsyncClient,
    store: Store,
    wrong: Entry,
    status: int,
    code: str,
    text: str,
    place: str,
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT),
        wrong,
        _entry("PUT", "Patient/there", {**PATIENT, "id": "there"})
        if "there" not in wrong["request"]["url"]
        else _entry("POST", "Patient", PATIENT),
    )
    assert_outcome(response, status, code, text, place)
    assert len(await stored_versions(store)) == 1
    assert await found_ids(client, "Patient?family=Synthetic-Entry") == ["there"]


async def test_refuses_to_write_one_resource_twice(client: httpx.AsyncClient, store: Store) -> None:
    named = {**PATIENT, "id": "p1"}
    response = await _post(
        client, _entry("PUT", "Patient/p1", named), _entry("DELETE", "Patient/p1")
    )
    assert_outcome(
        response, 400, "invalid", "Patient/p1 is already written by entry[0]", "Bundle.entry[1]"
    )
    assert not await stored_versions(store)


async def test_conditional_create_links_to_the_resource_that_is_there(
    client: httpx.AsyncClient,
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        _entry("POST", "CarePlan", _plan(CHILD)),
    )
    assert response.json()["entry"][0]["response"]["status"] == "200 OK"
    assert (await _stored(client, response, 1))["subject"] == {"reference": "Patient/there"}


async def test_conditional_create_links_to_the_resource_that_it_makes(
    client: httpx.AsyncClient,
) -> None:
    response = await _post(
        client,
        _entry("POST", "CarePlan", _plan(CHILD)),
        _entry("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
    )
    child = await _stored(client, response, 1)
    reference = f"Patient/{child['id']}"
    assert (await _stored(client, response, 0))["subject"] == {"reference": reference}


async def test_refuses_two_conditional_creates_of_the_same(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        _entry("POST", "Patient", PATIENT, PLAN, ifNoneExist=CRITERIA),
        _entry("POST", "CarePlan", _plan(PLAN)),
    )
    text = "which this transaction writes itself"
    assert_outcome(response, 400, "invalid", text, "Bundle.entry[1].request")
    assert not await stored_versions(store)


async def test_refuses_a_conditional_create_that_finds_what_is_deleted_beside_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, CHILD, ifNoneExist=CRITERIA),
        _entry("DELETE", "Patient/there"),
    )
    assert_outcome(response, 400, "invalid", "which entry[1] deletes", "Bundle.entry[0].request")
    assert len(await stored_versions(store)) == 1


async def test_refuses_more_entries_than_are_allowed(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await _post(client, *[_entry("POST", "Patient", PATIENT) for _ in range(51)])
    assert_outcome(response, 403, "too-costly", "51 entries; 50 are allowed", "Bundle.entry")
    assert not await stored_versions(store)


async def test_without_entries_does_nothing(client: httpx.AsyncClient) -> None:
    response = await client.post("", **body({"resourceType": "Bundle", "type": "transaction"}))
    assert response.json() == {"resourceType": "Bundle", "type": "transaction-response"}


async def test_returns_the_resources_when_they_are_preferred(client: httpx.AsyncClient) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry("POST", "Patient", PATIENT)],
    }
    request = body(bundle)
    plain = (await client.post("", **request)).json()["entry"][0]
    request["headers"]["Prefer"] = "return=representation"
    full = (await client.post("", **request)).json()["entry"][0]
    assert "resource" not in plain
    assert full["resource"]["name"] == PATIENT["name"]


@pytest.mark.parametrize(
    "url", ["/Patient/p1", "Patient/p1", "http://127.0.0.1:8080/fhir/Patient/p1"]
)
async def test_takes_addresses_with_and_without_the_base(
    client: httpx.AsyncClient, url: str
) -> None:
    response = await _post(client, _entry("PUT", url, {**PATIENT, "id": "p1"}))
    assert response.json()["entry"][0]["response"]["location"] == "Patient/p1/_history/1"


@pytest.mark.parametrize("url", ["http://elsewhere.example/fhir/Patient/p1", "../Patient/p1", ""])
async def test_refuses_addresses_of_other_servers(
    client: httpx.AsyncClient, store: Store, url: str
) -> None:
    response = await _post(client, _entry("PUT", url, {**PATIENT, "id": "p1"}))
    assert response.status_code in (400, 404, 405)
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["collection", "searchset", "message", "document"])
async def test_bundles_of_other_types_are_refused_at_the_base(
    client: httpx.AsyncClient, store: Store, kind: str
) -> None:
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    response = await client.post("", **body(bundle))
    assert_outcome(response, 400, "invalid", "transaction and batch can", "Bundle.type")
    assert not await stored_versions(store)


async def test_a_resource_that_is_no_bundle_is_refused_at_the_base(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await client.post("", **body(PATIENT))
    assert_outcome(response, 400, "structure", "this address takes a Bundle", "resourceType")
    assert not await stored_versions(store)


async def test_tells_what_is_wrong_with_every_entry(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await _post(
        client,
        _entry("POST", "Patient", {**PATIENT, "birthDate": "never"}),
        _entry("POST", "Patient", PATIENT),
        _entry("POST", "Patient", {**PATIENT, "gender": "blue"}),
    )
    assert response.status_code == 400
    assert [issue["expression"] for issue in outcome_issues(response)] == [
        ["Bundle.entry[0].resource.birthDate"],
        ["Bundle.entry[2].resource.gender"],
    ]
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("resource", [5, [], "Patient", None])
async def test_an_entry_whose_resource_is_no_object_is_refused(
    client: httpx.AsyncClient, store: Store, kind: str, resource: Any
) -> None:
    entry = {"request": {"method": "POST", "url": "Patient"}, "resource": resource}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    response = await client.post("", **body(bundle))
    assert response.status_code == 400
    assert outcome_issues(response)[0]["expression"] == ["Bundle.entry[0].resource"]
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_what_a_read_or_deletion_brings_along_is_not_looked_at(
    client: httpx.AsyncClient, kind: str
) -> None:
    await put(client, {**PATIENT, "id": "gone"})
    await put(client, {**PATIENT, "id": "there"})
    bundle = {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [_entry("GET", "Patient/there", {}), _entry("DELETE", "Patient/gone", {"a": 1})],
    }
    response = await client.post("", **body(bundle))
    statuses = [entry["response"]["status"] for entry in response.json()["entry"]]
    assert statuses == ["200 OK", "204 No Content"]


async def test_refuses_two_entries_of_one_full_url(client: httpx.AsyncClient, store: Store) -> None:
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT, CHILD),
        _entry("POST", "Patient", PATIENT, CHILD),
        _entry("POST", "CarePlan", _plan(CHILD)),
    )
    text = f"Another entry has the fullUrl '{CHILD}'"
    assert_outcome(response, 400, "invariant", text, "Bundle.entry[1].fullUrl")
    assert not await stored_versions(store)
