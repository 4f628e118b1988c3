"""What a query means: whether one resource satisfies it, in memory.

The oracle for every backend, and the check on a single resource that access needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

from fhir_server.search.ast import (
    And,
    Chain,
    CompositeMatches,
    Contains,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    Has,
    IdIn,
    InValueSet,
    Missing,
    Near,
    Node,
    Not,
    Nothing,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    StringMode,
    Subsumes,
    Terminological,
    TextMatches,
    TokenIn,
    TokenIs,
    TokenLike,
    UriBelow,
    UriIs,
)
from fhir_server.search.extract import extract, extract_elements
from fhir_server.search.geography import metres
from fhir_server.search.parameters import BUILT_IN, ParameterSet
from fhir_server.search.values import (
    CompositeValue,
    ContainedValue,
    DateValue,
    IndexValue,
    NumberValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
    without_capitals,
)

Values = Mapping[str, Sequence[IndexValue]]
"""A resource's index values by parameter code."""


Others = Mapping[str, Mapping[str, Values]]
"""Resources that chains may lead to: their index values by type and id."""


def others(resources: Iterable[Mapping[str, Any]], known: ParameterSet = BUILT_IN) -> Others:
    found: dict[str, dict[str, Values]] = {}
    for resource in resources:
        found.setdefault(resource["resourceType"], {})[resource["id"]] = values_of(resource, known)
    return found


def values_of(resource: Mapping[str, Any], known: ParameterSet = BUILT_IN) -> Values:
    return _by_code((*extract(resource), *known.values(resource)))


def _by_code(extracted: Iterable[tuple[str, IndexValue]]) -> Values:
    values: dict[str, list[IndexValue]] = {}
    for code, value in extracted:
        values.setdefault(code, []).append(value)
    return values


def match(
    node: Node,
    resource: Mapping[str, Any],
    others: Others | None = None,
    known: ParameterSet = BUILT_IN,
) -> bool:
    """Whether the resource, with `id` and `meta`, satisfies the node.

    Args:
        known: the parameters with which the node was made.

    Raises:
        LookupError: for a chain, where `others` are not given, and for what a terminology
            service has not resolved: what is not known must not pass for what is not there.
    """
    if isinstance(node, Everything):
        return True
    # To cut a text into words costs as much as all the rest.
    extracted = extract(resource) if _asks_text(node) else extract_elements(resource)
    values = _by_code((*extracted, *known.values(resource)))
    return holds(node, str(resource.get("id", "")), values, others)


def _asks_text(node: Node) -> bool:
    """Of the resource itself."""
    match node:
        case And(nodes) | Or(nodes):
            return any(map(_asks_text, nodes))
        case Not(inner):
            return _asks_text(inner)
        case TextMatches() | Missing(kind="text"):
            return True
        case _:
            return False


def holds(node: Node, resource_id: str, values: Values, others: Others | None = None) -> bool:
    match node:
        case Everything():
            return True
        case Nothing():
            return False
        case And(nodes):
            return all(holds(inner, resource_id, values, others) for inner in nodes)
        case Or(nodes):
            return any(holds(inner, resource_id, values, others) for inner in nodes)
        case Not(inner):
            return not holds(inner, resource_id, values, others)
        case Missing(code):
            return not values.get(code)
        case IdIn(ids):
            return resource_id in ids
        case Contains(resource_type, inner):
            return any(
                holds(inner, value.id, _by_code(value.values), others)
                for value in values.get(f"#{resource_type}", ())
                if isinstance(value, ContainedValue)
            )
        case Chain() | Has() | InValueSet() | Subsumes():
            return _linked(node, resource_id, values, others)
        case _:
            return any(satisfies(node, value) for value in values.get(node.code, ()))


def _linked(
    node: Chain | Has | Terminological, resource_id: str, values: Values, others: Others | None
) -> bool:
    """What hangs on other resources than this."""
    match node:
        case InValueSet() | Subsumes():
            raise LookupError("Value sets and hierarchies are resolved before anything is matched")
        case _ if others is None:
            raise LookupError("A chain is decided among other resources, and there are none")
        case Chain(code, target, _, inner, canonical=True):
            return any(
                _addressed(values.get(code, ()), known) and holds(inner, other, known, others)
                for other, known in others.get(target, {}).items()
            )
        case Has(source, code, _, inner, canonical=True):
            return any(
                _addressed(known.get(code, ()), values) and holds(inner, other, known, others)
                for other, known in others.get(source, {}).items()
            )
        case Chain(code, target, forms, inner):
            known = others.get(target, {})
            return any(
                other in known and holds(inner, other, known[other], others)
                for other in _ids(values.get(code, ()), forms)
            )
        case Has(source, code, forms, inner):
            return any(
                resource_id in _ids(known.get(code, ()), forms)
                and holds(inner, other, known, others)
                for other, known in others.get(source, {}).items()
            )


def _ids(values: Iterable[IndexValue], forms: Sequence[str]) -> list[str]:
    """The ids in references that begin with one of the forms."""
    return [
        value.target[len(form) :]
        for value in values
        if isinstance(value, ReferenceValue)
        for form in forms
        if value.target.startswith(form)
    ]


def _addressed(references: Iterable[IndexValue], values: Values) -> bool:
    """Whether one of the canonical references means the resource that has the values."""
    urls = {value.uri for value in values.get("url", ()) if isinstance(value, UriValue)}
    versions = {value.code for value in values.get("version", ()) if isinstance(value, TokenValue)}
    return any(
        isinstance(one, ReferenceValue) and one.target in urls and one.version in ("", *versions)
        for one in references
    )


@singledispatch
def satisfies(node: object, value: IndexValue) -> bool:
    """Whether one index value satisfies one predicate."""
    raise TypeError(f"{node!r} is not a predicate on {value!r}")


@satisfies.register
def _(node: TokenIs, value: TokenValue) -> bool:
    return (node.system is None or node.system == value.system) and (
        node.token is None or node.token == value.code
    )


@satisfies.register
def _(node: TokenIn, value: TokenValue) -> bool:
    if value in node.pairs:
        return True
    return value.code != "" and value.system in node.systems and value not in node.but


@satisfies.register
def _(node: Near, value: PositionValue) -> bool:
    return metres(node.latitude, node.longitude, *value) <= node.distance


@satisfies.register
def _(node: TokenLike, value: TokenValue) -> bool:
    same = node.token == without_capitals(value.code)
    return same and node.system in (None, value.system)


_STRINGS: Mapping[StringMode, Callable[[StringValue, str], bool]] = {
    StringMode.STARTS: lambda value, text: value.text.startswith(text),
    StringMode.CONTAINS: lambda value, text: text in value.text,
    StringMode.EXACT: lambda value, text: value.exact == text,
    StringMode.ENDS: lambda value, text: value.text.endswith(text),
    StringMode.EQUALS: lambda value, text: value.text == text,
    StringMode.GT: lambda value, text: value.text > text,
    StringMode.LT: lambda value, text: value.text < text,
    StringMode.GE: lambda value, text: value.text >= text,
    StringMode.LE: lambda value, text: value.text <= text,
}


@satisfies.register
def _(node: StringMatches, value: StringValue) -> bool:
    return _STRINGS[node.mode](value, node.text)


@satisfies.register
def _(node: TextMatches, value: TextValue) -> bool:
    end = "" if node.prefix else " "
    return f" {node.words}{end}" in f" {value.words} "


@satisfies.register
def _(node: ReferenceTo, value: ReferenceValue) -> bool:
    return value.target in node.targets and node.version in ("", value.version)


@satisfies.register
def _(node: UriIs, value: UriValue) -> bool:
    return node.uri == value.uri


@satisfies.register
def _(node: UriBelow, value: UriValue) -> bool:
    return value.uri == node.stem or value.uri.startswith(node.stem + "/")


@satisfies.register
def _(node: CompositeMatches, value: CompositeValue) -> bool:
    return all(
        any(_part_satisfies(inner, one) for one in part)
        for inner, part in zip(node.nodes, value.parts, strict=True)
    )


def _part_satisfies(node: Node, value: IndexValue) -> bool:
    if isinstance(node, Everything):
        return True
    if isinstance(node, Or):
        return any(_part_satisfies(inner, value) for inner in node.nodes)
    return satisfies(node, value)


_DATES: Mapping[Prefix, Callable[[DateValue, DateCompares], bool]] = {
    Prefix.EQ: lambda value, node: node.low <= value.low and value.high <= node.high,
    Prefix.NE: lambda value, node: value.low < node.low or node.high < value.high,
    Prefix.GT: lambda value, node: value.high > node.high,
    Prefix.LT: lambda value, node: value.low < node.low,
    Prefix.GE: lambda value, node: value.high > node.high or value.low >= node.low,
    Prefix.LE: lambda value, node: value.low < node.low or value.high <= node.high,
    Prefix.SA: lambda value, node: value.low >= node.high,
    Prefix.EB: lambda value, node: value.high <= node.low,
    Prefix.AP: lambda value, node: value.low < node.high and value.high > node.low,
}


@satisfies.register
def _(node: DateCompares, value: DateValue) -> bool:
    return _DATES[node.prefix](value, node)


@satisfies.register
def _(node: DateCovers, value: DateValue) -> bool:
    return value.low <= node.low and node.high <= value.high


@satisfies.register
def _(node: Differs, value: IndexValue) -> bool:
    return not satisfies(node.node, value)


_Number = NumberValue | QuantityValue
_NumberNode = NumberCompares | QuantityCompares
_NUMBERS: Mapping[Prefix, Callable[[_Number, _NumberNode], bool]] = {
    Prefix.EQ: lambda value, node: node.low <= value.low and value.high < node.high,
    Prefix.NE: lambda value, node: value.low < node.low or node.high <= value.high,
    Prefix.GT: lambda value, node: value.high > node.value,
    Prefix.LT: lambda value, node: value.low < node.value,
    Prefix.GE: lambda value, node: value.high >= node.value,
    Prefix.LE: lambda value, node: value.low <= node.value,
    Prefix.SA: lambda value, node: value.low > node.value,
    Prefix.EB: lambda value, node: value.high < node.value,
    Prefix.AP: lambda value, node: value.low <= node.high and value.high >= node.low,
}


@satisfies.register
def _(node: NumberCompares, value: NumberValue) -> bool:
    return _NUMBERS[node.prefix](value, node)


@satisfies.register
def _(node: QuantityCompares, value: QuantityValue) -> bool:
    return _same_unit(node, value) and _NUMBERS[node.prefix](value, node)


def _same_unit(node: QuantityCompares, value: QuantityValue) -> bool:
    if node.system:
        return (node.system, node.unit) == (value.system, value.code)
    return not node.unit or node.unit in (value.code, value.unit)
