"""What stands before the authorisation server: bounds on who asks, and rows of who is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.ledger import Ledger
from fhir_server.app import Application, create_app
from fhir_server.settings import Settings
from fhir_server.storage.audited import AuditQuery, AuditRow
from tests.authorisation.machines import BASE, DROPPED, TOKEN_URL, Machine, assert_refused, pair
from tests.authorisation.test_ends import INTROSPECT, REVOKE
from tests.stores import store_at

JWKS: Final = f"{BASE}/auth/jwks"


@pytest.fixture
def changes() -> dict[str, Any]:
    """Of the settings."""
    return {"max_failure_rate": 0.001, "max_failure_burst": 3}


@pytest.fixture
async def app(tmp_path: Path, changes: dict[str, Any]) -> AsyncIterator[Application]:
    store = store_at(tmp_path / "test.db")
    application = create_app(Settings(auth="token", store=store, **changes))
    async with application.router.lifespan_context(application):
        yield application


async def rows(app: Application) -> list[AuditRow]:
    await app.state.trail.flushed()
    return [entry.row for entry in await app.state.store.audited(AuditQuery(), 1000)]


def assert_told_to_wait(answer: httpx.Response) -> None:
    assert_refused(answer, "temporarily_unavailable", "try again in", 429)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("address", [TOKEN_URL, REVOKE, INTROSPECT])
async def test_who_fails_too_often_is_told_to_wait_before_any_work(
    app: Application, client: httpx.AsyncClient, ward: Machine, address: str
) -> None:
    thief = Machine(ward.id, pair("thief"))
    for _ in range(3):
        refused = await client.post(address, data=thief.form(token="x"))
        assert refused.status_code == 401
    before = await rows(app)
    assert_told_to_wait(await client.post(address, data=thief.form(token="x")))
    assert_told_to_wait(await client.post(address, data=ward.form(token="x")))
    assert await rows(app) == before, "who is told to wait writes nothing"


async def test_what_is_no_form_counts_as_a_failure(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        assert (await client.post(TOKEN_URL, content=b"{}")).status_code == 400
    assert_told_to_wait(await client.post(TOKEN_URL, content=b"{}"))


async def test_failures_with_tokens_and_for_tokens_are_counted_together(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    for _ in range(3):
        answer = await client.get(f"{BASE}/fhir/Patient", headers={"authorization": "Bearer x"})
        assert answer.status_code == 401
    assert_told_to_wait(await client.post(TOKEN_URL, data=ward.form()))


async def test_what_a_known_client_is_refused_is_no_failure_and_has_one_row(
    app: Application, client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    other = Machine("other", pair("other"))
    await other.register(ledger)
    token = await other.token(client)
    before = len(await rows(app))
    for _ in range(2):
        form = ward.form(scope="system/Patient.rs")
        assert (await client.post(TOKEN_URL, data=form)).status_code == 400
        foreign = ward.form(token=token, scope=DROPPED, grant_type=DROPPED)
        assert (await client.post(REVOKE, data=foreign)).status_code == 400
        foreign = ward.form(token=token, scope=DROPPED, grant_type=DROPPED)
        assert (await client.post(INTROSPECT, data=foreign)).status_code == 403
    left = (await rows(app))[before:]
    assert [(row.caller, row.address) for row in left] == [("ward", "127.0.0.1")] * 6
    assert await ward.token(client)


async def test_a_stranger_who_is_refused_is_in_the_audit(
    app: Application, client: httpx.AsyncClient, ward: Machine
) -> None:
    thief = Machine(ward.id, pair("thief"))
    form = thief.form(token="x")
    await client.post(TOKEN_URL, data=form)
    await client.post(REVOKE, data={"token": "x"})
    token, revoke = (await rows(app))[-2:]
    assert (token.caller, token.action, token.outcome) == ("unknown", "token", "4")
    assert token.asked == "POST /auth/token"
    assert token.address == "127.0.0.1"
    assert token.description.startswith("401 invalid_client: client_assertion: no client")
    assert form["client_assertion"] not in repr(token)
    assert (revoke.action, revoke.asked) == ("revoke", "POST /auth/revoke")


@pytest.mark.parametrize("changes", [{"audit": "strict"}])
async def test_the_refusal_of_a_stranger_waits_for_its_row_where_the_audit_is_strict(
    app: Application, client: httpx.AsyncClient
) -> None:
    assert (await client.post(TOKEN_URL, data={"grant_type": "x"})).status_code == 400
    assert app.state.trail.behind == 0


async def test_while_the_audit_cannot_be_written_nobody_is_refused(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.trail, "_most", 0)
    answer = await client.post(TOKEN_URL, data={"grant_type": "x"})
    assert_refused(answer, "temporarily_unavailable", "audit cannot be written", 503)


@pytest.mark.parametrize("changes", [{"max_rate": 0.001, "max_burst": 3}])
@pytest.mark.parametrize("address", [JWKS, f"{BASE}/.well-known/oauth-authorization-server/auth"])
async def test_every_request_counts(client: httpx.AsyncClient, ward: Machine, address: str) -> None:
    assert await ward.token(client)
    for _ in range(2):
        assert (await client.get(address)).status_code == 200
    assert_told_to_wait(await client.get(address))
    assert_told_to_wait(await client.post(TOKEN_URL, data=ward.form()))


@pytest.mark.parametrize(
    "changes",
    [{"max_rate": 0.001, "max_burst": 1, "trusted_proxies": ["127.0.0.1"]}],
)
async def test_behind_a_proxy_each_client_has_its_own_bound(client: httpx.AsyncClient) -> None:
    async def asked(*addresses: str) -> int:
        headers = [("x-forwarded-for", one) for one in addresses]
        return (await client.get(JWKS, headers=headers)).status_code

    assert await asked("10.0.0.1") == 200
    assert await asked("10.0.0.2") == 200
    assert await asked("10.0.0.1") == 429
    assert await asked("10.0.0.3", "10.0.0.1") == 429, "the last one is what the proxy tells"
