"""FHIRPath text to syntax tree: the whole of the first normative release.

Source: https://hl7.org/fhirpath/N1/#operator-precedence and grammar.html there.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Final

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    Empty,
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
from fhir_server.fhirpath.lex import Token, tokens
from fhir_server.fhirpath.problems import BadSyntax

MAX_LENGTH: Final = 20_000
"""Characters; the longest of R4's has 700."""
MAX_DEPTH: Final = 30
"""Levels of parentheses, arguments and signs."""
MAX_CHAIN: Final = 100
"""Steps or operators after each other: the tree is as deep as that."""

CALENDAR: Final = {
    unit + plural: unit
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
}
"""The words for units of time, with their singular."""

LEVELS: Final[tuple[tuple[str, ...], ...]] = (
    ("implies",),
    ("or", "xor"),
    ("and",),
    ("in", "contains"),
    ("=", "~", "!=", "!~"),
    ("is", "as"),
    ("<", ">", "<=", ">="),
    ("|",),
    ("+", "-", "&"),
    ("*", "/", "div", "mod"),
)
"""From what binds least to what binds most."""
_KEYWORDS: Final = frozenset({"and", "or", "xor", "implies", "div", "mod", "true", "false"})


@lru_cache(maxsize=4096)
def parse(expression: str) -> Node:
    """The tree of an expression.

    Raises:
        BadSyntax: with the position of what does not belong.
    """
    if len(expression) > MAX_LENGTH:
        raise BadSyntax(f"An expression has at most {MAX_LENGTH} characters", MAX_LENGTH)
    return _Parser(expression).whole()


class _Parser:
    """Recursive descent over the tokens, one method for each kind of operand."""

    def __init__(self, expression: str) -> None:
        self._tokens = tokens(expression)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        found = self._expression()
        if self._token.kind != "end":
            raise self._unexpected()
        return found

    # Operators -------------------------------------------------------------------------------

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadSyntax(f"More than {MAX_DEPTH} levels", self._token.position)
        found = self._level(0)
        self._depth -= 1
        return found

    def _level(self, level: int) -> Node:
        if level == len(LEVELS):
            return self._sign()
        found = self._level(level + 1)
        for _ in range(MAX_CHAIN):
            token = self._token
            if token.kind not in ("name", "symbol") or token.text not in LEVELS[level]:
                return found
            self._at += 1
            found = self._operation(found, token.text, level)
        raise BadSyntax(f"More than {MAX_CHAIN} operators in a row", self._token.position)

    def _operation(self, left: Node, operator: str, level: int) -> Node:
        if operator in ("is", "as"):
            return TypeTest(operator, left, self._type_name())
        return Binary(operator, left, self._level(level + 1))

    def _sign(self) -> Node:
        signs: list[str] = []
        while self._token.kind == "symbol" and self._token.text in ("+", "-"):
            signs.append(self._token.text)
            self._at += 1
            if len(signs) > MAX_DEPTH:
                raise BadSyntax(f"More than {MAX_DEPTH} signs", self._token.position)
        found = self._path()
        for sign in reversed(signs):
            found = Sign(sign, found)
        return found

    # Paths -----------------------------------------------------------------------------------

    def _path(self) -> Node:
        found = self._term()
        for _ in range(MAX_CHAIN):
            if self._accept("."):
                found = self._member(found)
            elif self._accept("["):
                found = Index(found, self._expression())
                self._expect("]")
            else:
                return found
        raise BadSyntax(f"More than {MAX_CHAIN} steps", self._token.position)

    def _member(self, source: Node | None) -> Node:
        token = self._next()
        if source is not None and token.kind == "variable":
            return Call(source, "select", (Variable(token.text),))
        if token.kind not in ("name", "quoted"):
            raise self._unexpected(token)
        if token.kind == "name" and token.text in _KEYWORDS:
            raise self._unexpected(token)
        if self._accept("("):
            return Call(source, token.text, self._arguments())
        return Step(source, token.text)

    def _arguments(self) -> tuple[Node, ...]:
        if self._accept(")"):
            return ()
        found = [self._expression()]
        while self._accept(","):
            found.append(self._expression())
        self._expect(")")
        return tuple(found)

    def _type_name(self) -> str:
        names = [self._name()]
        if self._accept("."):
            names.append(self._name())
        return ".".join(names)

    def _name(self) -> str:
        token = self._next()
        if token.kind not in ("name", "quoted"):
            raise self._unexpected(token)
        return token.text

    # Operands --------------------------------------------------------------------------------

    def _term(self) -> Node:
        token = self._token
        if token.kind == "symbol":
            return self._enclosed()
        if token.kind == "quoted" or (token.kind == "name" and token.text not in _KEYWORDS):
            return self._member(None)
        self._at += 1
        match token.kind:
            case "string":
                return Literal(token.text)
            case "number":
                return self._number(token.text)
            case "moment":
                return Moment(token.text)
            case "variable":
                return Variable(token.text)
            case "external":
                return External(token.text)
            case "name" if token.text in ("true", "false"):
                return Literal(token.text == "true")
        raise self._unexpected(token)

    def _enclosed(self) -> Node:
        if self._accept("("):
            found = self._expression()
            self._expect(")")
            return found
        if self._accept("{"):
            self._expect("}")
            return Empty()
        raise self._unexpected()

    def _number(self, text: str) -> Node:
        token = self._token
        if token.kind == "string":
            self._at += 1
            return QuantityLiteral(Decimal(text), token.text, calendar=False)
        if token.kind == "name" and token.text in CALENDAR:
            self._at += 1
            return QuantityLiteral(Decimal(text), CALENDAR[token.text], calendar=True)
        return Literal(Decimal(text) if "." in text else int(text))

    # Tokens ----------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._at += 1
        return token

    def _accept(self, symbol: str) -> bool:
        if self._token.kind != "symbol" or self._token.text != symbol:
            return False
        self._at += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self._unexpected(wanted=symbol)

    def _unexpected(self, token: Token | None = None, wanted: str = "") -> BadSyntax:
        token = token or self._token
        what = "The end" if token.kind == "end" else repr(token.text)
        text = f"{what} where {wanted!r} is expected" if wanted else f"{what} is not expected"
        return BadSyntax(text, token.position)
