"""Links to further pages: sealed, so that nobody reads, edits or prolongs them.

The seal is Fernet's authenticated encryption with a key that all processes on the store share.
What a caller may see is decided anew on each page: the link holds a place, not a right.
"""

import json
from typing import Any
from urllib.parse import quote

from cryptography.fernet import InvalidToken

from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.exchange import Server


def link(server: Server, address: str, state: Any) -> str:
    """The URL of a further page of what `address`, relative to the base, answered.

    `state` is JSON; decimals become floats.
    """
    plain = json.dumps([address, state], separators=(",", ":")).encode()
    sealed = server.pages.encrypt_at_time(plain, server.clock() // 1_000_000)
    return f"{server.base}/{address}?_page={quote(sealed.decode())}"


def opened(server: Server, address: str, token: str) -> Any:
    """The state in a token that `link` made for the same address.

    Raises:
        FhirError: INVALID for a token that this server did not make, or made for another
            address; GONE for one that is too old.
    """
    try:
        plain = server.pages.decrypt(token)
        made = server.pages.extract_timestamp(token)
    except (InvalidToken, ValueError, TypeError):
        raise _refused("The link to this page is not one that the server gave") from None
    given_for, state = json.loads(plain)
    if given_for != address:
        raise _refused(f"The link to this page was given for {given_for}")
    if server.clock() // 1_000_000 - made > server.page_lifetime:
        raise FhirError.at(
            Kind.GONE,
            "http._page",
            f"The link to this page was good for {server.page_lifetime} s; search again",
        )
    return state


def _refused(text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, "http._page", text)
