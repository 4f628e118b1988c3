"""New key pairs, as JSON Web Keys: of the server itself and, to begin with, of clients."""

import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk

ES384: Final = "ES384"
RS384: Final = "RS384"
_SECRET: Final = ("d", "p", "q", "dp", "dq", "qi")
_RSA_BITS: Final = 3072


def generated(algorithm: str = ES384) -> dict[str, str]:
    """A private key with a random `kid`, for ES384 or RS384."""
    pair: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == ES384:
        pair = ec.generate_private_key(ec.SECP384R1())
    else:
        pair = rsa.generate_private_key(65537, _RSA_BITS)
    pem = pair.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    found: dict[str, str] = jwk.construct(pem, algorithm).to_dict()
    return {**found, "alg": algorithm, "kid": secrets.token_urlsafe(12), "use": "sig"}


def public(private: dict[str, str]) -> dict[str, str]:
    """The part of the pair that others may have."""
    return {name: value for name, value in private.items() if name not in _SECRET}
