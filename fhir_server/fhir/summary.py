"""A part of a resource, marked as one: what `_summary` and `_elements` ask for.

Sources: https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements.
Beyond what is asked for, id, meta, implicitRules, modifierExtension and whatever is mandatory
stay, so that the rest still is what it says. Members that stay whole are not even decoded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.definitions import ElementDefinition, is_resource_type, type_definition
from fhir_server.fhir.json import Resource

PARAMETERS: Final = ("_summary", "_elements")
SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}
_FORMS: Final = ("true", "text", "data", "count", "false")
_ALWAYS: Final = ("resourceType", "id", "meta", "implicitRules", "modifierExtension")
_KNOWN_ASKS: Final = 256
"""Answers to lists of elements that are kept at hand."""

Part = Callable[[Any], Any]
"""From a member's value to what is shown of it; empty where that is nothing."""

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Subset:
    """What is asked for: a form of summary, or elements as `name` or `Type.name`."""

    summary: str = "false"
    elements: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Only how many there are."""
        return self.summary == "count"

    def of(self, resource_type: str, body: bytes, *, included: bool = False) -> bytes:
        """The part of a stored resource, with the tag.

        A list of elements leaves `included` resources whole, unless it names their type.
        """
        if self.elements:
            names = _named(self.elements, "" if included else resource_type, resource_type)
            shown = _of_elements(resource_type, names) if names else None
        else:
            shown = _of_summary(resource_type, self.summary)
        return body if shown is None or not body else _shown(body, shown)


def asked(parameters: Iterable[tuple[str, str]], resource_type: str) -> Subset | None:
    """What `_summary` and `_elements` ask for, None for whole resources.

    `resource_type` is '' where there are several.

    Raises:
        FhirError: INVALID for values that they do not have, and for both at once.
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in PARAMETERS:
            if name in given:
                raise _at(name, f"'{name}' stands twice; it may stand once")
            given[name] = value
    if not given:
        return None
    return combined(
        summary_form(given["_summary"]) if "_summary" in given else None,
        element_names(given["_elements"], resource_type) if "_elements" in given else (),
    )


def combined(form: str | None, names: tuple[str, ...]) -> Subset | None:
    """The two parameters together.

    Raises:
        FhirError: INVALID, for two that ask for different parts.
    """
    if names and form in ("true", "text", "data"):
        raise _at("_elements", f"'_elements' and '_summary={form}' ask for two parts; give one")
    if names or form not in (None, "false"):
        return Subset(form or "false", names)
    return None


def summary_form(value: str) -> str:
    """A value of `_summary`.

    Raises:
        FhirError: INVALID.
    """
    if value not in _FORMS:
        raise _at("_summary", f"'_summary={value}' is not allowed; {', '.join(_FORMS)} are")
    return value


def element_names(value: str, resource_type: str) -> tuple[str, ...]:
    """The names in a value of `_elements`.

    Raises:
        FhirError: INVALID, for what is no element of its type.
    """
    return tuple(_checked(name.strip(), resource_type) for name in value.split(","))


def _checked(name: str, resource_type: str) -> str:
    owner, dot, element = name.partition(".")
    if not dot:
        owner, element = resource_type, name
    elif not is_resource_type(owner):
        raise _at(
            "_elements",
            f"'{name}' is not supported: an element of the resource itself is, such as "
            f"'{owner}', or with its type, such as 'Patient.name'",
        )
    if owner and not _elements_called(owner, element):
        known = sorted({one.base_name for one in type_definition(owner).elements.values()})
        raise _at(
            "_elements", f"'{element}' is not an element of {owner}; there are {', '.join(known)}"
        )
    return name


def refuse_subset(resource: Resource) -> None:
    """Raise for a part of a resource that comes back as if it were the whole.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    meta = resource.get("meta")
    tags = meta.get("tag", ()) if isinstance(meta, dict) else ()
    for index, tag in enumerate(tags):
        if tag.get("code") == SUBSETTED["code"] and tag.get("system") == SUBSETTED["system"]:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{resource['resourceType']}.meta.tag[{index}]",
                "The resource is marked as SUBSETTED: what it leaves out would be lost. Read it "
                "whole, without _summary and _elements, change that and send it",
            )


# --- the part of one resource ---------------------------------------------------------------


def _shown(body: bytes, parts: Mapping[str, Part | None]) -> bytes:
    members: dict[str, Any] = {}
    for name, raw in _members.decode(body).items():
        part = parts.get(name, _nothing)
        if part is None:
            members[name] = raw
        elif value := part(raw):
            members[name] = value
    return json.encode(members)


def _nothing(raw: Any) -> Any:
    del raw


def _tagged(raw: msgspec.Raw) -> Resource:
    """`meta` with the tag, last."""
    meta: Resource = json.decode_own(bytes(raw))
    return {**meta, "tag": [*meta.get("tag", ()), SUBSETTED]}


@cache
def _of_summary(resource_type: str, form: str) -> Mapping[str, Part | None] | None:
    elements = type_definition(resource_type).elements.values()
    match form:
        case "true":
            kept = [one for one in elements if one.summary or one.min]
            return _with_always({one.name: _summary_part(one) for one in kept})
        case "text":
            return _with_always(_whole(one for one in elements if one.min or one.name == "text"))
        case "data":
            return _with_always(_whole(one for one in elements if one.name != "text"))
    return None


@lru_cache(maxsize=_KNOWN_ASKS)
def _of_elements(resource_type: str, names: tuple[str, ...]) -> Mapping[str, Part | None]:
    elements = type_definition(resource_type).elements.values()
    wanted = {one.name for name in names for one in _elements_called(resource_type, name)}
    return _with_always(_whole(one for one in elements if one.min or one.name in wanted))


def _named(elements: Sequence[str], bare_type: str, resource_type: str) -> tuple[str, ...]:
    """Those of the names that are about this type; bare ones only where they are."""
    split = [name.rpartition(".") for name in elements]
    return tuple(
        name for owner, _, name in split if owner == resource_type or (not owner and bare_type)
    )


def _elements_called(resource_type: str, name: str) -> list[ElementDefinition]:
    """By JSON name, or a choice by `value` or `value[x]`."""
    return [
        element
        for element in type_definition(resource_type).elements.values()
        if name in (element.name, element.base_name, f"{element.base_name}[x]")
    ]


def _whole(elements: Iterable[ElementDefinition]) -> dict[str, Part | None]:
    return {element.name: None for element in elements}


def _with_always(parts: dict[str, Part | None]) -> Mapping[str, Part | None]:
    siblings = {f"_{name}": None for name, part in parts.items() if part is None}
    return {**siblings, **parts, **dict.fromkeys(_ALWAYS, None), "meta": _tagged}


# --- the summary of what is within ----------------------------------------------------------


def _summary_part(element: ElementDefinition) -> Part | None:
    if element.type == "Resource" or type_definition(element.type).kind == "primitive":
        return None
    type_name, mandatory = element.type, element.min > 0

    def part(raw: msgspec.Raw) -> Any:
        return _summary(json.decode_own(bytes(raw)), type_name, mandatory=mandatory)

    return part


def _summary(value: Any, type_name: str, *, mandatory: bool) -> Any:
    """The summary of an object or of each in an array; what is mandatory is never empty."""
    if isinstance(value, list):
        items = [_summary(item, type_name, mandatory=mandatory) for item in value]
        return [item for item in items if item]
    inner = _inner(type_name)
    kept = {}
    for name, member in value.items():
        if name not in inner:
            continue
        inner_type, inner_mandatory = inner[name]
        part = _summary(member, inner_type, mandatory=inner_mandatory) if inner_type else member
        if part or not inner_type:
            kept[name] = part
    return kept or (value if mandatory else {})


@cache
def _inner(type_name: str) -> Mapping[str, tuple[str, bool]]:
    """What stays of a type: a member's type, '' where it stays whole, and if it is mandatory."""
    table = {"modifierExtension": ("", False)}
    for element in type_definition(type_name).elements.values():
        if not (element.summary or element.min):
            continue
        if element.type == "Resource" or type_definition(element.type).kind == "primitive":
            table[element.name] = table[f"_{element.name}"] = ("", element.min > 0)
        else:
            table[element.name] = (element.type, element.min > 0)
    return table


def _at(name: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, f"http.{name}", text)
