"""What is met at a glance: a quick look that says yes, or leaves it to the expression.

A few questions are asked of nearly every keyworking plan: whether something is there, once at the
most, with a url or a reference; whether a date is to the day and a text more than blanks. Where the
plain JSON answers them, the expression need not be evaluated; where it does not, nothing is decided
here. JSON that R4 itself refuses, such as a list where one value is wanted, is told of already.
"""

from collections.abc import Callable
from typing import Any, Final

from fhir_server.fhirpath.ast import Binary, Call, Literal, Node, Step, Variable
from fhir_server.fhirpath.items import Key, keys

Surely = Callable[[dict[str, Any]], bool]
BLANKS: Final = " \t\n\f\r"
"""What `\\\\s` is in RE2 (https://github.com/google/re2/wiki/Syntax)."""
SOMETHING: Final = r"\S"


def surely(node: Node, type_name: str) -> Surely | None:
    """The quick look of an invariant of that type, None where it has none."""
    match node:
        case Binary("implies", _, right):
            return surely(right, type_name)
        case Binary("or", left, right):
            return _either(surely(left, type_name), surely(right, type_name))
        case Call(Step(None, name), "exists", ()):
            return _is_there(name) if _is_plain(type_name, name) else None
        case Binary("=", Step(None, name), Literal(str(text))):
            return _is(name, text) if _is_plain(type_name, name) else None
        case Call(Call(Step(None, name), "where", (criterion,)), "exists", ()):
            return _has(type_name, name, criterion)
        case Binary(
            "<=", Call(Call(Step(None, name), "where", _), "count", ()), Literal(int(most))
        ):
            return _are_few(name, most) if _one(type_name, name) else None
        case Call(
            Call(
                Step(None, "value"),
                "where",
                (
                    Binary(
                        "and",
                        _,
                        Binary(
                            "<",
                            Call(Call(Variable("this"), "toString", ()), "length", ()),
                            Literal(int(least)),
                        ),
                    ),
                ),
            ),
            "empty",
            (),
        ) if type_name == "Extension":
            return _is_as_long(least)
        case Call(
            Call(
                Step(Step(None, "value"), name),
                "where",
                (Call(Call(Variable("this"), "matches", (Literal(value=pattern),)), "not", ()),),
            ),
            "empty",
            (),
        ) if type_name == "Extension" and pattern == SOMETHING:
            return _says_something(name)
    return None


def _one(type_name: str, name: str) -> Key | None:
    """What stands in JSON under that very name."""
    found = keys(type_name, name)
    return found[0] if len(found) == 1 and found[0].name == name else None


def _is_plain(type_name: str, name: str) -> bool:
    """Whether that is a primitive."""
    found = _one(type_name, name)
    return found is not None and found.primitive


def _either(first: Surely | None, second: Surely | None) -> Surely | None:
    if first is None or second is None:
        return first or second
    return lambda node: first(node) or second(node)


def _is(name: str, text: str) -> Surely:
    return lambda node: node.get(name) == text


def _has(type_name: str, name: str, criterion: Node) -> Surely | None:
    """An object under the name that surely meets the criterion."""
    key = _one(type_name, name)
    if key is None or key.primitive:
        return None
    met = surely(criterion, key.type)
    if met is None:
        return None

    def found(node: dict[str, Any]) -> bool:
        inner = node.get(name)
        objects = inner if type(inner) is list else (inner,)
        return any(type(one) is dict and met(one) for one in objects)

    return found


def _are_few(name: str, most: int) -> Surely:
    """No more at all than may be of some kind."""

    def found(node: dict[str, Any]) -> bool:
        inner = node.get(name)
        return type(inner) is list and len(inner) <= most

    return found


def _is_there(name: str) -> Surely:
    def found(node: dict[str, Any]) -> bool:
        value = node.get(name)
        return type(value) is str and value != ""

    return found


def _is_as_long(least: int) -> Surely:
    def found(extension: dict[str, Any]) -> bool:
        values = [one for name, one in extension.items() if name.startswith("value")]
        return len(values) == 1 and type(values[0]) is str and len(values[0]) >= least

    return found


def _says_something(name: str) -> Surely:
    def found(extension: dict[str, Any]) -> bool:
        values = [one for each, one in extension.items() if each.startswith("value")]
        text = values[0].get(name) if len(values) == 1 and type(values[0]) is dict else None
        return type(text) is str and text.strip(BLANKS) != ""

    return found
