"""The websockets of this process, by the subscription that they are bound to."""

import asyncio
from typing import Final, NamedTuple, Protocol


class Connection(Protocol):
    """One websocket."""

    async def send(self, text: str) -> None:
        """Raises an exception where it is closed."""

    async def close(self, code: int, reason: str) -> None: ...


ENDED: Final = (1000, "The subscription has ended")
TOO_SLOW: Final = (1008, "It was not taken in time")
ELSEWHERE: Final = (4001, "The subscription was bound to another server process")
EXPIRED: Final = (4002, "The token by which it was bound has expired")
"""Codes are those of https://www.rfc-editor.org/rfc/rfc6455#section-7.4; 4001 and 4002 are ours."""


class Bound(NamedTuple):
    """By which token of access a websocket was bound."""

    token: str = ""
    """Its `jti`."""
    expires: int = 0
    """When the websocket ends with it, in seconds since the epoch; 0 for never."""


class Sockets:
    """Bound websockets; `changed` is set when one is bound."""

    def __init__(self) -> None:
        self._bound: Final[dict[str, list[Connection]]] = {}
        self._by: Final[dict[tuple[str, Connection], Bound]] = {}
        self.changed: Final = asyncio.Event()

    def bind(self, key: str, connection: Connection, by: Bound) -> None:
        self._bound.setdefault(key, []).append(connection)
        self._by[key, connection] = by
        self.changed.set()

    def leave(self, connection: Connection) -> None:
        """The connection has ended."""
        for bound in [one for one in self._by if one[1] is connection]:
            del self._by[bound]
        for key, several in [*self._bound.items()]:
            rest = [one for one in several if one is not connection]
            if rest:
                self._bound[key] = rest
            else:
                del self._bound[key]

    @property
    def keys(self) -> frozenset[str]:
        """Of the subscriptions to which something is bound."""
        return frozenset(self._bound)

    def has(self, key: str) -> bool:
        return key in self._bound

    def tokens(self, key: str) -> frozenset[Bound]:
        """By which those of a subscription were bound."""
        return frozenset(by for (bound, _), by in self._by.items() if bound == key)

    async def send(self, key: str, text: str, seconds: float) -> bool:
        """Whether one took it at least; one that does not in time is closed."""
        several = [*self._bound.get(key, ())]
        taken = await asyncio.gather(*(self._sent(one, text, seconds) for one in several))
        return any(taken)

    async def _sent(self, connection: Connection, text: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await connection.send(text)
        except Exception:  # a closed one raises whatever its server likes
            await self._end(connection, TOO_SLOW)
            return False
        return True

    async def drop(self, key: str, why: tuple[int, str], by: Bound | None = None) -> None:
        """Close those of a subscription that is served elsewhere, or has ended.

        Of those that were bound by one token, where it is told.
        """
        for connection in [*self._bound.get(key, ())]:
            if by is None or self._by.get((key, connection)) == by:
                await self._end(connection, why)

    async def _end(self, connection: Connection, why: tuple[int, str]) -> None:
        self.leave(connection)
        try:
            async with asyncio.timeout(1):
                await connection.close(*why)
        except Exception:
            return
