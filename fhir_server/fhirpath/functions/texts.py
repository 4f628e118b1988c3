"""Strings: https://hl7.org/fhirpath/N1/#string-manipulation.

`matches` and `replaceMatches` run on RE2, whose time is linear in the input whatever the
pattern: a client's text cannot make them backtrack. What RE2 has not (looking around, references
back) is refused when the expression is compiled, or when the pattern is known.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import re2

from fhir_server.fhirpath import shapes
from fhir_server.fhirpath.ast import Call, Literal
from fhir_server.fhirpath.functions.api import Build, Function, on_values, only, source_of
from fhir_server.fhirpath.items import NOTHING, Item, Items
from fhir_server.fhirpath.plan import Plan, Planner, Scope, boolean
from fhir_server.fhirpath.problems import BadExpression, EvaluationError
from fhir_server.fhirpath.types import INTEGER, STRING, Types

_STRING: Final = frozenset({STRING})
_TEXT: Final = (str,)
_NUMBER: Final = (int,)
_MOST_CHARACTERS: Final = 10_000_000
"""That a replacement may come to."""


def _tested(test: Callable[[str, str], bool]) -> Build:
    """A question about a text and one argument, as `startsWith`."""

    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        plan, argument = source_of(planner, call, focus), planner.plan(call.arguments[0], focus)
        source, given = plan.run, argument.run
        absent = False if planner.closed else None

        def truth(this: Item, scope: Scope) -> bool | None:
            text = only(source(this, scope), _TEXT, call.name)
            other = only(given(this, scope), _TEXT, call.name)
            if not isinstance(text, str) or not isinstance(other, str):
                return absent
            return test(text, other)

        if argument.constant is None or type(argument.constant.value) is not str:
            return boolean(truth)
        known: str = argument.constant.value
        return boolean(shapes.of_text(plan.path, lambda text: test(text, known), truth))

    return build


def _regular(test: Callable[[str, str], bool]) -> Build:
    build = _tested(test)

    def checked(planner: Planner, call: Call, focus: Types) -> Plan:
        """A pattern that is no regular expression is found when the definition is compiled."""
        pattern = call.arguments[0]
        if isinstance(pattern, Literal) and isinstance(pattern.value, str):
            try:
                _compiled(pattern.value)
            except EvaluationError as error:
                raise BadExpression(str(error)) from None
        return build(planner, call, focus)

    return checked


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise EvaluationError(
            f"'{pattern[:80]}' is not a regular expression that runs in linear time"
        ) from None


def _matches(text: str, pattern: str) -> bool:
    """Anywhere in the text; `^` and `$` are its ends."""
    return _compiled(pattern).search(text) is not None


def _matches_full(text: str, pattern: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None


def _replace_matches(text: str, pattern: str, replacement: str) -> str:
    return text if not pattern else _within(_compiled(pattern).sub(replacement, text))


def _replace(text: str, pattern: str, replacement: str) -> str:
    if len(text) * (len(replacement) + 1) > _MOST_CHARACTERS:
        raise EvaluationError("The text is too long to replace in")
    return text.replace(pattern, replacement)


def _within(text: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        raise EvaluationError("The text is too long to replace in")
    return text


def _substring(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus).run
    given = [planner.plan(argument, focus).run for argument in call.arguments]

    def run(this: Item, scope: Scope) -> Items:
        text = only(source(this, scope), _TEXT, "substring")
        start = only(given[0](this, scope), _NUMBER, "substring")
        if not isinstance(text, str) or not isinstance(start, int) or not 0 <= start < len(text):
            return NOTHING
        length = only(given[1](this, scope), _NUMBER, "substring") if len(given) > 1 else None
        end = len(text) if not isinstance(length, int) else start + max(length, 0)
        return [Item(text[start:end], STRING)]

    return Plan(run, _STRING)


def _to_chars(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus).run

    def run(this: Item, scope: Scope) -> Items:
        text = only(source(this, scope), _TEXT, "toChars")
        return [Item(one, STRING) for one in text] if isinstance(text, str) else NOTHING

    return Plan(run, _STRING)


def _on_text(compute: Callable[..., Any], types: Types, *more: tuple[type, ...]) -> Function:
    return Function(len(more), len(more), on_values(compute, types, _TEXT, *more))


_INTEGER: Final = frozenset({INTEGER})

FUNCTIONS: Final = {
    "startsWith": Function(1, 1, _tested(str.startswith)),
    "endsWith": Function(1, 1, _tested(str.endswith)),
    "contains": Function(1, 1, _tested(str.__contains__)),
    "matches": Function(1, 1, _regular(_matches)),
    "matchesFull": Function(1, 1, _regular(_matches_full)),
    "replaceMatches": _on_text(_replace_matches, _STRING, _TEXT, _TEXT),
    "replace": _on_text(_replace, _STRING, _TEXT, _TEXT),
    "indexOf": _on_text(str.find, _INTEGER, _TEXT),
    "substring": Function(1, 2, _substring),
    "upper": _on_text(str.upper, _STRING),
    "lower": _on_text(str.lower, _STRING),
    "length": _on_text(len, _INTEGER),
    "toChars": Function(0, 0, _to_chars),
}
