"""JSON and XML, in and out: https://hl7.org/fhir/R4/http.html#mime-type

What goes in as XML is stored as the same JSON, and what is asked for as XML is the same resource;
lxml reads it as another's parser.
"""

from typing import Any, Final

import httpx
import pytest
from lxml import etree

from fhir_server.fhir import xml
from fhir_server.storage.interface import Store
from tests.support import VALID, assert_outcome, body, create, exact, put, stored_versions

FHIR: Final = "{http://hl7.org/fhir}"
XML: Final = "application/fhir+xml; charset=utf-8"
JSON: Final = "application/fhir+json; charset=utf-8"
OBSERVATION: Final = """<?xml version="1.0" encoding="UTF-8"?>
<Observation xmlns="http://hl7.org/fhir">
  <!-- dropped knowingly -->
  <id value="o1"/>
  <text><status value="generated"/>
    <div xmlns="http://www.w3.org/1999/xhtml"><p>Gewicht &lt; 40&#160;kg <b >é</b><br/></p></div>
  </text>
  <status value="final"/>
  <code><text value="weight &amp; &quot;height&quot;&#10;"/></code>
  <effectiveDateTime value="2026-03-29">
    <extension url="http://example.org/x"><valueDecimal value="1.50"/></extension>
  </effectiveDateTime>
  <valueQuantity><value value="39.500"/><unit value="kg"/></valueQuantity>
</Observation>"""
DIV: Final = (
    '<div xmlns="http://www.w3.org/1999/xhtml"><p>Gewicht &lt; 40&#160;kg <b >é</b><br/></p></div>'
)


def _sent(document: str | bytes, content_type: str = "application/fhir+xml") -> dict[str, Any]:
    raw = document.encode() if isinstance(document, str) else document
    return {"content": raw, "headers": {"content-type": content_type}}


def _tree(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == XML
    return etree.fromstring(response.content)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/fhir+xml",
        "application/xml",
        "text/xml",
        "application/fhir+xml; charset=utf-8",
        'Application/FHIR+XML ;charset="UTF-8"; fhirVersion=4.0',
    ],
)
async def test_xml_is_stored_as_the_json_that_it_stands_for(
    client: httpx.AsyncClient, content_type: str
) -> None:
    response = await client.put("Observation/o1", **_sent(OBSERVATION, content_type))
    assert response.status_code == 201, response.text
    assert response.headers["content-type"] == JSON
    stored = await client.get("Observation/o1")
    assert b'"value":39.500' in stored.content
    assert b'"valueDecimal":1.50' in stored.content
    resource = exact(stored)
    assert resource["text"]["div"] == DIV
    assert resource["code"]["text"] == 'weight & "height"\n'
    assert resource["effectiveDateTime"] == "2026-03-29"


async def test_a_resource_is_created_from_xml_and_told_in_xml(client: httpx.AsyncClient) -> None:
    sent = _sent('<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>')
    sent["headers"]["accept"] = "application/fhir+xml"
    response = await client.post("Patient", **sent)
    assert response.status_code == 201
    assert _tree(response).find(f"{FHIR}active").get("value") == "true"


@pytest.mark.parametrize("path", sorted(VALID.glob("*.json")), ids=lambda path: path.stem)
async def test_what_was_put_in_json_and_read_in_xml_can_be_put_back_unchanged(
    client: httpx.AsyncClient, path: Any
) -> None:
    from fhir_server.fhir import json

    resource = {**json.decode_resource(path.read_bytes()), "id": "back"}
    address = f"{resource['resourceType']}/back"
    before = await put(client, resource)
    read = await client.get(address, headers={"accept": "application/fhir+xml"})
    _tree(read)
    sent = _sent(read.content)
    sent["headers"]["if-match"] = read.headers["etag"]
    again = await client.put(address, **sent)
    assert again.status_code == 200, again.text
    after = exact(await client.get(address))
    # Not a version more: nothing of it was lost on the way.
    assert after == before


async def test_bundles_come_in_xml(client: httpx.AsyncClient) -> None:
    await create(client, {"resourceType": "Patient", "name": [{"family": "Synthetic-Xml"}]})
    response = await client.get("Patient?family=synthetic-xml&_format=xml&_total=accurate")
    tree = _tree(response)
    assert tree.tag == f"{FHIR}Bundle"
    assert tree.find(f"{FHIR}total").get("value") == "1"
    family = tree.find(f".//{FHIR}Patient/{FHIR}name/{FHIR}family")
    assert family.get("value") == "Synthetic-Xml"


async def test_a_transaction_goes_in_and_out_in_xml(client: httpx.AsyncClient) -> None:
    bundle = xml.encode(
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {
                    "fullUrl": "urn:uuid:9f2a6e0c-6a2c-4f0c-8d0a-0c2f5a4b1d3e",
                    "resource": {"resourceType": "Patient", "active": True},
                    "request": {"method": "POST", "url": "Patient"},
                }
            ],
        }
    )
    response = await client.post("?_format=xml", **_sent(bundle))
    assert response.status_code == 200, response.text
    status = _tree(response).find(f".//{FHIR}response/{FHIR}status")
    assert status.get("value") == "201 Created"


async def test_the_capability_statement_comes_in_xml_and_names_both_formats(
    client: httpx.AsyncClient,
) -> None:
    tree = _tree(await client.get("metadata", headers={"accept": "application/fhir+xml"}))
    named = {element.get("value") for element in tree.findall(f"{FHIR}format")}
    assert named == {"application/fhir+json", "application/fhir+xml", "json", "xml"}


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "Patient/nobody", 404),
        ("GET", "Dragon/1", 404),
        ("GET", "Patient?colour=blue", 400),
        ("POST", "Patient/1", 405),
        ("POST", "Patient", 415),
        ("GET", "$shout", 404),
    ],
)
async def test_refusals_come_in_the_format_that_is_wanted(
    client: httpx.AsyncClient, method: str, url: str, status: int
) -> None:
    response = await client.request(method, url, headers={"accept": "text/xml"})
    assert response.status_code == status
    tree = _tree(response)
    assert tree.tag == f"{FHIR}OperationOutcome"
    assert tree.find(f"{FHIR}issue/{FHIR}diagnostics").get("value")


async def test_a_refused_body_is_told_in_the_wanted_format(client: httpx.AsyncClient) -> None:
    sent = _sent('<Patient xmlns="http://hl7.org/fhir"><gender value="blue"/></Patient>')
    response = await client.post("Patient?_format=xml&_pretty=true", **sent)
    assert response.status_code == 400
    assert b"\n  <issue>" in response.content
    place = _tree(response).find(f"{FHIR}issue/{FHIR}expression")
    assert place.get("value") == "Patient.gender"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*;q=0.5", JSON),
        ("application/fhir+json", JSON),
        ("application/json", JSON),
        ("text/json", JSON),
        ("application/fhir+xml", XML),
        ("APPLICATION/FHIR+XML", XML),
        ("application/xml", XML),
        ("text/xml", XML),
        ("application/fhir+json;q=0.1, application/fhir+xml;q=0.9", XML),
        ("application/fhir+xml;q=0.1, application/fhir+json;q=0.9", JSON),
        ("application/fhir+xml;q=0.1, application/fhir+json", JSON),
        ("application/fhir+xml, application/fhir+json", XML),
        ("application/fhir+json, application/fhir+xml", JSON),
        ("*/*, application/fhir+xml", XML),
        ("*/*, application/fhir+xml;q=0.9", JSON),
        ("application/*;q=0.8, application/fhir+json;q=0.2", XML),
        ("*/*;q=0.1, application/fhir+json;q=0", XML),
        ("application/json;q=0, */*;q=0.001", XML),
        ("text/html, application/fhir+xml;q=0.5", XML),
        ("text/html;level=1, */*;q=0.1", JSON),
        ("application/fhir+xml; fhirVersion=4.0", XML),
        ('application/fhir+xml; fhirVersion="4.0"; q=0.5', XML),
        ("application/fhir+xml; fhirVersion=3.0, application/fhir+json; fhirVersion=4.0", JSON),
        ("application/fhir+xml; fhirVersion=5.0, */*;q=0.1", JSON),
        ("application/fhir+xml; charset=utf-8", XML),
        ("application/fhir+xml;q=nonsense, application/fhir+json;q=0.1", JSON),
        (", ,application/fhir+xml,", XML),
        (", ".join(["text/plain"] * 500 + ["application/fhir+xml"]), XML),
    ],
)
async def test_the_best_of_what_is_accepted_is_answered(
    client: httpx.AsyncClient, accept: str, content_type: str
) -> None:
    response = await client.get("Patient", headers={"accept": accept})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == content_type


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/*",
        "text/turtle, application/fhir+turtle",
        "application/fhir+json;q=0",
        "*/*;q=0",
        "application/fhir+json; fhirVersion=3.0",
        "application/fhir+json; fhirVersion=4.0.1",
        "application/fhir+json; fhirVersion=5.0, application/fhir+xml; fhirVersion=4.3",
        "application/fhir+xml; charset=utf-16",
        "application/fhir+json;q=2",
        "application/fhir+json;q=-1",
    ],
)
async def test_what_cannot_be_answered_is_refused_with_what_can(
    client: httpx.AsyncClient, accept: str
) -> None:
    response = await client.get("Patient", headers={"accept": accept})
    assert_outcome(
        response,
        406,
        "not-supported",
        "there are application/fhir+json and application/fhir+xml of FHIR 4.0",
    )


async def test_what_cannot_be_answered_is_not_stored(
    client: httpx.AsyncClient, store: Store
) -> None:
    sent = body({"resourceType": "Patient"})
    sent["headers"]["accept"] = "application/fhir+json; fhirVersion=3.0"
    response = await client.post("Patient", **sent)
    assert_outcome(response, 406, "not-supported", "fhirVersion=3.0")
    assert not await stored_versions(store)


@pytest.mark.parametrize(
    ("parameter", "content_type"),
    [
        ("json", JSON),
        ("xml", XML),
        ("text/xml", XML),
        ("application/xml", XML),
        ("application/json", JSON),
        ("application/fhir%2Bxml", XML),
        ("application/fhir+xml", XML),
        ("application/fhir+xml;%20fhirVersion=4.0", XML),
        ("XML", XML),
    ],
)
async def test_the_format_parameter_goes_before_accept(
    client: httpx.AsyncClient, parameter: str, content_type: str
) -> None:
    for accept in ("application/fhir+json", "application/fhir+xml", "text/html"):
        response = await client.get(f"Patient?_format={parameter}", headers={"accept": accept})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == content_type


@pytest.mark.parametrize("parameter", ["ttl", "html", "", "application/fhir+xml;fhirVersion=3.0"])
async def test_a_format_that_there_is_not_is_refused(
    client: httpx.AsyncClient, parameter: str
) -> None:
    response = await client.get(f"Patient?_format={parameter}")
    assert_outcome(response, 406, "not-supported", "there are application/fhir+json and")


async def test_a_format_in_a_search_form_counts(client: httpx.AsyncClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
    response = await client.post("Patient/_search", content="_format=xml", headers=form)
    assert _tree(response).tag == f"{FHIR}Bundle"
    refused = await client.post("Patient/_search", content="_format=xml&a=b", headers=form)
    assert refused.status_code == 400
    assert _tree(refused).tag == f"{FHIR}OperationOutcome"


async def test_pretty_breaks_lines_in_both_formats_and_changes_nothing_else(
    client: httpx.AsyncClient,
) -> None:
    await client.put("Observation/o1", **_sent(OBSERVATION))
    plain = exact(await client.get("Observation/o1"))
    for name in ("json", "xml"):
        response = await client.get(f"Observation/o1?_pretty=true&_format={name}")
        assert b"\n  " in response.content
        assert b"39.500" in response.content
    assert xml.decode_resource(response.content) == plain
    flat = await client.get("Observation/o1?_pretty=false&_format=xml")
    assert b"\n  <" not in flat.content


async def test_pretty_is_true_or_false(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient?_pretty=maybe")
    assert_outcome(response, 400, "invalid", "true and false", "http._pretty")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/turtle",
        "application/fhir+xml; charset=iso-8859-1",
        "application/fhir+json; charset=utf-16",
        "application/fhir+xml; fhirVersion=3.0",
        "multipart/form-data",
        "xml",
        "",
    ],
)
async def test_a_body_of_another_type_is_refused_with_what_is_taken(
    client: httpx.AsyncClient, content_type: str
) -> None:
    response = await client.post("Patient", **_sent(OBSERVATION, content_type))
    assert_outcome(
        response,
        415,
        "not-supported",
        "application/fhir+json and application/fhir+xml of FHIR 4.0 in UTF-8 are expected",
        "http.Content-Type",
    )
    assert "accept-encoding" not in response.headers


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF-8"'])
async def test_json_is_taken_in_utf_8(client: httpx.AsyncClient, charset: str) -> None:
    sent = body({"resourceType": "Patient", "name": [{"family": "Ünïcode"}]})
    sent["headers"]["content-type"] = f"application/fhir+json{charset}"
    assert (await client.post("Patient", **sent)).status_code == 201


async def test_an_empty_body_of_xml_says_so(client: httpx.AsyncClient) -> None:
    response = await client.post("Patient", **_sent(""))
    assert_outcome(response, 400, "structure", "The body is empty; a FHIR resource in XML")


async def test_a_reader_of_xml_that_has_the_version_gets_no_body(client: httpx.AsyncClient) -> None:
    await put(client, {"resourceType": "Patient", "id": "p1"})
    headers = {"accept": "application/fhir+xml", "if-none-match": 'W/"1"'}
    response = await client.get("Patient/p1", headers=headers)
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["vary"] == "Accept, Accept-Encoding, Prefer"


HOSTILE: Final = {
    "an external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    b'<Patient xmlns="http://hl7.org/fhir"><language value="&e;"/></Patient>',
    "an external DTD": b'<!DOCTYPE Patient SYSTEM "http://169.254.169.254/x.dtd">'
    b'<Patient xmlns="http://hl7.org/fhir"/>',
    "a parameter entity": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]>'
    b'<Patient xmlns="http://hl7.org/fhir"/>',
    "a billion laughs": b'<!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(12))
    + b']><Patient xmlns="http://hl7.org/fhir"><language value="&m;"/></Patient>',
    "an entity that is not declared": b'<Patient xmlns="http://hl7.org/fhir">'
    b'<language value="&nbsp;"/></Patient>',
    "xinclude": b'<Patient xmlns="http://hl7.org/fhir" xmlns:xi="http://www.w3.org/2001/XInclude">'
    b'<xi:include href="file:///etc/passwd" parse="text"/></Patient>',
    "a schema of its own": b'<Patient xmlns="http://hl7.org/fhir" '
    b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b"/>',
    "UTF-16": '<Patient xmlns="http://hl7.org/fhir"/>'.encode("utf-16"),
    "UTF-16 without a mark": '<Patient xmlns="http://hl7.org/fhir"/>'.encode("utf-16-le"),
    "another encoding declared": b'<?xml version="1.0" encoding="ISO-8859-1"?>'
    b'<Patient xmlns="http://hl7.org/fhir"/>',
    "UTF-7 declared": b'<?xml version="1.0" encoding="UTF-7"?><Patient/>',
    "bytes that are not UTF-8": b'<Patient xmlns="http://hl7.org/fhir">'
    b'<language value="\xff\xfe"/></Patient>',
    "deep elements": b'<Patient xmlns="http://hl7.org/fhir">' + b"<extension>" * 10_000,
    "deep contained": b'<Patient xmlns="http://hl7.org/fhir">' + b"<contained><List>" * 500,
    "two roots": b'<Patient xmlns="http://hl7.org/fhir"/><Patient xmlns="http://hl7.org/fhir"/>',
    "no namespace": b"<Patient/>",
    "an attribute twice": b'<Patient xmlns="http://hl7.org/fhir"><active value="true" '
    b'value="false"/></Patient>',
    "a control character": b'<Patient xmlns="http://hl7.org/fhir"><language value="&#1;"/>'
    b"</Patient>",
    "a lone surrogate": b'<Patient xmlns="http://hl7.org/fhir"><language value="&#xD800;"/>'
    b"</Patient>",
    "NUL": b'<Patient xmlns="http://hl7.org/fhir"><language value="\x00"/></Patient>',
    "NaN": b'<Observation xmlns="http://hl7.org/fhir"><valueQuantity><value value="NaN"/>'
    b"</valueQuantity></Observation>",
    "script in a narrative": b'<Patient xmlns="http://hl7.org/fhir"><text><status '
    b'value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'
    b"</text></Patient>",
    "text for a value": b'<Patient xmlns="http://hl7.org/fhir"><active>true</active></Patient>',
    "cut off": b'<Patient xmlns="http://hl7.org/fhir"><active',
    "JSON": b'{"resourceType":"Patient"}',
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_xml_is_refused_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, document: bytes
) -> None:
    kind = "Observation" if b"<Observation" in document else "Patient"
    response = await client.post(kind, **_sent(document))
    assert response.status_code == 400, response.text
    assert "root:" not in response.text
    assert response.json()["resourceType"] == "OperationOutcome"
    assert not await stored_versions(store)


async def test_a_huge_text_is_refused_by_its_size(client: httpx.AsyncClient) -> None:
    document = f'<Patient xmlns="http://hl7.org/fhir"><language value="{"x" * 300_000}"/></Patient>'
    response = await client.post("Patient", **_sent(document))
    assert_outcome(response, 413, "too-long", "bytes are allowed")


async def test_xml_may_be_as_deep_as_json_and_no_deeper(client: httpx.AsyncClient) -> None:
    def nested(levels: int) -> str:
        opening = '<extension url="http://example.org/x">'
        inner = '<extension url="http://example.org/x"><valueBoolean value="true"/></extension>'
        within = opening * (levels - 1) + inner + "</extension>" * (levels - 1)
        return f'<Patient xmlns="http://hl7.org/fhir">{within}</Patient>'

    created = await client.post("Patient", **_sent(nested(49)))
    assert created.status_code == 201, created.text
    read = await client.get(f"Patient/{created.json()['id']}?_format=xml")
    assert read.content.count(b"<extension ") == 49
    for levels in (50, 60, 99, 200):
        refused = await client.post("Patient", **_sent(nested(levels)))
        assert_outcome(refused, 400, "structure", "deeper than 100 levels")


async def test_characters_that_xml_has_not_are_replaced_in_xml_alone(
    client: httpx.AsyncClient,
) -> None:
    name = "a\uffffb"
    await put(client, {"resourceType": "Patient", "id": "p1", "name": [{"family": name}]})
    response = await client.get("Patient/p1?_format=xml")
    assert _tree(response).find(f".//{FHIR}family").get("value") == "a\ufffdb"
    assert (await client.get("Patient/p1")).json()["name"][0]["family"] == name
