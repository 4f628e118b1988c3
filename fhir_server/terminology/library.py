"""Where value sets, code systems and concept maps come from, by canonical address.

Those on the server that the caller may read, the project's own and those of the packages that the
settings name come first, then R4's and UK Core's.
Source: https://hl7.org/fhir/R4/references.html#canonical.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Node, Query, Search, TokenIs, UriIs, conjunction, disjunction
from fhir_server.storage.interface import Page, Position, StoredVersion
from fhir_server.terminology.elements import items, text, texts
from fhir_server.terminology.grammars import is_well_formed
from fhir_server.terminology.held import SHELF, Held, read
from fhir_server.terminology.packaged import NONE, Packaged, recency
from fhir_server.terminology.shipped import maps_from, own, shipped

_MOST: Final = 100
"""Versions of one value set, or parts of one code system, that are looked at."""
_LARGE: Final = 64 * 1024
"""Bytes."""
_MOST_NEEDED: Final = 500
"""Resources that one question may need."""


class Reads(Protocol):
    """What a library needs of a session or a commit."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None: ...

    async def search(self, query: Search, count: int, after: Position | None = None) -> Page: ...


class Nowhere:
    """In place of a session, for whoever has no store."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:  # noqa: ARG002
        return None

    async def search(
        self,
        query: Search,  # noqa: ARG002
        count: int,  # noqa: ARG002
        after: Position | None = None,  # noqa: ARG002
    ) -> Page:
        return Page((), None)


class Library:
    """Value sets, code systems and concept maps that one caller may use."""

    def __init__(self, data: Reads, packaged: Packaged = NONE) -> None:
        self._data = data
        self._packaged = packaged

    async def at(self, local: str) -> Held | None:
        """The resource `ValueSet/id`."""
        found = await self._data.read(*local.split("/"))
        if found is None or found.deleted:
            return None
        (held,) = await _read([found])
        return held

    async def named(self, resource_type: str, canonical: str) -> Held | None:
        """The resource with this address; of several versions, where none is named, the newest.

        A code system that is stored in parts, each a fragment of the same version, is one.
        """
        stored = await self._stored(resource_type, canonical)
        beside = [own(resource_type, canonical), self._packaged.named(resource_type, canonical)]
        known = [*stored, *filter(None, beside)]
        best = max(known, key=lambda one: recency(one.resource), default=None)
        if best is None:
            return shipped(resource_type, canonical)
        if text(best.resource, "content") != "fragment":
            return best
        parts = [one for one in stored if one is not best and _same(one, best)]
        return _joined(best, parts) if parts else best

    async def maps(self, system: str) -> list[Held]:
        """The concept maps that translate codes of the system, or into it."""
        where = disjunction(UriIs("source-system", system), UriIs("target-system", system))
        stored = await self._found("ConceptMap", where)
        found = {text(one.resource, "url"): one for one in maps_from(system)}
        found |= {text(one.resource, "url"): one for one in self._packaged.maps(system)}
        known = {text(one.resource, "url") for one in stored}
        return [*stored, *(one for url, one in found.items() if url not in known)]

    async def _stored(self, resource_type: str, canonical: str) -> list[Held]:
        url, _, version = canonical.partition("|")
        where = conjunction(
            UriIs("url", url), *([TokenIs("version", None, version)] if version else [])
        )
        return await self._found(resource_type, where)

    async def _found(self, resource_type: str, where: Node) -> list[Held]:
        page = await self._data.search(Query(resource_type, where), _MOST)
        return await _read(page.matches)


async def _read(versions: Sequence[StoredVersion]) -> list[Held]:
    """As resources; large ones are read beside the loop, which goes on meanwhile."""
    bodies = [version.body for version in versions]
    if sum(map(len, bodies)) < _LARGE:
        return [*map(read, bodies)]
    return await asyncio.to_thread(lambda: [*map(read, bodies)])


def _same(one: Held, other: Held) -> bool:
    return all(
        text(one.resource, name) == text(other.resource, name) for name in ("version", "content")
    )


def _joined(best: Held, parts: Sequence[Held]) -> Held:
    joined = best.joined(sorted(parts, key=lambda one: text(one.resource, "id")))
    return SHELF.get(joined.key) or SHELF.put(joined)


class Catalogue:
    """What one question needs, all of it found before the question is answered.

    `by_form` says that where a code system is a grammar, a well-formed code counts as one of its
    codes: enough for a binding, too little for whoever asks about the code itself.
    """

    def __init__(self, *, by_form: bool = False) -> None:
        self._held: dict[tuple[str, str], Held | None] = {}
        self.by_form = by_form

    def value_set(self, canonical: str) -> Held | None:
        return self.get("ValueSet", canonical)

    def code_system(self, canonical: str) -> Held | None:
        return self.get("CodeSystem", canonical)

    def get(self, resource_type: str, canonical: str) -> Held | None:
        return self._held.get((resource_type, canonical))

    def is_well_formed(self, system: str, code: str) -> bool | None:
        """What the form of the code says; None where that does not count."""
        return is_well_formed(system, code) if self.by_form else None

    def put(self, resource_type: str, canonical: str, held: Held | None) -> None:
        """Raises: FhirError: TOO_COSTLY for one too many."""
        if len(self._held) >= _MOST_NEEDED:
            raise FhirError(
                Kind.TOO_COSTLY, f"The value sets need more than {_MOST_NEEDED} others and systems"
            )
        self._held[resource_type, canonical] = held

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._held

    @property
    def key(self) -> str:
        """The same for the same content of all that was found."""
        return "\n".join(
            f"{kind} {url} {held.key if held else ''}" for (kind, url), held in self._held.items()
        )


class Shipped(Catalogue):
    """Whatever comes with the server or in packages, found when it is asked for.

    The key is that of none.
    """

    def __init__(self, packaged: Packaged = NONE) -> None:
        super().__init__(by_form=True)
        self._packaged = packaged

    def get(self, resource_type: str, canonical: str) -> Held | None:
        return (
            own(resource_type, canonical)
            or self._packaged.named(resource_type, canonical)
            or shipped(resource_type, canonical)
        )


async def gather(
    catalogue: Catalogue,
    library: Library,
    needed: Iterable[tuple[str, str]],
    *,
    every_system: bool = False,
) -> None:
    """Put what is needed into the catalogue, with whatever that needs in its turn.

    Args:
        needed: type and canonical address.
        every_system: also those code systems without which the codes are known, not their
            displays, or whether they are codes of it.

    Raises:
        FhirError: TOO_COSTLY.
    """
    waiting = [*needed]
    seen = set(waiting)
    while waiting:
        key = waiting.pop()
        held = catalogue.get(*key)
        if key not in catalogue:
            held = await library.named(*key)
            catalogue.put(*key, held)
        if held is not None and key[0] == "CodeSystem" and not held.is_ready:
            await asyncio.to_thread(held.prepare)
        if held is not None and key[0] == "ValueSet":
            further = needs(held.resource, every_system=every_system)
            waiting += [one for one in further if one not in seen]
            seen.update(further)


def needs(value_set: Resource, *, every_system: bool) -> list[tuple[str, str]]:
    """Type and address of what a value set is composed of."""
    compose = value_set.get("compose")
    active_only = isinstance(compose, dict) and compose.get("inactive") is False
    found: list[tuple[str, str]] = []
    for part in (*items(compose, "include"), *items(compose, "exclude")):
        found += [("ValueSet", url) for url in texts(part, "valueSet")]
        if part.get("filter") or every_system or active_only:
            found.append(("CodeSystem", system_of(part)))
    for one in items(value_set.get("expansion"), "contains") if every_system else ():
        found.append(("CodeSystem", text(one, "system")))
    return [key for key in dict.fromkeys(found) if key[1]]


def system_of(part: Resource) -> str:
    """The system of an include or exclude, with its version where it names one."""
    system, version = text(part, "system"), text(part, "version")
    return f"{system}|{version}" if system and version else system
