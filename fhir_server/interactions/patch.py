"""patch: a change to a resource, told as JSON Patch or as FHIRPath Patch.

https://hl7.org/fhir/R4/http.html#patch, conditional: #cond-patch
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointerException

from fhir_server.access.session import Data, SessionUnit, StoredVersion, current
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import fhirpath_patch, json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.summary import refuse_subset
from fhir_server.interactions.content import (
    check,
    draft,
    require_beside,
    require_one_person,
    settle,
    written,
)
from fhir_server.interactions.exchange import LARGE, Ahead, Answer, Changed, Moved, Request
from fhir_server.interactions.preconditions import require_match

JSON_PATCH: Final = "application/json-patch+json"
FORMATS: Final = (JSON_PATCH, "application/fhir+json", "application/fhir+xml")
"""FHIRPath Patch comes as Parameters, in either format."""
_OPERATIONS: Final = ("add", "copy", "move", "remove", "replace", "test")
_WHERE: Final = re.compile(r" in [{\[]")
"""Begins the resource, in the words of the library."""


def prepare(request: Request) -> Request:
    """Check the patch itself, before the commit."""
    patch = request.patch
    if patch is None and request.resource is not None:
        if request.resource.get("resourceType") == "Binary":
            patch = _in_binary(request.resource)  # an entry of a Bundle holds no array
        else:
            check(request.resource, "Parameters", request.server.checker)
            _require_few(request.resource.get("parameter", ()), request.server.max_patch)
    if patch is not None:
        _check_operations(patch, request.server.max_patch)
    elif request.resource is None:
        raise FhirError(
            Kind.MALFORMED,
            f"The body is empty; a patch as {JSON_PATCH} or a Parameters resource is expected",
        )
    return replace(request, patch=patch)


async def perform(unit: SessionUnit, request: Request) -> Answer:
    found = await current(unit, request.resource_type, request.id)
    require_match(request, found)
    changed = await _changed(found, request)
    told = (*changed.told, *await _settled(changed, unit, request))
    stored = await unit.put(changed.resource, "PATCH", changed.draft)
    await require_one_person(changed.resource, unit, request.server)
    return written(stored, replace(request, told=told), created=False)


async def ahead(data: Data, request: Request) -> Ahead | None:
    """What the patch of a large resource comes to: nobody who writes is to wait for its check.

    Raises:
        FhirError: where there is nothing to patch.
    """
    found = await current(data, request.resource_type, request.id)
    require_match(request, found)
    if not _is_large(found, request):
        return None
    return Ahead(found, await asyncio.to_thread(_outcome, found, request))


def _outcome(found: StoredVersion, request: Request) -> Changed | FhirError:
    try:
        return _worked_out(found, request)
    except FhirError as error:
        return error


def _is_large(found: StoredVersion, request: Request) -> bool:
    copies = any(each["op"] == "copy" for each in request.patch or ())
    return copies or len(found.body) + request.size >= LARGE


async def _changed(found: StoredVersion, request: Request) -> Changed:
    """As it was worked out ahead, of what is still there; else it is worked out now.

    Raises:
        Moved: where it is not there any more.
        FhirError: what keeps the patch from being carried out.
    """
    before = request.ahead
    if before is None:
        if not _is_large(found, request):
            return _worked_out(found, request)
        return await asyncio.to_thread(_worked_out, found, request)
    if before.source != found:
        raise Moved
    if isinstance(before.change, FhirError):
        raise before.change
    return before.change


def _worked_out(found: StoredVersion, request: Request) -> Changed:
    patched = _patched(json.decode_resource(found.body), request)
    _require_same_identity(patched, request)
    try:
        findings = check(patched, request.resource_type, request.server.checker)
    except FhirError as error:
        raise _unfit(error) from None
    refuse_subset(patched)
    ready = draft(patched, request.server)
    return Changed(patched, ready, findings.issues, findings.questions)


async def _settled(changed: Changed, unit: SessionUnit, request: Request) -> tuple[Issue, ...]:
    """Within the commit, where no other server may be asked."""
    try:
        await require_beside(changed.resource, unit, request.server)
        if not changed.questions:
            return ()
        return await settle(changed.questions, unit, request.server.checker)
    except FhirError as error:
        raise error if error.kind is Kind.UNAVAILABLE else _unfit(error) from None


def _unfit(error: FhirError) -> FhirError:
    """The request was well formed: what it leads to is not."""
    return FhirError.of(Kind.BUSINESS_RULE, error.issues)


def _patched(resource: Resource, request: Request) -> Resource:
    if request.patch is not None:
        return _json_patched(resource, request.patch, request.server.max_body)
    assert request.resource is not None  # noqa: S101 - prepare saw to it
    return fhirpath_patch.apply(resource, request.resource)


def _json_patched(resource: Resource, patch: Sequence[Resource], most: int) -> Resource:
    """RFC 6902, operation by operation, so that no chain of copies outgrows the server."""
    for index, operation in enumerate(patch):
        try:
            resource = JsonPatch([operation]).apply(resource, in_place=True)
        except JsonPatchTestFailed:
            text = f"The test of {operation['path']} failed; nothing is changed"
            raise _refused(Kind.BUSINESS_RULE, index, text, "processing") from None
        except (JsonPatchException, JsonPointerException, TypeError, KeyError) as error:
            text = _told(operation, error)
            raise _refused(Kind.BUSINESS_RULE, index, text, "processing") from None
        if operation["op"] == "copy" and len(json.encode(resource)) > most:
            raise _refused(Kind.TOO_LARGE, index, f"The result is larger than {most} bytes")
        if not isinstance(resource, dict):
            raise _refused(Kind.BUSINESS_RULE, index, "The result is not a resource", "processing")
    return resource


def _told(operation: Resource, error: Exception) -> str:
    """What cannot be carried out, and why, without the resource that the library adds."""
    reason = _WHERE.split(str(error), maxsplit=1)[0]
    return f"{operation['op']} cannot be carried out at {operation['path']}: {reason}"


def _check_operations(patch: Any, most: int) -> None:
    if not isinstance(patch, list):
        raise FhirError(Kind.MALFORMED, "A JSON Patch is an array of operations")
    _require_few(patch, most)
    for index, operation in enumerate(patch):
        try:
            JsonPatch([operation])
        except (JsonPatchException, JsonPointerException, TypeError, AttributeError) as error:
            text = f"This is no operation of JSON Patch ({', '.join(_OPERATIONS)}): {error}"
            raise _refused(Kind.MALFORMED, index, text) from None


def _require_few(operations: Sequence[Any], most: int) -> None:
    if len(operations) > most:
        raise FhirError(Kind.TOO_COSTLY, f"{len(operations)} operations; {most} are allowed")


def _in_binary(binary: Resource) -> Any:
    if str(binary.get("contentType", "")).partition(";")[0] != JSON_PATCH:
        raise FhirError.at(
            Kind.INVALID, "Binary.contentType", f"A patch in a Binary is {JSON_PATCH}"
        )
    try:
        raw = base64.b64decode(str(binary.get("data", "")), validate=True)
    except binascii.Error:
        raise FhirError.at(Kind.INVALID, "Binary.data", "This is not base64") from None
    return json.decode(raw)


def _require_same_identity(patched: Resource, request: Request) -> None:
    for name, value in (("resourceType", request.resource_type), ("id", request.id)):
        if patched.get(name) != value:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{request.resource_type}.{name}",
                f"A patch may not change the {name}; it is '{value}'",
            )


def _refused(kind: Kind, index: int, text: str, code: str | None = None) -> FhirError:
    return FhirError(kind, Issue(text, f"$[{index}]", code))
