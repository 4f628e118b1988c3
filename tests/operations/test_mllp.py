"""`keyworking mllp`: frames over a real socket, handed on to a server."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI

from fhir_server.cli import main
from fhir_server.mllp import CannotListen, Listener, Listening
from fhir_server.settings import Settings
from tests.operations.chart import Chart, everything
from tests.operations.test_adt import ADMITTED, HOME, adt

START, END = b"\x0b", b"\x1c\r"


@pytest.fixture
def how(app: FastAPI, settings: Settings) -> Listening:
    transport = httpx.ASGITransport(app=app)
    return Listening(settings.base, {"ZZK03": "ZZK03"}, port=0, within=20, client=transport)


async def talk(how: Listening, *sent: bytes) -> list[bytes]:
    """Answers to these bytes on one connection, without their frames; b'' where it was closed."""
    async with Listener(how) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        answers = []
        for one in sent:
            writer.write(one)
            try:
                frame = await asyncio.wait_for(reader.readuntil(END), 30)
            except (asyncio.IncompleteReadError, ConnectionError):
                answers.append(b"")
                break
            assert frame.startswith(START)
            answers.append(frame[1 : -len(END)])
        writer.close()
        return answers


def framed(message: str) -> bytes:
    return START + message.encode() + END


async def test_hands_on_what_comes_and_acknowledges_it(chart: Chart, how: Listening) -> None:
    admission = adt("A01", chart.nhs_number, ADMITTED)
    leaving = adt("A03", chart.nhs_number, HOME, pv1_37="19")
    answers = await talk(how, framed(admission) + b"\r\n", framed(leaving), framed(leaving))
    assert [b"MSA|AA|" in answer for answer in answers] == [True] * 3
    assert ((await chart.stay())["status"], await chart.colour()) == ("finished", "red")
    (answer,) = await talk(how, framed(admission + leaving))
    assert b"MSA|AE|" in answer


async def test_who_is_not_named_may_not_send(chart: Chart, how: Listening) -> None:
    before = await everything(chart.store)
    other = adt("A01", chart.nhs_number, ADMITTED).replace("|PAS|ZZK03|", "|PAS|OTHER|")
    (answer,) = await talk(how, framed(other))
    assert f"MSA|AR|A01-{ADMITTED:%Y%m%d%H%M%S}".encode() in answer
    assert await everything(chart.store) == before


async def test_what_is_wrong_is_ae_and_the_connection_goes_on(chart: Chart, how: Listening) -> None:
    wrong = adt("A01", chart.nhs_number, ADMITTED, pv1_19="", control="1")
    right = adt("A01", chart.nhs_number, ADMITTED, control="2")
    answers = await talk(how, framed(wrong), framed(right))
    assert b"MSA|AE|1|" in answers[0]
    assert b"PV1^1^19" in answers[0]
    assert b"MSA|AA|2|" in answers[1]


async def test_no_frame_too_large_a_frame_and_too_slow_a_frame_close_it(how: Listening) -> None:
    assert await talk(how, b"MSH|^~\\&|") == [b""]
    assert await talk(replace(how, most=1000), START + b"M" * 5000 + END) == [b""]
    assert await talk(replace(how, within=0.2), START + b"MSH") == [b""]
    assert await talk(replace(how, idle=0.2), b"") == [b""]


async def test_a_server_that_is_not_there_is_ar(how: Listening) -> None:
    gone = replace(how, server="http://127.0.0.1:9/fhir", client=None)
    (answer,) = await talk(gone, framed(adt("A01", "9990000158", ADMITTED)))
    assert b"MSA|AR|" in answer
    assert b"send it again later" in answer


def test_it_listens_on_loopback_unless_there_is_a_certificate(how: Listening) -> None:
    with pytest.raises(CannotListen, match="not loopback"):
        Listener(replace(how, host="0.0.0.0"))  # noqa: S104
    with pytest.raises(CannotListen, match="Nobody may send"):
        Listener(replace(how, senders={}))


def test_the_command_says_what_it_cannot_do() -> None:
    asked = CliRunner().invoke(main, ["mllp", "--sender", "WARD"])
    assert asked.exit_code == 2
    assert "FACILITY=ODS" in asked.output
    asked = CliRunner().invoke(main, ["mllp", "--sender", "W=ZZK03", "--host", "192.0.2.1"])
    assert asked.exit_code == 2
    assert "not loopback" in asked.output
