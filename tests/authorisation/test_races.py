"""One assertion, however many ask with it at the same time: one token."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import httpx

from fhir_server.access.issued import is_revoked, public_keys
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients, keys
from fhir_server.storage.interface import Store
from tests.authorisation.machines import BASE, TOKEN_URL, Machine, pair
from tests.authorisation.test_ends import jti_of
from tests.support import ServerProcess, opened

AT_ONCE: Final = 32


async def test_of_32_with_one_assertion_one_gets_a_token(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    form = ward.form()
    asked = [client.post(TOKEN_URL, data=form) for _ in range(AT_ONCE)]
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*asked))
    assert statuses == {200: 1, 401: AT_ONCE - 1}


async def test_of_two_processes_with_one_assertion_one_gives_a_token(tmp_path: Path) -> None:
    """Both say that they are the same server, as two behind one address do."""
    place, machine = tmp_path / "store.db", Machine()
    ours = {
        "KEYWORKING_AUTHORISATION_BASE": f"{BASE}/auth",
        "KEYWORKING_MAX_FAILURE_RATE": "0",  # the refusals are what is counted here
    }
    servers = [ServerProcess(place, tmp_path / f"{n}.log", **ours) for n in range(2)]
    store = await opened(place)
    await machine.register(Ledger(store))
    try:
        for server in servers:
            await asyncio.to_thread(server.start)
        async with httpx.AsyncClient(timeout=60) as client:
            for _ in range(5):
                assert await _statuses(client, servers, machine) == {200: 1, 401: AT_ONCE - 1}
        assert len(await public_keys(store)) == 1, "both sign with one key"
    finally:
        for server in servers:
            server.stop()
        await store.close()


async def _statuses(
    client: httpx.AsyncClient, servers: list[ServerProcess], machine: Machine
) -> Counter[int]:
    form = machine.form()
    addresses = [f"http://127.0.0.1:{server.port}/auth/token" for server in servers]
    asked = [client.post(addresses[n % 2], data=form) for n in range(AT_ONCE)]
    return Counter(answer.status_code for answer in await asyncio.gather(*asked))


async def test_of_a_client_that_is_disabled_meanwhile_no_token_stays_good(
    client: httpx.AsyncClient, ledger: Ledger, store: Store
) -> None:
    for number in range(4):
        machine = Machine(f"w{number}", pair("one"))
        await machine.register(ledger)
        asked = [client.post(TOKEN_URL, data=machine.form()) for _ in range(8)]
        ended = clients.set_disabled(ledger, machine.id, disabled=True)
        answers, _ = await asyncio.gather(asyncio.gather(*asked), ended)
        for answer in answers:
            if answer.status_code == 200:
                assert await is_revoked(store, jti_of(answer.json()["access_token"]))


async def test_of_many_that_ask_first_all_get_the_same_key(ledger: Ledger) -> None:
    made = await asyncio.gather(*(keys.signing_key(ledger, 1) for _ in range(AT_ONCE)))
    assert len({key["kid"] for key in made}) == 1
