"""Asking who issues tokens: few bytes, in little time, from the address of the settings alone.

Redirects and proxies of the environment are not followed; what is compressed is refused, as it may
be any size. `transport` is where whoever guards outgoing calls stands.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from fhir_server.access.tokens.problems import CannotVerify

if TYPE_CHECKING:
    import httpx  # loaded by the first question: a server with a file of keys asks nobody

MOST_BYTES: Final = 256 * 1024
_JSON: Final = {"accept": "application/json", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How an issuer is asked.

    `patience` is in seconds, for the whole of an answer; `transport` makes what stands in place
    of the network, or in front of it.
    """

    patience: float = 5.0
    transport: "Callable[[], httpx.AsyncBaseTransport] | None" = None

    async def get(self, url: str) -> bytes:
        """The body of a 200.

        Raises:
            CannotVerify: for any other answer, and for none.
        """
        return await self._asked("GET", url)

    async def post(self, url: str, form: Mapping[str, str], user: tuple[str, str]) -> bytes:
        """As `get`, with a form and HTTP Basic authentication."""
        return await self._asked("POST", url, form, user)

    async def _asked(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        user: tuple[str, str] | None = None,
    ) -> bytes:
        import httpx

        try:
            async with (
                asyncio.timeout(self.patience),
                self._client() as client,
                client.stream(method, url, data=form, auth=user, headers=_JSON) as response,
            ):
                return await _body(response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise CannotVerify(f"{url}: {type(error).__name__}") from None

    def _client(self) -> "httpx.AsyncClient":
        import httpx

        return httpx.AsyncClient(
            transport=self.transport() if self.transport else None,
            verify=_trust(),
            trust_env=False,
            follow_redirects=False,
            timeout=self.patience,
        )


async def _body(response: "httpx.Response") -> bytes:
    if response.status_code != 200:
        raise CannotVerify(f"{response.url} answers {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise CannotVerify(f"{response.url} answers compressed, which was not asked for")
    content = b""
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > MOST_BYTES:
            raise CannotVerify(f"{response.url} answers more than {MOST_BYTES} bytes")
    return content


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
