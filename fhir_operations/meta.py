"""$meta: profiles, tags and security labels, of a resource, a type or the server.

https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from fhir_operations._meta import SETS, answer, identity
from fhir_server.access.session import Data, current
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import walked
from fhir_server.search.ast import Missing, Not, Or, Query

_MOST: Final = 100_000
"""Resources that are looked at for one answer."""
_LABELLED: Final = Or(
    (
        Not(Missing("_profile", "uri")),
        Not(Missing("_security", "token")),
        Not(Missing("_tag", "token")),
    )
)


async def run(call: Call) -> Resource:
    if call.id:
        stored = await current(call.session, call.resource_type, call.id)
        return answer(json.decode_own(stored.body)["meta"])
    types = (call.resource_type,) if call.resource_type else resource_types()
    return answer(await _in_use(call.session, types))


async def _in_use(data: Data, types: tuple[str, ...]) -> dict[str, Any]:
    """Each profile, tag and label once, in order."""
    found: dict[str, dict[tuple[str, ...], Any]] = {name: {} for name in SETS}
    looked_at = 0
    async for meta in _metas(data, types):
        looked_at += 1
        if looked_at > _MOST:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"More than {_MOST} resources have profiles, tags or security labels; "
                "ask for one type, or one resource",
            )
        for name, values in found.items():
            for value in meta.get(name, ()):
                values.setdefault(identity(value), value)
    return {
        name: [value for _, value in sorted(values.items(), key=lambda pair: pair[0])]
        for name, values in found.items()
        if values
    }


async def _metas(data: Data, types: tuple[str, ...]) -> AsyncIterator[dict[str, Any]]:
    for resource_type in types:
        async for stored in walked(data, Query(resource_type, _LABELLED)):
            yield json.decode_own(stored.body)["meta"]
