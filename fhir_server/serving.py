"""`keyworking serve`: settings, a warning where one is due, the processes.

Whatever may be wrong with the settings is found here, before anything is loaded and before
worker processes start: one that dies of its settings would be started again and again.
"""

import asyncio
import os
import socket
import sqlite3
import ssl
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import click
import uvicorn

from fhir_server import arenas, logs
from fhir_server.app import Application, create_app
from fhir_server.errors import FhirError
from fhir_server.http.handshakes import Handshake
from fhir_server.http.websockets import MOST_BYTES
from fhir_server.http.wire import Protocol
from fhir_server.keeping import open_store
from fhir_server.operation.registry import BadOperation
from fhir_server.publishing import publish
from fhir_server.setting_groups import secrets
from fhir_server.setting_groups.around import tls_context
from fhir_server.settings import (
    PREFIX,
    Settings,
    read_settings,
    store_name,
    variables,
)

_OPEN: Final = """
  ****************************************************************************
  *  --auth none: NO TOKENS. Whoever reaches this port reads and writes all. *
  *  For trying out with synthetic people only; it listens on loopback only. *
  ****************************************************************************
"""
_NO_REGISTER: Final = (
    "Warning: KEYWORKING_REGISTER_ORGANISATION is not set. The record of a child of whom a message "
    "alone tells is then kept by the sender, or by whom the message names: who sends a unit's "
    "messages and runs the administrators' client of that organisation learns whether a child was "
    "known. Name the organisation that holds the register."
)


class BadSettings(Exception):
    """The server cannot start like this; the text says why."""


def serve(options: Mapping[str, object], *, synthetic_caseload: bool) -> None:
    """Serve until interrupted.

    Raises:
        BadSettings: before anything is loaded, and when the server does not come up.
    """
    settings = _settings(options)
    logs.configure(settings.log_format, requests=settings.access_log)
    _require_port(settings)
    application = _application(settings)
    asyncio.run(_require_store(settings))
    if settings.publish:
        asyncio.run(_publish(settings))
    if settings.auth == "none":
        click.secho(_OPEN, fg="yellow", bold=True, err=True)
    elif not settings.register_organisation:
        click.secho(_NO_REGISTER, fg="yellow", err=True)
    lines: list[str] = []
    if synthetic_caseload:
        lines = _loaded(settings)
    _run(settings, application, lines)


def _settings(options: Mapping[str, object]) -> Settings:
    try:
        settings = read_settings(options)
    except ValueError as error:
        raise BadSettings(str(error)) from None
    _require_tls(settings)
    if settings.auth is None:
        raise BadSettings(
            "Choose how callers are known: --auth token, with tokens of the built-in authorisation "
            "server or of KEYWORKING_ISSUER; "
            "or --auth none for trying out, on loopback"
        )
    return settings


def _require_tls(settings: Settings) -> None:
    try:
        tls_context(settings)
    except ValueError as error:
        raise BadSettings(str(error)) from None


def _require_port(settings: Settings) -> None:
    host, port = settings.host, settings.port
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as listener:
                if os.name == "posix":  # else it would allow what it is to find out
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
    except OSError as error:
        raise BadSettings(
            f"Nothing can listen on {host}, port {port}: {error.strerror}. "
            "Choose another with --port or KEYWORKING_PORT"
        ) from None


def _application(settings: Settings) -> Application:
    packages = ", ".join(settings.operations)
    try:
        return create_app(settings)
    except BadOperation as error:
        raise BadSettings(f"The operations in {packages}: {error}") from None
    except Exception as error:  # whatever a package of somebody else's does when it is imported
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} {error} ({frame.filename}, line {frame.lineno})"
        raise BadSettings(f"The operations in {packages} cannot be loaded: {what}") from None


async def _require_store(settings: Settings) -> None:
    try:
        await (await open_store(settings)).close()
    except (OSError, RuntimeError, ValueError, sqlite3.Error, FhirError) as error:
        raise BadSettings(
            f"The store {store_name(settings.store)} cannot be used: {error}"
        ) from None


async def _publish(settings: Settings) -> None:
    """The server is of use without it; what was not stored is stored at the next start."""
    store = await open_store(settings)
    try:
        await publish(store)
    except FhirError as error:
        click.echo(f"The profiles and terminology were not published: {error}", err=True)
    finally:
        await store.close()


def _loaded(settings: Settings) -> list[str]:
    from fhir_server.synthetic import ensure_loaded  # here: who does not ask does not wait

    try:
        return ensure_loaded(settings)
    except (OSError, FhirError) as error:
        raise BadSettings(f"The synthetic caseload cannot be loaded: {error}") from None


def export(settings: Settings) -> None:
    """Write the settings to the environment, where worker processes read them.

    A secret that came from a file stays in it.
    """
    files = _secret_files(settings)
    for name in [*variables()]:
        del os.environ[name]
    for name, path in files.items():
        os.environ[PREFIX + name.upper() + secrets.SUFFIX] = path
    for name, value in settings.model_dump(exclude=set(files)).items():
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            os.environ[PREFIX + name.upper()] = text


def _secret_files(settings: Settings) -> dict[str, str]:
    """The files of secrets, but for one whose setting an option took the place of."""
    return {
        name: path
        for name, path in secrets.files(Settings, PREFIX).items()
        if secrets.read(name, path) == getattr(settings, name)
    }


def _run(settings: Settings, application: Application, lines: list[str]) -> None:
    arenas.limit()
    common: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": logs.configuration(settings.log_format, requests=settings.access_log),
        "access_log": False,  # addresses of requests hold personal data
        "server_header": False,
        "proxy_headers": False,  # whom to believe, the settings say
        "http": Protocol,
        "ws": Handshake,
        "ws_max_size": MOST_BYTES,
        "timeout_graceful_shutdown": 10,
    }
    if settings.tls_certificate is not None:
        common["ssl_context_factory"] = partial(_secured, settings)
    if settings.workers > 1:
        for line in lines:
            click.echo(line)
        export(settings)
        uvicorn.run("fhir_server.app:create_app", factory=True, workers=settings.workers, **common)
        return
    server = _Server(uvicorn.Config(application, **common), lines)
    with suppress(SystemExit):  # how uvicorn says that it did not start
        server.run()
    if not server.started:
        raise BadSettings("The server did not start; what is above says why")


def _secured(settings: Settings, *_: object) -> ssl.SSLContext:
    """What uvicorn secures connections with, in each process."""
    context = tls_context(settings)
    assert context is not None  # noqa: S101 - it is asked of a server with TLS alone
    return context


class _Server(uvicorn.Server):
    """Says what to try once it listens."""

    def __init__(self, config: uvicorn.Config, lines: list[str]) -> None:
        super().__init__(config)
        self._lines = lines

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            for line in self._lines:
                click.echo(line)
