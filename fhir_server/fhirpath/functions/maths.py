"""Mathematics: https://hl7.org/fhirpath/N1/#math."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

from fhir_server.fhirpath.functions.api import Function, on_values
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.types import DECIMAL, INTEGER
from fhir_server.fhirpath.values import Quantity, Value, bounded

Number = int | Decimal

_NUMBER: Final = (int, Decimal)
_MOST_PLACES: Final = 27


def _absolute(value: Number | Quantity) -> Value:
    if isinstance(value, Quantity):
        return Quantity(abs(value.value), value.unit, value.calendar, value.system)
    return -value if value < 0 else value


def _ceiling(value: Number) -> int:
    return int(Decimal(value).to_integral_value(ROUND_CEILING))


def _floor(value: Number) -> int:
    return int(Decimal(value).to_integral_value(ROUND_FLOOR))


def _truncate(value: Number) -> int:
    return int(value)


def _round(value: Number, places: int = 0) -> Decimal:
    if not 0 <= places <= _MOST_PLACES:
        raise EvaluationError(f"round() takes from 0 to {_MOST_PLACES} places")
    return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _exponential(value: Number) -> Decimal:
    return bounded(Decimal(value).exp())


def _logarithm(value: Number) -> Decimal | None:
    return Decimal(value).ln() if value > 0 else None


def _logarithm_to(value: Number, base: Number) -> Decimal | None:
    if value <= 0 or base <= 0 or base == 1:
        return None
    return (Decimal(value).ln() / Decimal(base).ln()).quantize(_TENTH_DIGIT).normalize() + 0


_TENTH_DIGIT: Final = Decimal("1E-10")


def _power(value: Number, exponent: Number) -> Number | None:
    if value < 0 and exponent != int(exponent):
        return None
    if value == 0 and exponent <= 0:
        return None if exponent < 0 else 1
    found = bounded(Decimal(value) ** Decimal(exponent))
    whole = isinstance(value, int) and isinstance(exponent, int) and exponent >= 0
    return int(found) if whole else found


def _root(value: Number) -> Decimal | None:
    return Decimal(value).sqrt() if value >= 0 else None


_INTEGER: Final = frozenset({INTEGER})
_DECIMAL: Final = frozenset({DECIMAL})

FUNCTIONS: Final = {
    "abs": Function(0, 0, on_values(_absolute, None, (*_NUMBER, Quantity))),
    "ceiling": Function(0, 0, on_values(_ceiling, _INTEGER, _NUMBER)),
    "floor": Function(0, 0, on_values(_floor, _INTEGER, _NUMBER)),
    "truncate": Function(0, 0, on_values(_truncate, _INTEGER, _NUMBER)),
    "round": Function(0, 1, on_values(_round, _DECIMAL, _NUMBER, (int,))),
    "exp": Function(0, 0, on_values(_exponential, _DECIMAL, _NUMBER)),
    "ln": Function(0, 0, on_values(_logarithm, _DECIMAL, _NUMBER)),
    "log": Function(1, 1, on_values(_logarithm_to, _DECIMAL, _NUMBER, _NUMBER)),
    "power": Function(1, 1, on_values(_power, None, _NUMBER, _NUMBER)),
    "sqrt": Function(0, 0, on_values(_root, _DECIMAL, _NUMBER)),
}
