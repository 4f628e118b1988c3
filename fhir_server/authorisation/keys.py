"""The server's own signing keys: in the store, so that all processes and restarts share them.

A private key is sealed with a secret of the store; whoever has the whole store has both, which is
why a backup is as secret as a key. One key signs. After a rotation the key before it verifies
until the last token that it may have signed has expired.
"""

import base64
from typing import Any, Final

from cryptography.fernet import Fernet

from fhir_server.access.issued import ALGORITHM, KEYS, TOKENS
from fhir_server.access.ledger import Ledger, LedgerUnit, Memo
from fhir_server.authorisation.pairs import generated, public
from fhir_server.fhir import json

LONGEST_LIFETIME: Final = 3600
"""Seconds that a token may be good for, whatever is set."""
_SPARE: Final = 300
"""Seconds more that an old key stays, for clocks that differ."""
_MOST: Final = 20
"""Keys that are there at one time: the one that signs, and old ones."""


class TooManyKeys(ValueError):
    """So many keys are there that no other may come before one of them expires."""


async def signing_key(ledger: Ledger, now: int) -> dict[str, str]:
    """The private key that signs; the first is made when it is first asked for."""
    seal = await _seal(ledger)
    found = _signing(await ledger.memos(KEYS, "", _MOST))
    if found is None:
        new = _memo(generated(ALGORITHM), seal, now)

        async def work(unit: LedgerUnit) -> Memo:
            there = _signing(await unit.memos(KEYS, "", _MOST))
            if there is None:
                await unit.keep(new)
            return there or new

        found = await ledger.commit("server", "key-made", work)
    private: dict[str, str] = json.decode(seal.decrypt(json.decode_own(found.value)["private"]))
    return private


async def rotate(ledger: Ledger, now: int, *, at_once: bool = False) -> str:
    """Make a new key that signs from now on.

    Args:
        now: microseconds since the epoch.
        at_once: the old keys verify nothing any more, and no token that was issued is good.

    Returns:
        Its `kid`.

    Raises:
        TooManyKeys: nothing was changed.
    """
    new = _memo(generated(ALGORITHM), await _seal(ledger), now)
    until = now + (LONGEST_LIFETIME + _SPARE) * 1_000_000

    async def work(unit: LedgerUnit) -> None:
        there = await unit.memos(KEYS, "", _MOST)
        if at_once:
            await unit.forget(KEYS, "")
            await unit.forget(TOKENS, "")
        elif len(there) >= _MOST:
            raise TooManyKeys(f"{_MOST} keys are there still; the oldest goes within the hour")
        elif old := _signing(there):
            await unit.keep(Memo(KEYS, old.key, old.value, until))
        await unit.keep(new)

    await ledger.commit("operator", "key-rotate", work)
    return new.key


async def listed(ledger: Ledger) -> list[tuple[str, int, int]]:
    """Each key: its `kid`, since when it is there and when it goes, 0 for the one that signs."""
    found = await ledger.memos(KEYS, "", _MOST)
    told = [(memo.key, int(json.decode_own(memo.value)["created"]), memo.expires) for memo in found]
    return sorted(told, key=lambda one: one[1])


def _signing(memos: Any) -> Memo | None:
    return next((memo for memo in memos if not memo.expires), None)


def _memo(private: dict[str, str], seal: Fernet, now: int) -> Memo:
    sealed = seal.encrypt(json.encode(private)).decode()
    told = {"public": public(private), "private": sealed, "created": now}
    return Memo(KEYS, private["kid"], json.encode(told))


async def _seal(ledger: Ledger) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(await ledger.secret()))
