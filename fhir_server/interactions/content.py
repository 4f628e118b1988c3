"""Resources that come in: of the type that the address names, and as R4 defines them."""

from fhir_server.access.session import Draft, StoredVersion
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import localised
from fhir_server.fhir.summary import refuse_subset
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.validation.checker import Checker


def checked(request: Request) -> Resource:
    """The request's resource after the check.

    Raises:
        FhirError: MALFORMED where there is none or it is of another type; INVALID with an
            issue for every place where it breaks its definition; PROFILE where it breaks only a
            profile that it has to fit; BUSINESS_RULE where it is marked as a part of one.
    """
    resource = request.resource
    if resource is None:
        raise FhirError(Kind.MALFORMED, "The body is empty; a FHIR resource is expected")
    check(resource, request.resource_type, request.server.checker)
    refuse_subset(resource)
    return resource


def check(resource: Resource, resource_type: str, checker: Checker) -> None:
    """Raise for a resource that is not what R4 says of that type, or breaks a profile."""
    given = resource.get("resourceType")
    if given != resource_type:
        raise FhirError.at(
            Kind.MALFORMED,
            "resourceType",
            f"The body is a {given!r}; this address takes a {resource_type}"
            if given
            else f"The body has no resourceType; '{resource_type}' is expected",
        )
    findings = checker.check(resource, expected_type=resource_type)
    if findings.errors:
        kind = Kind.INVALID if findings.breaks_definition else Kind.PROFILE
        raise FhirError.of(kind, findings.errors)


def draft(resource: Resource, server: Server) -> Draft:
    """The resource, ready to be written."""
    return Draft(localised(resource, server.base))


def written(stored: StoredVersion, request: Request, *, created: bool) -> Answer:
    """The answer to a create or update, as `Prefer: return` asks.

    Source: https://hl7.org/fhir/R4/http.html#ops
    """
    preferences = request.preferences
    match preferences.returns:
        case "minimal":
            body = b""
        case "OperationOutcome":
            body = _done(stored, request.server.checker)
        case _:
            body = stored.body
    return Answer(
        201 if created else 200, stored, body, located=True, honoured=preferences.of_return
    )


def _done(stored: StoredVersion, checker: Checker) -> bytes:
    """That it is stored, and the warnings of its check, which only this answer has."""
    text = f"{stored.type}/{stored.id} is stored as version {stored.version}"
    told = Issue(text, severity="information")
    warnings = checker.check(json.decode_resource(stored.body)).issues
    return json.encode(outcome([told, *warnings], default_code="informational"))
