"""Index values of a resource: which parameter finds it by which value.

Compiled once per resource type from the search parameters' expressions; per resource there is
only the walk along the routes whose first property is there.
Source: https://hl7.org/fhir/R4/search.html#table (how each data type is searched).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final, NamedTuple

from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.dates import EARLIEST, LATEST, Interval, interval
from fhir_server.fhir.definitions import (
    ElementDefinition,
    SearchParameter,
    required_codes,
    search_parameters,
)
from fhir_server.fhir.references import parse_relative
from fhir_server.search.paths import Route, UnknownPath, routes
from fhir_server.search.values import (
    INFINITY,
    DateValue,
    IndexValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    fold,
    to_float,
)

Convert = Callable[[Any], Iterator[IndexValue]]


class _Extractor(NamedTuple):
    code: str
    route: Route
    convert: Convert


def extract(resource: Mapping[str, Any]) -> list[tuple[str, IndexValue]]:
    """Pairs of parameter code and value, without repeats, in a stable order.

    The resource has passed the structural check, or is at least JSON: what has not the type
    that its definition says is passed over.
    """
    resource_type = resource["resourceType"]
    found: dict[tuple[str, IndexValue], None] = {}
    extractors = _by_property(resource_type)
    for name in resource:
        for code, route, convert in extractors.get(name, ()):
            for value in route.values(resource):
                for converted in convert(value):
                    found[code, converted] = None
    for code, names in _presences(resource_type):
        if resource.keys().isdisjoint(names):
            found[code, TokenValue("", "false")] = None
    for membership in _memberships(resource_type, resource.get("id"), found):
        found[membership] = None
    return list(found)


def _memberships(
    resource_type: str, resource_id: Any, found: Iterable[tuple[str, IndexValue]]
) -> list[tuple[str, IndexValue]]:
    """Values of the pseudo-parameters `{Patient}` and so on: the compartments it is in."""
    members: list[tuple[str, IndexValue]] = []
    for compartment, codes in memberships(resource_type):
        if "{def}" in codes and isinstance(resource_id, str):
            own = ReferenceValue(f"{compartment}/{resource_id}")
            members.append((f"{{{compartment}}}", own))
        for code, value in found:
            if code not in codes or not isinstance(value, ReferenceValue):
                continue
            if value.target.startswith(compartment + "/"):
                members.append((f"{{{compartment}}}", ReferenceValue(value.target)))
    return members


@cache
def indexed_parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The parameters of the type that have index values, by code.

    Composite and special ones, and those whose values lie in another resource, have none.
    """
    return {
        code: parameter
        for code, parameter in search_parameters(resource_type).items()
        if code == "_lastUpdated" or _routes_of(parameter, resource_type)
    }


@cache
def _by_property(resource_type: str) -> Mapping[str, tuple[_Extractor, ...]]:
    table: dict[str, list[_Extractor]] = {}
    for code, parameter in indexed_parameters(resource_type).items():
        for route in _routes_of(parameter, resource_type):
            convert = _converter(parameter.type, route)
            if convert is not None:
                first = route.steps[0].name
                table.setdefault(first, []).append(_Extractor(code, route, convert))
    return {name: tuple(extractors) for name, extractors in table.items()}


@cache
def _presences(resource_type: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Parameters that ask whether something is there, and by which properties it would be."""
    return tuple(
        (code, frozenset(route.steps[0].name for route in found))
        for code, parameter in indexed_parameters(resource_type).items()
        if (found := [r for r in _routes_of(parameter, resource_type) if r.present])
    )


def _routes_of(parameter: SearchParameter, resource_type: str) -> tuple[Route, ...]:
    if parameter.code == "_id" or parameter.type in ("composite", "special"):
        return ()
    try:
        found = routes(parameter.expression, resource_type) if parameter.expression else ()
    except UnknownPath:
        return ()
    return tuple(route for route in found if _converter(parameter.type, route) is not None)


def _converter(kind: str, route: Route) -> Convert | None:
    if route.present:
        return _presence
    if kind == "token" and route.type == "code" and route.element is not None:
        return _code_converter(route.element)
    return _CONVERTERS.get(kind, {}).get(route.type)


def _texts(*names: str) -> Convert:
    def convert(value: Any) -> Iterator[IndexValue]:
        for name in names:
            inner = value.get(name) if isinstance(value, dict) else None
            for text in inner if isinstance(inner, list) else (inner,):
                yield from _string(text)

    return convert


def _string(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, str):
        yield StringValue(fold(value), value)


def _presence(value: Any) -> Iterator[IndexValue]:
    yield TokenValue("", "false" if value is False else "true")


def _code_converter(element: ElementDefinition) -> Convert:
    """Codes under a required binding carry the system that the value set gives them."""
    codes = required_codes(element.value_set) if element.value_set else None
    systems = {code: system for system, members in (codes or {}).items() for code in members}

    def convert(value: Any) -> Iterator[IndexValue]:
        if isinstance(value, str):
            yield TokenValue(systems.get(value, ""), value)

    return convert


def _plain_token(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, bool):
        yield TokenValue("", "true" if value else "false")
    elif isinstance(value, str):
        yield TokenValue("", value)


def _coding(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict):
        system, code = _text(value, "system"), _text(value, "code")
        if system or code:
            yield TokenValue(system, code)


def _concept(value: Any) -> Iterator[IndexValue]:
    codings = value.get("coding") if isinstance(value, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        yield from _coding(coding)


def _identifier(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict) and (text := _text(value, "value")):
        yield TokenValue(_text(value, "system"), text)


def _contact(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict) and (text := _text(value, "value")):
        yield TokenValue("", text)


def _reference(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict) and (text := _text(value, "reference")):
        yield from _target(text)


def _target(text: str) -> Iterator[IndexValue]:
    if text.startswith("#"):
        return
    local = parse_relative(text)
    if local is None:
        yield ReferenceValue(text)
    else:
        yield ReferenceValue(str(local), local.version or "")


def _canonical(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, str):
        url, _, version = value.partition("|")
        local = parse_relative(url)
        yield ReferenceValue(str(local) if local else url, version)


def _uri(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, str):
        yield UriValue(value)


def _canonical_uri(value: Any) -> Iterator[IndexValue]:
    """With and without its version: a search may name either."""
    if isinstance(value, str):
        url, bar, _ = value.partition("|")
        yield UriValue(value)
        if bar:
            yield UriValue(url)


def _date(value: Any) -> Iterator[IndexValue]:
    if found := _interval(value):
        yield DateValue(*found)


def _period(value: Any) -> Iterator[IndexValue]:
    if not isinstance(value, dict):
        return
    start, end = _interval(value.get("start")), _interval(value.get("end"))
    low, high = start.low if start else EARLIEST, end.high if end else LATEST
    # One that ends before it starts (invariant per-1) is no time at all.
    if (start or end) and low < high:
        yield DateValue(low, high)


def _timing(value: Any) -> Iterator[IndexValue]:
    """A Timing covers the time from its first event to its last, or its bounds."""
    if not isinstance(value, dict):
        return
    events = value.get("event")
    listed = events if isinstance(events, list) else ()
    found = [span for event in listed if (span := _interval(event))]
    if found:
        yield DateValue(min(span.low for span in found), max(span.high for span in found))
    repeat = value.get("repeat")
    if isinstance(repeat, dict):
        yield from _period(repeat.get("boundsPeriod"))


def _interval(value: Any) -> Interval | None:
    if not isinstance(value, str):
        return None
    try:
        return interval(value)
    except ValueError:
        return None


def _number(value: Any) -> Iterator[IndexValue]:
    number = _decimal(value)
    if number is not None:
        yield NumberValue(to_float(number), to_float(number))


def _number_range(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict):
        low, high = _bounds(value)
        if low <= high:
            yield NumberValue(low, high)


def _quantity(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict) and (number := _decimal(value.get("value"))) is not None:
        amount = to_float(number)
        below = value.get("comparator") in ("<", "<=")
        above = value.get("comparator") in (">", ">=")
        yield QuantityValue(
            -INFINITY if below else amount, INFINITY if above else amount, *_unit(value)
        )


def _money(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict) and (number := _decimal(value.get("value"))) is not None:
        amount, currency = to_float(number), _text(value, "currency")
        yield QuantityValue(amount, amount, "urn:iso:std:iso:4217", currency, currency)


def _quantity_range(value: Any) -> Iterator[IndexValue]:
    if isinstance(value, dict):
        low, high = _bounds(value)
        unit = _object(value, "low") or _object(value, "high")
        if low <= high:
            yield QuantityValue(low, high, *_unit(unit))


def _bounds(value: Mapping[str, Any]) -> tuple[float, float]:
    """Low and high; a range whose low is above its high (invariant rng-2) holds nothing."""
    low = _decimal(_object(value, "low").get("value"))
    high = _decimal(_object(value, "high").get("value"))
    return (
        -INFINITY if low is None else to_float(low),
        INFINITY if high is None else to_float(high),
    )


def _unit(value: Mapping[str, Any]) -> tuple[str, str, str]:
    return _text(value, "system"), _text(value, "code"), _text(value, "unit")


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _text(value: Mapping[str, Any], name: str) -> str:
    inner = value.get(name)
    return inner if isinstance(inner, str) else ""


_NAME: Final = _texts("text", "family", "given", "prefix", "suffix")
_ADDRESS: Final = _texts("text", "line", "city", "district", "state", "postalCode", "country")

_CONVERTERS: Final[Mapping[str, Mapping[str, Convert]]] = {
    "token": {
        "Coding": _coding,
        "CodeableConcept": _concept,
        "Identifier": _identifier,
        "ContactPoint": _contact,
        **dict.fromkeys(("code", "boolean", "string", "uri", "id", "oid", "uuid"), _plain_token),
    },
    "string": {
        **dict.fromkeys(("string", "markdown", "code", "uri", "id"), _string),
        "HumanName": _NAME,
        "Address": _ADDRESS,
    },
    "reference": {
        "Reference": _reference,
        **dict.fromkeys(("canonical", "uri"), _canonical),
    },
    "date": {
        **dict.fromkeys(("date", "dateTime", "instant"), _date),
        "Period": _period,
        "Timing": _timing,
    },
    "number": {
        **dict.fromkeys(("integer", "decimal", "positiveInt", "unsignedInt"), _number),
        "Range": _number_range,
    },
    "quantity": {
        **dict.fromkeys(
            ("Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity"), _quantity
        ),
        "Money": _money,
        "Range": _quantity_range,
    },
    "uri": {
        **dict.fromkeys(("uri", "url", "oid", "uuid"), _uri),
        "canonical": _canonical_uri,
    },
}
