"""A database gone through: is every version there, readable, and the current one rightly indexed.

It goes on beside live traffic: some resources at a time are looked at, in one state of the
database. Nothing is mended here: an index is made anew by `keyworking reindex --all`, and what else
is wrong, only a backup has.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final, TypeVar

from pymongo.errors import PyMongoError

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.dates import instant
from fhir_server.search.extract import extract
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.checked import Report
from fhir_server.storage.mongo.address import database_name
from fhir_server.storage.mongo.documents import ARRAYS, CONTAINED, ENTRIES, entries
from fhir_server.storage.mongo.driver import Database, Document, Transaction
from fhir_server.storage.mongo.faults import passing, refused, why_not
from fhir_server.storage.mongo.parameters import StoredParameters
from fhir_server.storage.mongo.schema import (
    INDEXES,
    SCHEMA,
    require_deployment,
    require_store,
    setting,
)

T = TypeVar("T")

_BATCH: Final = 200
_ANSWER_WITHIN: Final = 60.0
"""Seconds; MongoDB ends a snapshot that is older."""
_ATTEMPTS: Final = 5
_BY_RESOURCE: Final = (("resource", 1), ("version", 1))
_NEWEST: Final = (("seq", -1),)
_NAMED: Final = (*ARRAYS, CONTAINED)
"""Arrays whose entries say which parameter they are of."""
_RESTORE: Final = "only a backup has what was there"
_START: Final = "the start of a server makes it"
_REINDEX: Final = "keyworking reindex --all makes it anew"

Told = Callable[[str], None]
"""A fault: where, and what; names and numbers, nothing of what resources say."""
Progress = Callable[[int, int], None]
"""Versions looked at, of so many."""


async def check(url: str, *, told: Told, progress: Progress) -> Report:
    """Go through the database that the address names.

    Raises:
        ValueError: for an address that is none.
        RuntimeError: where there is no store of this release, or MongoDB does not answer.
    """
    database = Database(url, database_name(url), _ANSWER_WITHIN)
    try:
        await require_deployment(database)
        schema = await require_store(database)
        if schema != SCHEMA:
            raise RuntimeError(f"the store has schema {schema}; this release knows {SCHEMA}")
        return await _Check(database, told, progress).run()
    except PyMongoError as error:
        raise RuntimeError(why_not(error) or refused(error, "be read")) from None
    finally:
        database.close()


class _Check:
    def __init__(self, database: Database, told: Told, progress: Progress) -> None:
        self._database = database
        self._told = told
        self._progress = progress
        self._parameters = StoredParameters(database)
        self._report = Report()

    async def run(self) -> Report:
        await self._indexes()
        total = await self._at_once(self._numbers)
        after = ""
        while found := await self._at_once(partial(self._following, after)):
            known, versions = found
            for name, group in groupby(versions, itemgetter("resource")):
                self._look(name, [*group], known)
                after = name
            self._progress(self._report.versions, max(total, self._report.versions))
        return self._report

    async def _at_once(self, question: Callable[[Transaction], Awaitable[T]]) -> T:
        """The answer of one state of the database; asked again where MongoDB says so."""
        for _ in range(_ATTEMPTS - 1):
            try:
                async with self._database.snapshot() as within:
                    return await question(within)
            except PyMongoError as error:
                if not passing(error):
                    raise
        async with self._database.snapshot() as within:
            return await question(within)

    async def _indexes(self) -> None:
        for collection, indexes in INDEXES.items():
            there = await self._database.index_names(collection)
            for index in indexes:
                name = index.document["name"]
                if name not in there:
                    self._tell(
                        collection, f"index {name} is missing; a start of the server makes it"
                    )

    async def _numbers(self, within: Transaction) -> int:
        """Every version has a number of its own, and none is without one; how many there are."""
        counted = await self._database.aggregate("version", [{"$count": "versions"}], within)
        count = int(counted[0]["versions"]) if counted else 0
        newest = await self._database.one("version", {}, _NEWEST, within, ENTRIES)
        highest = 0 if newest is None else int(newest["seq"])
        commit = await setting(self._database, "commit", within)
        last = -1 if commit is None else commit["seq"]
        if not count == highest == last:
            self._tell(
                "version",
                f"there are {count} versions, the last has number {highest}, and the last commit "
                f"ended with {last}; {_RESTORE}",
            )
        return count

    async def _following(
        self, after: str, within: Transaction
    ) -> tuple[ParameterSet, list[Document]] | None:
        """All versions of some more resources, by name and version."""
        asked = {"resource": {"$gt": after}}
        without = (*ENTRIES, "body")
        found = await self._database.find("version", asked, _BY_RESOURCE, _BATCH, within, without)
        if not found:
            return None
        names = sorted({one["resource"] for one in found})
        of_these = {"resource": {"$in": names}}
        versions = await self._database.find("version", of_these, _BY_RESOURCE, 0, within)
        return await self._parameters.current(within), versions

    def _look(self, name: str, versions: Sequence[Document], known: ParameterSet) -> None:
        self._report.resources += 1
        self._report.versions += len(versions)
        self._report.entries += sum(len(versions[-1].get(array, ())) for array in _NAMED)
        for text in _faults(versions, known):
            self._tell(name, text)

    def _tell(self, where: str, text: str) -> None:
        self._report.found += 1
        self._told(f"{where}: {text}")


def _faults(versions: Sequence[Document], known: ParameterSet) -> Iterator[str]:
    """Of all versions of one resource, the oldest first."""
    if versions[0]["version"] != 1:
        yield f"what lies before version {versions[0]['version']} is missing; {_RESTORE}"
    for before, one in pairwise(versions):
        yield from _order_faults(before, one)
    for number, one in enumerate(versions):
        created = not number or not versions[number - 1]["body"]
        if one["created"] != created or one["first"] != versions[0]["seq"]:
            yield f"version {one['version']} does not say what came before it; {_RESTORE}"
        yield from _body_faults(one)
    yield from _place_faults(versions)
    yield from _entry_faults(versions[-1], known)


def _order_faults(before: Document, one: Document) -> Iterator[str]:
    if one["version"] != before["version"] + 1:
        yield f"versions {before['version']} and {one['version']} follow each other; {_RESTORE}"
    if one["seq"] <= before["seq"] or one["updated"] <= before["updated"]:
        yield f"version {one['version']} is not later than the one before; {_RESTORE}"
    if before.get("until") != one["updated"]:
        yield f"version {before['version']} does not end where the next begins; {_RESTORE}"


def _body_faults(one: Document) -> Iterator[str]:
    name = f"version {one['version']}"
    if not one["body"] or one["method"] == "DELETE":
        if one["body"] or one["method"] != "DELETE":
            yield f"{name} is half a deletion; {_RESTORE}"
        return
    try:
        resource = json.decode_resource(one["body"])
    except FhirError as error:
        yield f"{name} cannot be read ({error}); {_RESTORE}"
        return
    meta = resource.get("meta")
    told = meta if isinstance(meta, dict) else {}
    said = (resource.get("id"), told.get("versionId"), told.get("lastUpdated"))
    name_said = f"{resource['resourceType']}/{resource.get('id')}/{one['version']}"
    expected = (one["id"], str(one["version"]), instant(one["updated"]))
    if said != expected or name_said != one["_id"]:
        yield f"{name} has another name, version or time than its document; {_RESTORE}"


def _place_faults(versions: Sequence[Document]) -> Iterator[str]:
    """Only the current version can be found, and none does where it is a deletion."""
    for one in versions:
        current = one is versions[-1]
        if one.get("live", False) != (current and bool(one["body"])):
            said = "not the current" if current else "the current"
            yield f"version {one['version']} says that it is {said}; {_RESTORE}"
        if not current and any(array in one for array in ENTRIES):
            yield f"version {one['version']} is indexed, and is not the current; {_REINDEX}"
    if "until" in versions[-1]:
        yield f"version {versions[-1]['version']} has ended, and none follows; {_RESTORE}"


def _entry_faults(current: Document, known: ParameterSet) -> Iterator[str]:
    """Entries of parameters that are not searched yet are looked at by nobody."""
    made: Document = {}
    if current["body"]:
        try:
            resource = json.decode_resource(current["body"])
        except FhirError:
            return
        values = [*extract(resource), *known.values(resource)]
        made = entries(pair for pair in values if pair[0] != "_lastUpdated")
    for array in ENTRIES:
        if _searchable(made, array, known) != _searchable(current, array, known):
            yield f"its index entries ({array}) are not those of its content; {_REINDEX}"


def _searchable(document: Document, array: str, known: ParameterSet) -> object:
    found = document.get(array, [])
    if array not in _NAMED:
        return found
    return _in_order([one for one in found if known.is_searchable(one["p"])])


def _in_order(found: Any) -> Any:
    """In one order, which says nothing: another release may have found them in another."""
    if isinstance(found, dict):
        return {name: _in_order(found[name]) for name in sorted(found)}
    return sorted(map(_in_order, found), key=repr) if isinstance(found, list) else found
