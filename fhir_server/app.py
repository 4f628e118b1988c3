"""The composition root: settings in, an ASGI application out.

Its parts are put together beside it: `keeping` the store and the audit, `trusting` tokens,
`deciding` who may what, `answering` the ways of requests and jobs, `describing` OpenAPI.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from fhir_server import arenas, beside, garbage, noticing
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.ledger import Ledger
from fhir_server.answering import fhir_server, http_limits, runner, ways
from fhir_server.authorisation.endpoint import routes as authorisation_routes
from fhir_server.authorisation.gate import Gate
from fhir_server.deciding import session
from fhir_server.describing import description
from fhir_server.events.binding import WEBSOCKET_PATH, Binding
from fhir_server.events.sockets import Sockets
from fhir_server.http.direct import Answers
from fhir_server.http.direct_writes import DirectWrites
from fhir_server.http.edge import Edge
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.limits import HttpLimits
from fhir_server.http.proxies import Proxies
from fhir_server.http.websockets import websocket
from fhir_server.keeping import audit_trail, complete_facts, open_store, syslog_follower
from fhir_server.noticing import dispatcher
from fhir_server.operation.registry import Operations
from fhir_server.operation.wired import wired
from fhir_server.setting_groups.around import client_rates
from fhir_server.setting_groups.consent import terms_of
from fhir_server.settings import PATH, Settings, refuse_unknown_variables
from fhir_server.storage.interface import Store
from fhir_server.terminology.held import SHELF
from fhir_server.timing import scheduler
from fhir_server.trusting import authentication, authority, smart_configuration, standing

ANONYMOUS: Final = "anonymous"
SMART: Final = f"{PATH}/.well-known/smart-configuration"


class Application(FastAPI):
    """FHIR below `/fhir`, straight to its endpoint; the rest of the server is FastAPI's."""

    fhir: FhirEndpoint | None = None
    direct: Answers | None = None
    """The short way of plain reads, which the HTTP server takes before it makes a task."""
    writes: DirectWrites | None = None
    """That of plain creates and updates."""
    limits: HttpLimits = HttpLimits()
    """Those that hold already while a request is read."""
    edge: Edge = Edge()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            send = self.edge.sending(scope, send)
        if scope["type"] == "http" and self.edge.is_preflight(scope):
            await self.edge.answer_preflight(send)
            return
        if self.fhir is not None and scope["type"] == "http" and _is_fhir(scope["raw_path"]):
            if self.writes is None or not await self.writes.answer(scope, receive, send):
                await self.fhir(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _is_fhir(raw_path: bytes) -> bool:
    start = PATH.encode()
    if raw_path.partition(b"?")[0] == SMART.encode():
        return False
    return raw_path.startswith(start) and raw_path[len(start) :][:1] in (b"", b"/", b"?")


def create_app(settings: Settings | None = None) -> Application:
    """The application; without settings, those of the environment.

    Raises:
        ValueError: for settings that do not fit.
    """
    if settings is None:
        refuse_unknown_variables()
        settings = Settings()
    operations, _ = wired(settings.operations)
    SHELF.allow(settings.terminology_memory)

    app = Application(
        lifespan=_lifespan(settings, operations),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would send a form with its assertion to what `Host` says
    )
    app.limits = http_limits(settings)
    app.edge = Edge(settings.cors_origins, secure=settings.base.startswith("https:"))
    app.add_exception_handler(HTTPException, beside.outside)
    app.add_api_route("/openapi.json", description(settings, operations), include_in_schema=False)
    if settings.auth == "token":
        app.add_api_route(
            SMART, beside.smart(smart_configuration(settings)), include_in_schema=False
        )
    app.add_api_route("/health/live", beside.live, include_in_schema=False)
    app.add_api_route("/health/ready", beside.ready_check(app), include_in_schema=False)
    app.router.routes.append(WebSocketRoute(f"{PATH}/{WEBSOCKET_PATH}", websocket))
    app.router.routes.append(WebSocketRoute("/{path:path}", beside.no_websocket))
    if settings.authorisation_server:
        app.router.routes.extend(
            authorisation_routes(
                lambda request: request.app.state.authority, lambda request: request.app.state.gate
            )
        )
    return app


def _lifespan(
    settings: Settings, operations: Operations
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """All that works while the application serves: it starts with it, and ends with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, Application)  # noqa: S101 - it is the one below
        app.state.store = store = await open_store(settings)
        woken = asyncio.Event()
        server = await fhir_server(settings, store, operations, woken)
        app.state.server = server
        app.state.trail = trail = audit_trail(settings, store)
        decisions = TableDecisions(terms_of(settings))
        bounds = client_rates(settings)
        asker = authentication(settings, server.clock, store)
        stands = standing(settings, server.clock, store, asker)
        found = ways(settings, store, server, decisions, trail, bounds, asker)
        app.fhir, app.direct, app.writes = found
        app.state.gate = Gate(bounds, Proxies(settings.trusted_proxies), trail)
        follower = syslog_follower(settings, store)
        app.state.authority = authority(settings, Ledger(store))
        app.state.jobs = jobs = runner(settings, store, server, woken, decisions, trail, stands)
        jobs.start()
        timers = scheduler(store, server) if settings.scheduler else None
        app.state.scheduler = timers
        if timers is not None:
            timers.start()
        sockets = app.state.sockets = Sockets()
        sessions = partial(session, settings, store, decisions=decisions)
        notices = dispatcher(settings, store, sessions, sockets, stands)
        app.state.binding = Binding(store, noticing.terms(settings), notices.me, stands)
        notices.start()
        by_the_way = _by_the_way(settings, store)
        with garbage.seldom():
            yield
        app.fhir = app.direct = app.writes = None
        await _ended(by_the_way)
        if timers is not None:
            await timers.stop()
        await notices.stop()
        await jobs.stop()
        if trail is not None:
            await trail.stop()
        if follower is not None:
            await follower.stop()
        await store.close()

    return lifespan


def _by_the_way(settings: Settings, store: Store) -> asyncio.Future[Any]:
    """What nobody waits for."""
    work = complete_facts(settings, store), arenas.giving_back()
    return asyncio.gather(*work, return_exceptions=True)


async def _ended(work: asyncio.Future[Any]) -> None:
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
