"""R4's official resources and single changes of them: the checker agrees with fhir.resources.

Where the two differ is in one table with the reasons, and nowhere else; the checker names the
place of each change. The nightly form asks every resource of the packages and tries each change
of each element three times; this one asks some and tries a part of the changes once.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final
from zlib import crc32

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.structure import check_resource
from tests.support import PACKAGE, SHARED, VALID
from tests.validation.mutating import HARMLESS, Mutation, mutations
from tests.validation.test_official import FULL, packaged

Json = dict[str, Any]
EACH: Final = 3 if FULL else 1
"""How often a change of an element is tried, each time in another resource."""
PART: Final = 1 if FULL else 4
"""One of so many changes is tried."""
STRUCTURE: Final = ("structure", "required", "value", "code-invalid")
"""Issue types; the others are of invariants and of references, which R4B does not check."""
ANY: Final = "*"

DIFFER: Final[dict[tuple[str, str], str]] = {
    # Accepted by fhir.resources.
    ("null", ANY): "takes null as left out",
    ("empty array", ANY): "takes an empty array as left out",
    ("empty value", "an object"): "takes an empty object where nothing in it is required",
    ("empty value", "base64Binary"): "knows no least length",
    ("empty value", "canonical"): "knows no least length",
    ("empty value", "markdown"): "knows no least length",
    ("empty value", "uri"): "knows no least length",
    ("empty value", "url"): "knows no least length",
    ("empty value", "xhtml"): "does not read the XHTML",
    ("format", "boolean"): "takes the string 'true'",
    ("format", "canonical"): "takes any string",
    ("format", "decimal"): "takes a string of digits",
    ("format", "markdown"): "takes control characters",
    ("format", "string"): "takes control characters",
    ("format", "uri"): "takes any string",
    ("format", "url"): "takes any string",
    ("format", "xhtml"): "does not read the XHTML",
    ("no such code", ANY): "takes any code: it does not check bindings",
    ("no such sibling", "xhtml"): "gives XHTML a sibling; R4 lets it have no extensions",
    ("wrong type", "dateTime"): "takes a number as seconds since 1970",
    ("wrong type", "instant"): "takes a number as seconds since 1970",
    ("wrong type", "time"): "takes a number as seconds since midnight",
    # Refused by fhir.resources.
    ("extended", "Extension.value[x]"): "has no siblings of an extension's value",
}
"""What was done, and to which type or element -> why fhir.resources says otherwise than R4."""
UNCHANGED: Final[dict[tuple[str, str], str]] = {
    ("_value[x]", "extra_forbidden"): "has no siblings of an extension's value",
    ("code", "string_pattern_mismatch"): "takes a no-break space as white space; R4 does not",
    ("SearchParameter.id", "value"): "takes an id of any length",
}
"""In official resources as they are: element and type of the error -> why R4B or we refuse."""


@cache
def resources() -> tuple[Json, ...]:
    folders = (PROFILES.glob("*/examples/valid-*.json"), VALID.glob("*.json"))
    examples = (SHARED / "examples").glob("*.json")
    files = [path for each in (*folders, examples) for path in sorted(each)]
    return tuple(json.decode_resource(path.read_bytes()) for path in files)


def corpus() -> Iterator[Json]:
    yield from resources()
    if PACKAGE.exists():
        yield from packaged()


def refusals(resource: Json) -> set[tuple[str, str]]:
    """What R4B's models say: the last step of each place, and pydantic's type of error."""
    model = get_fhir_model_class(resource["resourceType"])
    try:
        model.model_validate_json(json.encode(resource))
    except ValidationError as error:
        return {(_named(each["loc"]), each["type"]) for each in error.errors()}
    except (AttributeError, TypeError):
        return {("", "it fails itself")}  # at some values of another JSON type
    return set()


def _named(place: tuple[int | str, ...]) -> str:
    name = next((step for step in reversed(place) if isinstance(step, str)), "")
    return re.sub(r"^_value[A-Z]\w*$", "_value[x]", name)


def problems(resource: Json) -> list[Issue]:
    return [issue for issue in check_resource(resource) if issue.code in STRUCTURE]


def chosen() -> Iterator[tuple[Json, Mutation]]:
    """Of each resource that both accept, the changes that were not tried often enough."""
    tried: dict[tuple[str, str, str], int] = {}
    for resource in corpus():
        if problems(resource) or refusals(resource):
            continue
        found: dict[tuple[str, str, str], Mutation] = {}
        for each in mutations(resource):
            key = (each.kind, each.type, each.element)
            if crc32(repr(key).encode()) % PART == 0 and tried.get(key, 0) < EACH:
                found[key] = each
        for key, each in found.items():
            tried[key] = tried.get(key, 0) + 1
            yield resource, each


def _row(each: Mutation) -> tuple[str, str]:
    """Where a difference stands in the table."""
    if (each.kind, ANY) in DIFFER:
        return each.kind, ANY
    is_value = each.kind == "extended" and each.element.startswith("Extension.value")
    return each.kind, "Extension.value[x]" if is_value else each.type


class Tally:
    """What came of the changes: where the two differ, and what the checker said that is wrong."""

    def __init__(self) -> None:
        self.tried: dict[str, int] = {}
        self.differ: dict[tuple[str, str], Mutation] = {}
        self.wrong: list[tuple[Mutation, list[Issue]]] = []
        self.misplaced: list[tuple[Mutation, list[Issue]]] = []

    def add(self, resource: Json, each: Mutation) -> None:
        changed = each.apply(resource)
        found = problems(changed)
        self.tried[each.kind] = self.tried.get(each.kind, 0) + 1
        if bool(found) == (each.kind in HARMLESS):
            self.wrong.append((each, found))
        if found and {issue.expression for issue in found} != {each.place}:
            self.misplaced.append((each, found))
        if bool(found) != bool(refusals(changed)):
            self.differ.setdefault(_row(each), each)


@pytest.fixture(scope="module")
def tally() -> Tally:
    found = Tally()
    for resource, each in chosen():
        found.add(resource, each)
    return found


def test_official_resources_as_they_are() -> None:
    found: set[tuple[str, str]] = set()
    for resource in corpus():
        ours = {(str(issue.expression), str(issue.code)) for issue in problems(resource)}
        theirs = refusals(resource)
        if not (ours and theirs):
            found |= ours | theirs
    assert found <= UNCHANGED.keys()
    if FULL:
        assert found == UNCHANGED.keys()


def test_the_checker_refuses_what_breaks_r4_and_only_that(tally: Tally) -> None:
    assert tally.wrong == []


def test_the_place_that_it_names_is_the_one_that_was_changed(tally: Tally) -> None:
    assert tally.misplaced == []


def test_it_differs_from_fhir_resources_only_as_the_table_says(tally: Tally) -> None:
    assert {row: each for row, each in tally.differ.items() if row not in DIFFER} == {}
    if FULL:
        assert tally.differ.keys() == DIFFER.keys()


def test_every_kind_of_change_is_tried(tally: Tally) -> None:
    assert len(tally.tried) == 14
    assert sum(tally.tried.values()) > 300
