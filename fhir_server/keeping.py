"""Where data is kept: the store, the audit's trail, and what decides about access in it."""

import logging
from typing import Final

from fhir_server.access.audit.syslog import Follower, Receiver
from fhir_server.access.audit.trail import Trail
from fhir_server.access.facts import remaking
from fhir_server.settings import Settings, sqlite_path
from fhir_server.storage.interface import Store
from fhir_server.storage.mongo.address import is_mongo
from fhir_server.storage.sqlite.store import SqliteStore

_log: Final = logging.getLogger(__name__)


async def open_store(settings: Settings, *, make: bool = True) -> Store:
    """The store that the settings name; without `make`, a database that has none is refused."""
    if is_mongo(settings.store):
        from fhir_server.storage.mongo.store import open_mongo  # the driver is half a second

        return await open_mongo(
            settings.store,
            patience=settings.search_patience,
            write_patience=settings.write_patience,
            make=make,
            clock=settings.clock,
            may_lag=settings.mongodb_read_from == "secondary",
        )
    return SqliteStore(
        sqlite_path(settings.store),
        clock=settings.clock,
        patience=settings.search_patience,
        write_patience=settings.write_patience,
    )


def audit_trail(settings: Settings, store: Store) -> Trail | None:
    """What takes the rows of reads and refusals, at work; None where there is no audit."""
    if settings.audit == "off":
        return None
    trail = Trail(store, strict=settings.audit == "strict", most=settings.audit_queue)
    trail.start()
    return trail


def syslog_follower(settings: Settings, store: Store) -> Follower | None:
    """What sends the audit's rows on, at work; None where no receiver is set."""
    if not settings.audit_syslog:
        return None
    follower = Follower(store, Receiver(settings.audit_syslog), settings.clock)
    follower.start()
    return follower


async def complete_facts(settings: Settings, store: Store) -> None:
    """Of a store that another release wrote; until they are complete, who has a token is denied."""
    if settings.auth == "none":
        return
    try:
        await remaking.ensure(store)
    except Exception:
        _log.exception("What decides about access could not be completed: start again")
