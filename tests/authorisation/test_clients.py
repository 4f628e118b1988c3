"""Registrations: what is wrong with one is told with what is allowed, and nothing is kept."""

import base64
from typing import Any, Final

import pytest

from fhir_server.access.ledger import Ledger
from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session
from fhir_server.authorisation import clients
from fhir_server.authorisation.clients import BadClient
from fhir_server.authorisation.pairs import public
from fhir_server.storage.interface import Store
from tests.authorisation.machines import Machine, pair

GOOD: Final = public(pair("one"))
RSA: Final = public(pair("rsa", "RS384"))


def number(value: int, size: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(size, "big")).rstrip(b"=").decode()


BAD: Final[list[tuple[dict[str, Any], str]]] = [
    ({"id": ""}, "id '' is not 1 to 64 letters"),
    ({"id": "a/b"}, "id 'a/b' is not"),
    ({"id": "ward\n"}, "is not 1 to 64 letters"),
    ({"id": "w" * 65}, "is not 1 to 64 letters"),
    ({"name": "two\nlines"}, "not on one line"),
    ({"keys": ()}, "either a key set or the address of one"),
    ({"jwks_uri": "https://keys.example.nhs.uk"}, "either a key set or the address of one"),
    ({"keys": (), "jwks_uri": "http://keys.example.nhs.uk"}, "is not https"),
    ({"keys": (), "jwks_uri": "file:///etc/passwd"}, "has no host"),
    ({"keys": (), "jwks_uri": "https://me@keys.example.nhs.uk/"}, "a user"),
    ({"keys": (), "jwks_uri": "https://127.0.0.1.example.nhs.uk:0/"}, "port 0"),
    ({"keys": (pair("one"),)}, "keys[0] is a private or symmetric key"),
    ({"keys": ({"kty": "oct", "k": "c2VjcmV0", "kid": "a"},)}, "private or symmetric key"),
    ({"keys": ({**GOOD, "kty": "OKP"},)}, "kty is RSA or EC"),
    ({"keys": ({**GOOD, "kid": ""},)}, "each a text that is not empty"),
    ({"keys": (GOOD, GOOD)}, "two keys of the set have the same kid"),
    ({"keys": ({**GOOD, "use": "enc"},)}, "use is sig"),
    ({"keys": ({**GOOD, "alg": "ES256"},)}, "alg is one of RS256"),
    ({"keys": ({**GOOD, "alg": "HS256"},)}, "alg is one of RS256"),
    ({"keys": ({**GOOD, "crv": "secp256k1", "alg": "ES256"},)}, "alg is one of"),
    ({"keys": ({"kid": "a", **{n: GOOD[n] for n in ("kty", "x", "y")}, "crv": "P-1"},)}, "crv is"),
    ({"keys": ({**GOOD, "x": number(5, 48)},)}, "not a point of its curve"),
    ({"keys": ({**GOOD, "x": "a+b/"},)}, "not base64url"),
    ({"keys": ({**RSA, "n": number(2**1023 + 1, 128)},)}, "2048 to 8192 bits"),
    ({"keys": ({**RSA, "e": "AQ"},)}, "exponent of an RSA key is 65537"),
    ({"scopes": ""}, "a client has one at least"),
    ({"scopes": "openid"}, "'openid' is no scope that is known"),
    ({"scopes": "user/Task.rs"}, "registered for a user"),
    ({"scopes": "patient/*.rs"}, "registered for a patient"),
    ({"ods_code": "rxx"}, "ods_code 'rxx' is not"),
    ({"roles": ("god",)}, "role 'god' is not one of administrator, auditor"),
    ({"purposes": ("FUN",)}, "purpose 'FUN' is not one of BIORCH"),
    ({"user": "Practitioner"}, "is not a reference such as Practitioner/12"),
    ({"user": "Device/1"}, "is not a reference such as Practitioner/12"),
    ({"patient": "a b"}, "is not the id of a resource"),
]


@pytest.mark.parametrize(("changes", "problem"), BAD)
async def test_a_registration_that_does_not_fit_is_refused(
    ledger: Ledger, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadClient) as refused:
        await Machine().register(ledger, **changes)
    assert problem in str(refused.value)
    assert [one async for one in clients.every(ledger)] == []


async def test_all_that_is_wrong_is_told_at_once(ledger: Ledger) -> None:
    with pytest.raises(BadClient) as refused:
        await Machine().register(ledger, scopes="x", ods_code="x", roles=("x",))
    for problem in ("scopes: ", "ods_code ", "role "):
        assert problem in str(refused.value)


async def test_clients_are_listed_found_and_removed_one_by_one(ledger: Ledger) -> None:
    for name in ("ward", "ward2", "ward.a", "w"):
        await Machine(name).register(ledger)
    await clients.remove(ledger, "ward")
    assert [one.id async for one in clients.every(ledger)] == ["w", "ward.a", "ward2"]
    assert await clients.find(ledger, "ward") is None
    assert await clients.find(ledger, "ward/") is None
    found = await clients.find(ledger, "ward2")
    assert found is not None
    assert found.scopes == "system/CarePlan.rs"


async def test_more_clients_than_are_read_at_once_are_listed(ledger: Ledger) -> None:
    sound = clients.checked(Machine().client())
    for number in range(201):
        await clients.add(ledger, Machine(f"c{number:03}").client(keys=sound.keys))
    assert len([one async for one in clients.every(ledger)]) == 201


async def test_a_registration_is_kept_in_one_form_of_scopes(ledger: Ledger) -> None:
    client = await Machine().register(ledger, scopes="system/Task.read system/Task.rs")
    assert client.scopes == "system/Task.rs"


async def test_a_second_client_of_one_id_is_refused(ledger: Ledger) -> None:
    await Machine().register(ledger)
    with pytest.raises(BadClient, match="there is a client 'ward'"):
        await Machine().register(ledger)


async def test_what_is_not_there_cannot_be_changed(ledger: Ledger) -> None:
    for change in (clients.remove(ledger, "x"), clients.set_disabled(ledger, "x", disabled=True)):
        with pytest.raises(BadClient, match="there is no client 'x'"):
            await change


async def test_no_session_reaches_what_the_authorisation_server_keeps(
    ledger: Ledger, store: Store
) -> None:
    """Whatever the caller's name is, and by the names that the ledger has for its spaces."""
    await Machine("anonymous").register(ledger)
    for name in ("anonymous", ""):
        session = Session(store, Caller(name), OpenPolicy())
        for space in ("clients", "keys", "tokens", "assertions"):
            assert await session.memos(space) == []
            assert await session.memo(space, "") is None


async def test_the_authorisation_server_reaches_no_memo_of_others(
    ledger: Ledger, store: Store
) -> None:
    await Machine().register(ledger)
    assert await store.memos("clients") == []
    assert len(await store.memos("auth-clients")) == len(await ledger.memos("clients")) == 1
    assert await ledger.memos("auth-clients") == []
