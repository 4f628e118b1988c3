"""The memos of a store as documents: small things that the server keeps for itself.

What has expired is removed by MongoDB itself, by an index on `gone`
(https://www.mongodb.com/docs/manual/core/index-ttl/); until then it is passed over.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from pymongo import DeleteMany, ReplaceOne

from fhir_server.storage.interface import Memo
from fhir_server.storage.mongo.driver import Document
from fhir_server.storage.mongo.predicates import starting

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def kept(memo: Memo) -> ReplaceOne[Document]:
    """The operation that keeps it."""
    identity = {"space": memo.space, "key": memo.key}
    return ReplaceOne(identity, _document(memo), upsert=True)


def forgotten(space: str, prefix: str) -> DeleteMany:
    """The operation that forgets those below the prefix."""
    return DeleteMany({"space": space, "key": starting(prefix)})


def one(space: str, key: str, now: int) -> Document:
    return {"space": space, "key": key, **_alive(now)}


def several(space: str, prefix: str, after: str, now: int) -> Document:
    below: list[Document] = [{"key": starting(prefix)}, {"key": {"$gt": after}}]
    return {"space": space, "$and": below, **_alive(now)}


def memo_of(document: Document) -> Memo:
    return Memo(document["space"], document["key"], document["value"], document["expires"])


def _document(memo: Memo) -> Document:
    document: Document = {
        "space": memo.space,
        "key": memo.key,
        "value": memo.value,
        "expires": memo.expires,
    }
    if memo.expires:
        document["gone"] = _EPOCH + timedelta(microseconds=memo.expires)
    return document


def _alive(now: int) -> Document:
    return {"$or": [{"expires": {"$eq": 0}}, {"expires": {"$gt": now}}]}
