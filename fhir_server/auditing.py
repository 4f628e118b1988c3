"""`keyworking audit verify | export`: the chain gone through, and rows written to a file."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeVar

from fhir_server.access.audit import exporting
from fhir_server.access.audit.chain import Verdict, anchor, read_anchor
from fhir_server.access.audit.chain import verify as verified
from fhir_server.authorisation.signatures import is_signed_by, read
from fhir_server.errors import FhirError
from fhir_server.fhir.dates import interval
from fhir_server.keeping import open_store
from fhir_server.registering import CannotRegister, read_keys, signed_with
from fhir_server.settings import Settings, read_settings, sqlite_path, store_name
from fhir_server.storage.audited import AuditRow, Link
from fhir_server.storage.interface import Store, Unit
from fhir_server.storage.mongo.address import is_mongo

T = TypeVar("T")
Say = Callable[[str], None]
_SIGNED: Final = "keyworking-audit-anchor"
"""The `typ` of an anchor that is signed: nothing else that the key signs is one."""


class CannotAudit(Exception):
    """It is not done; the text says why, on one line."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Files of keys: the private one that signs the anchor, and the set that one is verified by."""

    private: Path | None = None
    public: Path | None = None


NOT_SIGNED: Final = Signing()


def verify(
    store: str | None, known: str | None, *, say: Say, signing: Signing = NOT_SIGNED
) -> bool:
    """
    Returns:
        Whether the chain is whole.

    Raises:
        CannotAudit: it could not be gone through.
    """
    settings = _settings(store)
    with _one_line("The audit cannot be verified"):
        place = None if known is None else _place(known, signing.public)
        verdict = asyncio.run(_with_store(settings, lambda found: verified(found, place)))
    for line in _result(verdict):
        say(line)
    if signing.private is not None and not verdict.fault:
        with _one_line("The anchor cannot be signed"):
            told = {"anchor": anchor(verdict.end), "iat": int(time.time())}
            say(f"Signed: {signed_with(signing.private, told, _SIGNED)}")
    return not verdict.fault


def _place(known: str, keys: Path | None) -> Link:
    """The place of an anchor; with keys, of one that one of them has signed.

    Raises:
        ValueError, CannotRegister.
    """
    if keys is None:
        return read_anchor(known)
    found, named = read(known), read_keys(keys)
    is_signed = any(
        key["kid"] == found.header.get("kid") and is_signed_by(found, key) for key in named
    )
    if not is_signed or found.header.get("typ") != _SIGNED:
        raise ValueError(f"the anchor is none that a key of {keys} has signed")
    return read_anchor(str(found.claims.get("anchor")))


def _result(verdict: Verdict) -> Iterator[str]:
    begin, end = verdict.begin.number, verdict.end.number
    if begin:
        yield f"Rows up to {begin} were pruned."
    yield f"Rows {begin + 1} to {end} are as they were written." if end > begin else "No rows."
    if verdict.fault:
        yield f"The chain is broken: {verdict.fault}."
    else:
        yield f"Anchor: {anchor(verdict.end)}"


def export(
    store: str | None, target: Path, *, form: str, since: str | None, until: str | None, say: Say
) -> None:
    """Rows made at or after `since` and before `until`, which are FHIR dates or times.

    Raises:
        CannotAudit: there is no whole file.
    """
    settings = _settings(store)

    async def work(found: Store) -> int:
        low, high = (None if one is None else interval(one).low for one in (since, until))
        with _private(target) as file:
            count = await _written(found, file, form, low, high)
        await found.commit(_told(f"{count} rows as {form}, from {since} until {until}"))
        return count

    with _one_line(f"The audit cannot be exported to {target}"):
        count = asyncio.run(_with_store(settings, work))
    say(f"{count} rows of the audit are in {target}.")


async def _written(store: Store, file: TextIO, form: str, low: int | None, high: int | None) -> int:
    count = 0
    if form == "csv":
        file.write(exporting.line([*exporting.COLUMNS]))
    async for entry in exporting.entries(store, low, high):
        file.write(await exporting.FORMATS[form](store, entry))
        count += 1
    return count


def _told(description: str) -> Callable[[Unit], Awaitable[None]]:
    """Whoever exports the audit is in it."""

    async def work(unit: Unit) -> None:
        await unit.audit(AuditRow("operator", "audit-export", description=description))

    return work


@contextmanager
def _private(target: Path) -> Iterator[TextIO]:
    """A new file that its owner alone may read.

    Raises:
        FileExistsError.
    """
    number = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        yield file


async def _with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    if not is_mongo(settings.store) and not sqlite_path(settings.store).is_file():
        raise ValueError(f"there is no store {store_name(settings.store)}")
    store = await open_store(settings, make=False)
    try:
        return await work(store)
    finally:
        await store.close()


def _settings(store: str | None) -> Settings:
    try:
        return read_settings({} if store is None else {"store": store})
    except ValueError as error:
        raise CannotAudit(str(error)) from None


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise CannotAudit(f"{what}: interrupted") from None
    except (OSError, RuntimeError, ValueError, FhirError, CannotRegister) as error:
        raise CannotAudit(f"{what}: {error}") from None
