"""`keyworking reconcile`: the rules look at everybody at whom nobody has looked yet."""

import asyncio
import sqlite3

from fhir_server.access import moments
from fhir_server.errors import FhirError
from fhir_server.keeping import open_store
from fhir_server.settings import Settings, read_settings, sqlite_path, store_name
from fhir_server.storage.clock import system_clock
from fhir_server.storage.mongo.address import is_mongo


class CannotReconcile(Exception):
    """The store is not there, or cannot be written; the text says why."""


def reconcile(store: str | None, *, whole: bool) -> int:
    """Have a server look at them, the one that runs or the next; how many patients those are.

    Args:
        whole: also at those for whom the next moment is known.

    Raises:
        CannotReconcile: whoever was noted is looked at; the next run goes on from there.
    """
    try:
        settings = read_settings({} if store is None else {"store": store})
    except ValueError as error:
        raise CannotReconcile(str(error)) from None
    name = store_name(settings.store)
    if not is_mongo(settings.store) and not sqlite_path(settings.store).is_file():
        raise CannotReconcile(f"There is no store {name}")
    try:
        return asyncio.run(_reconcile(settings, whole=whole))
    except (OSError, RuntimeError, ValueError, sqlite3.Error, FhirError) as error:
        raise CannotReconcile(f"The store {name} cannot be written: {error}") from None


async def _reconcile(settings: Settings, *, whole: bool) -> int:
    store = await open_store(settings, make=False)
    try:
        return await moments.look_at_all(store, system_clock(), whole=whole)
    finally:
        await store.close()
