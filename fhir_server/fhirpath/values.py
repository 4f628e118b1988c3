"""System values: what an item stands for when it is compared, computed with or written out.

A value is bool, str, int, Decimal, Moment or Quantity. Equality and order have three answers, as
in the standard: None where precision or units do not let one say.

Sources: https://hl7.org/fhirpath/N1/#equality, #comparison;
https://hl7.org/fhir/R4/fhirpath.html#quantity.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.fhirpath import moments
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.moments import Moment
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.types import (
    BOOLEAN,
    DATE,
    DATE_TIME,
    DECIMAL,
    INTEGER,
    QUANTITY,
    STRING,
    SYSTEM_OF,
    TIME,
)

UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Quantity:
    """`unit` is a UCUM code, or a calendar word where `calendar` says so."""

    value: Decimal
    unit: str = "1"
    calendar: bool = False
    system: str = UCUM

    def __str__(self) -> str:
        unit = self.unit if self.calendar else f"'{self.unit}'"
        return f"{decimal_text(self.value)} {unit}"


Value = bool | str | int | Decimal | Moment | Quantity

_MOST_DIGITS: Final = 60
"""Of a decimal that is computed with: JSON may hold 1E999999, and that written out is a weapon."""

# The size of units of one dimension in its smallest; what is not here is compared only with
# itself. Years and months are calendar words, and of no fixed length.
_SIZES: Final[dict[str, tuple[str, Decimal]]] = {
    unit: (dimension, Decimal(size))
    for dimension, sizes in {
        "time": {
            "ms": "1",
            "s": "1000",
            "min": "60000",
            "h": "3600000",
            "d": "86400000",
            "wk": "604800000",
        },
        "mass": {"ng": "1", "ug": "1E3", "mg": "1E6", "g": "1E9", "kg": "1E12"}
        | {"[lb_av]": "453592370000", "[oz_av]": "28349523125"},
        "length": {"nm": "1", "um": "1E3", "mm": "1E6", "cm": "1E7", "m": "1E9", "km": "1E12"}
        | {"[in_i]": "25400000", "[ft_i]": "304800000"},
        "volume": {"uL": "1", "mL": "1E3", "cL": "1E4", "dL": "1E5", "L": "1E6", "l": "1E6"},
        "ratio": {"1": "100", "%": "1"},
    }.items()
    for unit, size in sizes.items()
}
_UCUM_OF_WORD: Final = {
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
    "week": "wk",
}
WORD_OF_UCUM: Final = {
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "wk": "week",
    "mo": "month",
    "a": "year",
}


# What an item stands for ---------------------------------------------------------------------


def value_of(item: Item) -> Value | None:
    """None for an item that has no value, or none of its type, and for objects."""
    reader = _READERS.get(SYSTEM_OF.get(item.type, ""))
    return None if reader is None else reader(item.value)


def _text(value: Any) -> str | None:
    return value if type(value) is str else None


def _boolean(value: Any) -> bool | None:
    return value if type(value) is bool else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None


def _decimal(value: Any) -> Decimal | None:
    if type(value) is int:
        return Decimal(value)
    return bounded(value) if type(value) is Decimal else None


def _moment(value: Any) -> Moment | None:
    if type(value) is str:
        return moments.moment(value)
    return value if type(value) is Moment else None


def _time(value: Any) -> Moment | None:
    if type(value) is str:
        return moments.time_of_day(value)
    return value if type(value) is Moment else None


def _quantity(value: Any) -> Quantity | None:
    if type(value) is not dict:
        return value if type(value) is Quantity else None
    amount = _decimal(value.get("value"))
    if amount is None or "comparator" in value:
        return None
    system, code = value.get("system"), value.get("code")
    if type(code) is str:
        return Quantity(amount, code, system=system if type(system) is str else "")
    unit = value.get("unit")
    return Quantity(amount, unit, system="") if type(unit) is str else Quantity(amount)


_READERS: Final[dict[str, Callable[[Any], Value | None]]] = {
    STRING: _text,
    BOOLEAN: _boolean,
    INTEGER: _integer,
    DECIMAL: _decimal,
    DATE: _moment,
    DATE_TIME: _moment,
    TIME: _time,
    QUANTITY: _quantity,
}


def bounded(value: Decimal) -> Decimal:
    """The decimal, if it is of a size that one can compute with.

    Raises:
        EvaluationError: for more digits than a FHIR decimal can want.
    """
    if not value.is_finite() or abs(value.adjusted()) > _MOST_DIGITS:
        raise EvaluationError("A number is too large to compute with")
    return value


def item_of(value: Value) -> Item:
    """A value as an item of its system type."""
    match value:
        case bool():
            return Item(value, BOOLEAN)
        case str():
            return Item(value, STRING)
        case int():
            return Item(value, INTEGER)
        case Decimal():
            return Item(value, DECIMAL)
        case Quantity():
            return Item(value, QUANTITY)
    return Item(value, {"date": DATE, "dateTime": DATE_TIME, "time": TIME}[value.kind])


def decimal_text(value: Decimal) -> str:
    """With its digits, and without an exponent."""
    return f"{bounded(value):f}"


def text_of(value: Value) -> str:
    """https://hl7.org/fhirpath/N1/#tostring-string"""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return decimal_text(value)
    return str(value)


# Equality ------------------------------------------------------------------------------------


def equal(left: Item, right: Item) -> bool | None:
    """`=` of one item and another."""
    first, second = value_of(left), value_of(right)
    if first is None or second is None:
        if type(left.value) is dict and type(right.value) is dict:
            return frozen(left.value) == frozen(right.value)
        return False
    return _equal_objects(left, right) or equal_values(first, second)


def _equal_objects(left: Item, right: Item) -> bool:
    both = type(left.value) is dict and type(right.value) is dict
    return both and frozen(left.value) == frozen(right.value)


def equal_values(first: Value, second: Value) -> bool | None:
    if type(first) is Moment and type(second) is Moment:
        if (first.kind == "time") != (second.kind == "time"):
            return False
        found = moments.order(first, second)
        return None if found is None else found == 0
    if type(first) is Quantity or type(second) is Quantity:
        return _same_amount(_as_quantity(first), _as_quantity(second))
    if type(first) is bool or type(second) is bool:
        return type(first) is type(second) and first == second
    return first == second


def _as_quantity(value: Value) -> Quantity | None:
    if type(value) is Quantity:
        return value
    if type(value) is bool or not isinstance(value, int | Decimal):
        return None
    return Quantity(Decimal(value))


def _same_amount(first: Quantity | None, second: Quantity | None) -> bool | None:
    if first is None or second is None:
        return False
    amounts = _in_one_unit(first, second)
    return None if amounts is None else amounts[0] == amounts[1]


def _in_one_unit(first: Quantity, second: Quantity) -> tuple[Decimal, Decimal] | None:
    """Both amounts in the same unit; None where the units cannot be compared."""
    if (first.unit, first.system, first.calendar) == (second.unit, second.system, second.calendar):
        return first.value, second.value
    one, other = _size(first), _size(second)
    if one is None or other is None or one[0] != other[0]:
        return None
    return first.value * one[1], second.value * other[1]


def converted(quantity: Quantity, unit: Quantity) -> Quantity | None:
    """The amount in another unit; None where that is of another dimension."""
    if (quantity.unit, quantity.calendar) == (unit.unit, unit.calendar):
        return quantity
    one, other = _size(quantity), _size(unit)
    if one is None or other is None or one[0] != other[0]:
        return None
    return Quantity(quantity.value * one[1] / other[1], unit.unit, unit.calendar)


def _size(quantity: Quantity) -> tuple[str, Decimal] | None:
    if quantity.calendar:
        if quantity.unit in ("year", "month"):
            return "months", Decimal(12 if quantity.unit == "year" else 1)
        return _SIZES[_UCUM_OF_WORD[quantity.unit]]
    return _SIZES.get(quantity.unit) if quantity.system == UCUM else None


def frozen(value: Any) -> Hashable:
    """A key that is the same for JSON that FHIRPath calls equal: 1.0 is 1.00, true is not 1."""
    match value:
        case bool():
            return ("boolean", value)
        case dict():
            return frozenset((name, frozen(inner)) for name, inner in value.items())
        case list():
            return tuple(frozen(inner) for inner in value)
        case Decimal():
            return bounded(value)
    hashable: Hashable = value
    return hashable


def key(item: Item) -> Hashable:
    """The same for items that are equal: what makes distinct, union and `in` quick."""
    value = item.value
    if type(value) is dict:
        return frozen(value)
    found = value_of(item)
    match found:
        case None:
            return (None, frozen(item.sibling))
        case bool():
            return ("boolean", found)
        case Moment():
            return found.key
        case Quantity():
            size = _size(found)
            return (size[0], found.value * size[1]) if size else (found.unit, found.value)
    return found


# Equivalence ---------------------------------------------------------------------------------


def equivalent(left: Item, right: Item) -> bool:
    """`~` of one item and another: https://hl7.org/fhirpath/N1/#equivalent"""
    first, second = value_of(left), value_of(right)
    if first is None or second is None:
        both = type(left.value) is dict and type(right.value) is dict
        return both and _loose(left.value) == _loose(right.value)
    if isinstance(first, str) and isinstance(second, str):
        return loose_text(first) == loose_text(second)
    if isinstance(first, Decimal) or isinstance(second, Decimal):
        return _about_equal(first, second)
    if isinstance(first, Quantity) and isinstance(second, Quantity):
        return _about_same_amount(first, second)
    return equal_values(first, second) is True


def loose_text(text: str) -> str:
    """Without regard to case, and with every white space a space."""
    return " ".join(text.casefold().split())


def _loose(value: Any) -> Hashable:
    match value:
        case dict():
            return frozenset((k, _loose(inner)) for k, inner in value.items() if k != "id")
        case list():
            return frozenset(_loose(inner) for inner in value)
        case str():
            return loose_text(value)
    return frozen(value)


def _about_equal(first: Value, second: Value) -> bool:
    """Rounded to the digits of the less precise."""
    if isinstance(first, Quantity) or isinstance(second, Quantity):
        return equal_values(first, second) is True
    if type(first) not in (int, Decimal) or type(second) not in (int, Decimal):
        return False
    one, other = Decimal(str(first)), Decimal(str(second))
    places = min(_places(one), _places(other))
    return round(one, places) == round(other, places)


def _places(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _about_same_amount(first: Quantity, second: Quantity) -> bool:
    """Years and months are near enough to UCUM's `a` and `mo`."""
    amounts = _in_one_unit(_in_words(first), _in_words(second))
    return amounts is not None and _about_equal(*amounts)


def _in_words(quantity: Quantity) -> Quantity:
    word = WORD_OF_UCUM.get(quantity.unit) if quantity.system == UCUM else None
    return Quantity(quantity.value, word, calendar=True) if word else quantity


# Order ---------------------------------------------------------------------------------------


def order(left: Item, right: Item) -> int | None:
    """-1, 0 or 1; None where one cannot say or one side has no value.

    Raises:
        EvaluationError: for what has no order, or none with the other.
    """
    first, second = value_of(left), value_of(right)
    if first is None or second is None:
        return None
    if isinstance(first, Moment) and isinstance(second, Moment):
        if (first.kind == "time") != (second.kind == "time"):
            raise EvaluationError("A time of day cannot be compared with a date")
        return moments.order(first, second)
    if isinstance(first, str) and isinstance(second, str):
        return (first > second) - (first < second)
    one, other = _as_quantity(first), _as_quantity(second)
    if one is None or other is None:
        raise EvaluationError(f"{left.type} cannot be compared with {right.type}")
    amounts = _in_one_unit(one, other)
    return None if amounts is None else (amounts[0] > amounts[1]) - (amounts[0] < amounts[1])
