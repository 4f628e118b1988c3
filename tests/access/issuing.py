"""An issuer of tokens: real keys, real signatures, its keys told over a loopback socket."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jose import jwk as jose_jwk
from jose import jwt as jose_jwt

from fhir_server.access.tokens.authentication import Authenticator, Trust
from fhir_server.access.tokens.claims import Expected
from fhir_server.access.tokens.jwt import Issuer
from fhir_server.access.tokens.keys import ALGORITHMS
from fhir_server.access.tokens.sources import LoadedKeys

ISSUER: Final = "https://idp.example.nhs.uk/realms/keyworking"
BASE: Final = "http://127.0.0.1:8080/fhir"
NOW: Final = 1_790_000_000
"""Seconds since the epoch."""
_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Final = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
CURVE_OF: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@dataclass(frozen=True)
class Signer:
    """A private key, and what is told of it."""

    kid: str
    private: Any

    @property
    def pem(self) -> str:
        form = serialization.PrivateFormat.PKCS8
        none = serialization.NoEncryption()
        return str(self.private.private_bytes(serialization.Encoding.PEM, form, none).decode())

    @property
    def public_pem(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        found: bytes = self.private.public_key().public_bytes(serialization.Encoding.PEM, form)
        return found

    @cache  # noqa: B019 - signers are made once and kept
    def for_jose(self, algorithm: str) -> Any:
        """The key as python-jose signs with it; reading it is a tenth of a second."""
        return jose_jwk.construct(self.pem, algorithm)

    def jwk(self, **more: Any) -> dict[str, Any]:
        """As python-jose writes it, with the id and without an algorithm."""
        is_rsa = isinstance(self.private, rsa.RSAPrivateKey)
        name = "RS256" if is_rsa else _ES_OF[self.private.curve.key_size]
        told: dict[str, Any] = jose_jwk.construct(self.public_pem.decode(), name).to_dict()
        del told["alg"]
        return {**told, "kid": self.kid, "use": "sig", **more}


_ES_OF: Final = {256: "ES256", 384: "ES384", 521: "ES512"}


@cache
def rsa_signer(kid: str = "rsa-1", bits: int = 2048) -> Signer:
    return Signer(kid, rsa.generate_private_key(65537, bits))


@cache
def ec_signer(curve: str = "P-256", kid: str = "") -> Signer:
    return Signer(kid or f"ec-{curve}", ec.generate_private_key(_CURVES[curve]))


def signer_for(algorithm: str) -> Signer:
    return ec_signer(CURVE_OF[algorithm]) if algorithm in CURVE_OF else rsa_signer()


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good token; a claim that is changed to ... is left out."""
    told = {
        "iss": ISSUER,
        "aud": BASE,
        "exp": NOW + 300,
        "iat": NOW,
        "nbf": NOW,
        "jti": "token-1",
        "sub": "camhs-app",
        "client_id": "camhs-app",
        "scope": "system/*.rs",
        **changed,
    }
    return {name: value for name, value in told.items() if value is not ...}


def token(signer: Signer | None = None, algorithm: str = "RS256", **changed: Any) -> str:
    """A token as an issuer makes it, by python-jose where that knows the algorithm."""
    found = signer or signer_for(algorithm)
    told = claims(**changed)
    if algorithm.startswith("PS"):
        return raw_token({"alg": algorithm, "typ": "JWT", "kid": found.kid}, told, found)
    encoded: str = jose_jwt.encode(
        told, found.for_jose(algorithm), algorithm, headers={"kid": found.kid}
    )
    return encoded


def raw_token(header: Any, told: Any, signer: Signer | None = None) -> str:
    """Header and claims as they are given, or as bytes; signed by what the header says."""
    signing = f"{_segment(header)}.{_segment(told)}"
    algorithm = header.get("alg") if isinstance(header, dict) else "RS256"
    signature = _signature(signing.encode(), str(algorithm), signer or rsa_signer())
    return f"{signing}.{base64url(signature)}"


def _segment(value: Any) -> str:
    return base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signature(signing: bytes, algorithm: str, signer: Signer) -> bytes:
    digest = _HASHES.get(algorithm[2:], hashes.SHA256())
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return bytes(signer.private.sign(signing, scheme, digest))
    if isinstance(signer.private, rsa.RSAPrivateKey):
        return bytes(signer.private.sign(signing, padding.PKCS1v15(), digest))
    return bytes(jose_jwk.construct(signer.pem, algorithm).sign(signing))


def key_document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def all_keys() -> bytes:
    return key_document(rsa_signer().jwk(), *(ec_signer(curve).jwk() for curve in _CURVES))


@dataclass
class Clock:
    """Stands still unless it is moved; in seconds."""

    seconds: float = float(NOW)

    def __call__(self) -> float:
        return self.seconds

    def microseconds(self) -> int:
        return int(self.seconds * 1_000_000)


@dataclass
class Loading:
    """What stands in for a source of keys: what it gives, and how often it was asked."""

    raw: bytes = field(default_factory=all_keys)
    fails: Exception | None = None
    times: int = 0

    async def __call__(self) -> bytes:
        self.times += 1
        if self.fails is not None:
            raise self.fails
        return self.raw


def trust(load: Loading, clock: Clock, **changed: Any) -> Trust:
    algorithms = frozenset(changed.pop("algorithms", ALGORITHMS))
    expected = changed.pop("expected", Expected(ISSUER, BASE, leeway=30))
    issuer = Issuer(expected, LoadedKeys(load, 60, 3600, clock), algorithms)
    return Trust(BASE, {ISSUER: issuer}, **changed)


def authenticator(
    load: Loading | None = None, clock: Clock | None = None, **changed: Any
) -> Authenticator:
    found = clock or Clock()
    return Authenticator(trust(load or Loading(), found, **changed), found.microseconds)


class IssuerProcess:
    """An HTTP server on loopback that tells keys and answers introspection."""

    def __init__(self) -> None:
        self.answer: bytes = all_keys()
        self.status = 200
        self.headers: dict[str, str] = {"content-type": "application/json"}
        self.delay = 0.0
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/keys"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

            def _answer(self, body: bytes) -> None:
                told = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, body, told))
                time.sleep(outer.delay)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(outer.answer)))
                with suppress(OSError):  # who asked may have gone
                    self.end_headers()
                    self.wfile.write(outer.answer)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler

    @contextmanager
    def running(self) -> Iterator["IssuerProcess"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
