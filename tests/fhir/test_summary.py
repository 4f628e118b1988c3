"""Parts of resources: https://hl7.org/fhir/R4/search.html#summary"""

from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhir.definitions import resource_types, type_definition
from fhir_server.fhir.summary import SUBSETTED, Subset, asked
from fhir_server.validation.structure import check_resource
from tests.support import VALID, official_examples

REAL: Final = [
    *(pytest.param(path, id=path.stem) for path in sorted(VALID.glob("*.json"))),
    *official_examples(),
]
PARTS: Final = [Subset("true"), Subset("text"), Subset("data"), Subset(elements=("id",))]


def _within(part: Any, whole: Any) -> bool:
    """Whether the part says nothing that the whole does not say."""
    if isinstance(part, dict):
        return all(name in whole and _within(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        rest = iter(whole)
        return all(any(_within(item, other) for other in rest) for item in part)
    return bool(part == whole)


@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize("subset", PARTS, ids=lambda part: part.summary)
def test_a_part_of_a_valid_resource_is_valid_and_says_nothing_else(
    path: Path, subset: Subset
) -> None:
    whole = {"id": "x", "meta": {"versionId": "1"}, **json.decode_resource(path.read_bytes())}
    part = json.decode_resource(subset.of(whole["resourceType"], json.encode(whole)))
    assert part["meta"]["tag"].pop() == SUBSETTED
    part["meta"] = {name: value for name, value in part["meta"].items() if value}
    assert _within(part, whole)
    # What a part leaves out may be what an invariant, or the type of the Bundle, asks for.
    told = check_resource(part)
    assert [i for i in told if i.code != "invariant" and i.expression != "Bundle.entry"] == []


def test_every_type_has_a_part_of_every_form() -> None:
    for name in resource_types():
        body = json.encode({"resourceType": name, "id": "x", "meta": {"versionId": "1"}})
        for subset in PARTS:
            assert json.decode(subset.of(name, body))["meta"]["tag"] == [SUBSETTED]


def test_the_tables_know_the_elements_of_the_summary() -> None:
    elements = type_definition("Patient").elements
    assert elements["birthDate"].summary
    assert not elements["contact"].summary
    assert not elements["text"].summary
    assert type_definition("Attachment").elements["url"].summary
    assert not type_definition("Attachment").elements["data"].summary


def test_what_holds_only_extensions_is_left_out_unless_it_is_mandatory() -> None:
    only = {"extension": [{"url": "http://example.org/x", "valueCode": "y"}]}
    observation = {"resourceType": "Observation", "meta": {}, "code": only, "method": only}
    observation |= {"status": "final", "subject": only}
    part = json.decode(Subset("true").of("Observation", json.encode(observation)))
    assert part["code"] == only
    assert "subject" not in part


def test_nothing_that_is_asked_for_is_no_part() -> None:
    assert asked([("_summary", "false"), ("family", "x")], "Patient") is None
    assert asked([], "Patient") is None


def test_a_deletion_has_no_part() -> None:
    assert Subset("true").of("Patient", b"") == b""
