"""Resources that come in: of the type that the address names, and as R4 defines them."""

from fhir_server.access.session import Draft, StoredVersion
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import localised
from fhir_server.fhir.summary import refuse_subset
from fhir_server.interactions.exchange import Answer, Preferences, Request, Server
from fhir_server.validation.structure import check_resource


def checked(request: Request) -> Resource:
    """The request's resource after the structural check.

    Raises:
        FhirError: MALFORMED where there is none or it is of another type; INVALID with an
            issue for every place where it breaks its definition; BUSINESS_RULE where it is
            marked as a part of one.
    """
    resource = request.resource
    if resource is None:
        raise FhirError(Kind.MALFORMED, "The body is empty; a FHIR resource is expected")
    check(resource, request.resource_type)
    refuse_subset(resource)
    return resource


def check(resource: Resource, resource_type: str) -> None:
    """Raise for a resource that is not what R4 says of that type."""
    given = resource.get("resourceType")
    if given != resource_type:
        raise FhirError.at(
            Kind.MALFORMED,
            "resourceType",
            f"The body is a {given!r}; this address takes a {resource_type}"
            if given
            else f"The body has no resourceType; '{resource_type}' is expected",
        )
    issues = check_resource(resource, expected_type=resource_type)
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise FhirError.of(Kind.INVALID, issues)


def draft(resource: Resource, server: Server) -> Draft:
    """The resource, ready to be written."""
    return Draft(localised(resource, server.base))


def written(stored: StoredVersion, preferences: Preferences, *, created: bool) -> Answer:
    """The answer to a create or update, as `Prefer: return` asks.

    Source: https://hl7.org/fhir/R4/http.html#ops
    """
    body = {
        "minimal": b"",
        "OperationOutcome": _done(stored),
    }.get(preferences.returns or "", stored.body)
    return Answer(
        201 if created else 200, stored, body, located=True, honoured=preferences.of_return
    )


def _done(stored: StoredVersion) -> bytes:
    text = f"{stored.type}/{stored.id} is stored as version {stored.version}"
    return json.encode(outcome([Issue(text, severity="information")], default_code="informational"))
