"""Bad input: https://hl7.org/fhir/R4/http.html#Status-Codes

Each gives its 4xx with an OperationOutcome that names the place and what is allowed, and nothing
is stored.
"""

from typing import Any, NamedTuple

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.support import assert_outcome, outcome_issues, put, stored_versions

JSON = {"content-type": "application/fhir+json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
PATIENT = b'{"resourceType":"Patient","id":"p1"}'


class Bad(NamedTuple):
    """A request and its refusal."""

    name: str
    request: tuple[str, str, bytes, dict[str, str]]
    status: int
    code: str
    text: str
    expression: str | None = None


def _post(content: bytes, url: str = "Patient", **headers: str) -> Any:
    return "POST", url, content, JSON | {k.replace("_", "-"): v for k, v in headers.items()}


def _put(content: bytes, url: str = "Patient/p1", **headers: str) -> Any:
    return "PUT", url, content, JSON | {k.replace("_", "-"): v for k, v in headers.items()}


def _get(url: str, **headers: str) -> Any:
    return "GET", url, b"", {k.replace("_", "-"): v for k, v in headers.items()}


def _patient(member: str) -> Any:
    return _post(b'{"resourceType":"Patient",' + member.encode() + b"}")


_DEEP = b'{"resourceType":"Patient","extension":' + b'[{"extension":' * 60 + b"[]" + b"}]" * 60
_NO_JSON = "is not valid JSON"

BODIES = [
    Bad("broken JSON", _post(b'{"resourceType":'), 400, "structure", _NO_JSON),
    Bad("a place in broken JSON", _post(b'{"a":1,\n"b":}'), 400, "structure", "line 2, column 5"),
    Bad("text after JSON", _post(PATIENT + b"x"), 400, "structure", _NO_JSON),
    Bad("single quotes", _post(b"{'resourceType':'Patient'}"), 400, "structure", _NO_JSON),
    Bad("a comma too many", _post(b'{"resourceType":"Patient",}'), 400, "structure", _NO_JSON),
    Bad("XML", _post(b"<Patient/>"), 400, "structure", _NO_JSON),
    Bad("no body", _post(b""), 400, "structure", "The body is empty; a FHIR resource"),
    Bad("blanks only", _post(b" \n\t"), 400, "structure", "The body is empty"),
    Bad("an array", _post(b"[]"), 400, "structure", "a JSON array; a resource is a JSON object"),
    Bad("a string", _post(b'"Patient"'), 400, "structure", "a JSON string"),
    Bad("a number", _post(b"5"), 400, "structure", "a JSON number"),
    Bad("null", _post(b"null"), 400, "structure", "a JSON null"),
    Bad("an empty object", _post(b"{}"), 400, "structure", "has no resourceType", "resourceType"),
    Bad(
        "another type",
        _post(b'{"resourceType":"Practitioner"}'),
        400,
        "structure",
        "'Practitioner'; this address takes a Patient",
        "resourceType",
    ),
    Bad("a type in small letters", _post(b'{"resourceType":"patient"}'), 400, "structure", "takes"),
    Bad(
        "a type that is no text", _post(b'{"resourceType":["Patient"]}'), 400, "structure", "takes"
    ),
    Bad(
        "an unknown element",
        _patient('"colour":"blue"'),
        400,
        "structure",
        "colour",
        "Patient.colour",
    ),
    Bad(
        "an unknown element within",
        _patient('"name":[{"family":"x","colour":1}]'),
        400,
        "structure",
        "colour",
        "Patient.name[0].colour",
    ),
    Bad("a prototype", _patient('"__proto__":{"a":1}'), 400, "structure", "__proto__"),
    Bad("a database operator", _patient('"$where":"1==1"'), 400, "structure", "$where"),
    Bad("a dotted name", _patient('"name.family":"x"'), 400, "structure", "name.family"),
    Bad(
        "text for a boolean",
        _patient('"active":"true"'),
        400,
        "value",
        "active must be true or false, not a string",
        "Patient.active",
    ),
    Bad("an object for an array", _patient('"name":{"family":"x"}'), 400, "structure", "array"),
    Bad("an array for text", _patient('"gender":["male"]'), 400, "code-invalid", "not an array"),
    Bad("null for an element", _patient('"active":null'), 400, "value", "not null"),
    Bad("an empty array", _patient('"name":[]'), 400, "structure", "empty", "Patient.name"),
    Bad("empty text", _patient('"language":""'), 400, "value", "empty", "Patient.language"),
    Bad(
        "a code that is not bound",
        _patient('"gender":"blue"'),
        400,
        "code-invalid",
        "male",
        "Patient.gender",
    ),
    Bad(
        "a date that is none",
        _patient('"birthDate":"next week"'),
        400,
        "value",
        "YYYY-MM-DD",
        "Patient.birthDate",
    ),
    Bad(
        "a day that is not",
        _patient('"birthDate":"2026-02-30"'),
        400,
        "value",
        "2026-02 has no day 30",
    ),
    Bad("year nought", _patient('"birthDate":"0000-01-01"'), 400, "value", "0000-01-01"),
    Bad("an id that is none", _put(b'{"resourceType":"Patient","id":"a b"}'), 400, "value", "a b"),
    Bad(
        "another id than the address",
        _put(b'{"resourceType":"Patient","id":"p2"}'),
        400,
        "invalid",
        "the address says 'p1'",
        "Patient.id",
    ),
    Bad(
        "no id",
        _put(b'{"resourceType":"Patient"}'),
        400,
        "invalid",
        "'p1' as in the address is expected",
        "Patient.id",
    ),
    Bad(
        "what is required is missing",
        _post(b'{"resourceType":"CarePlan","status":"draft","intent":"plan"}', "CarePlan"),
        400,
        "required",
        "subject",
        "CarePlan.subject",
    ),
    Bad("deep JSON", _post(_DEEP + b"}"), 400, "structure", "nested deeper than 100 levels"),
    Bad("very deep JSON", _post(b"[" * 100_000), 400, "structure", "nested deeper than 100"),
    Bad(
        "a name twice",
        _patient('"active":true,"active":false'),
        400,
        "structure",
        "'active' stands twice",
    ),
    Bad(
        "a name twice, once escaped",
        _patient('"active":true,"\\u0061ctive":false'),
        400,
        "structure",
        "'active' stands twice",
    ),
    Bad("NaN", _patient('"multipleBirthInteger":NaN'), 400, "structure", _NO_JSON),
    Bad("infinity", _patient('"multipleBirthInteger":-Infinity'), 400, "structure", _NO_JSON),
    Bad("a leading nought", _patient('"multipleBirthInteger":01'), 400, "structure", _NO_JSON),
    Bad("a lone surrogate", _patient('"language":"\\ud800"'), 400, "structure", _NO_JSON),
    Bad("a lone surrogate in a name", _patient('"\\udfff":"x"'), 400, "structure", _NO_JSON),
    Bad("bytes that are not UTF-8", _post(b'{"a":"\xff"}'), 400, "structure", _NO_JSON),
    Bad("a raw control character", _patient('"language":"a\x01b"'), 400, "structure", _NO_JSON),
    Bad("a raw NUL", _patient('"language":"a\x00b"'), 400, "structure", _NO_JSON),
    Bad(
        "an escaped NUL",
        _patient('"name":[{"family":"a\\u0000b"}]'),
        400,
        "value",
        "",
        "Patient.name[0].family",
    ),
    Bad("a byte order mark", _post(b"\xef\xbb\xbf" + PATIENT), 400, "structure", "byte order mark"),
    Bad("UTF-16", _post(PATIENT.decode().encode("utf-16")), 400, "structure", _NO_JSON),
    Bad("1e400", _patient('"multipleBirthInteger":1e400'), 400, "value", "multipleBirthInteger"),
    Bad(
        "an exponent beyond all bounds",
        _patient('"multipleBirthInteger":1e99999999999999999999'),
        400,
        "structure",
        _NO_JSON,
    ),
    Bad(
        "a huge integer",
        _patient(f'"multipleBirthInteger":{"9" * 5000}'),
        400,
        "structure",
        "out of range",
    ),
    Bad(
        "an integer above 32 bits",
        _patient('"multipleBirthInteger":2147483648'),
        400,
        "value",
        "2147483648",
        "Patient.multipleBirth",
    ),
    Bad("a fraction", _patient('"multipleBirthInteger":1.5'), 400, "value", "a whole number"),
    Bad("too large", _post(b" " * 300_000), 413, "too-long", "262144 bytes are allowed"),
]

ADDRESSES = [
    Bad("an unknown type", _get("Dragon/1"), 404, "not-found", "'Dragon' is not a resource type"),
    Bad("a type in small letters", _get("patient/1"), 404, "not-found", "'patient'"),
    Bad("a data type", _get("HumanName/1"), 404, "not-found", "'HumanName'"),
    Bad("an abstract type", _get("DomainResource/1"), 404, "not-found", "'DomainResource'"),
    Bad("an unknown type written", _put(PATIENT, "Dragon/p1"), 404, "not-found", "'Dragon'"),
    Bad("an id of 65 letters", _get("Patient/" + "a" * 65), 400, "invalid", "1 to 64 characters"),
    Bad("an id with a blank", _get("Patient/a%20b"), 400, "invalid", "1 to 64 characters"),
    Bad("an id with a slash", _get("Patient/a%2fb"), 400, "invalid", "'a/b' is not an id"),
    Bad("an id twice encoded", _get("Patient/a%252fb"), 400, "invalid", "'a%2fb' is not an id"),
    Bad("an id with NUL", _get("Patient/a%00b"), 400, "invalid", "is not an id"),
    Bad("an id not in UTF-8", _get("Patient/%ff%fe"), 400, "invalid", "is not an id"),
    Bad("an id with an underscore", _put(PATIENT, "Patient/p_1"), 400, "invalid", "'p_1'"),
    Bad("an id of another script", _get("Patient/é"), 400, "invalid", "'é' is not an id"),
    Bad("a way up", _get("Patient/%2e%2e%2fmetadata"), 400, "invalid", "'../metadata'"),
    Bad("a way out", _get("..%2f..%2fetc%2fpasswd"), 404, "not-found", "is not a resource type"),
    Bad("nothing there", _get("Patient/p1/name/family"), 404, "not-found", "is no address"),
    Bad("an empty segment", _get("Patient//p1"), 404, "not-found", "is no address"),
    Bad("no compartment", _get("Location/p1/CarePlan"), 404, "not-found", "no compartment"),
    Bad("no member", _get("Patient/p1/Dragon"), 404, "not-found", "is no address"),
    Bad("an operation that is not", _post(b"", "$shout"), 404, "not-found", "no operation $shout"),
    Bad("$ alone", _get("$"), 404, "not-found", "no operation $"),
]

HEADERS = [
    Bad("no media type", ("POST", "Patient", PATIENT, {}), 415, "not-supported", "fhir+json"),
    Bad(
        "JSON declared as XML",
        _post(PATIENT, content_type="application/fhir+xml"),
        400,
        "structure",
        "is not well-formed XML",
    ),
    Bad(
        "Turtle declared",
        _post(PATIENT, content_type="text/turtle"),
        415,
        "not-supported",
        "application/fhir+json and application/fhir+xml of FHIR 4.0 in UTF-8 are expected",
        "http.Content-Type",
    ),
    Bad(
        "a form declared",
        _post(PATIENT, content_type=FORM["content-type"]),
        415,
        "not-supported",
        "",
    ),
    Bad(
        "text declared",
        _post(PATIENT, content_type="text/plain"),
        415,
        "not-supported",
        "text/plain",
    ),
    Bad(
        "another charset",
        _post(PATIENT, content_type="application/fhir+json; charset=latin-1"),
        415,
        "not-supported",
        "UTF-8",
    ),
    Bad(
        "a patch declared",
        _post(PATIENT, content_type="application/json-patch+json"),
        415,
        "not-supported",
        "",
    ),
    Bad(
        "Turtle wanted in Accept",
        _get("Patient", accept="text/turtle"),
        406,
        "not-supported",
        "there are application/fhir+json and application/fhir+xml",
    ),
    Bad("HTML wanted", _get("Patient", accept="text/html"), 406, "not-supported", "text/html"),
    Bad(
        "JSON not wanted",
        _get("Patient", accept="application/json;q=0"),
        406,
        "not-supported",
        "q=0",
    ),
    Bad("Turtle wanted", _get("Patient?_format=ttl"), 406, "not-supported", "_format=ttl"),
    Bad(
        "an answer not wanted",
        _post(PATIENT, accept="text/html"),
        406,
        "not-supported",
        "text/html",
    ),
    Bad(
        "an unknown Prefer",
        _post(PATIENT, prefer="return=everything"),
        400,
        "invalid",
        "minimal, representation, OperationOutcome",
        "http.Prefer",
    ),
    Bad(
        "an unknown handling",
        _get("Patient", prefer="handling=rough"),
        400,
        "invalid",
        "strict, lenient",
        "http.Prefer",
    ),
    Bad(
        "If-Match without quotes",
        _put(PATIENT, if_match="1"),
        412,
        "conflict",
        'such as W/"3"',
        "http.If-Match",
    ),
    Bad(
        "If-Match for all",
        _put(PATIENT, if_match="*"),
        412,
        "conflict",
        'such as W/"3"',
        "http.If-Match",
    ),
    Bad(
        "If-Match of two", _put(PATIENT, if_match='W/"1", W/"2"'), 412, "conflict", 'such as W/"3"'
    ),
    Bad(
        "a length that is too large",
        _post(b"", content_length="99999999999"),
        413,
        "too-long",
        "bytes are allowed",
    ),
]

SEARCHES = [
    Bad(
        "an unknown parameter",
        _get("Patient?colour=blue"),
        400,
        "invalid",
        "'colour' is not a search parameter of Patient",
        "http.colour",
    ),
    Bad(
        "one that nearly is",
        _get("Patient?famly=x"),
        400,
        "invalid",
        "did you mean family",
        "http.famly",
    ),
    Bad(
        "one of another type", _get("Patient?goal=x"), 400, "invalid", "'goal' is not", "http.goal"
    ),
    Bad(
        "an unknown modifier",
        _get("Patient?family:loud=x"),
        400,
        "invalid",
        "loud",
        "http.family:loud",
    ),
    Bad(
        "a modifier of another type",
        _get("Patient?birthdate:exact=2026"),
        400,
        "invalid",
        "exact",
        "http.birthdate:exact",
    ),
    Bad(
        "an unknown prefix",
        _get("Patient?birthdate=xx2026"),
        400,
        "invalid",
        "'xx' is not a prefix; allowed: eq, ne, gt",
        "http.birthdate",
    ),
    Bad(
        "a date that is none",
        _get("Patient?birthdate=2026-13"),
        400,
        "invalid",
        "2026-13",
        "http.birthdate",
    ),
    Bad(
        "a day that is not",
        _get("Patient?birthdate=2026-02-30"),
        400,
        "invalid",
        "2026-02-30",
        "http.birthdate",
    ),
    Bad("year nought", _get("Patient?birthdate=0000"), 400, "invalid", "0000", "http.birthdate"),
    Bad(
        "a number that is none",
        _get("RiskAssessment?probability=high"),
        400,
        "invalid",
        "high",
        "http.probability",
    ),
    Bad(
        "a number that is not",
        _get("RiskAssessment?probability=NaN"),
        400,
        "invalid",
        "NaN",
        "http.probability",
    ),
    Bad(
        "a reference that is none",
        _get("CarePlan?patient=a/b/c"),
        400,
        "invalid",
        "a/b/c",
        "http.patient",
    ),
    Bad("an id that is none", _get("Patient?_id=a_b"), 400, "invalid", "1 to 64", "http._id"),
    Bad(
        "no value", _get("Patient?family="), 400, "invalid", "'family' has no value", "http.family"
    ),
    Bad(
        "missing neither true nor false",
        _get("Patient?family:missing=maybe"),
        400,
        "invalid",
        "true or false",
        "http.family:missing",
    ),
    Bad(
        "a page size that is none",
        _get("Patient?_count=many"),
        400,
        "invalid",
        "is not a page size",
        "http._count",
    ),
    Bad(
        "a page size below nought",
        _get("Patient?_count=-1"),
        400,
        "invalid",
        "is not a page size",
        "http._count",
    ),
    Bad(
        "a total that is none",
        _get("Patient?_total=maybe"),
        400,
        "invalid",
        "none, estimate or accurate",
        "http._total",
    ),
    Bad(
        "a sort that is none",
        _get("Patient?_sort=colour"),
        400,
        "invalid",
        "'colour' is not",
        "http._sort",
    ),
    Bad(
        "a page that is none",
        _get("Patient?_page=x"),
        400,
        "invalid",
        "not one that the server gave",
        "http._page",
    ),
    Bad(
        "a chain over a canonical to what has no url",
        _get("CarePlan?instantiates-canonical:Patient.name=x"),
        400,
        "invalid",
        "never refers to a Patient; it refers to ActivityDefinition",
        "http.instantiates-canonical:Patient.name",
    ),
    Bad(
        "a chain that never ends",
        _get("Location?" + "partof." * 6 + "name=x"),
        403,
        "too-costly",
        "5 are allowed",
    ),
    Bad(
        "a chain that may mean everything",
        _get("Composition?subject.subject.subject.name=x"),
        403,
        "too-costly",
        "name the types",
    ),
    Bad(
        "a reverse chain without its criterion",
        _get("Patient?_has:CarePlan:patient=x"),
        400,
        "invalid",
        "_has:Type:parameter:criterion",
    ),
    Bad("a query not in UTF-8", _get("Patient?family=%ff"), 400, "invalid", "cannot be read"),
    Bad("a name not in UTF-8", _get("Patient?%c3%28=x"), 400, "invalid", "cannot be read"),
    Bad("NUL in the query", _get("Patient?family=a%00b"), 400, "invalid", "NUL"),
    Bad(
        "a form not in UTF-8",
        ("POST", "Patient/_search", b"family=%ff", FORM),
        400,
        "invalid",
        "cannot be read",
    ),
    Bad(
        "far too many parameters",
        _get("Patient?" + "&".join(["family=x"] * 101)),
        403,
        "too-costly",
        "100 are allowed",
    ),
    Bad(
        "far too many names",
        _get("Patient?" + "&".join(["family=x"] * 1001)),
        403,
        "too-costly",
        "1001 parameters; 100 are allowed",
    ),
    Bad(
        "far too many values",
        _get("Patient?family=" + ",".join(["x"] * 1001)),
        403,
        "too-costly",
        "1000 are allowed",
        "http.family",
    ),
    Bad(
        "several at once",
        _get("Patient?colour=blue&birthdate=soon"),
        400,
        "invalid",
        "soon",
        "http.birthdate",
    ),
]

QUERIES = [
    Bad(
        "a condition on create",
        _post(PATIENT, "Patient?family=x"),
        400,
        "invalid",
        "conditions go into If-None-Exist",
        "http.family",
    ),
    Bad("one on read", _get("Patient/p1?family=x"), 400, "invalid", "read", "http.family"),
    Bad("one on update", _put(PATIENT, "Patient/p1?family=x"), 400, "invalid", "update"),
    Bad("one on delete", ("DELETE", "Patient/p1?a=b", b"", {}), 400, "invalid", "delete"),
]

METHODS = [
    Bad(
        "POST on an id",
        _post(PATIENT, "Patient/p1"),
        405,
        "not-supported",
        "allowed: DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
    ),
    Bad(
        "PUT on a version",
        _put(PATIENT, "Patient/p1/_history/1"),
        405,
        "not-supported",
        "allowed: GET, HEAD",
    ),
    Bad(
        "DELETE on the history",
        ("DELETE", "Patient/p1/_history", b"", {}),
        405,
        "not-supported",
        "allowed: GET, HEAD",
    ),
    Bad(
        "DELETE on the base",
        ("DELETE", "", b"", {}),
        405,
        "not-supported",
        "allowed: GET, HEAD, OPTIONS, POST",
    ),
    Bad(
        "POST on the statement",
        _post(b"{}", "metadata"),
        405,
        "not-supported",
        "allowed: GET, HEAD",
    ),
    Bad(
        "TRACE",
        ("TRACE", "Patient", b"", {}),
        405,
        "not-supported",
        "allowed: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
    ),
    Bad(
        "an invented method",
        ("BREW", "Patient", b"", {}),
        405,
        "not-supported",
        "BREW is not allowed",
    ),
]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=f"{chapter}: {bad.name}")
        for chapter, cases in (
            ("body", BODIES),
            ("address", ADDRESSES),
            ("header", HEADERS),
            ("search", SEARCHES),
            ("query", QUERIES),
            ("method", METHODS),
        )
        for bad in cases
    ],
)
async def test_is_refused_with_its_place_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, bad: Bad
) -> None:
    method, url, content, headers = bad.request
    response = await client.request(method, url, content=content, headers=headers)
    assert_outcome(response, bad.status, bad.code, bad.text, bad.expression)
    if bad.status == 405:
        assert f"allowed: {response.headers['allow']}" in response.text
    assert not await stored_versions(store)


async def test_an_unknown_type_is_told_before_its_body_is_read(client: httpx.AsyncClient) -> None:
    response = await client.post("Dragon", content=b"{", headers=JSON)
    assert_outcome(response, 404, "not-found", "'Dragon'")


async def test_every_problem_of_a_resource_is_told(client: httpx.AsyncClient) -> None:
    content = b'{"resourceType":"Patient","colour":1,"gender":"blue","birthDate":"never"}'
    response = await client.post("Patient", content=content, headers=JSON)
    assert {tuple(issue["expression"]) for issue in outcome_issues(response)} == {
        ("Patient.colour",),
        ("Patient.gender",),
        ("Patient.birthDate",),
    }


async def test_a_refusal_does_not_touch_what_is_stored(
    client: httpx.AsyncClient, store: Store
) -> None:
    stored = await put(client, {"resourceType": "Patient", "id": "p1", "gender": "female"})
    for content in (b"{", b"[]", b'{"resourceType":"Patient","id":"p1","gender":"blue"}'):
        response = await client.put("Patient/p1", content=content, headers=JSON)
        assert response.status_code == 400
    assert (await client.get("Patient/p1")).json() == stored
    assert len(await stored_versions(store)) == 1


async def test_numbers_beyond_a_double_are_kept_and_searched_without_failing(
    client: httpx.AsyncClient,
) -> None:
    content = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":1e400}}'
    )
    created = await client.post("Observation", content=content, headers=JSON)
    assert created.status_code in (201, 400)
    for value in ("1e400", "-1e400", "gt1e400", "1e-400", "9" * 400):
        found = await client.get("Observation", params={"value-quantity": value})
        assert found.status_code in (200, 400), value
