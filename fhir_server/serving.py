"""`keyworking serve`: settings, a warning where one is due, the processes."""

import os
from collections.abc import Mapping
from typing import Any, Final

import click
import uvicorn
from pydantic import ValidationError

from fhir_server.app import create_app
from fhir_server.settings import PREFIX, Settings, refuse_unknown_variables

_OPEN: Final = """
  ****************************************************************************
  *  --auth none: NO TOKENS. Whoever reaches this port reads and writes all. *
  *  For trying out with synthetic people only; it listens on loopback only. *
  ****************************************************************************
"""


class BadSettings(Exception):
    """The server cannot start like this; the text says why."""


def serve(options: Mapping[str, object], *, synthetic_caseload: bool) -> None:
    """Serve until interrupted.

    Raises:
        BadSettings: before anything is opened.
    """
    settings = _settings(options)
    if settings.auth == "none":
        click.secho(_OPEN, fg="yellow", bold=True, err=True)
    lines: list[str] = []
    if synthetic_caseload:
        from fhir_server.synthetic import ensure_loaded

        lines = ensure_loaded(settings)
    _export(settings)
    _run(settings, lines)


def _settings(options: Mapping[str, object]) -> Settings:
    try:
        refuse_unknown_variables()
        settings = Settings(**dict(options))  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}"
            for e in error.errors()
        )
        raise BadSettings(problems) from None
    except ValueError as error:
        raise BadSettings(str(error)) from None
    if settings.auth is None:
        raise BadSettings(
            "There are no tokens yet: the only way to serve is --auth none, on loopback"
        )
    return settings


def _export(settings: Settings) -> None:
    """Worker processes read their settings from the environment."""
    for name, value in settings.model_dump().items():
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            os.environ[PREFIX + name.upper()] = text


def _run(settings: Settings, lines: list[str]) -> None:
    common: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "access_log": False,  # addresses of requests hold personal data
        "server_header": False,
        "log_level": "info",
        "timeout_graceful_shutdown": 10,
    }
    if settings.workers > 1:
        for line in lines:
            click.echo(line)
        uvicorn.run("fhir_server.app:create_app", factory=True, workers=settings.workers, **common)
    else:
        _Server(uvicorn.Config(create_app(settings), **common), lines).run()


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
