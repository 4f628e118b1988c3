"""gzip in and out, bounded: RFC 9110 section 8.4.1.3, RFC 1952."""

import asyncio
import zlib
from typing import Final

from fhir_server.errors import FhirError, Kind

CODINGS: Final = ("gzip", "x-gzip")
_LEVEL: Final = 3
"""A third of the time of the usual 6, for a sixth more bytes."""
_WORTHWHILE: Final = 1024
"""Bytes; less fits one packet anyway."""
_LARGE: Final = 256 * 1024
"""Bytes that are compressed beside the loop, which goes on meanwhile."""
_FORMAT: Final = 16 + zlib.MAX_WBITS
_MOST_MEMBERS: Final = 16
"""A stream may be several in a row; thousands of empty ones are an attack."""


class Gunzip:
    """Inflates a body piece by piece, and stops at `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._stream = zlib.decompressobj(_FORMAT)
        self._members = 0
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, raw: bytes) -> None:
        """Take the next piece.

        Raises:
            FhirError: INVALID for what is not gzip, TOO_LARGE.
        """
        while raw:
            if not self._members or self._stream.eof:
                self._begin()
            try:
                part = self._stream.decompress(raw, self._most - self._size + 1)
            except zlib.error as error:
                raise _broken(f"it is not gzip ({error})") from None
            self._size += len(part)
            if self._size > self._most:
                raise FhirError(
                    Kind.TOO_LARGE,
                    f"The body is too large once it is inflated; {self._most} bytes are allowed",
                )
            self._parts.append(part)
            raw = self._stream.unused_data

    def taken(self) -> bytes:
        """What was inflated since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def whole(self) -> bytes:
        """All of it, after the last piece.

        Raises:
            FhirError: INVALID, for a stream that was cut off.
        """
        if self._members and not self._stream.eof:
            raise _broken("it ends before the end of its gzip stream")
        return b"".join(self._parts)

    def _begin(self) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise _broken(f"it is more than {_MOST_MEMBERS} gzip streams in a row")
        self._stream = zlib.decompressobj(_FORMAT)


def _broken(text: str) -> FhirError:
    return FhirError.at(
        Kind.INVALID, "http.Content-Encoding", f"The body cannot be inflated: {text}"
    )


def is_worthwhile(body: bytes) -> bool:
    return len(body) > _WORTHWHILE


async def compressed(body: bytes) -> bytes:
    """The same bytes for the same body."""
    if len(body) < _LARGE:
        return _compressed(body)
    return await asyncio.to_thread(_compressed, body)


def _compressed(body: bytes) -> bytes:
    return zlib.compress(body, _LEVEL, _FORMAT)
