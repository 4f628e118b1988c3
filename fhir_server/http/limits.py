"""Bounds on one request, whatever it asks for; beyond them it is refused before it costs much."""

from dataclasses import dataclass
from typing import Final

from fhir_server.fhir.json import MAX_DEPTH

MAX_URL: Final = 65_535
"""The parser of addresses reads no longer ones."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Settings of the same names say what they are for."""

    max_body: int = 16 * 1024 * 1024
    """Bytes of a body, inflated."""
    max_url: int = MAX_URL
    """Bytes of the address with its query: the link to a further page holds the whole search."""
    max_headers: int = 100
    max_header_bytes: int = 32 * 1024
    """Bytes of names and values of all headers together."""
    max_parameters: int = 100
    """Of a query string or form."""
    max_depth: int = MAX_DEPTH
    """Levels of objects and arrays in a body."""
