"""The rules of the project's profiles as FHIRPath, for fhirpathpy to judge examples by.

A second reading of the differentials beside the server's checker, so that an example is right by
an engine that we did not write. Only what the profiles use is read: anything else raises.
Source: https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import fhirpathpy
from fhirpathpy.models import models

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES, type_definition
from tests.support import REPOSITORY

Element = Mapping[str, Any]
FOLDERS: Final = sorted(path.parent for path in PROFILES.glob("*/profile.json"))
TERMINOLOGY: Final = REPOSITORY / "terminology"
_VALUE_SET: Final = f"{canonicals.KW}/ValueSet/"
_R4: Final = "http://hl7.org/fhir/StructureDefinition/"


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` is the key of an invariant, or an element's id and what is said of it.

    `expression` is of the resource; a `profile` is that of an element instead.
    """

    name: str
    severity: str
    expression: str
    profile: str | None = None

    @property
    def slug(self) -> str:
        """As an invalid example is named after it."""
        if " " not in self.name:
            return self.name
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name.partition(".")[2]).strip("-")


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@cache
def definition(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load(PROFILES / name / "profile.json")
    return found


def own(canonical: str) -> str | None:
    """The folder of one of the project's definitions."""
    name = canonical.removeprefix(f"{canonicals.KW}/StructureDefinition/")
    return None if name == canonical else name


def is_extension(name: str) -> bool:
    return bool(definition(name)["type"] == "Extension")


def elements(name: str) -> list[Element]:
    found: list[Element] = definition(name)["differential"]["element"]
    return found


def lineage(name: str) -> Iterator[str]:
    """The definition and those of ours that it stands on."""
    yield name
    parent = own(definition(name)["baseDefinition"])
    if parent:
        yield from lineage(parent)


@cache
def rules(name: str) -> tuple[Rule, ...]:
    """What the definition itself adds."""
    return tuple(rule for element in elements(name) for rule in _rules(name, element))


def all_rules(name: str) -> list[Rule]:
    return [rule for one in lineage(name) for rule in rules(one)]


def _rules(name: str, element: Element) -> Iterator[Rule]:
    for read in (_cardinality, _types, _pattern, _binding):
        yield from read(name, element)
    node = node_path(name, element["id"])
    for constraint in element.get("constraint", ()):
        expression = f"{node}.all({constraint['expression']})"
        yield Rule(constraint["key"], constraint["severity"], expression)


def _cardinality(name: str, element: Element) -> Iterator[Rule]:
    if not ({"min", "max"} & element.keys()):
        return
    parent, _, _ = element["id"].rpartition(".")
    holder, step = node_path(name, parent), _step(name, element["id"])
    for kind, operator in (("min", ">="), ("max", "<=")):
        if kind in element:
            count = f"{holder}.all({step}.count() {operator} {element[kind]})"
            yield Rule(f"{element['id']} {kind}", "error", count)


def _types(name: str, element: Element) -> Iterator[Rule]:
    node, types = node_path(name, element["id"]), element.get("type", [])
    if any("targetProfile" in one for one in types):
        targets = "|".join(
            target.removeprefix(_R4) for one in types for target in one["targetProfile"]
        )
        pointed = f"reference.empty() or reference.matches('^(urn:uuid:|(.*/)?({targets})/)')"
        yield Rule(f"{element['id']} target", "error", f"{node}.all({pointed})")
    elif any("profile" in one for one in types):
        if element["id"].endswith(".resource"):
            (profile,) = types[0]["profile"]
            yield Rule(f"{element['id']} profile", "error", node, own(profile))
    elif types:
        (kind,) = (one["code"] for one in types)
        yield Rule(f"{element['id']} type", "error", f"{node}.all($this is {kind})")


def _pattern(name: str, element: Element) -> Iterator[Rule]:
    """Where it does not only say which entries a slice is of.

    On a slice of the base it says so more narrowly: what is left out is not in the slice.
    """
    value = _valued(element, "pattern")
    if value is None or ("sliceName" in element and _slicing(name, element["id"])[0]):
        return
    node = node_path(name, element["id"])
    if "sliceName" in element:
        yield Rule(f"{element['id']} slice", "error", f"{node}.where({_like(value)}).exists()")
    else:
        yield Rule(f"{element['id']} pattern", "error", f"{node}.all({_like(value)})")


def _valued(element: Element, prefix: str) -> Any:
    return next((value for key, value in element.items() if key.startswith(prefix)), None)


def _like(value: Any) -> str:
    """Whether $this has what the pattern has."""
    if isinstance(value, str):
        return f"$this = '{value}'"
    if "coding" in value:
        (coding,) = value["coding"]
        return f"coding.where({_like(coding)}).exists()"
    return " and ".join(f"{key} = '{text}'" for key, text in value.items())


def _binding(name: str, element: Element) -> Iterator[Rule]:
    binding = element.get("binding")
    if not binding:
        return
    systems = codes_of(binding["valueSet"])
    within = " or ".join(f"(system = '{one}' and {_among(codes)})" for one, codes in systems)
    kind = _type_of(element)
    if binding["strength"] == "extensible":
        known = " or ".join(f"system = '{system}'" for system, _ in systems)
        test, severity = f"coding.where(({known}) and ({within}).not()).empty()", "warning"
    else:
        any_system = [code for _, codes in systems for code in codes]
        test = {
            "CodeableConcept": f"coding.where({within}).exists()",
            "Coding": within,
            "code": _among(any_system, "$this"),
        }[kind]
        severity = "error"
    node = node_path(name, element["id"])
    # An element of another type breaks another rule.
    of_type = f"{node}.where($this is {kind})" if "[x]" in element["id"] else node
    yield Rule(f"{element['id']} binding", severity, f"{of_type}.all({test})")


def _among(codes: list[str], what: str = "code") -> str:
    return f"({what} in ({' | '.join(repr(code) for code in codes)}))"


def _type_of(element: Element) -> str:
    if element.get("type"):
        return str(element["type"][0]["code"])
    return element_type(element["path"])


def element_type(path: str) -> str:
    """R4's type of `CarePlan.activity.detail.code`; KeyError where R4 has no such path."""
    name, *steps = path.split(".")
    for step in steps:
        name = type_definition(name).elements[step].type
    return name


@cache
def codes_of(canonical: str) -> list[tuple[str, list[str]]]:
    """The codes of one of the project's value sets, by system.

    One that has no file is all codes of the code system of the same name.
    """
    name = canonical.removeprefix(_VALUE_SET)
    path = TERMINOLOGY / f"ValueSet-{name}.json"
    include = load(path)["compose"]["include"] if path.exists() else [_system(name)]
    return [(part["system"], _included(part)) for part in include]


def _system(name: str) -> dict[str, Any]:
    return {"system": canonicals.code_system(name)}


def _included(part: Mapping[str, Any]) -> list[str]:
    concepts = part.get("concept")
    if concepts is None:
        name = part["system"].rpartition("/")[2]
        concepts = load(TERMINOLOGY / f"CodeSystem-{name}.json")["concept"]
    return [concept["code"] for concept in concepts]


def node_path(name: str, element_id: str) -> str:
    """The element as FHIRPath from the resource: slices are what their discriminators say."""
    root, *steps = element_id.split(".")
    path = root if root != "Extension" else _extension_path(name)
    for depth, _ in enumerate(steps, 1):
        path += "." + _step(name, ".".join([root, *steps[:depth]]))
    return path


def _extension_path(name: str) -> str:
    """From the resource of its context: of most that is the resource itself."""
    _, *within = definition(name)["context"][0]["expression"].split(".")
    return ".".join([*within, f"extension.where(url = '{definition(name)['url']}')"])


def _step(name: str, element_id: str) -> str:
    last = element_id.rpartition(".")[2]
    step, _, sliced = last.removesuffix("[x]").partition(":")
    return f"{step}.where({_is_of_slice(name, element_id)})" if sliced else step


def _is_of_slice(name: str, element_id: str) -> str:
    slicing, owner = _slicing_of(name, element_id)
    (discriminator,) = slicing["discriminator"]
    found = {element["id"]: element for element in elements(owner)}
    match discriminator:
        case {"type": "value", "path": "url"} if "type" in found[element_id]:
            return f"url = '{found[element_id]['type'][0]['profile'][0]}'"
        case {"type": "value", "path": path}:
            return f"{path} = '{_valued(found[f'{element_id}.{path}'], 'fixed')}'"
        case {"type": "pattern", "path": "$this"}:
            return _like(_valued(found[element_id], "pattern"))
        case {"type": "type", "path": "resource"}:
            return f"resource is {found[f'{element_id}.resource']['type'][0]['code']}"
    raise NotImplementedError(discriminator)


def _slicing(name: str, element_id: str) -> tuple[Element | None, str]:
    sliced = element_id.rpartition(":")[0]
    found = (one["slicing"] for one in elements(name) if one["id"] == sliced and "slicing" in one)
    return next(found, None), name


def _slicing_of(name: str, element_id: str) -> tuple[Element, str]:
    """Of the definition itself, or of the one of ours that it stands on."""
    for one in lineage(name):
        slicing, owner = _slicing(one, element_id)
        if slicing:
            return slicing, owner
    raise LookupError(f"{name}: {element_id} is a slice of nothing")


def undecided(name: str, resource: Mapping[str, Any]) -> list[str]:
    """Keys of invariants that come to neither true nor false, where engines differ."""
    return [
        constraint["key"]
        for element in elements(name)
        for constraint in element.get("constraint", ())
        if not _is_decided(node_path(name, element["id"]), constraint["expression"], resource)
    ]


def _is_decided(node: str, expression: str, resource: Mapping[str, Any]) -> bool:
    decided = f"{node}.select({expression}).count() = {node}.count()"
    return _compiled(decided)(resource, {"resource": resource}) == [True]


@cache
def _compiled(expression: str) -> Callable[..., list[Any]]:
    compiled: Callable[..., list[Any]] = fhirpathpy.compile(expression, models["r4"])
    return compiled


def holds(rule: Rule, resource: Mapping[str, Any]) -> bool:
    found = _compiled(rule.expression)(resource, {"resource": resource})
    if rule.profile:
        return not [one for node in found for one in broken(rule.profile, node)]
    return found == [True]


def broken(name: str, resource: Mapping[str, Any]) -> list[str]:
    """Names of the rules that the resource breaks."""
    return [rule.name for rule in all_rules(name) if not holds(rule, resource)]
