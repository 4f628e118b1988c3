"""FHIR XML, both ways, through the same values as FHIR JSON.

What JSON says in names and arrays, XML says in elements and their order; the definitions tell
which is which. Decimals keep their digits, a narrative its very text. Comments and processing
instructions are dropped, as FHIR allows. No DTD and no entities: nothing expands, nothing is
fetched. Source: https://hl7.org/fhir/R4/xml.html.
"""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import zip_longest
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from fhir_server.errors import MAX_ISSUES, FhirError, Issue, Kind
from fhir_server.fhir.definitions import (
    ElementDefinition,
    TypeDefinition,
    is_resource_type,
    type_definition,
)
from fhir_server.fhir.json import MAX_DEPTH, Resource, decimal_text, refuse_depth
from fhir_server.fhir.steps import step

FHIR: Final = "http://hl7.org/fhir"
XHTML: Final = "http://www.w3.org/1999/xhtml"

_WHOLE: Final = re.compile(r"-?(?:0|[1-9]\d{0,999})", re.ASCII)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
"""https://hl7.org/fhir/R4/datatypes.html#decimal"""
_WHOLE_TYPES: Final = frozenset({"integer", "positiveInt", "unsignedInt", "integer64"})
_BOOLEANS: Final = {"true": True, "false": False}
_MAX_NAME: Final = 64
"""Characters of a name that an issue repeats."""
_VALUE: Final = {"value"}
_SPECIAL: Final = re.compile('[<>&"\\t\\n\\r]')
_NO_CHARACTER: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot say, not even escaped: U+FFFE, U+FFFF, most control characters."""


# --- from a resource to XML -----------------------------------------------------------------


def encode(resource: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """The resource, which has passed the structural check, as an XML document in UTF-8.

    `pretty` breaks lines, for people; a narrative stays as it is.
    """
    parts: list[str] = []
    _write_resource(parts, resource, namespace=True)
    lines = _indented(parts) if pretty else parts
    document = '<?xml version="1.0" encoding="UTF-8"?>' + "".join(lines)
    return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", document).encode()


def _indented(parts: list[str]) -> Iterator[str]:
    level = 0
    for part in parts:
        closes = part.startswith("</")
        level -= closes
        yield "\n" + "  " * level + part
        # A narrative is one part that holds its end tag; in attributes `<` is escaped.
        level += not (closes or part.endswith("/>") or "</" in part)
    yield "\n"


def _write_resource(parts: list[str], resource: Mapping[str, Any], *, namespace: bool) -> None:
    name = resource["resourceType"]
    parts.append(f'<{name} xmlns="{FHIR}">' if namespace else f"<{name}>")
    _write_children(parts, name, resource)
    parts.append(f"</{name}>")


def _write_children(parts: list[str], type_name: str, node: Mapping[str, Any]) -> None:
    places, writers = _writers(type_name)
    for place in sorted({places[name] for name in node if name in places}):
        name, write = writers[place]
        value, sibling = node.get(name), node.get(f"_{name}")
        if not (isinstance(value, list) or isinstance(sibling, list)):
            write(parts, value, sibling)
            continue
        for item, beside in zip_longest(value or (), sibling or ()):
            write(parts, item, beside)


Write = Callable[[list[str], Any, Any], None]
"""Writes one value with its `_` sibling; either may be None."""


@cache
def _writers(type_name: str) -> tuple[Mapping[str, int], Sequence[tuple[str, Write]]]:
    """Where a member of a type stands in its order, and how each is written."""
    definition = type_definition(type_name)
    as_attributes = _attributes_of(definition)
    elements = [one for one in definition.elements.values() if one.name not in as_attributes]
    places: dict[str, int] = {}
    for place, element in enumerate(elements):
        places[element.name] = places[f"_{element.name}"] = place
    return places, [(element.name, _writer(element)) for element in elements]


def _writer(element: ElementDefinition) -> Write:
    if element.type == "xhtml":
        return lambda parts, value, _: parts.append(str(value))
    if element.type == "Resource":
        return _resource_writer(element.name)
    if _is_primitive(element.type):
        return _primitive_writer(element.name)
    return _object_writer(element.name, element.type)


def _resource_writer(name: str) -> Write:
    def write(parts: list[str], value: Any, sibling: Any) -> None:
        del sibling
        parts.append(f"<{name}>")
        _write_resource(parts, value, namespace=False)
        parts.append(f"</{name}>")

    return write


def _object_writer(name: str, type_name: str) -> Write:
    as_attributes = _attributes_of(type_definition(type_name))

    def write(parts: list[str], value: Any, sibling: Any) -> None:
        del sibling
        attributes = ""
        for attribute in as_attributes:
            if attribute in value:
                attributes += f" {attribute}={_quoted(value[attribute])}"
        parts.append(f"<{name}{attributes}>")
        _write_children(parts, type_name, value)
        parts.append(f"</{name}>")

    return write


def _primitive_writer(name: str) -> Write:
    def write(parts: list[str], value: Any, sibling: Any) -> None:
        if sibling is None:
            if value is not None:
                parts.append(f"<{name} value={_quoted(value)}/>")
            return
        attributes = f" id={_quoted(sibling['id'])}" if "id" in sibling else ""
        if value is not None:
            attributes += f" value={_quoted(value)}"
        if "extension" not in sibling:
            parts.append(f"<{name}{attributes}/>")
            return
        parts.append(f"<{name}{attributes}>")
        _write_children(parts, "Element", {"extension": sibling["extension"]})
        parts.append(f"</{name}>")

    return write


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return '"true"' if value else '"false"'
    text = decimal_text(value) if isinstance(value, Decimal) else str(value)
    if _SPECIAL.search(text) is None:
        return f'"{text}"'
    # A line break or tab in an attribute would be read back as a space.
    return quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _attributes_of(definition: TypeDefinition) -> tuple[str, ...]:
    """Elements that stand as XML attributes: ids within a resource, and an extension's url."""
    if definition.kind == "resource":
        return ()
    return ("id", "url") if definition.name == "Extension" else ("id",)


def _is_primitive(type_name: str) -> bool:
    return type_definition(type_name).kind == "primitive"


# --- from XML to a resource -----------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """An element as it was read; `text` is the very text of an XHTML div."""

    name: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["_Node"] = field(default_factory=list)
    namespace: str = FHIR
    has_text: bool = False
    text: str = ""

    @property
    def is_narrative(self) -> bool:
        return bool(self.text)


def decode_resource(raw: bytes, max_depth: int = MAX_DEPTH) -> Resource:
    """The resource in an XML document.

    The values are those that FHIR JSON would have; what is not of its type is left as text, so
    that the structural check finds it and names its place.

    Raises:
        FhirError: MALFORMED, for what is not well-formed, has a DTD, is not in UTF-8, or has
            elements, attributes or text that R4 does not have: each of these at its place.
    """
    if not raw.strip():
        raise FhirError(Kind.MALFORMED, "The body is empty; a FHIR resource in XML is expected")
    reader = _Reader(raw)
    root = reader.root()
    if not is_resource_type(root.name):
        raise _malformed(root, f"<{root.name}> is not a resource type of FHIR R4")
    resource = _Builder().whole(root)
    if 2 * reader.deepest > max_depth:  # an element is an array and an object at the most
        refuse_depth(resource, max_depth)
    return resource


class _Builder:
    """Makes the resource of the nodes, and goes on after a mistake, so that every one is told."""

    def __init__(self) -> None:
        self._issues: list[Issue] = []
        self._further = 0

    def whole(self, root: _Node) -> Resource:
        """The resource.

        Raises:
            FhirError: MALFORMED, with every place where it is none.
        """
        if root.has_text:
            self._refuse_text(root, root.name)
        resource = self._resource(root, root.name)
        if self._further:
            self._issues.append(Issue(f"and {self._further} further problems"))
        if self._issues:
            raise FhirError.of(Kind.MALFORMED, self._issues)
        return resource

    def _tell(self, node: _Node, text: str, place: str) -> None:
        if len(self._issues) < MAX_ISSUES:
            self._issues.append(Issue(f"{text} (line {node.line})", place))
        else:
            self._further += 1  # only counted: a body could hold millions

    def _refuse_text(self, node: _Node, place: str) -> None:
        self._tell(node, f"<{_cut(node.name)}> holds text; values stand in attributes", place)

    def _resource(self, node: _Node, place: str) -> Resource:
        definition = type_definition(node.name)
        return {"resourceType": node.name, **self._members(node, definition, place)}

    def _members(self, node: _Node, definition: TypeDefinition, place: str) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in node.attributes.items():
            if name in _attributes_of(definition):
                members[name] = value
            else:
                self._refuse_attribute(node, name, place)
        for child in node.children:
            element = definition.elements.get(child.name)
            if child.namespace != FHIR and not child.is_narrative:
                self._tell(child, _foreign(child), f"{place}.{step(child.name)}")
            elif element is None or child.name in _attributes_of(definition):
                text = f"<{_cut(child.name)}> is not an element of {place}"
                self._tell(child, text, f"{place}.{step(child.name)}")
            else:
                self._add(members, element, child, f"{place}.{element.base_name}")
        return _aligned(members)

    def _add(
        self, members: dict[str, Any], element: ElementDefinition, child: _Node, place: str
    ) -> None:
        name = element.name
        if element.repeats:
            place = f"{place}[{len(members.get(name, ()))}]"
        elif name in members or f"_{name}" in members:
            self._tell(child, f"{place} stands twice; it may stand once", place)
            return
        if child.has_text:
            self._refuse_text(child, place)
        value, sibling = self._value(element, child, place)
        if not element.repeats:
            if value is not None:
                members[name] = value
            if sibling is not None:
                members[f"_{name}"] = sibling
            return
        members.setdefault(name, []).append(value)
        if _is_primitive(element.type):
            members.setdefault(f"_{name}", []).append(sibling)

    def _value(self, element: ElementDefinition, child: _Node, place: str) -> tuple[Any, Any]:
        """The value and, of a primitive, its `_` sibling."""
        if element.type == "xhtml":
            return child.text, None
        if element.type == "Resource":
            return self._inner_resource(child, place), None
        if _is_primitive(element.type):
            return self._primitive(element.type, child, place)
        return self._members(child, type_definition(element.type), place), None

    def _inner_resource(self, child: _Node, place: str) -> Resource:
        inner = child.children[0] if len(child.children) == 1 else None
        if child.attributes or inner is None or not is_resource_type(inner.name):
            self._tell(child, f"{place} holds one resource", place)
            return {}
        if inner.namespace != FHIR:
            self._tell(inner, _foreign(inner), place)
            return {}
        if inner.has_text:
            self._refuse_text(inner, place)
        return self._resource(inner, place)

    def _primitive(self, type_name: str, child: _Node, place: str) -> tuple[Any, Any]:
        attributes = child.attributes
        if not child.children and attributes.keys() == _VALUE:
            return _typed(type_name, attributes["value"]), None
        sibling: dict[str, Any] = {}
        for name in attributes:
            if name not in ("id", "value"):
                self._refuse_attribute(child, name, place)
        if "id" in attributes:
            sibling["id"] = attributes["id"]
        holder = _Node(child.name, child.line, children=child.children)
        sibling |= self._members(holder, type_definition("Element"), place)
        text = attributes.get("value")
        if text is None and "extension" not in sibling:
            self._tell(child, f"{place} has neither a value nor an extension", place)
        return None if text is None else _typed(type_name, text), sibling or None

    def _refuse_attribute(self, node: _Node, name: str, place: str) -> None:
        self._tell(node, f"The attribute '{_cut(name)}' is not known at {place}", place)


def _aligned(members: dict[str, Any]) -> dict[str, Any]:
    """Without arrays that hold nothing but null: only one of a primitive's two may be needed."""
    return {
        name: value
        for name, value in members.items()
        if not (isinstance(value, list) and all(item is None for item in value))
    }


def _typed(type_name: str, text: str) -> Any:
    if type_name == "boolean":
        return _BOOLEANS.get(text, text)
    if type_name in _WHOLE_TYPES:
        return int(text) if _WHOLE.fullmatch(text) else text
    if type_name == "decimal":
        return _decimal(text)
    return text


def _decimal(text: str) -> Decimal | int | str:
    """As the JSON decoder has it: whole numbers without a point are int."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else text
    except InvalidOperation:
        return text


class _Reader:
    """Builds nodes while expat reads; refuses what FHIR XML does not have."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._open: list[_Node] = []
        self.deepest = 0
        self._root: _Node | None = None
        self._div_depth = 0
        self._div_start = 0
        # In UTF-8 whatever the document says: the places of narratives are counted in its bytes.
        self._parser = expat.ParserCreate("UTF-8", " ")

    def root(self) -> _Node:
        # Expat would follow the byte order mark of another encoding; UTF-8 has no NUL.
        if b"\x00" in self._raw[:4] or self._raw.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
            raise FhirError(Kind.MALFORMED, "The XML is not in UTF-8, which is expected")
        try:
            self._told_by(self._parser).Parse(self._raw, True)
        except (expat.ExpatError, ValueError) as error:
            raise FhirError(Kind.MALFORMED, f"The body is not well-formed XML: {error}") from None
        finally:
            del self._parser  # which holds this reader, and with it the body
        assert self._root is not None  # noqa: S101 - a well-formed document has one
        return self._root

    def _told_by(self, parser: expat.XMLParserType) -> expat.XMLParserType:
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.XmlDeclHandler = self._declaration
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        return parser

    def _refuse_doctype(self, *_: object) -> None:
        raise FhirError(Kind.MALFORMED, "The XML has a DTD, which FHIR does not allow")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        del version, standalone
        if encoding is not None and encoding.upper() not in ("UTF-8", "US-ASCII"):
            raise FhirError(Kind.MALFORMED, f"The XML is in {encoding}; UTF-8 is expected")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        namespace, _, name = qualified.rpartition(" ")
        if self._div_depth:
            self._div_depth += 1
            return
        node = _Node(name, self._parser.CurrentLineNumber, attributes, namespace=namespace)
        if (namespace, name) == (XHTML, "div") and self._open:
            self._div_depth, self._div_start = 1, self._parser.CurrentByteIndex
            node.attributes = {}
        elif namespace != FHIR and not self._open:
            raise _malformed(node, _foreign(node))
        elif len(self._open) > MAX_DEPTH:
            raise _malformed(node, f"The XML is nested deeper than {MAX_DEPTH} levels")
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)
        self.deepest = max(self.deepest, len(self._open))

    def _end(self, qualified: str) -> None:
        del qualified
        if self._div_depth > 1:
            self._div_depth -= 1
            return
        node = self._open.pop()
        if self._div_depth == 1:
            self._div_depth = 0
            node.text = self._div_text()

    def _div_text(self) -> str:
        """The div as it stands in the document, to the letter."""
        at = self._parser.CurrentByteIndex
        # Of <div/>, start and end are one tag.
        end = self._raw.index(b">", at) + 1
        return self._raw[self._div_start : end].decode()

    def _characters(self, text: str) -> None:
        if not self._div_depth and not text.isspace():
            self._open[-1].has_text = True


def _foreign(node: _Node) -> str:
    return f"<{_cut(node.name)}> is in the namespace '{_cut(node.namespace)}', not '{FHIR}'"


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…"


def _malformed(node: _Node, text: str) -> FhirError:
    return FhirError(Kind.MALFORMED, f"{text} (line {node.line})")
