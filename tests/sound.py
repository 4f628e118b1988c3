"""Whether a store is what whole commits leave, whoever was killed in one.

Each part of a commit is held against the others: versions by their numbers and names, the entries
that they are found by, the rows of the audit and their chain. Somebody who was killed may have left
any of them by itself.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fhir_server.access.audit.chain import verify
from fhir_server.storage.audited import AuditQuery, AuditRow
from fhir_server.storage.interface import Store, StoredVersion
from fhir_server.storage.mongo.check import check as check_mongo
from fhir_server.storage.sqlite.check import check as check_sqlite
from tests.support import stored_versions

_SQLITE: Final = "sqlite:///"
_AT_ONCE: Final = 1000


async def faults_of(address: str, store: Store) -> list[str]:
    """Nothing, where all that was ever written was written with a row of the audit."""
    found = await _checked(address)
    verdict = await verify(store)
    found += [verdict.fault] if verdict.fault else []
    return [*found, *_apart(await stored_versions(store), await rows_of(store))]


async def rows_of(store: Store) -> list[AuditRow]:
    """All of the audit, the oldest first."""
    found: list[AuditRow] = []
    after = 0
    while entries := await store.audited(AuditQuery(after=after), _AT_ONCE):
        after = entries[-1].link.number
        found += [entry.row for entry in entries]
    return found


async def _checked(address: str) -> list[str]:
    """What `keyworking check` tells."""
    told: list[str] = []
    if not address.startswith(_SQLITE):
        await check_mongo(address, told=told.append, progress=lambda *_: None)
        return told
    path = Path(address.removeprefix(_SQLITE))
    check_sqlite(
        path,
        repair=False,
        told=lambda fault, _: told.append(f"{fault.where}: {fault.text}"),
        progress=lambda *_: None,
    )
    return told


def _apart(versions: Iterable[StoredVersion], rows: Iterable[AuditRow]) -> Iterable[str]:
    there = {f"{one.type}/{one.id}/_history/{one.version}" for one in versions}
    told = {target for row in rows for target in row.targets if "/_history/" in target}
    yield from (f"{name} is in the audit, and is not there" for name in sorted(told - there))
    yield from (f"{name} is not in the audit" for name in sorted(there - told))
