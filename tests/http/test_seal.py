"""The seal of links: nobody without the secret opens, changes or makes one."""

import base64
from itertools import product
from typing import Final

import pytest
from cryptography.fernet import Fernet

from fhir_server.operation.seal import NotSealed, Seal, SealedBefore

SECRET: Final = bytes(range(32))
AT: Final = 1_800_000_000


def raw_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def token_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("plain", [b"", b"x", b'["Patient", "\xc3\xa9"]' * 500])
def test_what_was_sealed_is_opened_with_its_time_in_any_process(plain: bytes) -> None:
    for at in (0, AT, AT + 3599, AT + 3600, 2**40):
        sealed = Seal(SECRET).sealed(plain, at)
        assert Seal(SECRET).opened(sealed) == (plain, at)
        assert len(plain) < 9 or plain[:9] not in raw_of(sealed)


def test_the_same_is_never_sealed_alike() -> None:
    seal = Seal(SECRET)
    assert len({seal.sealed(b"same", AT) for _ in range(1000)}) == 1000


def test_another_secret_opens_nothing() -> None:
    sealed = Seal(SECRET).sealed(b"mine", AT)
    with pytest.raises(NotSealed):
        Seal(bytes(32)).opened(sealed)


def test_no_bit_can_be_changed_not_even_of_the_time() -> None:
    seal = Seal(SECRET)
    raw = raw_of(seal.sealed(b"mine", AT))
    for place, bit in product(range(len(raw)), range(8)):
        other = bytearray(raw)
        other[place] ^= 1 << bit
        with pytest.raises(NotSealed):
            seal.opened(token_of(bytes(other)))
    for end in range(len(raw)):
        with pytest.raises(NotSealed):
            seal.opened(token_of(raw[:end]))


@pytest.mark.parametrize("more", ["=", "==", "\n", " ", "A", "%", "é"])
def test_a_link_is_written_in_one_way_alone(more: str) -> None:
    seal = Seal(SECRET)
    sealed = seal.sealed(b"mine", AT)
    for other in (sealed + more, more + sealed, sealed[:9] + more + sealed[9:]):
        with pytest.raises(NotSealed):
            seal.opened(other)


def test_what_an_earlier_release_sealed_is_known() -> None:
    with pytest.raises(SealedBefore):
        Seal(SECRET).opened(Fernet(Fernet.generate_key()).encrypt(b"[]").decode())
