"""Resources with one thing changed: what R4 then says of them, and where.

Each change is made of what R4 defines for the element (https://hl7.org/fhir/R4/json.html,
https://hl7.org/fhir/R4/datatypes.html#primitive, elementdefinition.html, terminologies.html).
Only what lies between the root and the change is copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_server.fhir.definitions import (
    ElementDefinition,
    TypeDefinition,
    required_codes,
    type_definition,
)
from fhir_server.validation.objects import has_sibling, is_primitive
from fhir_server.validation.places import Place, expression

Json = dict[str, Any]
Path = tuple[str | int, ...]
UNKNOWN: Final = "noSuchElement"
NO_CODE: Final = "no-such-code"
NOWHERE: Final = "http://example.org/no-such-system"
ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
BAD_VALUES: Final[Mapping[str, object]] = {
    "base64Binary": "a*b",
    "boolean": "true",
    "canonical": "http://example.org/with space",
    "code": " led by space",
    "date": "2026-02-30",
    "dateTime": "2026-02-01T10:00",
    "decimal": "1.5",
    "id": "with_underscore",
    "instant": "2026-02-01",
    "integer": 2**31,
    "markdown": "a\u0001b",
    "oid": "urn:oid:9.1",
    "positiveInt": 0,
    "string": "a\u0001b",
    "time": "24:00:00",
    "unsignedInt": -1,
    "uri": "http://example.org/with space",
    "url": "http://example.org/with space",
    "uuid": "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
    "xhtml": "<div><p></div>",
}
"""One for each primitive type, of the right JSON type where that can be wrong otherwise."""
HARMLESS: Final = ("optional", "another code", "extended")
"""Kinds of change that R4 allows."""
_NUMBERS: Final = ("decimal", "integer", "positiveInt", "unsignedInt")


@dataclass(frozen=True, slots=True)
class Mutation:
    """`kind` is what was done, and `type` to what; `place` is where R4 is broken by it.

    `element` is the element's name in the type that brings it, as `HumanName.family`.
    """

    kind: str
    type: str
    element: str
    place: str
    path: Path
    value: object

    def apply(self, resource: Json) -> Json:
        result: Json = changed(resource, self.path, self.value)
        return result


class Dropped:
    """The value of what is left out."""


DROPPED: Final = Dropped()


def changed(node: Any, path: Sequence[str | int], value: object) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        return [changed(v, rest, value) if n == first else v for n, v in enumerate(node)]
    if not rest and value is DROPPED:
        return {name: kept for name, kept in node.items() if name != first}
    return {**node, first: changed(node.get(first), rest, value)}


@dataclass(frozen=True, slots=True)
class _Object:
    node: Json
    definition: TypeDefinition
    path: Path
    place: Place

    def mutation(
        self, kind: str, of: ElementDefinition, value: object, *, at: int | None = None
    ) -> Mutation:
        """At one item where the element repeats and the change is of the item."""
        place: Place = (self.place, of.base_name)
        item = () if at is None else (at,)
        type_ = of.type if is_primitive(of) else "an object"
        return Mutation(
            kind,
            type_,
            f"{of.owner}.{of.name}",
            expression((place, at) if at is not None else place),
            (*self.path, of.name, *item),
            value,
        )


def mutations(resource: Json) -> Iterator[Mutation]:
    """Every change of every element; many thousand of a large resource."""
    for each in _objects(resource, resource["resourceType"], (), (None, resource["resourceType"])):
        yield _unknown(each)
        for name, value in each.node.items():
            element = each.definition.elements.get(name)
            if element is not None:
                yield from _of_element(each, element, value)


def _objects(node: Json, type_name: str, path: Path, place: Place) -> Iterator[_Object]:
    definition = type_definition(type_name)
    yield _Object(node, definition, path, place)
    for name, value in node.items():
        element = definition.elements.get(name.removeprefix("_"))
        if element is None or (is_primitive(element) and not name.startswith("_")):
            continue
        at: Place = (place, element.base_name)
        if isinstance(value, list):
            for index, item in enumerate(value):
                if item is not None:
                    yield from _objects(
                        item, _type(element, item), (*path, name, index), (at, index)
                    )
        else:
            yield from _objects(value, _type(element, value), (*path, name), at)


def _type(element: ElementDefinition, value: Json) -> str:
    return str(value["resourceType"]) if element.type == "Resource" else element.type


def _unknown(each: _Object) -> Mutation:
    return Mutation(
        "unknown",
        "any",
        f"{each.definition.name}.{UNKNOWN}",
        expression((each.place, UNKNOWN)),
        (*each.path, UNKNOWN),
        True,
    )


def _of_element(each: _Object, element: ElementDefinition, value: Any) -> Iterator[Mutation]:
    if f"_{element.name}" not in each.node:
        yield from _dropped(each, element)
        if has_sibling(element):
            yield _extended(each, element, value)
        elif is_primitive(element):
            yield _bare(each, element)
    yield each.mutation("null", element, None)
    if element.repeats:
        yield each.mutation("empty array", element, [])
        yield each.mutation("not an array", element, value[0])
        if value[-1] is not None:
            yield from _of_value(each, element, len(value) - 1)
    else:
        yield each.mutation("an array", element, [value, value])
        yield from _of_value(each, element, None)


def _dropped(each: _Object, element: ElementDefinition) -> Iterator[Mutation]:
    """Of an object that is empty then, that is what is wrong."""
    is_left_empty = not each.node.keys() - {element.name}
    if element.min > 0:
        missing = each.mutation("required", element, DROPPED)
        yield replace(missing, place=expression(each.place)) if is_left_empty else missing
    elif len(each.node.keys() - {"id", "resourceType"}) > 1:
        yield each.mutation("optional", element, DROPPED)


def _extended(each: _Object, element: ElementDefinition, value: Any) -> Mutation:
    """The primitive with an extension besides its value."""
    sibling: Any = {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}
    if element.repeats:
        sibling = [*[None] * (len(value) - 1), sibling]
    made = each.mutation("extended", element, sibling)
    return replace(made, path=(*each.path, f"_{element.name}"))


def _bare(each: _Object, element: ElementDefinition) -> Mutation:
    """A sibling of what is no primitive of FHIR's: an id, the url of an extension, XHTML."""
    name = f"_{element.name}"
    made = each.mutation("no such sibling", element, {"id": "a"})
    return replace(made, path=(*each.path, name), place=expression((each.place, name)))


def _of_value(each: _Object, element: ElementDefinition, at: int | None) -> Iterator[Mutation]:
    if is_primitive(element):
        yield each.mutation("empty value", element, "", at=at)
        yield each.mutation("wrong type", element, _of_another_type(element), at=at)
        yield each.mutation("format", element, BAD_VALUES[element.type], at=at)
    else:
        yield each.mutation("empty value", element, {}, at=at)
        yield each.mutation("wrong type", element, "text", at=at)
    systems = required_codes(element.value_set) if element.value_set else None
    if systems is not None:
        codes = sorted(frozenset[str]().union(*systems.values()))
        yield from _of_bound(each, element, at, codes)


def _of_another_type(element: ElementDefinition) -> object:
    return [5] if element.type in _NUMBERS else 5


def _of_bound(
    each: _Object, element: ElementDefinition, at: int | None, codes: list[str]
) -> Iterator[Mutation]:
    if is_primitive(element):
        yield each.mutation("no such code", element, NO_CODE, at=at)
        yield each.mutation("another code", element, codes[0], at=at)
    elif element.type == "CodeableConcept":
        coding = {"coding": [{"system": NOWHERE, "code": NO_CODE}]}
        yield each.mutation("no such code", element, coding, at=at)
