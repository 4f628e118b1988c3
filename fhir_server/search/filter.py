"""The grammar of `_filter`: from the text to a tree that keeps where everything stood.

https://hl7.org/fhir/R4/search_filter.html

    filter = one (("and" | "or") one)*         from left to right, neither binds closer
    one    = "not" "(" filter ")" | "(" filter ")" | path operator value
    path   = step ("." step)*
    step   = name [":" Type] ["[" filter "]"]  the last has neither
    value  = a JSON string | what goes on to a space, ")" or "]"

What the names, operators and values mean for a resource type is in `filtering.py`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from fhir_server.search.operands import BadOperand
from fhir_server.search.syntax import Cursor

OPERATORS: Final = (
    *("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb"),
    *("pr", "po", "ss", "sb", "in", "ni", "re"),
)
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TOKEN: Final = re.compile(r"[^\s\])]+")
_STRINGS: Final = json.JSONDecoder()


class Placed(NamedTuple):
    """A piece of the text, and its first character, counted from 1."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Step:
    """A name on a path; `type` is '' where none is named."""

    name: Placed
    type: str = ""
    where: "Filter | None" = None


@dataclass(frozen=True, slots=True)
class Test:
    """What the values at the end of the path must be; `steps` is never empty."""

    steps: tuple[Step, ...]
    operator: Placed
    value: Placed


@dataclass(frozen=True, slots=True)
class Both:
    filters: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    filters: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Negation:
    filter: "Filter"


Filter = Test | Both | Either | Negation
_JOINS: Final[dict[str, type[Both] | type[Either]]] = {"and": Both, "or": Either}


def read_filter(cursor: Cursor) -> Filter:
    """The whole text as one filter.

    Raises:
        BadOperand: with the character at which it cannot be read on, and what could stand there.
        FhirError: TOO_COSTLY where it is too long or nested too deep.
    """
    found = _filter(cursor)
    if cursor.at < len(cursor.text):
        raise cursor.expected("and, or or the end")
    return found


def _filter(cursor: Cursor) -> Filter:
    found = _one(cursor)
    changes = 0
    while (join := _join(cursor)) is not None:
        following = [_one(cursor)]
        while _join(cursor, join) is not None:
            following.append(_one(cursor))
        if changes:
            cursor.deeper()
        changes += 1
        found = join((found, *following))
    cursor.shallower(max(0, changes - 1))
    return found


def _join(
    cursor: Cursor, only: type[Both] | type[Either] | None = None
) -> type[Both] | type[Either] | None:
    """Past an `and` or `or`, if one stands here."""
    cursor.skip_spaces()
    word = _WORD.match(cursor.text, cursor.at)
    join = _JOINS.get(word[0].lower()) if word else None
    if word is None or join is None or (only is not None and join is not only):
        return None
    cursor.at = word.end()
    return join


def _one(cursor: Cursor) -> Filter:
    cursor.skip_spaces()
    if cursor.stands("("):
        return _bracketed(cursor, ")")
    word = _WORD.match(cursor.text, cursor.at)
    if word is None:
        raise cursor.expected("a parameter's name, not ( or (")
    if word[0].lower() == "not":
        cursor.at = word.end()
        cursor.skip_spaces()
        if not cursor.stands("("):
            raise cursor.expected("( after not")
        return Negation(_bracketed(cursor, ")"))
    return _test(cursor)


def _bracketed(cursor: Cursor, closing: str) -> Filter:
    cursor.deeper()
    cursor.at += 1
    found = _filter(cursor)
    if not cursor.stands(closing):
        raise cursor.expected(f"and, or or {closing}")
    cursor.at += 1
    cursor.shallower()
    return found


def _test(cursor: Cursor) -> Test:
    steps = [_step(cursor)]
    while cursor.stands("."):
        cursor.at += 1
        steps.append(_step(cursor))
    last = steps[-1]
    if last.type or last.where is not None:
        raise cursor.expected(". and a parameter's name")
    _space(cursor, "a space and an operator")
    operator = _operator(cursor)
    _space(cursor, "a space and a value")
    return Test(tuple(steps), operator, _value(cursor))


def _step(cursor: Cursor) -> Step:
    name = _read(cursor, "a parameter's name")
    type_name, where = "", None
    if cursor.stands(":"):
        cursor.at += 1
        type_name = _read(cursor, "a resource type").text
    if cursor.stands("["):
        where = _bracketed(cursor, "]")
    return Step(name, type_name, where)


def _operator(cursor: Cursor) -> Placed:
    wanted = f"an operator ({', '.join(OPERATORS)})"
    at = cursor.at
    found = _read(cursor, wanted)
    if found.text.lower() not in OPERATORS:
        cursor.at = at
        raise cursor.expected(wanted)
    return Placed(found.text.lower(), found.at)


def _value(cursor: Cursor) -> Placed:
    at = cursor.at
    read: Callable[[Cursor], str] = _string if cursor.stands('"') else _token
    return Placed(read(cursor), at + 1)


def _token(cursor: Cursor) -> str:
    found = _TOKEN.match(cursor.text, cursor.at)
    if found is None:
        raise cursor.expected('a value, in "quotes" if it has spaces, ) or ],')
    cursor.at = found.end()
    return found[0]


def _string(cursor: Cursor) -> str:
    """A JSON string: https://www.rfc-editor.org/rfc/rfc8259#section-7"""
    try:
        text, end = _STRINGS.raw_decode(cursor.text, cursor.at)
    except json.JSONDecodeError as error:
        raise BadOperand(
            f"At character {error.pos + 1}: no JSON string ({error.msg}); quotes and backslashes "
            r"within one are written \" and \\"
        ) from None
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise BadOperand(f"At character {cursor.at + 1}: the string has half of a surrogate pair")
    cursor.at = end
    if end < len(cursor.text) and cursor.text[end] not in ")] \t\r\n":
        raise cursor.expected("a space, ) or ]")
    return str(text)


def _read(cursor: Cursor, what: str) -> Placed:
    found = _WORD.match(cursor.text, cursor.at)
    if found is None:
        raise cursor.expected(what)
    cursor.at = found.end()
    return Placed(found[0], found.start() + 1)


def _space(cursor: Cursor, what: str) -> None:
    before = cursor.at
    cursor.skip_spaces()
    if cursor.at == before:
        raise cursor.expected(what)
