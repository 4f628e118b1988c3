"""A syntax tree as text, with parentheses wherever they might be needed."""

import re
from typing import Final

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Moment,
    Node,
    QuantityLiteral,
    Sign,
    Step,
    TypeTest,
    Variable,
)

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RESERVED: Final = frozenset({"and", "or", "xor", "implies", "div", "mod", "true", "false"})


def render(node: Node) -> str:
    match node:
        case Literal(value=value):
            return _literal(value)
        case Moment(text=text):
            return f"@{text}"
        case QuantityLiteral(value=value, unit=unit, calendar=calendar):
            shown = unit if calendar else _quoted(unit, "'")
            return f"{value} {shown}"
        case External(name=name):
            return "%" + _name(name)
        case Variable(name=name):
            return f"${name}"
        case Step(source=source, name=name):
            return _after(source) + _name(name)
    return _compound(node)


def _compound(node: Node) -> str:
    match node:
        case Call(source=source, name=name, arguments=arguments):
            return f"{_after(source)}{_name(name)}({', '.join(map(render, arguments))})"
        case Index(source=source, index=index):
            return f"({render(source)})[{render(index)}]"
        case Sign(operator=operator, operand=operand):
            return f"({operator}({render(operand)}))"
        case Binary(operator=operator, left=left, right=right):
            return f"(({render(left)}) {operator} ({render(right)}))"
        case TypeTest(operator=operator, left=left, type=type_):
            return f"(({render(left)}) {operator} {_name(type_)})"
    return "{}"


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value, "'") if isinstance(value, str) else str(value)


def _after(source: Node | None) -> str:
    return "" if source is None else f"({render(source)})."


def _name(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and name not in _RESERVED
    return name if plain else _quoted(name, "`")


def _quoted(text: str, quote: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{escaped}{quote}"
