"""Collections, indexes and validators, made at start: whatever is there already stays.

Every step may be done again, and by several processes at once. See docs/decisions for what each
index is for, and for the shard key.
"""

from contextlib import suppress
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from fhir_server.search.extract import CONTENT
from fhir_server.storage.mongo.audit import COLLECTION
from fhir_server.storage.mongo.driver import Database, Document, Transaction

SCHEMA: Final = 2
"""Counts the changes of what is below."""

_UP: Final = ASCENDING
_OLDEST_WIRE: Final = 13
"""MongoDB 5.0: https://github.com/mongodb/specifications/blob/master/source/wireversion-featurelist/"""


def _living(name: str, *fields: str) -> IndexModel:
    """An index of the current versions alone."""
    return IndexModel(
        [(field, _UP) for field in fields], name=name, partialFilterExpression={"live": True}
    )


INDEXES: Final[dict[str, list[IndexModel]]] = {
    "version": [
        IndexModel([("resource", _UP), ("version", DESCENDING)], name="of_resource"),
        IndexModel([("seq", _UP)], name="in_order"),
        IndexModel([("type", _UP), ("seq", _UP)], name="of_type_in_order"),
        _living("by_first", "type", "first"),
        _living("in_first_order", "first"),
        _living("by_time", "type", "updated", "first"),
        _living("by_text", "type", "t.p", "t.c"),
        _living("by_range", "type", "r.p", "r.l", "r.h"),
        _living("by_group", "type", "g.p", "g.c0.c"),
        _living("by_contained", "type", "i.p"),
        _living("by_word", "type", "w"),
    ],
    "memo": [
        IndexModel([("space", _UP), ("key", _UP)], name="by_key", unique=True),
        IndexModel([("gone", _UP)], name="expiry", expireAfterSeconds=0),
    ],
    COLLECTION: [
        IndexModel([("names", _UP), ("_id", _UP)], name="by_name"),
        IndexModel([("at", _UP)], name="by_time"),
    ],
    "setting": [],
    "writer": [],
}

_NUMBER: Final = {"bsonType": ["int", "long"]}
_TEXT: Final = {"bsonType": "string"}
_BYTES: Final = {"bsonType": "binData"}


def _object(**properties: Document) -> Document:
    """Documents that have all of these properties, and maybe others."""
    schema = {"bsonType": "object", "required": [*properties], "properties": properties}
    return {"$jsonSchema": schema}


_VALIDATORS: Final[dict[str, Document]] = {
    "version": _object(
        _id=_TEXT,
        resource=_TEXT,
        type=_TEXT,
        id=_TEXT,
        version=_NUMBER,
        seq=_NUMBER,
        first=_NUMBER,
        updated=_NUMBER,
        method=_TEXT,
        body=_BYTES,
        created={"bsonType": "bool"},
    ),
    "memo": _object(space=_TEXT, key=_TEXT, value=_BYTES, expires=_NUMBER),
    COLLECTION: _object(
        _id=_NUMBER,
        at=_NUMBER,
        told=_BYTES,
        hash=_BYTES,
        names={"bsonType": "array", "items": _NUMBER},
    ),
    "setting": _object(_id=_TEXT),
    "writer": _object(_id=_TEXT, session={"bsonType": "object"}, beat=_NUMBER),
}


async def require_deployment(database: Database) -> None:
    """Raises RuntimeError unless this is a replica set or a sharded cluster, and new enough."""
    hello = await database.hello()
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise RuntimeError(
            "this MongoDB is neither a replica set nor a sharded cluster, and only those have "
            "transactions; start mongod with --replSet and run rs.initiate(), one member will do"
        )
    if hello["maxWireVersion"] < _OLDEST_WIRE:
        raise RuntimeError("this MongoDB is older than 5.0, which is the oldest that will do")


async def migrate(database: Database) -> None:
    """Bring the database to the newest schema, whichever process comes first.

    Raises:
        RuntimeError: when a newer release has made it.
    """
    found = await setting(database, "schema")
    done = 0 if found is None else found["number"]
    if done > SCHEMA:
        raise RuntimeError(f"The store has schema {done}; this release knows up to {SCHEMA}")
    for collection, indexes in INDEXES.items():
        await database.ensure_collection(collection, _VALIDATORS[collection])
        await database.ensure_indexes(collection, indexes)
    await ensure_setting(database, "commit", turn=0, seq=0)
    await ensure_setting(database, "index", content=CONTENT if found is None else 1, reached="")
    await ensure_setting(database, "schema", number=0)
    asked = {"_id": {"$eq": "schema"}}
    await database.update("setting", asked, {"$max": {"number": SCHEMA}})


async def require_store(database: Database) -> int:
    """The schema of the store; raises RuntimeError where there is none."""
    found = await setting(database, "schema")
    if found is None:
        raise RuntimeError("there is no store in this database; keyworking serve makes one")
    return int(found["number"])


async def setting(
    database: Database, name: str, within: Transaction | None = None
) -> Document | None:
    return await database.one("setting", {"_id": {"$eq": name}}, within=within)


async def ensure_setting(database: Database, name: str, **values: Any) -> Document:
    """The setting as it is, or with these values where there was none."""
    asked = {"_id": {"$eq": name}}
    with suppress(DuplicateKeyError):  # another process may come first, to the millisecond
        await database.update("setting", asked, {"$setOnInsert": values}, upsert=True)
    found = await setting(database, name)
    if found is None:
        raise RuntimeError(f"The database does not keep what is written to it: setting {name}")
    return found
