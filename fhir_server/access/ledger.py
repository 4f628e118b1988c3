"""The door of the authorisation server to the store: memos of its own, and nothing else.

It is no FHIR caller: it sees no resource, and no caller's memos. Its spaces begin with `auth-`,
which nobody else's do.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Memo, Reader, Store, Unit

__all__ = ["Ledger", "LedgerUnit", "Memo"]

T = TypeVar("T")
OWN: Final = "auth-"
"""What the names of its spaces begin with in the store."""


class _OwnMemos:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def memo(self, space: str, key: str) -> Memo | None:
        found = await self._reader.memo(OWN + space, key)
        return None if found is None else replace(found, space=space)

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        """At most `count`, by key, with keys above `after`."""
        found = await self._reader.memos(OWN + space, prefix, count, after)
        return [replace(memo, space=space) for memo in found]


class Ledger(_OwnMemos):
    """What the authorisation server keeps."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    async def secret(self) -> bytes:
        """32 bytes that every process on the store shares."""
        return await self._store.secret("authorisation")

    async def commit(
        self,
        who: str,
        action: str,
        work: "Callable[[LedgerUnit], Awaitable[T]]",
        address: str = "",
    ) -> T:
        """Run `work` in one commit, with a line in the audit that says who did what from where.

        `work` may be run more than once and depends on nothing but its unit.

        Raises:
            FhirError: UNAVAILABLE. And what `work` raises, with nothing written.
        """

        async def audited(unit: Unit) -> T:
            result = await work(LedgerUnit(unit))
            await unit.audit(AuditRow(who, action, address=address))
            return result

        return await self._store.commit(audited)


class LedgerUnit(_OwnMemos):
    """A commit under way."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        self._unit = unit

    async def keep(self, memo: Memo) -> None:
        await self._unit.keep(replace(memo, space=OWN + memo.space))

    async def forget(self, space: str, prefix: str) -> None:
        """Forget the memos whose keys begin with `prefix`."""
        await self._unit.forget(OWN + space, prefix)
