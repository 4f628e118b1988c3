"""From verified claims to a caller: each claim is what it should be, or the token is not good.

A claim is never taken for something else: no object, list or number stands for text, so nothing
that is meant for a database (`{"$ne": ""}`) goes further than this.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fhir_server.access.caller import Caller, Role
from fhir_server.access.tokens.problems import BadToken
from fhir_server.access.tokens.scopes import grants
from fhir_server.fhir.references import is_id, parse_local

Claims = Mapping[str, Any]
"""As strict JSON gave them: whole numbers are `int`, others `Decimal`."""

_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,512}")
_ODS_CODE: Final = re.compile(r"[A-Z0-9]{3,12}", re.ASCII)
"""https://digital.nhs.uk/services/organisation-data-service: codes and site codes."""
_PURPOSE: Final = re.compile(r"[A-Z]{2,20}", re.ASCII)
"""https://terminology.hl7.org/CodeSystem-v3-ActReason.html"""
_USERS: Final = frozenset(
    {"Patient", "Person", "Practitioner", "PractitionerRole", "RelatedPerson"}
)
"""https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data"""
_LAST_MOMENT: Final = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claim says what. `a.b` is the claim `b` within `a` where no claim is called `a.b`."""

    client: tuple[str, ...] = ("client_id", "azp")
    """The first that is there counts."""
    scope: str = "scope"
    user: str = "fhirUser"
    organisation: str = "ods_code"
    role: str = "role"
    purpose: str = "purpose_of_use"
    patient: str = "patient"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to be to be meant for this server."""

    issuer: str
    audience: str
    leeway: int = 30
    """Seconds by which clocks may differ."""


def require_meant(claims: Claims, expected: Expected, now: int) -> int:
    """The second from which the token does not hold any more.

    Args:
        now: seconds since the epoch.

    Raises:
        BadToken: for another issuer or audience, and outside its time.
    """
    if claims.get("iss") != expected.issuer:
        raise BadToken("another issuer")
    if expected.audience not in _audiences(claims.get("aud")):
        raise BadToken("another audience")
    return require_now(claims, expected.leeway, now)


def require_now(claims: Claims, leeway: int, now: int) -> int:
    """As `require_meant`, of the time alone."""
    expires = _second(claims, "exp")
    if expires is None:
        raise BadToken("it has no exp")
    if now >= expires + leeway:
        raise BadToken("it is expired")
    for name in ("nbf", "iat"):
        moment = _second(claims, name)
        if moment is not None and now < moment - leeway:
            raise BadToken(f"its {name} is in the future")
    return expires + leeway


def _audiences(claim: Any) -> Sequence[str]:
    told = claim if isinstance(claim, list) else [claim]
    if not all(isinstance(one, str) for one in told):
        raise BadToken("its aud is neither text nor a list of texts")
    return told


def _second(claims: Claims, name: str) -> int | None:
    """Whole seconds alone: RFC 7519 has fractions too, which no issuer needs."""
    value = claims.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _LAST_MOMENT:
        raise BadToken(f"its {name} is no moment in whole seconds")
    return value


def token_id(claims: Claims) -> str:
    """The `jti`, by which the token is revoked.

    Raises:
        BadToken: without one, and for one that is no text.
    """
    return _text(claims, "jti") or _missing("jti")


def caller_of(claims: Claims, names: ClaimNames, issuer: str, base: str) -> Caller:
    """Who the claims say that it is.

    `issuer` is who vouches for them; `base` the server's address, below which users may be named.

    Raises:
        BadToken: for a claim that is not what it should be, and without client and subject.
    """
    user = _user(claims, names.user, base)
    client = next(filter(None, (_text(claims, name) for name in names.client)), "")
    subject = _text(claims, "sub")
    if not (client or subject):
        _missing("client and no sub")
    return Caller(
        name="/".join(quote(part, safe="") for part in (issuer, client, subject, user)),
        client=client or subject,
        user=user,
        organisation=_coded(claims, names.organisation, _ODS_CODE),
        roles=_roles(_claim(claims, names.role)),
        purpose=_coded(claims, names.purpose, _PURPOSE),
        patient=_patient(claims, names.patient, base),
        grants=grants(scope) if (scope := _claim(claims, names.scope)) is not None else (),
        token=_text(claims, "jti"),
    )


def _claim(claims: Claims, name: str) -> Any:
    if name in claims or "." not in name:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _text(claims: Claims, name: str) -> str:
    """Its text, '' where the claim is not there."""
    value = _claim(claims, name)
    if value is None:
        return ""
    if not (isinstance(value, str) and _TEXT.fullmatch(value)):
        raise BadToken(f"its {name} is no text")
    return value


def _missing(what: str) -> str:
    raise BadToken(f"it has no {what}")


def _coded(claims: Claims, name: str, pattern: re.Pattern[str]) -> str:
    value = _text(claims, name)
    if value and not pattern.fullmatch(value):
        raise BadToken(f"its {name} is no such code")
    return value


def _roles(claim: Any) -> frozenset[Role]:
    """Issuers list roles of all sorts: those that are none of ours give nothing."""
    told = claim if isinstance(claim, list) else [] if claim is None else [claim]
    if not all(isinstance(one, str) for one in told):
        raise BadToken("its roles are neither text nor a list of texts")
    return frozenset(role for role in Role if role.value in told)


def _user(claims: Claims, name: str, base: str) -> str:
    """`Practitioner/12`, also where it is told as an address below the base."""
    value = _text(claims, name)
    if not value:
        return ""
    found = parse_local(value, base)
    if found is None or found.type not in _USERS or found.version is not None:
        raise BadToken(f"its {name} is nobody here")
    return str(found)


def _patient(claims: Claims, name: str, base: str) -> str:
    """The id of the patient in the launch context; some issuers tell it as a reference."""
    value = _text(claims, name)
    if not value or is_id(value):
        return value
    found = parse_local(value, base)
    if found is None or found.type != "Patient" or found.version is not None:
        raise BadToken(f"its {name} is no patient here")
    return found.id
