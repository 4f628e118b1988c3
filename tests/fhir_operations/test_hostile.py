"""Questions to the terminology service and to $validate that are made to cost much."""

import threading
from typing import Any

import httpx
import pytest

from fhir_operations.closure import Near, Table
from fhir_server.app import create_app
from fhir_server.errors import FhirError
from fhir_server.settings import Settings
from fhir_server.validation.checker import Checker, Findings
from tests.fhir_operations.terms import SYSTEM, TREE, below, parameters, value_set
from tests.support import assert_outcome, body, outcome_issues, put
from tests.work import ending

PLANTS = value_set("plants", below("plant"))


def concept(count: int) -> dict[str, Any]:
    codings = [{"system": TREE, "code": f"c{number}"} for number in range(count)]
    return {"name": "codeableConcept", "valueCodeableConcept": {"coding": codings}}


async def test_a_question_is_about_few_codings(client: httpx.AsyncClient) -> None:
    await put(client, SYSTEM)
    sent = {"name": "valueSet", "resource": PLANTS}
    few = await client.post("ValueSet/$validate-code", **parameters(sent, concept(50)))
    assert few.status_code == 200, few.text
    for operation in ("ValueSet/$validate-code", "CodeSystem/$validate-code"):
        more = [sent] if operation.startswith("ValueSet") else []
        many = await client.post(operation, **parameters(*more, concept(51)))
        assert_outcome(many, 422, "too-costly", "50 codings")
    many = await client.post("ConceptMap/$translate", **parameters(concept(51)))
    assert_outcome(many, 422, "too-costly", "50 codings")


async def test_a_filter_is_short(client: httpx.AsyncClient) -> None:
    await put(client, SYSTEM)
    sent = {"name": "valueSet", "resource": PLANTS}
    for length, status in ((200, 200), (201, 400)):
        words = {"name": "filter", "valueString": ("o " * 200)[: length - 1] + "o"}
        answer = await client.post("ValueSet/$expand", **parameters(sent, words))
        assert answer.status_code == status, answer.text
    assert_outcome(answer, 400, "invalid", "200 characters")


def test_a_closure_table_that_is_too_large_is_refused_at_once() -> None:
    none = frozenset[str]()
    near = [Near(TREE, str(number), none, none) for number in range(40_000)]
    with ending(), pytest.raises(FhirError, match="2000 codes"):
        Table().add(near)


async def test_maps_that_stand_in_for_each_other_are_few(client: httpx.AsyncClient) -> None:
    def group(number: int) -> dict[str, Any]:
        other = {"mode": "other-map", "url": f"http://example.org/map{number}"}
        element = [{"code": "stone"}]
        return {"source": TREE, "target": "http://t", "element": element, "unmapped": other}

    def concept_map(count: int) -> dict[str, Any]:
        shape = {"resourceType": "ConceptMap", "status": "active", "url": "http://example.org/m"}
        return {**shape, "group": [group(number) for number in range(count)]}

    asked = {"name": "coding", "valueCoding": {"system": TREE, "code": "oak"}}
    for count, status in ((19, 200), (20, 422)):
        sent = {"name": "conceptMap", "resource": concept_map(count)}
        answer = await client.post("ConceptMap/$translate", **parameters(sent, asked))
        assert answer.status_code == status, answer.text
    assert_outcome(answer, 422, "too-costly", "20 maps")


async def test_a_claim_that_only_has_an_extension_is_told(client: httpx.AsyncClient) -> None:
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}
    extension = {"extension": [{**absent, "valueCode": "unknown"}]}
    meta = {"profile": [None], "_profile": [extension]}
    answer = await client.post(
        "Patient/$validate", **body({"resourceType": "Patient", "meta": meta})
    )
    assert answer.status_code == 200, answer.text
    assert "No errors" in outcome_issues(answer)[0]["diagnostics"]


@pytest.mark.parametrize("address", ["Bundle/$validate", "Bundle", "$process-message"])
async def test_a_large_body_is_checked_beside_the_loop(
    settings: Settings, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered meanwhile."""
    app = create_app(settings.model_copy(update={"operations": ("operations", "fhir_operations")}))
    threads: list[int] = []
    check = Checker.check

    def noted(checker: Checker, *given: Any, **more: Any) -> Findings:
        threads.append(threading.get_ident())
        return check(checker, *given, **more)

    monkeypatch.setattr(Checker, "check", noted)
    faulty = {"resource": {"resourceType": "Observation"}}  # so that nothing is stored
    sent = body({"resourceType": "Bundle", "type": "collection", "entry": [faulty] * 3000})
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            answer = await client.post(address, **sent)
    assert "status is missing" in answer.text
    assert threads
    assert threading.get_ident() not in threads
