"""The tokens of FHIRPath.

Source: https://hl7.org/fhirpath/N1/grammar.html; comments and escapes
https://hl7.org/fhirpath/N1/#string.
"""

import re
from typing import Final, NamedTuple

from fhir_server.fhirpath.problems import BadSyntax


class Token(NamedTuple):
    """`kind` is name, quoted, string, number, moment, variable, external, symbol or end."""

    kind: str
    text: str
    position: int


_SPACE: Final = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_TOKEN: Final = re.compile(
    r"(?P<moment>@(?:T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?"
    r"|\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?))"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<quoted>`(?:[^`\\]|\\.)*`)"
    r"|(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<variable>\$(?:this|index|total)\b)"
    r"|(?P<external>%(?:[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'))"
    r"|(?P<symbol><=|>=|!=|!~|[-+*/&|=~<>.,()\[\]{}])",
    re.ASCII | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_MAX_DIGITS: Final = 40
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def tokens(expression: str) -> list[Token]:
    """With an `end` token at the end.

    Raises:
        BadSyntax: at what begins no token.
    """
    found: list[Token] = []
    at = _after_space(expression, 0)
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise BadSyntax(f"{expression[at]!r} does not begin a FHIRPath token", at)
        kind = str(match.lastgroup)
        if kind == "number" and len(match[0]) > _MAX_DIGITS:
            raise BadSyntax(f"A number has at most {_MAX_DIGITS} digits", at)
        found.append(Token(kind, _text(kind, match[0], at), at))
        at = _after_space(expression, match.end())
    return [*found, Token("end", "", len(expression))]


def _after_space(expression: str, at: int) -> int:
    space = _SPACE.match(expression, at)
    return space.end() if space else at


def _text(kind: str, raw: str, at: int) -> str:
    if kind in ("quoted", "string"):
        return _unescaped(raw[1:-1], at)
    if kind == "external":
        return _unescaped(raw[2:-1], at) if raw[1] in "`'" else raw[1:]
    return raw[1:] if kind in ("moment", "variable") else raw


def _unescaped(text: str, at: int) -> str:
    """R4's own regular expressions write `\\.` and the like plainly; the standard has no such
    escape, and an unknown one stands for the character, as in JavaScript."""

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] == "u":
            raise BadSyntax("\\u takes four hexadecimal digits", at)
        return _ESCAPED.get(match[2], match[2])

    return _ESCAPE.sub(character, text) if "\\" in text else text
