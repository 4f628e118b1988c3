"""The built-in authorisation server and the FHIR interface: `--auth token` with nothing more set.

The policy is that of the scopes alone: what is refused here, no consent can give.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from jose import jwt

from fhir_server.access.caller import Caller
from fhir_server.access.ledger import Ledger
from fhir_server.access.policy import Policy
from fhir_server.app import Application, create_app
from fhir_server.authorisation import clients, keys
from fhir_server.authorisation.authority import Authority
from fhir_server.settings import Settings
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Store
from tests.access import issuing
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.test_tokens_terms import OnlyScopes
from tests.authorisation.machines import BASE, Machine
from tests.authorisation.test_ends import REVOKE, asking
from tests.stores import store_at
from tests.support import assert_outcome

FHIR: Final = f"{BASE}/fhir"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(auth="token", store=store_at(tmp_path / "test.db"))


@pytest.fixture
async def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    def of_scopes(_: Settings, caller: Caller, *__: object) -> Policy:
        return OnlyScopes(caller)

    monkeypatch.setattr("fhir_server.deciding.policy_of", of_scopes)
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


async def asked(client: httpx.AsyncClient, token: str, what: str = "CarePlan") -> httpx.Response:
    return await client.get(f"{FHIR}/{what}", headers={"authorization": f"Bearer {token}"})


def assert_not_good(answer: httpx.Response) -> None:
    assert_outcome(answer, 401, "login", "The token is not valid here")


async def test_a_token_of_the_built_in_server_is_taken_for_what_it_grants(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    token = await ward.token(client)
    assert (await asked(client, token)).status_code == 200
    assert (await asked(client, token, "Patient")).status_code == 403
    assert (await client.get(f"{FHIR}/CarePlan")).status_code == 401


async def test_a_revoked_token_is_refused_at_once_and_no_other(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    token, other = await ward.token(client), await ward.token(client)
    assert (await asked(client, token)).status_code == 200
    assert (await client.post(REVOKE, data=asking(ward, token))).status_code == 200
    assert_not_good(await asked(client, token))
    assert (await asked(client, other)).status_code == 200


@pytest.mark.parametrize("end", ["remove", "disable"])
async def test_tokens_end_with_their_client_at_once(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, end: str
) -> None:
    token = await ward.token(client)
    assert (await asked(client, token)).status_code == 200
    if end == "remove":
        await clients.remove(ledger, ward.id)
    else:
        await clients.set_disabled(ledger, ward.id, disabled=True)
    assert_not_good(await asked(client, token))


async def test_a_new_key_verifies_at_once_and_the_old_one_still(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    before = await ward.token(client)
    await keys.rotate(ledger, system_clock())
    after = await ward.token(client)
    for token in (before, after):
        assert (await asked(client, token)).status_code == 200
    await keys.rotate(ledger, system_clock(), at_once=True)
    for token in (before, after):
        assert_not_good(await asked(client, token))
    assert (await asked(client, await ward.token(client))).status_code == 200


FORGED: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "a jti that was never issued": ({"jti": "ward/made-up"}, {}),
    "no jti": ({"jti": None}, {}),
    "another audience": ({"aud": f"{BASE}/auth"}, {}),
    "another issuer": ({"iss": "https://other.example.nhs.uk/auth"}, {}),
    "expired": ({"exp": 1_700_000_000}, {}),
    "not yet": ({"nbf": 4_000_000_000}, {}),
    "a kid that is not known": ({}, {"kid": "other"}),
    "a kid with a zero byte": ({}, {"kid": "a\x00b"}),
    "a typ of something else": ({}, {"typ": "logout+jwt"}),
}


@pytest.mark.parametrize("name", FORGED)
async def test_attack_26_even_who_has_the_key_makes_no_token_that_is_good(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, name: str
) -> None:
    """One that was issued, with one thing changed and signed with the server's own key."""
    token = await ward.token(client)
    key = await keys.signing_key(ledger, 0)
    claims, headers = jwt.get_unverified_claims(token), {"kid": key["kid"], "typ": "at+jwt"}
    again = jwt.encode(claims, key, "ES384", headers)
    assert (await asked(client, again)).status_code == 200, "what is refused is the change"
    changed, headed = FORGED[name]
    told = {k: v for k, v in {**claims, **changed}.items() if v is not None}
    assert_not_good(await asked(client, jwt.encode(told, key, "ES384", {**headers, **headed})))


async def test_an_assertion_is_no_token(client: httpx.AsyncClient, ward: Machine) -> None:
    assert_not_good(await asked(client, ward.assertion()))


@pytest.mark.usefixtures("ward")
async def test_a_token_that_has_expired_is_refused(
    client: httpx.AsyncClient, authority: Authority, ledger: Ledger
) -> None:
    ago = int(time.time()) * 1_000_000 - 340 * 1_000_000
    earlier = Authority(ledger, lambda: ago, authority.terms)
    assert_not_good(await asked(client, (await earlier.issue("ward", "system/*.rs")).token))
    terms = replace(authority.terms, lifetime=400)
    longer = Authority(ledger, lambda: ago, terms)
    issued = (await longer.issue("ward", "system/*.rs")).token
    assert (await asked(client, issued)).status_code == 200


async def test_clients_are_told_where_tokens_come_from(client: httpx.AsyncClient) -> None:
    found = (await client.get(f"{FHIR}/.well-known/smart-configuration")).json()
    assert found["issuer"] == f"{BASE}/auth"
    assert found["token_endpoint"] == f"{BASE}/auth/token"
    assert found["grant_types_supported"] == ["client_credentials"]
    assert found["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert "client-confidential-asymmetric" in found["capabilities"]
    assert "authorization_endpoint" not in found
    assert (await client.get(found["jwks_uri"])).status_code == 200


@asynccontextmanager
async def beside(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another server on the same store."""
    application = create_app(settings.model_copy(update=changes))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport) as client:
            yield client


async def test_tokens_are_good_beside_those_of_another_issuer_whatever_its_claims_are_called(
    client: httpx.AsyncClient, ward: Machine, settings: Settings, tmp_path: Path
) -> None:
    token = await ward.token(client)
    known = tmp_path / "keys.json"
    known.write_bytes(key_document(rsa_signer().jwk()))
    theirs = {"issuer": ISSUER, "jwks": str(known), "claim_scope": "scp", "audience": "fhir"}
    async with beside(settings, **theirs) as other:
        assert (await asked(other, token)).status_code == 200
        now = int(time.time())
        told: dict[str, Any] = {
            "aud": "fhir",
            "exp": now + 60,
            "iat": now,
            "nbf": now,
            "scp": "system/Task.rs",
        }
        assert (await asked(other, issuing.token(**told), "Task")).status_code == 200
        mixed = {**told, "iss": f"{BASE}/auth"}
        assert_not_good(await asked(other, issuing.token(**mixed), "Task"))
        found = (await other.get(f"{FHIR}/.well-known/smart-configuration")).json()
        assert found["issuer"] == ISSUER


async def test_beside_an_issuer_that_is_always_asked_tokens_are_not_taken(
    client: httpx.AsyncClient, ward: Machine, settings: Settings
) -> None:
    nobody = {"issuer": ISSUER, "introspection_url": "http://127.0.0.1:9/"}
    secret = {"introspection_client": "us", "introspection_secret": "s"}
    async with beside(settings, **nobody, **secret) as other:
        assert (await asked(other, await ward.token(client))).status_code == 503


async def test_without_the_built_in_server_its_tokens_are_not_taken(
    client: httpx.AsyncClient, ward: Machine, store: Store, settings: Settings
) -> None:
    token = await ward.token(client)
    without = {"authorisation_server": False, "issuer": ISSUER, "jwks": "x"}
    async with beside(settings, **without) as other:
        assert_not_good(await asked(other, token))
        assert (await other.get(f"{BASE}/auth/jwks")).status_code == 404
    assert await store.memo("auth-clients", "ward/"), "it is the same store"


def test_tokens_need_an_issuer_where_the_built_in_server_is_off() -> None:
    with pytest.raises(ValueError, match="needs issuer"):
        Settings(auth="token", authorisation_server=False)
    with pytest.raises(ValueError, match="needs issuer"):
        Settings(auth="token", jwks="https://i.nhs.uk/jwks")
