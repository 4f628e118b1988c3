"""The query of an address: names and values, decoded."""

from typing import Final
from urllib.parse import unquote, unquote_plus

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.queries import pairs_of
from fhir_server.http.limits import HttpLimits

_IN_ADDRESS: Final = "access_token"
"""https://www.rfc-editor.org/rfc/rfc6750#section-2.3"""


def names_token(query: str) -> bool:
    """Whether a parameter has that name, percent-encoded or plain."""
    if "%" not in query and _IN_ADDRESS not in query:
        return False
    names = (part.partition("=")[0] for part in query.split("&"))
    return any(unquote_plus(name) == _IN_ADDRESS for name in names)


def parameters_of(text: str, limits: HttpLimits) -> list[tuple[str, str]]:
    """Names and values, decoded as UTF-8.

    Raises:
        FhirError: INVALID for escapes that are not UTF-8 and for control characters;
            TOO_COSTLY for too many.
    """
    if not text:
        return []
    count = text.count("&") + 1
    if count > limits.max_parameters:
        most = limits.max_parameters
        raise FhirError(Kind.TOO_COSTLY, f"{count} parameters; {most} are allowed")
    try:
        found = pairs_of(text)
    except ValueError as error:
        raise FhirError(Kind.INVALID, f"The query string cannot be read: {error}") from None
    if "\x00" in unquote(text):
        raise FhirError(Kind.INVALID, "The query string holds a NUL character")
    return found
