"""Search parameters that are added at run time, as data: what they find, and when.

The oracle is R4 itself: each of its own definitions, added once more under another code, must
give the very values that it gives already.
"""

from contextlib import suppress
from random import Random
from typing import Any

import pytest

from fhir_server.fhir.definitions import lineage, resource_types
from fhir_server.search.extract import extract, indexed_parameters
from fhir_server.search.match import match
from fhir_server.search.parameters import (
    BUILT_IN,
    Account,
    Definition,
    ParameterSet,
    State,
    is_added,
)
from fhir_server.search.parse import parse
from fhir_server.search.paths import UnknownPath, routes
from tests.search import generate
from tests.storage.questions import BASE, NOW
from tests.work import ending

WORKED_OUT = ("composite", "special")
BY_GENDER = Definition("urn:x", "x", "token", "Patient.gender", ("Patient",))
BY_NAME = Definition("urn:x", "x", "string", "Patient.name.family", ("Patient",))


def ready(known: ParameterSet) -> ParameterSet:
    return known.begun(whole=False).finished()


def again(resource_type: str) -> dict[str, Definition]:
    """Definitions like those of the type's own parameters, by their codes."""
    return {
        code: Definition(
            one.url, f"x-{code}", one.type, one.expression, (resource_type,), one.targets
        )
        for code, one in indexed_parameters(resource_type).items()
        if one.type not in WORKED_OUT
        and code not in ("_lastUpdated", "deceased")
        and one.expression
    }


@pytest.mark.parametrize("resource_type", resource_types())
def test_r4_s_own_definitions_added_again_give_the_same_values(resource_type: str) -> None:
    definitions = again(resource_type)
    known = BUILT_IN
    for code, definition in definitions.items():
        known = known.defined(code, definition)
    known = ready(known)
    plain = {one.number: one.definition.code.removeprefix("x-") for one in known.account.added}
    reached = set()
    for seed in range(24):
        resource = generate.resource(resource_type, "r", Random(seed), 0.6)  # noqa: S311
        expected = {
            (code, value)
            for code, value in extract(resource)
            if code.partition(":")[0] in definitions
        }
        found = {(as_r4(plain, code), value) for code, value in known.values(resource)}
        assert found == expected
        reached |= {code for code, _ in found}
    assert len(reached) > len(definitions) / 2


def as_r4(plain: dict[int, str], index: str) -> str:
    """`x-name~3:text` as R4's `name:text`."""
    assert is_added(index)
    head, colon, modifier = index.partition(":")
    return f"{plain[int(head.rpartition('~')[2])]}{colon}{modifier}"


def test_a_definition_for_every_resource_is_for_every_type() -> None:
    by_language = Definition("urn:x", "x", "token", "Resource.language", ("Resource",))
    known = ready(BUILT_IN.defined("one", by_language))
    for resource_type in resource_types():
        assert "x" in known.indexed(resource_type)
        resource = {"resourceType": resource_type, "id": "r", "language": "cy"}
        (value,) = known.values(resource)
        assert value[0] == "x~1"


def test_a_definition_for_domain_resources_is_not_for_the_three_others() -> None:
    by_text = Definition("urn:x", "x", "token", "DomainResource.text.status", ("DomainResource",))
    known = ready(BUILT_IN.defined("one", by_text))
    without = {name for name in resource_types() if "x" not in known.indexed(name)}
    assert without == {"Binary", "Bundle", "Parameters"}
    assert all("DomainResource" not in lineage(name) for name in without)


def test_it_is_searched_only_when_it_is_ready() -> None:
    new = BUILT_IN.defined("one", BY_GENDER)
    building = new.begun(whole=False)
    male = {"resourceType": "Patient", "gender": "male"}
    for known, indexed, has_values in (
        (new, False, False),
        (building, False, True),
        (building.finished(), True, True),
        (building.finished().defined("one", None), False, False),
    ):
        assert ("x" in known.indexed("Patient")) is indexed
        assert bool(known.values(male)) is has_values
        assert known.is_searchable("x~1") is indexed
    assert "reindex" in (new.unready("Patient", "x") or "")
    assert "reindex" in (building.unready("Patient", "x") or "")
    assert building.finished().unready("Patient", "x") is None


def test_a_number_is_never_given_twice() -> None:
    known = ready(BUILT_IN.defined("one", BY_GENDER))
    first = known.account.added[0].number
    known = known.defined("one", None).defined("one", BY_NAME).defined("one", BY_GENDER)
    assert known.account.added[0].number > first
    assert known.account.added[0].state is State.NEW


def test_a_set_never_changes() -> None:
    known = BUILT_IN.defined("one", BY_GENDER)
    ready(known)
    assert [one.state for one in known.account.added] == [State.NEW]
    assert BUILT_IN.account == Account()
    assert BUILT_IN.indexed("Patient") is indexed_parameters("Patient")


def test_a_parameter_that_a_release_brings_takes_the_place_of_an_added_one() -> None:
    by_active = Definition("urn:x", "gender", "token", "Patient.active", ("Patient",))
    known = BUILT_IN.defined("one", by_active)
    assert known.unready("Patient", "gender") is None
    assert ready(known).indexed("Patient")["gender"].number == 0


def test_what_a_query_by_it_means_is_decided_in_memory_too() -> None:
    known = ready(BUILT_IN.defined("one", BY_GENDER))
    query = parse("Patient", [("x:not", "male")], base=BASE, now=NOW, known=known).query
    male, female = ({"resourceType": "Patient", "id": g, "gender": g} for g in ("male", "female"))
    assert not match(query.where, male, known=known)
    assert match(query.where, female, known=known)


# Expressions


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("Patient.extension('urn:x').value as string", [("extension", "valueString")]),
        ("Patient.extension('urn:x').value.ofType(date)", [("extension", "valueDate")]),
        ("Flag.status | Patient.gender", [("gender",)]),
        ("Flag.status", []),
        ("Patient.contact.name.family", [("contact", "name", "family")]),
        ("(Patient.deceased as dateTime)", [("deceasedDateTime",)]),
        ("Patient.name[0].given", [("name", "given")]),
    ],
)
def test_expressions_lead_along_properties(expression: str, names: list[tuple[str, ...]]) -> None:
    found = routes(expression, "Patient")
    assert [tuple(step.name for step in route.steps) for route in found] == names


def test_an_extension_is_told_by_its_address() -> None:
    (route,) = routes("Patient.extension('urn:x').value as string", "Patient")
    extensions: list[dict[str, Any]] = [
        {"url": "urn:x", "valueString": "a"},
        {"url": "urn:y", "valueString": "b"},
    ]
    assert route.values({"extension": extensions}) == ["a"]


HOSTILE = [
    *("", "(", ")", ".", "|", "Patient.", "Patient..name", "'Patient", "Patient name", "\x00"),
    *("Patient.name[", "Patient.name[-1]", "Patient.name['0']", "Patient[0]", "1", "as", "."),
    *("Patient.where(", "Patient.name.where(use)", "Patient.name.where(use='x').where(a='b')"),
    "Patient.link.other.where(resolve() is '.*')",
    "Patient.name.where(resolve() is [)",
    "Patient.extension(",
    "Patient.name[" + "9" * 1900 + "]",
    "(" * 1000 + "Patient" + ")" * 1000,
    "Patient.extension" + ".value.extension" * 100,
    "Patient" + ".contact" * 300,
    "Bundle.entry.resource",
]


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_an_expression_that_is_no_path_is_told_from_one_in_no_time(expression: str) -> None:
    with ending(), suppress(UnknownPath):
        assert routes(expression, "Patient") == ()
