"""What an operation gets: a session, its parameters, the time. It never sees HTTP or the store.

An operation is a module with `async def run(call: Call) -> Resource | bytes`, beside its
OperationDefinition in a JSON file of the same name. Bytes are a resource in JSON that is put
together already, such as a Bundle of stored resources (`fhir_server.fhir.bundles`).

An operation that answers page by page says `PAGED = True` in its module: it makes the link to
the next page with `call.link(place)`, and finds `place` again in `call.page`.

What a token has to grant to whoever invokes it, the module says in `SCOPES`, a tuple of texts such
as `Patient.rs`: letters of SMART scopes for a type, for `*` (every type), for `{type}` (where it is
invoked; every type at the system) or for `{_type}` (what the parameter of that name lists). Without
them an operation that only reads needs `{type}.rs`, and one that writes `*.cruds`.

One that writes may say `READS_BY_GET = True`: it is asked with GET as well, and writes nothing
where `call.only_reads` says so.

An operation that takes long answers with a job: its `run` returns `await call.accept(asked)`, and
the module has an `async def step(task: Task) -> None` beside it, which does a little of the work
at a time and commits it with where the next step begins (`fhir_server.jobs.runner`).

One that also answers in another form, such as a table for people, names the media types in
`MEDIA`, a tuple of texts such as `text/csv`. `call.media` is the one that its caller takes, '' for
a resource; for it `run` returns a `Written`.

An operation works with the rights of its caller. One that does what its caller may not do alone,
such as to store all that follows from an admission, says why in its module, as
`AS_SERVICE = "a unit tells of a stay"`, and takes the service's own rights with
`call.as_service()`; the audit has the reason. It checks by itself what it takes from its caller.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.dates import moment
from fhir_server.fhir.json import Resource
from fhir_server.jobs.desk import Asking, Desk
from fhir_server.jobs.record import Job
from fhir_server.jobs.runner import Work
from fhir_server.operation.pages import Pages
from fhir_server.operation.parameters import Inputs
from fhir_server.operation.pathway import Pathway
from fhir_server.outgoing import NOWHERE, Outgoing
from fhir_server.search.limits import Limits
from fhir_server.validation.checker import Checker, standard_checker

Starting = Callable[[Callable[[Asking], Awaitable[Job]]], Awaitable[Job]]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer in another form than a resource."""

    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, by their names in small letters."""


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation. `resource_type` and `id` are '' on the levels above."""

    session: Session | SessionUnit
    """A unit where the operation is part of a commit already; its own commit is then that one."""
    base: str
    now: int
    """Microseconds since the epoch."""
    resource_type: str
    id: str
    parameters: Inputs
    code: str
    pages: Pages
    limits: Limits
    page: Any = None
    """On a further page, what `link` was given; there are no parameters then."""
    media: str = ""
    """The one of the operation's `MEDIA` that is asked for; '' for a resource."""
    definition: str = ""
    """Canonical address of the definition."""
    desk: Desk = field(default_factory=Desk)
    query: str = ""
    """The parameters in the address, as they stand there."""
    respond_async: bool = False
    """The client takes an answer that comes later."""
    lines: AsyncIterator[bytes] | None = None
    """A body of ndjson, piece by piece as it comes in."""
    max_line: int = 0
    """Bytes of a resource."""
    max_lines: int = 0
    """Bytes of all lines."""
    import_from: Outgoing = NOWHERE
    """The way to the origins from which files may be fetched."""
    checker: Checker = field(default_factory=standard_checker)
    """Checks what the operation writes."""
    starting: Starting | None = None
    """Starts a job, where that is more than putting it into the queue."""
    glass_minutes: int = 60
    """For which a record can be read without consent, once the glass is broken."""
    inpatient_units: frozenset[str] = frozenset()
    """ODS codes of those who tell of stays; empty where any organisation may."""
    pathway: Pathway = field(default_factory=Pathway)
    """The numbers of the keyworking pathway."""
    only_reads: bool = False
    """Asked with GET: nothing may be written."""
    service_reason: str = ""
    """Why the operation may take the service's own rights; '' where it may not."""

    def as_service(self) -> Session | SessionUnit:
        """The same session with the service's own rights.

        Raises:
            PermissionError: in an operation that has not declared it.
        """
        if not self.service_reason:
            raise PermissionError(f"${self.code} does not declare AS_SERVICE")
        return self.session.as_service(self.service_reason)

    @property
    def time(self) -> datetime:
        """Now, in UTC."""
        return moment(self.now)

    @property
    def address(self) -> str:
        """Where it is invoked, relative to the base."""
        parts = (self.resource_type, self.id, f"${self.code}")
        return "/".join(part for part in parts if part)

    def link(self, place: Any) -> str:
        """The URL of a further page, which begins at `place`: JSON, read by nobody else."""
        return self.pages.link(self.address, place)

    def job(self) -> Job:
        """A job that is not started yet: files may be kept under its name before.

        Raises:
            FhirError: INVALID unless the client prefers to be answered later.
        """
        if not self.respond_async:
            raise FhirError.at(
                Kind.INVALID,
                "http.Prefer",
                f"${self.code} is answered later; send 'Prefer: respond-async'",
            )
        return self.desk.new(self.session, self.definition)

    async def accept(self, asked: Any, job: Job | None = None) -> Job:
        """Start a job; `asked` is JSON that each of its steps is told.

        Raises:
            FhirError: INVALID unless the client prefers to be answered later; TOO_COSTLY when
                the caller has too many jobs already.
        """
        url = f"{self.base}/{self.address}" + (f"?{self.query}" if self.query else "")
        request = json.encode({"url": url, "base": self.base, "asked": asked})

        async def start(session: Asking) -> Job:
            return await self.desk.start(session, job or self.job(), request)

        return await (start(self.session) if self.starting is None else self.starting(start))


Write = Callable[[SessionUnit], Awaitable[str]]
"""Stores a resource; says whether it is created, updated or unchanged."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A resource that may come in, and what its check has to say of it all the same."""

    write: Write
    told: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What a step of an operation's job gets."""

    work: Work
    asked: Any
    """What `Call.accept` was given."""
    base: str
    now: int
    """Microseconds since the epoch."""
    limits: Limits
    prepare: Callable[[Resource], Awaitable[Prepared]]
    """Checks a resource as any that comes in; what comes back stores it in a commit, with the
    id that it has, or a new one."""
    import_from: Outgoing = NOWHERE
    """As that of the call."""


Run = Callable[[Call], Awaitable[Resource | bytes | Job | Written]]
TakeStep = Callable[[Task], Awaitable[None]]
