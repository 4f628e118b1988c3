"""The Provenance that a client sends in a header beside a write: stored in the same commit.

https://hl7.org/fhir/R4/provenance.html#header. The client leaves its targets out; they are the
versions that the commit makes, and their patients, so that who may see a record may see it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.audit.record import name_of, patients_of
from fhir_server.access.policy import AUDITED
from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource, decode_resource
from fhir_server.fhir.references import new_id
from fhir_server.interactions.content import draft, settle
from fhir_server.interactions.exchange import Request
from fhir_server.interactions.permission import require_scopes

HEADER: Final = "x-provenance"
_TYPE: Final = "Provenance"
_PLACE: Final = "http.X-Provenance"
_WITH: Final = "create, update, patch, delete and transaction take it"
_ANY_TARGET: Final = [{"reference": "Basic/any"}]
"""Stands in its place while the rest is checked."""


def received(header: str | None, depth: int) -> Resource | None:
    """The Provenance in the header: JSON, of which text beyond ASCII is UTF-8 or escaped.

    Raises:
        FhirError: MALFORMED.
    """
    if header is None:
        return None
    try:
        found = decode_resource(header.encode("latin-1"), depth)
    except FhirError as error:
        raise _at_header(error) from None
    given = found.get("resourceType")
    if given != _TYPE:
        text = f"The header holds a {given!r}; a Provenance in JSON is expected"
        raise FhirError.at(Kind.MALFORMED, _PLACE, text)
    if "target" in found:
        text = "The Provenance has a target; leave it out: it is what this request writes"
        raise FhirError.at(Kind.INVALID, _PLACE, text)
    return found


def refuse(request: Request, what: str) -> None:
    """Raise FhirError INVALID where the header came with what does not take it."""
    if request.provenance is not None:
        text = f"{what} takes no X-Provenance; {_WITH}"
        raise FhirError.at(Kind.INVALID, _PLACE, text)


async def ready(session: Session, request: Request) -> None:
    """Check what is in the header before the commit.

    Raises:
        FhirError: FORBIDDEN where the scopes do not grant to create a Provenance; INVALID or
            PROFILE for what R4 or a profile does not allow.
    """
    resource = request.provenance
    if resource is None:
        return
    server = request.server
    require_scopes(session.caller, "create", Request(server, _TYPE))
    found = server.checker.check({**resource, "target": _ANY_TARGET}, expected_type=_TYPE)
    errors = [one for one in found.issues if one.severity in ("error", "fatal")]
    if errors:
        breaks_definition = any(one.profile is None for one in errors)
        kind = Kind.INVALID if breaks_definition else Kind.PROFILE
        raise FhirError.of(kind, _in_header(errors))
    try:
        await settle(found.questions, session, server.checker)
    except FhirError as error:
        raise _at_header(error) from None


async def add(unit: SessionUnit, request: Request) -> None:
    """Store it, where this commit wrote anything.

    Raises:
        FhirError: FORBIDDEN, as for any Provenance; INVALID beside an AuditEvent.
    """
    if request.provenance is None or not unit.touched:
        return
    if any(one.type == AUDITED for one in unit.touched):
        refuse(request, "An AuditEvent")
    versions = [name_of(one) for one in unit.touched]
    patients = [f"Patient/{one}" for one in patients_of([*unit.touched, *unit.done.gone])]
    resource = {
        **request.provenance,
        "id": new_id(),
        "target": [{"reference": one} for one in (*versions, *patients)],
    }
    await unit.put(resource, "POST", draft(resource, request.server))


def _at_header(error: FhirError) -> FhirError:
    return FhirError.of(error.kind, _in_header(error.issues))


def _in_header(issues: Iterable[Issue]) -> Sequence[Issue]:
    """Told as in the header; where in it, the text says."""
    return [
        replace(
            one,
            text=f"{one.expression}: {one.text}" if one.expression else one.text,
            expression=_PLACE,
        )
        for one in issues
    ]
