"""The commands that look after a store: backup, restore, check, prune.

MongoDB has tools of its own for all but the check; there the others say which. Each says on one
line what it cannot do, tells its progress, and ends with a report.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fhir_server.access.facts import remaking
from fhir_server.access.facts.kept import state as facts_state
from fhir_server.errors import FhirError
from fhir_server.events.record import RECORDS, delivered
from fhir_server.keeping import open_store
from fhir_server.settings import Settings, read_settings, sqlite_path, store_name
from fhir_server.storage.checked import Report
from fhir_server.storage.mongo.address import is_mongo
from fhir_server.storage.sqlite import backup, prune
from fhir_server.storage.sqlite import check as checks
from fhir_server.storage.sqlite.findings import Fault

_BETWEEN: Final = 1.0
"""Seconds between two lines of progress."""
_TOLD: Final = 200
"""Faults that are told one by one; the others are counted."""
_INSTEAD: Final = {
    "backup": "mongodump --oplog, or a snapshot of its volumes, backs MongoDB up",
    "restore": "mongorestore --oplogReplay restores what mongodump has made",
    "check --repair": "keyworking reindex --all makes the index of a MongoDB store anew",
    "prune": "in MongoDB every version is kept",
}
"""What to use with MongoDB."""
_DAY: Final = 24 * 60 * 60 * 1_000_000
"""In microseconds."""

Say = Callable[[str], None]


class CannotMaintain(Exception):
    """It is not done; the text says why, on one line."""


def back_up(store: str | None, target: Path, *, say: Say) -> None:
    """
    Raises:
        CannotMaintain: no backup was made.
    """
    path = _existing(_settings(store), "backup")
    with _one_line(f"{path} cannot be backed up", "no backup was made"):
        made = backup.back_up(path, target, _telling(say, "pages"))
    say(f"{path} is backed up in {target}, which was read back: {_contents(made)}")


def restore(store: str | None, source: Path, *, replace: bool, say: Say) -> None:
    """
    Raises:
        CannotMaintain: what was there before is there still.
    """
    path = _file(_settings(store), "restore")
    with _one_line(f"{source} cannot be restored to {path}", "nothing has changed"):
        made = backup.restore(source, path, _telling(say, "pages"), replace=replace)
    say(f"{path} is what was backed up in {source}: {_contents(made)}")


def check(store: str | None, *, repair: bool, say: Say) -> bool:
    """
    Returns:
        Whether the store is sound, be it that it was mended.

    Raises:
        CannotMaintain: it could not be looked at, or not to the end.
    """
    settings = _settings(store)
    if is_mongo(settings.store) and not repair:
        return _check_mongo(settings, say)
    path = _existing(settings, "check --repair" if repair else "check")
    told = 0

    def tell(fault: Fault, mended: bool) -> None:
        nonlocal told
        told += 1
        if told <= _TOLD:
            say(f"{fault} [{_outcome(fault, repair, mended)}]")

    with _one_line(f"{path} cannot be checked", "it was not looked at to the end"):
        report = checks.check(path, repair=repair, told=tell, progress=_telling(say, "resources"))
        if report.sound and os.access(path, os.W_OK):
            asyncio.run(_check_facts(settings, report, say, repair=repair))
    for line in _result(report, told):
        say(line)
    return report.sound


def _check_mongo(settings: Settings, say: Say) -> bool:
    from fhir_server.storage.mongo.check import check  # the driver is half a second

    url, told = settings.store, 0

    def tell(fault: str) -> None:
        nonlocal told
        told += 1
        if told <= _TOLD:
            say(fault)

    with _one_line(f"{store_name(url)} cannot be checked", "it was not looked at to the end"):
        report = asyncio.run(check(url, told=tell, progress=_telling(say, "versions")))
        if report.sound:
            asyncio.run(_check_facts(settings, report, say, repair=False))
    for line in _result(report, told):
        say(line)
    return report.sound


async def _check_facts(settings: Settings, report: Report, say: Say, *, repair: bool) -> None:
    """Whether the facts by which access is decided are what the resources say.

    Those of a store that has never served with tokens are made when it first does.
    """
    store = await open_store(settings, make=False)
    try:
        if not (await facts_state(store)).usable:
            return
        wrong = [ref async for ref in remaking.differences(store)]
        if wrong and repair:
            await remaking.remake(store)
    finally:
        await store.close()
    report.found += len(wrong)
    report.mended += len(wrong) if repair else 0
    outcome = "mended" if repair else "keyworking reindex --all mends it"
    for ref in wrong[:_TOLD]:
        say(f"{ref}: who may see whom by it is not what it says [{outcome}]")


def _outcome(fault: Fault, repair: bool, mended: bool) -> str:
    if mended:
        return "mended"
    if fault.cure is None or repair:
        return "not mended" if repair else "cannot be mended"
    return "--repair mends it"


def _result(report: Report, told: int) -> Iterator[str]:
    if told > _TOLD:
        yield f"... and {told - _TOLD} more"
    yield (
        f"Looked at {report.resources} resources, {report.versions} versions and "
        f"{report.entries} index entries."
    )
    if not report.found:
        yield "The store is sound."
    else:
        yield f"Faults: {report.found}, of which mended: {report.mended}."


def prune_store(store: str | None, *, dry: bool, say: Say) -> None:
    """
    Raises:
        CannotMaintain: what was taken out until then stays out.
    """
    settings = _settings(store)
    retention = _retention(settings, datetime.now(UTC))
    if is_mongo(settings.store):
        _prune_mongo(settings, retention, say, dry=dry)
        return
    path = _existing(settings, "prune")
    if retention == prune.Retention():
        say("Everything is kept: neither KEYWORKING_KEEP_HISTORY, _VERSIONS nor _AUDIT is set.")
        return
    with _one_line(f"{path} cannot be pruned", "what was taken out until then stays out"):
        followed = delivered(prune.kept_in(path, RECORDS))
        terms = replace(retention, delivered=followed)
        gone = prune.prune(path, terms, _telling(say, "resources"), dry=dry)
    did = "Would take out" if dry else "Took out"
    say(
        f"{did} {gone.versions} older versions ({gone.bytes:,} bytes) and "
        f"{gone.audit_rows} rows of the audit."
    )


def _prune_mongo(settings: Settings, retention: prune.Retention, say: Say, *, dry: bool) -> None:
    """The audit alone."""
    before = retention.audit_before
    if before is None:
        text = f"keyworking prune takes out rows of the audit alone: {_INSTEAD['prune']}"
        raise CannotMaintain(f"{text}; KEYWORKING_KEEP_AUDIT says for how long")
    if retention.superseded_before is not None:
        say(f"KEYWORKING_KEEP_HISTORY and _VERSIONS do nothing: {_INSTEAD['prune']}.")
    with _one_line(f"{store_name(settings.store)} cannot be pruned", "what went stays out"):
        count = asyncio.run(_pruned_audit(settings, before, dry=dry))
    say(f"{'Would take out' if dry else 'Took out'} {count} rows of the audit.")


async def _pruned_audit(settings: Settings, before: int, *, dry: bool) -> int:
    from fhir_server.storage.mongo.prune import prune_audit  # the driver is half a second
    from fhir_server.storage.mongo.store import MongoStore

    store = await open_store(settings, make=False)
    assert isinstance(store, MongoStore)  # noqa: S101 - its address says so
    try:
        return await prune_audit(store, before, dry=dry)
    finally:
        await store.close()


def _retention(settings: Settings, now: datetime) -> prune.Retention:
    """What the settings say; none goes that the answer to a repeated request may need."""
    moment = int(now.timestamp() * 1_000_000)
    history, newest, audit = settings.keep_history, settings.keep_versions, settings.keep_audit
    age = max((history or 0) * _DAY, settings.repeat_lifetime * 1_000_000)
    keeps_all = history is None and newest is None
    return prune.Retention(
        superseded_before=None if keeps_all else moment - age,
        newest=newest or 1,
        audit_before=None if audit is None else moment - audit * _DAY,
    )


def _settings(store: str | None) -> Settings:
    try:
        return read_settings({} if store is None else {"store": store})
    except ValueError as error:
        raise CannotMaintain(str(error)) from None


def _file(settings: Settings, command: str) -> Path:
    if not settings.store.startswith("sqlite:"):
        raise CannotMaintain(f"keyworking {command} is for SQLite stores; {_INSTEAD[command]}")
    return sqlite_path(settings.store)


def _existing(settings: Settings, command: str) -> Path:
    path = _file(settings, command)
    if not path.is_file():
        raise CannotMaintain(f"There is no store {path}")
    return path


@contextmanager
def _one_line(what: str, after: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise CannotMaintain(f"Interrupted: {after}") from None
    except backup.Unusable as error:
        raise CannotMaintain(str(error)) from None
    except (OSError, RuntimeError, ValueError, sqlite3.Error, FhirError) as error:
        raise CannotMaintain(f"{what}: {error}") from None


def _contents(made: backup.Contents) -> str:
    return f"{made.resources} resources, {made.versions} versions, {made.bytes:,} bytes"


def _telling(say: Say, what: str) -> Callable[[int, int], None]:
    """Says how far it is, now and then."""
    said = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > _BETWEEN:
            said = now
            say(f"{done} of {total} {what}, {100 * done // max(total, 1)} %")

    return told
