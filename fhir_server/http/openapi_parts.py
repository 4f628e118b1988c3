"""What the OpenAPI description says once and refers to: parameters, bodies, answers, schemas."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.references import ID_PATTERN
from fhir_server.http.negotiate import Format
from fhir_server.interactions import capabilities
from fhir_server.interactions.asynchronous import NDJSON
from fhir_server.interactions.patch import JSON_PATCH
from fhir_server.search.limits import Limits

Node = dict[str, Any]
ALL: Final = "all"
"""Stands for the search parameters that every type has."""
PRIMITIVES: Final[Mapping[str, Node]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "positiveInt": {"type": "integer", "format": "int32", "minimum": 1},
    "unsignedInt": {"type": "integer", "format": "int32", "minimum": 0},
    "decimal": {"type": "number"},
    **{
        name: {"type": "string", "minLength": 1}
        for name in (
            "canonical",
            "code",
            "date",
            "dateTime",
            "id",
            "instant",
            "markdown",
            "oid",
            "string",
            "time",
            "uri",
            "url",
            "uuid",
        )
    },
}
"""Types of parameters of operations that may stand in a query."""
_TEXT: Final[Node] = {"type": "string", "minLength": 1}
_LISTED: Final[Node] = {"type": "array", "items": _TEXT}
_CRITERIA: Final[Node] = {"type": "object", "additionalProperties": {"type": "string"}}
_ETAG: Final[Node] = {"type": "string", "example": 'W/"3"'}
_SUMMARY: Final[Node] = {"type": "string", "enum": ["true", "false", "text", "data", "count"]}


def parameter(name: str) -> Node:
    return {"$ref": f"#/components/parameters/{name}"}


def search_parameter(code: str, kind: str) -> Node:
    return {"$ref": f"#/components/parameters/{kind}.{code}"}


def response(name: str) -> Node:
    return {"$ref": f"#/components/responses/{name}"}


def body(name: str) -> Node:
    return {"$ref": f"#/components/requestBodies/{name}"}


def _schema(name: str) -> Node:
    return {"$ref": f"#/components/schemas/{name}"}


def components(limits: Limits, max_entries: int) -> Node:
    return {
        "parameters": {**_parameters(limits), **_search_parameters()},
        "headers": _headers(),
        "requestBodies": {**_bodies(), **_forms()},
        "responses": _answers(),
        "schemas": {**_schemas(limits), **_type_schemas(max_entries)},
    }


# --- parameters -------------------------------------------------------------------------------


@cache
def searched(name: str) -> Mapping[str, str]:
    """Codes of search parameters with their kinds; of `ALL`, those that every type has."""
    if name != ALL:
        return {code: kind for code, (kind, _) in capabilities.searched(name).items()}
    first, *others = (searched(one) for one in resource_types())
    return {
        code: kind
        for code, kind in first.items()
        if all(other.get(code) == kind for other in others)
    }


def _parameters(limits: Limits) -> Node:
    counted = {"type": "integer", "minimum": 0, "maximum": limits.max_count}
    return {
        "id": _in_path("id", {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"}),
        "version": _in_path("version", {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"}),
        "file": _in_path("version", {"type": "string", "pattern": _FILE}),
        "member": _in_path("member", {"type": "string", "enum": [*resource_types(), "*"]}),
        "_format": _query("_format", {"type": "string", "enum": ["json", "xml", *_media()]}),
        "_pretty": _query("_pretty", {"type": "boolean"}),
        "_count": _query("_count", counted, f"{limits.default_count} without it."),
        "_since": _query("_since", _TEXT, "A time, such as 2026-01-31T09:00:00Z."),
        "_at": _query("_at", _TEXT, "A time, or a part of one."),
        "_summary": _query("_summary", _SUMMARY),
        "_elements": _query("_elements", _TEXT, "Names of elements, separated by commas."),
        "_sort": _query("_sort", _TEXT, "Search parameters, separated by commas, - before one."),
        "_total": _query("_total", {"type": "string", "enum": ["none", "estimate", "accurate"]}),
        "_include": _query("_include", _LISTED, "Such as CarePlan:subject."),
        "_revinclude": _query("_revinclude", _LISTED, "Such as CarePlan:subject."),
        "_type": _query("_type", _TEXT, "Types, separated by commas."),
        "_page": _query("_page", _TEXT, "In links to further pages; it stands alone."),
        "mode": _query("mode", {"type": "string", "enum": ["full", "normative"]}),
        "further": _query("further", _CRITERIA, _FURTHER),
        "condition": {
            **_query("condition", {**_CRITERIA, "minProperties": 1}, _CONDITION),
            "required": True,
        },
        **_header_parameters(),
    }


_FILE: Final = r"^(output|error|deleted)-[0-9]{1,6}\.ndjson$"
_FURTHER: Final = (
    "Search parameters with modifiers, chains and _has: name:exact, subject:Patient.name. "
    "https://hl7.org/fhir/R4/search.html"
)
_CONDITION: Final = "Search parameters that find the resource that is meant."


def _header_parameters() -> Node:
    named = {
        "If-Match": (_ETAG, "The version that the client knows."),
        "If-None-Match": ({"type": "string"}, "Versions that the client has, or * for any."),
        "If-Modified-Since": (_TEXT, "A time as HTTP writes it; If-None-Match goes before it."),
        "If-None-Exist": (_TEXT, "Search criteria: what they find is not made again."),
        "Prefer": (
            {"type": "string", "example": "return=minimal"},
            "return=minimal, representation or OperationOutcome; handling=strict or lenient; "
            "respond-async.",
        ),
        "X-Provenance": (_TEXT, "A Provenance in JSON, without target, of what is written."),
        "X-Security-Context": (_TEXT, "A reference to whose record a Binary belongs in."),
        "X-Request-ID": (_TEXT, "Comes back as it was sent."),
    }
    return {
        name: {"name": name, "in": "header", "schema": schema, "description": text}
        for name, (schema, text) in named.items()
    }


def _search_parameters() -> Node:
    """Sent several times, each must hold; commas stand between values of which one must."""
    found: Node = {}
    for name in resource_types():
        for code, kind in searched(name).items():
            described = _query(code, _LISTED, f"https://hl7.org/fhir/R4/search.html#{kind}")
            found.setdefault(f"{kind}.{code}", described)
    return found


def _in_path(name: str, schema: Node) -> Node:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: Node, text: str = "") -> Node:
    described: Node = {"name": name, "in": "query", "schema": schema}
    return {**described, "description": text} if text else described


# --- bodies and answers -----------------------------------------------------------------------


def _media() -> list[str]:
    return [one.value for one in Format]


def _content(schema: Node) -> Node:
    """In the two formats; of XML, OpenAPI can tell no more than that it is text."""
    return {
        Format.JSON.value: {"schema": schema},
        Format.XML.value: {"schema": {"type": "string"}},
    }


def _bodies() -> Node:
    bodies: Node = {
        name: {"required": True, "content": _content(_schema(name))} for name in resource_types()
    }
    bodies["Binary"]["content"]["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    parameters = _content(_schema("Parameters"))
    patch = {JSON_PATCH: {"schema": _schema("JsonPatch")}, **parameters}
    given = _content(_schema("Resource"))
    return {
        **bodies,
        "Patch": {"required": True, "content": patch},
        "Input": {"required": True, "content": given},
        "OptionalInput": {"content": given},
        "Lines": {"required": True, "content": {NDJSON: {"schema": {"type": "string"}}, **given}},
    }


def _forms() -> Node:
    """Searches by POST, their parameters in a form."""
    found: Node = {}
    for name in (*resource_types(), ALL):
        properties = {code: _schema("Values") for code in searched(name)}
        schema = {
            "type": "object",
            "properties": properties,
            "additionalProperties": _schema("Values"),
        }
        content = {"application/x-www-form-urlencoded": {"schema": schema}}
        found[f"search-{name}"] = {"content": content}
    return found


def _headers() -> Node:
    named = {
        "ETag": "The version.",
        "Last-Modified": "When it was stored.",
        "Location": "The version that was made.",
        "Preference-Applied": "The wishes in Prefer that were followed.",
        "X-Request-ID": "The id of the request.",
        "Allow": "With 405, the methods of the address.",
        "Retry-After": "With 503, and while an asynchronous request goes on: seconds.",
        "X-Progress": "How far an asynchronous request is.",
        "Content-Location": "Where to ask what becomes of an asynchronous request.",
        "Expires": "Until when the result is there.",
    }
    return {
        name: {"schema": {"type": "string"}, "description": text} for name, text in named.items()
    }


def _answer(text: str, content: Node | None, *headers: str) -> Node:
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in (*headers, "X-Request-ID")}
    described: Node = {"description": text, "headers": named}
    return described if content is None else {**described, "content": content}


def _answers() -> Node:
    resource = _content(_schema("Resource"))
    content = {**resource, "*/*": {"schema": {"type": "string", "format": "binary"}}}
    manifest = {"application/json": {"schema": {"type": "object"}}}
    lines = {NDJSON: {"schema": {"type": "string"}}}
    refused = (
        "What is wrong, where, and what is allowed: https://hl7.org/fhir/R4/operationoutcome.html"
    )
    return {
        "Resource": _answer("The resource", resource, "ETag", "Last-Modified"),
        "Content": _answer("The content, or the resource", content, "ETag", "Last-Modified"),
        "Written": _answer(
            "As it is stored; nothing with return=minimal",
            resource,
            "ETag",
            "Last-Modified",
            "Location",
            "Preference-Applied",
        ),
        "Accepted": _answer(
            "With Prefer: respond-async: it is answered later",
            _content(_schema("Outcome")),
            "Content-Location",
            "Preference-Applied",
        ),
        "GoingOn": _answer("It is not finished", None, "X-Progress", "Retry-After"),
        "Result": _answer("A Bundle, or a manifest of files", {**resource, **manifest}, "Expires"),
        "Cancelled": _answer("It is cancelled", _content(_schema("Outcome"))),
        "Lines": _answer("Resources, one a line", lines, "Expires"),
        "Deleted": _answer("It is gone", None, "ETag", "Last-Modified"),
        "NotModified": _answer("The client has it", None, "ETag", "Last-Modified"),
        "Refused": _answer(refused, _content(_schema("Outcome")), "Allow", "Retry-After"),
    }


# --- schemas ----------------------------------------------------------------------------------


def _schemas(limits: Limits) -> Node:
    return {
        "Resource": _resource({"type": "string", "enum": [*resource_types()]}),
        "Values": {"oneOf": [_TEXT, {**_LISTED, "maxItems": limits.max_parameters}]},
        "JsonPatch": {"type": "array", "items": _schema("JsonPatchOperation")},
        "JsonPatchOperation": _patch_operation(),
        "Outcome": {
            **_resource({"type": "string", "enum": ["OperationOutcome"]}),
            "required": ["resourceType", "issue"],
            "properties": {
                "resourceType": {"type": "string", "enum": ["OperationOutcome"]},
                "issue": {"type": "array", "minItems": 1, "items": _issue()},
            },
        },
    }


def _patch_operation() -> Node:
    named = ["add", "remove", "replace", "move", "copy", "test"]
    return {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string", "enum": named},
            "path": {"type": "string"},
            "from": {"type": "string"},
            "value": {},
        },
    }


def _issue() -> Node:
    return {
        "type": "object",
        "required": ["severity", "code", "diagnostics"],
        "properties": {
            "severity": {"type": "string", "enum": ["fatal", "error", "warning", "information"]},
            "code": {"type": "string"},
            "diagnostics": {"type": "string"},
            "expression": {"type": "array", "items": {"type": "string"}},
        },
    }


def _resource(name: Node) -> Node:
    return {"type": "object", "required": ["resourceType"], "properties": {"resourceType": name}}


def _type_schemas(max_entries: int) -> Node:
    """What a resource is made of, R4's own schema says: https://hl7.org/fhir/R4/downloads.html"""
    found = {name: _resource({"type": "string", "enum": [name]}) for name in resource_types()}
    entries = {"type": "array", "maxItems": max_entries, "items": {"type": "object"}}
    found["Bundle"]["properties"]["entry"] = entries
    return found
