"""$translate and $closure.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html,
https://hl7.org/fhir/R4/conceptmap-operation-closure.html
"""

import asyncio
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.conceptmap import ConceptMap

from fhir_server.search.ast import Everything
from tests.conftest import Restrict
from tests.fhir_operations.terms import SYSTEM, TREE, parameters, told
from tests.fhir_operations.test_definitions import definition
from tests.operations.parameters import problems
from tests.support import REPOSITORY, assert_outcome, put

LEGAL = "https://fhir.hl7.org.uk/CodeSystem/UKCore-LegalStatusClassificationEngland"
AFTERCARE = "https://keyworking.example/fhir/ConceptMap/legal-status-section-117"
YES_NO = "http://terminology.hl7.org/CodeSystem/v2-0136"
MATERIAL = "http://example.org/material"
WOODS: dict[str, Any] = {
    "resourceType": "ConceptMap",
    "id": "woods",
    "url": "http://example.org/woods",
    "status": "active",
    "sourceUri": "http://example.org/plants",
    "targetUri": "http://example.org/materials",
    "group": [
        {
            "source": TREE,
            "target": MATERIAL,
            "element": [
                {"code": "oak", "target": [{"code": "wood", "equivalence": "wider"}]},
                {"code": "elm", "target": [{"code": "wood", "equivalence": "wider"}]},
                {"code": "stone", "target": [{"equivalence": "unmatched", "comment": "No wood."}]},
            ],
            "unmapped": {"mode": "fixed", "code": "stuff"},
        }
    ],
}


def matched(answer: httpx.Response) -> list[tuple[str, str]]:
    """Equivalence and code of each match."""
    assert answer.status_code == 200, answer.text
    found = []
    for one in answer.json()["parameter"]:
        if one["name"] == "match":
            parts = {part["name"]: part for part in one["part"]}
            concept = parts.get("concept", {}).get("valueCoding", {})
            found.append((parts["equivalence"]["valueCode"], concept.get("code", "")))
    return found


@pytest.mark.parametrize(
    ("query", "result", "matches"),
    [
        (f"url={AFTERCARE}&code=03&system={LEGAL}", True, [("wider", "Y")]),
        (f"url={AFTERCARE}&code=02&system={LEGAL}", True, [("wider", "N")]),
        (f"url={AFTERCARE}&code=99&system={LEGAL}", False, [("unmatched", "")]),
        (f"code=03&system={LEGAL}&targetsystem={YES_NO}", True, [("wider", "Y")]),
        (f"url=http://example.org/woods&code=oak&system={TREE}", True, [("wider", "wood")]),
        (f"url=http://example.org/woods&code=stone&system={TREE}", False, [("unmatched", "")]),
        (f"url=http://example.org/woods&code=sessile&system={TREE}", True, [("wider", "stuff")]),
        (f"url=http://example.org/woods&code=oak&system={LEGAL}", False, []),
        (
            f"url=http://example.org/woods&code=wood&system={MATERIAL}&reverse=true",
            True,
            [("narrower", "oak"), ("narrower", "elm")],
        ),
        (f"code=oak&system={TREE}&target=http://example.org/materials", True, [("wider", "wood")]),
        (f"code=oak&system={TREE}&target=http://example.org/else", False, []),
        (f"code=oak&system={TREE}&targetsystem=http://example.org/else", False, []),
        ("code=a&system=http://none", False, []),
    ],
)
async def test_a_code_is_translated(
    client: httpx.AsyncClient, query: str, result: bool, matches: list[tuple[str, str]]
) -> None:
    await put(client, WOODS)
    answer = await client.get(f"ConceptMap/$translate?{query}")
    assert told(answer)["result"] is result
    assert matched(answer) == matches
    assert problems(answer.json(), definition(REPOSITORY / "fhir_operations/translate.json")) == []


async def test_by_id_inline_and_of_several_codings(client: httpx.AsyncClient) -> None:
    await put(client, WOODS)
    by_id = await client.get(f"ConceptMap/woods/$translate?code=oak&system={TREE}")
    assert matched(by_id) == [("wider", "wood")]
    coding = [{"system": TREE, "code": code} for code in ("oak", "stone")]
    asked = [
        {"name": "conceptMap", "resource": {**WOODS, "group": WOODS["group"]}},
        {"name": "codeableConcept", "valueCodeableConcept": {"coding": coding}},
    ]
    answer = await client.post("ConceptMap/$translate", **parameters(*asked))
    assert matched(answer) == [("wider", "wood"), ("unmatched", "")]
    assert told(answer)["message"] == "No wood."


@pytest.mark.parametrize(
    ("insensitive", "query", "expected"),
    [
        (TREE, f"code=OAK&system={TREE}", [("wider", "wood")]),
        (TREE, f"code=STONE&system={TREE}", [("unmatched", "")]),
        (None, f"code=OAK&system={TREE}", [("wider", "stuff")]),
        (MATERIAL, f"code=OAK&system={TREE}", [("wider", "stuff")]),
        (
            MATERIAL,
            f"code=Wood&system={MATERIAL}&reverse=true",
            [("narrower", "oak"), ("narrower", "elm")],
        ),
        (None, f"code=Wood&system={MATERIAL}&reverse=true", []),
    ],
)
async def test_case_counts_unless_it_means_nothing_to_the_system(
    client: httpx.AsyncClient, insensitive: str, query: str, expected: list[tuple[str, str]]
) -> None:
    material = {**SYSTEM, "id": "material", "url": MATERIAL, "concept": [{"code": "wood"}]}
    for system in (SYSTEM, material):
        await put(client, {**system, "caseSensitive": system["url"] != insensitive})
    await put(client, WOODS)
    answer = await client.get(f"ConceptMap/$translate?url=http://example.org/woods&{query}")
    assert matched(answer) == expected


async def test_another_map_does_not_stand_in_for_a_code_in_another_case(
    client: httpx.AsyncClient,
) -> None:
    rule = {"mode": "other-map", "url": "http://example.org/woods"}
    group = {**WOODS["group"][0], "element": WOODS["group"][0]["element"][:1], "unmapped": rule}
    await put(client, {**SYSTEM, "caseSensitive": False})
    for resource in (WOODS, {**WOODS, "id": "a", "url": "http://example.org/a", "group": [group]}):
        await put(client, resource)
    url = "ConceptMap/$translate?url=http://example.org/a"
    assert matched(await client.get(f"{url}&code=OAK&system={TREE}")) == [("wider", "wood")]


async def test_another_map_stands_in_and_circles_end(client: httpx.AsyncClient) -> None:
    def standing_in(name: str, other: str) -> dict[str, Any]:
        rule = {"mode": "other-map", "url": f"http://example.org/{other}"}
        group = {**WOODS["group"][0], "element": WOODS["group"][0]["element"][2:]}
        url = f"http://example.org/{name}"
        return {**WOODS, "id": name, "url": url, "group": [{**group, "unmapped": rule}]}

    for resource in (standing_in("a", "b"), standing_in("b", "woods"), WOODS):
        await put(client, resource)
    answer = await client.get(
        f"ConceptMap/$translate?url=http://example.org/a&code=oak&system={TREE}"
    )
    assert matched(answer) == [("wider", "wood")]
    await put(client, standing_in("c", "d"))
    await put(client, standing_in("d", "c"))
    around = await client.get(
        f"ConceptMap/$translate?url=http://example.org/c&code=oak&system={TREE}"
    )
    assert matched(around) == []


async def test_a_map_that_is_not_known_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.get("ConceptMap/$translate?url=http://none&code=a&system=http://b")
    assert_outcome(answer, 404, "not-found", "'http://none' is not known")


# $closure


async def closure(client: httpx.AsyncClient, *codes: str, **more: str) -> httpx.Response:
    concepts = [
        {"name": "concept", "valueCoding": {"system": TREE, "code": code}} for code in codes
    ]
    others = [{"name": name, "valueString": value} for name, value in more.items()]
    name = [] if "name" in more else [{"name": "name", "valueString": "mine"}]
    return await client.post("$closure", **parameters(*name, *concepts, *others))


def links(answer: httpx.Response) -> set[tuple[str, str]]:
    """Each code with one above it."""
    assert answer.status_code == 200, answer.text
    ConceptMap.model_validate_json(answer.content)
    found = set()
    for group in answer.json().get("group", ()):
        assert group["source"] == group["target"] == TREE
        for element in group["element"]:
            for target in element["target"]:
                assert target["equivalence"] == "subsumes"
                found.add((element["code"], target["code"]))
    return found


async def test_a_table_grows_code_by_code(client: httpx.AsyncClient) -> None:
    await put(client, SYSTEM)
    begun = await closure(client)
    assert (begun.json()["version"], links(begun)) == ("0", set())
    assert links(await closure(client, "sessile", "stone")) == set()
    assert links(await closure(client, "plant")) == {("sessile", "plant")}
    oak = await closure(client, "oak", "plant")
    assert oak.json()["version"] == "3"
    assert links(oak) == {("oak", "plant"), ("sessile", "oak")}
    missed = await closure(client, version="1")
    assert links(missed) == {("sessile", "plant"), ("oak", "plant"), ("sessile", "oak")}
    assert links(await closure(client)) == set()
    assert links(await closure(client, version="0")) == set()


async def test_codes_that_come_at_once_are_all_there(client: httpx.AsyncClient) -> None:
    await put(client, SYSTEM)
    await closure(client)
    await asyncio.gather(*(closure(client, code) for code in ("plant", "oak", "sessile", "elm")))
    whole = links(await closure(client, version="0"))
    expected = {("oak", "plant"), ("sessile", "oak"), ("sessile", "plant"), ("elm", "plant")}
    assert whole == expected


async def test_a_table_is_its_callers_own(client: httpx.AsyncClient, restrict: Restrict) -> None:
    class All:
        def readable(self, _: str) -> Everything:
            return Everything()

        writable = readable

    await put(client, SYSTEM)
    await closure(client)
    restrict(All(), "somebody")
    assert_outcome(await closure(client, "oak"), 404, "not-found", "no closure table")


async def test_what_cannot_be_kept_is_refused(client: httpx.AsyncClient) -> None:
    await put(client, SYSTEM)
    assert_outcome(await closure(client, "oak"), 404, "not-found", "no closure table")
    await closure(client)
    assert_outcome(await closure(client, "weed"), 422, "code-invalid", "'weed'")
    assert_outcome(await closure(client, "oak", version="0"), 400, "invalid", "not both")
    assert_outcome(await closure(client, version="x"), 400, "invalid", "no version")
    assert_outcome(await closure(client, name="n" * 201), 400, "invalid", "1 to 200")
    assert_outcome(await client.get("$closure?name=mine"), 405, "not-supported", "POST")
    snomed = {"name": "concept", "valueCoding": {"system": "http://snomed.info/sct", "code": "1"}}
    mine = {"name": "name", "valueString": "mine"}
    answer = await client.post("$closure", **parameters(mine, snomed))
    assert_outcome(answer, 422, "not-supported", "could not be checked")
    for number in range(19):
        assert (await closure(client, name=f"t{number}")).status_code == 200
    assert_outcome(await closure(client, name="more"), 422, "too-costly", "20 closure tables")
