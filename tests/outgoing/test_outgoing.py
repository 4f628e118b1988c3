"""Where the server goes by itself: CWE-918, and CVE-2026-34359 (an address that begins alike).

The servers that are asked are real ones, on loopback; a resolver of the test's own stands for DNS.
"""

import asyncio
import gzip
import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.outgoing import Outgoing, Question, TooLarge, Unreachable, may_be_reached

GOOD: Final = "https://good.example"


class Asked(ThreadingHTTPServer):
    """Answers as it is told, and writes down what it was asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"good"
        self.asked: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Asked

    def do_GET(self) -> None:
        told = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append({"path": self.path, **told})
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def there() -> Iterator[Asked]:
    with Asked() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Names:
    """DNS as a test has it: the answers to one look-up after the other; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.looked_up: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _question(url: str, **more: Any) -> Question:
    return Question("GET", url, seconds=more.pop("seconds", 60.0), **more)


async def test_an_origin_that_is_named_is_asked(there: Asked) -> None:
    names = Names(["127.0.0.1"])
    origin = f"http://good.example:{there.server_port}"
    outgoing = Outgoing([origin], ["good.example"], resolver=names)
    assert await outgoing.asked(_question(f"{origin}/a?b=c#d"), 100) == (200, b"good")
    (asked,) = there.asked
    assert (asked["path"], asked["host"]) == ("/a?b=c", f"good.example:{there.server_port}")
    assert names.looked_up == [("good.example", there.server_port)]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://good.example.evil.example/", Kind.FORBIDDEN),
        ("https://good.example@evil.example/", Kind.INVALID),
        ("https://good.example:443@evil.example/", Kind.INVALID),
        ("https://user:secret@good.example/", Kind.INVALID),
        ("https://@good.example/", Kind.INVALID),
        ("https://evil.example/https://good.example/", Kind.FORBIDDEN),
        ("https://evil.example#good.example", Kind.FORBIDDEN),
        ("https://evil.example\\@good.example/", Kind.INVALID),
        ("https://good.example\\.evil.example/", Kind.INVALID),
        ("https://evil.example/\t@good.example", Kind.INVALID),
        ("https://good.example\n.evil.example/", Kind.INVALID),
        (" https://good.example/", Kind.INVALID),
        ("https://good.example./", Kind.FORBIDDEN),
        ("https://good.example:8443/", Kind.FORBIDDEN),
        ("https://good.example:port/", Kind.INVALID),
        ("https://good.example:0/", Kind.INVALID),
        ("https://good.example:99999/", Kind.INVALID),
        ("http://good.example/", Kind.FORBIDDEN),
        ("http://good.example:443/", Kind.FORBIDDEN),
        ("https://gооd.example/", Kind.INVALID),  # with two Cyrillic letters
        ("https://good。example/", Kind.INVALID),
        ("https://xn--gd-jdbb.example/", Kind.FORBIDDEN),
        ("https://good%2eexample/", Kind.FORBIDDEN),
        ("https://2130706433/", Kind.FORBIDDEN),
        ("https://0177.0.0.1/", Kind.FORBIDDEN),
        ("https://0x7f.1/", Kind.FORBIDDEN),
        ("https://127.1/", Kind.FORBIDDEN),
        ("https://[::1]/", Kind.FORBIDDEN),
        ("https://[::ffff:127.0.0.1]/", Kind.FORBIDDEN),
        ("https://[fe80::1%25eth0]/", Kind.FORBIDDEN),
        ("https://[::1/", Kind.INVALID),
        ("//good.example/", Kind.INVALID),
        ("good.example/", Kind.INVALID),
        ("file:///etc/passwd", Kind.INVALID),
        ("gopher://good.example/", Kind.INVALID),
        ("", Kind.INVALID),
    ],
)
async def test_what_only_looks_like_it_is_refused_before_anything_is_looked_up(
    url: str, kind: Kind
) -> None:
    names = Names(["93.184.216.34"])
    outgoing = Outgoing([GOOD], resolver=names)
    with pytest.raises(FhirError) as caught:
        await outgoing.asked(_question(url), 100)
    assert caught.value.kind is kind
    assert names.looked_up == []


@pytest.mark.parametrize("url", [GOOD, f"{GOOD}/", f"{GOOD}:443/x", "HTTPS://GOOD.EXAMPLE/?q"])
def test_other_spellings_of_the_same_origin_are_it(url: str) -> None:
    Outgoing([GOOD]).require(url)
    Outgoing([f"{GOOD}:443"]).require(url)


@pytest.mark.parametrize("origin", ["good.example", "ftp://good.example", "https://a@b", "*", ""])
def test_what_is_no_origin_is_none_of_a_setting(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an http or https address"):
        Outgoing([origin])


PRIVATE: Final = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.5", "172.16.3.4", "192.168.1.1", "::1", "fd00::1"),
    *("100.64.0.1", "192.0.2.1", "198.18.0.1", "0.0.0.1", "255.255.255.255", "240.0.0.1", "::"),
    *("169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:93.184.216.34", "::127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:4136:e378::1"),
    *("localhost", "2130706433", "127.1", ""),
)


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_with_a_private_address_leads_nowhere(address: str) -> None:
    """One public address among them does not help."""
    outgoing = Outgoing([GOOD], resolver=Names(["93.184.216.34", address]))
    with pytest.raises(Unreachable, match="private address"):
        await outgoing.asked(_question(GOOD), 100)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "1.1.1.1"]
)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert may_be_reached(address, private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "192.168.1.1", "::1", "fd00::1"])
def test_private_ones_of_hosts_that_are_named_may_be_too(address: str) -> None:
    assert may_be_reached(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_where_clouds_keep_their_credentials_is_never_reached(address: str) -> None:
    never = {"link_local", "multicast", "unspecified", "reserved"}
    with_zone = address.partition("%")[0]
    try:
        found = ipaddress.ip_address(with_zone)
    except ValueError:
        assert not may_be_reached(address, private=True)
        return
    if found != ipaddress.ip_address("::1") and any(getattr(found, f"is_{one}") for one in never):
        assert not may_be_reached(address, private=True)


async def test_a_name_that_changes_its_address_is_looked_up_once(there: Asked) -> None:
    """DNS rebinding: public when it is judged, loopback when it is connected to."""
    names = Names(["192.0.2.1"], ["127.0.0.1"])
    origin = f"http://good.example:{there.server_port}"
    outgoing = Outgoing([origin], resolver=names)
    with pytest.raises(Unreachable):  # 192.0.2.1 is for documentation, and not global
        await outgoing.asked(_question(origin), 100)
    assert len(names.looked_up) == 1
    with pytest.raises(Unreachable, match="private address"):
        await outgoing.asked(_question(origin), 100)
    assert there.asked == []


async def test_the_connection_goes_to_the_address_that_was_judged(there: Asked) -> None:
    """good.example is nowhere in the DNS: a second look-up would fail."""
    names = Names(["127.0.0.1"], ["93.184.216.34"])
    origin = f"http://good.example:{there.server_port}"
    outgoing = Outgoing([origin], ["GOOD.example"], resolver=names)
    assert (await outgoing.asked(_question(origin), 100))[0] == 200
    assert len(names.looked_up) == 1


async def test_the_next_address_is_tried_where_one_takes_no_connection(there: Asked) -> None:
    origin = f"http://good.example:{there.server_port}"
    outgoing = Outgoing([origin], ["good.example"], resolver=Names(["127.0.0.9", "127.0.0.1"]))
    assert (await outgoing.asked(_question(origin), 100))[0] == 200
    nobody = Outgoing([origin], ["good.example"], resolver=Names([]))
    with pytest.raises(Unreachable, match="no address"):
        await nobody.asked(_question(origin), 100)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_origin_that_is_an_address_is_meant_as_such(there: Asked, host: str) -> None:
    origin = f"http://{host}:{there.server_port}"
    assert (await Outgoing([origin]).asked(_question(origin), 100))[0] == 200


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
async def test_other_spellings_of_loopback_are_names_with_a_private_address(
    there: Asked, host: str
) -> None:
    """The machine's own resolver takes these for 127.0.0.1."""
    origin = f"http://{host}:{there.server_port}"
    with pytest.raises(Unreachable):
        await Outgoing([origin]).asked(_question(origin), 100)
    assert there.asked == []


async def test_a_redirect_is_an_answer_and_not_followed(there: Asked) -> None:
    origin = f"http://127.0.0.1:{there.server_port}"
    there.status, there.headers = 302, {"Location": f"{origin}/other"}
    assert (await Outgoing([origin]).asked(_question(origin), 100))[0] == 302
    assert len(there.asked) == 1


async def test_proxies_and_credentials_of_the_environment_have_no_part(
    there: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    origin = f"http://127.0.0.1:{there.server_port}"
    outgoing = Outgoing([origin])
    there.headers = {"Set-Cookie": "a=b"}
    for _ in range(2):
        assert (await outgoing.asked(_question(origin), 100))[0] == 200
    for asked in there.asked:
        assert not {"authorization", "cookie"} & asked.keys()
        assert asked["user-agent"] == "keyworking-fhir-server"


async def test_size_is_bounded_as_it_comes_and_inflated(there: Asked) -> None:
    origin = f"http://127.0.0.1:{there.server_port}"
    outgoing = Outgoing([origin])
    there.body = b"x" * 101
    with pytest.raises(TooLarge, match="100 bytes are allowed"):
        await outgoing.asked(_question(origin), 100)
    there.headers = {"Content-Encoding": "gzip"}
    there.body = gzip.compress(b"x" * 50_000_000)
    with pytest.raises(TooLarge):
        await outgoing.asked(_question(origin, gzip=True), 100_000)
    there.body = gzip.compress(b"") * 5000
    with pytest.raises(TooLarge):
        await outgoing.asked(_question(origin, gzip=True), 1000)


async def test_a_bomb_is_inflated_a_little_at_a_time(there: Asked) -> None:
    origin = f"http://127.0.0.1:{there.server_port}"
    there.headers = {"Content-Encoding": "gzip"}
    there.body = gzip.compress(b"x" * 10_000_000)
    async with Outgoing([origin]).asking(_question(origin, gzip=True)) as reply:
        sizes = [len(piece) async for piece in reply.pieces(10_000_000)]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= 64 * 1024


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000])
@pytest.mark.parametrize("members", [1, 2])
async def test_gzip_of_any_size_comes_whole(there: Asked, size: int, members: int) -> None:
    origin = f"http://127.0.0.1:{there.server_port}"
    there.headers = {"Content-Encoding": "gzip"}
    there.body = gzip.compress(b"x" * size) * members
    answered = await Outgoing([origin]).asked(_question(origin, gzip=True), 10_000_000)
    assert answered == (200, b"x" * size * members)


@pytest.mark.parametrize(
    ("coding", "body", "asked", "text"),
    [
        ("gzip", gzip.compress(b"x" * 1000)[:-9], True, "before the end"),
        ("gzip", b"no gzip", True, "not gzip"),
        ("gzip", gzip.compress(b"x"), False, "not asked for"),
        ("br", b"x", True, "not asked for"),
        ("gzip, gzip", gzip.compress(b"x"), True, "not asked for"),
    ],
)
async def test_another_coding_is_refused(
    there: Asked, coding: str, body: bytes, asked: bool, text: str
) -> None:
    origin = f"http://127.0.0.1:{there.server_port}"
    there.headers, there.body = {"Content-Encoding": coding}, body
    with pytest.raises(Unreachable, match=text):
        await Outgoing([origin]).asked(_question(origin, gzip=asked), 10_000)


async def test_whoever_dawdles_is_not_waited_for() -> None:
    over, serving = asyncio.Event(), list[asyncio.Task[None] | None]()

    async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while not over.is_set():  # a piece now and then: none of them is late
                writer.write(b"x")
                await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(dawdle, "127.0.0.1", 0) as server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match="TimeoutError"):
            await Outgoing([origin]).asked(_question(origin, seconds=0.4), 1000)
        assert asyncio.get_running_loop().time() - started < 20
        over.set()
        await asyncio.gather(*filter(None, serving))


async def test_a_name_that_nobody_knows_is_told_without_the_inside() -> None:
    with pytest.raises(Unreachable, match=r"^gaierror$"):
        await Outgoing(["http://nobody.invalid"]).asked(_question("http://nobody.invalid/"), 10)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost:8/x", "http://[::1]:9/"])
def test_every_port_of_this_machine_only_where_that_is_meant(url: str) -> None:
    Outgoing(loopback=True).require(url)
    with pytest.raises(FhirError, match="may be named: none"):
        Outgoing().require(url)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:9", "http://127.0.0.1.example/", "http://0.0.0.0"]
)
def test_this_machine_is_no_other_machine(url: str) -> None:
    with pytest.raises(FhirError, match="may be named"):
        Outgoing(loopback=True).require(url)
