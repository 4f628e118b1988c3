"""An index whose content an older release extracted is made anew before anything is served.

`setting` says which content the entries have, and how far they have been made anew. Each step
may be done again: an interrupted start goes on where it ended, and several processes may do the
same work at once.
"""

from typing import Final

from pymongo import UpdateOne

from fhir_server.fhir import json
from fhir_server.search.extract import CONTENT, extract
from fhir_server.storage.mongo.documents import ENTRIES, entries
from fhir_server.storage.mongo.driver import Database, Document
from fhir_server.storage.mongo.schema import setting

BATCH: Final = 200
_INDEX: Final[Document] = {"_id": {"$eq": "index"}}
_BY_NAME: Final = (("_id", 1),)


async def bring_up_to_date(database: Database) -> int:
    """Index anew what an older release has indexed; how many resources this process took.

    Raises:
        RuntimeError: when a newer release has made the index.
    """
    taken = 0
    while True:
        index = await setting(database, "index") or {"content": CONTENT}
        if index["content"] > CONTENT:
            raise RuntimeError(
                f"The store's index has content {index['content']}; "
                f"this release knows up to {CONTENT}"
            )
        if index["content"] == CONTENT:
            return taken
        taken += await _batch(database, index["reached"])


async def _batch(database: Database, reached: str) -> int:
    asked = {"live": True, "_id": {"$gt": reached}}
    found = await database.find("version", asked, _BY_NAME, BATCH, without=ENTRIES)
    if not found:
        done = {"$set": {"content": CONTENT, "reached": ""}}
        await database.update("setting", _INDEX, done)
        return 0
    await database.write("version", [_anew(document) for document in found])
    await database.update("setting", _INDEX, {"$set": {"reached": found[-1]["_id"]}})
    return len(found)


def _anew(document: Document) -> UpdateOne:
    values = extract(json.decode_resource(document["body"]))
    made = entries(pair for pair in values if pair[0] != "_lastUpdated")
    gone = {array: "" for array in ENTRIES if array not in made}
    change = {"$set": made, "$unset": gone}
    # Only while it is current: an older version has no entries.
    identity = {name: {"$eq": document[name]} for name in ("_id", "resource", "live")}
    return UpdateOne(identity, {operator: what for operator, what in change.items() if what})
