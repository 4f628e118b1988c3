"""_summary and _elements: https://hl7.org/fhir/R4/search.html#summary, #elements"""

from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.patient import Patient

from fhir_server.fhir.summary import SUBSETTED
from fhir_server.storage.interface import Store
from tests.support import assert_outcome, body, exact, put, stored_versions

NOT_DONE = "http://hl7.org/fhir/StructureDefinition/request-doNotPerform"
EXTENSION: Final = {"url": "http://example.org/x", "valueString": "kept out"}
PATIENT: Final[dict[str, Any]] = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"tag": [{"system": "http://example.org/tags", "code": "t"}]},
    "language": "en",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Sam</div>'},
    "extension": [EXTENSION],
    "modifierExtension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/request-doNotPerform",
            "valueBoolean": True,
        }
    ],
    "identifier": [{"system": "http://example.org/id", "value": "7", "extension": [EXTENSION]}],
    "active": False,
    "name": [{"family": "Synthetic-Whole", "_family": {"extension": [EXTENSION]}}],
    "birthDate": "2011-05-14",
    "multipleBirthInteger": 0,
    "photo": [{"contentType": "image/png", "data": "AAAA", "title": "face"}],
    "contact": [{"name": {"text": "Alex"}}],
    "link": [{"other": {"reference": "Patient/p2"}, "type": "seealso"}],
}
PLAN: Final[dict[str, Any]] = {
    "resourceType": "CarePlan",
    "id": "c1",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Plan</div>'},
    "status": "active",
    "intent": "plan",
    "title": "Staying well",
    "subject": {"reference": "Patient/p1"},
    "note": [{"text": "not in a summary"}],
}
OBSERVATION: Final[dict[str, Any]] = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"text": "weight"},
    "subject": {"reference": "Patient/p1"},
    "valueQuantity": {"value": 1, "unit": "kg"},
    "component": [{"code": {"text": "a"}, "valueInteger": 0, "interpretation": [{"text": "x"}]}],
    "note": [{"text": "x"}],
}
ALWAYS: Final = {"resourceType", "id", "meta", "modifierExtension"}


async def _stored(client: httpx.AsyncClient) -> None:
    for resource in (PATIENT, PLAN, OBSERVATION):
        await put(client, resource)


async def _shown(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """What is left of a resource; it is tagged."""
    response = await client.get(url)
    assert response.status_code == 200, response.text
    resource: dict[str, Any] = exact(response)
    assert resource["meta"]["tag"][-1] == SUBSETTED
    assert resource["meta"]["versionId"] == "1"
    return resource


ADDRESSES = ["Patient/p1", "Patient/p1/_history/1"]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_true_leaves_the_elements_of_the_summary(
    client: httpx.AsyncClient, address: str
) -> None:
    await _stored(client)
    shown = await _shown(client, f"{address}?_summary=true")
    in_it = {"identifier", "active", "name", "birthDate", "link"}
    assert set(shown) == ALWAYS | in_it
    assert shown["identifier"] == [{"system": "http://example.org/id", "value": "7"}]
    assert shown["active"] is False
    assert shown["name"] == PATIENT["name"], "extensions of a primitive stay with it"
    assert shown["modifierExtension"] == PATIENT["modifierExtension"]
    Patient.model_validate(shown)


async def test_true_goes_into_backbone_elements(client: httpx.AsyncClient) -> None:
    await _stored(client)
    shown = await _shown(client, "Observation/o1?_summary=true")
    assert shown["component"] == [{"code": {"text": "a"}, "valueInteger": 0}]
    assert shown["valueQuantity"] == OBSERVATION["valueQuantity"]
    assert "note" not in shown


@pytest.mark.parametrize("address", ADDRESSES)
async def test_text_leaves_the_narrative_and_what_is_mandatory(
    client: httpx.AsyncClient, address: str
) -> None:
    await _stored(client)
    assert set(await _shown(client, f"{address}?_summary=text")) == ALWAYS | {"text"}
    plan = await _shown(client, "CarePlan/c1?_summary=text")
    mandatory = {"status", "intent", "subject"}
    assert set(plan) == {"resourceType", "id", "meta", "text"} | mandatory


async def test_data_leaves_all_but_the_narrative(client: httpx.AsyncClient) -> None:
    await _stored(client)
    whole = exact(await client.get("Patient/p1"))
    shown = await _shown(client, "Patient/p1?_summary=data")
    assert {**shown, "meta": None, "text": whole["text"]} == {**whole, "meta": None}
    assert shown["meta"]["tag"] == [*PATIENT["meta"]["tag"], SUBSETTED]


@pytest.mark.parametrize("address", [*ADDRESSES, "Patient/p1/_history", "Patient?_id=p1"])
async def test_false_is_the_whole_in_the_very_bytes(
    client: httpx.AsyncClient, address: str
) -> None:
    await _stored(client)
    whole = (await client.get("Patient/p1")).content
    joint = "&" if "?" in address else "?"
    response = await client.get(f"{address}{joint}_summary=false")
    assert whole in response.content
    assert b"SUBSETTED" not in response.content


async def test_count_has_no_meaning_for_one_resource(client: httpx.AsyncClient) -> None:
    await _stored(client)
    for address in ADDRESSES:
        response = await client.get(f"{address}?_summary=count")
        assert_outcome(response, 400, "invalid", "here is one resource", "http._summary")


async def test_elements_leave_those_and_what_is_mandatory(client: httpx.AsyncClient) -> None:
    await _stored(client)
    shown = await _shown(client, "Patient/p1?_elements=birthDate,name")
    assert set(shown) == ALWAYS | {"birthDate", "name"}
    assert shown["name"] == PATIENT["name"]
    plan = await _shown(client, "CarePlan/c1?_elements=CarePlan.title")
    mandatory = {"status", "intent", "subject"}
    assert set(plan) == {"resourceType", "id", "meta", "title"} | mandatory


@pytest.mark.parametrize("name", ["value", "value[x]", "valueQuantity", "Observation.value"])
async def test_an_element_of_several_types_goes_by_any_of_its_names(
    client: httpx.AsyncClient, name: str
) -> None:
    await _stored(client)
    shown = await _shown(client, f"Observation/o1?_elements={name}")
    assert shown["valueQuantity"] == OBSERVATION["valueQuantity"]
    assert "component" not in shown


async def test_numbers_keep_their_digits_in_every_part(client: httpx.AsyncClient) -> None:
    quantity = b'"valueQuantity":{"value":1.500,"unit":"kg"}'
    raw = b'{"resourceType":"Observation","id":"o2","status":"final","code":{"text":"x"},%b}'
    sent = body({}) | {"content": raw % quantity}
    assert (await client.put("Observation/o2", **sent)).status_code == 201
    for part in ("_summary=true", "_summary=data", "_elements=value"):
        assert quantity in (await client.get(f"Observation/o2?{part}")).content


async def test_a_search_shows_parts_of_what_it_finds_and_includes(
    client: httpx.AsyncClient,
) -> None:
    await _stored(client)
    url = "CarePlan?_include=CarePlan:subject&_summary=true"
    response = await client.get(url)
    plan, patient = (entry["resource"] for entry in response.json()["entry"])
    assert "note" not in plan
    assert "text" not in patient
    assert all(SUBSETTED in resource["meta"]["tag"] for resource in (plan, patient))
    assert "_summary=true" in response.json()["link"][0]["url"]


async def test_a_list_of_elements_leaves_included_resources_whole(
    client: httpx.AsyncClient,
) -> None:
    await _stored(client)
    url = "CarePlan?_include=CarePlan:subject&_elements=title"
    plan, patient = (e["resource"] for e in (await client.get(url)).json()["entry"])
    assert "text" not in plan
    assert patient == (await client.get("Patient/p1")).json()


async def test_a_list_with_types_is_about_those_types_alone(client: httpx.AsyncClient) -> None:
    await _stored(client)
    url = "CarePlan?_include=CarePlan:subject&_elements=Patient.birthDate"
    plan, patient = (e["resource"] for e in (await client.get(url)).json()["entry"])
    assert plan == (await client.get("CarePlan/c1")).json()
    assert set(patient) == ALWAYS | {"birthDate"}


async def test_count_is_the_total_alone(client: httpx.AsyncClient) -> None:
    await _stored(client)
    await put(client, {**PATIENT, "active": True})
    for url, total in (("Patient?_summary=count", 1), ("Patient/p1/_history?_summary=count", 2)):
        bundle = (await client.get(url)).json()
        assert bundle["total"] == total
        assert "entry" not in bundle


async def test_the_history_of_nothing_is_not_counted(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient/nobody/_history?_summary=count")
    assert_outcome(response, 404, "not-found", "not known")


async def test_a_history_shows_parts_and_deletions(client: httpx.AsyncClient) -> None:
    await _stored(client)
    await client.delete("Patient/p1")
    for part in ("_summary=text", "_elements=name"):
        gone, first = (await client.get(f"Patient/p1/_history?{part}")).json()["entry"]
        assert "resource" not in gone
        assert SUBSETTED in first["resource"]["meta"]["tag"]
        assert "birthDate" not in first["resource"]


@pytest.mark.parametrize("address", ["Patient?_sort=_id", "Patient/p1/_history?"])
async def test_further_pages_show_the_same_part(client: httpx.AsyncClient, address: str) -> None:
    await _stored(client)
    await put(client, {**PATIENT, "active": True})
    await put(client, {**PATIENT, "id": "p2"})
    url: str | None = f"{address}&_count=1&_elements=birthDate"
    pages = 0
    while url is not None:
        bundle = (await client.get(url)).json()
        for entry in bundle["entry"]:
            assert set(entry["resource"]) == ALWAYS | {"birthDate"}
        url = {link["relation"]: link["url"] for link in bundle["link"]}.get("next")
        pages += 1
    assert pages == 2


async def test_a_part_comes_in_xml_too(client: httpx.AsyncClient) -> None:
    await _stored(client)
    response = await client.get("Patient/p1?_summary=true&_format=xml")
    assert b"SUBSETTED" in response.content
    assert b"<text>" not in response.content


async def test_entries_of_a_batch_show_parts(client: httpx.AsyncClient) -> None:
    await _stored(client)
    asked = {"method": "GET", "url": "Patient/p1?_elements=name"}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": asked}]}
    entry = (await client.post("", **body(bundle))).json()["entry"][0]
    assert set(entry["resource"]) == ALWAYS | {"name"}


@pytest.mark.parametrize("address", ["Patient/p1", "Patient", "Patient/p1/_history"])
@pytest.mark.parametrize(
    ("query", "name", "text"),
    [
        ("_summary=most", "_summary", "true, text, data, count, false are"),
        ("_summary=True", "_summary", "'_summary=True' is not allowed"),
        ("_summary=true&_summary=text", "_summary", "stands twice"),
        ("_elements=colour", "_elements", "'colour' is not an element of Patient; there are"),
        ("_elements=name,colour", "_elements", "'colour'"),
        ("_elements=name,,active", "_elements", "'' is not an element"),
        ("_elements=Patient.colour", "_elements", "'colour' is not an element of Patient"),
        ("_elements=Dragon.name", "_elements", "an element of the resource itself"),
        ("_elements=name.family", "_elements", "an element of the resource itself"),
        ("_elements=_birthDate", "_elements", "is not an element"),
        ("_summary=true&_elements=name", "_elements", "give one"),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    client: httpx.AsyncClient, address: str, query: str, name: str, text: str
) -> None:
    await _stored(client)
    response = await client.get(f"{address}?{query}")
    assert_outcome(response, 400, "invalid", text, f"http.{name}")


async def test_a_summary_of_texts_takes_no_includes(client: httpx.AsyncClient) -> None:
    response = await client.get("CarePlan?_include=CarePlan:subject&_summary=text")
    assert_outcome(response, 400, "invalid", "does not go with _include", "http._summary")


@pytest.mark.parametrize(("method", "url"), [("PUT", "Patient/p1"), ("POST", "Patient")])
@pytest.mark.parametrize("part", ["_summary=true", "_summary=text", "_summary=data"])
async def test_a_part_is_not_taken_back_as_the_whole(
    client: httpx.AsyncClient, store: Store, method: str, url: str, part: str
) -> None:
    await put(client, PATIENT)
    shown = await _shown(client, f"Patient/p1?{part}")
    response = await client.request(method, url, **body(shown))
    text = "what it leaves out would be lost"
    assert_outcome(response, 422, "business-rule", text, "Patient.meta.tag[1]")
    assert len(await stored_versions(store)) == 1


async def test_a_part_is_not_taken_back_in_a_transaction(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, PATIENT)
    shown = await _shown(client, "Patient/p1?_elements=name")
    entry = {"resource": shown, "request": {"method": "PUT", "url": "Patient/p1"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    response = await client.post("", **body(bundle))
    assert_outcome(response, 422, "business-rule", "SUBSETTED")
    assert len(await stored_versions(store)) == 1


async def test_the_whole_is_taken_back(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    whole = exact(await client.get("Patient/p1"))
    assert (await client.put("Patient/p1", **body(whole))).status_code == 200


async def test_another_tag_of_that_name_is_no_mark(client: httpx.AsyncClient) -> None:
    tag = {"system": "http://example.org/tags", "code": "SUBSETTED"}
    await put(client, {**PATIENT, "meta": {"tag": [tag, {"display": "x"}]}})


async def test_lenient_handling_leaves_a_bad_list_out_of_a_search(
    client: httpx.AsyncClient,
) -> None:
    await put(client, PATIENT)
    headers = {"prefer": "handling=lenient"}
    bundle = (await client.get("Patient?_elements=colour", headers=headers)).json()
    patient, note = (entry["resource"] for entry in bundle["entry"])
    assert patient["birthDate"] == PATIENT["birthDate"]
    assert "'colour'" in note["issue"][0]["diagnostics"]
