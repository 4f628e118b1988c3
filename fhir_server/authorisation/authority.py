"""The authorisation server for machines: tokens, their end, and what is asked about them.

https://hl7.org/fhir/smart-app-launch/backend-services.html; access tokens are those of
https://www.rfc-editor.org/rfc/rfc9068.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.caller import Grant
from fhir_server.access.issued import ENDED, KEYS, TOKENS
from fhir_server.access.ledger import Ledger, LedgerUnit, Memo
from fhir_server.access.tokens.keys import ALGORITHMS
from fhir_server.authorisation import assertions, clients, scopes
from fhir_server.authorisation.assertions import Assertion
from fhir_server.authorisation.clients import Client
from fhir_server.authorisation.fetching import KeySets, NoKeys
from fhir_server.authorisation.keys import signing_key
from fhir_server.authorisation.refusals import Refusal, invalid_request, invalid_scope, recorded
from fhir_server.authorisation.signatures import (
    Key,
    Signed,
    is_signed_by,
    read,
    signed,
)
from fhir_server.fhir import json

Form = Mapping[str, str]
Claims = dict[str, Any]

_log: Final = logging.getLogger(__name__)
_GRANT: Final = "client_credentials"
_TYPE: Final = "at+jwt"
_SPARE: Final = 60
"""Seconds for which a token is remembered after it expired, for clocks that differ."""
_REMEMBERED: Final = 90 * 24 * 3600 * 1_000_000
"""Microseconds for which a revoked token is known as one; what it began looks every few seconds."""
_MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """Where it stands, and what its tokens are for.

    Args:
        base: its own address, which is the issuer of its tokens.
        audience: the FHIR base that they are good for.
        lifetime: seconds that a token is good for.
    """

    base: str
    audience: str
    lifetime: int = 300

    @property
    def token_endpoint(self) -> str:
        return f"{self.base}/token"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, and what the answer says of it."""

    token: str
    scope: str
    expires_in: int

    def told(self) -> dict[str, Any]:
        """https://hl7.org/fhir/smart-app-launch/backend-services.html#issue-access-token"""
        return {
            "access_token": self.token,
            "token_type": "bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }


class Authority:
    """What is asked of it, as forms that were read and answers that are to be written.

    Args:
        clock: microseconds since the epoch.
    """

    def __init__(
        self, ledger: Ledger, clock: Callable[[], int], terms: Terms, keys: KeySets | None = None
    ) -> None:
        self.terms: Final = terms
        self._ledger = ledger
        self._clock = clock
        self._sets = keys or KeySets()

    async def token(self, form: Form, address: str = "") -> dict[str, Any]:
        """A new token: https://www.rfc-editor.org/rfc/rfc6749#section-4.4.

        The assertion is used up whether there is a token or the scopes are refused.

        Args:
            address: where the client asks from, for the audit; so of the others.

        Raises:
            Refusal: what is wrong with the form, in the order of RFC 6749.
        """
        if "grant_type" not in form:
            raise invalid_request(f"grant_type is missing; it is {_GRANT}")
        if form["grant_type"] != _GRANT:
            raise Refusal("unsupported_grant_type", f"grant_type is {_GRANT}")
        client, assertion = await self._authenticated(form)
        asked = await self._asked(client, form)
        made = None if isinstance(asked, Refusal) else await self._made(client, *asked)

        async def work(unit: LedgerUnit) -> None:
            await assertions.spend(unit, client, assertion)
            if made is not None:
                await unit.keep(self._memo(made))

        done = "token" if made else "token-refused"
        await self._ledger.commit(client.id, done, work, address)
        if isinstance(asked, Refusal):
            raise recorded(asked)
        assert made is not None  # noqa: S101 - it is None for a refusal alone
        return (await self._signed(made)).told()

    async def issue(self, client_id: str, scope: str, purpose: str = "") -> Issued:
        """A token for a client without an assertion of it: for whoever runs the server.

        Raises:
            Refusal: there is no such client that is enabled, or it may not have what is asked.
        """
        client = await clients.find(self._ledger, client_id)
        if client is None or client.disabled:
            raise assertions.not_known()
        form = {"scope": scope, **({"purpose_of_use": purpose} if purpose else {})}
        asked = await self._asked(client, form)
        if isinstance(asked, Refusal):
            raise asked
        made = await self._made(client, *asked)

        async def work(unit: LedgerUnit) -> None:
            if await clients.find(unit, client_id) != client:
                raise assertions.not_known()
            await unit.keep(self._memo(made))

        await self._ledger.commit("operator", "token", work)
        return await self._signed(made)

    async def revoke(self, form: Form, address: str = "") -> None:
        """End a token: https://www.rfc-editor.org/rfc/rfc7009#section-2.

        One that is none or was revoked before is as good as revoked. What it began ends with it,
        also where it has expired since.

        Raises:
            Refusal: the token is another client's.
        """
        client, assertion = await self._authenticated(form)
        claims = await self._claims(_token(form), or_expired=True)
        foreign = claims is not None and claims["client_id"] != client.id

        async def work(unit: LedgerUnit) -> None:
            await assertions.spend(unit, client, assertion)
            if claims is not None and not foreign:
                await unit.forget(TOKENS, claims["jti"])
                until = self._clock() + _REMEMBERED
                await unit.keep(Memo(ENDED, claims["jti"], b"", until))

        await self._ledger.commit(client.id, "revoke", work, address)
        if foreign:
            text = "token: it was issued to another client"
            raise recorded(Refusal("unauthorized_client", text))

    async def introspect(self, form: Form, address: str = "") -> dict[str, Any]:
        """What a token says, while it is good: https://www.rfc-editor.org/rfc/rfc7662#section-2.

        Raises:
            Refusal: the client is not registered for it.
        """
        client, assertion = await self._authenticated(form)
        token = _token(form)

        async def work(unit: LedgerUnit) -> None:
            await assertions.spend(unit, client, assertion)

        await self._ledger.commit(client.id, "introspect", work, address)
        if not client.introspects:
            text = "the client is not registered to ask about tokens (--introspects)"
            raise recorded(Refusal("unauthorized_client", text, 403))
        claims = await self._claims(token)
        if claims is None or await self._ledger.memo(TOKENS, claims["jti"]) is None:
            return {"active": False}
        return {"active": True, "token_type": "bearer", **claims}

    async def jwks(self) -> dict[str, Any]:
        """The keys by which its tokens are verified, one at least."""
        if not await self._public_keys():
            await signing_key(self._ledger, self._clock())
        return {"keys": await self._public_keys()}

    def described(self) -> dict[str, Any]:
        """Where and how it is asked: https://www.rfc-editor.org/rfc/rfc8414#section-2."""
        by_key = {
            "token_endpoint": ["private_key_jwt"],
            "revocation_endpoint": ["private_key_jwt"],
            "introspection_endpoint": ["private_key_jwt"],
        }
        return {
            "issuer": self.terms.base,
            "jwks_uri": f"{self.terms.base}/jwks",
            "token_endpoint": self.terms.token_endpoint,
            "revocation_endpoint": f"{self.terms.base}/revoke",
            "introspection_endpoint": f"{self.terms.base}/introspect",
            "grant_types_supported": [_GRANT],
            "response_types_supported": [],
            **{f"{name}_auth_methods_supported": methods for name, methods in by_key.items()},
            **{f"{name}_auth_signing_alg_values_supported": [*ALGORITHMS] for name in by_key},
        }

    async def _authenticated(self, form: Form) -> tuple[Client, Assertion]:
        """Who asks, by an assertion that is still to be spent."""
        now = self._clock() // 1_000_000
        assertion = assertions.required(form, self.terms.token_endpoint, now)
        client = await clients.find(self._ledger, assertion.client)
        wrong = await self._wrong_with(assertion, client)
        if client is None or wrong:
            _log.warning("An assertion in the name of %s is refused: %s", assertion.client, wrong)
            raise assertions.not_known()
        return client, assertion

    async def _wrong_with(self, assertion: Assertion, client: Client | None) -> str:
        """Why it is not the client's, for the log; empty when it is."""
        if client is None or client.disabled:
            return "it is disabled" if client else "there is no such client"
        key = await self._key(client, assertion.kid)
        if key is None:
            return "its kid is none of the client's"
        return "" if is_signed_by(assertion.token, key) else "the signature is not that of the key"

    async def _key(self, client: Client, kid: str) -> Key | None:
        if not client.jwks_uri:
            return next((key for key in client.keys if key["kid"] == kid), None)
        try:
            return await self._sets.key(client.jwks_uri, kid)
        except NoKeys as error:
            _log.warning("The key set of client %s cannot be had: %s", client.id, error)
            return None

    async def _asked(self, client: Client, form: Form) -> tuple[tuple[Grant, ...], str] | Refusal:
        """The scopes and the purpose of the token, or why there is none."""
        try:
            return _granted(client, form.get("scope", "")), _purpose(client, form)
        except Refusal as refusal:
            return refusal

    async def _made(self, client: Client, granted: tuple[Grant, ...], purpose: str) -> Claims:
        """The claims of a new token: RFC 9068 section 2.2, and those of the registration."""
        now = self._clock() // 1_000_000
        told = {
            "scope": scopes.rendered(granted),
            "ods_code": client.ods_code,
            "role": [*client.roles],
            "purpose_of_use": purpose,
            "fhirUser": client.user,
            "patient": client.patient,
        }
        return {
            "iss": self.terms.base,
            "sub": client.id,
            "client_id": client.id,
            "aud": self.terms.audience,
            "iat": now,
            "nbf": now,
            "exp": now + self.terms.lifetime,
            "jti": f"{client.id}/{secrets.token_urlsafe(24)}",
            **{name: value for name, value in told.items() if value},
        }

    def _memo(self, claims: Claims) -> Memo:
        """As long as it is there, the token is good."""
        return Memo(TOKENS, claims["jti"], b"", (claims["exp"] + _SPARE) * 1_000_000)

    async def _signed(self, claims: Claims) -> Issued:
        key = await signing_key(self._ledger, self._clock())
        return Issued(signed(claims, key, _TYPE), claims["scope"], self.terms.lifetime)

    async def _claims(self, token: str, *, or_expired: bool = False) -> Claims | None:
        """What a token says that this server signed and that has not expired."""
        try:
            found = read(token)
        except ValueError:
            return None
        if found.header.get("typ") != _TYPE or not await self._is_own(found):
            return None
        claims = dict(found.claims)
        lives = or_expired or claims["exp"] > self._clock() // 1_000_000
        return claims if lives and claims["iss"] == self.terms.base else None

    async def _is_own(self, token: Signed) -> bool:
        return any(
            key["kid"] == token.header.get("kid") and is_signed_by(token, key)
            for key in await self._public_keys()
        )

    async def _public_keys(self) -> list[dict[str, str]]:
        found = await self._ledger.memos(KEYS, "", _MOST_KEYS)
        return [json.decode_own(memo.value)["public"] for memo in found]


def _token(form: Form) -> str:
    if "token" not in form:
        raise invalid_request("token is missing")
    return form["token"]


def _granted(client: Client, asked: str) -> tuple[Grant, ...]:
    if not asked:
        raise invalid_scope("scope is missing; a client asks for what it needs")
    try:
        granted = scopes.common(scopes.parse(asked), scopes.parse(client.scopes))
    except ValueError as error:
        raise invalid_scope(f"scope: {error}") from None
    if not granted:
        raise invalid_scope("scope: the client is registered for nothing of what it asks for")
    return granted


def _purpose(client: Client, form: Form) -> str:
    asked = form.get("purpose_of_use", "")
    if asked and asked not in client.purposes:
        known = ", ".join(client.purposes) or "none"
        raise invalid_request(f"purpose_of_use is one that the client is registered for: {known}")
    return asked or next(iter(client.purposes), "")
