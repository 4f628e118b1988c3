"""$meta, $meta-add, $meta-delete.

https://hl7.org/fhir/R4/resource-operation-meta.html, -meta-add.html, -meta-delete.html
"""

import asyncio
from typing import Any, Final

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.conftest import Restrict
from tests.fhir_operations.conftest import OnePatient
from tests.fhir_operations.record import OTHER, PATIENT
from tests.support import assert_outcome, body, exact, put, stored_versions

TAGS: Final = "https://example.org/tags"
RESTRICTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "code": "R",
}
PROFILE: Final = "https://example.org/StructureDefinition/ours"


def tag(code: str, **elements: str) -> dict[str, str]:
    return {"system": TAGS, "code": code, **elements}


def patient(**meta: Any) -> dict[str, Any]:
    resource = {"resourceType": "Patient", "id": "p", "active": True}
    return {**resource, "meta": meta} if meta else resource


def parameters(**meta: Any) -> dict[str, Any]:
    parameter = {"name": "meta", "valueMeta": meta}
    return body({"resourceType": "Parameters", "parameter": [parameter]})


def returned(response: httpx.Response) -> dict[str, Any]:
    """The meta that it answers with."""
    assert response.status_code == 200, response.text
    answer = exact(response)
    assert answer["resourceType"] == "Parameters"
    (parameter,) = answer["parameter"]
    assert parameter.keys() == {"name", "valueMeta"}
    assert parameter["name"] == "return"
    meta: dict[str, Any] = parameter["valueMeta"]
    return meta


async def meta_of(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    resource: dict[str, Any] = exact(await client.get(address))
    meta: dict[str, Any] = resource["meta"]
    return meta


# $meta -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_of_a_resource_is_its_meta(client: httpx.AsyncClient, method: str) -> None:
    await put(client, patient(tag=[tag("a")], profile=[PROFILE], source="urn:x"))
    meta = returned(await client.request(method, "Patient/p/$meta"))
    assert meta == await meta_of(client, "Patient/p")
    assert meta["versionId"] == "1"


async def test_of_a_type_is_each_label_of_its_resources_once(client: httpx.AsyncClient) -> None:
    await put(client, {"resourceType": "Patient", "id": "q"})
    await put(client, {**patient(tag=[tag("b"), tag("a")], security=[RESTRICTED]), "id": "r"})
    await put(client, patient(tag=[tag("a")], profile=[PROFILE]))
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    await put(client, {**group, "meta": {"tag": [tag("of a group")]}})
    for method in ("GET", "POST"):
        meta = returned(await client.request(method, "Patient/$meta"))
        assert meta == {"profile": [PROFILE], "security": [RESTRICTED], "tag": [tag("a"), tag("b")]}


async def test_of_the_server_is_each_label_of_all_types(client: httpx.AsyncClient) -> None:
    assert exact(await client.get("$meta")) == {"resourceType": "Parameters"}
    await put(client, patient(tag=[tag("a"), tag("b")]))
    group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
    await put(client, {**group, "meta": {"tag": [tag("b"), tag("c")]}})
    assert returned(await client.get("$meta")) == {"tag": [tag("a"), tag("b"), tag("c")]}


async def test_of_more_resources_than_a_page_holds(client: httpx.AsyncClient) -> None:
    codes = [f"t{n:03}" for n in range(450)]
    for start in range(0, 450, 45):
        entries = [
            {
                "request": {"method": "PUT", "url": f"Basic/{code}"},
                "resource": {
                    "resourceType": "Basic",
                    "id": code,
                    "meta": {"tag": [tag(code)]},
                    "code": {"text": "x"},
                },
            }
            for code in codes[start : start + 45]
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (await client.post("", **body(bundle))).status_code == 200
    assert returned(await client.get("Basic/$meta")) == {"tag": [tag(code) for code in codes]}


async def test_a_label_that_is_no_longer_used_is_gone(client: httpx.AsyncClient) -> None:
    await put(client, patient(tag=[tag("a")]))
    await put(client, patient(tag=[tag("b")]))
    await put(client, {**patient(tag=[tag("c")]), "id": "deleted"})
    await client.delete("Patient/deleted")
    assert returned(await client.get("Patient/$meta")) == {"tag": [tag("b")]}


# $meta-add and $meta-delete --------------------------------------------------------------------


async def test_what_is_added_comes_behind_what_is_there(client: httpx.AsyncClient) -> None:
    await put(client, patient(tag=[tag("a")], source="urn:x"))
    meta = returned(
        await client.post(
            "Patient/p/$meta-add",
            **parameters(tag=[tag("b"), tag("b")], security=[RESTRICTED], profile=[PROFILE]),
        )
    )
    assert meta == await meta_of(client, "Patient/p")
    assert meta["versionId"] == "2"
    assert meta["tag"] == [tag("a"), tag("b")]
    assert meta["security"] == [RESTRICTED]
    assert meta["profile"] == [PROFILE]
    assert meta["source"] == "urn:x"
    assert exact(await client.get("Patient/p"))["active"] is True


async def test_what_is_taken_away_leaves_the_rest(client: httpx.AsyncClient) -> None:
    await put(client, patient(tag=[tag("a"), tag("b")], security=[RESTRICTED], profile=[PROFILE]))
    meta = returned(
        await client.post(
            "Patient/p/$meta-delete",
            **parameters(tag=[tag("a"), tag("unheard of")], security=[RESTRICTED]),
        )
    )
    assert meta == await meta_of(client, "Patient/p")
    assert meta["versionId"] == "2"
    assert meta["tag"] == [tag("b")]
    assert "security" not in meta
    assert meta["profile"] == [PROFILE]


async def test_a_label_is_the_same_by_system_and_code(client: httpx.AsyncClient) -> None:
    there = tag("a", display="As it was")
    await put(client, patient(tag=[there]))
    add = await client.post("Patient/p/$meta-add", **parameters(tag=[tag("a", display="Else")]))
    assert returned(add)["tag"] == [there]
    other = {"system": "https://example.org/others", "code": "a"}
    kept = await client.post("Patient/p/$meta-delete", **parameters(tag=[other]))
    assert returned(kept)["tag"] == [there]
    gone = await client.post("Patient/p/$meta-delete", **parameters(tag=[tag("a")]))
    assert "tag" not in returned(gone)


@pytest.mark.parametrize(
    ("operation", "meta"),
    [
        ("$meta-add", {"tag": [tag("a")]}),
        ("$meta-add", {"profile": [PROFILE], "versionId": "7", "source": "urn:other"}),
        ("$meta-delete", {"tag": [tag("b")]}),
        ("$meta-delete", {"security": [RESTRICTED]}),
    ],
)
async def test_what_changes_nothing_makes_no_version(
    client: httpx.AsyncClient, store: Store, operation: str, meta: dict[str, Any]
) -> None:
    await put(client, patient(tag=[tag("a")], profile=[PROFILE]))
    response = await client.post(f"Patient/p/{operation}", **parameters(**meta))
    assert returned(response) == await meta_of(client, "Patient/p")
    assert [version.version for version in await stored_versions(store)] == [1]


async def test_a_label_that_is_added_is_found_and_one_that_is_gone_is_not(
    client: httpx.AsyncClient,
) -> None:
    await put(client, patient(tag=[tag("a")]))
    await client.post("Patient/p/$meta-add", **parameters(tag=[tag("b")]))
    await client.post("Patient/p/$meta-delete", **parameters(tag=[tag("a")]))
    for code, count in (("a", 0), ("b", 1)):
        response = await client.get(f"Patient?_tag={TAGS}%7C{code}&_summary=count")
        assert response.json()["total"] == count


async def test_labels_that_many_add_at_once_are_all_there(client: httpx.AsyncClient) -> None:
    await put(client, patient())
    codes = {f"t{n}" for n in range(20)}
    await asyncio.gather(
        *(client.post("Patient/p/$meta-add", **parameters(tag=[tag(code)])) for code in codes)
    )
    meta = await meta_of(client, "Patient/p")
    assert {one["code"] for one in meta["tag"]} == codes
    assert meta["versionId"] == "21"


@pytest.mark.parametrize("operation", ["$meta", "$meta-add", "$meta-delete"])
async def test_what_is_not_there_is_not_found_and_what_was_deleted_is_gone(
    client: httpx.AsyncClient, store: Store, operation: str
) -> None:
    sent: dict[str, Any] = {} if operation == "$meta" else parameters(tag=[tag("a")])
    response = await client.post(f"Patient/p/{operation}", **sent)
    assert_outcome(response, 404, "not-found", "Patient/p is not known")
    await put(client, patient())
    await client.delete("Patient/p")
    response = await client.post(f"Patient/p/{operation}", **sent)
    assert_outcome(response, 410, "deleted", "Patient/p was deleted")
    assert len(await stored_versions(store)) == 2


@pytest.mark.parametrize("operation", ["$meta-add", "$meta-delete"])
async def test_one_that_writes_takes_post_with_a_meta(
    client: httpx.AsyncClient, operation: str
) -> None:
    await put(client, patient())
    assert (await client.get(f"Patient/p/{operation}")).status_code == 405
    response = await client.post(f"Patient/p/{operation}")
    assert_outcome(response, 400, "required", "'meta' is missing")
    response = await client.post(f"Patient/p/{operation}", **parameters(tag=["a"]))
    assert response.status_code == 400
    response = await client.post(f"Patient/{operation}", **parameters(tag=[tag("a")]))
    assert_outcome(response, 404, "not-found", f"There is no operation {operation} on Patient")


async def test_the_mark_of_a_part_of_a_resource_is_no_label_to_add(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, patient())
    mark = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"}
    sent = parameters(tag=[{**mark, "code": "SUBSETTED"}])
    response = await client.post("Patient/p/$meta-add", **sent)
    assert_outcome(response, 422, "business-rule", "SUBSETTED")
    assert len(await stored_versions(store)) == 1


# Access ----------------------------------------------------------------------------------------


async def test_what_a_caller_may_not_see_has_no_meta(
    client: httpx.AsyncClient, store: Store, restrict: Restrict
) -> None:
    hidden, own = OTHER, PATIENT
    for address, code in ((hidden, "theirs"), (own, "ours")):
        await put(client, {**patient(tag=[tag(code)]), "id": address.partition("/")[2]})
    restrict(OnePatient())
    for operation in ("$meta", "$meta-add", "$meta-delete"):
        sent: dict[str, Any] = {} if operation == "$meta" else parameters(tag=[tag("a")])
        refused = await client.post(f"{hidden}/{operation}", **sent)
        assert_outcome(refused, 404, "not-found", f"{hidden} is not known")
    for address in (f"{own}/$meta", "Patient/$meta", "$meta"):
        assert returned(await client.get(address))["tag"] == [tag("ours")]
    await client.post(f"{own}/$meta-add", **parameters(tag=[tag("more")]))
    assert returned(await client.get("Patient/$meta"))["tag"] == [tag("more"), tag("ours")]
    assert len(await stored_versions(store)) == 3


async def test_who_may_read_alone_changes_no_meta(
    client: httpx.AsyncClient, store: Store, restrict: Restrict
) -> None:
    await put(client, {**patient(tag=[tag("a")]), "id": PATIENT.partition("/")[2]})
    restrict(OnePatient(writes=False))
    assert returned(await client.get(f"{PATIENT}/$meta"))["tag"] == [tag("a")]
    for operation, code in (("$meta-add", "b"), ("$meta-delete", "a")):
        response = await client.post(f"{PATIENT}/{operation}", **parameters(tag=[tag(code)]))
        assert_outcome(response, 403, "forbidden", "not allowed")
    assert len(await stored_versions(store)) == 1
