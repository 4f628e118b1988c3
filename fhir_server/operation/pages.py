"""Links to further pages: sealed, so that nobody reads, edits or prolongs them.

The seal is Fernet's authenticated encryption with a key that all processes on the store share.
What a caller may see is decided anew on each page: the link holds a place, not a right.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken

from fhir_server.errors import FhirError, Kind


@dataclass(frozen=True, slots=True)
class Pages:
    """Makes and opens the links of one server."""

    seal: Fernet
    base: str
    clock: Callable[[], int]
    """Microseconds since the epoch."""
    lifetime: int
    """Seconds for which a link is good."""

    def link(self, address: str, state: Any) -> str:
        """The URL of a further page of what `address`, relative to the base, answered.

        `state` is JSON; decimals become floats.
        """
        plain = json.dumps([address, state], separators=(",", ":")).encode()
        sealed = self.seal.encrypt_at_time(plain, self.clock() // 1_000_000)
        place = address and f"/{address}"
        return f"{self.base}{place}?_page={quote(sealed.decode())}"

    def opened(self, address: str, token: str) -> Any:
        """The state in a token that `link` made for the same address.

        Raises:
            FhirError: INVALID for a token that this server did not make, or made for another
                address; GONE for one that is too old.
        """
        try:
            plain = self.seal.decrypt(token)
            made = self.seal.extract_timestamp(token)
        except (InvalidToken, ValueError, TypeError):
            raise _refused("The link to this page is not one that the server gave") from None
        given_for, state = json.loads(plain)
        if given_for != address:
            raise _refused(f"The link to this page was given for {given_for}")
        if self.clock() // 1_000_000 - made > self.lifetime:
            raise FhirError.at(
                Kind.GONE,
                "http._page",
                f"The link to this page was good for {self.lifetime} s; search again",
            )
        return state


def _refused(text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, "http._page", text)
