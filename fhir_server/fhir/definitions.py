"""What FHIR R4 defines: types, elements, search parameters, compartments and codes.

The tables come from HL7's package `hl7.fhir.r4.core` 4.0.1 (see SOURCES.md); nothing is read
before it is first asked for, and an entry of a table is decoded when its type is first used.

Sources: elements https://hl7.org/fhir/R4/elementdefinition.html, JSON names of choices
https://hl7.org/fhir/R4/json.html, search parameters
https://hl7.org/fhir/R4/searchparameter-registry.html, compartments
https://hl7.org/fhir/R4/compartmentdefinition.html, required bindings
https://hl7.org/fhir/R4/terminologies.html#strength. The project's own search parameters stand in
`profiles/search-parameters` (https://hl7.org/fhir/R4/searchparameter.html).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from sys import intern
from types import MappingProxyType
from typing import Final

import msgspec

from fhir_server.fhir.tables import mapped

_CHOICE: Final = "[x]"
_DATA: Final = Path(__file__).with_name("data")
PROFILES: Final = Path(__file__).parents[2] / "profiles"
"""Beside the packages, in a checkout and where they are installed."""


@dataclass(frozen=True, slots=True)
class ElementDefinition:
    """One JSON property of a type; a choice of types has one for each type.

    `type` is a FHIR type code, the path of a backbone element (`Patient.contact`) or `Resource`.
    `max` is None for `*`; `min` of a choice is that of the whole choice.
    `targets` are the resource types that a Reference or canonical may point to, () for any.
    `value_set` is the canonical, without version, of a required binding. `summary` elements are
    those of https://hl7.org/fhir/R4/search.html#summary.
    """

    name: str
    base_name: str
    type: str
    min: int
    max: int | None
    repeats: bool
    targets: tuple[str, ...]
    value_set: str | None
    summary: bool
    owner: str
    """The type or backbone that brings it, which may be a base of the one that was asked for."""


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A type of https://hl7.org/fhir/R4/datatypes.html or resourcelist.html, or a backbone.

    `kind` is resource, datatype, primitive or backbone. `elements` go by JSON property name in
    the standard's order; `choices` give for `value` the names `valueString`, `valueQuantity`...
    A primitive has the elements of its `_name` sibling: `id` and `extension`.
    """

    name: str
    kind: str
    elements: Mapping[str, ElementDefinition]
    choices: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """A search parameter as it applies to one resource type.

    `expression` holds only the branches for that type and is '' where the standard has none.
    `components` of a composite are (definition's address, expression) from the same place.
    `number` tells one that was added at run time from whatever had its code before or after it.
    """

    code: str
    type: str
    url: str
    expression: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    number: int = 0

    @property
    def index(self) -> str:
        """The code under which its values stand in the index."""
        return f"{self.code}~{self.number}" if self.number else self.code


class _ElementRow(msgspec.Struct, array_like=True, frozen=True):
    name: str
    min: int
    max: int | None
    types: tuple[tuple[str, ...], ...]
    value_set: str | None
    summary: bool = False


class _TypeEntry(msgspec.Struct, frozen=True):
    kind: str
    base: str
    elements: tuple[_ElementRow, ...]


class _ParameterRow(msgspec.Struct, array_like=True, frozen=True):
    code: str
    type: str
    url: str
    expression: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...]


class _ParameterFile(msgspec.Struct, frozen=True):
    """What is read of a SearchParameter resource."""

    code: str
    type: str
    url: str
    expression: str
    base: tuple[str, ...]
    target: tuple[str, ...] = ()


@cache
def _table(name: str) -> dict[str, msgspec.Raw]:
    """A table with each entry still undecoded."""
    return mapped(_DATA / f"{name}.json")


@cache
def resource_types() -> tuple[str, ...]:
    """The 146 resource types that a resource can have, sorted."""
    return tuple(sorted(_table("resource-types")))


def is_resource_type(name: str) -> bool:
    return name in _table("resource-types")


@cache
def type_definition(name: str) -> TypeDefinition:
    """A resource, data type, primitive or backbone path; KeyError where R4 has none."""
    rows = tuple(_rows(name))
    elements = {element.name: element for owner, row in rows for element in _elements(owner, row)}
    choices = {
        row.name.removesuffix(_CHOICE): tuple(element.name for element in _elements(owner, row))
        for owner, row in rows
        if row.name.endswith(_CHOICE)
    }
    return TypeDefinition(
        name, _type_entry(name).kind, MappingProxyType(elements), MappingProxyType(choices)
    )


@lru_cache(maxsize=32)  # those of the bases are asked for again and again
def _type_entry(name: str) -> _TypeEntry:
    return msgspec.json.decode(_table("types")[name], type=_TypeEntry)


@cache
def base_type(name: str) -> str:
    """The type that it specialises: `DomainResource` of `Patient`, '' of `Element` and `Resource`.

    Every primitive has `Element`, as in the table of elements; a backbone has `BackboneElement`
    or `Element`. KeyError for an unknown type.
    """
    return _type_entry(name).base


def _rows(name: str) -> Iterator[tuple[str, _ElementRow]]:
    """With the type that brings them; those of the base come first, as in the standard."""
    entry = _type_entry(name)
    if entry.base:
        yield from _rows(entry.base)
    for row in entry.elements:
        yield name, row


def _elements(owner: str, row: _ElementRow) -> Iterator[ElementDefinition]:
    base_name = row.name.removesuffix(_CHOICE)
    for type_, *targets in row.types:
        yield ElementDefinition(
            name=row.name.replace(_CHOICE, type_[0].upper() + type_[1:]),
            base_name=base_name,
            type=type_,
            min=row.min,
            max=row.max,
            repeats=row.max != 1,
            targets=tuple(targets),
            value_set=row.value_set,
            summary=row.summary,
            owner=owner,
        )


@cache
def search_parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """By code, with those of Resource and DomainResource; KeyError for an unknown type."""
    return MappingProxyType(
        {
            parameter.code: parameter
            for owner in lineage(resource_type)
            for parameter in (*project_parameters().get(owner, ()), *_own_parameters(owner))
        }
    )


@cache
def lineage(resource_type: str) -> tuple[str, ...]:
    """The types whose search parameters it has; KeyError for an unknown type."""
    base = msgspec.json.decode(_table("resource-types")[resource_type], type=str)
    return ("Resource", *(["DomainResource"] if base == "DomainResource" else ()), resource_type)


@cache
def _own_parameters(owner: str) -> tuple[SearchParameter, ...]:
    raw = _table("search-parameters").get(owner)
    rows = msgspec.json.decode(raw, type=tuple[_ParameterRow, ...]) if raw else ()
    return tuple(
        SearchParameter(
            row.code,
            row.type,
            row.url,
            row.expression,
            tuple(map(intern, row.targets)),  # of 146 types, thousands of times
            row.components,
        )
        for row in rows
    )


@cache
def project_parameters() -> Mapping[str, tuple[SearchParameter, ...]]:
    """The project's own search parameters, by the type that has them.

    Raises:
        RuntimeError: when the files are not there: a search would refuse what it should find.
    """
    found: dict[str, list[SearchParameter]] = {}
    for path in sorted((PROFILES / "search-parameters").glob("*.json")):
        row = msgspec.json.decode(path.read_bytes(), type=_ParameterFile)
        parameter = SearchParameter(row.code, row.type, row.url, row.expression, row.target, ())
        for base in row.base:
            found.setdefault(base, []).append(parameter)
    if not found:
        raise RuntimeError(f"There are no search parameters in {PROFILES}; install the server anew")
    return MappingProxyType({base: tuple(parameters) for base, parameters in found.items()})


@cache
def compartments() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Compartment -> resource type -> the search parameters that place it there.

    `{def}` stands for the resource that the compartment is named after. Types that are never
    in a compartment are absent.
    """
    content = {
        name: msgspec.json.decode(raw, type=dict[str, tuple[str, ...]])
        for name, raw in _table("compartments").items()
    }
    return MappingProxyType({name: MappingProxyType(types) for name, types in content.items()})


@cache
def required_codes(value_set: str) -> Mapping[str, frozenset[str]] | None:
    """System -> codes of a value set that R4 binds as required, by canonical.

    None where the codes cannot be listed (mime types, UCUM, currencies, LOINC answers) or the
    value set is not one of those.
    """
    raw = _table("value-sets").get(value_set.partition("|")[0])
    if raw is None:
        return None
    return MappingProxyType(msgspec.json.decode(raw, type=dict[str, frozenset[str]]))
