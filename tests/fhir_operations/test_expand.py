"""$expand: https://hl7.org/fhir/R4/valueset-operation-expand.html."""

from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from fhir.resources.R4B.valueset import ValueSet

from fhir_server.search.ast import Everything, Node, Nothing
from fhir_server.terminology import held
from fhir_server.terminology.systems import code_system
from tests.conftest import Restrict
from tests.fhir_operations.terms import (
    SYSTEM,
    TREE,
    below,
    codes,
    parameters,
    prop,
    told,
    value_set,
)
from tests.support import assert_outcome, body, put, write_over

PLANTS = value_set("plants", below("plant"))
FEW = value_set(
    "few",
    {"system": TREE, "concept": [{"code": "stone", "display": "A stone"}, {"code": "oak"}]},
)


@pytest.fixture
async def wood(client: httpx.AsyncClient) -> httpx.AsyncClient:
    for resource in (SYSTEM, PLANTS, FEW):
        await put(client, resource)
    return client


async def expand(client: httpx.AsyncClient, name: str, query: str = "") -> httpx.Response:
    return await client.get(f"ValueSet/$expand?url=http://example.org/{name}{query}")


async def test_all_codes_come_in_order_with_their_displays(wood: httpx.AsyncClient) -> None:
    answer = await expand(wood, "plants")
    assert codes(answer) == ["plant", "oak", "sessile", "elm"]
    ValueSet.model_validate_json(answer.content)
    expansion = answer.json()["expansion"]
    assert expansion["total"] == 4
    assert expansion["contains"][0] == {
        "system": TREE,
        "abstract": True,
        "code": "plant",
        "display": "Plants",
    }
    assert expansion["contains"][3]["inactive"] is True
    assert {"name": "version", "valueUri": f"{TREE}|2"} in expansion["parameter"]


async def test_what_is_no_code_of_a_complete_system_is_left_out_and_told(
    wood: httpx.AsyncClient,
) -> None:
    """As `$validate-code` has it."""
    nope = [{"code": "NOPE"}, {"code": "oak"}, {"code": "NOPE"}]
    await put(wood, value_set("some", {"system": TREE, "concept": nope}))
    await put(wood, value_set("none", {"system": TREE, "concept": [{"code": "NOPE"}]}))
    for _ in range(2):
        answer = await expand(wood, "some")
        assert codes(answer) == ["oak"]
        ValueSet.model_validate_json(answer.content)
        expansion = answer.json()["expansion"]
        assert expansion["total"] == 1
        warning = f"Left out, as {TREE} has no such code: 'NOPE'"
        assert {"name": "warning", "valueString": warning} in expansion["parameter"]
    assert codes(await expand(wood, "none")) == []
    asked = f"url=http://example.org/some&system={TREE}&code=NOPE"
    assert told(await wood.get(f"ValueSet/$validate-code?{asked}"))["result"] is False


async def test_a_code_that_a_part_of_a_system_has_not_may_be_one(wood: httpx.AsyncClient) -> None:
    await put(wood, {**SYSTEM, "content": "fragment", "version": "3"})
    await put(wood, value_set("some", {"system": TREE, "concept": [{"code": "NOPE"}]}))
    answer = await expand(wood, "some")
    assert codes(answer) == ["NOPE"]
    assert "warning" not in [one["name"] for one in answer.json()["expansion"]["parameter"]]


async def test_the_version_that_is_not_there_is_named(wood: httpx.AsyncClient) -> None:
    part = {"system": TREE, "version": "9"}
    for name, include in (("whole", part), ("filtered", {**below("oak"), **part})):
        await put(wood, value_set(name, include))
        text = f"The code system '{TREE}' is not known here in version '9'"
        assert_outcome(await expand(wood, name), 422, "not-found", text)
    await put(wood, value_set("importing", {"valueSet": ["http://example.org/plants|9"]}))
    text = "The value set 'http://example.org/plants' is not known here in version '9'"
    assert_outcome(await expand(wood, "importing"), 422, "not-found", text)


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("=", "true", ["elm", "ash", "yew"]),
        ("=", "false", ["oak", "fir", "box"]),
        ("in", "true,maybe", ["elm", "ash", "yew"]),
        ("not-in", "true", ["oak", "fir", "box"]),
        ("exists", "true", ["elm", "fir"]),
    ],
)
async def test_inactive_is_what_active_only_leaves_out(
    client: httpx.AsyncClient, op: str, value: str, expected: list[str]
) -> None:
    def status(name: str) -> list[dict[str, Any]]:
        return [{"code": "status", "valueCode": name}]

    concepts = [
        {"code": "oak"},
        {"code": "elm", "property": prop("inactive")},
        {"code": "ash", "property": status("retired")},
        {"code": "yew", "property": status("inactive")},
        {"code": "fir", "property": prop("inactive", value=False)},
        {"code": "box", "property": status("deprecated")},
    ]
    named = [{"code": "inactive", "type": "boolean"}, {"code": "status", "type": "code"}]
    chosen = [{"property": "inactive", "op": op, "value": value}]
    await put(client, {**SYSTEM, "property": named, "concept": concepts})
    await put(client, value_set("all", {"system": TREE}))
    await put(client, value_set("chosen", {"system": TREE, "filter": chosen}))
    assert codes(await expand(client, "chosen")) == expected
    assert codes(await expand(client, "all", "&activeOnly=true")) == ["oak", "fir", "box"]
    for code in ("oak", "elm", "ash", "yew", "fir", "box"):
        asked = f"url=http://example.org/chosen&system={TREE}&code={code}"
        answer = await client.get(f"ValueSet/$validate-code?{asked}")
        assert told(answer)["result"] is (code in expected)


async def test_many_codes_that_are_none_are_counted(wood: httpx.AsyncClient) -> None:
    nope = [{"code": f"NOPE{n}"} for n in range(12)]
    await put(wood, value_set("some", {"system": TREE, "concept": nope}))
    (warning,) = [
        one["valueString"]
        for one in (await expand(wood, "some")).json()["expansion"]["parameter"]
        if one["name"] == "warning"
    ]
    assert "'NOPE9' and 2 more" in warning
    assert "NOPE10" not in warning


async def test_a_list_keeps_its_order_and_displays(wood: httpx.AsyncClient) -> None:
    answer = await expand(wood, "few")
    displays = [one["display"] for one in answer.json()["expansion"]["contains"]]
    assert displays == ["A stone", "Oak tree"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("&filter=oak", ["oak", "sessile"]),
        ("&filter=TREE%20oak", ["oak"]),
        ("&filter=derwen", ["oak"]),
        ("&filter=nothing", []),
        ("&activeOnly=true", ["plant", "oak", "sessile"]),
        ("&excludeNotForUI=true", ["oak", "sessile", "elm"]),
        ("&count=0", []),
        ("&offset=1&count=2", ["oak", "sessile"]),
        ("&offset=9", []),
        ("&filter=oak&offset=1&count=1", ["sessile"]),
    ],
)
async def test_what_is_shown_is_chosen(
    wood: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    assert codes(await expand(wood, "plants", query)) == expected


async def test_pages_give_each_code_once(client: httpx.AsyncClient) -> None:
    url = "http://terminology.hl7.org/ValueSet/v3-RoleCode"
    whole = codes(await client.get(f"ValueSet/$expand?url={url}"))
    assert len(whole) > 300
    found: list[str] = []
    while True:
        page = await client.get(f"ValueSet/$expand?url={url}&offset={len(found)}&count=50")
        assert page.json()["expansion"]["total"] == len(whole)
        if not codes(page):
            break
        found += codes(page)
    assert found == whole
    assert len({*found}) == len(found)


async def test_codes_stand_below_those_above_them_where_it_is_asked(
    wood: httpx.AsyncClient,
) -> None:
    answer = await expand(wood, "plants", "&excludeNested=false&activeOnly=true")
    ValueSet.model_validate_json(answer.content)

    def shape(rows: Any) -> Any:
        return {row["code"]: shape(row.get("contains", ())) for row in rows}

    rows = answer.json()["expansion"]["contains"]
    assert shape(rows) == {"plant": {"oak": {"sessile": {}}}}
    refused = await expand(wood, "plants", "&excludeNested=false&count=1")
    assert_outcome(refused, 400, "invalid", "Pages are of a flat list", "http.excludeNested")


async def test_other_names_and_languages_are_told(wood: httpx.AsyncClient) -> None:
    answer = await expand(wood, "few", "&includeDesignations=true&displayLanguage=cy")
    stone, oak = answer.json()["expansion"]["contains"]
    assert oak["display"] == "Derwen"
    assert oak["designation"] == [{"language": "cy", "value": "Derwen"}]
    assert stone["display"] == "A stone"


async def test_by_id_and_inline_and_version_it_is_the_same(wood: httpx.AsyncClient) -> None:
    expected = codes(await expand(wood, "few"))
    assert codes(await wood.get("ValueSet/few/$expand")) == expected
    assert codes(await expand(wood, "few", "&valueSetVersion=1")) == expected
    assert codes(await wood.post("ValueSet/$expand", **body(FEW))) == expected
    inline = parameters({"name": "valueSet", "resource": FEW}, {"name": "count", "valueInteger": 1})
    assert codes(await wood.post("ValueSet/$expand", **inline)) == expected[:1]


async def test_excludes_and_imports_are_followed(wood: httpx.AsyncClient) -> None:
    imported = value_set(
        "imported",
        {"valueSet": ["http://example.org/plants"]},
        {"system": TREE, "concept": [{"code": "stone"}]},
        exclude=[below("oak")],
        inactive=False,
    )
    assert codes(await wood.post("ValueSet/$expand", **body(imported))) == ["plant", "stone"]


async def test_a_change_takes_effect_with_its_commit(wood: httpx.AsyncClient) -> None:
    assert "ash" not in codes(await expand(wood, "plants"))
    grown = {**SYSTEM, "concept": [*SYSTEM["concept"]]}
    plant = {**SYSTEM["concept"][0]}
    plant["concept"] = [*plant["concept"], {"code": "ash"}]
    grown["concept"][0] = plant
    assert (await write_over(wood, grown)).status_code == 200
    assert "ash" in codes(await expand(wood, "plants"))
    assert (await wood.delete("CodeSystem/tree")).status_code == 204
    assert_outcome(await expand(wood, "plants"), 422, "not-found", TREE)


@pytest.mark.parametrize(
    ("query", "status", "code", "text"),
    [
        ("", 400, "invalid", "Name one ValueSet"),
        ("?url=http://example.org/none", 404, "not-found", "'http://example.org/none' is not"),
        ("?url=http://example.org/few|9", 404, "not-found", "few|9"),
        ("?url=http://example.org/few&count=-1", 400, "invalid", "0 or more"),
        ("?url=http://example.org/few&context=x", 400, "invalid", "not a parameter"),
        ("?url=http://hl7.org/fhir/ValueSet/mimetypes", 422, "not-found", "urn:ietf:bcp:13"),
        ("?url=https://fhir.hl7.org.uk/ValueSet/UKCore-EncounterType", 422, "not-found", "snomed"),
    ],
)
async def test_what_cannot_be_expanded_is_refused(
    wood: httpx.AsyncClient, query: str, status: int, code: str, text: str
) -> None:
    assert_outcome(await wood.get(f"ValueSet/$expand{query}"), status, code, text)


async def test_a_value_set_that_includes_itself_is_refused(client: httpx.AsyncClient) -> None:
    circle = value_set("circle", {"valueSet": ["http://example.org/circle"]})
    await put(client, circle)
    assert_outcome(await expand(client, "circle"), 422, "invalid", "includes itself")


async def test_more_than_an_answer_may_hold_is_refused_with_a_way_out(
    client: httpx.AsyncClient,
) -> None:
    concepts = [{"code": f"c{number}"} for number in range(10_001)]
    large = {**SYSTEM, "concept": concepts}
    everything = value_set("everything", {"system": TREE})
    inline: list[dict[str, Any]] = [{"name": "valueSet", "resource": everything}]
    # In two parts, each a fragment, which come to as many as they say that there are.
    half = len(concepts) // 2
    for number, some in enumerate((concepts[:half], concepts[half:])):
        part = {**large, "id": f"part-{number}", "content": "fragment", "concept": some}
        await put(client, {**part, "count": len(concepts)})
    refused = await client.post("ValueSet/$expand", **parameters(*inline))
    assert_outcome(refused, 422, "too-costly", "ask for a page")
    page = [*inline, {"name": "count", "valueInteger": 5}, {"name": "offset", "valueInteger": 9999}]
    assert len(codes(await client.post("ValueSet/$expand", **parameters(*page)))) == 2


async def test_what_is_made_of_a_code_system_is_kept_for_the_next_search(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50,000 concepts took 0.7 s for each search before what was made of them was kept."""
    names = [f"c{number}" for number in range(50_000)]
    for start in range(0, len(names), 5000):
        some = [
            {"code": name, "property": [{"code": "parent", "valueCode": "c0"}]}
            for name in names[start : start + 5000]
        ]
        part = {**SYSTEM, "id": f"part-{start}", "content": "fragment", "concept": some}
        sent = await client.put(f"CodeSystem/part-{start}", **body({**part, "count": len(names)}))
        assert sent.status_code == 201, sent.text
    search = f"Observation?code:below={TREE}|c17"
    made = Mock(wraps=code_system)
    monkeypatch.setattr(held, "code_system", made)
    assert (await client.get(search)).status_code == 200
    made.assert_called()
    made.reset_mock()
    assert (await client.get(search)).status_code == 200
    made.assert_not_called()


async def test_what_would_cost_without_end_is_refused(client: httpx.AsyncClient) -> None:
    """Bounded by work: many includes of one system, imports in a line, a chain of parents."""
    chain: list[dict[str, Any]] = [{"code": "c0"}]
    for number in range(1, 3000):
        above = [{"code": "parent", "valueCode": f"c{number - 1}"}]
        chain.append({"code": f"c{number}", "property": above})
    await put(client, {**SYSTEM, "concept": chain})
    often = value_set("often", *[{"system": TREE}] * 1000)
    refused = await client.post("ValueSet/$expand", **body(often))
    assert_outcome(refused, 422, "too-costly", "too much work")
    listed = {"system": TREE, "concept": [{"code": f"{number}"} for number in range(150_000)]}
    refused = await client.post("ValueSet/$expand", **body(value_set("listed", listed)))
    assert_outcome(refused, 422, "too-costly", "more than 100000 codes")
    whole = {"name": "valueSet", "resource": value_set("whole", {"system": TREE})}
    nested = parameters(whole, {"name": "excludeNested", "valueBoolean": False})
    refused = await client.post("ValueSet/$expand", **nested)
    assert_outcome(refused, 422, "too-costly", "")
    for number in range(30):
        await put(
            client, value_set(f"v{number}", {"valueSet": [f"http://example.org/v{number + 1}"]})
        )
    assert_outcome(await expand(client, "v0"), 422, "too-costly", "20 steps deep")
    code = f"&code=c1&system={TREE}"
    refused = await client.get(f"ValueSet/$validate-code?url=http://example.org/v0{code}")
    assert_outcome(refused, 422, "too-costly", "20 steps deep")


async def test_imports_that_come_again_and_again_are_looked_at_once(
    client: httpx.AsyncClient,
) -> None:
    await put(client, SYSTEM)
    for number in range(18):
        twice = [{"valueSet": [f"http://example.org/v{number + 1}"]}] * 2
        await put(client, value_set(f"v{number}", *twice))
    await put(client, value_set("v18", below("oak")))
    assert codes(await expand(client, "v0")) == ["oak", "sessile"]
    for code, result in (("oak", True), ("elm", False)):
        asked = f"ValueSet/$validate-code?url=http://example.org/v0&code={code}&system={TREE}"
        assert told(await client.get(asked))["result"] is result


async def test_parents_that_go_round_in_circles_are_shown_all_the_same(
    client: httpx.AsyncClient,
) -> None:
    def one(code: str, above: str) -> dict[str, Any]:
        return {"code": code, "property": [{"code": "parent", "valueCode": above}]}

    await put(client, {**SYSTEM, "concept": [one("a", "c"), one("b", "a"), one("c", "b")]})
    whole = {"name": "valueSet", "resource": value_set("whole", {"system": TREE})}
    nested = parameters(whole, {"name": "excludeNested", "valueBoolean": False})
    answer = await client.post("ValueSet/$expand", **nested)
    assert answer.json()["expansion"]["total"] == 3
    shown = answer.text
    assert all(f'"code":"{code}"' in shown for code in "abc")


async def test_what_may_not_be_read_is_not_known(
    wood: httpx.AsyncClient, restrict: Restrict
) -> None:
    class NoTerminology:
        def readable(self, resource_type: str) -> Node:
            return Nothing() if resource_type in ("ValueSet", "CodeSystem") else Everything()

        writable = readable

    assert codes(await expand(wood, "plants"))
    restrict(NoTerminology())
    assert_outcome(await expand(wood, "plants"), 404, "not-found", "is not known here")
    assert_outcome(await wood.get("ValueSet/plants/$expand"), 404, "not-found", "is not known")
    inline = await wood.post("ValueSet/$expand", **body(PLANTS))
    assert_outcome(inline, 422, "not-found", TREE)
    lookup = await wood.get(f"CodeSystem/$lookup?system={TREE}&code=oak")
    assert_outcome(lookup, 404, "not-found", TREE)
    shipped = "ValueSet/$expand?url=https://keyworking.example/fhir/ValueSet/dsr-rating"
    assert len(codes(await wood.get(shipped))) == 4
