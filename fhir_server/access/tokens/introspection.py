"""Opaque tokens: whoever issued them is asked what they stand for.

https://www.rfc-editor.org/rfc/rfc7662. Only `active: true` is a yes.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus

from fhir_server.access.tokens.claims import Claims, Expected, require_meant
from fhir_server.access.tokens.fetching import Outgoing
from fhir_server.access.tokens.problems import BadToken, CannotVerify
from fhir_server.errors import FhirError
from fhir_server.fhir import json

_AT_ONCE: Final = 16
"""Questions that are under way."""
_DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Introspection:
    """The endpoint, and who we are there: a client with a secret."""

    url: str
    client: str
    secret: str = field(repr=False)
    expected: Expected
    outgoing: Outgoing
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def claims(self, token: str, now: int) -> tuple[Claims, int]:
        """The claims, and the second from which the token does not hold any more.

        `iss` may be missing, as it was the issuer who answered; `aud` and `exp` may not.

        Raises:
            BadToken; CannotVerify.
        """
        told = self._decoded(await self._answer(token))
        if told.get("active") is not True:
            raise BadToken("it is not active")
        kind = told.get("token_type", "Bearer")
        if not (isinstance(kind, str) and kind.lower() == "bearer"):
            raise BadToken("it is no bearer token")
        claims = {"iss": self.expected.issuer, **told}
        return claims, require_meant(claims, self.expected, now)

    async def _answer(self, token: str) -> bytes:
        form = {"token": token, "token_type_hint": "access_token"}
        # https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1 has both encoded as in a form
        user = (quote_plus(self.client), quote_plus(self.secret))
        try:
            async with asyncio.timeout(self.outgoing.patience):
                await self._turns.acquire()
        except TimeoutError:
            raise CannotVerify("too many tokens are asked about at once") from None
        try:
            return await self.outgoing.post(self.url, form, user)
        finally:
            self._turns.release()

    def _decoded(self, raw: bytes) -> Claims:
        try:
            return json.decode_resource(raw, _DEPTH)
        except FhirError:
            raise CannotVerify(f"{self.url} answers what is no JSON object") from None
