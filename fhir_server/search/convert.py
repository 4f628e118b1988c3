"""Index values of one element, by the kind of parameter and the element's type.

Source: https://hl7.org/fhir/R4/search.html#table (how each data type is searched).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from fhir_server.fhir.dates import EARLIEST, LATEST, Interval, interval
from fhir_server.fhir.definitions import ElementDefinition, required_codes
from fhir_server.fhir.references import parse_relative
from fhir_server.search.geography import wrapped
from fhir_server.search.paths import Route
from fhir_server.search.values import (
    INFINITY,
    DateValue,
    NumberValue,
    PlainValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    fold,
    to_float,
)

Convert = Callable[[Any], Iterable[PlainValue]]
_Few = Sequence[PlainValue]
_SHORT: Final = 128
"""Characters of a reference that may be kept."""


def converter(kind: str, route: Route) -> Convert | None:
    """What makes index values of what stands at the end of the route, if anything can."""
    if route.present:
        return _presence
    if kind == "token" and route.type == "code" and route.element is not None:
        return _code_converter(route.element)
    return _CONVERTERS.get(kind, {}).get(route.type)


def _texts(*names: str) -> Convert:
    def convert(value: Any) -> Iterator[PlainValue]:
        for name in names:
            inner = value.get(name) if isinstance(value, dict) else None
            for text in inner if isinstance(inner, list) else (inner,):
                yield from _string(text)

    return convert


def _string(value: Any) -> _Few:
    return (StringValue(fold(value), value),) if isinstance(value, str) else ()


def _presence(value: Any) -> Iterator[PlainValue]:
    yield TokenValue("", "false" if value is False else "true")


def _code_converter(element: ElementDefinition) -> Convert:
    """Codes under a required binding carry the system that the value set gives them."""
    codes = required_codes(element.value_set) if element.value_set else None
    known = {
        code: (TokenValue(system, code),)
        for system, members in (codes or {}).items()
        for code in members
    }

    def convert(value: Any) -> _Few:
        if not isinstance(value, str):
            return ()
        return known.get(value) or (TokenValue("", value),)

    return convert


def _plain_token(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, bool):
        yield TokenValue("", "true" if value else "false")
    elif isinstance(value, str):
        yield TokenValue("", value)


def _coding(value: Any) -> _Few:
    if not isinstance(value, dict):
        return ()
    system, code = _text(value, "system"), _text(value, "code")
    return (TokenValue(system, code),) if system or code else ()


def _concept(value: Any) -> _Few:
    codings = value.get("coding") if isinstance(value, dict) else None
    if not isinstance(codings, list):
        return ()
    return [token for coding in codings for token in _coding(coding)]


def _identifier(value: Any) -> _Few:
    text = _text(value, "value") if isinstance(value, dict) else ""
    return (TokenValue(_text(value, "system"), text),) if text else ()


def _contact(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, dict) and (text := _text(value, "value")):
        yield TokenValue("", text)


def _display(value: Any) -> _Few:
    return _folded(_text(value, "display")) if isinstance(value, dict) else ()


def _folded(text: str) -> _Few:
    """`:text` compares beginnings, so the text as written is not kept."""
    folded = fold(text) if text else ""
    return (StringValue(folded, ""),) if folded else ()


def _concept_text(value: Any) -> _Few:
    if not isinstance(value, dict):
        return ()
    codings = value.get("coding")
    found = [*_folded(_text(value, "text"))]
    for coding in codings if isinstance(codings, list) else ():
        found += _display(coding)
    return found


def _identifier_text(value: Any) -> _Few:
    return _folded(_text(_object(value, "type"), "text")) if isinstance(value, dict) else ()


def _typed_identifier(value: Any) -> Iterator[PlainValue]:
    """https://hl7.org/fhir/R4/search.html#token, `:of-type`"""
    text = _text(value, "value") if isinstance(value, dict) else ""
    if text:
        for token in _concept(_object(value, "type")):
            if isinstance(token, TokenValue) and token.code:
                yield TokenValue(token.system, of_type(token.code, text))


def of_type(code: str, value: str) -> str:
    """A type's code and an identifier's value in one; neither holds a control character."""
    return f"{code}\x1f{value}"


def _referred_identifier(value: Any) -> _Few:
    inner = value.get("identifier") if isinstance(value, dict) else None
    return () if inner is None else _identifier(inner)


def _reference(value: Any) -> _Few:
    text = value.get("reference") if isinstance(value, dict) else None
    if not text or not isinstance(text, str):
        return ()
    return _known_target(text) if len(text) <= _SHORT else _target(text)


def _target(text: str) -> _Few:
    if text[0] == "#":
        return ()
    local = parse_relative(text)
    if local is None or local.version is None:
        return (ReferenceValue(text),)
    return (ReferenceValue(str(local), local.version),)


_known_target: Final = lru_cache(maxsize=4096)(_target)
"""The same few are met in what belongs together."""


def _resource_within(value: Any) -> Iterator[PlainValue]:
    """Of a resource that stands in another, where it would be by itself."""
    if isinstance(value, dict) and (resource_id := _text(value, "id")):
        local = parse_relative(f"{_text(value, 'resourceType')}/{resource_id}")
        if local is not None:
            yield ReferenceValue(str(local))


def _canonical(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, str):
        url, _, version = value.partition("|")
        local = parse_relative(url)
        yield ReferenceValue(str(local) if local else url, version)


def _uri(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, str):
        yield UriValue(value)


def _canonical_uri(value: Any) -> Iterator[PlainValue]:
    """With and without its version: a search may name either."""
    if isinstance(value, str):
        url, bar, _ = value.partition("|")
        yield UriValue(value)
        if bar:
            yield UriValue(url)


def _date(value: Any) -> _Few:
    found = _interval(value)
    return (DateValue(*found),) if found else ()


def _period(value: Any) -> _Few:
    if not isinstance(value, dict):
        return ()
    start, end = _interval(value.get("start")), _interval(value.get("end"))
    low, high = start.low if start else EARLIEST, end.high if end else LATEST
    # One that ends before it starts (invariant per-1) is no time at all.
    return (DateValue(low, high),) if (start or end) and low < high else ()


def _timing(value: Any) -> Iterator[PlainValue]:
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


def _number(value: Any) -> Iterator[PlainValue]:
    number = _decimal(value)
    if number is not None:
        yield NumberValue(to_float(number), to_float(number))


def _number_range(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, dict):
        low, high = _bounds(value)
        if low <= high:
            yield NumberValue(low, high)


def _quantity(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, dict) and (number := _decimal(value.get("value"))) is not None:
        amount = to_float(number)
        below = value.get("comparator") in ("<", "<=")
        above = value.get("comparator") in (">", ">=")
        yield QuantityValue(
            -INFINITY if below else amount, INFINITY if above else amount, *_unit(value)
        )


def _money(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, dict) and (number := _decimal(value.get("value"))) is not None:
        amount, currency = to_float(number), _text(value, "currency")
        yield QuantityValue(amount, amount, "urn:iso:std:iso:4217", currency, currency)


def _quantity_range(value: Any) -> Iterator[PlainValue]:
    if isinstance(value, dict):
        low, high = _bounds(value)
        unit = _object(value, "low") or _object(value, "high")
        if low <= high:
            yield QuantityValue(low, high, *_unit(unit))


def _position(value: Any) -> Iterator[PlainValue]:
    """A place that is on Earth; longitude 180 is -180."""
    if not isinstance(value, dict):
        return
    latitude, longitude = _decimal(value.get("latitude")), _decimal(value.get("longitude"))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return
    yield PositionValue(to_float(latitude), wrapped(to_float(longitude)))


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
        "Resource": _resource_within,
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
    "special": {"Location.position": _position},
}

BESIDE: Final[Mapping[tuple[str, str], Mapping[str, Convert]]] = {
    ("token", "Coding"): {"text": _display},
    ("token", "CodeableConcept"): {"text": _concept_text},
    ("token", "Identifier"): {"text": _identifier_text, "of-type": _typed_identifier},
    ("reference", "Reference"): {"identifier": _referred_identifier},
}
"""Values for modifiers that look at something else than the parameter itself."""

CODED: Final = ("in", "not-in", "above", "below")
"""Modifiers for parameters of these types alone: https://hl7.org/fhir/R4/search.html#modifiers"""
CODED_TYPES: Final = ("code", "Coding", "CodeableConcept")
