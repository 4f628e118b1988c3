"""The text of a resource, for `_text` (its narrative) and `_content` (all its text).

Sources: https://hl7.org/fhir/R4/search.html#text (what the two look at),
https://hl7.org/fhir/R4/narrative.html. Of the content, elements of the types string, markdown and
code count, and narratives, also those of contained resources and of extensions. Not: ids, `meta`,
addresses and references, numbers, dates, attached data.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Final
from xml.parsers import expat

from fhir_server.fhir.definitions import is_resource_type, search_parameters, type_definition
from fhir_server.search.values import TextValue
from fhir_server.search.words import BREAK, running_words

NARRATIVE: Final = "_text"
CONTENT: Final = "_content"
_INLINE_NAMES: Final = (
    "a abbr acronym b big cite code dfn em i q samp small span strong sub sup tt var"
)
_INLINE: Final = frozenset(_INLINE_NAMES.split())
"""Elements within a word or a sentence; the others end it."""
_TEXT: Final = frozenset({"string", "markdown", "code"})
_LEFT_OUT: Final = frozenset({"id", "meta"})
_LEFT_OUT_OF: Final[Mapping[str, frozenset[str]]] = {
    "Reference": frozenset({"reference"}),
    "Narrative": frozenset({"status"}),
}

_Texts = list[str]
_Reading = Callable[[Any, _Texts], None] | str
"""How a property is read; by its type's name, where it is an object or several."""


def texts(resource: Mapping[str, Any]) -> Iterator[tuple[str, TextValue]]:
    """Index values for `_text` and `_content`; the narrative is one of the content's."""
    narrative = running_words(_narrative(resource))
    if narrative:
        yield NARRATIVE, TextValue(narrative)
        yield CONTENT, TextValue(narrative)
    found: _Texts = []
    _read_members({k: v for k, v in resource.items() if k != "text"}, found, _of_resource(resource))
    rest = running_words(found)
    if rest and rest != narrative:
        yield CONTENT, TextValue(rest)


def _narrative(resource: Mapping[str, Any]) -> _Texts:
    found: _Texts = []
    narrative = resource.get("text")
    # A resource that has no narrative may have an element of that name.
    if isinstance(narrative, dict) and NARRATIVE in search_parameters(resource["resourceType"]):
        _read_xhtml(narrative.get("div"), found)
    return found


def _of_resource(resource: Mapping[str, Any]) -> Mapping[str, _Reading]:
    name = resource.get("resourceType")
    return _members(name) if isinstance(name, str) and is_resource_type(name) else {}


@cache
def _members(type_name: str) -> Mapping[str, _Reading]:
    """How each property of the type that may hold text is read."""
    skipped = _LEFT_OUT | _LEFT_OUT_OF.get(type_name, frozenset())
    found: dict[str, _Reading] = {}
    for name, element in type_definition(type_name).elements.items():
        reading = None if name in skipped else _reading(element.type)
        if reading is not None:
            found[name] = reading
        if element.type != "Resource" and type_definition(element.type).kind == "primitive":
            found[f"_{name}"] = "Element"
    return found


def _reading(type_name: str) -> _Reading | None:
    if type_name in _TEXT:
        return _read_string
    if type_name == "xhtml":
        return _read_xhtml
    if type_name == "Resource":
        return _read_resource
    primitive = type_definition(type_name).kind == "primitive"
    return None if primitive else type_name


def _read_members(node: Mapping[str, Any], found: _Texts, members: Mapping[str, _Reading]) -> None:
    for name, value in node.items():
        reading = members.get(name)
        if reading is None:
            continue
        if reading is _read_string:
            _read_string(value, found)
        elif isinstance(reading, str):
            inner = _members(reading)
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, dict) and not inner.keys().isdisjoint(one):
                    _read_members(one, found, inner)
        else:
            reading(value, found)


def _read_string(value: Any, found: _Texts) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, list):
        found.extend(one for one in value if isinstance(one, str))


def _read_resource(value: Any, found: _Texts) -> None:
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, dict):
            _read_members(one, found, _of_resource(one))


def _read_xhtml(value: Any, found: _Texts) -> None:
    """Its text, without attributes; what is not well-formed counts as far as it is."""
    if not isinstance(value, str):
        return
    pieces: _Texts = []

    def tag(name: str, _attributes: object = None) -> None:
        if name == "br":
            pieces.append(" ")
        elif name not in _INLINE:
            pieces.append(BREAK)

    parser = expat.ParserCreate()
    parser.StartElementHandler = tag
    parser.EndElementHandler = tag
    parser.CharacterDataHandler = pieces.append
    with suppress(expat.ExpatError, ValueError):
        parser.Parse(value, True)
    found.append("".join(pieces))
