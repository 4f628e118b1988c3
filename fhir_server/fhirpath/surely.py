"""What is met at a glance: a quick look that says yes, or leaves it to the expression.

Three questions are asked of nearly every keyworking plan: whether something is there or something
else, whether a value is long enough (a date to the day), and whether a text has more than blanks.
Where the plain JSON answers them, the expression need not be evaluated; where it does not, nothing
is decided here.
"""

from collections.abc import Callable
from typing import Any, Final

from fhir_server.fhirpath.ast import Binary, Call, Literal, Node, Step, Variable
from fhir_server.fhirpath.items import keys

Surely = Callable[[dict[str, Any]], bool]
BLANKS: Final = " \t\n\f\r"
"""What `\\\\s` is in RE2 (https://github.com/google/re2/wiki/Syntax)."""
SOMETHING: Final = r"\S"


def surely(node: Node, type_name: str) -> Surely | None:
    """The quick look of an invariant of that type, None where it has none."""
    match node:
        case Binary("or", Call(Step(None, name), "exists", ()), _):
            return _is_there(name) if _is_plain(type_name, name) else None
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


def _is_plain(type_name: str, name: str) -> bool:
    """Whether a primitive stands there in JSON under that very name."""
    found = keys(type_name, name)
    return len(found) == 1 and found[0].name == name and found[0].primitive


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
