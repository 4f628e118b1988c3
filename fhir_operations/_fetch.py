"""Files fetched from elsewhere, from origins that the settings name and from nowhere else.

An origin is compared as a whole, redirects are not followed, proxies of the environment are not
used, and the connection goes to the very address that was looked at: a name that resolves to a
private address leads nowhere, unless the settings name that address (or localhost) itself.
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from fhir_server.errors import FhirError, Kind

if TYPE_CHECKING:
    import httpx  # loaded by the first fetch: few servers fetch anything

_CONNECT_SECONDS: Final = 10.0
_PIECE_SECONDS: Final = 30.0
_MOST_SECONDS: Final = 900.0
"""For one file."""
_PORTS: Final = {"http": 80, "https": 443}


def require_allowed(url: str, origins: Sequence[str], place: str) -> None:
    """Raise for an address that is not below one of the origins.

    Raises:
        FhirError: INVALID, FORBIDDEN.
    """
    parts = _split(url, place)
    if (parts.scheme, parts.hostname, _port(parts)) not in map(_origin, origins):
        allowed = ", ".join(origins) or "none"
        text = f"Nothing is fetched from '{url[:200]}'; origins that may be named: {allowed}"
        raise FhirError.at(Kind.FORBIDDEN, place, text)


def _split(url: str, place: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = _port(parts)
    except ValueError:
        parts, port = None, None
    if parts is None or port is None or not parts.hostname or "@" in parts.netloc:
        text = f"'{url[:200]}' is not an http or https address without a user in it"
        raise FhirError.at(Kind.INVALID, place, text)
    return parts


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _origin(text: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(text)
    return parts.scheme, parts.hostname, _port(parts)


async def fetched(url: str, most: int) -> AsyncIterator[bytes]:
    """The file, piece by piece; `require_allowed` let it through.

    Raises:
        FhirError: UNSUPPORTED when it cannot be had; TOO_LARGE.
    """
    import httpx

    size = 0
    try:
        async with asyncio.timeout(_MOST_SECONDS), _client() as client:
            host = urlsplit(url)
            named = {"Host": host.netloc}
            secured = {"sni_hostname": host.hostname}
            address = await _pinned(url)
            async with client.stream("GET", address, headers=named, extensions=secured) as response:
                if response.status_code != 200:
                    raise _refused(url, f"it answers {response.status_code}")
                async for piece in response.aiter_bytes():
                    size += len(piece)
                    if size > most:
                        text = f"'{url}' is too large; {most} bytes are allowed"
                        raise FhirError(Kind.TOO_LARGE, text)
                    yield piece
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        raise _refused(url, type(error).__name__) from None


def _client() -> "httpx.AsyncClient":
    import httpx

    timeout = httpx.Timeout(_PIECE_SECONDS, connect=_CONNECT_SECONDS)
    headers = {"Accept": "application/fhir+ndjson", "Accept-Encoding": "gzip"}
    return httpx.AsyncClient(
        headers=headers, timeout=timeout, follow_redirects=False, trust_env=False
    )


async def _pinned(url: str) -> str:
    """The URL with the address that its host has now, in place of the name."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", _port(parts) or 0
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_named_itself(host) and not all(map(_is_public, addresses)):
        raise _refused(url, "its host has a private address")
    address = addresses[0]
    shown = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{shown}:{port}").geturl()


def _is_named_itself(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def _refused(url: str, why: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, f"'{url}' cannot be fetched: {why}")
