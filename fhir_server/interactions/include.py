"""_include and _revinclude: what the matches point to, and what points to them, page by page.

https://hl7.org/fhir/R4/search.html#include. Every candidate passes the session, as any read.

What comes beside the matches of one page stands in a fixed order: by type and id what is
referred to, then type by type, in the store's own order, what is searched for. So a place in it
is all that a link has to hold, and what is not written meanwhile comes once. With `:iterate`
there is no such order that could be walked without knowing all of it: then the names of all are
gathered on every page, up to a bound. See docs/decisions/0011-pages-of-includes.md.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import Issue
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.leads import Around, Leads, Names, leads
from fhir_server.search.ast import Include, Query
from fhir_server.search.parse import SearchRequest

MAX_ROUNDS: Final = 10
"""Steps that `:iterate` goes from the matches."""
_MOST: Final = 10_000
"""Resources that `:iterate` gathers beside the matches of one page."""
_LARGE: Final = 64 * 1024
"""Bytes of resources whose references are read beside the loop, which goes on meanwhile."""
_TURN: Final = 64
"""Reads after which others have their turn."""
_NAMED: Final = ""
"""The first step, before the types."""

Place = tuple[str, Any]
"""A step, and where in it the page begins: None at its beginning."""


@dataclass(slots=True)
class Included:
    """What came along, each once, what is to be said about it, and where there is more."""

    versions: list[StoredVersion] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)
    further: Place | None = None


async def included(
    data: Data,
    server: Server,
    search: SearchRequest,
    matches: Sequence[StoredVersion],
    place: Place | None = None,
) -> Included:
    """At most `max_includes` of what the includes add to a page of matches, from the place on."""
    includes = search.includes
    if not includes or not matches:
        return Included()
    if any(include.iterate for include in includes):
        found, notes = await _gathered(data, server, search, matches)
    else:
        seen = {(version.type, version.id) for version in matches}
        found, notes = await _leads(matches, includes, Around(server.base, search.known), seen), []
    versions, further = await _Walk(data, found).page(place, server.max_includes)
    if further is not None:
        which = "first" if place is None else "next"
        text = f"Only the {which} {server.max_includes} included resources are on this page"
        notes.append(_told(f"{text}; its link 'next' leads to the others"))
    return Included(versions, notes, further)


def _told(text: str) -> Issue:
    return Issue(text, severity="warning", code="too-costly")


async def _gathered(
    data: Data, server: Server, search: SearchRequest, matches: Sequence[StoredVersion]
) -> tuple[Leads, list[Issue]]:
    """The names of all that includes, and includes of includes, lead to."""
    matched = {(version.type, version.id) for version in matches}
    seen, frontier, pending = set(matched), matches, search.includes
    for _ in range(MAX_ROUNDS):
        found = await _leads(frontier, pending, Around(server.base, search.known), seen)
        frontier, further = await _Walk(data, found).page(None, _MOST + len(matched) - len(seen))
        seen.update((version.type, version.id) for version in frontier)
        pending = tuple(include for include in search.includes if include.iterate)
        if further is not None:
            text = f"Only {_MOST} resources to which the includes of includes lead are followed"
            return Leads(seen - matched), [_told(f"{text}; ask for fewer matches with _count")]
        if not frontier:
            return Leads(seen - matched), []
    text = f"Only includes of includes up to {MAX_ROUNDS} steps away are followed"
    return Leads(seen - matched), [_told(f"{text}; search from the last of them for the others")]


async def _leads(
    sources: Sequence[StoredVersion], includes: Sequence[Include], around: Around, seen: Names
) -> Leads:
    if sum(len(version.body) for version in sources) < _LARGE:
        return leads(sources, includes, around, seen)
    await asyncio.sleep(0)  # whoever cannot wait ends here, before it begins
    return await asyncio.to_thread(leads, sources, includes, around, seen)


class _Walk:
    """Through what includes lead to, in its order."""

    def __init__(self, data: Data, found: Leads) -> None:
        self._data = data
        self._names = sorted(found.names)
        self._nodes = found.nodes

    async def page(
        self, place: Place | None, room: int
    ) -> tuple[list[StoredVersion], Place | None]:
        """At most so many from the place on; where others follow, None where none do."""
        found: list[StoredVersion] = []
        at: Place | None = place or (_NAMED, None)
        while at is not None and len(found) < room:
            some, at = await self._step(at, room - len(found))
            found += some
        return found, at if await self._leads_on(at) else None

    async def _leads_on(self, at: Place | None) -> bool:
        while at is not None:
            some, at = await self._step(at, 1)
            if some:
                return True
        return False

    async def _step(self, at: Place, room: int) -> tuple[Sequence[StoredVersion], Place | None]:
        """At most so many from one step; where to go on."""
        step, after = at
        if step == _NAMED:
            return await self._named(after, room)
        if step not in self._nodes:
            # The match that led there was written meanwhile.
            return (), self._behind(step)
        query = Query(step, self._nodes[step])
        page = await self._data.search(query, room, None if after is None else tuple(after))
        return page.matches, self._behind(step) if page.after is None else (step, page.after)

    async def _named(
        self, after: Sequence[str] | None, room: int
    ) -> tuple[Sequence[StoredVersion], Place | None]:
        found: list[StoredVersion] = []
        for number, name in enumerate(self._names):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            if after is not None and name <= tuple(after):
                continue
            version = await self._data.read(*name)
            if version is not None and not version.deleted:
                found.append(version)
            if len(found) == room:
                return found, (_NAMED, name)
        return found, self._behind(_NAMED)

    def _behind(self, step: str) -> Place | None:
        name = min((name for name in self._nodes if name > step), default=None)
        return None if name is None else (name, None)
