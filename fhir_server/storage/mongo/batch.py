"""What a group of works writes, kept in memory until it must be in the transaction.

MongoDB has no savepoints. So what a work writes waits here: a work that fails takes its own with
it and nothing else has happened. A search has to find what was written before it, so it has
everything written out first; only a work that fails after that spoils the transaction, and the
group is run again without it.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import InsertOne, UpdateOne

from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditRow, Link
from fhir_server.storage.interface import Memo, StoredVersion
from fhir_server.storage.mongo import audit, memos
from fhir_server.storage.mongo.documents import ENTRIES, document_of, require_fit
from fhir_server.storage.mongo.driver import Database, Document, Operation, Transaction
from fhir_server.storage.mongo.parameters import StoredParameters, save
from fhir_server.storage.mongo.turns import Turn

_LIVING: Final = ("live", *ENTRIES)
"""What only the current version of a resource has."""


@dataclass(slots=True)
class Writes:
    """Not yet in the transaction, but for `known`, which says what reads by name give."""

    seq: int
    known: dict[str, Document | None] = field(default_factory=dict)
    """The newest version of resources that were read or written."""
    new: dict[str, Document] = field(default_factory=dict)
    """Versions by `_id`."""
    replaced: dict[str, int] = field(default_factory=dict)
    """`_id` of a version that is in the transaction already -> when the next was made."""
    parameters: ParameterSet | None = None
    """The search parameters; None as long as they are not known here."""
    defined: bool = False
    memos: list[Operation] = field(default_factory=list)
    kept: dict[tuple[str, str], Memo] = field(default_factory=dict)
    """Memos by space and key, as long as nothing has been forgotten since."""
    forgets: bool = False
    audits: list[tuple[AuditRow, int]] = field(default_factory=list)
    """Rows, each with its time."""

    def copy(self) -> "Writes":
        other = copy(self)
        other.known, other.new = dict(self.known), dict(self.new)
        other.replaced = dict(self.replaced)
        other.memos, other.audits = list(self.memos), list(self.audits)
        other.kept = dict(self.kept)
        return other

    @property
    def any(self) -> bool:
        return bool(self.new or self.replaced or self.memos or self.audits or self.defined)


class Batch:
    """The writes of one attempt to commit a group.

    Args:
        parameters: what the process knows of them.
    """

    def __init__(
        self, database: Database, within: Transaction, turn: Turn, parameters: StoredParameters
    ) -> None:
        self._database = database
        self._within = within
        self.link: Link = turn.link
        """Where the audit's chain has come to with what is in the transaction."""
        self._stored_parameters = parameters
        self._writes = Writes(turn.seq, parameters=parameters.marked(turn.mark))
        self._mark = self._writes.copy()
        self.spoilt = False
        """Something of the present work is in the transaction already."""
        self.fault: BaseException | None = None
        """What the server answered to the present work; the transaction is dead."""

    def next_work(self) -> None:
        """From here on, `take_back` takes back."""
        self._mark = self._writes.copy()
        self.spoilt = False

    def take_back(self) -> None:
        self._writes = self._mark.copy()

    def known(self, name: str) -> tuple[bool, Document | None]:
        """Whether the newest version of the resource is known here, and which it is."""
        known = self._writes.known
        return name in known, known.get(name)

    def learn(self, name: str, document: Document | None) -> None:
        self._writes.known[name] = document

    def version(self, identity: str) -> Document | None:
        """A version that is not yet in the transaction."""
        return self._writes.new.get(identity)

    def append(self, stored: StoredVersion, before: Document | None, entries: Document) -> None:
        """The version takes the place of the one before.

        Raises:
            FhirError: TOO_LARGE for what MongoDB would not take.
        """
        writes = self._writes
        seq = writes.seq + 1
        first = seq if before is None else before["first"]
        created = before is None or not before["body"]
        document = document_of(stored, seq, first, created=created)
        current = document if stored.deleted else {**document, "live": True, **entries}
        require_fit(current)
        if before is not None:
            self._replace(before["_id"], stored.last_updated)
        writes.seq = seq
        writes.new[current["_id"]] = current
        writes.known[document["resource"]] = document

    def _replace(self, identity: str, until: int) -> None:
        old = self._writes.new.get(identity)
        if old is None:
            self._writes.replaced[identity] = until
            return
        kept = {name: value for name, value in old.items() if name not in _LIVING}
        self._writes.new[identity] = {**kept, "until": until}

    async def parameters(self) -> ParameterSet:
        if self._writes.parameters is None:
            self._writes.parameters = await self._stored_parameters.current(self._within)
        return self._writes.parameters

    def define(self, parameters: ParameterSet) -> None:
        self._writes.parameters, self._writes.defined = parameters, True

    def keep(self, memo: Memo) -> None:
        self._writes.memos.append(memos.kept(memo))
        self._writes.kept[memo.space, memo.key] = memo

    def forget(self, space: str, prefix: str) -> None:
        self._writes.memos.append(memos.forgotten(space, prefix))
        self._writes.kept.clear()
        self._writes.forgets = True

    def memo(self, space: str, key: str) -> Memo | None:
        """A memo that is not yet in the transaction."""
        return self._writes.kept.get((space, key))

    @property
    def forgets(self) -> bool:
        """Whether a memo may be gone that is in the transaction still."""
        return self._writes.forgets

    def audit(self, rows: Sequence[AuditRow], at: int) -> None:
        self._writes.audits += [(row, at) for row in rows]

    async def write_out(self) -> None:
        """Everything into the transaction, where searches find it."""
        writes = self._writes
        if not writes.any:
            return
        self.spoilt = self._own
        await self._write("version", _versions(writes))
        await self._write("memo", writes.memos)
        documents, self.link = audit.chained(self.link, writes.audits)
        await self._write(audit.COLLECTION, [InsertOne(one) for one in documents])
        if writes.defined and writes.parameters is not None:
            await save(self._database, self._within, writes.parameters)
        self._writes = Writes(writes.seq, writes.known, parameters=writes.parameters)
        # Taking back to here is all that can be done now.
        self._mark = self._writes.copy()

    async def write_through(self, collection: str, operations: Sequence[Operation]) -> None:
        """Into the transaction at once; what waits is there before."""
        await self.write_out()
        self.spoilt = True
        await self._write(collection, operations)

    async def finish(self) -> int:
        """Everything into the transaction; the number of the last version."""
        await self.write_out()
        return self._writes.seq

    @property
    def _own(self) -> bool:
        """The present work has written something."""
        return self.spoilt or _written(self._mark) != _written(self._writes)

    async def _write(self, collection: str, operations: Sequence[Any]) -> None:
        if operations:
            await self._database.write(collection, operations, self._within)


def _written(writes: Writes) -> tuple[Any, ...]:
    """What every write changes."""
    defined = writes.parameters if writes.defined else None
    return writes.seq, len(writes.memos), len(writes.audits), defined


def _versions(writes: Writes) -> list[Operation]:
    # The name of the resource says which shard it is on.
    updates: list[Operation] = [
        UpdateOne(
            {"_id": {"$eq": identity}, "resource": {"$eq": identity.rpartition("/")[0]}},
            {"$set": {"until": until}, "$unset": dict.fromkeys(_LIVING, "")},
        )
        for identity, until in writes.replaced.items()
    ]
    return [*updates, *(InsertOne(document) for document in writes.new.values())]
