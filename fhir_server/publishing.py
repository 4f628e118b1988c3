"""The project's profiles, terminology and measures, stored: they are read and searched like any.

`keyworking serve` does it at start: what is not there is put there, and so is what is newer than
the stored one, or of the same version and other content, as long as nobody but a server wrote what
is stored. What somebody deleted stays deleted, and what has our id and another address is left
alone, as is a version that is higher. Profiles are stored with their snapshots. R4's and UK Core's
own definitions are not stored.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Memo, Store, StoredVersion
from fhir_server.terminology.shipped import FOLDER as TERMINOLOGY
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.tree import ProfileError
from fhir_server.validation.profiles.written import with_snapshot

_TYPES: Final = (
    *("CodeSystem", "ConceptMap", "Measure", "NamingSystem", "Questionnaire"),
    *("StructureDefinition", "ValueSet"),
)
_NOT_PUBLISHED: Final = frozenset({"examples", "search-parameters"})
"""Folders below `profiles`: the server knows its own search parameters by itself."""
_NOT_COMPARED: Final = ("meta", "snapshot")
"""What a server writes into a resource when it stores it."""
_OWN: Final = "published"
"""The space of memos with the number of the version that a server stored last."""
_CALLER: Final = Caller("keyworking-server", "publish")
_NUMBERS: Final = re.compile(r"\d{1,18}", re.ASCII)


def published(folders: Sequence[Path] = (TERMINOLOGY, PROFILES)) -> Iterator[Resource]:
    """The resources, each with its id."""
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            if _NOT_PUBLISHED.isdisjoint(path.relative_to(folder).parts):
                resource = json.decode_resource(path.read_bytes())
                if resource.get("resourceType") in _TYPES and "id" in resource:
                    yield resource


async def publish(store: Store, resources: Sequence[Resource] | None = None) -> int:
    """Store what is due; how many there were. Any number of processes may do it at once.

    Raises:
        FhirError: UNAVAILABLE.
    """
    session = Session(store, _CALLER, OpenPolicy())
    offered = [*published()] if resources is None else resources
    due = [one for one in offered if await _is_due(session, one)]
    if not due:
        return 0
    library = Library()
    due = [whole(one, library) for one in due]

    async def work(unit: SessionUnit) -> int:
        # Another process may have been here meanwhile.
        still = [one for one in due if await _is_due(unit, one)]
        for one in still:
            stored = await unit.put(one, "PUT")
            if stored.version > 1:
                await unit.keep(Memo(_OWN, _name(stored), b"%d" % stored.version))
        return len(still)

    return await session.commit("publish", work)


def whole(resource: Resource, library: Library) -> Resource:
    """A StructureDefinition with its snapshot; anything else, or one that cannot be used, as it is.

    What is wrong with a profile is told by whatever uses it.
    """
    if resource["resourceType"] != "StructureDefinition":
        return resource
    try:
        return dict(with_snapshot(resource, library))
    except ProfileError:
        return resource


async def _is_due(data: Session | SessionUnit, resource: Resource) -> bool:
    found = await data.read(resource["resourceType"], resource["id"])
    if found is None or found.deleted:
        return found is None
    stored = json.decode_own(found.body)
    if _address(stored) != _address(resource):
        return False
    if _version(stored) != _version(resource):
        return _version(stored) < _version(resource)
    return _content(stored) != _content(resource) and await _is_own(data, found)


async def _is_own(data: Session | SessionUnit, found: StoredVersion) -> bool:
    """Whether a server wrote it: the first version, or the one that is noted."""
    noted = await data.memo(_OWN, _name(found))
    return found.version == (1 if noted is None else int(noted.value))


def _name(stored: StoredVersion) -> str:
    return f"{stored.type}/{stored.id}"


def _content(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name not in _NOT_COMPARED}


def _address(resource: Resource) -> str:
    """A NamingSystem has none in R4: what it is about counts, by the first of its names."""
    named: Any = resource.get("uniqueId")
    first = named[0].get("value") if isinstance(named, list) and named else None
    return str(resource.get("url", first))


def _version(resource: Resource) -> tuple[list[int], str]:
    """A NamingSystem has no version in R4: its date counts."""
    numbers = _NUMBERS.findall(str(resource.get("version", "")))
    return [int(number) for number in numbers], str(resource.get("date", ""))
