"""The composition root: settings in, an ASGI application out."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from typing import Any, Final

from cryptography.fernet import Fernet
from fastapi import FastAPI, Response
from fastapi import Request as HttpQuestion
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from fhir_server import beside, noticing
from fhir_server.access.audit.record import Record
from fhir_server.access.audit.syslog import Follower, Receiver
from fhir_server.access.audit.trail import Trail
from fhir_server.access.consent_policy import ConsentPolicy, ScopeTerms
from fhir_server.access.decision import Decisions
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.following import NO_RULES, Rules
from fhir_server.access.ledger import Ledger
from fhir_server.access.policy import Caller, ClosedPolicy, OpenPolicy, Rule
from fhir_server.access.policy import Policy as AccessPolicy
from fhir_server.access.session import Session, of_all_callers
from fhir_server.access.tokens.authentication import Authenticator
from fhir_server.access.tokens.fetching import Outgoing as Asking
from fhir_server.access.tokens.terms import terms as scope_terms
from fhir_server.authorisation.authority import Authority, Terms
from fhir_server.authorisation.endpoint import routes as authorisation_routes
from fhir_server.authorisation.fetching import KeySets
from fhir_server.authorisation.gate import Gate
from fhir_server.checking import checker, packaged, terminology_server
from fhir_server.events.binding import WEBSOCKET_PATH, Binding
from fhir_server.events.sockets import Sockets
from fhir_server.http import openapi
from fhir_server.http.direct import Answers, Direct
from fhir_server.http.edge import Edge
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.limits import HttpLimits
from fhir_server.http.messages import HttpRequest
from fhir_server.http.negotiate import Gzip, gzip_taken
from fhir_server.http.openapi import Described
from fhir_server.http.proxies import Proxies
from fhir_server.http.rates import Rates
from fhir_server.http.websockets import websocket
from fhir_server.interactions import deferred, operation
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.table import ROUTER
from fhir_server.jobs.desk import Desk
from fhir_server.jobs.record import OPEN
from fhir_server.jobs.runner import Runner
from fhir_server.jobs.runner import Terms as JobTerms
from fhir_server.noticing import dispatcher, keeper
from fhir_server.operation.registry import Operations, load
from fhir_server.operation.rules import ServiceRules, load_rules
from fhir_server.outgoing import Outgoing
from fhir_server.search.parse import Limits
from fhir_server.setting_groups.around import client_rates, turns_of
from fhir_server.setting_groups.consent import terms_of
from fhir_server.setting_groups.pathway import pathway_of
from fhir_server.settings import PATH, Settings, refuse_unknown_variables, sqlite_path
from fhir_server.storage.interface import Store
from fhir_server.storage.mongo.address import is_mongo
from fhir_server.storage.sqlite.at_once import AtOnce
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.timed import timed
from fhir_server.terminology.held import SHELF
from fhir_server.timing import scheduler
from fhir_server.trusting import authentication, smart_configuration, standing

_log: Final = logging.getLogger(__name__)
ANONYMOUS: Final = "anonymous"
SMART: Final = f"{PATH}/.well-known/smart-configuration"


class Application(FastAPI):
    """FHIR below `/fhir`, straight to its endpoint; the rest of the server is FastAPI's."""

    fhir: FhirEndpoint | None = None
    direct: Answers | None = None
    """The short way of plain reads, which the HTTP server takes before it makes a task."""
    limits: HttpLimits = HttpLimits()
    """Those that hold already while a request is read."""
    edge: Edge = Edge()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            send = self.edge.sending(scope, send)
            if self.edge.is_preflight(scope):
                await self.edge.answer_preflight(send)
                return
        if self.fhir is not None and scope["type"] == "http" and _is_fhir(scope["raw_path"]):
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
    operations = load(settings.operations)
    load_rules(settings.operations)
    SHELF.allow(settings.terminology_memory)

    app = Application(
        lifespan=_lifespan(settings, operations), docs_url=None, redoc_url=None, openapi_url=None
    )
    app.limits = http_limits(settings)
    app.edge = Edge(settings.cors_origins, secure=settings.base.startswith("https:"))
    app.add_exception_handler(HTTPException, beside.outside)
    app.add_api_route("/openapi.json", _description(settings, operations), include_in_schema=False)
    if settings.auth == "token":
        app.add_api_route(
            SMART, beside.smart(smart_configuration(settings)), include_in_schema=False
        )
    app.add_api_route("/health/live", beside.live, include_in_schema=False)
    app.add_api_route("/health/ready", beside.ready_check(app), include_in_schema=False)
    app.router.routes.append(WebSocketRoute(f"{PATH}/{WEBSOCKET_PATH}", websocket))
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
        store = await open_store(settings)
        woken = asyncio.Event()
        server = await fhir_server(settings, store, operations, woken)
        app.state.server = server
        trail = audit_trail(settings, store)
        decisions = TableDecisions(terms_of(settings))
        bounds = client_rates(settings)
        app.fhir, app.direct = ways(settings, store, server, decisions, trail, bounds)
        app.state.trail = trail
        app.state.gate = Gate(bounds, Proxies(settings.trusted_proxies), trail)
        follower = syslog_follower(settings, store)
        app.state.store = store
        app.state.authority = authority(settings, Ledger(store))
        jobs = runner(settings, store, server, woken, decisions, trail)
        app.state.jobs = jobs
        jobs.start()
        timers = scheduler(store, server) if settings.scheduler else None
        app.state.scheduler = timers
        if timers is not None:
            timers.start()
        sockets = app.state.sockets = Sockets()
        sessions = partial(session, settings, store, decisions=decisions)
        stands = standing(settings, store)
        notices = dispatcher(settings, store, sessions, sockets, stands)
        app.state.binding = Binding(store, noticing.terms(settings), notices.me, stands)
        notices.start()
        facts = asyncio.create_task(_complete_facts(settings, store))
        yield
        app.fhir, app.direct = None, None
        facts.cancel()
        await asyncio.gather(facts, return_exceptions=True)
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


def authority(settings: Settings, ledger: Ledger) -> Authority:
    """The built-in authorisation server."""
    terms = Terms(settings.authorisation, settings.base, settings.token_lifetime)
    sets = KeySets(Asking(private_hosts=settings.outgoing_private_hosts).get)
    return Authority(ledger, settings.clock, terms, sets)


async def open_store(settings: Settings, *, make: bool = True) -> Store:
    """The store that the settings name; without `make`, a database that has none is refused."""
    if is_mongo(settings.store):
        from fhir_server.storage.mongo.store import open_mongo  # the driver is half a second

        return await open_mongo(
            settings.store,
            patience=settings.search_patience,
            write_patience=settings.write_patience,
            make=make,
            clock=settings.clock,
            may_lag=settings.mongodb_read_from == "secondary",
        )
    return SqliteStore(
        sqlite_path(settings.store),
        clock=settings.clock,
        patience=settings.search_patience,
        write_patience=settings.write_patience,
    )


def audit_trail(settings: Settings, store: Store) -> Trail | None:
    """What takes the rows of reads and refusals, at work; None where there is no audit."""
    if settings.audit == "off":
        return None
    trail = Trail(store, strict=settings.audit == "strict", most=settings.audit_queue)
    trail.start()
    return trail


def syslog_follower(settings: Settings, store: Store) -> Follower | None:
    """What sends the audit's rows on, at work; None where no receiver is set."""
    if not settings.audit_syslog:
        return None
    follower = Follower(store, Receiver(settings.audit_syslog), settings.clock)
    follower.start()
    return follower


async def _complete_facts(settings: Settings, store: Store) -> None:
    """Of a store that another release wrote; until they are complete, who has a token is denied."""
    if settings.auth == "none":
        return
    try:
        await remaking.ensure(store)
    except Exception:
        _log.exception("What decides about access could not be completed: start again")


def ways(
    settings: Settings,
    store: Store,
    server: Server,
    decisions: Decisions,
    trail: Trail | None,
    bounds: Rates,
) -> tuple[FhirEndpoint, Answers | None]:
    """The general way of FHIR requests, and the short one of plain reads."""
    asker = authentication(settings, server.clock, store)
    general = endpoint(settings, store, server, decisions, asker, trail, bounds)
    return general, short_way(settings, store, general, decisions, asker)


def endpoint(
    settings: Settings,
    store: Store,
    server: Server,
    decisions: Decisions,
    asker: Authenticator | None,
    trail: Trail | None = None,
    bounds: Rates | None = None,
) -> FhirEndpoint:
    scopes = scopes_of(settings)
    measured = timed(store) if settings.server_timing else store

    def open_session(request: HttpRequest) -> Session:
        caller = request.caller.asking(request.request_id)
        return session(settings, measured, caller, decisions, server.rules, scopes)

    trusted = () if settings.public_base else settings.trusted_proxies
    return FhirEndpoint(
        server,
        open_session,
        path=PATH,
        limits=http_limits(settings),
        proxies=Proxies(trusted) if trusted else None,
        trail=trail,
        addresses=Proxies(settings.trusted_proxies) if settings.trusted_proxies else None,
        rates=bounds,
        turns=turns_of(settings),
        authenticate=None if asker is None else asker.caller,
        timing=settings.server_timing,
    )


def short_way(
    settings: Settings,
    store: Store,
    general: FhirEndpoint,
    decisions: Decisions,
    asker: Authenticator | None,
) -> Answers | None:
    """That of plain reads; None where the store or the audit is waited for, or time is told."""
    if not isinstance(store, SqliteStore) or settings.audit == "strict" or settings.server_timing:
        return None
    scopes = scopes_of(settings)
    reader = AtOnce(store, watches=asker is not None)

    def open_session(caller: Caller) -> Session:
        found = session(settings, reader, caller, decisions, general.server.rules, scopes)
        found.beside = reader
        return found

    edge = Edge(settings.cors_origins, secure=settings.base.startswith("https:"))
    known = None if asker is None else asker.known
    return Direct(general, open_session, known, edge).answer


def search_limits(settings: Settings) -> Limits:
    return Limits(
        default_count=settings.default_count,
        max_count=settings.max_count,
        max_values=settings.max_values,
        max_parameters=settings.max_parameters,
        max_chain=settings.max_chain,
    )


def http_limits(settings: Settings) -> HttpLimits:
    return HttpLimits(
        max_body=settings.max_body,
        max_url=settings.max_url,
        max_headers=settings.max_headers,
        max_header_bytes=settings.max_header_bytes,
        max_parameters=settings.max_parameters,
        max_depth=settings.max_depth,
    )


def runner(
    settings: Settings,
    store: Store,
    server: Server,
    woken: asyncio.Event,
    decisions: Decisions,
    trail: Trail | None = None,
) -> Runner:
    """What works at jobs in this process, each in a session of its caller."""
    patient = store.patient(settings.job_patience)

    def open_session(caller: Caller) -> Session:
        found = session(settings, patient, caller, decisions, server.rules)
        if trail is not None:
            found.record = record = Record(trail, "job")
            record.caller, record.request_id = caller, caller.request_id
            record.glass = found.glass
        return found

    return Runner(
        lambda: of_all_callers(store, OPEN),
        open_session,
        {**deferred.steps(server), **operation.steps(server)},
        server.clock,
        JobTerms(settings.job_concurrency, settings.job_lease),
        woken,
        standing(settings, store),
    )


async def fhir_server(
    settings: Settings,
    store: Store,
    operations: Operations,
    woken: asyncio.Event | None = None,
) -> Server:
    """What interactions know of the server; `woken` is set when a job is started."""
    wake = (woken or asyncio.Event()).set
    pages = Fernet(base64.urlsafe_b64encode(await store.secret("pages")))
    return Server(
        base=settings.base,
        clock=settings.clock,
        pages=pages,
        router=ROUTER,
        operations=operations,
        limits=search_limits(settings),
        page_lifetime=settings.page_lifetime,
        max_includes=settings.max_includes,
        max_entries=settings.max_entries,
        max_body=settings.max_body,
        max_patch=settings.max_patch,
        conditional_delete=settings.conditional_delete,
        desk=Desk(settings.clock, settings.job_lifetime, settings.max_jobs, wake),
        max_import=settings.max_import,
        import_from=Outgoing(settings.import_from, settings.outgoing_private_hosts),
        if_match_required=frozenset(settings.if_match_required),
        repeat_lifetime=settings.repeat_lifetime,
        checker=checker(settings),
        rules=service_rules(settings),
        pathway=pathway_of(settings),
        glass_minutes=settings.break_glass_minutes,
        inpatient_units=terms_of(settings).inpatient_units,
        open_access=settings.auth == "none",
        smart=smart_configuration(settings),
    )


def service_rules(settings: Settings) -> Rules:
    """The service's rules that are in the packages of operations."""
    return ServiceRules(
        load_rules(settings.operations),
        base=settings.base,
        clock=settings.clock,
        checker=checker(settings),
        pathway=pathway_of(settings),
    )


def scopes_of(settings: Settings) -> ScopeTerms:
    """What scopes come to at this server's address."""
    return partial(scope_terms, base=settings.base)


def policy_of(
    settings: Settings,
    caller: Caller,
    decisions: Decisions | None,
    scopes: ScopeTerms | None = None,
) -> AccessPolicy | Rule:
    """What the caller may see and write; nothing, where nobody chose who decides that."""
    if settings.auth == "none":
        return OpenPolicy()
    if settings.auth is None or decisions is None:
        return ClosedPolicy()
    return ConsentPolicy(decisions, caller, settings.clock, scopes or scopes_of(settings))


def session(
    settings: Settings,
    store: Store,
    caller: Caller,
    decisions: Decisions | None = None,
    rules: Rules = NO_RULES,
    scopes: ScopeTerms | None = None,
) -> Session:
    """A session of that caller; `scopes` are `scopes_of` the settings, where they are at hand."""
    policy = policy_of(settings, caller, decisions, scopes)
    outside = terminology_server(settings)
    codes = packaged(settings.packages)
    return Session(
        store, caller, policy, settings.max_codes, outside, codes, rules, keeper(settings)
    )


def described(settings: Settings, operations: Operations, base: str) -> Described:
    """What the OpenAPI description tells of a server at `base`."""
    return Described(
        base=base,
        router=ROUTER,
        operations=operations,
        limits=search_limits(settings),
        http=http_limits(settings),
        max_entries=settings.max_entries,
        conditional_delete=settings.conditional_delete,
        tokens=settings.auth == "token",
    )


def printed_description() -> bytes:
    """The OpenAPI description of the server that the environment's settings make.

    Raises:
        ValueError: for settings that do not fit.
        BadOperation: for packages of operations that cannot be used.
    """
    refuse_unknown_variables()
    settings = Settings()
    return openapi.encoded(described(settings, load(settings.operations), settings.base))


def _description(settings: Settings, operations: Operations) -> Any:
    told = described(settings, operations, settings.public_base.rstrip("/") or PATH)
    made = cache(lambda: openapi.compressed(told))  # when it is first asked for

    async def description(request: HttpQuestion) -> Response:
        """The OpenAPI description."""
        plain, gzip = await asyncio.to_thread(made)
        headers = {"vary": "Accept-Encoding", "cache-control": "no-cache"}
        if gzip_taken(request.headers.get("accept-encoding")) is Gzip.NO:
            return Response(plain, headers=headers, media_type="application/json")
        headers["content-encoding"] = "gzip"
        return Response(gzip, headers=headers, media_type="application/json")

    return description
