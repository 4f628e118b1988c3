"""Requests that are refused, and how: bodies, addresses, queries and methods.

Headers and searches are in `bad_headers` and `bad_searches`.
"""

from typing import Any, NamedTuple

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


def post(content: bytes, url: str = "Patient", **headers: str) -> Any:
    return "POST", url, content, JSON | {k.replace("_", "-"): v for k, v in headers.items()}


def put(content: bytes, url: str = "Patient/p1", **headers: str) -> Any:
    return "PUT", url, content, JSON | {k.replace("_", "-"): v for k, v in headers.items()}


def get(url: str, **headers: str) -> Any:
    return "GET", url, b"", {k.replace("_", "-"): v for k, v in headers.items()}


def patient(member: str) -> Any:
    return post(b'{"resourceType":"Patient",' + member.encode() + b"}")


DEEP = b'{"resourceType":"Patient","extension":' + b'[{"extension":' * 60 + b"[]" + b"}]" * 60
NO_JSON = "is not valid JSON"

BODIES = [
    Bad("broken JSON", post(b'{"resourceType":'), 400, "structure", NO_JSON),
    Bad("a place in broken JSON", post(b'{"a":1,\n"b":}'), 400, "structure", "line 2, column 5"),
    Bad("text after JSON", post(PATIENT + b"x"), 400, "structure", NO_JSON),
    Bad("single quotes", post(b"{'resourceType':'Patient'}"), 400, "structure", NO_JSON),
    Bad("a comma too many", post(b'{"resourceType":"Patient",}'), 400, "structure", NO_JSON),
    Bad("XML", post(b"<Patient/>"), 400, "structure", NO_JSON),
    Bad("no body", post(b""), 400, "structure", "The body is empty; a FHIR resource"),
    Bad("blanks only", post(b" \n\t"), 400, "structure", "The body is empty"),
    Bad("an array", post(b"[]"), 400, "structure", "a JSON array; a resource is a JSON object"),
    Bad("a string", post(b'"Patient"'), 400, "structure", "a JSON string"),
    Bad("a number", post(b"5"), 400, "structure", "a JSON number"),
    Bad("null", post(b"null"), 400, "structure", "a JSON null"),
    Bad("an empty object", post(b"{}"), 400, "structure", "has no resourceType", "resourceType"),
    Bad(
        "another type",
        post(b'{"resourceType":"Practitioner"}'),
        400,
        "structure",
        "'Practitioner'; this address takes a Patient",
        "resourceType",
    ),
    Bad("a type in small letters", post(b'{"resourceType":"patient"}'), 400, "structure", "takes"),
    Bad("a type that is no text", post(b'{"resourceType":["Patient"]}'), 400, "structure", "takes"),
    Bad(
        "an unknown element",
        patient('"colour":"blue"'),
        400,
        "structure",
        "colour",
        "Patient.colour",
    ),
    Bad(
        "an unknown element within",
        patient('"name":[{"family":"x","colour":1}]'),
        400,
        "structure",
        "colour",
        "Patient.name[0].colour",
    ),
    Bad("a prototype", patient('"__proto__":{"a":1}'), 400, "structure", "__proto__"),
    Bad("a database operator", patient('"$where":"1==1"'), 400, "structure", "$where"),
    Bad("a dotted name", patient('"name.family":"x"'), 400, "structure", "name.family"),
    Bad(
        "text for a boolean",
        patient('"active":"true"'),
        400,
        "value",
        "active must be true or false, not a string",
        "Patient.active",
    ),
    Bad("an object for an array", patient('"name":{"family":"x"}'), 400, "structure", "array"),
    Bad("an array for text", patient('"gender":["male"]'), 400, "code-invalid", "not an array"),
    Bad("null for an element", patient('"active":null'), 400, "value", "not null"),
    Bad("an empty array", patient('"name":[]'), 400, "structure", "empty", "Patient.name"),
    Bad("empty text", patient('"language":""'), 400, "value", "empty", "Patient.language"),
    Bad(
        "a code that is not bound",
        patient('"gender":"blue"'),
        400,
        "code-invalid",
        "male",
        "Patient.gender",
    ),
    Bad(
        "a date that is none",
        patient('"birthDate":"next week"'),
        400,
        "value",
        "YYYY-MM-DD",
        "Patient.birthDate",
    ),
    Bad(
        "a day that is not",
        patient('"birthDate":"2026-02-30"'),
        400,
        "value",
        "2026-02 has no day 30",
    ),
    Bad("year nought", patient('"birthDate":"0000-01-01"'), 400, "value", "0000-01-01"),
    Bad("an id that is none", put(b'{"resourceType":"Patient","id":"a b"}'), 400, "value", "a b"),
    Bad(
        "another id than the address",
        put(b'{"resourceType":"Patient","id":"p2"}'),
        400,
        "invalid",
        "the address says 'p1'",
        "Patient.id",
    ),
    Bad(
        "no id",
        put(b'{"resourceType":"Patient"}'),
        400,
        "invalid",
        "'p1' as in the address is expected",
        "Patient.id",
    ),
    Bad(
        "what is required is missing",
        post(b'{"resourceType":"CarePlan","status":"draft","intent":"plan"}', "CarePlan"),
        400,
        "required",
        "subject",
        "CarePlan.subject",
    ),
    Bad("deep JSON", post(DEEP + b"}"), 400, "structure", "nested deeper than 100 levels"),
    Bad("very deep JSON", post(b"[" * 100_000), 400, "structure", "nested deeper than 100"),
    Bad(
        "a name twice",
        patient('"active":true,"active":false'),
        400,
        "structure",
        "'active' stands twice",
    ),
    Bad(
        "a name twice, once escaped",
        patient('"active":true,"\\u0061ctive":false'),
        400,
        "structure",
        "'active' stands twice",
    ),
    Bad("NaN", patient('"multipleBirthInteger":NaN'), 400, "structure", NO_JSON),
    Bad("infinity", patient('"multipleBirthInteger":-Infinity'), 400, "structure", NO_JSON),
    Bad("a leading nought", patient('"multipleBirthInteger":01'), 400, "structure", NO_JSON),
    Bad("a lone surrogate", patient('"language":"\\ud800"'), 400, "structure", NO_JSON),
    Bad("a lone surrogate in a name", patient('"\\udfff":"x"'), 400, "structure", NO_JSON),
    Bad("bytes that are not UTF-8", post(b'{"a":"\xff"}'), 400, "structure", NO_JSON),
    Bad("a raw control character", patient('"language":"a\x01b"'), 400, "structure", NO_JSON),
    Bad("a raw NUL", patient('"language":"a\x00b"'), 400, "structure", NO_JSON),
    Bad(
        "an escaped NUL",
        patient('"name":[{"family":"a\\u0000b"}]'),
        400,
        "value",
        "",
        "Patient.name[0].family",
    ),
    Bad("a byte order mark", post(b"\xef\xbb\xbf" + PATIENT), 400, "structure", "byte order mark"),
    Bad("UTF-16", post(PATIENT.decode().encode("utf-16")), 400, "structure", NO_JSON),
    Bad("1e400", patient('"multipleBirthInteger":1e400'), 400, "value", "multipleBirthInteger"),
    Bad(
        "an exponent beyond all bounds",
        patient('"multipleBirthInteger":1e99999999999999999999'),
        400,
        "structure",
        NO_JSON,
    ),
    Bad(
        "a huge integer",
        patient(f'"multipleBirthInteger":{"9" * 5000}'),
        400,
        "structure",
        "out of range",
    ),
    Bad(
        "an integer above 32 bits",
        patient('"multipleBirthInteger":2147483648'),
        400,
        "value",
        "2147483648",
        "Patient.multipleBirth",
    ),
    Bad("a fraction", patient('"multipleBirthInteger":1.5'), 400, "value", "a whole number"),
    Bad("too large", post(b" " * 300_000), 413, "too-long", "262144 bytes are allowed"),
]

ADDRESSES = [
    Bad("an unknown type", get("Dragon/1"), 404, "not-found", "'Dragon' is not a resource type"),
    Bad("a type in small letters", get("patient/1"), 404, "not-found", "'patient'"),
    Bad("a data type", get("HumanName/1"), 404, "not-found", "'HumanName'"),
    Bad("an abstract type", get("DomainResource/1"), 404, "not-found", "'DomainResource'"),
    Bad("an unknown type written", put(PATIENT, "Dragon/p1"), 404, "not-found", "'Dragon'"),
    Bad("an id of 65 letters", get("Patient/" + "a" * 65), 400, "invalid", "1 to 64 characters"),
    Bad("an id with a blank", get("Patient/a%20b"), 400, "invalid", "1 to 64 characters"),
    Bad("an id with a slash", get("Patient/a%2fb"), 400, "invalid", "'a/b' is not an id"),
    Bad("an id twice encoded", get("Patient/a%252fb"), 400, "invalid", "'a%2fb' is not an id"),
    Bad("an id with NUL", get("Patient/a%00b"), 400, "invalid", "is not an id"),
    Bad("an id not in UTF-8", get("Patient/%ff%fe"), 400, "invalid", "is not an id"),
    Bad("an id with an underscore", put(PATIENT, "Patient/p_1"), 400, "invalid", "'p_1'"),
    Bad("an id of another script", get("Patient/é"), 400, "invalid", "'é' is not an id"),
    Bad("a way up", get("Patient/%2e%2e%2fmetadata"), 400, "invalid", "'../metadata'"),
    Bad("a way out", get("..%2f..%2fetc%2fpasswd"), 404, "not-found", "is not a resource type"),
    Bad("nothing there", get("Patient/p1/name/family"), 404, "not-found", "is no address"),
    Bad("an empty segment", get("Patient//p1"), 404, "not-found", "is no address"),
    Bad("no compartment", get("Location/p1/CarePlan"), 404, "not-found", "no compartment"),
    Bad("no member", get("Patient/p1/Dragon"), 404, "not-found", "is no address"),
    Bad("an operation that is not", post(b"", "$shout"), 404, "not-found", "no operation $shout"),
    Bad("$ alone", get("$"), 404, "not-found", "no operation $"),
]

QUERIES = [
    Bad(
        "a condition on create",
        post(PATIENT, "Patient?family=x"),
        400,
        "invalid",
        "conditions go into If-None-Exist",
        "http.family",
    ),
    Bad("one on read", get("Patient/p1?family=x"), 400, "invalid", "read", "http.family"),
    Bad("one on update", put(PATIENT, "Patient/p1?family=x"), 400, "invalid", "update"),
    Bad("one on delete", ("DELETE", "Patient/p1?a=b", b"", {}), 400, "invalid", "delete"),
]

METHODS = [
    Bad(
        "POST on an id",
        post(PATIENT, "Patient/p1"),
        405,
        "not-supported",
        "allowed: DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
    ),
    Bad(
        "PUT on a version",
        put(PATIENT, "Patient/p1/_history/1"),
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
        post(b"{}", "metadata"),
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
