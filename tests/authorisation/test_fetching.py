"""Key sets that clients keep elsewhere: fetched when needed, bounded, and never in place of one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec
import pytest

from fhir_server.access.ledger import Ledger
from fhir_server.access.tokens.problems import CannotVerify
from fhir_server.authorisation import clients
from fhir_server.authorisation.authority import Authority
from fhir_server.authorisation.fetching import KeySets, NoKeys
from fhir_server.authorisation.pairs import public
from tests.authorisation.machines import TOKEN_URL, Machine, assert_refused, pair

ADDRESS: Final = "https://keys.example.nhs.uk/jwks"
ONE, TWO = public(pair("one")), public(pair("two"))


class Elsewhere:
    """A key set at an address, with what was asked of it; and a clock."""

    def __init__(self, *keys: dict[str, str]) -> None:
        self.keys: list[dict[str, str]] = [*keys]
        self.content: bytes | None = None
        self.fault: Exception | None = None
        self.asked: list[str] = []
        self.now = 1000.0

    async def fetch(self, address: str) -> bytes:
        self.asked.append(address)
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        return self.content or json.dumps({"keys": self.keys}).encode()

    def sets(self) -> KeySets:
        return KeySets(self.fetch, lambda: self.now)


async def test_a_set_is_fetched_once_for_five_minutes() -> None:
    there = Elsewhere(ONE)
    sets = there.sets()
    for _ in range(3):
        found = await sets.key(ADDRESS, "one")
        assert found is not None
        assert found["x"] == ONE["x"]
    assert there.asked == [ADDRESS]
    there.now += 301
    assert await sets.key(ADDRESS, "one")
    assert len(there.asked) == 2


async def test_those_that_ask_at_one_time_ask_once() -> None:
    there = Elsewhere(ONE)
    sets = there.sets()
    await asyncio.gather(*(sets.key(ADDRESS, kid) for kid in ["one", "two"] * 10))
    assert there.asked == [ADDRESS]


async def test_a_key_that_is_new_is_found_and_one_that_is_gone_is_not() -> None:
    there = Elsewhere(ONE)
    sets = there.sets()
    assert await sets.key(ADDRESS, "one")
    there.keys = [TWO]
    assert await sets.key(ADDRESS, "two") is None, "it was fetched a moment ago"
    there.now += 11
    assert await sets.key(ADDRESS, "two")
    assert await sets.key(ADDRESS, "one") is None


async def test_an_old_set_is_nothing_when_no_new_one_can_be_had() -> None:
    there = Elsewhere(ONE)
    sets = there.sets()
    assert await sets.key(ADDRESS, "one")
    there.fault = CannotVerify("away")
    there.now += 299
    assert await sets.key(ADDRESS, "one")
    there.now += 2
    for _ in range(3):
        with pytest.raises(NoKeys):
            await sets.key(ADDRESS, "one")
    assert len(there.asked) == 2, "it is left alone for a moment"
    there.fault, there.now = None, there.now + 11
    assert await sets.key(ADDRESS, "one")


@pytest.mark.parametrize(
    "content",
    [b"x", b"[]", b'{"keys": []}', b"[" * 5000, json.dumps({"keys": [pair("one")]}).encode()],
)
async def test_what_is_no_set_of_public_keys_is_none(content: bytes) -> None:
    there = Elsewhere()
    there.content = content
    with pytest.raises(NoKeys):
        await there.sets().key(ADDRESS, "one")


async def test_a_client_is_let_in_by_the_set_at_its_address_and_not_without_it(
    client: httpx.AsyncClient, authority: Authority, ledger: Ledger
) -> None:
    there, machine = Elsewhere(ONE), Machine()
    authority._sets = there.sets()
    await machine.register(ledger, keys=(), jwks_uri=ADDRESS)
    assert await machine.token(client)
    there.fault, there.now = CannotVerify("away"), there.now + 400
    answer = await client.post(TOKEN_URL, data=machine.form())
    assert_refused(answer, "invalid_client", "no client of that id", 401)


async def test_nothing_is_fetched_for_who_is_not_registered_or_disabled(
    client: httpx.AsyncClient, authority: Authority, ledger: Ledger
) -> None:
    there, machine = Elsewhere(ONE), Machine()
    authority._sets = there.sets()
    await Machine("other").register(ledger, keys=(), jwks_uri=ADDRESS)
    changes: list[dict[str, Any]] = [{}, {"headers": {"jku": ADDRESS}}]
    for change in changes:
        form = machine.form(client_assertion=machine.assertion(**change))
        assert (await client.post(TOKEN_URL, data=form)).status_code == 401
    assert there.asked == []


Respond = Callable[[asyncio.StreamWriter], None]


@asynccontextmanager
async def served(respond: Respond) -> AsyncIterator[str]:
    """The address of a server on loopback that answers like that."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        respond(writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    finally:
        server.close()


def _answering(head: str, body: bytes = b"") -> Respond:
    def respond(writer: asyncio.StreamWriter) -> None:
        lines = f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(lines.encode() + body)

    return respond


async def test_what_is_fetched_over_the_network_is_what_is_there() -> None:
    async with served(_answering("200 OK", json.dumps({"keys": [ONE]}).encode())) as address:
        found = await KeySets().key(address, "one")
    assert found is not None
    assert found["x"] == ONE["x"]


@pytest.mark.parametrize(
    ("head", "body", "problem"),
    [
        ("404 Not Found", b"{}", "answers 404"),
        ("302 Found\r\nlocation: https://keys.example.nhs.uk/", b"", "answers 302"),
        ("200 OK", b" " * 300_000, "answers more than 262144 bytes"),
        ("200 OK\r\ncontent-encoding: gzip", b"x", "comes compressed"),
    ],
)
async def test_what_is_no_answer_of_bearable_size_is_none(
    head: str, body: bytes, problem: str
) -> None:
    async with served(_answering(head, body)) as address:
        with pytest.raises(NoKeys, match=problem):
            await KeySets().key(address, "one")


async def test_nobody_there_is_none() -> None:
    async with served(_answering("200 OK")) as address:
        pass
    with pytest.raises(NoKeys, match="ConnectError"):
        await KeySets().key(address, "one")


@pytest.mark.parametrize("end", ["disable", "remove", "replace"])
async def test_who_is_no_client_any_more_when_the_keys_have_come_gets_no_token(
    client: httpx.AsyncClient, authority: Authority, ledger: Ledger, end: str
) -> None:
    """What an assertion was verified by is looked at again in the commit of the token."""
    there, machine = Elsewhere(ONE), Machine()
    registered = await machine.register(ledger, keys=(), jwks_uri=ADDRESS)

    async def fetch(_: str) -> bytes:
        if end == "disable":
            await clients.set_disabled(ledger, machine.id, disabled=True)
        elif end == "remove":
            await clients.remove(ledger, machine.id)
        else:
            anew = msgspec.structs.replace(registered, scopes="system/Task.rs")
            await clients.add(ledger, anew, replace=True)
        return await there.fetch(ADDRESS)

    authority._sets = KeySets(fetch)
    answer = await client.post(TOKEN_URL, data=machine.form())
    assert_refused(answer, "invalid_client", "no client of that id", 401)
    assert await ledger.memos("tokens") == []
