"""The values of `_text` and `_content`: words, phrases and how they go together.

https://hl7.org/fhir/R4/search.html#text leaves the language to the server, and has
`(bone OR liver) and metastases` as its example. Here:

    either = every (("OR" | ",") every)*
    every  = one (["AND"] one)*
    one    = ("NOT" | "-") one | "(" either ")" | '"' phrase '"' ["*"] | word ["*"]

AND and OR in any case, NOT in capitals alone: "not eating" is two words.
"""

import re
from typing import Final

from fhir_server.search.ast import And, Node, Not, Or, TextMatches
from fhir_server.search.operands import BadOperand
from fhir_server.search.syntax import Cursor
from fhir_server.search.words import words

_PHRASE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\*?)', re.DOTALL)
_CHUNK: Final = re.compile(r'(?:\\.|[^\s()",\\])+', re.DOTALL)
_MINUS: Final = re.compile(r'-(?=[\w("])')
_SHORTEST_BEGINNING: Final = 2
_WANTED: Final = "a word, a phrase in quotes or a bracket"


class _Reader:
    """Reads one value; `count` is how many words it asks for."""

    def __init__(self, code: str, cursor: Cursor) -> None:
        self._code = code
        self._cursor = cursor
        self.count = 0

    def read(self) -> Node:
        found = self._either()
        if self._cursor.at < len(self._cursor.text):
            raise self._cursor.expected("AND, OR or the end")
        return found

    def _either(self) -> Node:
        found = [self._every()]
        while self._keyword("or") or self._comma():
            found.append(self._every())
        return Or(tuple(found)) if len(found) > 1 else found[0]

    def _every(self) -> Node:
        found: list[Node] = []
        while True:
            one = self._one()
            if one is not None:
                found.append(one)
            if not self._keyword("and") and self._ends():
                break
        if not found:
            raise self._cursor.expected(_WANTED)
        return And(tuple(found)) if len(found) > 1 else found[0]

    def _one(self) -> Node | None:
        """None for a sign that is no word."""
        cursor = self._cursor
        if self._keyword("NOT", as_written=True) or self._minus():
            return self._negated()
        if cursor.stands("("):
            return self._bracket()
        phrase = _PHRASE.match(cursor.text, cursor.at)
        if phrase is not None:
            return self._matches(phrase[1], bool(phrase[2]), phrase.end())
        chunk = _CHUNK.match(cursor.text, cursor.at)
        if cursor.stands('"'):
            raise BadOperand(
                f"At character {cursor.at + 1}: the quote that opens here never closes"
            )
        if chunk is None or self._stands_keyword("and", "or"):
            raise cursor.expected(_WANTED)
        if not words(chunk[0]):
            cursor.at = chunk.end()
            cursor.skip_spaces()
            return None
        return self._matches(chunk[0], chunk[0].endswith("*"), chunk.end())

    def _negated(self) -> Node:
        self._cursor.deeper()
        found = self._one()
        self._cursor.shallower()
        if found is None:
            raise self._cursor.expected(_WANTED)
        return Not(found)

    def _bracket(self) -> Node:
        cursor = self._cursor
        cursor.deeper()
        cursor.at += 1
        found = self._either()
        if not cursor.stands(")"):
            raise cursor.expected("AND, OR or )")
        cursor.at += 1
        cursor.skip_spaces()
        cursor.shallower()
        return found

    def _matches(self, text: str, prefix: bool, end: int) -> Node:
        found = words(text)
        if not found:
            raise self._cursor.expected("a phrase with a letter or digit in it")
        # One sign of a script without an alphabet may be a word.
        if prefix and found[-1].isascii() and len(found[-1]) < _SHORTEST_BEGINNING:
            raise self._cursor.expected(
                f"a beginning of at least {_SHORTEST_BEGINNING} characters before the *"
            )
        self.count += len(found)
        self._cursor.at = end
        self._cursor.skip_spaces()
        return TextMatches(self._code, " ".join(found), prefix)

    def _ends(self) -> bool:
        """Of what AND holds together."""
        cursor = self._cursor
        cursor.skip_spaces()
        at_end = cursor.at >= len(cursor.text)
        return at_end or cursor.stands(")") or cursor.stands(",") or self._stands_keyword("or")

    def _comma(self) -> bool:
        self._cursor.skip_spaces()
        found = self._cursor.stands(",")
        self._cursor.at += found
        return found

    def _minus(self) -> bool:
        found = _MINUS.match(self._cursor.text, self._cursor.at)
        self._cursor.at += bool(found)
        return found is not None

    def _keyword(self, word: str, *, as_written: bool = False) -> bool:
        if not self._stands_keyword(word, as_written=as_written):
            return False
        self._cursor.at += len(word)
        return True

    def _stands_keyword(self, *keywords: str, as_written: bool = False) -> bool:
        self._cursor.skip_spaces()
        chunk = _CHUNK.match(self._cursor.text, self._cursor.at)
        found = chunk[0] if chunk else ""
        return (found if as_written else found.lower()) in keywords


def text_query(code: str, cursor: Cursor) -> tuple[Node, int]:
    """What the text must satisfy, and how many words that asks for.

    Raises:
        BadOperand: with the place of what is wrong.
        FhirError: TOO_COSTLY where it is too long or nested too deep.
    """
    reader = _Reader(code, cursor)
    return reader.read(), reader.count
