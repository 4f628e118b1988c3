"""The account of the added search parameters, as the database keeps it.

Beside it lies a mark that each change makes anew: where a process knows the mark, it knows the
account, and whoever takes a turn to commit is told the mark with it.
"""

import uuid
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from fhir_server.search.ast import Queries, Search
from fhir_server.search.parameters import BUILT_IN, Account, ParameterSet, is_added
from fhir_server.storage.mongo.driver import Database, Document, Transaction

_PARAMETERS: Final[Document] = {"_id": {"$eq": "parameters"}}


class StoredParameters:
    """What one process knows of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mark = ""
        self._known = BUILT_IN

    def marked(self, mark: str) -> ParameterSet | None:
        """Those of the mark, where they are known."""
        return self._known if mark == self._mark else None

    async def current(self, within: Transaction | None = None) -> ParameterSet:
        found = await self._database.one("setting", _PARAMETERS, None, within)
        mark = found["mark"] if found else ""
        if mark != self._mark:
            # A mark that was taken back is never given again: what is known of it does no harm.
            account = msgspec.json.decode(found["account"], type=Account) if found else Account()
            self._known, self._mark = ParameterSet(account), mark
        return self._known


async def save(database: Database, within: Transaction, known: ParameterSet) -> None:
    change = {"mark": uuid.uuid4().hex, "account": msgspec.json.encode(known.account)}
    await database.update("setting", _PARAMETERS, {"$set": change}, upsert=True, within=within)
    commit = {"_id": {"$eq": "commit"}}
    await database.update("setting", commit, {"$set": {"mark": change["mark"]}}, within=within)


def added_indexes(search: Search) -> set[str]:
    """The index codes in a search that belong to parameters that were added at run time."""
    parts = search.parts if isinstance(search, Queries) else (search,)
    codes = [code for part in parts for code in _codes(part.where)]
    return {code for code in (*codes, *(key.code for key in search.sort)) if is_added(code)}


def _codes(node: Any) -> Iterator[str]:
    code = getattr(node, "code", None)
    if code is not None:
        yield code
    inner = getattr(node, "node", None)
    for one in (*getattr(node, "nodes", ()), *(() if inner is None else (inner,))):
        yield from _codes(one)
