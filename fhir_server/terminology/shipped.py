"""Terminology that comes with the server: R4's, UK Core's and the project's own.

The tables in `data/` are made by `tools/build_terminology.py`; nothing is read before it is first
asked for, and an entry is unfolded to its resource when it is. terminology/SOURCES.md says where
all of it comes from.
"""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.tables import mapped
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.held import Held, digest

FOLDER: Final = Path(__file__).parents[2] / "terminology"
"""Of the project's own."""
_DATA: Final = Path(__file__).with_name("data")
_TABLES: Final = {"CodeSystem": "code-systems.json", "ValueSet": "value-sets.json"}
_R4: Final = "4.0.1"


def own(resource_type: str, canonical: str) -> Held | None:
    """What the project has under this address, perhaps with `|version`."""
    url, _, _ = canonical.partition("|")
    return _versioned(_own().get((resource_type, url)), canonical)


def shipped(resource_type: str, canonical: str) -> Held | None:
    """What comes with the server under this address, perhaps with `|version`.

    Two of R4's code systems, the versions of table 0006 of HL7 v2, have a | in their own address.
    """
    url, _, _ = canonical.partition("|")
    return (
        own(resource_type, canonical)
        or _of_tables(resource_type, canonical)
        or _versioned(_of_tables(resource_type, url), canonical)
    )


def _versioned(held: Held | None, canonical: str) -> Held | None:
    version = canonical.partition("|")[2]
    if held is None or version not in ("", text(held.resource, "version")):
        return None
    return held


def maps_from(system: str) -> Iterator[Held]:
    """The concept maps that translate codes of the system, or into it."""
    for (resource_type, _), held in _own().items():
        if resource_type == "ConceptMap" and any(
            system in (text(group, "source"), text(group, "target"))
            for group in items(held.resource, "group")
        ):
            yield held


def systems() -> tuple[str, ...]:
    """The addresses of all code systems."""
    ours = (url for kind, url in _own() if kind == "CodeSystem")
    return (*ours, *_table("CodeSystem"))


def value_sets() -> tuple[str, ...]:
    """The addresses of all value sets."""
    ours = (url for kind, url in _own() if kind == "ValueSet")
    return (*ours, *_table("ValueSet"))


@cache
def _own() -> Mapping[tuple[str, str], Held]:
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        body = path.read_bytes()
        held = Held(digest(body), json.decode_resource(body))
        if url := text(held.resource, "url"):  # a NamingSystem has none
            found[held.resource["resourceType"], url] = held
    return found


@cache
def _table(resource_type: str) -> Mapping[str, msgspec.Raw]:
    if resource_type not in _TABLES:
        return {}
    return mapped(_DATA / _TABLES[resource_type])


@lru_cache(maxsize=1024)
def _of_tables(resource_type: str, url: str) -> Held | None:
    raw = _table(resource_type).get(url)
    if raw is None:
        return None
    entry = msgspec.json.decode(raw)
    unfold = _code_system if resource_type == "CodeSystem" else _value_set
    return Held(f"{_R4}:{resource_type}:{url}", unfold(url, entry))


def _code_system(url: str, entry: dict[str, Any]) -> Resource:
    head = {name: value for name, value in entry.items() if name not in ("property", "concept")}
    concepts: list[Any] = []
    trail: list[list[Any]] = [concepts]
    for depth, code, display, *rest in entry["concept"]:
        concept = _concept(code, display, *rest)
        trail[depth].append(concept)
        del trail[depth + 1 :]
        trail.append(concept.setdefault("concept", []))
    defined = [{"code": code, "type": kind} for code, kind in entry["property"]]
    return {
        "resourceType": "CodeSystem",
        "url": url,
        **head,
        **({"property": defined} if defined else {}),
        "concept": _pruned(concepts),
    }


def _concept(
    code: str, display: str, properties: Any = (), designations: Any = ()
) -> dict[str, Any]:
    concept: dict[str, Any] = {"code": code}
    if display:
        concept["display"] = display
    if designations:
        concept["designation"] = [
            {**({"language": language} if language else {}), "value": value}
            for language, value in designations
        ]
    if properties:
        concept["property"] = [{"code": name, kind: value} for name, kind, value in properties]
    return concept


def _pruned(concepts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without lists that stayed empty, which JSON of FHIR does not have."""
    for concept in concepts:
        if not _pruned(concept["concept"]):
            del concept["concept"]
    return concepts


def _value_set(url: str, entry: dict[str, Any]) -> Resource:
    compose = dict(entry["compose"])
    for side in ("include", "exclude"):
        if side in compose:
            compose[side] = [_part(part) for part in compose[side]]
    return {"resourceType": "ValueSet", "url": url, **entry, "compose": compose}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "concept" not in part:
        return part
    listed = [
        {"code": one} if isinstance(one, str) else {"code": one[0], "display": one[1]}
        for one in part["concept"]
    ]
    return {**part, "concept": listed}
