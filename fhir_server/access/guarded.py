"""Reads with the policy in every question.

What a caller may not see answers exactly as what is not there, whichever way it is asked for.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, Self, TypeVar

from fhir_server.access import masking, membership, targets
from fhir_server.access.audit.record import Record
from fhir_server.access.caller import Caller, Role, own_prefix
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.decision import Sight
from fhir_server.access.kept_terms import Epochs
from fhir_server.access.policy import AUDITED, Rule, Terms
from fhir_server.access.table import Explanation
from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Nothing, Queries, Query, Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Reader,
    StoredVersion,
)
from fhir_server.terminology.library import Library
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.resolve import resolved
from fhir_server.terminology.service import Terminology

SEEN_IN_PART: Final = masking.TYPES | {targets.TYPE}
"""Types of which some callers see less than is stored."""
T = TypeVar("T")
_TRIES: Final = 3
_MOST_LOOKED_AT: Final = 20_000
"""Versions of one history among which those that may be seen are looked for."""


class Beside(Protocol):
    """A store that reads the state of the facts with each resource."""

    beside: bytes | None
    """How that state was stored at the very moment at which a resource was read last."""


class GuardedReader:
    """A reader with the policy in every question, and the memos of its caller alone."""

    def __init__(
        self,
        reader: Reader,
        caller: Caller,
        rule: Rule | None,
        max_codes: int,
        outside: Outside | None = None,
        packaged: Packaged = NONE,
    ) -> None:
        self.caller: Final = caller
        self._outside = outside
        self._packaged = packaged
        self._reader = reader
        self._rule = rule
        self._max_codes = max_codes
        self.record: Record | None = None
        """Of the request, where it leaves a row in the audit when it is answered."""
        self._own: Final = own_prefix(caller.name)
        self.beside: Beside | None = None
        """The same reader, where it reads the state of the facts with each resource."""
        self.epochs: Epochs | None = None
        """The same reader, where it tells whether anybody has committed."""

    def begin(self) -> None:
        """Another request of the same caller begins."""
        if isinstance(self._rule, ConsentPolicy):
            self._rule.glass.clear()

    @property
    def is_open(self) -> bool:
        """Whether everything is allowed, to everybody."""
        return self._rule is None

    @property
    def glass(self) -> Mapping[str, str]:
        """Why the glass was broken, by the ids of the patients for whom that decided so far."""
        return self._rule.glass if isinstance(self._rule, ConsentPolicy) else {}

    async def explain(self, patient_id: str, other: Caller | None = None) -> Explanation | None:
        """Why the caller, or another, sees what it sees of a patient's record.

        None where nobody decides, and for whoever may not know.
        """
        if not isinstance(self._rule, ConsentPolicy):
            return None
        return await self._rule.explain(self._reader, patient_id, other)

    async def reach(self) -> str:
        """What the caller may read at this moment, as a digest; '' where nobody decides.

        What was worked out of it, such as a total, is known to the caller while it is the same.
        """
        if not isinstance(self._rule, ConsentPolicy):
            return ""
        return await self._rule.reach(self._reader)

    def is_limited(self, resource_type: str) -> bool:
        """Whether there may be resources of the type that the caller may not see."""
        del resource_type
        return self._rule is not None

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """The current version or deletion, None where there is none that the caller may see."""
        found = await self._reader.read(resource_type, resource_id)
        if self._rule is not None:
            seen = self._seen_as_before(resource_type, found)
            found = seen or await self._seen(self._rule, resource_type, found)
        return self._noted(found)

    def _seen_as_before(
        self, resource_type: str, found: StoredVersion | None
    ) -> StoredVersion | None:
        """A current version as the caller sees it, where it need not be decided anew."""
        if self.beside is None or not isinstance(self._rule, ConsentPolicy):
            return None
        state = self.beside.beside
        if found is None:  # what is hidden is looked at so as well, and takes the time
            self._rule.seen_as_before(b"", membership.nobodys_version(resource_type))
            return None
        return None if state is None else self._rule.seen_as_before(state, found)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        if not await self._is_seen_now(resource_type, resource_id):
            return None
        found = await self._reader.vread(resource_type, resource_id, version)
        if self._rule is None or found is None:
            return self._noted(found)
        return self._noted(await self._seen_before(self._rule, found))

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        """As many as were asked for, as long as there are so many that may be seen.

        Raises:
            FhirError: TOO_COSTLY where they are too few among too many.
        """
        shown = await self._history(scope, count, before)
        if self.record is not None:
            self.record.see(*(entry.stored for entry in shown))
        return shown

    async def _history(
        self, scope: HistoryOf, count: int, before: int | None
    ) -> Sequence[HistoryEntry]:
        shown: list[HistoryEntry] = []
        looked_at = 0
        if scope.id and not await self._is_seen_now(scope.resource_type, scope.id):
            return shown
        while len(shown) < count:
            found = await self._reader.history(scope, count, before)
            looked_at += len(found)
            shown += await self._seen_entries(found)
            if len(found) < count:
                break
            if looked_at >= _MOST_LOOKED_AT:
                raise FhirError(
                    Kind.TOO_COSTLY, "The history is too long; ask for one resource, or with _since"
                )
            before = found[-1].seq
        return shown[:count]

    async def _seen_entries(self, entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
        rule = self._rule
        if rule is None:
            return [entry for entry in entries if entry.stored.type != AUDITED]
        seen = [(entry, await self._seen_before(rule, entry.stored)) for entry in entries]
        return [replace(entry, stored=stored) for entry, stored in seen if stored is not None]

    def _service_rule(self) -> Rule | None:
        """What bounds the service's own rights: a load test keeps its bounds."""
        return self._rule if Role.LOAD_TEST in self.caller.roles else None

    def _copied(self) -> Self:
        """As `copy.copy`, at a tenth of its price: each commit that rules look at needs one."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        page = await self._page(query, count, after, until)
        if self.record is not None:
            self.record.see(*page.matches)
        return page

    async def _page(
        self, query: Search, count: int, after: Position | None, until: Position | None
    ) -> Page:
        if self._rule is None:
            known = await self._known(query)
            return await self._reader.search(_but_the_audit(known), count, after, until)
        terms, found = await self._within(
            self._rule, query, lambda asked: self._reader.search(asked, count, after, until)
        )
        types = _types(query, found)
        page = _masked(terms, found, types)
        if targets.TYPE not in types:
            return page
        told = [await targets.as_told(one, self._is_seen_now) for one in page.matches]
        return replace(page, matches=told)

    async def total(self, query: Search) -> int:
        if self._rule is None:
            return await self._reader.total(_but_the_audit(await self._known(query)))
        return (await self._within(self._rule, query, self._reader.total))[1]

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        """Of which of the types something may refer to a target by that search parameter.

        Where a policy decides what is seen, of all: what there is, it does not say.
        """
        if self._rule is not None:
            return frozenset(types)
        return await self._reader.referring(types, code, targets)

    async def _within(
        self, rule: Rule, query: Search, ask: Callable[[Search], Awaitable[T]]
    ) -> tuple[Terms, T]:
        """What is found of the query within what the caller may find, and the terms of that.

        Where the store tells of commits, both are of one state of all that decides: what was found
        while that changed is forgotten. Nobody waits for a store in which it changes all the time.
        """
        store = self.epochs
        if store is None or not isinstance(rule, ConsentPolicy):
            terms = await rule.terms(self._reader)
            return terms, await ask(await self._narrowed(terms, query))
        for _ in range(_TRIES):
            terms, kept = rule.kept_terms() or await rule.make_terms(self._reader, store)
            found = await ask(await self._narrowed(terms, query))
            if kept is None or getattr(found, "epoch", None) is kept.epoch:
                break
            if await rule.still(self._reader, store, kept):
                break
        return terms, found

    async def _narrowed(self, terms: Terms, query: Search) -> Search:
        again = terms.as_before(query)
        if again is not None:
            return again
        known = await targets.asked(await self._known(query), self._is_seen_now)
        return terms.narrowed(known)

    def shows(self, versions: Iterable[StoredVersion]) -> None:
        """Of all that was read, the answer holds these: the audit names them and no others."""
        if self.record is not None:
            self.record.shown = [*(self.record.shown or ()), *versions]

    def _noted(self, version: StoredVersion | None) -> StoredVersion | None:
        """What is given to somebody, in the record of the request. The audit is not read here."""
        if version is None or version.type == AUDITED:
            return None
        if self.record is not None:
            self.record.see(version)
        return version

    async def _known(self, query: Search) -> Search:
        """With the codes of value sets that the caller may read."""
        return await resolved(query, self, self._max_codes, self._outside, self._packaged)

    def terminology(self) -> Terminology:
        """The terminology service, over what the caller may read."""
        return Terminology(Library(self, self._packaged), self._max_codes, self._outside)

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

    async def _seen(
        self, rule: Rule, resource_type: str, current: StoredVersion | None
    ) -> StoredVersion | None:
        """A current version as the caller sees it, None where that is not at all."""
        if current is None:
            # What is hidden costs a decision, and what is not there costs the same.
            body = membership.nobodys_version(resource_type).body
            await rule.sight_as_stored(self._reader, resource_type, body)
            return None
        if current.body:
            sight = await rule.sight_as_stored(self._reader, current.type, current.body)
            seen = _through(sight, current)
        else:
            seen = _through(await self._sight(rule, current), current)
        if seen is None or seen.type != targets.TYPE:
            return seen
        return await targets.as_told(seen, self._is_seen_now)

    async def _is_seen_now(self, resource_type: str, resource_id: str) -> bool:
        """Whether a resource has a past that may be looked at.

        Asked before anything of that past is read, so that what is hidden takes the time of what
        is absent.
        """
        if self._rule is None:
            return True
        current = await self._reader.read(resource_type, resource_id)
        return await self._seen(self._rule, resource_type, current) is not None

    async def _seen_before(self, rule: Rule, version: StoredVersion) -> StoredVersion | None:
        """A version of any age: what is hidden by now was hidden always, and masks have no past."""
        current = await self._reader.read(version.type, version.id)
        if current is None or current.version == version.version:
            return await self._seen(rule, version.type, version)
        for one in (current, version):
            if await self._sight(rule, one) is not Sight.ALL:
                return None
        return await targets.as_told(version, self._is_seen_now)

    async def _sight(self, rule: Rule, version: StoredVersion) -> Sight:
        """Of a deletion, by what was deleted."""
        if not version.deleted:
            return await rule.sight_as_stored(self._reader, version.type, version.body)
        last = await self._reader.vread(version.type, version.id, version.version - 1)
        if last is None or last.deleted:
            return Sight.NONE
        sight = await rule.sight_as_stored(self._reader, last.type, last.body)
        return sight if sight is Sight.ALL else Sight.NONE


def _types(query: Search, page: Page) -> Collection[str]:
    """Those of what may be on the page."""
    if isinstance(query, Query):
        return (query.resource_type,)
    return {one.type for one in page.matches}


def _masked(terms: Terms, page: Page, types: Collection[str]) -> Page:
    """The page, with what is seen in part as it is seen, by what it was found by."""
    masks = [name for name in types if terms.masks(name)]
    if not masks:
        return page
    covered = [name for name in masks if terms.masks_all(name)]
    if len(covered) == len(types):
        return Page(masking.masked_page(page.matches), page.after)
    seen = [
        match if match.type not in masks else _masked_one(terms, match, covered)
        for match in page.matches
    ]
    return Page([match for match in seen if match is not None], page.after)


def _masked_one(
    terms: Terms, match: StoredVersion, covered: Collection[str]
) -> StoredVersion | None:
    """Of types of which nobody's is seen in full, it need not be known whose it is."""
    if match.type in covered:
        return masking.masked(match)
    return _through(terms.sight(membership.looked_at(match.type, match.body)), match)


def _through(sight: Sight, version: StoredVersion) -> StoredVersion | None:
    if sight is Sight.ALL:
        return version
    return masking.masked(version) if sight is Sight.COLOUR else None


def _but_the_audit(query: Search) -> Search:
    """AuditEvents are rows of the audit: what clients once stored as such is not shown."""
    if isinstance(query, Queries):
        return replace(query, parts=tuple(map(_part_but_the_audit, query.parts)))
    return _part_but_the_audit(query)


def _part_but_the_audit(query: Query) -> Query:
    return query if query.resource_type != AUDITED else replace(query, where=Nothing())
