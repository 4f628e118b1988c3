"""Reads within one transaction: the store's own, and those inside a commit.

Faults of MongoDB come out as they are; whoever holds the transaction knows what they mean.
"""

import time
from collections.abc import Collection, Sequence
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Queries, Query, ReferenceTo, Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditEntry, AuditQuery, Link
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    StoredVersion,
)
from fhir_server.storage.mongo import audit, memos
from fhir_server.storage.mongo.compile import Compiler
from fhir_server.storage.mongo.documents import ENTRIES, history_entry_of, name_of, version_of
from fhir_server.storage.mongo.driver import Database, Document, Transaction
from fhir_server.storage.mongo.links import resolved
from fhir_server.storage.mongo.parameters import StoredParameters, added_indexes

NEWEST: Final = (("version", -1),)
_IN_ORDER: Final = (("seq", 1),)
_BACKWARDS: Final = (("seq", -1),)
_LIVING: Final[Document] = {"live": True}
_FIRST_ORDER: Final = (("first", 1),)
_LAST_FIRST: Final = (("first", -1),)
_BY_KEY: Final = (("key", 1),)


class TransactionReader:
    """Reads of one state of the database.

    Args:
        within: a transaction that has begun, or None for reads that may each see another state.
        patience: seconds that a search may take.
        now: microseconds since the epoch, which memos expire by.
    """

    def __init__(
        self,
        database: Database,
        parameters: StoredParameters,
        within: Transaction | None,
        patience: float,
        now: int,
    ) -> None:
        self._database = database
        self._parameters = parameters
        self._within = within
        self._deadline = time.monotonic() + patience
        self._now = now

    async def current(self, resource_type: str, resource_id: str) -> Document | None:
        """The newest version without its entries."""
        asked = {"resource": {"$eq": name_of(resource_type, resource_id)}}
        return await self._database.one("version", asked, NEWEST, self._within, ENTRIES)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        name = name_of(resource_type, resource_id)
        # The field `resource` says which shard to ask.
        asked = {"_id": {"$eq": f"{name}/{version}"}, "resource": {"$eq": name}}
        found = await self._database.one("version", asked, None, self._within, ENTRIES)
        return None if found is None else version_of(found)

    async def history(self, scope: HistoryOf, count: int, before: int | None) -> list[HistoryEntry]:
        asked = _history(scope, before)
        return [history_entry_of(one) for one in await self._find(asked, _BACKWARDS, count)]

    async def changes(self, after: int, count: int) -> list[tuple[int, StoredVersion]]:
        found = await self._find({"seq": {"$gt": after}}, _IN_ORDER, count)
        return [(one["seq"], version_of(one)) for one in found]

    async def search(
        self, query: Search, count: int, after: Position | None, until: Position | None
    ) -> Page:
        await self._require_searchable(query)
        compiler = Compiler(await resolved(query, self._aggregate))
        if compiler.computed:
            found = await self._aggregate(compiler.stages(after, until, count + 1))
            versions = await self._bodies([document["_id"] for document in found[:count]])
        else:
            found = await self._find(compiler.page(after, until), compiler.order, count + 1)
            versions = [version_of(document) for document in found[:count]]
        more = versions and len(found) > count
        return Page(versions, compiler.position(found[count - 1]) if more else None)

    async def total(self, query: Search) -> int:
        await self._require_searchable(query)
        compiler = Compiler(await resolved(query, self._aggregate))
        counted = await self._aggregate([{"$match": compiler.filter}, {"$count": "matches"}])
        return int(counted[0]["matches"]) if counted else 0

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        """See `Reader.referring`."""
        to = ReferenceTo(code, tuple(targets))
        asked = Compiler(Queries(tuple(Query(name, to) for name in types))).filter
        found = await self._aggregate([{"$match": asked}, {"$group": {"_id": "$type"}}])
        return frozenset(one["_id"] for one in found)

    async def parameters(self) -> ParameterSet:
        return await self._parameters.current(self._within)

    async def _require_searchable(self, query: Search) -> None:
        """Of the same state of the database as what is found: there its index is whole.

        Raises:
            FhirError: UNAVAILABLE where a parameter is gone that the search was made with.
        """
        indexes = added_indexes(query)
        if indexes and not all(map((await self.parameters()).is_searchable, indexes)):
            raise FhirError(
                Kind.UNAVAILABLE, "A search parameter changed before it was searched by; ask again"
            )

    async def memo(self, space: str, key: str) -> Memo | None:
        asked = memos.one(space, key, self._now)
        found = await self._database.one("memo", asked, None, self._within)
        return None if found is None else memos.memo_of(found)

    async def memos(self, space: str, prefix: str, count: int, after: str) -> list[Memo]:
        asked = memos.several(space, prefix, after, self._now)
        found = await self._database.find("memo", asked, _BY_KEY, count, self._within)
        return [memos.memo_of(document) for document in found]

    async def audited(self, asked: AuditQuery, count: int) -> list[AuditEntry]:
        order = audit.BACKWARDS if asked.backwards else audit.FORWARDS
        found = await self._database.find(
            *(audit.COLLECTION, audit.asked_of(asked), order, count, self._within, ()),
            self._milliseconds(),
        )
        return [audit.entry_of(document) for document in found]

    async def audit_ends(self) -> tuple[Link, Link]:
        commit = await self.setting("commit") or {}
        return audit.link_of(commit.get(audit.BEGIN)), audit.link_of(commit.get(audit.END))

    async def setting(self, name: str) -> Document | None:
        return await self._database.one("setting", {"_id": {"$eq": name}}, None, self._within)

    async def last_first(self) -> int:
        """The highest `first` of all resources, 0 where there are none."""
        found = await self._database.one("version", _LIVING, _LAST_FIRST, self._within, ENTRIES)
        return int(found["first"]) if found else 0

    async def following(self, reached: int, until: int, count: int) -> list[Document]:
        """Current versions, entries too, with a `first` above `reached`, up to `until`."""
        asked = {**_LIVING, "first": {"$gt": reached, "$lte": until}}
        return await self._database.find("version", asked, _FIRST_ORDER, count, self._within)

    async def _bodies(self, ids: Sequence[str]) -> list[StoredVersion]:
        found = await self._find({"_id": {"$in": [*ids]}}, (), len(ids)) if ids else []
        by_id = {document["_id"]: version_of(document) for document in found}
        return [by_id[one] for one in ids]

    async def _find(
        self, asked: Document, order: Sequence[tuple[str, int]], count: int
    ) -> list[Document]:
        return await self._database.find(
            "version", asked, order, count, self._within, ENTRIES, self._milliseconds()
        )

    async def _aggregate(self, stages: list[Document]) -> list[Document]:
        return await self._database.aggregate("version", stages, self._within, self._milliseconds())

    def _milliseconds(self) -> int:
        """What is left of the time; when nothing is, so little that it will not do."""
        return max(1, int((self._deadline - time.monotonic()) * 1000))


def _history(scope: HistoryOf, before: int | None) -> Document:
    asked: Document = {}
    if scope.id:
        asked["resource"] = {"$eq": name_of(scope.resource_type, scope.id)}
    elif scope.resource_type:
        asked["type"] = {"$eq": scope.resource_type}
    if before is not None:
        asked["seq"] = {"$lt": before}
    if scope.since is not None:
        asked["updated"] = {"$gte": scope.since}
    if scope.at is not None:
        low, high = scope.at
        replaced_later = [{"until": {"$exists": False}}, {"until": {"$gt": low}}]
        return {"$and": [asked, {"updated": {"$lt": high}}, {"$or": replaced_later}]}
    return asked
