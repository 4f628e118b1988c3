"""The composition root: settings in, an ASGI application out."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from cryptography.fernet import Fernet
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from fhir_server.access.policy import Caller, ClosedPolicy, OpenPolicy
from fhir_server.access.session import Session
from fhir_server.errors import FhirError
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.messages import HttpRequest
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.table import ROUTER
from fhir_server.operation.registry import Operations, load
from fhir_server.search.parse import Limits
from fhir_server.settings import PATH, Settings, refuse_unknown_variables, sqlite_path
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite.store import SqliteStore

ANONYMOUS: Final = "anonymous"


class Application(FastAPI):
    """FHIR below `/fhir`, straight to its endpoint; the rest of the server is FastAPI's."""

    fhir: FhirEndpoint | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.fhir is not None and scope["type"] == "http" and _is_fhir(scope["raw_path"]):
            await self.fhir(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _is_fhir(raw_path: bytes) -> bool:
    start = PATH.encode()
    return raw_path.startswith(start) and raw_path[len(start) :][:1] in (b"", b"/", b"?")


def create_app(settings: Settings | None = None) -> Application:
    """The application; without settings, those of the environment.

    Raises:
        ValueError: for settings that do not fit.
    """
    if settings is None:
        refuse_unknown_variables()
        settings = Settings()
    operations = load(settings.operations)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, Application)  # noqa: S101 - it is the one below
        store = open_store(settings)
        app.fhir = await endpoint(settings, store, operations)
        app.state.store = store
        yield
        app.fhir = None
        await store.close()

    app = Application(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/health/live", _live, include_in_schema=False)
    app.add_api_route("/health/ready", _ready_check(app), include_in_schema=False)
    return app


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return SqliteStore(sqlite_path(settings.store), patience=settings.search_patience)


async def endpoint(settings: Settings, store: Store, operations: Operations) -> FhirEndpoint:
    server = await fhir_server(settings, store, operations)

    def open_session(request: HttpRequest) -> Session:
        return session(settings, store, request.request_id)

    return FhirEndpoint(server, open_session, path=PATH, max_body=settings.max_body)


async def fhir_server(settings: Settings, store: Store, operations: Operations) -> Server:
    """What interactions know of the server."""
    pages = Fernet(base64.urlsafe_b64encode(await store.secret("pages")))
    return Server(
        base=settings.base,
        clock=system_clock,
        pages=pages,
        router=ROUTER,
        operations=operations,
        limits=Limits(
            default_count=settings.default_count,
            max_count=settings.max_count,
            max_chain=settings.max_chain,
        ),
        page_lifetime=settings.page_lifetime,
        max_includes=settings.max_includes,
        max_entries=settings.max_entries,
        max_body=settings.max_body,
        conditional_delete=settings.conditional_delete,
        if_match_required=frozenset(settings.if_match_required),
        repeat_lifetime=settings.repeat_lifetime,
        open_access=settings.auth == "none",
    )


def session(settings: Settings, store: Store, request_id: str) -> Session:
    """A session for whoever asks; without `--auth none`, one that may do nothing."""
    policy = OpenPolicy() if settings.auth == "none" else ClosedPolicy()
    return Session(store, Caller(ANONYMOUS, request_id), policy)


async def _live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


def _ready_check(app: FastAPI) -> Any:
    async def ready() -> JSONResponse:
        """The store answers too."""
        try:
            await app.state.store.ready()
        except FhirError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        return JSONResponse({"status": "ready"})

    return ready
