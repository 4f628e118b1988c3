"""What `keyworking client`, `key` and `token` do, on the store that the settings name."""

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import assertions
from fhir_server.authorisation.authority import Authority
from fhir_server.authorisation.clients import BadClient
from fhir_server.authorisation.pairs import generated, public
from fhir_server.authorisation.refusals import Refusal
from fhir_server.authorisation.signatures import checked_keys, signed
from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.keeping import open_store
from fhir_server.settings import Settings, beside, read_settings, sqlite_path, store_name
from fhir_server.storage.mongo.address import is_mongo
from fhir_server.trusting import authority

T = TypeVar("T")
_LIFE: Final = 240
"""Seconds for which an assertion that is made here is good."""
_PATIENCE: Final = 30.0
"""Seconds that the server may take."""
_MOST: Final = 256 * 1024
"""Bytes of a file with keys."""


class CannotRegister(Exception):
    """It is not done; the text says why, on one line."""


def with_ledger(store: str | None, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """What the work gives, with the ledger of the store that is there.

    Raises:
        CannotRegister: there is none, it cannot be used, or the work refuses.
    """

    async def on_it(ledger: Ledger, settings: Settings) -> T:
        del settings
        return await work(ledger)

    return _on_store(store, on_it)


def with_authority(store: str | None, work: Callable[[Authority], Awaitable[T]]) -> T:
    """As `with_ledger`, with the authorisation server that the settings make."""

    async def on_it(ledger: Ledger, settings: Settings) -> T:
        return await work(authority(settings, ledger))

    return _on_store(store, on_it)


def _on_store(store: str | None, work: Callable[[Ledger, Settings], Awaitable[T]]) -> T:
    try:
        settings = read_settings({} if store is None else {"store": store})
    except ValueError as error:
        raise CannotRegister(str(error)) from None
    name = store_name(settings.store)
    if not is_mongo(settings.store) and not sqlite_path(settings.store).is_file():
        raise CannotRegister(f"There is no store {name}; keyworking serve makes it")
    try:
        return asyncio.run(_opened(settings, work))
    except (BadClient, Refusal) as refused:
        raise CannotRegister(str(refused)) from None
    except (OSError, RuntimeError, ValueError, sqlite3.Error, FhirError) as error:
        raise CannotRegister(f"The store {name} cannot be used: {error}") from None


async def _opened(settings: Settings, work: Callable[[Ledger, Settings], Awaitable[T]]) -> T:
    store = await open_store(settings, make=False)
    try:
        return await work(Ledger(store), settings)
    finally:
        await store.close()


def read_keys(path: Path) -> tuple[dict[str, str], ...]:
    """The public keys of a file with a key set.

    Raises:
        CannotRegister: there are none in it.
    """
    try:
        return checked_keys(_json(path))
    except ValueError as error:
        raise CannotRegister(f"{path}: {error}") from None


def make_pair(name: str, folder: Path, algorithm: str) -> tuple[Path, Path]:
    """Write a new pair: the private key for its owner alone, and the key set to be registered.

    Raises:
        CannotRegister: one of the files is there, or cannot be written.
    """
    private = generated(algorithm)
    secret, known = folder / f"{name}.private.json", folder / f"{name}.jwks.json"
    if known.exists():
        raise CannotRegister(f"{known} is there already")
    try:
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(json.encode(private))
        known.write_bytes(json.encode({"keys": [public(private)]}))
    except OSError as error:
        raise CannotRegister(f"{error.filename}: {error.strerror}") from None
    return secret, known


def assertion(client: str, key: Path, audience: str) -> str:
    """What the client says to be known by, signed with the private key of the file.

    Raises:
        CannotRegister: there is no private key in it.
    """
    now = int(time.time())
    claims = {
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": now,
        "exp": now + _LIFE,
        "jti": secrets.token_urlsafe(24),
    }
    return signed_with(key, claims)


def signed_with(key: Path, claims: Mapping[str, Any], typ: str = "JWT") -> str:
    """The claims, signed with the private key of the file.

    Raises:
        CannotRegister: there is no private key in it.
    """
    private = _json(key)
    if not isinstance(private, dict) or not {"d", "kid", "alg"} <= private.keys():
        raise CannotRegister(f"{key} is no private JSON Web Key with kid and alg")
    try:
        return signed(claims, private, typ)
    except Exception as error:
        raise CannotRegister(f"{key}: nothing can be signed with it: {error}") from None


def asked_of_server(server: str, client: str, key: Path, scope: str) -> dict[str, Any]:
    """The answer of a running server to a client that asks for a token.

    Raises:
        CannotRegister: what it says instead.
    """
    endpoint = token_endpoint(server)
    return _posted(
        endpoint,
        {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": assertions.TYPE,
            "client_assertion": assertion(client, key, endpoint),
        },
    )


def token_endpoint(server: str) -> str:
    """Of the FHIR server with that base."""
    return f"{beside(server)}/token"


def _posted(endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
    import httpx  # here: who does not ask a server does not wait

    try:
        answer = httpx.post(endpoint, data=form, timeout=_PATIENCE, trust_env=False)
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise CannotRegister(f"{endpoint} does not answer: {error}") from None
    if answer.status_code != 200:
        said = f"{found.get('error')}: {found.get('error_description')}"
        raise CannotRegister(f"{endpoint} answers {answer.status_code}: {said}")
    return found


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise CannotRegister(f"{path} has more than {_MOST} bytes")
        return json.decode(content)
    except OSError as error:
        raise CannotRegister(f"{path}: {error.strerror}") from None
    except FhirError:
        raise CannotRegister(f"{path} is not JSON") from None
