"""Why a token is not taken: the log is told the reason, whoever sent it is not."""

from typing import Final

from fhir_server.errors import FhirError, Kind

REALM: Final = 'Bearer realm="fhir"'


class BadToken(Exception):
    """The token is not good. The reason never holds the token or a part of it."""


class CannotVerify(Exception):
    """Whether the token is good cannot be found out now: the issuer does not answer."""


def without_token() -> FhirError:
    """https://www.rfc-editor.org/rfc/rfc6750#section-3: no error code where none was sent."""
    text = "A token is needed: send it as 'Authorization: Bearer …'"
    return _unauthenticated(text, REALM)


def not_good() -> FhirError:
    """The same for every reason: which one would help whoever is guessing."""
    text = "The token is not valid here: it is malformed, expired, revoked or not meant for us"
    return _unauthenticated(text, f'{REALM}, error="invalid_token"')


def not_now() -> FhirError:
    text = "Tokens cannot be checked at the moment: who issues them does not answer"
    return FhirError.at(Kind.UNAVAILABLE, "http.Authorization", text)


def in_address() -> FhirError:
    """A token in an address ends up in logs and histories; RFC 6750 section 5.3."""
    text = "A token is sent as 'Authorization: Bearer …', never in the address"
    return FhirError.at(Kind.INVALID, "http.access_token", text)


def _unauthenticated(text: str, challenge: str) -> FhirError:
    return FhirError(Kind.UNAUTHENTICATED, text, challenge=challenge)
