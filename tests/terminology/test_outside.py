"""Another terminology server, asked about what is not known here.

It is one of ours with a code system that the first one has not; and servers that misbehave.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.outgoing import Outgoing
from fhir_server.settings import Settings
from fhir_server.terminology.library import Library, Nowhere
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import Packaged
from fhir_server.terminology.service import Terminology
from fhir_server.validation.report import Question
from fhir_server.validation.settling import Settler
from tests.fhir_operations.terms import SYSTEM, TREE, codes, parameters, told, value_set
from tests.support import ServerProcess, assert_outcome, client_of, create, put

HERE: Final = value_set(
    "trees", {"system": TREE, "filter": [{"property": "concept", "op": "is-a", "value": "oak"}]}
)


@asynccontextmanager
async def two(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A server without the code system, and the one that it asks, over a socket."""
    other = ServerProcess(tmp_path / "other.db", tmp_path / "other.log")
    (tmp_path / "here").mkdir()
    await asyncio.to_thread(other.start)
    try:
        async with (
            httpx.AsyncClient(base_url=other.base + "/") as there,
            client_of(tmp_path / "here", terminology_server=other.base) as here,
        ):
            await put(there, SYSTEM)
            yield here, there
    finally:
        await asyncio.to_thread(other.stop)


async def test_what_is_not_known_here_is_asked(tmp_path: Path) -> None:
    async with two(tmp_path) as (here, _):
        await put(here, HERE)
        url = HERE["url"]
        expand = f"ValueSet/$expand?url={url}"
        assert codes(await here.get(expand)) == ["oak", "sessile"]
        assert codes(await here.get(f"{expand}&filter=sessile")) == ["sessile"]
        validate = f"ValueSet/$validate-code?url={url}&system={TREE}&code="
        assert told(await here.get(validate + "oak"))["result"] is True
        assert told(await here.get(validate + "elm"))["result"] is False
        wrong = told(await here.get(validate + "oak&display=Elm"))
        assert "is not one of 'oak'" in wrong["message"]
        system = f"CodeSystem/$validate-code?url={TREE}&code="
        assert told(await here.get(system + "oak"))["result"] is True
        lookup = told(await here.get(f"CodeSystem/$lookup?system={TREE}&code=oak"))
        assert lookup["display"] == "Oak tree"
        subsumes = f"CodeSystem/$subsumes?system={TREE}&codeA=plant&codeB=oak"
        assert told(await here.get(subsumes)) == {"outcome": "subsumes"}


async def test_searches_ask_it_too(tmp_path: Path) -> None:
    def flag(code: str) -> dict[str, Any]:
        coded = {"coding": [{"system": TREE, "code": code}]}
        subject = {"display": "A tree"}
        return {"resourceType": "Flag", "status": "active", "code": coded, "subject": subject}

    async with two(tmp_path) as (here, _):
        await put(here, HERE)
        for code in ("oak", "sessile", "elm"):
            await create(here, flag(code))
        for search, count in (
            (f"code:in={HERE['url']}", 2),
            (f"code:below={TREE}|plant", 3),
            (f"code:above={TREE}|sessile", 2),
        ):
            found = await here.get(f"Flag?{search}")
            assert len(found.json()["entry"]) == count, search


async def test_answers_are_given_again_when_it_is_away(tmp_path: Path) -> None:
    async with two(tmp_path) as (here, there):
        asked = f"CodeSystem/$validate-code?url={TREE}&code=oak"
        assert told(await here.get(asked))["result"] is True
        assert (await there.delete("CodeSystem/tree")).status_code == 204
        assert told(await here.get(asked))["result"] is True


async def test_that_it_is_away_is_said(tmp_path: Path) -> None:
    async with client_of(tmp_path, terminology_server="http://127.0.0.1:9/fhir") as here:
        asked = f"CodeSystem/$validate-code?url={TREE}&code=oak"
        assert_outcome(await here.get(asked), 503, "transient", "could not be checked")
        search = await here.get(f"Flag?code:below={TREE}|plant")
        assert_outcome(search, 503, "transient", "could not be checked")
        known = "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender"
        assert len(codes(await here.get(known))) == 4, "what is known here needs nobody else"


@asynccontextmanager
async def misbehaving(
    answer: bytes, *, silent: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers anything with these bytes; its address and what it was sent.

    A `silent` one answers when nobody waits for it any more.
    """
    over = asyncio.Event()
    if not silent:
        over.set()
    asked: list[bytes] = []
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        asked.append(await reader.read(65_536))
        await over.wait()
        with suppress(ConnectionError):
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/fhir", asked
        finally:
            over.set()
            await asyncio.gather(*filter(None, serving))


def http(status: str, content: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(head).encode() + content


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (http("500 Oops"), Kind.UNAVAILABLE, "it answers 500"),
        (b"", Kind.UNAVAILABLE, "is away"),
        (http("302 Found", b"", "Location: http://127.0.0.1:1/"), Kind.UNSUPPORTED, "redirects"),
        (http("200 OK", b"x", "Content-Encoding: gzip"), Kind.UNAVAILABLE, "it comes compressed"),
        (http("200 OK", b"<html>"), Kind.UNSUPPORTED, "no resource"),
        (
            http("404 No", b'{"resourceType":"OperationOutcome","issue":[{"diagnostics":"hm"}]}'),
            *(Kind.UNSUPPORTED, r"refuses \(404\): hm"),
        ),
        (http("200 OK", b" " * (8 * 1024 * 1024 + 1)), Kind.TOO_COSTLY, "more than 8388608 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_refused(answer: bytes, kind: Kind, says: str) -> None:
    async with misbehaving(answer) as (base, asked):
        with pytest.raises(FhirError, match=says) as caught:
            await Outside(base).ask("ValueSet/$expand")
        assert caught.value.kind is kind
        assert len(asked) == 1, "a redirect is not followed"


async def test_it_is_waited_for_only_so_long_and_then_left_alone() -> None:
    now = [0.0]
    answer = http("200 OK", b'{"resourceType":"Parameters"}')
    async with misbehaving(answer, silent=True) as (base, asked):
        outside = Outside(base, 2.0, clock=lambda: now[0])
        for expected in ("TimeoutError|ReadTimeout", "a moment ago"):
            with pytest.raises(FhirError, match=expected):
                await outside.ask("ValueSet/$expand")
        assert len(asked) == 1
        now[0] = 11.0
        with pytest.raises(FhirError, match="Timeout"):
            await outside.ask("ValueSet/$expand")
        assert len(asked) == 2


Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def writing(write: Write) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers anything by `write`; its address and what it was sent first."""
    asked: list[bytes] = []
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        asked.append(await reader.read(65_536))
        try:
            with suppress(ConnectionError):
                await write(writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir", asked
        for task in filter(None, serving):
            task.cancel()
        await asyncio.gather(*filter(None, serving), return_exceptions=True)
        await asyncio.sleep(0)  # the transports are closed in the loop's next round


OPEN_END: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n\r\n"


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(OPEN_END)
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


async def huge(writer: asyncio.StreamWriter) -> None:
    """Well-formed, and more than is read."""
    value = b'"' + b"x" * 9_000_000 + b'"'
    body = b'{"resourceType":"Parameters","parameter":[{"name":"a","valueString":%s}]}' % value
    writer.write(http("200 OK", body))
    await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Each byte comes well before any single read would take too long."""
    writer.write(OPEN_END)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


BINDING: Final = Question(
    HERE["url"], ((TREE, "oak"),), "Basic.code", "required", "http://example.org/p"
)


@pytest.mark.parametrize(
    ("write", "patience", "says"),
    [
        (endless, 60.0, "more than 8388608 bytes"),
        (huge, 60.0, "more than 8388608 bytes"),
        (dripping, 0.5, "TimeoutError"),
    ],
)
async def test_what_never_ends_could_not_be_checked(
    write: Write, patience: float, says: str
) -> None:
    """Within the time and the size that an answer may have; a resource is not refused for it."""
    async with writing(write) as (base, _):
        outside = Outside(base, patience)
        with pytest.raises(FhirError, match=says):
            await outside.ask("ValueSet/$validate-code")
        library = Library(Nowhere(), Packaged([HERE]))
        settler = Settler(Terminology(library, outside=outside))
        (issue,) = await settler.issues([BINDING])
        assert (issue.severity, issue.code) == ("warning", "incomplete")
        assert "could not be checked" in issue.text


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved"])
async def test_nobody_else_is_asked_because_it_says_so(status: str) -> None:
    async with misbehaving(http("200 OK", b'{"resourceType":"Parameters"}')) as (other, led):
        answer = http(status, b"", f"Location: {other}/ValueSet/$expand")
        async with misbehaving(answer) as (base, asked):
            with pytest.raises(FhirError, match="redirects"):
                await Outside(base).ask("ValueSet/$expand")
        assert (len(asked), led) == (1, [])


async def test_a_question_has_a_bound_too() -> None:
    async with misbehaving(http("200 OK", b'{"resourceType":"Parameters"}')) as (base, asked):
        concepts = [{"code": f"{number:010}"} for number in range(60_000)]
        large = value_set("large", {"system": TREE, "concept": concepts})
        with pytest.raises(FhirError, match="could not be checked: the question") as caught:
            await Outside(base).codes(large["url"], large, 10)
        assert caught.value.kind is Kind.TOO_COSTLY
        assert asked == []


async def test_what_is_kept_has_a_bound_in_bytes() -> None:
    body = b'{"resourceType":"Parameters","id":"%s"}' % (b"x" * 3_000_000)
    async with misbehaving(http("200 OK", body)) as (base, asked):
        outside = Outside(base)
        parts = [{"name": "code", "valueCode": str(number)} for number in range(4)]
        for part in (*parts, parts[3]):
            await outside.ask("ValueSet/$validate-code", part)
        assert len(asked) == 4
        assert outside._size <= 8 * 1024 * 1024
        assert sum(len(one.content) for one in outside._kept.values()) == outside._size
        await outside.ask("ValueSet/$validate-code", parts[0])
        assert len(asked) == 5, "the oldest went"


async def test_answers_are_kept_for_a_time_within_bounds() -> None:
    now = [0.0]
    async with misbehaving(http("200 OK", b'{"resourceType":"Parameters"}')) as (base, asked):
        outside = Outside(base, clock=lambda: now[0])
        part = {"name": "code", "valueCode": "a"}
        for _ in range(3):
            await outside.ask("ValueSet/$validate-code", part)
        assert len(asked) == 1
        await outside.ask("CodeSystem/$validate-code", part)
        now[0] = 3601.0
        await outside.ask("ValueSet/$validate-code", part)
        assert len(asked) == 3


async def test_part_of_an_expansion_is_not_taken_for_all() -> None:
    body = b'{"resourceType":"ValueSet","expansion":{"total":5,"contains":[{"code":"a"}]}}'
    async with misbehaving(http("200 OK", body)) as (base, _):
        with pytest.raises(FhirError, match="a part of the value set"):
            await Outside(base).codes("http://vs", None, 10)
        with pytest.raises(FhirError, match="more than 4 codes"):
            await Outside(base).codes("http://vs", None, 4)


async def test_it_learns_codes_and_nothing_about_anybody(tmp_path: Path) -> None:
    answer = b'{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":true}]}'
    async with misbehaving(http("200 OK", answer)) as (base, asked):
        async with client_of(tmp_path, terminology_server=base) as here:
            coding = {"system": "http://snomed.info/sct", "code": "1"}
            value = {"coding": [coding], "text": "Private words"}
            concept = {"name": "codeableConcept", "valueCodeableConcept": value}
            answered = await here.post("CodeSystem/$validate-code", **parameters(concept))
            assert told(answered)["result"] is True
        assert b"snomed" in asked[0]
        assert b"Private" not in asked[0]


@pytest.mark.parametrize(
    "address",
    [
        "http://terms.example.nhs.uk/fhir",
        "ftp://127.0.0.1/fhir",
        "https://user:secret@terms.example.nhs.uk/fhir",
        "https://terms.example.nhs.uk/fhir?x=1",
        "terms",
    ],
)
def test_only_https_or_this_machine_may_be_named(address: str) -> None:
    with pytest.raises(ValueError, match="terminology_server"):
        Settings(auth="none", terminology_server=address)


def test_https_and_loopback_may_be_named() -> None:
    for address in ("https://terms.example.nhs.uk/fhir", "http://localhost:8081/fhir"):
        assert create_app(Settings(auth="none", terminology_server=address))


class Slow(httpx.AsyncBaseTransport):
    """Answers after a moment, and knows how many wait for that at a time."""

    def __init__(self, moment: float = 0.02) -> None:
        self.waiting = self.most = 0
        self.moment = moment

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(self.moment)
        self.waiting -= 1
        content = b'{"resourceType": "Parameters"}'
        return httpx.Response(200, stream=httpx.ByteStream(content))


def _to(network: httpx.AsyncBaseTransport) -> Outgoing:
    async def public(host: str, port: int) -> list[str]:  # noqa: ARG001
        return ["93.184.216.34"]

    return Outgoing(["http://terms"], resolver=public, network=network)


async def test_only_so_much_is_asked_at_once() -> None:
    transport = Slow()
    outside = Outside("http://terms", outgoing=_to(transport))
    asked = [{"name": "code", "valueCode": f"{number}"} for number in range(40)]
    answers = await asyncio.gather(*(outside.ask("$a", one) for one in asked))
    assert len(answers) == 40
    assert transport.most == 8


async def test_whoever_waits_too_long_for_a_turn_is_told() -> None:
    """And the server is not left alone for it: it does answer."""
    outside = Outside("http://terms", 2.0, _to(Slow(1.2)))
    asked = [{"name": "code", "valueCode": f"{number}"} for number in range(40)]
    gathered = asyncio.gather(*(outside.ask("$a", one) for one in asked), return_exceptions=True)
    refusals = [one for one in await gathered if isinstance(one, FhirError)]
    assert refusals
    assert all("too much is asked" in str(one) for one in refusals)
    assert await outside.ask("$a", {"name": "code", "valueCode": "later"})
