"""Public keys of issuers, as a JWK Set tells them, and the signatures that they verify.

https://www.rfc-editor.org/rfc/rfc7517, https://www.rfc-editor.org/rfc/rfc7518#section-3. A key
verifies by an algorithm of its own type and curve alone, and by no other where it names one: so a
public key is never taken for a secret, nor one curve for another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from jose import jws
from jose.backends.base import Key as JoseKey
from jose.exceptions import JOSEError
from jose.jwk import construct

from fhir_server.access.tokens.problems import BadToken
from fhir_server.errors import FhirError
from fhir_server.fhir import json

_HASHES: Final[Mapping[str, type[Any]]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
ALGORITHMS: Final = tuple(f"{name}{size}" for name in ("RS", "PS", "ES") for size in _HASHES)
"""Those that can be allowed: none with a shared secret, and never `none`."""
_RSA_BITS: Final = range(2048, 8193)
"""https://www.rfc-editor.org/rfc/rfc7518#section-3.3; above, verifying takes too long."""
_MOST_KEYS: Final = 100
_DEPTH: Final = 10
_NOT_PUBLIC: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class _PssKey(JoseKey):  # type: ignore[misc]  # jose is untyped
    """RSASSA-PSS, which python-jose itself has not."""

    def __init__(self, public_key: Any, algorithm: str) -> None:
        super().__init__(public_key, algorithm)
        self._public_key = public_key
        self._hash = _HASHES[algorithm[2:]]()

    def verify(self, msg: bytes, sig: bytes) -> bool:
        scheme = padding.PSS(padding.MGF1(self._hash), padding.PSS.DIGEST_LENGTH)
        try:
            self._public_key.verify(sig, msg, scheme, self._hash)
        except InvalidSignature:
            return False
        return True


@dataclass(slots=True)
class PublicKey:
    """One key of a set."""

    id: str
    jwk: Mapping[str, Any]
    _prepared: dict[str, Any] = field(default_factory=dict)
    """By algorithm."""

    def fits(self, algorithm: str) -> bool:
        """Whether the key is for signatures of that algorithm."""
        if self.jwk.get("alg", algorithm) != algorithm or algorithm not in ALGORITHMS:
            return False
        if algorithm in _CURVES:
            return self.jwk["kty"] == "EC" and self.jwk.get("crv") == _CURVES[algorithm]
        return bool(self.jwk["kty"] == "RSA")

    def payload(self, token: str, algorithm: str) -> bytes:
        """What the token says, of which the signature was verified.

        Raises:
            BadToken: for any other signature.
        """
        if not self.fits(algorithm):
            raise BadToken("its key is not one for its algorithm")
        try:
            key = self._key(algorithm)
            payload: bytes = jws.verify(token, key, algorithms=[algorithm])
        except JOSEError:
            raise BadToken("its signature is wrong") from None
        return payload

    def _key(self, algorithm: str) -> Any:
        if algorithm not in self._prepared:
            self._prepared[algorithm] = _prepared(self.jwk, algorithm)
        return self._prepared[algorithm]


def _prepared(jwk: Mapping[str, Any], algorithm: str) -> Any:
    if algorithm.startswith("PS"):
        return _PssKey(construct(dict(jwk), f"RS{algorithm[2:]}").prepared_key, algorithm)
    return construct(dict(jwk), algorithm)


def key_set(raw: bytes) -> dict[str, tuple[PublicKey, ...]]:
    """The keys of a JWK Set by their ids, of which some may share one.

    Keys for something else, of another type, too short, or with a private part are left out: so
    is one without an id.

    Raises:
        ValueError: for what is no JWK Set.
    """
    try:
        told = json.decode(raw, _DEPTH)
    except FhirError as error:
        raise ValueError(str(error)) from None
    keys = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise ValueError(f"it is not a JWK Set of at most {_MOST_KEYS} keys")
    found: dict[str, tuple[PublicKey, ...]] = {}
    for jwk in keys:
        if isinstance(jwk, dict) and _is_usable(jwk):
            found[jwk["kid"]] = (*found.get(jwk["kid"], ()), PublicKey(jwk["kid"], jwk))
    return found


def _is_usable(jwk: Mapping[str, Any]) -> bool:
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not (isinstance(kid, str) and kid) or jwk.get("kty") not in ("RSA", "EC"):
        return False
    if jwk.get("use", "sig") != "sig" or not _NOT_PUBLIC.isdisjoint(jwk):
        return False
    return isinstance(operations, list) and "verify" in operations and _is_sound(jwk)


def _is_sound(jwk: Mapping[str, Any]) -> bool:
    """Whether its numbers make a key that is long enough."""
    fitting = [one for one in ALGORITHMS if PublicKey("", jwk).fits(one)]
    try:
        key = construct(dict(jwk), fitting[-1].replace("PS", "RS")).prepared_key
    except Exception:  # whatever a library makes of numbers of somebody else's
        return False
    return jwk["kty"] == "EC" or key.key_size in _RSA_BITS


def chosen(keys: Sequence[PublicKey], algorithm: str) -> PublicKey:
    """The one key of an id that is for the algorithm.

    Raises:
        BadToken: where there is none, or more than one.
    """
    fitting = [key for key in keys if key.fits(algorithm)]
    if len(fitting) != 1:
        raise BadToken("its kid names no key for its algorithm")
    return fitting[0]
