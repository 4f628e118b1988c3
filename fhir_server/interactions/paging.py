"""Links to further pages of an interaction; `fhir_server.operation.pages` says what they are."""

from typing import Any

from fhir_server.interactions.exchange import Server
from fhir_server.operation.pages import Pages


def pages(server: Server) -> Pages:
    """What makes and opens this server's links."""
    return Pages(server.pages, server.base, server.clock, server.page_lifetime)


def link(server: Server, address: str, state: Any) -> str:
    """The URL of a further page of what `address`, relative to the base, answered.

    `state` is JSON; decimals become floats.
    """
    return pages(server).link(address, state)


def opened(server: Server, address: str, token: str) -> Any:
    """The state in a token that `link` made for the same address.

    Raises:
        FhirError: INVALID for a token that this server did not make, or made for another
            address; GONE for one that is too old.
    """
    return pages(server).opened(address, token)
