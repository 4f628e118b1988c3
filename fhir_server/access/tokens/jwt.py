"""JSON Web Tokens: what a token says, once its signature is verified and it is meant for us.

https://www.rfc-editor.org/rfc/rfc7519, https://www.rfc-editor.org/rfc/rfc9068, and for what is
refused https://www.rfc-editor.org/rfc/rfc8725. Keys come from the settings alone: whatever a token
says of where its key is (`jku`, `x5u`, `jwk`, `x5c`) is not looked at.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.tokens.claims import ClaimNames, Claims, Expected, require_meant
from fhir_server.access.tokens.keys import chosen
from fhir_server.access.tokens.problems import BadToken
from fhir_server.access.tokens.sources import KeySource
from fhir_server.errors import FhirError
from fhir_server.fhir import json

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_DEPTH: Final = 10
_LONGEST_ID: Final = 512
"""Characters of a `kid`."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are taken, with the keys that verify them and no others."""

    expected: Expected
    keys: KeySource
    algorithms: frozenset[str]
    names: ClaimNames | None = None
    """Which of its claims says what, where they are not called as the settings say."""
    tells_revocations: bool = False
    """Whether it is known at any time which of its tokens were revoked."""


def is_jwt(token: str) -> bool:
    """Whether it has the shape of a signed JWT; any other token is opaque."""
    return _SHAPE.fullmatch(token) is not None


async def verified(token: str, issuers: Mapping[str, Issuer], now: int) -> tuple[Claims, int]:
    """The claims, and the second from which the token does not hold any more.

    Args:
        issuers: by their names, as `iss` tells them.
        now: seconds since the epoch.

    Raises:
        BadToken; CannotVerify.
    """
    head, body, _ = token.split(".")
    header = _object(head, "header")
    told = _object(body, "claims").get("iss")
    issuer = issuers.get(told) if isinstance(told, str) else None
    if issuer is None:
        raise BadToken("another issuer")
    algorithm, kid = _required(header, issuer.algorithms)
    key = chosen(await issuer.keys.find(kid), algorithm)
    claims = _decoded(key.payload(token, algorithm), "claims")
    return claims, require_meant(claims, issuer.expected, now)


def _required(header: Mapping[str, Any], algorithms: frozenset[str]) -> tuple[str, str]:
    """Its algorithm and key, where nothing in the header speaks against it."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not (isinstance(algorithm, str) and algorithm in algorithms):
        raise BadToken("its alg is not allowed")
    if not (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_ID):
        raise BadToken("it has no kid")
    if not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise BadToken("its typ is not one of an access token")
    if "crit" in header or "b64" in header:
        raise BadToken("it has a critical extension, and none is known here")
    return algorithm, kid


def _object(segment: str, what: str) -> Mapping[str, Any]:
    try:
        raw = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise BadToken(f"its {what} are no base64url") from None
    return _decoded(raw, what)


def _decoded(raw: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object, strictly: two members of one name would be read by each as they like."""
    try:
        return json.decode_resource(raw, _DEPTH)
    except FhirError:
        raise BadToken(f"its {what} are no JSON object that can be read in one way") from None
