"""The signing keys: one for all processes, sealed, rotated without a gap."""

import time
from typing import Any, Final

import httpx
import pytest
from jose import jwt

from fhir_server.access.issued import is_revoked, public_keys
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import keys
from fhir_server.storage.interface import Reader, Store
from tests.authorisation.machines import BASE, Machine

_SECOND: Final = 1_000_000


def now() -> int:
    return int(time.time()) * _SECOND


async def published(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get(f"{BASE}/auth/jwks")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=60"
    found: list[dict[str, Any]] = answer.json()["keys"]
    return found


def verified(token: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, {"keys": found}, algorithms=["ES384"], audience=f"{BASE}/fhir"
    )
    return claims


async def test_there_is_a_key_from_the_first_question_on(
    client: httpx.AsyncClient, store: Store
) -> None:
    first = await published(client)
    assert len(first) == 1
    assert await published(client) == first == await public_keys(store)


async def test_the_private_key_is_neither_published_nor_in_the_store_as_it_is(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    await ward.token(client)
    (key,) = await published(client)
    assert key.keys() == {"kty", "crv", "x", "y", "alg", "kid", "use"}
    private = await keys.signing_key(ledger, now())
    (memo,) = await ledger.memos("keys")
    assert private["d"].encode() not in memo.value


async def test_a_new_key_signs_and_tokens_of_the_old_one_are_good_until_they_expire(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, store: Store
) -> None:
    before = await ward.token(client)
    kid = await keys.rotate(ledger, now())
    after = await ward.token(client)
    assert jwt.get_unverified_header(after)["kid"] == kid
    assert jwt.get_unverified_header(before)["kid"] != kid
    found = await published(client)
    assert len(found) == 2
    for token in (before, after):
        assert not await is_revoked(store, verified(token, found)["jti"])


async def test_an_old_key_goes_when_no_token_of_it_can_be_good(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    await ward.token(client)
    ago = now() - (keys.LONGEST_LIFETIME + 100) * _SECOND
    first = await keys.rotate(ledger, ago)
    assert len(await published(client)) == 2, "a token of the last moment may be good still"
    await keys.rotate(ledger, ago - 300 * _SECOND)
    assert first not in {key["kid"] for key in await published(client)}


async def test_a_stolen_key_verifies_nothing_and_ends_all_tokens(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, store: Store
) -> None:
    token = await ward.token(client)
    kid = await keys.rotate(ledger, now(), at_once=True)
    assert [key["kid"] for key in await published(client)] == [kid]
    assert await is_revoked(store, jwt.get_unverified_claims(token)["jti"])
    assert not await is_revoked(store, jwt.get_unverified_claims(await ward.token(client))["jti"])


async def test_a_token_that_is_signed_with_a_stolen_key_is_not_one_that_was_issued(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, store: Store
) -> None:
    token = await ward.token(client)
    stolen = await keys.signing_key(ledger, now())
    claims = {**jwt.get_unverified_claims(token), "jti": "ward/made-up"}
    forged = jwt.encode(claims, stolen, "ES384", {"kid": stolen["kid"], "typ": "at+jwt"})
    assert await is_revoked(store, verified(forged, await published(client))["jti"])


async def test_keys_are_bounded(ledger: Ledger) -> None:
    for _ in range(20):
        await keys.rotate(ledger, now())
    with pytest.raises(keys.TooManyKeys):
        await keys.rotate(ledger, now())
    listed = await keys.listed(ledger)
    assert len(listed) == 20
    assert [goes for _, _, goes in listed].count(0) == 1


async def test_what_is_asked_of_each_request_is_one_memo(store: Store) -> None:
    read: list[str] = []

    class Counting:
        async def memo(self, space: str, key: str) -> None:
            read.append(f"{space} {key}")

    counting: Any = Counting()
    reader: Reader = counting
    assert await is_revoked(reader, "ward/x")
    assert read == ["auth-tokens ward/x"]
    assert await is_revoked(store, "ward/x")
