"""The seal of links to further pages: authenticated encryption with a key that is made each hour.

AES-256 in Galois/Counter Mode (NIST SP 800-38D) by one call of OpenSSL. Under one key no nonce may
come twice: it is random, and an hour is far too short for that (section 8.3: 2^32 messages of one
key). The keys of all hours come of one secret, by BLAKE2b with a key (RFC 7693), so that whoever
has the secret can open what was sealed in any hour, and nobody else in one.
"""

import base64
import hashlib
import os
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HOUR: Final = 3600
_FORM: Final = b"\2"
"""The first byte of what is sealed so."""
_BEFORE: Final = b"\x80\0\0\0"
"""The first bytes of a token of Fernet, with which earlier releases sealed
(https://github.com/fernet/spec/blob/master/Spec.md)."""
_NONCE: Final = 12
_AT: Final = 8
_HEAD: Final = len(_FORM) + _AT
"""Form and time: they can be read, but not changed."""


class NotSealed(ValueError):
    """It was not sealed with this secret, or is not as it was then."""


class SealedBefore(ValueError):
    """It looks like what an earlier release sealed."""


class Seal:
    """Seals and opens with one secret of 32 bytes; made from the same, each opens what others
    have sealed."""

    def __init__(self, secret: bytes) -> None:
        def of_hour(hour: int) -> AESGCM:
            told = hour.to_bytes(_AT, "big")
            return AESGCM(
                hashlib.blake2b(told, key=secret, digest_size=32, person=b"pages").digest()
            )

        self._of_hour: Final = lru_cache(maxsize=8)(of_hour)

    def sealed(self, plain: bytes, at: int) -> str:
        """As it may stand in an address; `at` is in seconds since the epoch."""
        head, nonce = _FORM + at.to_bytes(_AT, "big"), os.urandom(_NONCE)
        closed = self._of_hour(at // _HOUR).encrypt(nonce, plain, head)
        return _text_of(head + nonce + closed)

    def opened(self, token: str) -> tuple[bytes, int]:
        """What was sealed, and when.

        Raises:
            NotSealed, SealedBefore.
        """
        raw = _bytes_of(token)
        head, nonce, closed = raw[:_HEAD], raw[_HEAD : _HEAD + _NONCE], raw[_HEAD + _NONCE :]
        if raw[:1] != _FORM or len(nonce) < _NONCE:
            raise NotSealed
        at = int.from_bytes(head[1:], "big")
        try:
            return self._of_hour(at // _HOUR).decrypt(nonce, closed, head), at
        except InvalidTag:
            raise NotSealed from None


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes_of(token: str) -> bytes:
    """Raises: NotSealed, SealedBefore.

    Base64 is read generously: what is none of it would pass as if it were not there."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        raise NotSealed from None
    if raw.startswith(_BEFORE):
        raise SealedBefore
    if _text_of(raw) != token:
        raise NotSealed
    return raw
