"""How a client says who it is: a token that it signed itself, good once.

https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html,
https://www.rfc-editor.org/rfc/rfc7523#section-3. What is wrong with the assertion itself is told;
whether there is such a client, and what its keys are, is not.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.access.ledger import LedgerUnit, Memo
from fhir_server.authorisation import clients
from fhir_server.authorisation.clients import Client, is_client_id
from fhir_server.authorisation.refusals import Refusal, invalid_client, invalid_request
from fhir_server.authorisation.signatures import Signed, read

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE: Final = 300
"""Seconds for which an assertion may still be good."""
LEEWAY: Final = 30
"""Seconds by which clocks may differ."""
_SPENT: Final = "assertions"
"""The space of those that were used, until they expire."""
_TYPES: Final = ("jwt", "client-authentication+jwt")
_LONGEST: Final = 255
"""Characters of a `jti` or `kid`."""
_END_OF_TIME: Final = 253_402_300_799
"""Seconds since the epoch, in the year 9999."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an assertion says, as long as its signature is the client's.

    `expires` is in seconds since the epoch.
    """

    token: Signed
    client: str
    kid: str
    jti: str
    expires: int


def required(form: Mapping[str, str], audience: str, now: int) -> Assertion:
    """The assertion of a form.

    Args:
        audience: what its `aud` has to be, the address of the token endpoint.
        now: seconds since the epoch.

    Raises:
        Refusal: for one that nobody could be let in by.
    """
    given = form.get("client_assertion")
    if given is None or "client_assertion_type" not in form:
        raise invalid_client("client_assertion_type and client_assertion say who the client is")
    if form["client_assertion_type"] != TYPE:
        raise invalid_client(f"client_assertion_type is {TYPE}")
    if "client_secret" in form:
        raise invalid_request("client_secret: there are no secrets, and one way to say who one is")
    try:
        found = _checked(read(given), audience, now)
    except ValueError as error:
        raise invalid_client(f"client_assertion: {error}") from None
    if form.get("client_id", found.client) != found.client:
        raise invalid_client("client_id is not the sub of the client_assertion")
    return found


def _checked(token: Signed, audience: str, now: int) -> Assertion:
    """
    Raises:
        ValueError: what is wrong with its header or claims.
    """
    claims, header = token.claims, token.header
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise ValueError("its typ is JWT")
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer != claims.get("sub") or not is_client_id(issuer):
        raise ValueError("its iss and sub are both the id of the client")
    if claims.get("aud") not in (audience, [audience]):
        raise ValueError(f"its aud is {audience}, and nothing beside it")
    kid = _text(header.get("kid"), "kid")
    jti = _text(claims.get("jti"), "jti")
    return Assertion(token, issuer, kid, jti, _expiry(claims, now))


def _expiry(claims: Mapping[str, Any], now: int) -> int:
    expires = _moment(claims, "exp")
    if expires is None or expires + LEEWAY <= now:
        raise ValueError("its exp is missing or in the past")
    if expires > now + LONGEST_LIFE + LEEWAY:
        raise ValueError(f"its exp is more than {LONGEST_LIFE} seconds ahead")
    for name in ("iat", "nbf"):
        if (_moment(claims, name) or 0) > now + LEEWAY:
            raise ValueError(f"its {name} is in the future")
    return math.ceil(expires)


def _moment(claims: Mapping[str, Any], name: str) -> int | Decimal | None:
    """Seconds since the epoch."""
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, int | Decimal) and found is not True and 0 <= found <= _END_OF_TIME:
        return found
    raise ValueError(f"its {name} is not a number of seconds since 1970")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST:
        raise ValueError(f"its {name} is a text of 1 to {_LONGEST} characters")
    return value


def not_known() -> Refusal:
    """The same for a client that is not there, is disabled or did not sign it."""
    return invalid_client(
        "client_assertion: no client of that id that is enabled has a key that verifies it"
    )


async def spend(unit: LedgerUnit, client: Client, assertion: Assertion) -> None:
    """Use the assertion up, in the commit of what it is used for.

    Raises:
        Refusal: it was used before; or the client is not any more what it was verified by.
    """
    if await clients.find(unit, client.id) != client:
        raise not_known()
    key = f"{client.id}/{hashlib.sha256(assertion.jti.encode()).hexdigest()}"
    if await unit.memo(_SPENT, key) is not None:
        raise invalid_client("client_assertion: its jti was used before; each is good once")
    until = assertion.expires + LEEWAY + 1
    await unit.keep(Memo(_SPENT, key, b"", until * 1_000_000))
