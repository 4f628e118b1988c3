"""Profiles, tags and security labels as sets.

https://hl7.org/fhir/R4/resource.html#Meta: a tag or label is the same by its system and code.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.access.session import SessionUnit, current
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records

Meta = dict[str, Any]
Change = Callable[[Mapping[str, Any], Mapping[str, Any]], Meta]
"""From the meta that is there, and the one that was given, to the one that is to be."""

SETS: Final = ("profile", "security", "tag")


def added(there: Mapping[str, Any], given: Mapping[str, Any]) -> Meta:
    """With what was not there yet, behind what was."""
    return _changed(there, lambda name: united(there.get(name, ()), given.get(name, ())))


def reduced(there: Mapping[str, Any], given: Mapping[str, Any]) -> Meta:
    """Without what was given."""

    def left(name: str) -> list[Any]:
        unwanted = {identity(value) for value in given.get(name, ())}
        return [value for value in there.get(name, ()) if identity(value) not in unwanted]

    return _changed(there, left)


def united(there: Iterable[Any], more: Iterable[Any]) -> list[Any]:
    """Each once, as it stood first; what was there is not looked at again."""
    values = list(there)
    known = {identity(value) for value in values}
    for value in more:
        if identity(value) not in known:
            known.add(identity(value))
            values.append(value)
    return values


def identity(value: str | Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a profile or a label the same; a label without a code goes by its display."""
    if isinstance(value, str):
        return (value,)
    code = value.get("code", "")
    return (value.get("system", ""), code, "" if code else value.get("display", ""))


def _changed(there: Mapping[str, Any], values_of: Callable[[str], list[Any]]) -> Meta:
    sets = {name: values for name in SETS if (values := values_of(name))}
    return {name: value for name, value in there.items() if name not in SETS} | sets


async def change(call: Call, how: Change) -> Resource:
    """A new version with another meta, unless it would be the same; the answer with the meta."""
    given = call.parameters.one("meta")

    async def work(unit: SessionUnit) -> Meta:
        stored = await current(unit, call.resource_type, call.id)
        resource = json.decode_own(stored.body)
        meta = how(resource["meta"], given)
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        saved: Resource = await records.save({**resource, "meta": meta})
        found: Meta = saved["meta"]
        return found

    return answer(await call.session.commit(call.code, work))


def answer(meta: Mapping[str, Any]) -> Resource:
    """With the meta as `return`; FHIR has no empty Meta, so that one is left out."""
    if not meta:
        return {"resourceType": "Parameters"}
    parameter = {"name": "return", "valueMeta": meta}
    return {"resourceType": "Parameters", "parameter": [parameter]}
