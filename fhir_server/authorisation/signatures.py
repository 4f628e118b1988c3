"""JSON Web Signatures and Keys: which algorithms and keys are taken, and nothing else.

https://www.rfc-editor.org/rfc/rfc7515 (signatures), 7517 (keys), 7518 (algorithms), 8725 (what
goes wrong with them). The header says which algorithm, and the key must be one for it: no key
serves two sorts, so none can be taken for another. `jku`, `x5u` and `jwk` of a header are not
looked at.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from jose import jwk
from jose.exceptions import JOSEError

from fhir_server.access.tokens.keys import ALGORITHMS, PublicKey
from fhir_server.access.tokens.problems import BadToken
from fhir_server.errors import FhirError
from fhir_server.fhir import json

Key = Mapping[str, str]
"""A JSON Web Key."""

NAMES: Final = ", ".join(ALGORITHMS)
LONGEST: Final = 16 * 1024
"""Characters of a token."""
MOST_KEYS: Final = 20
"""Keys in a set."""
_BITS: Final = (2048, 8192)
"""The shortest and longest RSA keys."""
_PARTS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
_SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_EXPONENT: Final = 65537
"""https://www.rfc-editor.org/rfc/rfc7518#section-6.3.1.2; others are a sign of a poor key."""
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_TEXT: Final = 2048
"""Characters of a member of a key."""
_DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Signed:
    """A token in its parts, not verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    text: str

    @property
    def algorithm(self) -> str:
        found = self.header.get("alg")
        return found if isinstance(found, str) and found in ALGORITHMS else ""


def read(token: str) -> Signed:
    """
    Raises:
        ValueError: for what is no JSON Web Signature, or has an algorithm that is not taken.
    """
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3 or not all(map(_BASE64.fullmatch, parts)):
        raise ValueError(
            f"it is not a signed JSON Web Token: three parts of base64url, at most {LONGEST} "
            "characters together"
        )
    header, claims = _object(parts[0], "header"), _object(parts[1], "claims")
    signed = Signed(header, claims, token)
    if not signed.algorithm:
        raise ValueError(f"its alg is not one of {NAMES}")
    if "crit" in header or "b64" in header:
        raise ValueError("its header has crit or b64, and no extension is known here")
    return signed


def _object(part: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.decode(_bytes(part), _DEPTH)
    except FhirError:
        raise ValueError(f"its {name} is not JSON") from None
    if isinstance(found, dict):
        return found
    raise ValueError(f"its {name} is not a JSON object")


def _bytes(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise ValueError("a part of it is not base64url") from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def is_signed_by(token: Signed, key: Key) -> bool:
    """Whether it is, by its algorithm and a public key of a set that was checked."""
    try:
        PublicKey(key["kid"], key).payload(token.text, token.algorithm)
    except (BadToken, ValueError):
        return False
    return True


def signed(claims: Mapping[str, Any], private: Key, typ: str = "JWT") -> str:
    """A token that the private key signs, by the algorithm that the key names."""
    header = {"alg": private["alg"], "kid": private["kid"], "typ": typ}
    content = ".".join(_text(json.encode(part)) for part in (header, claims))
    made = jwk.construct(dict(private), private["alg"]).sign(content.encode())
    return f"{content}.{_text(made)}"


def checked_keys(given: Any) -> tuple[dict[str, str], ...]:
    """The public keys of a key set, with the members that count.

    Raises:
        ValueError: what is wrong with it, and what is allowed.
    """
    keys = given.get("keys") if isinstance(given, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS:
        raise ValueError(
            f"a key set is a JSON object with keys, of which there are 1 to {MOST_KEYS}"
        )
    found = tuple(_checked(key, f"keys[{index}]") for index, key in enumerate(keys))
    if len({key["kid"] for key in found}) < len(found):
        raise ValueError("two keys of the set have the same kid")
    return found


def _checked(given: Any, where: str) -> dict[str, str]:
    key: dict[str, Any] = given if isinstance(given, dict) else {}
    if key.keys() & _SECRET:
        raise ValueError(f"{where} is a private or symmetric key; give the public part of the pair")
    kind = key.get("kty")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise ValueError(f"{where} is a JSON object whose kty is RSA or EC")
    names = ("kty", "kid", *_PARTS[kind], *(("alg",) if "alg" in key else ()))
    kept: dict[str, str] = {name: value for name in names if _is_text(value := key.get(name))}
    if len(kept) < len(names):
        raise ValueError(f"{where} has {', '.join(names)}, each a text that is not empty")
    _require_use(key, where)
    _require_strength(kept, where)
    return kept


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT


def _require_use(key: Mapping[str, Any], where: str) -> None:
    if key.get("use", "sig") != "sig":
        raise ValueError(f"{where}: use is sig, or is not there")
    if "alg" in key and not PublicKey("", key).fits(key["alg"]):
        raise ValueError(f"{where}: alg is one of {NAMES}, and one for this sort of key")


def _require_strength(key: Key, where: str) -> None:
    fitting = [name for name in ALGORITHMS if PublicKey("", key).fits(name)]
    if not fitting and "alg" not in key:
        raise ValueError(f"{where}: crv is P-256, P-384 or P-521")
    numbers = [key[name] for name in ("n", "e", "x", "y") if name in key]
    if not all(map(_BASE64.fullmatch, numbers)):
        raise ValueError(f"{where}: a number of the key is not base64url")
    shortest, longest = _BITS
    if key["kty"] == "RSA" and not shortest <= _number(key["n"]).bit_length() <= longest:
        raise ValueError(f"{where}: an RSA key has {shortest} to {longest} bits")
    if key["kty"] == "RSA" and _number(key["e"]) != _EXPONENT:
        raise ValueError(f"{where}: the exponent of an RSA key is {_EXPONENT} (AQAB)")
    try:
        jwk.construct(dict(key), fitting[0].replace("PS", "RS"))
    except (JOSEError, ValueError):
        raise ValueError(f"{where} is not a point of its curve, or no key at all") from None


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")
