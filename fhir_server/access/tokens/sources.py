"""Where the keys of an issuer come from, and how long they are good.

Keys are read again when a token names one that is not there, at most once in an interval, and
when they are half as old as they may be. Older than that they are no keys: a token is refused
rather than verified by keys that may be withdrawn by now.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from fhir_server.access.tokens.fetching import MOST_BYTES, Outgoing
from fhir_server.access.tokens.keys import PublicKey, key_set
from fhir_server.access.tokens.problems import CannotVerify

_log: Final = logging.getLogger(__name__)
_PAUSE: Final = 5.0
"""Seconds between two attempts while nothing can be verified."""
Load = Callable[[], Awaitable[bytes]]


class KeySource(Protocol):
    """The keys of one issuer."""

    async def find(self, kid: str) -> Sequence[PublicKey]:
        """Those of that id, none where it is not known.

        Raises:
            CannotVerify: where it cannot be found out now.
        """


class LoadedKeys:
    """Keys that are loaded as a JWK Set and kept for a while.

    Args:
        load: gives the set, or raises CannotVerify.
        interval: seconds between two attempts to load it, whatever tokens name; less while there
            are no keys that are good.
        max_age: seconds for which it is good.
    """

    def __init__(
        self,
        load: Load,
        interval: float = 60.0,
        max_age: float = 3600.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._load = load
        self._interval = interval
        self._max_age = max_age
        self._clock = clock
        self._keys: Mapping[str, tuple[PublicKey, ...]] = {}
        self._loaded: float | None = None
        self._tried: float | None = None
        self._loading = asyncio.Lock()

    async def find(self, kid: str) -> Sequence[PublicKey]:
        if not self._is_good():
            await self._reload()
        elif kid not in self._keys or self._age() > self._max_age / 2:
            await self._reload_if_free()
        if not self._is_good():
            raise CannotVerify("there are no keys that are new enough")
        return self._keys.get(kid, ())

    def _age(self) -> float:
        return float("inf") if self._loaded is None else self._clock() - self._loaded

    def _is_good(self) -> bool:
        return 0 <= self._age() < self._max_age

    async def _reload_if_free(self) -> None:
        """Whoever has keys that are good does not wait for another's attempt."""
        if not self._loading.locked():
            await self._reload()

    async def _reload(self) -> None:
        async with self._loading:
            now = self._clock()
            pause = self._interval if self._is_good() else min(self._interval, _PAUSE)
            if self._tried is not None and 0 <= now - self._tried < pause:
                return
            try:
                self._keys = key_set(await self._load())
            except (CannotVerify, ValueError) as error:
                _log.warning("The keys of the issuer of tokens cannot be read: %s", error)
            else:
                self._loaded = now
            finally:  # from its end: whoever waited for an attempt that hung begins no other
                self._tried = self._clock()


def from_file(path: Path) -> Load:
    """The set in a file, which may be replaced while the server runs."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)

    async def load() -> bytes:
        try:
            raw = await asyncio.to_thread(read)
        except OSError as error:
            raise CannotVerify(f"{path}: {error.strerror}") from None
        if len(raw) > MOST_BYTES:
            raise CannotVerify(f"{path} has more than {MOST_BYTES} bytes")
        return raw

    return load


def from_url(url: str, outgoing: Outgoing) -> Load:
    async def load() -> bytes:
        return await outgoing.get(url)

    return load
