"""`keyworking reindex`: the index brought to what the search parameters say, in small commits."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Final

from fhir_server.access.facts import remaking
from fhir_server.errors import FhirError
from fhir_server.keeping import open_store
from fhir_server.search.parameters import ParameterSet, State
from fhir_server.settings import Settings, read_settings, sqlite_path, store_name
from fhir_server.storage.interface import Progress
from fhir_server.storage.mongo.address import is_mongo
from fhir_server.storage.remaking import remake

_BETWEEN: Final = 1.0
"""Seconds between two lines of progress."""

Say = Callable[[str], None]


class CannotReindex(Exception):
    """The store is not there, or cannot be written; the text says why."""


def reindex(store: str | None, *, whole: bool, say: Say) -> None:
    """Index what is not indexed yet; `whole`: and everything else anew.

    Raises:
        CannotReindex: what was done is kept, and the next run goes on from there.
    """
    try:
        settings = read_settings({} if store is None else {"store": store})
    except ValueError as error:
        raise CannotReindex(str(error)) from None
    name = store_name(settings.store)
    if not is_mongo(settings.store) and not sqlite_path(settings.store).is_file():
        raise CannotReindex(f"There is no store {name}")
    try:
        asyncio.run(_reindex(settings, whole, say))
    except KeyboardInterrupt:
        raise CannotReindex("Interrupted; run it again to go on") from None
    except (OSError, RuntimeError, ValueError, sqlite3.Error, FhirError) as error:
        raise CannotReindex(f"The store {name} cannot be indexed: {error}") from None


async def _reindex(settings: Settings, whole: bool, say: Say) -> None:
    store = await open_store(settings, make=False)
    try:
        did = await remake(store, whole=whole, told=_telling(say))
        if whole:
            await remaking.remake(store)
        for line in _result(await store.parameters(), did):
            say(line)
    finally:
        await store.close()


def _result(known: ParameterSet, did: bool) -> Iterator[str]:
    yield "The index is up to date." if did else "Nothing is to be done: the index is up to date."
    for one in known.account.added:
        if one.state is State.READY:
            definition = one.definition
            yield f"Searchable: {definition.code} of {', '.join(definition.bases)}"


def _telling(say: Say) -> Callable[[Progress], None]:
    """Says how far it is: first, last, and now and then."""
    said = 0.0

    def told(progress: Progress) -> None:
        nonlocal said
        now = time.monotonic()
        if progress.finished or now - said > _BETWEEN:
            said = now
            share = 100 if progress.finished else 100 * progress.done // progress.total
            say(f"{progress.done} of {progress.total} resources, {share} %")

    return told
