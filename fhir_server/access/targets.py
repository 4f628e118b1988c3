"""What a Provenance names beside the patients by whom it is decided.

A commit writes plans, answers and labelled tasks together, and not everybody who may read one of
them may know of the others. So targets and entities that are hidden from the caller are left out
of what is shown, which is then marked as SUBSETTED: https://hl7.org/fhir/R4/resource.html#Meta.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fhir_server.access.membership import PATIENT, Standing, standing
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.fhir.summary import SUBSETTED
from fhir_server.storage.interface import StoredVersion

TYPE: Final = "Provenance"
IsSeen = Callable[[str, str], Awaitable[bool]]
"""Whether the caller may see the resource of that type and id."""


async def as_told(version: StoredVersion, is_seen: IsSeen) -> StoredVersion:
    """The version with what the caller may know of; others than of a Provenance as they are."""
    if version.type != TYPE or version.deleted:
        return version
    resource = json.decode_own(version.body)
    told = {
        "target": [one for one in resource["target"] if await _is_known(one, is_seen)],
        "entity": [
            one for one in resource.get("entity", ()) if await _is_known(one["what"], is_seen)
        ],
    }
    if all(len(some) == len(resource.get(name, ())) for name, some in told.items()):
        return version
    return version._replace(body=json.encode(_without(resource, told)))


def _without(resource: Mapping[str, Any], told: Mapping[str, list[Any]]) -> Resource:
    meta = resource.get("meta", {})
    marked = {**meta, "tag": [*meta.get("tag", ()), SUBSETTED]}
    shown = {**resource, "meta": marked, **told}
    return {name: value for name, value in shown.items() if value or name not in told}


async def _is_known(reference: Mapping[str, Any], is_seen: IsSeen) -> bool:
    """What is in no record is known; the patients decide about the whole by themselves."""
    named = parse_relative(reference.get("reference", ""))
    if named is None or named.type == PATIENT or standing(named.type) is Standing.SHARED:
        return True
    return await is_seen(named.type, named.id)
