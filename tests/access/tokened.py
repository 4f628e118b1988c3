"""A server that wants tokens, and who comes with one."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.policy import Policy
from fhir_server.app import Application, create_app
from fhir_server.settings import Settings
from tests.access import issuing
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.test_tokens_terms import OnlyScopes
from tests.stores import store_at
from tests.support import FHIR_JSON

INVALID: Final = 'Bearer realm="fhir", error="invalid_token"'
INSUFFICIENT: Final = 'Bearer realm="fhir", error="insufficient_scope"'
PATIENT: Final = {"resourceType": "Patient", "id": "p1", "gender": "female"}
BASIC: Final = {"resourceType": "Basic", "code": {"text": "a note"}}


def bearing(scopes: str = "system/*.cruds", **changed: Any) -> dict[str, str]:
    """Headers with a token that is good now."""
    now = int(time.time())
    times = {"exp": now + 300, "iat": now, "nbf": now}
    told = {**times, "scope": scopes, **changed}
    return {"authorization": f"Bearer {issuing.token(**told)}"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    return Settings(
        auth="token",
        issuer=ISSUER,
        jwks=str(keys),
        token_endpoint=f"{ISSUER}/token",
        authorize_endpoint=f"{ISSUER}/auth",
        store=store_at(tmp_path / "test.db"),
        max_entries=50,
    )


@pytest.fixture
async def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    def of_scopes(_: Settings, caller: Caller, *__: object) -> Policy:
        return OnlyScopes(caller)

    monkeypatch.setattr("fhir_server.deciding.policy_of", of_scopes)
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def client(app: Application, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
        for resource in (PATIENT, BASIC | {"id": "b1"}):
            address = f"{resource['resourceType']}/{resource['id']}"
            headers = {**FHIR_JSON, **bearing()}
            stored = await client.put(address, json=resource, headers=headers)
            assert stored.status_code == 201, stored.text
        yield client
