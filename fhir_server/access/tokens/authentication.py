"""From `Authorization` to the caller: https://www.rfc-editor.org/rfc/rfc6750.

Whatever goes wrong, and however unforeseen, ends in a refusal. A token that was verified is known
again for a while by its digest, never by itself, unless it is revoked meanwhile.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, Protocol

from fhir_server.access.caller import Caller
from fhir_server.access.tokens.claims import ClaimNames, Claims, caller_of, token_id
from fhir_server.access.tokens.introspection import Introspection
from fhir_server.access.tokens.jwt import Issuer, is_jwt, verified
from fhir_server.access.tokens.problems import (
    BadToken,
    CannotVerify,
    not_good,
    not_now,
    without_token,
)
from fhir_server.errors import FhirError

_log: Final = logging.getLogger(__name__)
_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)
_KEPT: Final = 10_000
"""Tokens that are known again."""
_SHOWN: Final = 2_000
"""Tokens of which the issuer may be asked for work that goes on: in memory alone."""


class Revocations(Protocol):
    """What was taken back before it expired."""

    async def revoked(self, issuer: str, jti: str) -> bool:
        """Asked for every request: as cheap as one look into memory or the store."""


class NoRevocations:
    """Of issuers elsewhere, whose tokens end when they expire."""

    async def revoked(self, issuer: str, jti: str) -> bool:  # noqa: ARG002
        return False


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose tokens are taken, and how they are read."""

    base: str
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    introspection: Introspection | None = None
    names: ClaimNames = field(default_factory=ClaimNames)
    revocations: Revocations = field(default_factory=NoRevocations)
    max_token: int = 16 * 1024
    """Characters."""
    cache: int = 300
    """Seconds for which a verified token is known again, at most."""
    introspection_cache: int = 30


@dataclass(frozen=True, slots=True)
class Proven:
    """A token that was verified, and until when it may be known again."""

    caller: Caller
    issuer: str
    jti: str
    until: int
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Shown:
    token: str = field(repr=False)
    caller: Caller
    """Whose it was said to be, and what for."""
    expires: int
    asked: int
    """Seconds since the epoch, as `expires`."""
    is_good: bool = True


class Authenticator:
    """Says who a request is from.

    Args:
        clock: microseconds since the epoch.
    """

    def __init__(self, trust: Trust, clock: Callable[[], int]) -> None:
        self._trust = trust
        self._clock = clock
        self._known: OrderedDict[bytes, Proven] = OrderedDict()
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        """By what their callers have as the id of the token."""

    async def caller(self, authorization: str | None, request_id: str = "") -> Caller:
        """Who sent that header, without the id of their request.

        Raises:
            FhirError: UNAUTHENTICATED; UNAVAILABLE while tokens cannot be verified.
        """
        if not authorization:
            raise without_token()
        try:
            return await self._verified(authorization)
        except BadToken as reason:
            _log.warning("Request %s: the token is refused: %s", request_id, reason)
            raise not_good() from None
        except CannotVerify as reason:
            _log.warning("Request %s: the token cannot be verified: %s", request_id, reason)
            raise not_now() from None
        except FhirError as error:
            _log.warning("Request %s: the token cannot be verified: %s", request_id, error.kind)
            raise not_now() from None
        except Exception as error:  # its text may hold a part of the token
            _log.error("Request %s: %s in a token", request_id, type(error).__name__)
            raise not_good() from None

    def find(self, authorization: bytes) -> Proven | None:
        """The token in the very same header as before; as it came.

        None for any other, which `caller` looks into and tells of.
        """
        return self._known.get(sha256(authorization).digest())

    async def caller_by(self, token: Proven) -> Caller | None:
        """Whose a token is that was found before; None once it has to be looked into again."""
        if self._clock() >= token.until * 1_000_000:
            return None
        revocations = self._trust.revocations
        if type(revocations) is NoRevocations:  # for every request: not even to be awaited
            return token.caller
        return None if await revocations.revoked(token.issuer, token.jti) else token.caller

    async def stands(self, token: str) -> bool:
        """Whether the issuer still says that a token is good: asked anew after a while.

        Of those that were asked about when they were shown to this process, until they expire;
        about any other nobody can be asked.

        Args:
            token: its id, as its caller has it.

        Raises:
            FhirError: UNAVAILABLE.
        """
        shown, now = self._shown.get(token), self._clock() // 1_000_000
        if shown is None or now >= shown.expires:
            self._shown.pop(token, None)
            return True
        if shown.is_good and now - shown.asked >= self._trust.introspection_cache:
            shown = self._shown[token] = replace(
                shown, asked=now, is_good=await self._is_good(shown, now)
            )
        return shown.is_good

    async def _is_good(self, shown: _Shown, now: int) -> bool:
        """Another answer than before is a no: what goes on was begun with another."""
        assert self._trust.introspection is not None  # noqa: S101 - nothing was asked about else
        try:
            claims, until = await self._trust.introspection.claims(shown.token, now)
            return _says_the_same(self._caller(claims, "", until).caller, shown.caller)
        except BadToken:
            return False
        except CannotVerify as reason:
            _log.warning("Whether a token is still good cannot be asked: %s", reason)
            raise not_now() from None

    async def _verified(self, authorization: str) -> Caller:
        """Known again by the digest of the header, whose form need not be looked at once more."""
        digest, now = sha256(authorization.encode()).digest(), self._clock() // 1_000_000
        known = self._at_hand(digest, now)
        if known is None:
            known = await self._read(_token(authorization, self._trust.max_token), now)
            self._keep(digest, known)
        if await self._trust.revocations.revoked(known.issuer, known.jti):
            self._known.pop(digest, None)
            raise BadToken("it is revoked")
        return known.caller

    def _at_hand(self, digest: bytes, now: int) -> Proven | None:
        known = self._known.get(digest)
        if known is None or now < known.until:
            return known
        del self._known[digest]
        return None

    def _keep(self, digest: bytes, known: Proven) -> None:
        self._known[digest] = known
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)

    async def _read(self, token: str, now: int) -> Proven:
        trust = self._trust
        if is_jwt(token) and (trust.issuers or trust.introspection is None):
            claims, until = await verified(token, trust.issuers, now)
            return self._caller(claims, token_id(claims), min(until, now + trust.cache))
        if trust.introspection is None:
            raise BadToken("it is no JWT, and there is nobody to ask about others")
        claims, until = await trust.introspection.claims(token, now)
        jti = (
            token_id(claims) if "jti" in claims else f"sha256:{sha256(token.encode()).hexdigest()}"
        )
        known = self._caller(claims, jti, min(until, now + trust.introspection_cache))
        self._shown[jti] = _Shown(token, known.caller, claims["exp"], now)
        self._shown.move_to_end(jti)
        while len(self._shown) > _SHOWN:
            self._shown.popitem(last=False)
        return replace(known, caller=replace(known.caller, token=jti))

    def _caller(self, claims: Claims, jti: str, until: int) -> Proven:
        issuer = str(claims["iss"])
        known = self._trust.issuers.get(issuer)
        names = (known.names if known else None) or self._trust.names
        caller = caller_of(claims, names, issuer, self._trust.base)
        if known is None or not known.tells_revocations:
            caller = replace(caller, expires=claims["exp"])
        return Proven(caller, issuer, jti, until)


def _says_the_same(one: Caller, other: Caller) -> bool:
    """Of whom and for what, in whichever order; a token may well be good for longer by now."""
    if frozenset(one.grants) != frozenset(other.grants):
        return False
    return replace(one, grants=(), expires=0) == replace(other, grants=(), expires=0)


def _token(authorization: str, most: int) -> str:
    found = _BEARER.fullmatch(authorization) if len(authorization) <= most + 16 else None
    if found is None:
        raise BadToken("Authorization is not one bearer token, or too long")
    return found[1]
