"""Routes: which method and address is which interaction. HTTP and Bundle entries share them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from fhir_server.access.session import Data, Session, SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.references import is_id
from fhir_server.interactions import provenance
from fhir_server.interactions.content import settled
from fhir_server.interactions.exchange import LARGE, Ahead, Answer, Moved, Preferences, Request
from fhir_server.interactions.permission import require_scopes
from fhir_server.interactions.repeats import once

T = TypeVar("T")
_ATTEMPTS: Final = 3
"""To finish a change before somebody else changes the same resource."""
_ANYWHERE: Final = ("_format", "_pretty")
"""Read where the answer is rendered."""

Perform = Callable[[Any, Request], Awaitable[Answer]]


def _as_it_is(request: Request) -> Request:
    return request


@dataclass(frozen=True, slots=True)
class Interaction:
    """One FHIR interaction.

    `prepare` checks and completes the request before any commit. `perform` gets a SessionUnit
    when the interaction `writes`, else a Session, or within a transaction its SessionUnit.
    """

    code: str
    perform: Perform
    writes: bool = False
    prepare: Callable[[Request], Request] = _as_it_is
    in_transaction: bool = True
    """Whether it may be an entry of a transaction."""
    resolve: Callable[[Any, Request], Awaitable[Request]] | None = None
    """Of a conditional interaction: which resource it is about, decided in the commit."""
    reads_parameters: bool = False
    """Whether it looks at the query; any other refuses what stands there."""
    takes: tuple[str, ...] = ()
    """The parameters that it knows, of one that does not read the whole query."""
    own_media: bool = False
    """Whether it answers in a media type of its own, whatever `Accept` says."""
    answers: bool = False
    """Whether it reads for its answer alone, and the answer may be some moments old."""
    in_batch: bool = True
    """Whether it may be an entry of a batch."""
    ahead: Callable[[Data, Request], Awaitable[Ahead | None]] | None = None
    """What can be worked out before the commit, of one whose work depends on what is stored."""

    def prepared(self, request: Request) -> Request:
        """The request, checked and complete.

        Raises:
            FhirError: for what the interaction cannot be asked.
        """
        if not self.reads_parameters and not request.preferences.lenient:
            refuse_parameters(self.code, request, self.takes)
        return self.prepare(request)

    async def ready(self, data: Data, request: Request) -> Request:
        """As `prepared`, with what the check left open asked of the terminology service.

        Raises:
            FhirError: as `prepared`; FORBIDDEN where the caller's scopes do not grant it.
        """
        require_scopes(data.caller, self.code, request)
        return await settled(await checking(request, self.prepared), data)

    async def worked_ahead(self, data: Data, request: Request) -> Request:
        """The request with what can be worked out before the commit."""
        if self.ahead is None:
            return request
        try:
            ahead = await self.ahead(data, await self.resolved(data, request))
        except FhirError:
            return request  # the commit finds the same, if it is still so
        return replace(request, ahead=ahead)

    async def committed(
        self, data: Data, request: Request, commit: Callable[[Request], Awaitable[T]]
    ) -> T:
        """What `commit` makes of the request, with all that can be done before it done before it.

        Where others change the resource all the time, it is done within the commit in the end.
        """
        for _ in range(_ATTEMPTS if self.ahead else 0):
            try:
                return await commit(await self.worked_ahead(data, request))
            except Moved:
                continue
        return await commit(request)

    def honoured(self, preferences: Preferences) -> tuple[str, ...]:
        """What it makes of `handling`: strict is the way everywhere, lenient not."""
        lenient = not self.reads_parameters or self.code.startswith("search-")
        if preferences.handling is None or (preferences.lenient and not lenient):
            return ()
        return (f"handling={preferences.handling}",)

    async def resolved(self, data: Data, request: Request) -> Request:
        """The request, about a resource that is known by now."""
        return request if self.resolve is None else await self.resolve(data, request)


def refuse_parameters(code: str, request: Request, takes: tuple[str, ...] = ()) -> None:
    # Ignored, `POST Patient?identifier=...` would make the duplicates that it means to prevent.
    hint = "; conditions go into If-None-Exist" if code == "create" else ""
    known = (*_ANYWHERE, *takes)
    allowed = ", ".join(known)
    issues = [
        Issue(f"'{name}' is not a parameter of {code}; allowed: {allowed}{hint}", f"http.{name}")
        for name, _ in request.parameters
        if name not in known
    ]
    if issues:
        raise FhirError.of(Kind.INVALID, issues)


async def checking(request: Request, work: Callable[[Request], T]) -> T:
    """What is done with what came in; of a large body beside the loop, which goes on meanwhile."""
    if request.size < LARGE:
        return work(request)
    return await asyncio.to_thread(work, request)


async def run(session: Session, interaction: Interaction, request: Request) -> Answer:
    """Carry an interaction out on its own."""
    prepared = await interaction.ready(session, request)
    if not interaction.writes:
        data = session.answering() if interaction.answers else session
        return await interaction.perform(data, prepared)
    await provenance.ready(session, request)

    async def commit(asked: Request) -> Answer:
        async def work(unit: SessionUnit) -> Answer:
            async def perform() -> Answer:
                resolved = await interaction.resolved(unit, asked)
                answer = await interaction.perform(unit, resolved)
                await provenance.add(unit, asked)
                return answer

            return await once(unit, asked, perform)

        return await session.commit(interaction.code, work)

    return await interaction.committed(session, prepared, commit)


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` is made of `{type}`, `{id}`, `{member}`, `{version}`, `{operation}` and words."""

    method: str
    pattern: str
    interaction: Interaction


@dataclass(frozen=True, slots=True)
class Match:
    interaction: Interaction
    resource_type: str = ""
    id: str = ""
    version: str = ""
    operation: str = ""
    member: str = ""
    """What is searched in a compartment: a type, or `*`."""


_WORDS: Final = frozenset({"_history", "_search", "_jobs"})
"""No id has an underscore, so these stand for themselves wherever they are."""
_PLACES: Final = ("{type}", "{id}", "{member}", "{version}")
"""What a segment stands for that is no fixed word, by its position."""


class Router:
    """Looks up the one table of routes.

    Args:
        own: resource types that have routes of their own, in the place of all others.
    """

    def __init__(
        self, routes: Sequence[Route], own: Mapping[str, Sequence[Route]] | None = None
    ) -> None:
        self.routes: Final = tuple(routes)
        self.own: Final = {name: tuple(of) for name, of in (own or {}).items()}
        self._table = _table(self.routes)
        self._own = {name: _table(of) for name, of in self.own.items()}

    def of(self, resource_type: str) -> tuple[Route, ...]:
        """The routes of a type."""
        return self.own.get(resource_type, self.routes)

    def match(self, method: str, path: str) -> Match:
        """The interaction at a path relative to the base, still percent-encoded.

        Raises:
            FhirError: NOT_FOUND, METHOD_NOT_ALLOWED with what is allowed; INVALID for an id
                that is none.
        """
        methods, named = self._place(path)
        interaction = methods.get("GET" if method == "HEAD" else method)
        if interaction is None:
            raise _not_allowed(method, path, methods)
        return Match(
            interaction,
            named.get("{type}", ""),
            named.get("{id}", ""),
            named.get("{version}", ""),
            named.get("{operation}", ""),
            named.get("{member}", ""),
        )

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods at a path relative to the base.

        Raises:
            FhirError: NOT_FOUND, INVALID, as `match`.
        """
        return _allowed(self._place(path)[0])

    def _place(self, path: str) -> tuple[Mapping[str, Interaction], Mapping[str, str]]:
        """What is at a path, by method, and what its segments name."""
        inner = path.strip("/")
        segments = [unquote(segment) for segment in inner.split("/")] if inner else []
        pattern, named = _pattern(segments)
        methods = self._own.get(named.get("{type}", ""), self._table).get(pattern)
        member = named.get("{member}", "*")
        if methods is None or not (member == "*" or is_resource_type(member)):
            raise FhirError(Kind.NOT_FOUND, f"'{path}' is no address of this server")
        _check_names(named)
        return methods, named


_Table = dict[str, dict[str, Interaction]]


def _table(routes: Sequence[Route]) -> _Table:
    table: _Table = {}
    for route in routes:
        table.setdefault(route.pattern, {})[route.method] = route.interaction
    return table


def _pattern(segments: Sequence[str]) -> tuple[str, Mapping[str, str]]:
    parts, named = [], {}
    for position, segment in enumerate(segments):
        if segment.startswith("$"):
            place = "{operation}"
            named[place] = segment[1:]
        elif segment in _WORDS or position >= len(_PLACES) or segments == ["metadata"]:
            place = segment
        else:
            place = _PLACES[position]
            named[place] = segment
        parts.append(place)
    return "/".join(parts), named


def _check_names(named: Mapping[str, str]) -> None:
    resource_type = named.get("{type}")
    if resource_type is not None and not is_resource_type(resource_type):
        raise FhirError(Kind.NOT_FOUND, f"'{resource_type}' is not a resource type of FHIR R4")
    resource_id = named.get("{id}")
    if resource_id is not None and not is_id(resource_id):
        raise FhirError(
            Kind.INVALID,
            f"'{resource_id}' is not an id; 1 to 64 characters of A-Z a-z 0-9 - . are allowed",
        )


def _allowed(methods: Mapping[str, Interaction]) -> tuple[str, ...]:
    return tuple(sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())}))


def _not_allowed(method: str, path: str, methods: Mapping[str, Interaction]) -> FhirError:
    allowed = _allowed(methods)
    text = f"{method} is not allowed on '{path}'; allowed: {', '.join(allowed)}"
    return FhirError(Kind.METHOD_NOT_ALLOWED, text, allowed_methods=allowed)
