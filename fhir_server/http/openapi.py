"""The OpenAPI description, told from what is wired: routes, search parameters, operations, bounds.

https://spec.openapis.org/oas/v3.0.3. Version 3.0 and one path for each type, since that is what
tools understand; what types share is said once and referred to, which keeps it small.
"""

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from fhir_server.fhir import json
from fhir_server.fhir.definitions import compartments, resource_types
from fhir_server.http import openapi_parts as parts
from fhir_server.http.limits import HttpLimits
from fhir_server.interactions.routing import Route, Router
from fhir_server.operation.registry import Operation, Operations
from fhir_server.search.limits import Limits

Node = dict[str, Any]
_LEVELS: Final = {
    "{operation}": "system",
    "{type}/{operation}": "type",
    "{type}/{id}/{operation}": "instance",
}
_OF_REQUEST: Final = ("_format", "_pretty", "X-Request-ID")
"""What every address takes."""
_OF_SEARCH: Final = (
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_page",
    "further",
    "Prefer",
)
_OF_HISTORY: Final = ("_count", "_since", "_at", "_summary", "_elements", "_page")
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("If-None-Match", "If-Modified-Since"),
    "vread": ("If-None-Match", "If-Modified-Since"),
    "create": ("If-None-Exist", "Prefer", "X-Provenance"),
    "update": ("If-Match", "If-None-Match", "Prefer", "X-Provenance"),
    "patch": ("If-Match", "Prefer", "X-Provenance"),
    "delete": ("If-Match", "Prefer", "X-Provenance"),
    "batch": ("Prefer", "X-Provenance"),
    "capabilities": ("mode",),
    "history-instance": _OF_HISTORY,
    "history-type": _OF_HISTORY,
    "history-system": _OF_HISTORY,
    "search-type": _OF_SEARCH,
    "search-system": ("_type", *_OF_SEARCH),
    "search-compartment": ("_type", *_OF_SEARCH),
    "operation": (),
    "job": (),
    "job-cancel": (),
    "job-file": (),
}
"""What an interaction takes beside what every address does."""
_ANSWERS: Final[Mapping[str, Mapping[str, str]]] = {
    "read": {"200": "Resource", "304": "NotModified"},
    "vread": {"200": "Resource", "304": "NotModified"},
    "create": {"201": "Written", "200": "Written"},
    "update": {"200": "Written", "201": "Written"},
    "patch": {"200": "Written"},
    "delete": {"204": "Deleted"},
    "batch": {"200": "Resource", "202": "Accepted"},
    "search-type": {"200": "Resource", "202": "Accepted"},
    "search-system": {"200": "Resource", "202": "Accepted"},
    "search-compartment": {"200": "Resource", "202": "Accepted"},
    "operation": {"200": "Resource", "202": "Accepted"},
    "job": {"200": "Result", "202": "GoingOn"},
    "job-cancel": {"202": "Cancelled"},
    "job-file": {"200": "Lines"},
}
"""By status; any other interaction answers with a resource."""


_TOKEN: Final = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


@dataclass(frozen=True, slots=True)
class Described:
    """What the description is made from."""

    base: str
    """Where the server stands, as the `servers` of OpenAPI tell it: absolute, or a path."""
    router: Router
    operations: Operations
    limits: Limits
    http: HttpLimits
    max_entries: int
    conditional_delete: str
    tokens: bool = False
    """Whether whoever asks shows a token."""


def encoded(described: Described) -> bytes:
    """The whole description in JSON."""
    return json.encode(document(described))


def compressed(described: Described) -> tuple[bytes, bytes]:
    """The description, plain and with gzip."""
    plain = encoded(described)
    return plain, gzip.compress(plain, mtime=0)


def document(described: Described) -> Node:
    paths: dict[str, Node] = {}
    for route, name in _standing(described.router):
        for path, operation in _expanded(route, described, name):
            item = paths.setdefault(path, {"parameters": _path_parameters(path)})
            item[route.method.lower()] = operation
    secured: Node = {"security": [{"token": []}]} if described.tokens else {}
    return {
        "openapi": "3.0.3",
        "info": _info(described),
        "externalDocs": {"url": "https://hl7.org/fhir/R4/http.html"},
        "servers": [{"url": described.base}],
        **secured,
        "paths": paths,
        "components": {
            **parts.components(described.limits, described.max_entries),
            **({"securitySchemes": {"token": _TOKEN}} if described.tokens else {}),
        },
    }


def _info(described: Described) -> Node:
    found = "one resource" if described.conditional_delete == "single" else "several resources"
    return {
        "title": "keyworking FHIR server",
        "version": version("keyworking-fhir-server"),
        "description": (
            "FHIR R4 (4.0.1). HEAD works wherever GET does, OPTIONS everywhere. A delete by "
            f"criteria may find {found}. A body may have {described.http.max_body} bytes, "
            f"an address {described.http.max_url}, all headers {described.http.max_header_bytes}, "
            f"a Bundle {described.max_entries} entries."
        ),
    }


def _standing(router: Router) -> Iterator[tuple[Route, tuple[str, ...]]]:
    """Each route with the types that it is for."""
    others = tuple(name for name in resource_types() if name not in router.own)
    for route in router.routes:
        yield route, others
    for name, routes in router.own.items():
        for route in routes:
            yield route, (name,)


def _expanded(
    route: Route, described: Described, types: tuple[str, ...]
) -> Iterator[tuple[str, Node]]:
    """Path and operation for each type, or each operation of FHIR, that a route stands for."""
    if route.interaction.code == "operation":
        yield from _operations(route, described, types)
    elif "{type}" not in route.pattern:
        yield _path(route.pattern, ""), _operation(route, "")
    else:
        within = "{member}" in route.pattern
        for name in compartments() if within else types:
            yield _path(route.pattern, name), _operation(route, name)


def _path(pattern: str, resource_type: str) -> str:
    named = pattern.replace("{type}", resource_type) if resource_type else pattern
    return f"/{named}"


def _path_parameters(path: str) -> list[Node]:
    named = [name for name in ("id", "version", "member") if f"{{{name}}}" in path]
    if path.startswith("/_jobs"):
        named = ["file" if name == "version" else name for name in named]
    return [parts.parameter(name) for name in (*named, *_OF_REQUEST)]


def _operation(route: Route, resource_type: str) -> Node:
    code = route.interaction.code
    form = route.method == "POST" and code.startswith("search-")
    by_criteria = route.interaction.resolve is not None and route.method != "POST"
    name = code + ("-by-form" if form else "-by-criteria" if by_criteria else "")
    described: Node = {
        "operationId": f"{name}-{resource_type}" if resource_type else name,
        "tags": [resource_type or "system"],
        "parameters": [] if form else _parameters(route, resource_type, by_criteria),
        "responses": _responses(code, resource_type),
    }
    if code == "capabilities":
        described["security"] = []  # what the server is, it tells everybody
    if form:
        described["parameters"] = [parts.parameter("Prefer")]
        described["requestBody"] = parts.body(f"search-{_searched(code, resource_type)}")
    elif route.method not in ("GET", "DELETE"):
        described["requestBody"] = parts.body(_body(code, resource_type))
    return described


def _body(code: str, resource_type: str) -> str:
    return {"patch": "Patch", "batch": "Bundle"}.get(code, resource_type)


def _parameters(route: Route, resource_type: str, by_criteria: bool) -> list[Node]:
    code = route.interaction.code
    names = [*_HEADERS[code], *route.interaction.takes]
    if by_criteria:
        names.append("condition")
    if resource_type == "Binary" and code in ("create", "update"):
        names.append("X-Security-Context")
    found = [parts.parameter(name) for name in names]
    if code.startswith("search-"):
        searched = parts.searched(_searched(code, resource_type))
        found += [parts.search_parameter(name, kind) for name, kind in searched.items()]
    return found


def _searched(code: str, resource_type: str) -> str:
    """Whose search parameters are listed: those of all types where several are searched."""
    return resource_type if code == "search-type" else parts.ALL


def _responses(code: str, resource_type: str) -> Node:
    answers = _ANSWERS.get(code, {"200": "Resource"})
    binary = resource_type == "Binary" and code in ("read", "vread")
    found = {
        status: parts.response("Content" if binary and name == "Resource" else name)
        for status, name in answers.items()
    }
    return {**found, "default": parts.response("Refused")}


# --- $operations ------------------------------------------------------------------------------


def _operations(
    route: Route, described: Described, types: tuple[str, ...]
) -> Iterator[tuple[str, Node]]:
    level = _LEVELS[route.pattern]
    for operation in described.operations:
        if route.method == "GET" and operation.affects_state:
            continue
        for name in _types(operation, level, types):
            pattern = route.pattern.replace("{operation}", f"${operation.code}")
            yield _path(pattern, name), _invocation(operation, route.method, level, name)


def _types(operation: Operation, level: str, types: tuple[str, ...]) -> Iterator[str]:
    for name in ("",) if level == "system" else types:
        if operation.answers_at(level, name):
            yield name


def _invocation(operation: Operation, method: str, level: str, resource_type: str) -> Node:
    where = f"{resource_type}-{level}" if resource_type else level
    described: Node = {
        "operationId": f"{operation.code}-{where}-{method.lower()}",
        "tags": [resource_type or "system"],
        "summary": str(operation.definition.get("title", operation.code)),
        "responses": _responses("operation", resource_type),
    }
    if method == "GET":
        described["parameters"] = [*_inputs(operation)]
    else:
        required = any(int(one["min"]) for one in _taken(operation))
        body = "Input" if required else "OptionalInput"
        described["requestBody"] = parts.body("Lines" if operation.takes_lines else body)
    return described


def _taken(operation: Operation) -> list[Node]:
    return [one for one in operation.definition.get("parameter", ()) if one["use"] == "in"]


def _inputs(operation: Operation) -> Iterator[Node]:
    """Its primitive parameters, which may stand in a query."""
    for one in _taken(operation):
        schema = parts.PRIMITIVES.get(str(one.get("type")))
        if schema is None:
            continue
        several = one["max"] != "1"
        yield {
            "name": one["name"],
            "in": "query",
            "required": bool(int(one["min"])),
            "schema": {"type": "array", "items": schema} if several else schema,
        }
