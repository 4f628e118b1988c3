"""Where the server goes by itself: to origins that it is set to, and to no private address.

An origin (scheme, host and port) is compared as a whole. The name is looked up once, each of its
addresses is judged, and the connection goes to an address that was judged: a second look-up, as
DNS rebinding wants it, does not happen. Redirects, proxies of the environment, `.netrc` and
cookies have no part in it; time and size are bounded, of what comes compressed too.
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import sys
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from fhir_server.errors import FhirError, Kind

if TYPE_CHECKING:
    import httpx  # loaded by the first question: few servers ask anybody

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host."""

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
"""httpx goes without its command line, which would load rich and pygments: 3 MB of each process."""
_PORTS: Final = {"http": 80, "https": 443}
_ASCII: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""No blanks, line breaks, backslashes or letters beyond ASCII: readers differ about them."""
_NAME: Final = "keyworking-fhir-server"
_CONNECT_SECONDS: Final = 10.0
_PIECE_SECONDS: Final = 30.0
_PIECE: Final = 64 * 1024
"""Bytes that are inflated at a time."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_EMBEDDING: Final = tuple(
    map(ipaddress.ip_network, ("::/96", "::ffff:0:0/96", "2001::/32", "2002::/16", "fec0::/10"))
)
"""IPv4-compatible, IPv4-mapped, Teredo, 6to4: an address of IPv4 in another coat. The last were
site-local once (RFC 3879)."""
_NAT64: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48")))
"""RFC 6052 and RFC 8215; networks without IPv4 reach all of it by the first."""


class Unreachable(Exception):
    """It cannot be had. The text says why, and nothing of what was sent or would have come."""


class TooLarge(Unreachable):
    """More came than was to come."""


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what the answer may take.

    `seconds` is for all of it, from the look-up to the last piece; `gzip` says whether the answer
    may come compressed.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    seconds: float = 10.0
    gzip: bool = False


class Reply:
    """The beginning of an answer; the rest is read piece by piece."""

    def __init__(self, response: "httpx.Response", deadline: float) -> None:
        self.status: Final = response.status_code
        self.headers: Final[Mapping[str, str]] = response.headers
        self._response = response
        self._deadline = deadline

    async def pieces(self, most: int) -> AsyncIterator[bytes]:
        """The content, inflated.

        Raises:
            TooLarge: for more than `most` bytes, as they come or inflated.
            Unreachable: when it breaks off, takes too long or is not coded as was asked for.
        """
        inflate = self._inflation()
        raw, size = self._response.aiter_raw(_PIECE), 0
        came = 0
        while (piece := await self._next(raw)) is not None:
            came += len(piece)
            for part in inflate.pieces(piece) if inflate else (piece,):
                size += len(part)
                if max(size, came) > most:
                    raise TooLarge(f"it is too large; {most} bytes are allowed")
                yield part
        if inflate is not None:
            inflate.require_end()

    async def whole(self, most: int) -> bytes:
        """All of the content; errors as `pieces`."""
        return b"".join([piece async for piece in self.pieces(most)])

    async def _next(self, raw: AsyncIterator[bytes]) -> bytes | None:
        async with _told(self._deadline):
            return await anext(raw, None)

    def _inflation(self) -> "_Inflation | None":
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding in ("", "identity"):
            return None
        if coding == "gzip" and "gzip" in self._response.request.headers["accept-encoding"]:
            return _Inflation()
        raise Unreachable("it comes compressed, or coded in a way that was not asked for")


class _Inflation:
    """gzip, a bounded piece at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._begun = False

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """What the next piece holds.

        Raises:
            Unreachable: for what is not gzip.
        """
        part = b""
        while raw or len(part) == _PIECE:  # a full part may have more behind it
            if raw and self._stream.eof:  # a further stream behind the first
                self._stream = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                part = self._stream.decompress(raw, _PIECE)
            except zlib.error:
                raise Unreachable("it is not gzip") from None
            yield part
            raw = self._stream.unconsumed_tail or self._stream.unused_data

    def require_end(self) -> None:
        if self._begun and not self._stream.eof:
            raise Unreachable("it ends before the end of its gzip stream")


class Outgoing:
    """The way to some origins, and to nowhere else.

    Args:
        origins: `https://host[:port]`, of the settings; what is behind the host is not looked at.
        private_hosts: names that may have private addresses. A host that an origin gives as an
            address, and localhost, are meant as they stand.
        loopback: whether every port of this machine is one of the origins too.
        resolver: in place of the system's.
        network: in place of the network.
    """

    def __init__(
        self,
        origins: Sequence[str] = (),
        private_hosts: Iterable[str] = (),
        *,
        loopback: bool = False,
        resolver: Resolver | None = None,
        network: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._named: Final = (*origins, *(("http://127.0.0.1",) if loopback else ()))
        self._loopback: Final = loopback
        self._origins: Final = frozenset(map(_set_origin, origins))
        themselves = (host for _, host, _ in self._origins if _is_named_itself(host))
        self._private: Final = frozenset([*map(str.lower, private_hosts), *themselves])
        self._resolver: Final = resolver or system_resolver
        self._network: Final = network

    @property
    def named(self) -> tuple[str, ...]:
        """The origins, as they were set."""
        return self._named

    def require(self, url: str, place: str = "url") -> None:
        """Raise for an address that is not below one of the origins.

        Args:
            place: where the address stands in the request.

        Raises:
            FhirError: INVALID, FORBIDDEN.
        """
        origin = _origin(_split(url))
        if origin is None:
            text = f"'{url[:200]}' is not an http or https address without a user in it"
            raise FhirError.at(Kind.INVALID, place, text)
        if origin not in self._origins and not self._is_here(origin.host):
            allowed = ", ".join(self._named) or "none"
            text = f"Nothing is fetched from '{url[:200]}'; origins that may be named: {allowed}"
            raise FhirError.at(Kind.FORBIDDEN, place, text)

    def _is_here(self, host: str) -> bool:
        return self._loopback and _is_this_machine(host)

    def prepare(self) -> None:
        """Do what is done once, and takes a moment."""
        _trust()

    @asynccontextmanager
    async def asking(self, question: Question) -> AsyncIterator[Reply]:
        """Ask, and let go of the connection at the end.

        Raises:
            FhirError: as `require`.
            Unreachable: where there is no answer in time, or the host has a private address. An
                answer of any status is an answer, a redirect too.
        """
        self.require(question.url)
        deadline = asyncio.get_running_loop().time() + question.seconds
        client = self._client(question.seconds)
        try:
            async with _told(deadline):
                response = await self._sent(client, question)
            try:
                yield Reply(response, deadline)
            finally:
                await response.aclose()
        finally:
            await client.aclose()

    async def asked(self, question: Question, most: int) -> tuple[int, bytes]:
        """Status and content, of that many bytes at the most; errors as `asking` and `pieces`."""
        async with self.asking(question) as reply:
            return reply.status, await reply.whole(most)

    async def _sent(self, client: "httpx.AsyncClient", question: Question) -> "httpx.Response":
        """The answer of the first of the host's addresses that takes the connection."""
        import httpx

        parts = urlsplit(question.url)
        addresses = await self._addresses(_required(parts))
        for left, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await client.send(_request(client, question, parts, address), stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if left == 0:
                    raise
        raise Unreachable("its host has no address")

    async def _addresses(self, origin: Origin) -> Sequence[str]:
        found = await self._resolver(origin.host, origin.port)
        private = origin.host in self._private or self._is_here(origin.host)
        if not all(may_be_reached(address, private=private) for address in found):
            raise Unreachable("its host has a private address")
        return found

    def _client(self, seconds: float) -> "httpx.AsyncClient":
        import httpx

        return httpx.AsyncClient(
            transport=self._network,
            verify=_trust(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(
                min(seconds, _PIECE_SECONDS), connect=min(seconds, _CONNECT_SECONDS)
            ),
        )


@cache
def _trust() -> ssl.SSLContext:
    """The authorities that the machine trusts, read once."""
    return ssl.create_default_context()


@asynccontextmanager
async def _told(deadline: float) -> AsyncIterator[None]:
    """What goes wrong on the way, told by its sort alone: texts of faults name machines."""
    import httpx

    try:
        async with asyncio.timeout_at(deadline):
            yield
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, TimeoutError) as error:
        raise Unreachable(type(error).__name__) from None


def _request(
    client: "httpx.AsyncClient", question: Question, parts: SplitResult, address: str
) -> "httpx.Request":
    """To the address, in the name of the host: the certificate has to be the host's."""
    host, port = _required(parts)[1:]
    shown = f"[{address}]" if ":" in address else address
    coding = "gzip" if question.gzip else "identity"
    return client.build_request(
        question.method,
        parts._replace(netloc=f"{shown}:{port}", fragment="").geturl(),
        headers={
            "user-agent": _NAME,
            **question.headers,
            "host": parts.netloc,
            "accept-encoding": coding,
        },
        content=question.content or None,
        extensions={"sni_hostname": host},
    )


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url) if _ASCII.fullmatch(url) else None
    except ValueError:
        return None


def _origin(parts: SplitResult | None) -> Origin | None:
    """The origin; None for what is none, or has a user in it."""
    if parts is None or "@" in parts.netloc or not parts.hostname:
        return None
    try:
        port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
    except ValueError:
        return None
    return Origin(parts.scheme, parts.hostname, port) if port and parts.scheme in _PORTS else None


def _required(parts: SplitResult) -> Origin:
    origin = _origin(parts)
    assert origin is not None  # noqa: S101 - `require` saw to it
    return origin


def _set_origin(text: str) -> Origin:
    """Of a setting: an origin, or an address below one.

    Raises:
        ValueError: for what is neither.
    """
    origin = _origin(_split(text))
    if origin is None:
        raise ValueError(f"'{text}' is not an http or https address without a user in it")
    return origin


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the machine knows of the host."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def may_be_reached(text: str, *, private: bool) -> bool:
    """Whether a connection may go to the address.

    Args:
        private: whether its host may have a private address. One that is link-local (where clouds
            keep their credentials), multicast or of no host is never reached.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with a zone behind it, too
        return False
    if any(address in network for network in _NAT64):
        return may_be_reached(str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)), private=False)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback:
        return private
    if address.is_reserved or any(address in network for network in _EMBEDDING):
        return False
    return address.is_global or (private and address.is_private)


def _is_named_itself(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


NOWHERE: Final = Outgoing()
"""Of a server that asks nobody."""
