"""Key sets of clients that are kept elsewhere: fetched, bounded, kept for a while.

The address is registered by whoever runs the server, never taken from a request. Redirects and
proxies of the environment are not followed. Where the set cannot be had, nobody is let in by it.
"""

import asyncio
import ipaddress
import ssl
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from fhir_server.authorisation.signatures import Key, checked_keys
from fhir_server.errors import FhirError
from fhir_server.fhir import json

Fetch = Callable[[str], Awaitable[bytes]]
"""The content of an address.

Raises OSError or TimeoutError where it cannot be had.
"""

_MOST_BYTES: Final = 64 * 1024
_PATIENCE: Final = 5.0
"""Seconds that fetching may take."""
_GOOD_FOR: Final = 300.0
"""Seconds for which a set is not asked for again."""
_AT_LEAST: Final = 10.0
"""Seconds between two fetches of one set, whoever asks with a kid that is not in it."""
_KEPT: Final = 1000
"""Sets."""
_DEPTH: Final = 10
_PLAIN: Final = {"accept": "application/json", "accept-encoding": "identity"}


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
        self._fetch = fetch or fetched
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
        except (OSError, ValueError, FhirError) as error:
            self._note_failure(address)
            raise NoKeys(str(error) or type(error).__name__) from None
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


async def fetched(address: str) -> bytes:
    """The content, of at most 64 KiB within five seconds.

    Raises:
        OSError: it cannot be had; TimeoutError is one.
    """
    import httpx  # a third of a second, of those who need it

    try:
        async with (
            asyncio.timeout(_PATIENCE),
            httpx.AsyncClient(
                verify=_trust(), trust_env=False, follow_redirects=False, timeout=_PATIENCE
            ) as client,
            client.stream("GET", address, headers=_PLAIN) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise OSError("it comes in a coding that was not asked for")
            return await _content(response.status_code, response.aiter_raw())
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__}") from None


async def _content(status: int, pieces: AsyncIterator[bytes]) -> bytes:
    if status != 200:
        raise OSError(f"the answer is {status}")
    content = b""
    async for piece in pieces:
        content += piece
        if len(content) > _MOST_BYTES:
            raise OSError(f"it has more than {_MOST_BYTES} bytes")
    return content


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
