"""FHIR XML. https://hl7.org/fhir/R4/xml.html"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from fhir_server.errors import MAX_ISSUES, FhirError, Kind
from fhir_server.fhir import json as fhir_json
from fhir_server.fhir import xml

VALID = sorted((Path(__file__).parents[1] / "validation" / "valid").glob("*.json"))
PATIENT = 'Patient xmlns="http://hl7.org/fhir"'


def _resource(path: Path) -> dict[str, Any]:
    return fhir_json.decode_resource(path.read_bytes())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_resource_comes_back_from_xml_with_the_same_json(path: Path) -> None:
    resource = _resource(path)
    back = xml.decode_resource(xml.encode(resource))
    assert back == resource
    # Equality of numbers is not enough: 1.10 == 1.1.
    assert _digits(back) == _digits(resource)


def _digits(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_what_is_written_is_namespaced_xml_for_another_parser(path: Path) -> None:
    resource = {**_resource(path), "id": "here"}
    root = etree.fromstring(xml.encode(resource))
    assert root.tag == f"{{{xml.FHIR}}}{resource['resourceType']}"
    assert root.find(f"{{{xml.FHIR}}}id").get("value") == "here"


def test_elements_stand_in_the_order_of_the_standard() -> None:
    written = xml.encode(
        {"resourceType": "Patient", "birthDate": "2011-05-14", "active": True, "id": "a"}
    )
    names = [etree.QName(child).localname for child in etree.fromstring(written)]
    assert names == ["id", "active", "birthDate"]


@pytest.mark.parametrize("digits", ["1.10", "1.00", "0.0000001", "123456789.123456789", "-0.0"])
def test_decimals_keep_their_digits(digits: str) -> None:
    document = (
        '<Observation xmlns="http://hl7.org/fhir"><valueQuantity>'
        f'<value value="{digits}"/></valueQuantity></Observation>'
    )
    value = xml.decode_resource(document.encode())["valueQuantity"]["value"]
    assert value.as_tuple() == Decimal(digits).as_tuple()


def test_extensions_on_primitives_stand_beside_the_value_in_json() -> None:
    document = (
        f'<{PATIENT}><name><given value="Ann"/><given id="g"><extension url="http://example.org/x">'
        '<valueCode value="y"/></extension></given></name></Patient>'
    )
    name = xml.decode_resource(document.encode())["name"][0]
    assert name["given"] == ["Ann", None]
    extension = {"url": "http://example.org/x", "valueCode": "y"}
    assert name["_given"] == [None, {"id": "g", "extension": [extension]}]


def test_a_narrative_keeps_its_very_text() -> None:
    div = '<div xmlns="http://www.w3.org/1999/xhtml"><p>a &amp; b<br/>\n  <b >c</b></p></div>'
    document = f'<{PATIENT}><text><status value="generated"/>{div}</text></Patient>'
    assert xml.decode_resource(document.encode())["text"]["div"] == div


def test_line_breaks_and_tabs_in_values_survive() -> None:
    resource = {"resourceType": "Basic", "id": "a", "code": {"text": "one\ntwo\tthree\r\n"}}
    assert xml.decode_resource(xml.encode(resource)) == resource


def test_comments_and_processing_instructions_are_dropped() -> None:
    document = f'<?xml version="1.0"?><!-- x --><{PATIENT}><?p q?><active value="true"/></Patient>'
    assert xml.decode_resource(document.encode()) == {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "The body is empty"),
        (b"<Patient", "not well-formed"),
        (b"<Patient/>", "namespace"),
        (f"<{PATIENT}>text</Patient>".encode(), "holds text"),
        (f"<{PATIENT}><nonsense/></Patient>".encode(), "<nonsense> is not an element of Patient"),
        (f'<{PATIENT}><active valeu="1"/></Patient>'.encode(), "attribute 'valeu'"),
        (f'<{PATIENT}><active value="1"/><active value="1"/></Patient>'.encode(), "stands twice"),
        (b'<Nothing xmlns="http://hl7.org/fhir"/>', "not a resource type"),
        (f"<!DOCTYPE Patient><{PATIENT}/>".encode(), "DTD"),
        (
            b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Patient '
            b'xmlns="http://hl7.org/fhir"><id value="&e;"/></Patient>',
            "DTD",
        ),
        (f'<?xml version="1.0" encoding="UTF-16"?><{PATIENT}/>'.encode(), "UTF-16"),
        ((f"<{PATIENT}>" + "<contained><List>" * 200).encode(), "deeper than"),
    ],
)
def test_what_is_no_fhir_xml_is_refused_with_the_reason(document: bytes, text: str) -> None:
    with pytest.raises(FhirError) as caught:
        xml.decode_resource(document)
    assert caught.value.kind is Kind.MALFORMED
    assert text in caught.value.issues[0].text


def _issues(inner: str) -> list[tuple[str | None, str]]:
    with pytest.raises(FhirError) as caught:
        xml.decode_resource(f"<{PATIENT}>{inner}</Patient>".encode())
    return [(issue.expression, issue.text) for issue in caught.value.issues]


MISTAKES = [
    ("<colour value='blue'/>", "Patient.colour", "<colour> is not an element of Patient"),
    ("<a-b/>", "Patient.`a-b`", "<a-b> is not an element"),
    ("<active valeu='1' value='true'/>", "Patient.active", "attribute 'valeu'"),
    ("<name/><name shade='1'/>", "Patient.name[1]", "attribute 'shade'"),
    ("<name><given value='a'/><given/></name>", "Patient.name[0].given[1]", "neither a value"),
    ("<name><x/></name>", "Patient.name[0].x", "<x> is not an element of Patient.name[0]"),
    ("<gender value='male'/><gender value='female'/>", "Patient.gender", "stands twice"),
    (
        "<deceasedBoolean><extension><x/></extension></deceasedBoolean>",
        "Patient.deceased.extension[0].x",
        "<x> is not an element",
    ),
    ("<name>Ann</name>", "Patient.name[0]", "<name> holds text"),
    ("<contained><Dragon/></contained>", "Patient.contained[0]", "holds one resource"),
    ("<contained><List><x/></List></contained>", "Patient.contained[0].x", "<x> is not an element"),
    ("<contained><List xmlns='urn:x'/></contained>", "Patient.contained[0]", "namespace 'urn:x'"),
    ("<active xmlns='urn:x' value='true'/>", "Patient.active", "namespace 'urn:x'"),
]


@pytest.mark.parametrize(("inner", "place", "text"), MISTAKES)
def test_a_mistake_in_xml_has_its_place(inner: str, place: str, text: str) -> None:
    ((expression, told),) = _issues(inner)
    assert (expression, text in told) == (place, True), told
    assert told.endswith("(line 1)")


def test_every_mistake_in_xml_is_told() -> None:
    told = _issues("<colour/><name><x/>Ann</name><active valeu='1' value='true'/><shade/>")
    places = ["Patient.colour", "Patient.name[0]", "Patient.name[0].x", "Patient.active"]
    assert [expression for expression, _ in told] == [*places, "Patient.shade"]


def test_more_mistakes_in_xml_than_anyone_reads_are_counted() -> None:
    told = _issues("<x/>" * (MAX_ISSUES + 7))
    assert len(told) == MAX_ISSUES + 1
    assert told[-1] == (None, "and 7 further problems")


def test_long_names_in_xml_are_cut_in_what_is_told() -> None:
    long = "x" * 10_000
    told = _issues(f"<{long}/><active {long}='1' value='true'/><name xmlns='{long}'/>")
    assert max(len(f"{expression} {text}") for expression, text in told) < 400


def test_repeats_keep_their_order_wherever_they_stand() -> None:
    """Elements may come in another order than the standard's: nothing is lost or mixed up."""
    extension = '<extension url="urn:e"><valueString value="of b"/></extension>'
    document = f"""<{PATIENT}>
        <birthDate value="2011-05-14"/>
        <name><given value="a"/><family value="one"/><given value="b">{extension}</given></name>
        <telecom><value value="1"/><system value="phone"/></telecom>
        <name><family value="two"/><given id="g" value="c"/><given value="d"/></name>
        <active value="true"/>
        <telecom><value value="2"/></telecom>
        <name><text value="three"/></name>
        </Patient>"""
    sibling = {"extension": [{"url": "urn:e", "valueString": "of b"}]}
    assert xml.decode_resource(document.encode()) == {
        "resourceType": "Patient",
        "birthDate": "2011-05-14",
        "name": [
            {"given": ["a", "b"], "_given": [None, sibling], "family": "one"},
            {"family": "two", "given": ["c", "d"], "_given": [{"id": "g"}, None]},
            {"text": "three"},
        ],
        "telecom": [{"value": "1", "system": "phone"}, {"value": "2"}],
        "active": True,
    }
