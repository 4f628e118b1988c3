"""`keyworking mllp` over TLS: a real client on loopback, with and without certificates."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from fhir_server.mllp import CannotListen, Listener, Listening
from fhir_server.settings import Settings
from tests.cli.test_tls import Authority, authority
from tests.operations.chart import Chart
from tests.operations.test_adt import ADMITTED, adt
from tests.operations.test_mllp import END, framed

__all__ = ["authority"]


@pytest.fixture
def how(app: FastAPI, settings: Settings, authority: Authority) -> Listening:
    certificate, key = authority.issue("listener")
    transport = httpx.ASGITransport(app=app)
    senders = {"ZZK03": "ZZK03"}
    told = Listening(settings.base, senders, port=0, within=20, client=transport)
    return replace(told, certificate=certificate, key=key)


def _client(authority: Authority, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if shown is not None:
        context.load_cert_chain(*shown)
    return context


async def _said(how: Listening, message: str, client: ssl.SSLContext) -> bytes:
    async with Listener(how) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client)
        try:
            writer.write(framed(message))
            return await asyncio.wait_for(reader.readuntil(END), 30)
        finally:
            writer.close()


async def test_messages_are_taken_over_tls(
    chart: Chart, how: Listening, authority: Authority
) -> None:
    admission = adt("A01", chart.nhs_number, ADMITTED)
    assert b"MSA|AA|" in await _said(how, admission, _client(authority))
    assert await chart.colour() == "blue"


async def test_a_client_that_does_not_trust_it_or_speaks_plainly_is_not_served(
    how: Listening,
) -> None:
    with pytest.raises(ssl.SSLError):
        await _said(how, "MSH|", ssl.create_default_context())
    async with Listener(how) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(framed("MSH|"))
        assert END not in await asyncio.wait_for(_rest(reader), 30)
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_sender_shows_a_certificate_where_that_is_asked_for(
    chart: Chart, how: Listening, authority: Authority, tmp_path: Path
) -> None:
    asking = replace(how, client_ca=authority.file)
    admission = adt("A01", chart.nhs_number, ADMITTED)
    stranger = Authority(tmp_path, "Stranger").issue("stranger")
    for client in (_client(authority), _client(authority, stranger)):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _said(asking, admission, client)
    assert await chart.colour() == "amber"
    known = _client(authority, authority.issue("ward"))
    assert b"MSA|AA|" in await _said(asking, admission, known)


def test_certificates_of_senders_need_tls(how: Listening, authority: Authority) -> None:
    plain = replace(how, certificate=None, key=None, client_ca=authority.file)
    with pytest.raises(CannotListen, match="--certificate too"):
        Listener(plain)
