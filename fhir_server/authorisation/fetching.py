"""Key sets of clients that are kept elsewhere: fetched, bounded, kept for a while.

The address is registered by whoever runs the server, never taken from a request. Where the set
cannot be had, nobody is let in by it.
"""

import asyncio
import ipaddress
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from fhir_server.access.tokens.fetching import Outgoing
from fhir_server.access.tokens.problems import CannotVerify
from fhir_server.authorisation.signatures import Key, checked_keys
from fhir_server.errors import FhirError
from fhir_server.fhir import json

Fetch = Callable[[str], Awaitable[bytes]]
"""The content of an address; raises CannotVerify where it cannot be had."""

_GOOD_FOR: Final = 300.0
"""Seconds for which a set is not asked for again."""
_AT_LEAST: Final = 10.0
"""Seconds between two fetches of one set, whoever asks with a kid that is not in it."""
_KEPT: Final = 1000
"""Sets."""
_DEPTH: Final = 10


class NoKeys(Exception):
    """The key set cannot be had, or is none; the text says why."""


@dataclass(frozen=True, slots=True)
class _Held:
    keys: tuple[Key, ...]
    since: float


def wrong_with(address: str) -> str:
    """What is wrong with the address of a key set; empty for a good one."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is no address"
    if not host or port == 0 or "@" in parts.netloc or parts.fragment or not address.isascii():
        return "has no host, or a user, a fragment, port 0 or what stands in no address"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host)):
        return ""
    return "is not https, nor http on this machine"


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class KeySets:
    """Those that were fetched.

    Args:
        fetch: in place of the network.
    """

    def __init__(self, fetch: Fetch | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._fetch = fetch or Outgoing().get
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._failed: dict[str, float] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def key(self, address: str, kid: str) -> Key | None:
        """The key of that id; the set is fetched anew where it is old, or does not have it.

        Raises:
            NoKeys: where there is no set that is new enough.
        """
        found = _of(self._fresh(address, _GOOD_FOR), kid)
        if found is not None:
            return found
        async with self._turns[address]:
            held = self._fresh(address, _AT_LEAST)
            return _of(held or await self._fetched(address), kid)

    def _fresh(self, address: str, seconds: float) -> _Held | None:
        held = self._held.get(address)
        return held if held and self._clock() - held.since < seconds else None

    async def _fetched(self, address: str) -> _Held:
        if self._clock() - self._failed.get(address, -_AT_LEAST) < _AT_LEAST:
            raise NoKeys("it could not be fetched a moment ago")
        try:
            content = await self._fetch(address)
            keys = checked_keys(json.decode(content, _DEPTH))
        except (CannotVerify, ValueError, FhirError) as error:
            self._note_failure(address)
            raise NoKeys(str(error)) from None
        held = self._held[address] = _Held(keys, self._clock())
        self._held.move_to_end(address)
        while len(self._held) > _KEPT:
            self._held.popitem(last=False)
        return held

    def _note_failure(self, address: str) -> None:
        if len(self._failed) >= _KEPT:
            self._failed.clear()
        self._failed[address] = self._clock()


def _of(held: _Held | None, kid: str) -> Key | None:
    return next((key for key in held.keys if key["kid"] == kid), None) if held else None
