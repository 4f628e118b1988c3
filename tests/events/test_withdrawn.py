"""What is left of notices, websockets and jobs once a token is revoked or its client is other.

The client is the built-in authorisation server's, which knows what it may have by now.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from fhir_server.access.facts import remaking
from fhir_server.access.ledger import Ledger
from fhir_server.app import Application, create_app
from fhir_server.authorisation import clients
from fhir_server.settings import Settings
from tests.access.conftest import stored
from tests.access.deciding import about
from tests.access.issuing import ISSUER, IssuerProcess, claims, key_document, rsa_signer, token
from tests.access.people import child, consent, member, ods, team
from tests.authorisation.machines import DROPPED, Machine
from tests.clock import go_ahead
from tests.events.receiving import (
    QUICK,
    Quiet,
    Receiver,
    has_status,
    subscribed,
    subscription,
    until,
)
from tests.jobs import finished
from tests.stores import store_at
from tests.support import assert_outcome, create, free_port

SCOPES: Final = "system/*.cruds"
TODAY: Final = datetime.now(UTC).date()
OWN: Final = consent(
    basis="consent",
    outcome=None,
    dateTime=(TODAY - timedelta(days=2)).isoformat(),
    provision={"type": "permit"},
)


class Region:
    """A server, and a client of an organisation that is in a care team."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self.app = app
        self.base = settings.base
        self.auth = settings.authorisation
        self.machine = Machine(token_url=f"{self.auth}/token")
        self.ledger = Ledger(app.state.store)
        self.client = httpx.AsyncClient(base_url=f"{self.base}/")

    async def begin(self) -> None:
        await remaking.ensure(self.app.state.store)
        born = f"{TODAY.year - 17}-01-01"
        await stored(self.app, child("1", born=born), team(member(ods("X99"))), OWN)
        await self.machine.register(self.ledger, scopes=SCOPES, ods_code="X99")
        await self.sign_in()

    async def sign_in(self) -> str:
        self.client.headers.pop("authorization", None)
        token = await self.machine.token(self.client, scope=SCOPES)
        self.client.headers["authorization"] = f"Bearer {token}"
        return token

    async def revoke(self, token: str) -> None:
        form = self.machine.form(grant_type=DROPPED, scope=DROPPED, token=token)
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{self.auth}/revoke", data=form)).status_code == 200

    async def change(self, **more: Any) -> None:
        known = await clients.find(self.ledger, self.machine.id)
        assert known is not None
        told = {name: getattr(known, name) for name in known.__struct_fields__} | more
        await clients.add(self.ledger, clients.Client(**told), replace=True)

    async def write(self, kind: str, resource_id: str) -> None:
        await stored(self.app, about(kind, resource_id, "1", status="active", intent="plan"))

    async def error(self, made: str) -> str:
        """Why the subscription is suspended, as it is stored; '' where it is not."""
        found = await self.app.state.store.read("Subscription", made)
        return str(json.loads(found.body).get("error", ""))


async def _until_closed(socket: ClientConnection) -> list[str]:
    async with asyncio.timeout(60):
        return [str(text) async for text in socket]


@pytest.fixture
def asked() -> Iterator[IssuerProcess]:
    """Who says whether an opaque token is good."""
    with IssuerProcess().running() as process:
        yield process


@pytest.fixture
async def region(tmp_path: Path, receiver: Receiver, asked: IssuerProcess) -> AsyncIterator[Region]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    settings = Settings(
        auth="token",
        store=store_at(tmp_path / "test.db"),
        port=free_port(),
        keyworking_profiles=False,
        notices_to=(receiver.origin,),
        issuer=ISSUER,
        jwks=str(keys),
        introspection_url=asked.url,
        introspection_client="fhir",
        introspection_secret="s3cret",
        introspection_cache=1,
        token_outlived=5,
        **QUICK,
    )
    app = create_app(settings)
    config = uvicorn.Config(app, port=settings.port, log_level="critical", ws="websockets-sansio")
    server = Quiet(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    found = Region(app, settings)
    await found.begin()
    yield found
    await found.client.aclose()
    server.should_exit = True
    await task


async def test_class_30_a_client_that_is_disabled_is_told_nothing_and_why(
    region: Region, receiver: Receiver
) -> None:
    made = await subscribed(region.client, subscription("CarePlan?status=active", receiver.origin))
    await region.write("CarePlan", "first")
    await until(lambda: receiver.focuses)
    known = len(receiver.got)
    await clients.set_disabled(region.ledger, region.machine.id, True)
    await region.write("CarePlan", "second")
    await until(lambda: region.error(made))
    assert len(receiver.got) == known
    await clients.set_disabled(region.ledger, region.machine.id, False)
    await region.sign_in()
    found = (await region.client.get(f"Subscription/{made}")).json()
    assert found["status"] == "error"
    assert "removed, disabled or registered otherwise" in found["error"]
    assert (await region.client.post(f"Subscription/{made}/$resume")).status_code == 200
    await until(lambda: receiver.focuses[-1:] == ["CarePlan/second"])


@pytest.mark.parametrize("how", ["removed", "organisation"])
async def test_class_30_so_is_one_that_is_removed_or_anothers_now(
    region: Region, receiver: Receiver, how: str
) -> None:
    made = await subscribed(region.client, subscription("plan-changed", receiver.origin))
    if how == "removed":
        await clients.remove(region.ledger, region.machine.id)
    else:
        await region.change(ods_code="Y11")
    await region.write("CarePlan", "first")
    await until(lambda: region.error(made))
    assert receiver.focuses == []


async def test_class_30_a_notice_is_cut_to_what_the_client_may_have_by_now(
    region: Region, receiver: Receiver
) -> None:
    """And the token by which it was written may be revoked: it is the client's since."""
    made = await subscribed(region.client, subscription("plan-changed", receiver.origin))
    await region.revoke(region.client.headers["authorization"].removeprefix("Bearer "))
    await region.change(scopes="system/Goal.rs system/Subscription.rs")
    await region.write("CarePlan", "hidden")
    await region.write("Goal", "shown")
    await until(lambda: receiver.focuses)
    await asyncio.sleep(0.1)
    assert receiver.focuses == ["Goal/shown"]
    assert await region.error(made) == ""


async def _binding(region: Region, made: str) -> tuple[str, str]:
    """Where a websocket is, and what binds it."""
    answer = await region.client.post(f"Subscription/{made}/$get-ws-binding-token")
    told = {one["name"]: one for one in answer.json()["parameter"]}
    return told["websocket-url"]["valueUrl"], told["token"]["valueString"]


async def test_class_30_a_websocket_ends_with_the_token_that_bound_it(region: Region) -> None:
    made = await subscribed(region.client, subscription("plan-changed", type="websocket"))
    shown = await region.sign_in()
    url, bound = await _binding(region, made)
    _, late = await _binding(region, made)
    async with connect(url, proxy=None) as socket, connect(url, proxy=None) as second:
        await socket.send(f"bind-with-token {bound}")
        assert "handshake" in str(await socket.recv())
        await region.revoke(shown)
        await region.write("CarePlan", "first")
        assert all("CarePlan" not in text for text in await _until_closed(socket))
        await second.send(f"bind-with-token {late}")
        assert "forbidden" in str(await second.recv())


async def test_class_30_one_of_another_issuers_token_ends_when_that_expires(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether it was revoked before."""
    now = int(time.time())
    told: dict[str, Any] = {"iat": now, "scope": SCOPES, "ods_code": "X99", "aud": region.base}
    region.client.headers["authorization"] = f"Bearer {token(**told, exp=now + 300)}"
    made = await subscribed(region.client, subscription("plan-changed", type="websocket"))
    url, bound = await _binding(region, made)
    _, late = await _binding(region, made)
    async with connect(url, proxy=None) as socket, connect(url, proxy=None) as second:
        await socket.send(f"bind-with-token {bound}")
        assert "handshake" in str(await socket.recv())
        go_ahead(monkeypatch, 300_000_000)
        with pytest.raises(ConnectionClosedError, match=r"4002 \(private use\) The token"):
            await _until_closed(socket)
        await second.send(f"bind-with-token {late}")
        assert "forbidden" in str(await second.recv())
    assert await region.error(made) == ""


async def test_class_30_a_subscription_of_another_issuer_is_suspended_some_time_after_its_token(
    region: Region, receiver: Receiver
) -> None:
    """Which has expired already, as far as clocks may differ; $resume goes on with that of then."""
    now = int(time.time())
    told: dict[str, Any] = {"iat": now - 90, "scope": SCOPES, "ods_code": "X99", "aud": region.base}
    region.client.headers["authorization"] = f"Bearer {token(**told, exp=now - 15)}"
    wanted = subscription("CarePlan?status=active", receiver.origin)
    made = (await create(region.client, wanted))["id"]
    await until(lambda: region.error(made))
    assert "of an issuer elsewhere, is revoked or expired" in await region.error(made)
    assert receiver.got == []
    region.client.headers["authorization"] = f"Bearer {token(**told, exp=now + 300)}"
    assert (await region.client.post(f"Subscription/{made}/$resume")).status_code == 200
    await until(lambda: has_status(region.client, made, "active"))
    await region.write("CarePlan", "first")
    await until(lambda: receiver.focuses == ["CarePlan/first"])


async def test_class_30_a_websocket_ends_where_the_issuer_says_no_to_its_token(
    region: Region, asked: IssuerProcess
) -> None:
    """Of an opaque token, which has its issuer to be asked about until it expires."""
    now = int(time.time())
    told = claims(aud=region.base, iat=now, nbf=now, exp=now + 300, scope=SCOPES, ods_code="X99")
    asked.answer = json.dumps({"active": True, **told}).encode()
    region.client.headers["authorization"] = "Bearer 0paque"
    made = await subscribed(region.client, subscription("plan-changed", type="websocket"))
    url, bound = await _binding(region, made)
    async with connect(url, proxy=None) as socket:
        await socket.send(f"bind-with-token {bound}")
        assert "handshake" in str(await socket.recv())
        asked.answer = b'{"active": false}'
        assert await _until_closed(socket) == []
        assert socket.close_code == 1000
    assert await region.error(made) == ""


async def test_class_26_a_job_ends_with_the_token_that_began_it(region: Region) -> None:
    await region.write("CarePlan", "first")
    jobs = region.app.state.jobs
    await jobs.stop()
    begun = {}
    for name in ("revoked", "kept"):
        token = await region.sign_in()
        sent = await region.client.get("$export", headers={"prefer": "respond-async"})
        begun[name] = sent.headers["content-location"]
        if name == "revoked":
            await region.revoke(token)
    jobs.start()
    ended = await finished(region.client, begun["revoked"])
    assert_outcome(ended, 403, "forbidden", "may not do any more")
    assert (await finished(region.client, begun["kept"])).status_code == 200
