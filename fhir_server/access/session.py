"""The session: the only door to stored data.

It carries the caller and the policy, and makes the policy a term of whatever is asked. What a
caller may not see answers exactly as what is not there.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, unquote

from msgspec import structs

from fhir_server.access.audit.provenance import provenances
from fhir_server.access.audit.record import Record, bounded, name_of, of_caller, patients_of
from fhir_server.access.caller import Role
from fhir_server.access.facts.kept import follow
from fhir_server.access.policy import Caller, ClosedPolicy, OpenPolicy, Policy
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search import added
from fhir_server.search.ast import Everything, Node, Search
from fhir_server.search.match import match
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.rewrite import guarded
from fhir_server.storage.audited import MOST_TARGETS, AuditEntry, AuditQuery, AuditRow
from fhir_server.storage.interface import (
    Draft,
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Reader,
    Store,
    StoredVersion,
    Unit,
)
from fhir_server.terminology.library import Library
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.resolve import resolved
from fhir_server.terminology.service import MAX_CODES, Terminology

__all__ = [
    "AuditEntry",
    "AuditQuery",
    "Data",
    "Draft",
    "HistoryEntry",
    "HistoryOf",
    "Memo",
    "Page",
    "Position",
    "Session",
    "SessionUnit",
    "StoredVersion",
    "current",
    "of_all_callers",
]

T = TypeVar("T")
_AT_ONCE: Final = 1000
"""Memos that are read at one time."""


class Data(Protocol):
    """Reads as the caller may do them, in a session or inside its commit."""

    @property
    def caller(self) -> Caller: ...

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None: ...

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None: ...

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]: ...

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page: ...

    async def total(self, query: Search) -> int: ...

    async def parameters(self) -> ParameterSet: ...

    def terminology(self) -> Terminology: ...

    def shows(self, versions: Iterable[StoredVersion]) -> None: ...


async def current(data: Data, resource_type: str, resource_id: str) -> StoredVersion:
    """The current version.

    Raises:
        FhirError: NOT_FOUND, or GONE after a deletion.
    """
    found = await data.read(resource_type, resource_id)
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{resource_type}/{resource_id} is not known")
    if found.deleted:
        raise FhirError(Kind.GONE, f"{resource_type}/{resource_id} was deleted")
    return found


async def of_all_callers(store: Store, space: str) -> list[tuple[str, Memo]]:
    """Every memo of a space of small ones, each with the name of the caller whose it is.

    For what the server does by itself; what it does then, it does in the caller's own session.
    """
    found: list[tuple[str, Memo]] = []
    after = ""
    while some := await store.memos(space, "", _AT_ONCE, after):
        after = some[-1].key
        for memo in some:
            owner, _, key = memo.key.partition("/")
            found.append((unquote(owner), replace(memo, key=key)))
    return found


class _GuardedReader:
    """A reader with the policy in every question, and the memos of its caller alone."""

    def __init__(
        self,
        reader: Reader,
        caller: Caller,
        policy: Policy,
        max_codes: int,
        outside: Outside | None = None,
        packaged: Packaged = NONE,
    ) -> None:
        self.caller: Final = caller
        self._outside = outside
        self._packaged = packaged
        self._reader = reader
        self._policy = policy
        self._max_codes = max_codes
        self.record: Record | None = None
        """Of the request, where it leaves a row in the audit when it is answered."""
        self._own: Final = quote(caller.name, safe="") + "/"

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """The current version or deletion, None where there is none that the caller may see."""
        return self._seen(await self._reader.read(resource_type, resource_id))

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        return self._seen(await self._reader.vread(resource_type, resource_id, version))

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        """As many as were asked for, as long as there are so many that may be seen."""
        shown: list[HistoryEntry] = []
        while len(shown) < count:
            found = await self._reader.history(scope, count, before)
            shown += [entry for entry in found if self._shown(entry.stored)]
            if len(found) < count:
                break
            before = found[-1].seq
        if self.record is not None:
            self.record.see(*(entry.stored for entry in shown[:count]))
        return shown[:count]

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        page = await self._reader.search(await self._asked(query), count, after, until)
        if self.record is not None:
            self.record.see(*page.matches)
        return page

    async def total(self, query: Search) -> int:
        return await self._reader.total(await self._asked(query))

    async def _asked(self, query: Search) -> Search:
        """With the codes of value sets that the caller may read, among what it may read."""
        known = await resolved(query, self, self._max_codes, self._outside, self._packaged)
        return guarded(known, self._policy.readable)

    def shows(self, versions: Iterable[StoredVersion]) -> None:
        """Of all that was read, the answer holds these: the audit names them and no others."""
        if self.record is not None:
            self.record.shown = [*(self.record.shown or ()), *versions]

    def terminology(self) -> Terminology:
        """The terminology service, over what the caller may read."""
        return Terminology(Library(self, self._packaged), self._max_codes, self._outside)

    def is_limited(self, resource_type: str) -> bool:
        """Whether there may be resources of the type that the caller may not see."""
        return not isinstance(self._policy.readable(resource_type), Everything)

    async def parameters(self) -> ParameterSet:
        """By what can be searched now."""
        return await self._reader.parameters()

    async def memo(self, space: str, key: str) -> Memo | None:
        """The caller's own memo of that key; another's is as if it were not there."""
        found = await self._reader.memo(space, self._own + key)
        return None if found is None else self._unowned(found)

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        """At most `count` of the caller's own memos, by key, with keys above `after`."""
        found = await self._reader.memos(space, self._own + prefix, count, self._own + after)
        return [self._unowned(memo) for memo in found]

    def _unowned(self, memo: Memo) -> Memo:
        return replace(memo, key=memo.key.removeprefix(self._own))

    def _seen(self, version: StoredVersion | None) -> StoredVersion | None:
        shown = self._shown(version)
        if shown is not None and self.record is not None:
            self.record.see(shown)
        return shown

    def _shown(self, version: StoredVersion | None) -> StoredVersion | None:
        if version is None:
            return None
        return version if _covers(self._policy.readable(version.type), version) else None


class Session(_GuardedReader):
    """One caller's view of the store, for one request."""

    def __init__(
        self,
        store: Store,
        caller: Caller,
        policy: Policy | None = None,
        max_codes: int = MAX_CODES,
        outside: Outside | None = None,
        packaged: Packaged = NONE,
    ) -> None:
        self._store: Final = store
        super().__init__(store, caller, policy or ClosedPolicy(), max_codes, outside, packaged)

    def answering(self) -> "Data":
        """The reads of an answer that nothing is decided by: it may be some moments old.

        Whether a caller may see a resource is decided by what it says, and others that it belongs
        to: where there is a policy, never by an old state.
        """
        if not isinstance(self._policy, OpenPolicy):
            return self
        lagging = self._store.lagging()
        reader = _GuardedReader(
            lagging, self.caller, self._policy, self._max_codes, self._outside, self._packaged
        )
        reader.record = self.record
        return reader

    async def audited(self, asked: AuditQuery, count: int) -> Sequence[AuditEntry]:
        """Rows of the audit.

        Raises:
            FhirError: FORBIDDEN for whoever is no auditor, whatever there is.
        """
        if Role.AUDITOR not in self.caller.roles and not isinstance(self._policy, OpenPolicy):
            raise FhirError(Kind.FORBIDDEN, "The audit is read by auditors alone")
        return await self._store.audited(asked, count)

    def part(self, asked: str) -> "Session":
        """The same session for one entry of a batch, which leaves a row of its own."""
        if self.record is None:
            return self
        inner = copy(self)
        inner.record = self.record.part(asked)
        return inner

    async def commit(self, action: str, work: "Callable[[SessionUnit], Awaitable[T]]") -> T:
        """Run `work` in one commit, with a line in the audit that says who did what.

        `work` may be run more than once and depends on nothing but its unit.

        Raises:
            FhirError: what `work` raises, with nothing written; UNAVAILABLE.
        """

        async def guarded(unit: Unit) -> tuple[T, bool]:
            inside = SessionUnit(
                unit, self.caller, self._policy, action, self._max_codes, self._packaged
            )
            inside.record = self.record
            result = await work(inside)
            touched = bool(inside.touched)
            if touched:
                await inside.attest()
                await unit.audit(inside.row())
            return result, touched

        result, touched = await self._store.commit(guarded)
        if touched and self.record is not None:
            self.record.has_row = True
        return result


class SessionUnit(_GuardedReader):
    """A commit under way, as the caller may make it.

    Other servers are not asked meanwhile: whoever wants to write would wait for them.
    """

    def __init__(
        self,
        unit: Unit,
        caller: Caller,
        policy: Policy,
        action: str,
        max_codes: int = MAX_CODES,
        packaged: Packaged = NONE,
    ) -> None:
        super().__init__(unit, caller, policy, max_codes, packaged=packaged)
        self._unit = unit
        self.action = action
        self.touched: list[StoredVersion] = []
        self._made: list[StoredVersion] = []
        """Of those, the versions that were not there before."""
        self._about: list[StoredVersion] = []
        """What was there before deletions, which say nothing of whom they are about."""

    async def commit(self, action: str, work: "Callable[[SessionUnit], Awaitable[T]]") -> T:
        """As of a session: what is committed within a commit lands with it, or not at all."""
        self.action = action
        return await work(self)

    async def keep(self, memo: Memo) -> None:
        """Keep the caller's memo, in place of one with the same key."""
        await self._unit.keep(replace(memo, key=self._own + memo.key))

    async def forget(self, space: str, prefix: str) -> None:
        """Forget the caller's memos whose keys begin with `prefix`."""
        await self._unit.forget(space, self._own + prefix)

    async def put(
        self, resource: Resource, method: str, draft: Draft | None = None
    ) -> StoredVersion:
        """Write the next version of the resource; it has passed validation and has an id.

        `draft` is the same resource where it was prepared before.

        Raises:
            FhirError: FORBIDDEN, when the policy covers not both what is there and what comes;
                BUSINESS_RULE or DUPLICATE for a SearchParameter that cannot take effect.
        """
        draft = draft or Draft(resource)
        allowed = self._policy.writable(draft.type)
        if not isinstance(allowed, Everything):
            current = await self._unit.read(draft.type, draft.id)
            _require(match(allowed, resource) and (current is None or _covers(allowed, current)))
        if draft.type == added.TYPE:
            await self._redefine(draft.id, resource)
        before = await self._number(draft) if self.caller.organisation else 0
        stored = await self._unit.put(draft, method)
        await follow(self._unit, stored, dict(draft.resource))
        self.touched.append(stored)
        if stored.version != before:
            self._made.append(stored)
        return stored

    async def delete(self, current: StoredVersion) -> StoredVersion:
        """Write a deletion after `current`, which was read in this unit.

        Raises:
            FhirError: FORBIDDEN.
        """
        _require(_covers(self._policy.writable(current.type), current))
        if current.type == added.TYPE:
            await self._redefine(current.id, None)
        stored = await self._unit.delete(current.type, current.id)
        await follow(self._unit, stored, None)
        self.touched.append(stored)
        self._made.append(stored)
        self._about.append(current)
        return stored

    async def _number(self, draft: Draft) -> int:
        """Of the version before, which stays where the draft says nothing new."""
        found = await self._unit.read(draft.type, draft.id)
        return 0 if found is None else found.version

    async def attest(self) -> None:
        """Say whose the new versions are, where they are written for an organisation."""
        if not (self.caller.organisation and self._made):
            return
        patients = patients_of([*self._made, *self._about])
        for told in provenances(self.caller, self.action, self._made, patients):
            await self._unit.put(Draft(told), "POST")

    def row(self) -> AuditRow:
        """The commit's row in the audit."""
        patients = tuple(patients_of([*self.touched, *self._about]))
        if self.record is None:
            targets = tuple(map(name_of, self.touched[:MOST_TARGETS]))
            row = AuditRow(
                action=bounded(self.action, 100),
                request_id=bounded(self.caller.request_id, 200),
                targets=targets,
                further=len(self.touched) - len(targets),
                **of_caller(self.caller),
            )
        else:
            row = self.record.written(self.action, self.touched)
        return structs.replace(row, patients=tuple(dict.fromkeys((*row.patients, *patients))))

    async def _redefine(self, resource_id: str, resource: Resource | None) -> None:
        """By what can be searched, SearchParameter resources say."""
        known = await self._unit.parameters()
        changed = added.redefined(known, resource_id, resource)
        if changed is not known:
            await self._unit.define(changed)


def _covers(allowed: Node, version: StoredVersion) -> bool:
    if isinstance(allowed, Everything):
        return True
    return not version.deleted and match(allowed, json.decode_resource(version.body))


def _require(allowed: bool) -> None:
    if not allowed:
        raise FhirError(Kind.FORBIDDEN, "This is not allowed for the caller")
