"""How FHIR is answered: what interactions know of the server, the ways of requests, and jobs."""

import asyncio

from fhir_server.access.audit.record import Record
from fhir_server.access.audit.trail import Trail
from fhir_server.access.caller import Caller, Stands, unchanged
from fhir_server.access.decision import Decisions
from fhir_server.access.following import Rules
from fhir_server.access.session import Session, of_all_callers
from fhir_server.access.tokens.authentication import Authenticator
from fhir_server.checking import checker
from fhir_server.deciding import scopes_of, session
from fhir_server.http.direct import Answers, Direct
from fhir_server.http.direct_writes import DirectWrites
from fhir_server.http.edge import Edge
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.limits import HttpLimits
from fhir_server.http.messages import HttpRequest
from fhir_server.http.proxies import Proxies
from fhir_server.http.rates import Rates
from fhir_server.interactions import deferred, operation
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.table import ROUTER
from fhir_server.jobs.desk import Desk
from fhir_server.jobs.record import OPEN
from fhir_server.jobs.runner import Runner
from fhir_server.jobs.runner import Terms as JobTerms
from fhir_server.operation.registry import Operations
from fhir_server.operation.rules import ServiceRules
from fhir_server.operation.seal import Seal
from fhir_server.operation.wired import wired
from fhir_server.outgoing import Outgoing
from fhir_server.search.parse import Limits
from fhir_server.setting_groups.around import turns_of
from fhir_server.setting_groups.consent import terms_of
from fhir_server.setting_groups.pathway import pathway_of
from fhir_server.settings import PATH, Settings
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite.at_once import AtOnce
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.timed import timed
from fhir_server.trusting import smart_configuration


async def fhir_server(
    settings: Settings,
    store: Store,
    operations: Operations,
    woken: asyncio.Event | None = None,
) -> Server:
    """What interactions know of the server; `woken` is set when a job is started."""
    wake = (woken or asyncio.Event()).set
    pages = Seal(await store.secret("pages"))
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
    _, rules = wired(settings.operations)
    return ServiceRules(
        rules,
        base=settings.base,
        clock=settings.clock,
        checker=checker(settings),
        pathway=pathway_of(settings),
    )


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


def ways(
    settings: Settings,
    store: Store,
    server: Server,
    decisions: Decisions,
    trail: Trail | None,
    bounds: Rates,
    asker: Authenticator | None,
) -> tuple[FhirEndpoint, Answers | None, DirectWrites | None]:
    """The general way of FHIR requests, and the short ones of plain reads and of plain writes."""
    general = endpoint(settings, store, server, decisions, asker, trail, bounds)
    writes = DirectWrites(general, asker)
    reads = short_way(settings, store, general, decisions, asker)
    return general, reads, None if settings.server_timing else writes


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
    epochs = store if isinstance(store, SqliteStore) else None

    def open_session(request: HttpRequest) -> Session:
        caller = request.caller.asking(request.request_id)
        found = session(settings, measured, caller, decisions, server.rules, scopes)
        found.epochs = epochs
        return found

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
    """That of plain reads and searches; None where the store or the audit is waited for, or time
    is told."""
    if not isinstance(store, SqliteStore) or settings.audit == "strict" or settings.server_timing:
        return None
    scopes = scopes_of(settings)
    reader = AtOnce(store, watches=asker is not None)

    def open_session(caller: Caller) -> Session:
        found = session(settings, reader, caller, decisions, general.server.rules, scopes)
        found.beside = found.epochs = reader
        return found

    searched = AtOnce(store)

    def open_search(caller: Caller) -> Session:
        found = session(settings, searched, caller, decisions, general.server.rules, scopes)
        found.epochs = found.watched = searched
        return found

    edge = Edge(settings.cors_origins, secure=settings.base.startswith("https:"))
    return Direct(general, open_session, open_search, asker, edge).answer


def runner(
    settings: Settings,
    store: Store,
    server: Server,
    woken: asyncio.Event,
    decisions: Decisions,
    trail: Trail | None = None,
    stands: Stands = unchanged,
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
        stands,
    )
