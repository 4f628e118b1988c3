"""Memos of all callers, for what the server does by itself."""

from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from fhir_server.storage.interface import Memo, Store

_AT_ONCE: Final = 1000
"""Memos that are read at one time."""


async def of_all_callers(store: Store, space: str) -> list[tuple[str, Memo]]:
    """Every memo of a space of small ones, each with the name of the caller whose it is.

    For what the server does by itself; what it does then, it does in the caller's own session.
    """
    found: list[tuple[str, Memo]] = []
    after = ""
    while some := await store.memos(space, "", _AT_ONCE, after):
        after = some[-1].key
        for memo in some:
            owner, _, key = memo.key.partition("/")
            found.append((unquote(owner), replace(memo, key=key)))
    return found
