"""What an import takes in: lines, kept in parts as they come, and counted."""

from collections.abc import AsyncIterator, Awaitable, Callable

from fhir_server.errors import FhirError, Kind
from fhir_server.jobs.record import PART

Keep = Callable[[int, bytes], Awaitable[None]]
"""Keeps a part, by its number and content."""


class Inlet:
    """Looks only at how long the lines are.

    Parts of `PART` bytes, cut wherever that is; the last may be shorter.

    Args:
        most: bytes of a line.
    """

    def __init__(self, most: int, keep: Keep) -> None:
        self._most = most
        self._keep = keep
        self._waiting = bytearray()
        self._open = 0
        """Bytes of the line that is not ended yet."""
        self._parts = 0
        self.lines = 0

    async def take_all(self, pieces: AsyncIterator[bytes]) -> None:
        """Take all of it.

        Raises:
            FhirError: TOO_LARGE for a line that is longer than a resource may be; what `pieces`
                raises.
        """
        async for piece in pieces:
            self._measure(piece)
            self._waiting += piece
            while len(self._waiting) >= PART:
                await self._keep_first(PART)
        if self._waiting:
            await self._keep_first(len(self._waiting))
        if self._open:
            self.lines += 1

    async def _keep_first(self, size: int) -> None:
        await self._keep(self._parts, bytes(self._waiting[:size]))
        del self._waiting[:size]
        self._parts += 1

    def _measure(self, piece: bytes) -> None:
        ended, _, rest = piece.rpartition(b"\n")
        if len(rest) < len(piece):
            for text in ended.split(b"\n"):
                self._grow(len(text))
                self.lines += 1
                self._open = 0
        self._grow(len(rest))

    def _grow(self, size: int) -> None:
        self._open += size
        if self._open > self._most:
            text = f"Line {self.lines + 1} is too long; {self._most} bytes are allowed"
            raise FhirError(Kind.TOO_LARGE, text)
