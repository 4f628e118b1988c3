"""What the server publishes of its own: https://hl7.org/fhir/R4/terminology-module.html."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.structuredefinition import StructureDefinition as StructureDefinitionModel

from fhir_server.fhir.canonicals import code_system
from fhir_server.publishing import publish, published
from fhir_server.storage.interface import Store
from fhir_server.validation.checker import Checker
from tests.support import ServerProcess, put, write_over

COLOURS: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "id": "colours",
    "url": "https://keyworking.example/fhir/CodeSystem/colours",
    "version": "1.9",
    "status": "active",
    "content": "complete",
    "concept": [{"code": "red"}],
}


def test_everything_in_terminology_is_published_and_no_example() -> None:
    found = [*published()]
    kinds = {one["resourceType"] for one in found}
    assert {"CodeSystem", "ValueSet", "ConceptMap", "NamingSystem", "Measure"} <= kinds
    assert "SearchParameter" not in kinds
    names = [(one["resourceType"], one["id"]) for one in found]
    assert len(names) == len({*names})


def test_folders_of_examples_are_left_out(tmp_path: Path) -> None:
    profile = tmp_path / "kw-flag"
    (profile / "examples").mkdir(parents=True)
    shape = {"resourceType": "StructureDefinition", "id": "kw-flag"}
    (profile / "profile.json").write_text(json.dumps(shape))
    (profile / "examples" / "valid-1.json").write_text(json.dumps(COLOURS))
    assert [one["id"] for one in published([tmp_path])] == ["kw-flag"]


async def test_what_is_there_is_not_written_again(store: Store) -> None:
    first = await publish(store)
    assert first == len([*published()])
    assert await publish(store) == 0


async def test_many_at_once_store_each_once(store: Store) -> None:
    counts = await asyncio.gather(*(publish(store) for _ in range(5)))
    assert sum(counts) == len([*published()])


@pytest.mark.parametrize(
    ("there", "stored"),
    [
        ({"version": "1.10"}, 0),
        ({"version": "1.9"}, 0),
        ({"version": "1.8"}, 1),
        ({"version": "1.8", "url": "http://somebody.else"}, 0),
    ],
)
async def test_only_what_is_older_and_ours_is_written_over(
    client: httpx.AsyncClient, store: Store, there: dict[str, str], stored: int
) -> None:
    await put(client, {**COLOURS, **there})
    assert await publish(store, [COLOURS]) == stored
    read = (await client.get("CodeSystem/colours")).json()
    assert read["version"] == ("1.9" if stored else there["version"])


NEWER = {**COLOURS, "concept": [{"code": "red"}, {"code": "blue"}]}
NEWEST = {**COLOURS, "concept": [{"code": "green"}]}


async def shown(client: httpx.AsyncClient) -> list[str]:
    read = (await client.get("CodeSystem/colours")).json()
    return [one["code"] for one in read["concept"]]


async def test_other_content_of_the_same_version_takes_the_place_of_what_a_server_stored(
    client: httpx.AsyncClient, store: Store
) -> None:
    await publish(store, [COLOURS])
    for content in (NEWER, NEWEST):
        assert await publish(store, [content]) == 1
        assert await publish(store, [content]) == 0
        assert await shown(client) == [one["code"] for one in content["concept"]]
    counts = await asyncio.gather(*(publish(store, [NEWER]) for _ in range(3)))
    assert sum(counts) == 1


@pytest.mark.parametrize("before", [[COLOURS], [COLOURS, NEWER], [COLOURS, NEWER, COLOURS]])
async def test_what_a_user_changed_is_not_replaced_by_the_same_version(
    client: httpx.AsyncClient, store: Store, before: list[dict[str, Any]]
) -> None:
    for content in before:
        assert await publish(store, [content]) == 1
    held = (await client.get("CodeSystem/colours")).json()
    changed = {**held, "concept": [{"code": "violet"}]}
    assert (await write_over(client, changed)).status_code == 200
    assert await publish(store, [NEWEST]) == 0
    assert await shown(client) == ["violet"]
    assert await publish(store, [{**NEWEST, "version": "2"}]) == 1
    assert await shown(client) == ["green"]
    assert await publish(store, [{**NEWER, "version": "2"}]) == 1


async def test_a_new_rule_of_a_stored_profile_is_published(store: Store) -> None:
    (plan,) = (one for one in published() if one["id"] == "kw-discharge-plan")
    root, *others = plan["differential"]["element"]
    older = {**root, "constraint": root["constraint"][:1]}
    assert await publish(store, [{**plan, "differential": {"element": [older, *others]}}]) == 1
    assert await publish(store, [plan]) == 1
    assert await publish(store, [plan]) == 0
    found = await store.read("StructureDefinition", "kw-discharge-plan")
    assert found is not None
    stored = json.loads(found.body)
    assert stored["differential"] == plan["differential"]
    keys = [one["key"] for one in stored["snapshot"]["element"][0]["constraint"]]
    assert "kw-discharge-plan-9" in keys


async def test_a_version_of_many_digits_stops_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**COLOURS, "version": "9" * 5000})
    assert await publish(store, [COLOURS]) == 0


@pytest.mark.parametrize(("about", "stored"), [("http://somebody.else", 0), ("http://ours", 1)])
async def test_a_naming_system_of_somebody_else_is_left_alone(
    client: httpx.AsyncClient, store: Store, about: str, stored: int
) -> None:
    def names(value: str, date: str) -> dict[str, Any]:
        return {
            "resourceType": "NamingSystem",
            "id": "names",
            "name": "Names",
            "status": "active",
            "kind": "identifier",
            "date": date,
            "uniqueId": [{"type": "uri", "value": value}],
        }

    await put(client, names(about, "2020-01-01"))
    assert await publish(store, [names("http://ours", "2026-01-01")]) == stored


async def test_what_was_deleted_stays_deleted(client: httpx.AsyncClient, store: Store) -> None:
    await publish(store, [COLOURS])
    assert (await client.delete("CodeSystem/colours")).status_code == 204
    assert await publish(store, [{**COLOURS, "version": "2"}]) == 0
    assert (await client.get("CodeSystem/colours")).status_code == 410


async def test_what_an_administrator_changed_takes_effect(
    client: httpx.AsyncClient, store: Store
) -> None:
    await publish(store)
    url = code_system("dsr-rating")
    held = (await client.get(f"CodeSystem?url={url}")).json()["entry"][0]["resource"]
    held["concept"].append({"code": "violet", "display": "Violet"})
    assert (await write_over(client, {**held, "version": "0.2.0"})).status_code == 200
    found = (await client.get(f"CodeSystem/$validate-code?url={url}&code=violet")).json()
    assert found["parameter"][0] == {"name": "result", "valueBoolean": True}


def test_serve_publishes_once(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "s.db", tmp_path / "s.log", KEYWORKING_PUBLISH="true")
    for _ in range(2):
        server.start()
        try:
            found = httpx.get(f"{server.base}/ValueSet/dsr-rating")
            assert found.status_code == 200
            assert found.json()["meta"]["versionId"] == "1"
            assert httpx.get(f"{server.base}/StructureDefinition/kw-care-plan").status_code == 200
            by_url = httpx.get(f"{server.base}/CodeSystem?url={code_system('dsr-rating')}")
            assert by_url.json()["entry"][0]["resource"]["id"] == "dsr-rating"
            plan = "https://keyworking.example/fhir/StructureDefinition/kw-care-plan"
            (entry,) = httpx.get(f"{server.base}/StructureDefinition?url={plan}").json()["entry"]
            assert entry["resource"]["snapshot"]["element"][0]["path"] == "CarePlan"
        finally:
            server.stop()


async def test_profiles_are_stored_with_their_snapshots(store: Store) -> None:
    """R4 itself finds nothing wrong with them, and neither do its models."""
    await publish(store)
    checker, profiles = Checker(), 0
    for one in published():
        if one["resourceType"] != "StructureDefinition":
            continue
        found = await store.read("StructureDefinition", one["id"])
        assert found is not None
        stored = json.loads(found.body)
        assert stored["snapshot"]["element"][0]["path"] == one["type"]
        assert checker.check(stored).errors == [], one["id"]
        StructureDefinitionModel.model_validate(stored)
        profiles += 1
    assert profiles > 30


async def test_a_profile_that_cannot_be_used_is_stored_as_it_is(store: Store) -> None:
    broken = {
        "resourceType": "StructureDefinition",
        "id": "broken",
        "url": "http://example.org/broken",
        "type": "Patient",
        "differential": {"element": [{"id": "Patient.nose", "path": "Patient.nose"}]},
    }
    assert await publish(store, [broken]) == 1
    found = await store.read("StructureDefinition", "broken")
    assert found is not None
    assert "snapshot" not in json.loads(found.body)
