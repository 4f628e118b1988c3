"""What a profile says of a single value: fixed, pattern, length and range.

Source: https://hl7.org/fhir/R4/elementdefinition.html
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from operator import eq
from typing import Any, Final

from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.tree import Node
from fhir_server.validation.profiles.values import (
    PREFIXES,
    Test,
    given,
    paths_of,
    shown_value,
    value_test,
)
from fhir_server.validation.report import Report

_WORDS: Final = {"fixed": "must be", "pattern": "must have"}
_RANGE: Final = {"minValue": "at least", "maxValue": "at most"}


def detail_rules(node: Node, say: Say) -> Iterator[Rule]:
    """Only what R4 itself does not say of the element."""
    for prefix in PREFIXES:
        found = given(node.element, prefix)
        if found is not None and found != given(node.base, prefix):
            yield _value(prefix, found[1], say)
    longest = node.element.get("maxLength")
    if longest is not None and longest != node.base.get("maxLength"):
        yield _length(longest, say)
    for prefix in _RANGE:
        found = given(node.element, prefix)
        if found is not None and found != given(node.base, prefix):
            yield _bound(prefix, found[1], say)


def only_text(node: Node, rules: Sequence[Rule]) -> Test | None:
    """Whether a value is the text that the element has to have, if that is all that is said."""
    if len(rules) != 1:
        return None
    for prefix in PREFIXES:
        found = given(node.element, prefix)
        if found is not None and found != given(node.base, prefix) and isinstance(found[1], str):
            return partial(eq, found[1])
    return None


def _value(prefix: str, wanted: Any, say: Say) -> Rule:
    fits, word = value_test(prefix, wanted), _WORDS[prefix]
    paths = paths_of(wanted)

    def rule(item: Item, report: Report) -> None:
        if not fits(item.value) and not report.has_wrong(item.place, paths):
            found = "" if item.value is None else f", not {shown_value(item.value)}"
            say(report, item.place, f"{word} {shown_value(wanted)}{found}", "value", prefix)

    return rule


def _length(longest: int, say: Say) -> Rule:
    def rule(item: Item, report: Report) -> None:
        if isinstance(item.value, str) and len(item.value) > longest:
            text = f"must have at most {longest} characters, not {len(item.value)}"
            say(report, item.place, text, "too-long", "maxLength")

    return rule


def _bound(prefix: str, limit: Any, say: Say) -> Rule:
    """Of numbers, and of dates and times that are written alike."""

    def rule(item: Item, report: Report) -> None:
        value = item.value
        if _comparable(value, limit) and (value < limit if prefix == "minValue" else value > limit):
            text = f"must be {_RANGE[prefix]} {shown_value(limit)}, not {shown_value(value)}"
            say(report, item.place, text, "value", prefix)

    return rule


def _comparable(value: Any, limit: Any) -> bool:
    if isinstance(value, str) and isinstance(limit, str):
        return len(value) == len(limit)
    numbers = int | Decimal
    return isinstance(value, numbers) and isinstance(limit, numbers) and value is not True
