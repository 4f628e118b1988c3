"""Resources that come in: of the type that the address names, and as R4 defines them."""

from collections.abc import Iterable
from dataclasses import replace

from fhir_server.access.session import Data, Draft, SessionUnit, StoredVersion
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource, Template
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import localised
from fhir_server.fhir.summary import refuse_subset
from fhir_server.interactions.exchange import LARGE, Answer, Request, Server
from fhir_server.validation.beside import unfit
from fhir_server.validation.checker import Checker, Findings
from fhir_server.validation.echoes import in_order
from fhir_server.validation.report import Question
from fhir_server.validation.same_person import unfit_people
from fhir_server.validation.settling import Settler


def checked(request: Request) -> Request:
    """The request after the check of its resource, with what that left open.

    Raises:
        FhirError: MALFORMED where there is none or it is of another type; INVALID with an
            issue for every place where it breaks its definition; PROFILE where it breaks only a
            profile that it has to fit; BUSINESS_RULE where it is marked as a part of one.
    """
    resource = request.resource
    if resource is None:
        raise FhirError(Kind.MALFORMED, "The body is empty; a FHIR resource is expected")
    found = check(resource, request.resource_type, request.server.checker)
    refuse_subset(resource)
    if not (found.issues or found.questions):
        return request
    return request.having(told=found.issues, questions=found.questions)


async def settled(request: Request, data: Data, settler: Settler | None = None) -> Request:
    """The request with nothing left open; what came of that is told beside what was.

    It is done before the commit: a terminology server may be asked, for whose answer no writer
    should have to wait.

    Args:
        settler: that of all entries of a Bundle.

    Raises:
        FhirError: INVALID or PROFILE for a code that is not in the value set that it has to be in;
            PROFILE for what does not fit others that are stored.
    """
    if not request.operation:  # $validate takes what is faulty, and tells of it in its own way
        await require_beside(request.resource, data, request.server)
    if not request.questions:
        return request
    told = await settle(request.questions, data, request.server.checker, settler)
    return replace(request, questions=(), told=(*request.told, *told))


async def require_beside(resource: Resource | None, data: Data, server: Server) -> None:
    """Raise PROFILE for what does not fit other resources that are stored."""
    if told := await unfit(resource, data, server.base):
        raise FhirError.of(Kind.PROFILE, told)


async def require_one_person(resource: Resource, unit: SessionUnit, server: Server) -> None:
    """Raise PROFILE for what refers to somebody else's record; nothing of its commit stays.

    It is asked once the resource is written: whoever may not write there is told that first.
    """
    if told := await unfit_people(resource, unit, server.base):
        raise FhirError.of(Kind.PROFILE, told)


async def settle(
    questions: Iterable[Question], data: Data, checker: Checker, settler: Settler | None = None
) -> tuple[Issue, ...]:
    """The warnings that open questions come to; raises as `settled`."""
    issues = await checker.settle(questions, settler or Settler(data.terminology()))
    _refuse(issues)
    return tuple(issues)


def check(resource: Resource, resource_type: str, checker: Checker) -> Findings:
    """Raise for a resource that is not what R4 says of that type, or breaks a profile.

    What comes back are warnings, and what could not be told at once.
    """
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
    _refuse(findings.issues)
    return findings


def _refuse(issues: Iterable[Issue]) -> None:
    errors = [issue for issue in issues if issue.severity in ("error", "fatal")]
    if errors:
        breaks_definition = any(issue.profile is None for issue in errors)
        raise FhirError.of(Kind.INVALID if breaks_definition else Kind.PROFILE, errors)


def draft(resource: Resource, server: Server) -> Draft:
    """The resource, ready to be written."""
    template = Template(resource)
    if template.holds(server.base.encode()):
        return Draft(localised(resource, server.base))
    return Draft(resource, template)


def drafted(request: Request) -> Request:
    """The request with its draft where that takes long, as this is done beside the loop then."""
    resource = request.resource
    if resource is None or request.size < LARGE:
        return request
    return replace(request, draft=(resource, draft(resource, request.server)))


def draft_of(request: Request, resource: Resource) -> Draft:
    """Of the request's resource, which may have come by other references since it was drafted."""
    known = request.draft
    if known is not None and known[0] is resource:
        return known[1]
    return draft(resource, request.server)


def written(stored: StoredVersion, request: Request, *, created: bool) -> Answer:
    """The answer to a create or update, as `Prefer: return` asks.

    Source: https://hl7.org/fhir/R4/http.html#ops
    """
    preferences = request.preferences
    match preferences.returns:
        case "minimal":
            body = b""
        case "OperationOutcome":
            body = _done(stored, request)
        case _:
            body = stored.body
    return Answer(
        201 if created else 200, stored, body, located=True, honoured=preferences.of_return
    )


def _done(stored: StoredVersion, request: Request) -> bytes:
    """That it is stored, and the warnings of its check, which only this answer has."""
    text = f"{stored.type}/{stored.id} is stored as version {stored.version}"
    told = Issue(text, severity="information")
    return json.encode(outcome([told, *in_order(request.told)], default_code="informational"))
