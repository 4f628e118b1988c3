"""What is in a gzip file, from its beginning or from any place that was passed once.

A gzip file can only be read from its beginning; so the state of the decompressor is kept every few
megabytes, and a later read goes on from the last state before what it wants.
Source: https://www.rfc-editor.org/rfc/rfc1952
"""

import os
import zlib
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any, Final, NamedTuple

_PIECE: Final = 16 * 1024
"""Bytes that are read at once: at most a thousand times as many come out of them."""
_APART: Final = 2 * 1024 * 1024
"""Bytes between two states, each of which takes some 40 kB."""
_GZIP: Final = 31
"""For zlib: a gzip header and trailer, and any window."""


class _State(NamedTuple):
    """`raw` bytes of the file have been read, and `at` bytes come out of them."""

    at: int
    raw: int
    decompressor: "zlib._Decompress"


class Unzipped(RawIOBase):
    """The content of a file, which stays the one that was opened.

    As a stream it is read once, from its beginning to its end; `at` is for whatever threads.

    Args:
        most: bytes that may come out of it.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._most = most
        self._states = [_State(0, 0, zlib.decompressobj(_GZIP))]
        self._passing = self._pieces(self._states[0])
        self._rest = memoryview(b"")

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes.

        Raises:
            OSError, EOFError, zlib.error: for a file that cannot be read or is no gzip file.
        """
        if not self._rest:
            self._rest = memoryview(next(self._passing, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def at(self, offset: int, size: int) -> bytes:
        """The bytes from there; errors as `readinto`."""
        state = next(one for one in reversed(self._states) if one.at <= offset)
        found, at = bytearray(), state.at
        for piece in self._pieces(state):
            found += piece[max(offset - at, 0) : max(offset + size - at, 0)]
            at += len(piece)
            if at >= offset + size:
                break
        return bytes(found)

    def _pieces(self, state: _State) -> Iterator[bytes]:
        """What comes out after that state, which itself stays as it is."""
        at, raw, decompressor = state.at, state.raw, state.decompressor.copy()
        while piece := os.pread(self._file, _PIECE, raw):
            raw += len(piece)
            decompressor, out = _fed(decompressor, piece)
            at += len(out)
            if at > self._most:
                raise OSError(f"more than {self._most} bytes come out of it")
            if at >= self._states[-1].at + _APART:
                self._states.append(_State(at, raw, decompressor.copy()))
            if out:
                yield out
        if not decompressor.eof:
            raise EOFError("it ends too early")


def _fed(decompressor: "zlib._Decompress", piece: bytes) -> "tuple[zlib._Decompress, bytes]":
    """What comes out of the piece. After one member there may be another, or zeros."""
    out, rest = b"", piece
    if not decompressor.eof:
        out = decompressor.decompress(piece)
        rest = decompressor.unused_data
    while decompressor.eof and (rest := rest.lstrip(b"\0")):
        decompressor = zlib.decompressobj(_GZIP)
        out += decompressor.decompress(rest)
        rest = decompressor.unused_data
    return decompressor, out
