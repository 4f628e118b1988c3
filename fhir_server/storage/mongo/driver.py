"""The one file that knows motor: what the backend asks of a MongoDB client.

Motor is to be followed by pymongo's own asynchronous client; docs/decisions has how far the two
are apart. Names of operations, errors and concerns come from pymongo, which both share.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
)
from pymongo import DeleteMany, DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import CollectionInvalid, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference, SecondaryPreferred
from pymongo.results import UpdateResult
from pymongo.write_concern import WriteConcern

from fhir_server.storage.mongo.address import options_of, unsecret

Document = dict[str, Any]
Operation = InsertOne[Document] | UpdateOne | ReplaceOne[Document] | DeleteOne | DeleteMany
Order = Sequence[tuple[str, int]]

_MAJORITY: Final = WriteConcern("majority")
_SNAPSHOT: Final = ReadConcern("snapshot")
_SELECTION: Final = 5_000
"""Milliseconds to look for a primary, and to wait for a connection."""
_A_SECONDARY: Final = SecondaryPreferred(max_staleness=90)
"""90 seconds is the least that MongoDB takes:
https://www.mongodb.com/docs/manual/core/read-preference-staleness/"""
_COMMIT_WAIT: Final = 0.05


class Transaction:
    """A session that transactions run in, one after the other.

    Snapshot reads, majority writes, all on the primary.
    """

    def __init__(self, raw: AsyncIOMotorClientSession) -> None:
        self.raw: Final = raw

    @property
    def id(self) -> Mapping[str, Any]:
        """What the server knows the session by."""
        found: Mapping[str, Any] = self.raw.delegate.session_id
        return found

    def begin(self) -> None:
        self.raw.start_transaction(_SNAPSHOT, _MAJORITY, ReadPreference.PRIMARY)

    async def commit(self, patience: float) -> None:
        """Commit; where the answer is lost, ask again: a commit is made once however often asked.

        Raises:
            PyMongoError: labelled "UnknownTransactionCommitResult" when it stays unknown.
        """
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            try:
                await self.raw.commit_transaction()
            except PyMongoError as error:
                unknown = error.has_error_label("UnknownTransactionCommitResult")
                if not unknown or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_COMMIT_WAIT)
            else:
                return

    async def abort(self) -> None:
        if self.raw.delegate.in_transaction:
            await self.raw.abort_transaction()

    async def end(self) -> None:
        await self.raw.end_session()


class Database:
    """One database: what is asked without a transaction is committed by the majority.

    Args:
        url: of a replica set or sharded cluster.
        answer_within: seconds after which a connection that does not answer is given up.
        from_secondary: read from one that is not far behind, where there is one; never write.

    Raises:
        ValueError: for what the driver does not take.
    """

    def __init__(
        self, url: str, name: str, answer_within: float, *, from_secondary: bool = False
    ) -> None:
        given = options_of(url)
        bounds = {
            "serverselectiontimeoutms": _SELECTION,
            "connecttimeoutms": _SELECTION,
            "sockettimeoutms": int(answer_within * 1000),
        }
        options: Any = {name: most for name, most in bounds.items() if name not in given}
        self._client = _client(url, options)
        self._database = self._client.get_database(
            name,
            read_concern=ReadConcern("majority"),
            write_concern=_MAJORITY,
            read_preference=_A_SECONDARY if from_secondary else ReadPreference.PRIMARY,
        )
        self._from_secondary = from_secondary

    def close(self) -> None:
        self._client.close()

    async def hello(self) -> Document:
        return dict(await self._client.admin.command("hello"))

    async def parameter(self, name: str) -> Any:
        """A parameter of the server; None where it may not be known."""
        try:
            found = await self._client.admin.command({"getParameter": 1, name: 1})
        except OperationFailure:  # the rights of readWrite are not enough for it
            return None
        return found.get(name)

    async def session(self) -> Transaction:
        return Transaction(await self._client.start_session(causal_consistency=False))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads: one state of the whole database.

        A secondary has no transactions, but sessions that read from one state.
        """
        if self._from_secondary:
            session = Transaction(await self._client.start_session(snapshot=True))
            try:
                yield session
            finally:
                await session.end()
            return
        session = await self.session()
        try:
            session.begin()
            yield session
            # What was read is known to be the majority's once this is through.
            await session.commit(0)
        finally:
            await session.end()

    async def one(
        self,
        collection: str,
        asked: Document,
        order: Order | None = None,
        within: Transaction | None = None,
        without: Sequence[str] = (),
    ) -> Document | None:
        found: Document | None = await self._of(collection).find_one(
            asked, _leaving_out(without), sort=order, session=_raw(within)
        )
        return found

    async def find(
        self,
        collection: str,
        asked: Document,
        order: Order,
        count: int,
        within: Transaction | None = None,
        without: Sequence[str] = (),
        milliseconds: int = 0,
    ) -> list[Document]:
        cursor = self._of(collection).find(
            asked,
            _leaving_out(without),
            sort=order,
            limit=count,
            session=_raw(within),
            max_time_ms=milliseconds or None,
        )
        return [*await cursor.to_list(None)]

    async def aggregate(
        self,
        collection: str,
        stages: Sequence[Document],
        within: Transaction | None = None,
        milliseconds: int = 0,
    ) -> list[Document]:
        more = {"maxTimeMS": milliseconds} if milliseconds else {}
        cursor = self._of(collection).aggregate([*stages], session=_raw(within), **more)
        return [*await cursor.to_list(None)]

    async def write(
        self, collection: str, operations: Sequence[Operation], within: Transaction | None = None
    ) -> None:
        """In this order, in as few messages as they fit in."""
        await self._of(collection).bulk_write([*operations], session=_raw(within))

    async def update(
        self,
        collection: str,
        asked: Document,
        change: Document,
        *,
        upsert: bool = False,
        within: Transaction | None = None,
    ) -> int:
        """How many documents fitted."""
        result: UpdateResult = await self._of(collection).update_one(
            asked, change, upsert=upsert, session=_raw(within)
        )
        return result.matched_count

    async def changed(
        self, collection: str, asked: Document, change: Document, within: Transaction
    ) -> Document | None:
        """Change one document; what it was before."""
        found: Document | None = await self._of(collection).find_one_and_update(
            asked, change, session=_raw(within)
        )
        return found

    async def delete(self, collection: str, asked: Document) -> None:
        await self._of(collection).delete_many(asked)

    async def command(self, command: Mapping[str, Any]) -> Document:
        return dict(await self._database.command({**command}))

    async def ensure_collection(self, name: str, validator: Document) -> None:
        """Make the collection unless it is there, and have it refuse what does not fit."""
        try:
            await self._database.create_collection(name, validator=validator)
        except CollectionInvalid:
            await self.command({"collMod": name, "validator": validator})

    async def ensure_indexes(self, collection: str, indexes: Sequence[IndexModel]) -> None:
        if indexes:
            await self._of(collection).create_indexes([*indexes])

    async def index_names(self, collection: str) -> set[str]:
        return {*await self._of(collection).index_information()}

    def _of(self, collection: str) -> AsyncIOMotorCollection[Document]:
        return self._database[collection]


def _client(url: str, options: Document) -> AsyncIOMotorClient[Document]:
    """
    Raises:
        ValueError: for an option that the driver does not know either, which it would only warn
            of: without `tls` that is mistyped, passwords would go over the network as they are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return AsyncIOMotorClient(url, appname="keyworking", **options)
    except (PyMongoError, OSError, ValueError, TypeError, UserWarning) as error:
        raise ValueError(f"MongoDB's driver does not take it: {unsecret(error, url)}") from None


def _raw(within: Transaction | None) -> AsyncIOMotorClientSession | None:
    return None if within is None else within.raw


def _leaving_out(fields: Sequence[str]) -> Document | None:
    return dict.fromkeys(fields, 0) or None
