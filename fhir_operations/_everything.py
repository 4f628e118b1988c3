"""$everything: a compartment, and what its resources refer to, page by page.

A page holds no more than it shows, and a link holds a place in a fixed order: the resource that
it is about, the compartment type by type in the store's own order, then what these refer to in
the order of type and id. So what is not written meanwhile comes once, whoever else writes.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_operations._asked import Asked, asked, pairs_of
from fhir_operations._bundle import searchset
from fhir_operations._care_dates import cared_for
from fhir_operations._compartment import beside, member, membership, types_in
from fhir_operations._referred import TooMany, looked_up, referred
from fhir_server.access.session import Position, StoredVersion, current
from fhir_server.errors import Issue
from fhir_server.operation.api import Call
from fhir_server.operation.records import walked
from fhir_server.search.ast import (
    LAST_UPDATED,
    DateCompares,
    IdIn,
    Node,
    Not,
    Prefix,
    Query,
    conjunction,
)

_REFERRED: Final = ""
"""The last step, after the types."""
_AT_ONCE: Final = 200
"""References that are looked up at one time."""
_TOO_MANY: Final = Issue(
    "What these resources refer to is not shown: there are too many of them to look through; "
    "ask for one patient, or for fewer types",
    severity="warning",
    code="too-costly",
)

Place = tuple[str, Any]
"""A step, and where in it the page begins: None at its beginning."""


@dataclass(slots=True)
class Shown:
    """One page."""

    matches: list[StoredVersion] = field(default_factory=list)
    beside: list[StoredVersion] = field(default_factory=list)
    """What they refer to."""
    notes: list[Issue] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.matches) + len(self.beside)


async def everything(call: Call) -> bytes:
    """The page that is asked for.

    Raises:
        FhirError: NOT_FOUND, GONE; INVALID for parameters.
    """
    pairs, place = _begun(call)
    wanted = asked(pairs, call.limits)
    focus = await current(call.session, call.resource_type, call.id) if call.id else None
    walk = _Walk(call, wanted, focus)
    shown, further = await walk.page(place)
    links = {} if further is None else {"next": call.link([wanted.used, further])}
    return searchset(call, wanted.used, shown.matches, shown.beside, shown.notes, links)


def _begun(call: Call) -> tuple[list[tuple[str, str]], Place | None]:
    if call.page is None:
        return pairs_of(call.parameters), None
    pairs, (step, after) = call.page
    return [(name, value) for name, value in pairs], (step, after)


class _Walk:
    """Through one compartment, or those of all patients whom the caller may see."""

    def __init__(self, call: Call, wanted: Asked, focus: StoredVersion | None) -> None:
        self._session = call.session
        self._base = call.base
        self._name = call.resource_type
        self._asked = wanted
        self._focus = focus
        self._types = types_in(self._name)
        self._steps = (*(name for name in self._types if wanted.wants(name)), _REFERRED)
        self._begins = False
        """Whether the page is the first."""
        self._there: Collection[str] | None = None
        """Types of which there are members, once that was asked."""

    async def page(self, place: Place | None) -> tuple[Shown, Place | None]:
        """What is on the page, and where the next one begins; None after the last."""
        shown = Shown()
        at: Place | None = place
        self._begins = place is None
        if place is None:
            shown.matches += self._itself()
            at = (self._steps[0], None)
        while at is not None and shown.count < self._asked.count:
            at = await self._step(at, shown)
        return shown, at

    async def _step(self, at: Place, shown: Shown) -> Place | None:
        """Fill the page from one step; where to go on."""
        step, after = at
        room = self._asked.count - shown.count
        if step == _REFERRED:
            found = await self._referred(room, after or "", shown)
            return None if found is None else (_REFERRED, found)
        position: Position | None = None if after is None else tuple(after)
        if not await self._has(step):
            return self._following(step)
        page = await self._session.search(self._query(step), room, position)
        shown.matches += page.matches
        if page.after is not None:
            return step, page.after
        return self._following(step)

    def _following(self, step: str) -> Place:
        return self._steps[self._steps.index(step) + 1], None

    async def _has(self, resource_type: str) -> bool:
        """Whether there can be members of the type: of most of the 66 there are none."""
        if self._focus is None:
            return True
        if self._there is None:
            code, names = membership(self._name), [f"{self._name}/{self._focus.id}"]
            self._there = await self._session.referring(self._types, code, names)
        return resource_type in self._there

    def _itself(self) -> Sequence[StoredVersion]:
        focus = self._focus
        if focus is None or not self._asked.wants(focus.type) or not self._is_new(focus):
            return ()
        return (focus,)

    def _is_new(self, version: StoredVersion) -> bool:
        return self._asked.since is None or version.last_updated >= self._asked.since

    def _query(self, resource_type: str) -> Query:
        """The members of a type, but for the resource that comes first anyway."""
        since, focus = self._asked.since, self._focus
        parts = [self._members(resource_type).where]
        if since is not None:
            parts.append(DateCompares(LAST_UPDATED, Prefix.GE, since, since))
        if focus is not None and focus.type == resource_type:
            parts.append(Not(IdIn((focus.id,))))
        return Query(resource_type, conjunction(*parts))

    def _members(self, resource_type: str) -> Query:
        within = cared_for(resource_type, self._asked.start, self._asked.end)
        return Query(resource_type, conjunction(member(self._name, self._focus), within))

    async def _referred(self, room: int, after: str, shown: Shown) -> str | None:
        """Add what members refer to; where to go on, None at the end."""
        try:
            found = await referred(self._each(shown), self._base, self._asked, after)
        except TooMany:
            shown.notes.append(_TOO_MANY)
            return None
        last = after
        for begin in range(0, len(found.targets), _AT_ONCE):
            some = found.targets[begin : begin + _AT_ONCE]
            names = [target for target, _ in some]
            there = await looked_up(self._session, names, self._may_stand_beside)
            for target, by_new in some:
                if room == 0:
                    return last
                last = target
                version = there.get(target)
                if version is not None and (by_new or self._is_new(version)):
                    shown.beside.append(version)
                    room -= 1
        return last if found.more else None

    async def _each(self, shown: Shown) -> AsyncIterator[StoredVersion]:
        """All members, whether they are asked for or not; those on the page are not read again."""
        if self._begins and not self._asked.narrows:
            for version in shown.matches:
                yield version
            return
        for name in [name for name in self._types if await self._has(name)]:
            async for version in walked(self._session, self._members(name)):
                yield version

    def _may_stand_beside(self, resource_type: str) -> Node:
        return beside(resource_type, self._name, self._focus)
