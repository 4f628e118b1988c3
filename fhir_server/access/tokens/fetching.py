"""Asking who issues tokens: few bytes, in little time, from the address of the settings alone.

What is compressed is refused, as it was not asked for; the rest `fhir_server.outgoing` sees to.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from fhir_server import outgoing
from fhir_server.access.tokens.problems import CannotVerify
from fhir_server.outgoing import Question, TooLarge, Unreachable

MOST_BYTES: Final = 256 * 1024
_JSON: Final = {"accept": "application/json"}
_FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How an issuer is asked.

    `patience` is in seconds, for the whole of an answer; `private_hosts` are names of hosts that
    may have a private address.
    """

    patience: float = 5.0
    private_hosts: tuple[str, ...] = ()

    async def get(self, url: str) -> bytes:
        """The body of a 200.

        Raises:
            CannotVerify: for any other answer, and for none.
        """
        return await self._asked(Question("GET", url, _JSON, seconds=self.patience))

    async def post(self, url: str, form: Mapping[str, str], user: tuple[str, str]) -> bytes:
        """As `get`, with a form and HTTP Basic authentication."""
        told = b64encode(":".join(user).encode()).decode()
        headers = {**_JSON, **_FORM, "authorization": f"Basic {told}"}
        content = urlencode(form).encode()
        return await self._asked(Question("POST", url, headers, content, self.patience))

    async def _asked(self, question: Question) -> bytes:
        url = question.url  # one of the settings, and no token's
        way = outgoing.Outgoing([url], self.private_hosts)
        try:
            status, content = await way.asked(question, MOST_BYTES)
        except TooLarge:
            raise CannotVerify(f"{url} answers more than {MOST_BYTES} bytes") from None
        except Unreachable as error:
            raise CannotVerify(f"{url}: {error}") from None
        if status != 200:
            raise CannotVerify(f"{url} answers {status}")
        return content
