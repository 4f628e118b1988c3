"""Index entries made anew, in batches: what is interrupted goes on.

`step` goes through the resources beside live traffic, as `storage.remaking` asks, each step in a
commit. An index whose content an older release extracted is made anew before anything is served
(`bring_up_to_date`): there each step may be done again, and several processes that start at once
may do the same work. `setting` says how far each of the two has come.
"""

from typing import Final

from pymongo import UpdateOne

from fhir_server.fhir import json
from fhir_server.search.extract import CONTENT, extract
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import Progress
from fhir_server.storage.mongo.batch import Batch
from fhir_server.storage.mongo.documents import ENTRIES, entries
from fhir_server.storage.mongo.driver import Database, Document
from fhir_server.storage.mongo.parameters import StoredParameters
from fhir_server.storage.mongo.reader import TransactionReader
from fhir_server.storage.mongo.schema import setting

BATCH: Final = 200
_MOST: Final = 500
"""Resources in one step, however many are asked for: their bodies are in memory together."""
_APART: Final = 4
_REMAKING: Final[Document] = {"_id": {"$eq": "remaking"}}
_INDEX: Final[Document] = {"_id": {"$eq": "index"}}
_BY_NAME: Final = (("_id", 1),)


async def step(
    reader: TransactionReader, batch: Batch, known: ParameterSet, count: int
) -> Progress:
    """Some more resources of a remaking, all their entries; what waited is written out.

    What was made after it began has a higher `first` than it goes to, and all its entries.
    """
    remaking = known.account.remaking
    assert remaking is not None  # noqa: S101 - the contract says so
    place = await reader.setting("remaking")
    if place is None or place["number"] != remaking.number:
        place = {"number": remaking.number, "reached": 0, "until": await reader.last_first()}
    most = min(count, _MOST)
    # No further than that at a time: of what was updated often, the numbers are far apart.
    end = min(place["reached"] + most * _APART, place["until"])
    found = await reader.following(place["reached"], end, most)
    reached = found[-1]["first"] if len(found) == most else end
    changes = [_anew(document, known) for document in found]
    await batch.write_through("version", [one for one in changes if one is not None])
    change = {"$set": {**place, "reached": reached}}
    await batch.write_through("setting", [UpdateOne(_REMAKING, change, upsert=True)])
    return Progress(reached, place["until"])


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
    found = await database.find("version", asked, _BY_NAME, BATCH)
    if not found:
        done = {"$set": {"content": CONTENT, "reached": ""}}
        await database.update("setting", _INDEX, done)
        return 0
    known = await StoredParameters(database).current()
    changes = [one for document in found if (one := _anew(document, known)) is not None]
    if changes:
        await database.write("version", changes)
    await database.update("setting", _INDEX, {"$set": {"reached": found[-1]["_id"]}})
    return len(found)


def _anew(document: Document, known: ParameterSet) -> UpdateOne | None:
    """What puts its entries right; None where they are."""
    resource = json.decode_resource(document["body"])
    values = [*extract(resource), *known.values(resource)]
    made = entries(pair for pair in values if pair[0] != "_lastUpdated")
    if made == {name: document[name] for name in ENTRIES if name in document}:
        return None
    gone = {array: "" for array in ENTRIES if array not in made}
    change = {"$set": made, "$unset": gone}
    # Only while it is current: an older version has no entries.
    identity = {name: {"$eq": document[name]} for name in ("_id", "resource", "live")}
    return UpdateOne(identity, {operator: what for operator, what in change.items() if what})
