"""Links to further pages of an interaction; `fhir_server.operation.pages` says what they are."""

from typing import Any

from fhir_server.access.session import Data
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.exchange import Request, Server
from fhir_server.operation.pages import Pages


def pages(server: Server, data: Data) -> Pages:
    """What makes and opens this server's links for whoever asks."""
    return Pages(
        server.pages, server.base, data.caller.name, server.clock, lifetime=server.page_lifetime
    )


def link(server: Server, data: Data, address: str, state: Any) -> str:
    """The URL of a further page of what `address`, relative to the base, answered.

    `state` is JSON; decimals become floats.
    """
    return pages(server, data).link(address, state)


def opened(server: Server, data: Data, address: str, token: str) -> Any:
    """The state in a token that `link` made for the same caller and address.

    Raises:
        FhirError: INVALID for a token that this server did not make, or made for another
            caller or address; GONE for one that is too old, or of another release.
    """
    return pages(server, data).opened(address, token)


def token(request: Request) -> str | None:
    """What the link to a further page holds, None where no such link is followed.

    Raises:
        FhirError: INVALID where it stands beside anything that it holds already.
    """
    tokens = [value for name, value in request.parameters if name == "_page"]
    if not tokens:
        return None
    others = {name for name, _ in request.parameters} - {"_page", "_format", "_pretty"}
    if len(tokens) > 1 or others or request.resource is not None:
        raise FhirError.at(
            Kind.INVALID, "http._page", "A link to a further page takes no other parameters"
        )
    return tokens[0]
