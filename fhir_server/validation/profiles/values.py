"""Fixed values and patterns: https://hl7.org/fhir/R4/elementdefinition.html#ElementDefinition.

A fixed value is the whole value; a pattern is what has to be in it. Decimals compare by value.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

from fhir_server.fhir import json

_MAX_SHOWN: Final = 200


def given(element: Mapping[str, Any], prefix: str) -> tuple[str, Any] | None:
    """`fixedCode` or `patternCoding` with its value; None where the element has none."""
    for name, value in element.items():
        if name.startswith(prefix) and name[len(prefix) : len(prefix) + 1].isupper():
            return name, value
    return None


def is_fixed(value: Any, fixed: Any) -> bool:
    """The same, but for the order of members."""
    if isinstance(fixed, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == fixed.keys()
            and all(is_fixed(value[name], inner) for name, inner in fixed.items())
        )
    if isinstance(fixed, list):
        return (
            isinstance(value, list)
            and len(value) == len(fixed)
            and all(map(is_fixed, value, fixed))
        )
    return _same(value, fixed)


def has_pattern(value: Any, pattern: Any) -> bool:
    """All that the pattern has is in the value; of an array, each item in some item."""
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            name in value and has_pattern(value[name], inner) for name, inner in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(
            any(has_pattern(item, wanted) for item in value) for wanted in pattern
        )
    return _same(value, pattern)


def _same(value: Any, other: Any) -> bool:
    if type(value) is str and type(other) is str:
        return value == other
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, int | Decimal) and isinstance(other, int | Decimal):
        return value == other
    return type(value) is type(other) and bool(value == other)


Test = Callable[[Any], bool]
PREFIXES: Final = ("fixed", "pattern")


def value_test(prefix: str, wanted: Any) -> Test:
    """Whether a value is the fixed one or has the pattern."""
    return pattern_test(wanted) if prefix == "pattern" else partial(is_fixed, fixed=wanted)


def pattern_test(pattern: Any) -> Test:
    """`has_pattern` of one pattern, compiled."""
    if isinstance(pattern, Mapping):
        return _members_test({name: pattern_test(inner) for name, inner in pattern.items()})
    if isinstance(pattern, list):
        return _items_test([pattern_test(wanted) for wanted in pattern])
    return partial(_same, other=pattern)


def _members_test(tests: dict[str, Test]) -> Test:
    members = tuple(tests.items())

    def test(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        for name, fits in members:  # noqa: SIM110 - a generator would cost more than the tests
            if name not in value or not fits(value[name]):
                return False
        return True

    return test


def _items_test(tests: list[Test]) -> Test:
    def test(value: Any) -> bool:
        if not isinstance(value, list):
            return False
        return all(any(map(fits, value)) for fits in tests)

    return test


def paths_of(value: Any) -> frozenset[str]:
    """`coding`, `coding.code` of {"coding": [{"code": "a"}]}, and '' for all of it."""
    return frozenset(_paths(value, ""))


def _paths(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, list):
        for each in value:
            yield from _paths(each, path)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(inner, f"{path}.{name}" if path else name)


def texts_of(value: Any) -> Iterator[str]:
    """All that is written anywhere in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from texts_of(each)


def shown_value(value: Any) -> str:
    """As an error may repeat it: JSON, cut short."""
    text = value if isinstance(value, str) else json.encode(value).decode()
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return f"'{cut}'" if isinstance(value, str) else cut
