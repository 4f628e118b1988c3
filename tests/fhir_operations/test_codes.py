"""$validate-code, $lookup and $subsumes.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-lookup.html,
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from typing import Any

import httpx
import pytest

from tests.fhir_operations.terms import SYSTEM, TREE, below, parameters, told, value_set
from tests.operations.parameters import problems
from tests.support import REPOSITORY, assert_outcome, put

PLANTS = value_set("plants", below("plant"))
IN_PLANTS = "ValueSet/$validate-code?url=http://example.org/plants"
GENDER = "http://hl7.org/fhir/administrative-gender"


@pytest.fixture
async def wood(client: httpx.AsyncClient) -> httpx.AsyncClient:
    for resource in (SYSTEM, PLANTS):
        await put(client, resource)
    return client


@pytest.mark.parametrize(
    ("query", "result", "message"),
    [
        (f"&code=oak&system={TREE}", True, None),
        (f"&code=oak&system={TREE}&display=oak%20%20TREE", True, None),
        (f"&code=oak&system={TREE}&display=Derwen", True, None),
        (f"&code=oak&system={TREE}&systemVersion=2", True, None),
        (f"&code=oak&system={TREE}&display=Elm", False, "'Elm' is not one of 'oak': 'Oak tree'"),
        (f"&code=stone&system={TREE}", False, "not in the value set"),
        (f"&code=weed&system={TREE}", False, f"'weed' is not a code of {TREE}"),
        (f"&code=elm&system={TREE}", True, "inactive"),
        (f"&code=plant&system={TREE}", False, "abstract"),
        (f"&code=plant&system={TREE}&abstract=true", True, None),
        (f"&code=male&system={GENDER}", False, "not in the value set"),
    ],
)
async def test_a_code_is_looked_for_in_a_value_set(
    wood: httpx.AsyncClient, query: str, result: bool, message: str | None
) -> None:
    answer = told(await wood.get(IN_PLANTS + query))
    assert answer["result"] is result
    assert message in answer["message"] if message else "message" not in answer


async def test_one_coding_of_a_concept_is_enough(wood: httpx.AsyncClient) -> None:
    def concept(*codes: str) -> dict[str, Any]:
        codings = [{"system": TREE, "code": code} for code in codes]
        return {"name": "codeableConcept", "valueCodeableConcept": {"coding": codings}}

    url = {"name": "url", "valueUri": "http://example.org/plants"}
    for codes, result in ((("stone", "oak"), True), (("stone", "weed"), False)):
        answer = await wood.post("ValueSet/$validate-code", **parameters(url, concept(*codes)))
        assert told(answer)["result"] is result
    coding = {"name": "coding", "valueCoding": {"system": TREE, "code": "oak"}}
    assert told(await wood.post("ValueSet/plants/$validate-code", **parameters(coding)))["result"]


@pytest.mark.parametrize(
    ("query", "status", "code", "text"),
    [
        (f"{IN_PLANTS}&code=oak", 400, "invalid", "comes with its system"),
        (IN_PLANTS, 400, "invalid", "Name what it is about"),
        (f"ValueSet/$validate-code?code=oak&system={TREE}", 400, "invalid", "Name one ValueSet"),
        (
            f"ValueSet/$validate-code?url=http://none&code=oak&system={TREE}",
            *(404, "not-found", "'http://none' is not known"),
        ),
        (
            "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/mimetypes"
            "&code=text/plain&system=urn:ietf:bcp:13",
            *(422, "not-supported", "could not be checked"),
        ),
        (
            "CodeSystem/$validate-code?url=http://snomed.info/sct&code=1",
            *(404, "not-found", "snomed"),
        ),
        (f"CodeSystem/$lookup?system={TREE}&code=weed", 404, "not-found", "'weed' is not a code"),
        ("CodeSystem/$lookup?system=http://none&code=a", 404, "not-found", "'http://none'"),
        (f"CodeSystem/$subsumes?system={TREE}&codeA=oak", 400, "invalid", "'codeB'"),
        (
            f"CodeSystem/$subsumes?system={TREE}&codeA=oak&codeB=weed",
            *(400, "code-invalid", "'weed' is not a code"),
        ),
        ("CodeSystem/$subsumes?codeA=oak&codeB=elm", 400, "invalid", "comes with its system"),
    ],
)
async def test_what_cannot_be_said_is_refused(
    wood: httpx.AsyncClient, query: str, status: int, code: str, text: str
) -> None:
    assert_outcome(await wood.get(query), status, code, text)


async def test_a_code_is_looked_for_in_a_code_system(wood: httpx.AsyncClient) -> None:
    asked = "CodeSystem/$validate-code"
    for query, result in (
        (f"{asked}?url={TREE}&code=oak", True),
        (f"{asked}?url={TREE}&code=oak&version=2", True),
        (f"{asked}?url={TREE}&code=weed", False),
        ("CodeSystem/tree/$validate-code?code=oak", True),
        (f"{asked}?url={GENDER}&code=male&display=Male", True),
        (f"{asked}?url={TREE}&code=OAK", False),
    ):
        assert told(await wood.get(query))["result"] is result, query
    coding = {"name": "coding", "valueCoding": {"system": TREE, "code": "oak"}}
    assert told(await wood.post(asked, **parameters(coding)))["result"]
    other = {"name": "url", "valueUri": GENDER}
    answer = told(await wood.post(asked, **parameters(other, coding)))
    assert (answer["result"], "is not of" in answer["message"]) == (False, True)


async def test_case_means_nothing_where_the_system_says_so(client: httpx.AsyncClient) -> None:
    await put(client, {**SYSTEM, "caseSensitive": False})
    await put(client, PLANTS)
    assert told(await client.get(f"{IN_PLANTS}&code=OAK&system={TREE}"))["result"]
    assert told(await client.get(f"CodeSystem/$lookup?system={TREE}&code=OAK"))["name"] == "Tree"


async def test_what_is_known_of_a_code_is_told(wood: httpx.AsyncClient) -> None:
    answer = await wood.get(f"CodeSystem/$lookup?system={TREE}&code=oak")
    assert told(answer) == {"name": "Tree", "version": "2", "display": "Oak tree"}
    found = [
        {part["name"]: [*part.values()][1] for part in one["part"]}
        for one in answer.json()["parameter"]
        if one["name"] == "property"
    ]
    assert found == [
        {"code": "definition", "value": "A tree with acorns."},
        {"code": "inactive", "value": False},
        {"code": "parent", "value": "plant"},
        {"code": "child", "value": "sessile"},
        {"code": "size", "value": 30},
    ]
    welsh = f"CodeSystem/$lookup?system={TREE}&code=oak&displayLanguage=cy&property=size"
    assert told(await wood.get(welsh))["display"] == "Derwen"
    told_of_size = (await wood.get(welsh)).json()["parameter"]
    assert [one["name"] for one in told_of_size].count("property") == 1


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("oak", "oak", "equivalent"),
        ("plant", "sessile", "subsumes"),
        ("sessile", "oak", "subsumed-by"),
        ("oak", "elm", "not-subsumed"),
    ],
)
async def test_one_code_is_a_kind_of_another(
    wood: httpx.AsyncClient, a: str, b: str, outcome: str
) -> None:
    for place in (f"CodeSystem/$subsumes?system={TREE}&", "CodeSystem/tree/$subsumes?"):
        assert told(await wood.get(f"{place}codeA={a}&codeB={b}")) == {"outcome": outcome}


async def test_answers_hold_to_their_definitions(wood: httpx.AsyncClient) -> None:
    from tests.fhir_operations.test_definitions import definition

    for name, query in (
        ("valueset_validate_code", f"{IN_PLANTS}&code=elm&system={TREE}"),
        ("codesystem_validate_code", f"CodeSystem/$validate-code?url={TREE}&code=oak"),
        ("subsumes", f"CodeSystem/$subsumes?system={TREE}&codeA=oak&codeB=elm"),
    ):
        defined = definition(REPOSITORY / "fhir_operations" / f"{name}.json")
        assert problems((await wood.get(query)).json(), defined) == []
