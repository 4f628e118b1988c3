"""Conversion: https://hl7.org/fhirpath/N1/#conversion."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from fhir_server.fhirpath.ast import Call
from fhir_server.fhirpath.functions.api import Function, source_of
from fhir_server.fhirpath.items import BOOLEANS, NOTHING, Item, Items
from fhir_server.fhirpath.moments import Moment, moment, time_of_day
from fhir_server.fhirpath.parse import CALENDAR
from fhir_server.fhirpath.plan import Plan, Planner, Scope, single
from fhir_server.fhirpath.types import (
    BOOLEAN,
    DATE,
    DATE_TIME,
    DECIMAL,
    INTEGER,
    QUANTITY,
    STRING,
    TIME,
    Types,
)
from fhir_server.fhirpath.values import (
    Quantity,
    Value,
    converted,
    item_of,
    text_of,
    value_of,
)

Convert = Callable[[Value], Value | None]

_TRUE: Final = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0", "0.0"})
_INTEGER: Final = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?", re.ASCII)
_QUANTITY: Final = re.compile(
    r"(?P<value>[+-]?\d{1,40}(?:\.\d{1,40})?)\s*(?:'(?P<unit>[^']{1,80})'|(?P<word>[a-zA-Z]+))?",
    re.ASCII,
)
_LARGEST: Final = 2**31


def _boolean(value: Value) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, Moment | Quantity):
        return None
    text = str(value).lower()
    if isinstance(value, Decimal):
        text = "1" if value == 1 else "0" if value == 0 else ""
    return True if text in _TRUE else False if text in _FALSE else None


def _integer(value: Value) -> int | None:
    if isinstance(value, int):
        return int(value)
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        return None
    number = int(value)
    return number if -_LARGEST <= number < _LARGEST else None


def _decimal(value: Value) -> Decimal | None:
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def _moment(value: Value) -> Moment | None:
    if isinstance(value, str):
        return moment(value)
    return value if isinstance(value, Moment) and value.kind != "time" else None


def _date(value: Value) -> Moment | None:
    found = _moment(value)
    return found and moment(found.text.partition("T")[0])


def _date_time(value: Value) -> Moment | None:
    found = _moment(value)
    if found is None or found.kind == "dateTime":
        return found
    return Moment("dateTime", found.parts, None, found.text)


def _time(value: Value) -> Moment | None:
    if isinstance(value, str):
        return time_of_day(value)
    return value if isinstance(value, Moment) and value.kind == "time" else None


def _quantity(value: Value) -> Quantity | None:
    match value:
        case Quantity():
            return value
        case bool() | int() | Decimal():
            return Quantity(Decimal(value))
        case str() if found := _QUANTITY.fullmatch(value):
            return _spelt_quantity(found)
    return None


def _spelt_quantity(found: re.Match[str]) -> Quantity | None:
    amount = Decimal(found["value"])
    if found["word"] is None:
        return Quantity(amount, found["unit"] or "1")
    word = CALENDAR.get(found["word"])
    return Quantity(amount, word, calendar=True) if word else None


def _to(convert: Convert, type_: str) -> Function:
    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus).run

        def run(this: Item, scope: Scope) -> Items:
            found = _converted(source(this, scope), convert)
            return NOTHING if found is None else [item_of(found)]

        return Plan(run, frozenset({type_}))

    return Function(0, 0, build)


def _converted(items: Items, convert: Convert) -> Value | None:
    if not items:
        return None
    value = value_of(single(items))
    return None if value is None else convert(value)


def _converts(convert: Convert) -> Function:
    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus).run

        def run(this: Item, scope: Scope) -> Items:
            items = source(this, scope)
            return BOOLEANS[_converted(items, convert) is not None] if items else NOTHING

        return Plan(run, frozenset({BOOLEAN}))

    return Function(0, 0, build)


def _with_unit(build_result: Callable[[Quantity | None], Items]) -> Function:
    """toQuantity and convertsToQuantity take a unit to convert to."""

    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus).run
        unit = planner.plan(call.arguments[0], focus).run if call.arguments else None

        def run(this: Item, scope: Scope) -> Items:
            items = source(this, scope)
            if not items:
                return NOTHING
            found = _converted(items, _quantity)
            if unit is None or not isinstance(found, Quantity):
                return build_result(found if isinstance(found, Quantity) else None)
            return build_result(_in_unit(found, unit(this, scope)))

        return Plan(run, None)

    return Function(0, 1, build)


def _in_unit(quantity: Quantity, given: Items) -> Quantity | None:
    unit = value_of(single(given)) if given else None
    if not isinstance(unit, str):
        return None
    word = CALENDAR.get(unit)
    return converted(quantity, Quantity(Decimal(1), word or unit, calendar=word is not None))


_CONVERSIONS: Final[dict[str, tuple[Convert, str]]] = {
    "Boolean": (_boolean, BOOLEAN),
    "Integer": (_integer, INTEGER),
    "Decimal": (_decimal, DECIMAL),
    "Date": (_date, DATE),
    "DateTime": (_date_time, DATE_TIME),
    "Time": (_time, TIME),
    "String": (text_of, STRING),
}

FUNCTIONS: Final = {
    **{f"to{name}": _to(convert, type_) for name, (convert, type_) in _CONVERSIONS.items()},
    **{f"convertsTo{name}": _converts(convert) for name, (convert, _) in _CONVERSIONS.items()},
    "toQuantity": _with_unit(lambda found: NOTHING if found is None else [Item(found, QUANTITY)]),
    "convertsToQuantity": _with_unit(lambda found: BOOLEANS[found is not None]),
}
