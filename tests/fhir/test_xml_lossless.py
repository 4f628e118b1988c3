"""JSON to XML and back, and nothing is lost: https://hl7.org/fhir/R4/xml.html

With resources of every type that grow from R4's definitions, and with every real one at hand.
"""

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from fhir_server.errors import FhirError
from fhir_server.fhir import json as fhir_json
from fhir_server.fhir import xml
from fhir_server.fhir.definitions import ElementDefinition, resource_types, type_definition
from fhir_server.validation.structure import check_resource
from tests.support import PACKAGE, VALID, needs_package, official_examples

REAL: Final = [
    *(pytest.param(path, id=path.stem) for path in sorted(VALID.glob("*.json"))),
    *official_examples(),
]
SAMPLE: Final = 400
GROWN: Final = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def _digits(value: Any) -> str:
    """Equality of numbers is not enough: 1.10 == 1.1."""
    return json.dumps(value, default=str, sort_keys=True)


def _assert_lossless(resource: dict[str, Any]) -> None:
    for pretty in (False, True):
        written = xml.encode(resource, pretty=pretty)
        root = etree.fromstring(written, etree.XMLParser(huge_tree=True))
        assert root.tag == f"{{{xml.FHIR}}}{resource['resourceType']}"
        assert _digits(xml.decode_resource(written)) == _digits(resource)


# --- what is real ---------------------------------------------------------------------------


def _definitions() -> Iterator[tuple[str, bytes]]:
    with tarfile.open(PACKAGE) as package:
        members = [m for m in package.getmembers() if m.isfile() and m.name.count("/") == 1]
        for member in members[:: max(1, len(members) // SAMPLE)]:
            file = package.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def _whole(raw: bytes) -> dict[str, Any]:
    """The resource; white space around a narrative's div is no part of it."""
    resource = fhir_json.decode_resource(raw)
    text = resource.get("text", {})
    if "div" in text:
        text["div"] = text["div"].strip()
    return resource


@pytest.mark.parametrize("path", REAL)
def test_a_real_resource_comes_back(path: Any) -> None:
    _assert_lossless(_whole(path.read_bytes()))


@needs_package
def test_the_definitions_of_r4_come_back() -> None:
    tried = 0
    for name, raw in _definitions():
        resource = fhir_json.decode_resource(raw) if name.endswith(".json") else {}
        if resource.get("resourceType") in resource_types() and not check_resource(resource):
            _assert_lossless(_whole(raw))
            tried += 1
    assert tried > SAMPLE // 2


# --- what grows -----------------------------------------------------------------------------

TEXT: Final = st.text(
    st.characters(
        exclude_categories=["Cs"],
        exclude_characters=[*map(chr, set(range(32)) - {9, 10, 13}), "\ufffe", "\uffff"],
    ),
    min_size=1,
    max_size=12,
)
DECIMALS: Final = st.one_of(
    st.sampled_from(["1.10", "0.0000001", "100.0", "1e5", "1.50E-3", "-0.0", "0.00000000"]).map(
        Decimal
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.integers(-(10**20), 10**20),
)
DIVS: Final = st.sampled_from(
    [
        '<div xmlns="http://www.w3.org/1999/xhtml">plain</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"  title=\'a"b>c\'><p>a &lt; b<br/>\r\n</p></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><!-- kept --><![CDATA[<é>]]>&#160;ü</div>',
        '<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:b>x</h:b></h:div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><div><div>in</div></div></div >',
    ]
)
EXTENSIONS: Final = st.lists(
    st.fixed_dictionaries(
        {"url": st.just("http://example.org/x"), "valueString": TEXT}, optional={"id": TEXT}
    ),
    min_size=1,
    max_size=2,
)
WHOLE: Final = {"integer", "positiveInt", "unsignedInt"}
DEEPEST: Final = 4


@cache
def _primitives(type_name: str) -> st.SearchStrategy[Any]:
    match type_name:
        case "boolean":
            return st.booleans()
        case "decimal":
            return DECIMALS
        case "xhtml":
            return DIVS
    return st.integers(-(2**31), 2**31) if type_name in WHOLE else TEXT


@st.composite
def siblings(draw: st.DrawFn, *, alone: bool) -> dict[str, Any]:
    """The id and extensions of a primitive, which stand `alone` where it has no value."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["id"] = draw(TEXT)
    if alone or not found:
        found["extension"] = draw(EXTENSIONS)
    return found


@st.composite
def objects(draw: st.DrawFn, type_name: str, level: int) -> dict[str, Any]:
    """An object with some of its type's elements, one at least."""
    definition = type_definition(type_name)
    elements = [
        element
        for element in definition.elements.values()
        if level < DEEPEST or type_definition(element.type).kind == "primitive"
    ]
    chosen = draw(st.lists(st.sampled_from(elements), min_size=1, max_size=4, unique_by=id))
    found: dict[str, Any] = {}
    for element in chosen:
        found.update(draw(_member(element, level)))
    return found


@st.composite
def _member(draw: st.DrawFn, element: ElementDefinition, level: int) -> dict[str, Any]:
    name, primitive = element.name, type_definition(element.type).kind == "primitive"
    if not primitive or element.type == "xhtml" or name in ("id", "url"):
        one = _value(element, level)
        return {name: draw(st.lists(one, min_size=1, max_size=2) if element.repeats else one)}
    count = draw(st.integers(1, 3)) if element.repeats else 1
    values: list[Any] = []
    beside: list[Any] = []
    for _ in range(count):
        value = draw(st.one_of(st.none(), _primitives(element.type), _primitives(element.type)))
        given_beside = value is None or draw(st.booleans())
        values.append(value)
        beside.append(draw(siblings(alone=value is None)) if given_beside else None)
    shown = {name: values, f"_{name}": beside}
    return {
        key: items if element.repeats else items[0]
        for key, items in shown.items()
        if any(item is not None for item in items)
    }


def _value(element: ElementDefinition, level: int) -> st.SearchStrategy[Any]:
    if element.type == "Resource":
        return st.sampled_from(["Patient", "Basic"]).flatmap(
            lambda name: resources(name, level + 1)
        )
    if type_definition(element.type).kind == "primitive":
        return _primitives(element.type)
    return objects(element.type, level + 1)


def resources(name: str, level: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    return objects(name, level).map(lambda members: {"resourceType": name, **members})


@GROWN
@given(st.sampled_from(resource_types()).flatmap(resources))
def test_a_resource_of_any_type_comes_back(resource: dict[str, Any]) -> None:
    _assert_lossless(resource)


@GROWN
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_order(raw: bytes) -> None:
    with pytest.raises(FhirError):
        xml.decode_resource(raw)


ODD: Final = ["<", ">", "/", "&", "=", '"', "\x00", "é", "<!--", "<![CDATA[", "<?x?>", " ", "<div"]


@GROWN
@given(st.data())
def test_damaged_xml_is_read_or_refused_in_order(data: st.DataObject) -> None:
    resource = data.draw(
        resources(data.draw(st.sampled_from(["Patient", "Observation", "Bundle"])))
    )
    text = xml.encode(resource).decode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        until = data.draw(st.integers(at, min(len(text), at + 20)))
        text = text[:at] + data.draw(st.sampled_from(["", *ODD])) + text[until:]
    with suppress(FhirError):
        found = xml.decode_resource(text.encode())
        assert _digits(fhir_json.decode(fhir_json.encode(found))) == _digits(found)
