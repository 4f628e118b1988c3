"""Small profiles for tests: a differential, a checker that knows it, and what it finds."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir_server.errors import Issue
from fhir_server.validation.checker import Checker, Policy
from fhir_server.validation.codes import Codes
from fhir_server.validation.profiles.library import Library

R4: Final = "http://hl7.org/fhir/StructureDefinition/"
URL: Final = "http://example.org/StructureDefinition/p"
Json = dict[str, Any]


def profile(
    type_name: str, *elements: Json, url: str = URL, base: str = "", **more: Any
) -> dict[str, Any]:
    """A StructureDefinition; an element is told by its `id`, and its path follows."""
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "type": type_name,
        "kind": "resource",
        "derivation": "constraint",
        "baseDefinition": base or R4 + type_name,
        "differential": {"element": [_placed(element) for element in elements]},
        **more,
    }


def _placed(element: Json) -> Json:
    parts = [part.partition(":") for part in element["id"].split(".")]
    path = ".".join(name for name, _, _ in parts)
    slice_name = parts[-1][2]
    return {"path": path} | ({"sliceName": slice_name} if slice_name else {}) | element


def checker(*definitions: Mapping[str, Any], codes: Codes | None = None, **policy: Any) -> Checker:
    given = Policy(**({"requirements": {}} | policy))
    return Checker(Library(definitions), codes, given)


def found(
    resource: Mapping[str, Any],
    *definitions: Mapping[str, Any],
    codes: Codes | None = None,
    profiles: Sequence[str] = (URL,),
) -> list[tuple[str | None, str | None, str]]:
    """(expression, rule, severity) of whatever profiles find, the first of which is asked for."""
    issues = checker(*definitions, codes=codes).check(resource, profiles=profiles).issues
    return [(each.expression, each.rule, each.severity) for each in issues if each.profile]


def errors(checker_: Checker, resource: Mapping[str, Any]) -> list[Issue]:
    return checker_.check(resource).errors
