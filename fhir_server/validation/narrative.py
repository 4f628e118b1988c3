"""The XHTML of a narrative.

Rules: https://hl7.org/fhir/R4/narrative.html#xhtml and the constraints txt-1 (which elements and
attributes) and txt-2 (some content) of https://hl7.org/fhir/R4/narrative.html#Narrative. No DTD
and no entities but XML's five, so nothing expands and nothing is fetched.
"""

import re
from typing import Final
from xml.parsers import expat

_NAMESPACE: Final = "http://www.w3.org/1999/xhtml"
_XML_NAMESPACE: Final = "http://www.w3.org/XML/1998/namespace"
_DECLARATION: Final = re.compile(r"<!(?!--|\[CDATA\[)|<\?")
_ALLOWED_ELEMENTS: Final = (
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 "
    "h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th "
    "thead tr tt ul var"
)
_ALLOWED_ATTRIBUTES: Final = (
    "abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign "
    "char charoff charset cite class colspan compact coords dir frame headers height href hreflang "
    "hspace id lang longdesc name nowrap rel rev rowspan rules scope shape span src start style "
    "summary tabindex title type valign value vspace width"
)
_ELEMENTS: Final = frozenset(_ALLOWED_ELEMENTS.split())
_ATTRIBUTES: Final = frozenset(_ALLOWED_ATTRIBUTES.split())

_TEXT: Final = r"[^<>&\s][^<>&]*+"
_is_plain: Final = re.compile(
    f'<div xmlns="{_NAMESPACE}">(?!\\s*</div>)[^<>&]*+'
    rf"(?:<(p|b|i|em|strong|span|h[1-6])>{_TEXT}</\1>[^<>&]*+)*+</div>"
).fullmatch
"""Paragraphs and the like side by side, each with text: what most narratives are."""


class _Reader:
    """Collects the first problem and whether there is content, while expat reads."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.has_content = False
        self._is_root = True

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if self._is_root and (namespace, local) != (_NAMESPACE, "div"):
            self._refuse(f'must be a <div xmlns="{_NAMESPACE}">')
        elif namespace != _NAMESPACE or local not in _ELEMENTS:
            self._refuse(f"must not contain the element <{local[:30]}> (txt-1)")
        for attribute in attributes:
            self._attribute(attribute)
        self._is_root = False
        self.has_content |= local == "img"

    def _attribute(self, name: str) -> None:
        namespace, _, local = name.rpartition(" ")
        if local not in _ATTRIBUTES or namespace not in ("", _XML_NAMESPACE):
            self._refuse(f"must not contain the attribute {local[:30]} (txt-1)")

    def text(self, text: str) -> None:
        self.has_content = self.has_content or not text.isspace()

    def _refuse(self, problem: str) -> None:
        self.problem = self.problem or problem


def xhtml_problem(text: str) -> str | None:
    """What is wrong with the `div` of a Narrative, or None."""
    return None if is_plain(text) else read_problem(text)


def is_plain(text: str) -> bool:
    """Whether it is plainly right; what is not may be right all the same."""
    return text.isprintable() and _is_plain(text) is not None


def read_problem(text: str) -> str | None:
    """The same of any, by reading it."""
    if _DECLARATION.search(text):
        return "must not contain declarations or processing instructions (<!DOCTYPE, <!ENTITY, <?)"
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError) as error:
        return f"must be well-formed XHTML: {error}"
    return reader.problem or _content_problem(reader)


def _content_problem(reader: _Reader) -> str | None:
    return None if reader.has_content else "must have some text or an image (txt-2)"
