"""$validate: every problem of a resource, by R4 and by the profiles that it has to fit.

https://hl7.org/fhir/R4/resource-operation-validate.html

It tells what create, update or delete would say of it; nothing is stored. The answer is 200 as
long as the question can be answered, however wrong the resource is.
"""

from collections.abc import Iterable
from typing import Any, Final

from fhir_server.access.session import current
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.summary import refuse_subset
from fhir_server.operation.api import Call
from fhir_server.validation.beside import unfit
from fhir_server.validation.same_person import unfit_people

TAKES_FAULTY: Final = True
_MODES: Final = ("create", "update", "delete", "profile")


async def run(call: Call) -> Resource:
    mode, given = call.parameters.one("mode"), call.parameters.one("resource")
    _refuse_misfit(call, mode, given)
    if mode == "delete":
        return await _deletable(call)
    resource = await _stored(call) if given is None else given
    profile = _known_profile(call)
    found = await call.checker.check_all(
        resource,
        call.session.terminology(),
        expected_type=call.resource_type,
        profiles=[profile] if profile else (),
    )
    issues = [*_of_id(call, mode, given), *found.issues]
    if mode in ("create", "update") and not _has_errors(issues):
        issues += _of_subset(resource)
    if not _has_errors(issues):
        issues += await unfit(resource, call.session, call.base)
        issues += await unfit_people(resource, call.session, call.base)
    if not _has_errors(issues):
        issues.insert(0, _sound(call, found.profiles))
    return outcome(issues, default_code="invalid")


def _refuse_misfit(call: Call, mode: str | None, given: Any) -> None:
    """Questions that make no sense where, or as, they are asked."""
    if mode is not None and mode not in _MODES:
        raise _refused("mode", f"'{mode}' is not a mode; {', '.join(_MODES)} are")
    if mode == "create" and call.id:
        raise _refused("mode", "'create' is asked of a type; this address is that of a resource")
    if mode in ("delete", "profile"):
        if not call.id:
            raise _refused("mode", f"'{mode}' is asked of a stored resource, at its address")
        if given is not None:
            raise _refused("resource", f"'{mode}' is about what is stored; it takes no resource")
    if mode == "profile" and call.parameters.one("profile") is None:
        raise _refused("profile", "'profile' is missing: the one to check against")
    if given is None and not call.id:
        raise _refused("resource", "'resource' is missing: what is to be checked")


def _refused(parameter: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, f"http.{parameter}", text)


def _known_profile(call: Call) -> str | None:
    """The standard asks for an error where a profile cannot be checked against."""
    profile: str | None = call.parameters.one("profile")
    if profile is not None and not call.checker.library.is_known(profile):
        text = f"The profile '{profile[:200]}' is not known here, so nothing can be checked by it"
        raise FhirError(Kind.UNSUPPORTED, Issue(text, "http.profile", "not-found"))
    return profile


async def _stored(call: Call) -> Resource:
    stored = await current(call.session, call.resource_type, call.id)
    return json.decode_resource(stored.body)


async def _deletable(call: Call) -> Resource:
    """Only whether it is there: references to it do not hold it."""
    await current(call.session, call.resource_type, call.id)
    text = f"{call.resource_type}/{call.id} is there, and may be deleted"
    told = Issue(text, severity="information")
    return outcome([told], default_code="informational")


def _of_id(call: Call, mode: str | None, given: Any) -> list[Issue]:
    """What an update says of the id (https://hl7.org/fhir/R4/http.html#update)."""
    if given is None or mode == "create":
        return []
    named, place = given.get("id"), f"{call.resource_type}.id"
    if call.id and named != call.id and (mode == "update" or named is not None):
        return [Issue(f"must be '{call.id}', as in the address", place, "value")]
    if mode == "update" and named is None:
        return [Issue("is missing: an update names its resource", place, "required")]
    return []


def _has_errors(issues: Iterable[Issue]) -> bool:
    return any(issue.severity in ("error", "fatal") for issue in issues)


def _of_subset(resource: Resource) -> list[Issue]:
    try:
        refuse_subset(resource)
    except FhirError as refusal:
        return [
            Issue(issue.text, issue.expression, issue.code or refusal.kind.code)
            for issue in refusal.issues
        ]
    return []


def _sound(call: Call, profiles: Iterable[str]) -> Issue:
    names = ", ".join(("R4", *profiles))
    text = f"No errors: this {call.resource_type} was checked against {names}"
    return Issue(text, code="informational", severity="information")
