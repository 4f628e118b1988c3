"""Machines that ask for tokens: their keys, and assertions made by python-jose."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from uuid import uuid4

import httpx
from jose import jwt

from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients
from fhir_server.authorisation.clients import Client
from fhir_server.authorisation.pairs import generated, public

BASE: Final = "http://127.0.0.1:8080"
TOKEN_URL: Final = f"{BASE}/auth/token"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DROPPED: Final = object()
"""In place of a claim or field that is to be left out."""


@cache
def pair(name: str, algorithm: str = "ES384") -> dict[str, str]:
    """A private key of that name, the same one throughout."""
    return {**generated(algorithm), "kid": name}


@dataclass
class Machine:
    """A client with its private key, and where it asks."""

    id: str = "ward"
    key: Mapping[str, str] = field(default_factory=lambda: pair("one"))
    token_url: str = TOKEN_URL

    def client(self, **changes: Any) -> Client:
        """Its registration."""
        given = {"id": self.id, "keys": (public(dict(self.key)),), "scopes": "system/CarePlan.rs"}
        return Client(**{**given, **changes})

    async def register(self, ledger: Ledger, **changes: Any) -> Client:
        return await clients.add(ledger, self.client(**changes))

    def assertion(self, headers: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """One of its own, with claims that are changed or, where `DROPPED`, left out."""
        now = int(time.time())
        claims = {
            "iss": self.id,
            "sub": self.id,
            "aud": self.token_url,
            "exp": now + 120,
            "jti": str(uuid4()),
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not DROPPED}
        algorithm = self.key["alg"]
        shown = {"kid": self.key["kid"], **(headers or {})}
        made: str = jwt.encode(kept, dict(self.key), algorithm, headers=shown)
        return made

    def form(self, **changes: Any) -> dict[str, str]:
        """A form that asks for a token, or with changes for something else."""
        given = {
            "grant_type": "client_credentials",
            "scope": "system/CarePlan.rs",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": changes.pop("client_assertion", None) or self.assertion(),
            **changes,
        }
        return {name: value for name, value in given.items() if value is not DROPPED}

    async def token(self, client: httpx.AsyncClient, **changes: Any) -> str:
        """A token that it is given."""
        answer = await client.post(self.token_url, data=self.form(**changes))
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found


def assert_refused(answer: httpx.Response, error: str, text: str, status: int = 400) -> None:
    """A refusal as https://www.rfc-editor.org/rfc/rfc6749#section-5.2 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (status == 401)
    told = answer.json()
    assert told.keys() == {"error", "error_description"}
    assert told["error"] == error, told
    assert text in told["error_description"], told
