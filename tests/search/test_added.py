"""SearchParameter resources that clients bring, R4's own among them.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

import json
import tarfile
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.fhir.definitions import search_parameters
from fhir_server.search.added import redefined
from fhir_server.search.parameters import BUILT_IN
from tests.support import PACKAGE, needs_package

REFUSED = ("'composite' is", "'special' is", "'phonetic' is", "no expression", "to Extension in")
"""What a client's may not be, among R4's own."""
OUTSIDE = (
    "Bundle-composition",
    "Bundle-message",
    "Patient-deceased",
    "Resource-lastUpdated",
    "example-extension",
    "questionnaireresponse-extensions-QuestionnaireResponse-item-subject",
)
"""Their values lie in another resource, are worked out, are the server's, are in one of two types
alone, or are found by a function."""


@cache
def brought() -> tuple[dict[str, Any], ...]:
    return tuple(_brought())


def _brought() -> Iterator[dict[str, Any]]:
    with tarfile.open(PACKAGE) as package:
        for member in package:
            if "/SearchParameter-" in member.name:
                content = package.extractfile(member)
                assert content is not None
                resource = json.load(content)
                if resource.get("base"):
                    yield {**resource, "status": "active"}


def is_r4_s(resource: dict[str, Any]) -> bool:
    """Whether the server has it by itself; some in the package are examples, or on extensions."""
    known = (search_parameters(base) for base in resource["base"] if base[-8:] != "Resource")
    return all(
        resource["code"] in parameters and parameters[resource["code"]].url == resource["url"]
        for parameters in known
    )


@needs_package
def test_what_describes_a_parameter_of_the_server_changes_nothing() -> None:
    own = [one for one in brought() if is_r4_s(one) and one["id"] != "example"]
    assert len(own) > 1300
    assert all(redefined(BUILT_IN, one["id"], one) is BUILT_IN for one in own)


@needs_package
def test_under_another_code_nearly_every_one_of_r4_can_be_added() -> None:
    refusals = {one["id"]: refusal(one) for one in brought()}
    unforeseen = {
        name: text
        for name, text in refusals.items()
        if text and name not in OUTSIDE and not any(known in text for known in REFUSED)
    }
    assert unforeseen == {}
    assert sum(not text for text in refusals.values()) > 1300


def refusal(one: dict[str, Any]) -> str:
    """Why it cannot be added under a code of its own; '' where it can."""
    code = "x-" + "".join(char for char in one["code"] if char.isalnum())
    try:
        redefined(BUILT_IN, one["id"], {**one, "url": "urn:x", "code": code})
    except FhirError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("status", ["draft", "retired", "unknown"])
def test_only_active_ones_take_effect(status: str) -> None:
    resource = {
        "status": status,
        "url": "urn:x",
        "code": "x",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.gender",
    }
    assert redefined(BUILT_IN, "one", resource) is BUILT_IN
    changed = redefined(BUILT_IN, "one", {**resource, "status": "active"})
    assert [one.id for one in changed.account.added] == ["one"]
    assert redefined(changed, "one", resource).account.added == ()
    assert redefined(changed, "one", None).account.added == ()
