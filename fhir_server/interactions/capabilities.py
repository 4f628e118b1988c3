"""capabilities: what this server does, told from what is wired.

https://hl7.org/fhir/R4/http.html#capabilities
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

from fhir_server.access.policy import AUDITED
from fhir_server.access.session import Data
from fhir_server.errors import FhirError, Kind
from fhir_server.events.binding import websocket_url
from fhir_server.events.record import TYPE as SUBSCRIPTION
from fhir_server.events.topics import BY_URL
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import instant
from fhir_server.fhir.definitions import (
    compartments,
    resource_types,
    search_parameters,
)
from fhir_server.fhir.json import Resource
from fhir_server.interactions import patch
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.search.criteria import TEXTS
from fhir_server.search.extract import targets_of
from fhir_server.search.filtering import FILTER
from fhir_server.search.parameters import BUILT_IN, ParameterSet

_OPEN: Final = (
    "Served without tokens: whoever reaches this address reads and writes everything. "
    "For trying out, on loopback only."
)
_TOKENS: Final = "Every request but this one shows a bearer token, whose scopes are those of SMART."
_AUDIT: Final = (
    "The server makes one of each request, and takes those of clients beside them. None is ever "
    "changed or deleted; auditors read them."
)
_SERVICES: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_WEBSOCKET: Final = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-websocket"
_TYPE_INTERACTIONS: Final = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)


_SYSTEM_INTERACTIONS: Final = ("transaction", "batch", "history-system", "search-system")


async def perform(data: Data, request: Request) -> Answer:
    for name, value in request.parameters:
        _require_known(name, value)
    return Answer(200, body=_statement(request.server, await data.parameters()))


def _require_known(name: str, value: str) -> None:
    if name in ("_format", "_pretty"):
        return
    if name != "mode":
        raise FhirError.at(Kind.INVALID, f"http.{name}", f"'{name}' is not known; mode is")
    if value not in ("full", "normative"):
        text = f"'mode={value}' is not supported; full and normative are"
        raise FhirError.at(Kind.UNSUPPORTED, "http.mode", text)


@lru_cache(maxsize=8)  # for each base that a trusted proxy tells
def _statement(server: Server, known: ParameterSet) -> bytes:
    software = version("keyworking-fhir-server")
    return json.encode(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": instant(server.clock()),
            "kind": "instance",
            **_instantiates(server),
            "software": {"name": "keyworking FHIR server", "version": software},
            "implementation": {
                "description": "Care coordination for the NHS keyworking service",
                "url": server.base,
            },
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
            "patchFormat": list(patch.FORMATS),
            "rest": [_rest(server, known)],
        }
    )


def _instantiates(server: Server) -> dict[str, list[str]]:
    """https://hl7.org/fhir/uv/bulkdata/STU2/CapabilityStatement-bulk-data.html"""
    guide = "http://hl7.org/fhir/uv/bulkdata"
    exports = ("export", "patient-export", "group-export")
    levels = {f"{guide}/OperationDefinition/{name}" for name in exports}
    wired = {operation.definition["url"] for operation in server.operations}
    return {"instantiates": [f"{guide}/CapabilityStatement/bulk-data"]} if levels <= wired else {}


def _rest(server: Server, known: ParameterSet) -> Resource:
    referring = _referring(known, server.router.own)
    profiles = server.checker.library.of_resources()
    rest: Resource = {
        "extension": [{"url": _WEBSOCKET, "valueUri": websocket_url(server.base)}],
        "mode": "server",
        "resource": [
            _resource(name, server, known, referring, profiles) for name in resource_types()
        ],
        "interaction": [{"code": code} for code in _SYSTEM_INTERACTIONS],
        "searchParam": _of_every_type(known),
    }
    rest["compartment"] = [
        f"http://hl7.org/fhir/CompartmentDefinition/{name[0].lower()}{name[1:]}"
        for name in compartments()
    ]
    if security := _security(server):
        rest["security"] = security
    operations = _operations(server, "")
    if operations:
        rest["operation"] = operations
    return rest


def _security(server: Server) -> Resource:
    """https://hl7.org/fhir/smart-app-launch/conformance.html"""
    if server.open_access:
        return {"description": _OPEN}
    if server.smart is None:
        return {}
    service = {"system": _SERVICES, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}
    uris = server.smart.oauth_uris()
    return {
        **({"extension": [uris]} if uris["extension"] else {}),
        "service": [{"coding": [service], "text": "OAuth 2.0 bearer tokens with SMART scopes"}],
        "description": _TOKENS,
    }


def _resource(
    name: str,
    server: Server,
    known: ParameterSet,
    referring: Mapping[str, list[str]],
    profiles: Mapping[str, Sequence[str]],
) -> Resource:
    wired = {route.interaction.code for route in server.router.of(name)}
    if name == AUDITED:
        return _audit(wired, server, known, profiles)
    described: Resource = {
        "extension": _topics() if name == SUBSCRIPTION else [],
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "supportedProfile": list(profiles.get(name, ())),
        "interaction": [{"code": code} for code in _TYPE_INTERACTIONS if code in wired],
        "versioning": _versioning(name, server),
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": server.conditional_delete,
        "searchInclude": ["*", *_includes(name, known)],
        "searchRevInclude": ["*", *referring.get(name, [])],
        "searchParam": _search_parameters(name, known),
    }
    operations = _operations(server, name)
    if operations:
        described["operation"] = operations
    return {key: value for key, value in described.items() if value != []}


def _topics() -> list[dict[str, str]]:
    """What can be subscribed to, as the backport of topics tells it."""
    name = "capabilitystatement-subscriptiontopic-canonical"
    url = f"{canonicals.BACKPORT}/StructureDefinition/{name}"
    return [{"url": url, "valueCanonical": topic} for topic in BY_URL]


def _audit(
    wired: Collection[str],
    server: Server,
    known: ParameterSet,
    profiles: Mapping[str, Sequence[str]],
) -> Resource:
    """Of the type whose resources stay as they are: what `update` there is changes nothing."""
    name = AUDITED
    described: Resource = {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "supportedProfile": list(profiles.get(name, ())),
        "documentation": _AUDIT,
        "interaction": [
            {"code": code} for code in _TYPE_INTERACTIONS if code in wired and code != "update"
        ],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": server.open_access,
        "conditionalCreate": True,
        "searchParam": _search_parameters(name, known),
        "operation": [
            {"name": one.code, "definition": one.definition["url"]}
            for one in server.operations
            if one.answers_at("type", name)
        ],
    }
    return {key: value for key, value in described.items() if value != []}


def _includes(name: str, known: ParameterSet) -> list[str]:
    return [
        f"{name}:{code}"
        for code, parameter in known.indexed(name).items()
        if parameter.type == "reference" and targets_of(parameter, name)
    ]


def _versioning(name: str, server: Server) -> str:
    """http://hl7.org/fhir/R4/valueset-versioning-policy.html"""
    return "versioned-update" if name in server.if_match_required else "versioned"


def _referring(known: ParameterSet, own: Collection[str]) -> Mapping[str, list[str]]:
    """By type, the references that may lead to it; of types with `own` routes nothing comes."""
    found: dict[str, list[str]] = {}
    for source in resource_types():
        if source in own:
            continue
        indexed = known.indexed(source)
        for name in _includes(source, known):
            for target in indexed[name.partition(":")[2]].targets or resource_types():
                found.setdefault(target, []).append(name)
    return found


def _of_every_type(known: ParameterSet) -> list[dict[str, Any]]:
    types = (name for name in resource_types() if name != AUDITED)
    first, *others = (_search_parameters(name, known) for name in types)
    return [one for one in first if all(one in other for other in others)]


def _search_parameters(name: str, known: ParameterSet) -> list[dict[str, Any]]:
    return [
        {"name": code, "definition": url, "type": kind} if url else {"name": code, "type": kind}
        for code, (kind, url) in sorted(searched(name, known).items())
    ]


@lru_cache(maxsize=1024)
def searched(name: str, known: ParameterSet = BUILT_IN) -> Mapping[str, tuple[str, str]]:
    """By code, type and definition of the parameters that find resources of the type."""
    worked_out = {
        code: parameter
        for code, parameter in search_parameters(name).items()
        if code in (*TEXTS, FILTER)
    }
    found = {**known.indexed(name), **worked_out}
    # R4 has `_list` without a definition. Of AuditEvents there are no lists.
    in_lists = {} if name == AUDITED else {"_list": ("string", "")}
    return {
        "_id": ("token", "http://hl7.org/fhir/SearchParameter/Resource-id"),
        **in_lists,
        **{code: (parameter.type, parameter.url) for code, parameter in found.items()},
    }


def _operations(server: Server, resource_type: str) -> list[dict[str, str]]:
    return [
        {"name": operation.code, "definition": operation.definition["url"]}
        for operation in server.operations
        if operation.stands_on(resource_type)
    ]
