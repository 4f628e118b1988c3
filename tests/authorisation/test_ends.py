"""The end of tokens: revoked, expired, or with their client; and who may ask about them.

https://www.rfc-editor.org/rfc/rfc7009, https://www.rfc-editor.org/rfc/rfc7662.
"""

import time
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from jose import jwt

from fhir_server.access.caller import Caller, Grant
from fhir_server.access.issued import is_revoked
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients
from fhir_server.authorisation.authority import Authority, Terms
from fhir_server.authorisation.registered import Elsewhere, Registered
from fhir_server.storage.audited import AuditQuery
from fhir_server.storage.interface import Store
from tests.authorisation.machines import BASE, DROPPED, Machine, assert_refused, pair

REVOKE: Final = f"{BASE}/auth/revoke"
INTROSPECT: Final = f"{BASE}/auth/introspect"


def asking(machine: Machine, token: object, **changes: Any) -> dict[str, str]:
    """A form about a token."""
    return machine.form(grant_type=DROPPED, scope=DROPPED, token=token, **changes)


def jti_of(token: str) -> str:
    found: str = jwt.get_unverified_claims(token)["jti"]
    return found


@pytest.fixture
async def gate(ledger: Ledger) -> Machine:
    """A resource server that may ask about tokens, and has no scope itself."""
    machine = Machine("gate", pair("gate"))
    await machine.register(ledger, scopes="", introspects=True)
    return machine


async def told(client: httpx.AsyncClient, gate: Machine, token: str) -> dict[str, Any]:
    answer = await client.post(INTROSPECT, data=asking(gate, token))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


async def test_a_token_that_its_client_revokes_is_good_no_more(
    client: httpx.AsyncClient, ward: Machine, gate: Machine, store: Store
) -> None:
    token, other = await ward.token(client), await ward.token(client)
    assert (await told(client, gate, token))["active"] is True
    answer = await client.post(REVOKE, data=asking(ward, token, token_type_hint="refresh_token"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert await told(client, gate, token) == {"active": False}
    assert await is_revoked(store, jti_of(token))
    assert not await is_revoked(store, jti_of(other))


async def test_revoking_what_is_no_token_or_none_any_more_is_no_error(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    token = await ward.token(client)
    for what in (token, token, "x", "a.b.c", ward.assertion()):
        assert (await client.post(REVOKE, data=asking(ward, what))).status_code == 200
    answer = await client.post(REVOKE, data=asking(ward, DROPPED))
    assert_refused(answer, "invalid_request", "token is missing")


async def test_a_client_revokes_its_own_tokens_alone(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, store: Store
) -> None:
    other = Machine("ward2", pair("two"))
    await other.register(ledger)
    token = await other.token(client)
    answer = await client.post(REVOKE, data=asking(ward, token))
    assert_refused(answer, "unauthorized_client", "issued to another client")
    assert not await is_revoked(store, jti_of(token))


@pytest.mark.parametrize("address", [REVOKE, INTROSPECT])
async def test_who_asks_says_who_they_are_and_each_assertion_is_good_once(
    client: httpx.AsyncClient, gate: Machine, address: str
) -> None:
    answer = await client.post(address, data={"token": "x"})
    assert_refused(answer, "invalid_client", "say who the client is", 401)
    form = asking(gate, "x")
    assert (await client.post(address, data=form)).status_code == 200
    for again in (REVOKE, INTROSPECT):
        answer = await client.post(again, data=form)
        assert_refused(answer, "invalid_client", "its jti was used before", 401)


async def test_introspection_tells_what_the_token_says(
    client: httpx.AsyncClient, ward: Machine, gate: Machine
) -> None:
    token = await ward.token(client)
    found = await told(client, gate, token)
    assert found == {"active": True, "token_type": "bearer", **jwt.get_unverified_claims(token)}


async def test_only_a_client_that_is_registered_for_it_asks_about_tokens(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    token = await ward.token(client)
    answer = await client.post(INTROSPECT, data=asking(ward, token))
    assert_refused(answer, "unauthorized_client", "not registered to ask", 403)


async def test_introspection_of_what_this_server_did_not_sign_tells_nothing(
    client: httpx.AsyncClient, ward: Machine, gate: Machine
) -> None:
    token = await ward.token(client)
    header, claims, signature = token.split(".")
    thief = pair("thief")
    kid = jwt.get_unverified_header(token)["kid"]
    forged = jwt.encode(
        jwt.get_unverified_claims(token), thief, "ES384", {"kid": kid, "typ": "at+jwt"}
    )
    other = (await ward.token(client)).split(".")[1]
    for what in (forged, f"{header}.{other}.{signature}", f"{header}.{claims}.YQ", "x"):
        assert await told(client, gate, what) == {"active": False}


async def test_a_token_that_has_expired_is_not_active(
    client: httpx.AsyncClient, ward: Machine, gate: Machine, ledger: Ledger
) -> None:
    terms = Terms(f"{BASE}/auth", f"{BASE}/fhir", 300)
    long_ago = Authority(ledger, lambda: int(time.time() - 301) * 1_000_000, terms)
    token = (await long_ago.issue(ward.id, "system/CarePlan.rs")).token
    assert await told(client, gate, token) == {"active": False}


@pytest.mark.parametrize("end", ["remove", "disable", "replace"])
async def test_all_tokens_of_a_client_end_with_it_and_no_others(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger, store: Store, end: str
) -> None:
    similar = Machine("ward2", pair("two"))
    await similar.register(ledger)
    mine = [await ward.token(client) for _ in range(3)]
    others = await similar.token(client)
    if end == "remove":
        await clients.remove(ledger, ward.id)
    elif end == "disable":
        await clients.set_disabled(ledger, ward.id, disabled=True)
    else:
        await clients.add(ledger, ward.client(), replace=True)
    assert all([await is_revoked(store, jti_of(token)) for token in mine])
    assert not await is_revoked(store, jti_of(others))
    assert await similar.token(client), "the other client is registered still"


async def test_a_client_that_was_removed_gets_no_token(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    await clients.remove(ledger, ward.id)
    answer = await client.post(f"{BASE}/auth/token", data=ward.form())
    assert_refused(answer, "invalid_client", "no client of that id", 401)


async def test_a_token_that_was_never_issued_is_revoked(store: Store) -> None:
    assert await is_revoked(store, "ward/never")
    assert await is_revoked(store, "")


async def test_what_a_client_does_is_in_the_audit_with_its_name(
    client: httpx.AsyncClient, ward: Machine, store: Store
) -> None:
    token = await ward.token(client)
    await client.post(f"{BASE}/auth/token", data=ward.form(scope="system/Patient.rs"))
    await client.post(REVOKE, data=asking(ward, token))
    await client.post(INTROSPECT, data=asking(ward, token))
    rows = [entry.row for entry in await store.audited(AuditQuery(), 100)]
    did = [row.action for row in rows if row.caller == "ward"]
    assert did == ["token", "token-refused", "revoke", "introspect"]


async def test_what_a_token_began_ends_with_it_also_once_it_has_expired(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    """That it has expired alone ends nothing: a job takes longer than tokens live."""
    terms = Terms(f"{BASE}/auth", f"{BASE}/fhir", 300)
    long_ago = Authority(ledger, lambda: int(time.time() - 301) * 1_000_000, terms)
    told = [(await long_ago.issue(ward.id, "system/CarePlan.rs")).token for _ in range(2)]
    callers = [
        Caller(
            f"{quote(terms.base, safe='')}/{ward.id}/{ward.id}/",
            client=ward.id,
            organisation="RXX01",
            grants=(Grant("system", "CarePlan", frozenset("rs")),),
            token=jti_of(token),
        )
        for token in told
    ]
    registered = Registered(ledger, terms.base, Elsewhere(lambda: 0, 0))
    assert [await registered.caller(one) for one in callers] == callers
    answer = await client.post(REVOKE, data=asking(ward, told[0]))
    assert answer.status_code == 200
    assert [await registered.caller(one) for one in callers] == [None, callers[1]]
