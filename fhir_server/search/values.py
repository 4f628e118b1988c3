"""Index values: what a search compares, normalised once for every backend.

Source: https://hl7.org/fhir/R4/search.html#ptypes.
"""

import string
import sys
import unicodedata
from decimal import Decimal
from typing import Final, NamedTuple

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
INFINITY: Final = sys.float_info.max
"""Open ends of a range, and whatever lies beyond: a number that JSON can carry in a page link."""


class TokenValue(NamedTuple):
    """A code in a system; `system` is '' where the resource names none."""

    system: str
    code: str


class StringValue(NamedTuple):
    """`text` folded for comparison, `exact` as written."""

    text: str
    exact: str


class ReferenceValue(NamedTuple):
    """`target` is `Type/id` on this server, else the whole URI; `version` is '' if not named."""

    target: str
    version: str = ""


class DateValue(NamedTuple):
    """`[low, high)` in microseconds since the epoch."""

    low: int
    high: int


class NumberValue(NamedTuple):
    """`[low, high]`; the two are equal for a plain number."""

    low: float
    high: float


class QuantityValue(NamedTuple):
    """`[low, high]` in a unit; `system`, `code` and `unit` are '' where absent."""

    low: float
    high: float
    system: str
    code: str
    unit: str


class UriValue(NamedTuple):
    uri: str


class PositionValue(NamedTuple):
    """Degrees in WGS84: latitude in [-90, 90], longitude in [-180, 180)."""

    latitude: float
    longitude: float


class TextValue(NamedTuple):
    """Words of a whole text, folded, with a space between (`words.running_words`)."""

    words: str


PlainValue = (
    TokenValue
    | StringValue
    | ReferenceValue
    | DateValue
    | NumberValue
    | QuantityValue
    | UriValue
    | PositionValue
)


class CompositeValue(NamedTuple):
    """What one element has for each component; none of them is empty."""

    parts: tuple[tuple[PlainValue, ...], ...]


class ContainedValue(NamedTuple):
    """A contained resource by its id: its own index values, with their codes."""

    id: str
    values: "tuple[tuple[str, PlainValue | CompositeValue], ...]"


IndexValue = PlainValue | CompositeValue | TextValue | ContainedValue


def fold(text: str) -> str:
    """Text without case, accents and surplus white space, for comparing strings.

    Compatibility-decomposed, combining marks dropped, case-folded, white space collapsed.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    # Case folding can bring back decomposable characters, so normalise once more.
    return " ".join(unicodedata.normalize("NFKC", bare.casefold()).split())


def without_capitals(code: str) -> str:
    """With A to Z in lower case and all else as it is, as SQL's NOCASE has it."""
    return code.translate(_LOWER)


def to_float(number: Decimal | int) -> float:
    """The nearest double; beyond its range, its end. Order is kept, 15 digits are told apart."""
    try:
        return max(-INFINITY, min(INFINITY, float(number)))
    except OverflowError:
        return INFINITY if number > 0 else -INFINITY
