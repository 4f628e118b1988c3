"""What an interaction gets and gives, whether it came over HTTP or as an entry of a Bundle."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fhir_server.access.following import NO_RULES, Rules
from fhir_server.access.session import Draft, StoredVersion
from fhir_server.access.tokens.smart import SmartConfiguration
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.jobs.desk import Desk
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.seal import Seal
from fhir_server.outgoing import NOWHERE, Outgoing
from fhir_server.search.parse import Limits
from fhir_server.validation.checker import Checker, standard_checker
from fhir_server.validation.report import Question

if TYPE_CHECKING:
    from fhir_server.interactions.routing import Router
    from fhir_server.operation.registry import Operations


LARGE: Final = 64 * 1024
"""Bytes of a body whose check would keep other requests waiting."""


@dataclass(frozen=True, slots=True)
class Server:
    """What every interaction may know of the server around it."""

    base: str
    """The FHIR base address that clients use, without a slash at its end."""
    clock: Callable[[], int]
    """Microseconds since the epoch."""
    pages: Seal
    """Seals the links of paging."""
    router: "Router"
    operations: "Operations"
    limits: Limits = field(default_factory=Limits)
    page_lifetime: int = 3600
    """Seconds for which a link to a further page is good."""
    max_includes: int = 1000
    max_entries: int = 1000
    """Entries of a transaction or batch."""
    max_body: int = 16 * 1024 * 1024
    """Bytes of a resource."""
    max_patch: int = 1000
    """Operations of a patch."""
    conditional_delete: str = "single"
    """single or multiple: what a delete by criteria may find."""
    desk: Desk = field(default_factory=Desk)
    """Where jobs are started and asked for."""
    max_import: int = 1024 * 1024 * 1024
    """Bytes of the lines that one `$import` takes."""
    import_from: Outgoing = NOWHERE
    """The way to the origins from which `$import` may fetch files."""
    if_match_required: frozenset[str] = frozenset()
    """Types of which nothing is changed or deleted without `If-Match`."""
    repeat_lifetime: int = 24 * 60 * 60
    """Seconds for which a POST is known again by its `X-Request-ID`."""
    checker: Checker = field(default_factory=standard_checker)
    """Checks what comes in against R4 and the profiles that it has to fit."""
    glass_minutes: int = 60
    """For which a record can be read without consent, once the glass is broken."""
    inpatient_units: frozenset[str] = frozenset()
    """ODS codes of those who tell of stays; empty where any organisation may."""
    rules: Rules = NO_RULES
    """What follows from what is written, whoever writes it."""
    pathway: Pathway = field(default_factory=Pathway)
    """The numbers of the keyworking pathway."""
    open_access: bool = False
    """Served without tokens, which the CapabilityStatement then says."""
    smart: SmartConfiguration | None = None
    """Where tokens come from, which it says otherwise."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The `Prefer` header (https://hl7.org/fhir/R4/http.html#ops)."""

    returns: str | None = None
    """minimal, representation or OperationOutcome."""
    handling: str | None = None
    """strict or lenient."""
    respond_async: bool = False
    """The answer may come later (RFC 7240 section 4.1)."""

    @property
    def lenient(self) -> bool:
        return self.handling == "lenient"

    @property
    def of_return(self) -> tuple[str, ...]:
        """As `Preference-Applied` tells it (RFC 7240 section 3)."""
        return (f"return={self.returns}",) if self.returns else ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """What makes a request that is sent again recognisable: its sender's id and its content."""

    id: str
    digest: bytes


@dataclass(frozen=True)
class Request:
    """One FHIR interaction that is asked for."""

    server: Server
    resource_type: str = ""
    id: str = ""
    version: str = ""
    operation: str = ""
    member: str = ""
    """What is searched in a compartment: a type, or `*`."""
    method: str = "GET"
    parameters: Sequence[tuple[str, str]] = ()
    resource: Resource | None = None
    size: int = 0
    """Bytes of the body that the resource came in."""
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: int | None = None
    """Microseconds since the epoch."""
    if_none_exist: str | None = None
    preferences: Preferences = Preferences()
    patch: Any = None
    """A JSON Patch, which is an array and so no resource."""
    media: str = ""
    """Of an operation that also answers in another form: the one that is asked for."""
    lines: AsyncIterator[bytes] | None = None
    """A body of ndjson, piece by piece as it comes in."""
    repeat: Repeat | None = None
    """Of a POST whose sender gave it an `X-Request-ID`."""
    matched: StoredVersion | None = None
    """What the criteria of a conditional interaction found, once that is known."""
    questions: tuple[Question, ...] = ()
    """What the check of the resource left open: nothing, most of the time."""
    told: tuple[Issue, ...] = ()
    """Warnings that came of it."""
    ahead: "Ahead | None" = None
    """What was worked out before the commit."""
    draft: tuple[Resource, Draft] | None = None
    """Of a large resource, worked out beside the loop; it holds for this very resource."""
    provenance: Resource | None = None
    """Of what it writes, from `X-Provenance`; without a target."""

    def having(self, **members: Any) -> "Request":
        """As `dataclasses.replace` makes it, at a tenth of the price: each write needs some."""
        other = object.__new__(Request)
        object.__setattr__(other, "__dict__", self.__dict__ | members)
        return other


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change to a stored resource comes to, checked and ready to be written."""

    resource: Resource
    draft: Draft
    told: tuple[Issue, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A change, or why it is refused, worked out before the commit.

    It holds as long as the resource is still as it was then: `source`.
    """

    source: StoredVersion
    change: Changed | FhirError


class Moved(Exception):
    """What was worked out ahead is of another version than the one that is there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. `http.render` makes the HTTP answer, a Bundle its entry.

    `version` is the resource that it is about, for ETag and Last-Modified; `body` the JSON to
    send, b"" for none.
    """

    status: int
    version: StoredVersion | None = None
    body: bytes = b""
    located: bool = False
    """With a Location: something was created or updated."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, by their names in small letters."""
    media_type: str = ""
    """Of a body that is no resource in JSON."""
    honoured: tuple[str, ...] = ()
    """The preferences that the answer follows, such as `return=minimal`."""


_PREFERENCE: Final = re.compile(r"\s*([A-Za-z-]+)\s*=\s*\"?([A-Za-z]+)\"?\s*")
_RETURNS: Final = ("minimal", "representation", "OperationOutcome")


def preferences(header: str | None) -> Preferences:
    """Read `Prefer`.

    Raises:
        FhirError: INVALID, for a value of `return` or `handling` that FHIR does not have.
    """
    if not header:
        return Preferences()
    parts = re.split("[,;]", header)
    respond_async = any(part.strip().lower() == "respond-async" for part in parts)
    pairs = map(_PREFERENCE.fullmatch, parts)
    # Of two alike, the first counts (RFC 7240 section 2).
    named = {found[1].lower(): found[2] for found in reversed([*pairs]) if found}
    _require(named, "return", _RETURNS)
    _require(named, "handling", ("strict", "lenient"))
    return Preferences(named.get("return"), named.get("handling"), respond_async)


def _require(named: Mapping[str, str], name: str, allowed: Sequence[str]) -> None:
    if name in named and named[name] not in allowed:
        raise FhirError.at(
            Kind.INVALID,
            "http.Prefer",
            f"'{name}={named[name]}' is not allowed; {', '.join(allowed)} are",
        )
