"""The store: one small interface that every backend keeps, as the contract suite shows.

`commit` is the only writer. What its work puts (versions, index entries, compartments, audit
rows) lands together or not at all, and whatever the work reads, it reads inside: no other
commit comes between a condition and the write that hangs on it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fhir_server.fhir import json
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Template
from fhir_server.search.ast import Search
from fhir_server.search.extract import extract
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.values import IndexValue
from fhir_server.storage.audited import AuditEntry, AuditQuery, AuditRow, Link

T = TypeVar("T")

Position = tuple[Any, ...]
"""Where a page ended: JSON values that only the backend reads."""


class StoredVersion(NamedTuple):
    """One version of one resource, as it goes out; a deletion is a version without a body.

    `last_updated` is in microseconds since the epoch. `method` is the HTTP verb that made it.
    """

    type: str
    id: str
    version: int
    last_updated: int
    method: str
    body: bytes

    @property
    def deleted(self) -> bool:
        return not self.body


@dataclass(frozen=True, slots=True)
class HistoryOf:
    """Versions of one resource, of a type (no `id`) or of everything (no `resource_type`).

    `since`: made at or after that moment. `at`: current at some time in `[low, high)`. Both in
    microseconds since the epoch (https://hl7.org/fhir/R4/http.html#history).
    """

    resource_type: str = ""
    id: str = ""
    since: int | None = None
    at: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A version with its number in the order of all commits.

    `created`: there was nothing before it, or a deletion.
    """

    stored: StoredVersion
    seq: int
    created: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Matches in order; `after` is where the next page begins, None on the last.

    `epoch`: where the store tells it, another object once anybody has committed
    since they were found.
    """

    matches: Sequence[StoredVersion]
    after: Position | None
    epoch: object | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a remaking of the index is: resources gone through, of those there are."""

    done: int
    total: int

    @property
    def finished(self) -> bool:
        return self.done >= self.total


class Draft:
    """A resource ready to be written: encoded but for its version, its index values at hand.

    Those of parameters that were added at run time are not among them: which there are, only the
    commit knows.
    """

    __slots__ = ("id", "is_new", "resource", "template", "type", "values")

    def __init__(self, resource: Mapping[str, Any], template: Template | None = None) -> None:
        """`template` is that of the same resource, where it is there already."""
        self.type: str = resource["resourceType"]
        self.id: str = resource["id"]
        self.is_new = False
        """Whether the id was made for it a moment ago, so that nothing can be there by it."""
        self.resource: Final = resource
        self.template = template or Template(resource)
        self.values: list[tuple[str, IndexValue]] = [
            pair for pair in extract(resource) if pair[0] != "_lastUpdated"
        ]


def unchanged(draft: Draft, current: StoredVersion) -> bool:
    """Whether the draft says what the current version says already, number for digit.

    The order of an object's members says nothing, and may be another.
    """
    if current.deleted:
        return False
    rendered = draft.template.render(current.version, instant(current.last_updated))
    if len(rendered) != len(current.body):
        return False
    return rendered == current.body or _ordered(rendered) == _ordered(current.body)


def _ordered(body: bytes) -> bytes:
    return json.encode_ordered(json.decode_own(body))


@dataclass(frozen=True, slots=True)
class Memo:
    """Something that the server keeps for itself beside the resources: not FHIR, never searched.

    `space` says what for, `key` is unique in it. From `expires` on, in microseconds since the
    epoch, it is as if it were not there; 0 is never.
    """

    space: str
    key: str
    value: bytes
    expires: int = 0


class Reader(Protocol):
    """Reads that see one committed state; inside a commit, also the commit's own writes."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """The current version, which may be a deletion; None where there never was one."""

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        """That version, which may be a deletion."""

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        """At most `count` versions, newest first, with numbers below `before`.

        Raises:
            FhirError: TOO_COSTLY when it takes longer than the backend allows.
        """

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        """At most `count` current resources that match, in the query's order.

        They come later in it than the place `after`, and not later than `until`, which are the
        ends of pages of the same query, whatever became of the resources that stood there.

        Raises:
            FhirError: TOO_COSTLY when it takes longer than the backend allows.
        """

    async def total(self, query: Search) -> int:
        """How many resources match."""

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        """Of which of the types something refers to a target by that parameter, as it is now.

        One question in place of a search for each: of the other types, such a search finds nothing.
        """

    async def parameters(self) -> ParameterSet:
        """The search parameters by now, whichever process changed them last.

        A search by one that is gone when the search ends is refused: its index may be half gone.
        """

    async def memo(self, space: str, key: str) -> Memo | None:
        """The memo of that key, None where there is none or it has expired."""

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        """At most `count` memos whose keys begin with `prefix`, by key, with keys above `after`."""


class Unit(Reader, Protocol):
    """One commit under way."""

    async def put(self, draft: Draft, method: str) -> StoredVersion:
        """Write the next version of the draft's resource, its first where there is none.

        Where the current version says the same, nothing is written, and it is what comes back.
        """

    async def delete(self, resource_type: str, resource_id: str) -> StoredVersion:
        """Write a deletion as the next version of a resource that is there."""

    async def define(self, parameters: ParameterSet) -> None:
        """From this commit on, the store's search parameters are these.

        Every commit after it, in whatever process, writes the entries of all that are being
        built or ready, and none that began before it ends after it without them.
        """

    async def reindex(self, count: int) -> Progress:
        """Make the index entries of at most `count` more resources anew.

        All entries, or those of the parameters being built, as the account of `parameters()`
        says, where a remaking has begun. How far it came is part of the commit. A resource that
        was first written since it began need not be looked at.
        """

    async def keep(self, memo: Memo) -> None:
        """Keep the memo, in place of one with the same key."""

    async def forget(self, space: str, prefix: str) -> None:
        """Forget the memos whose keys begin with `prefix`."""

    async def audit(self, *rows: AuditRow) -> None:
        """Record who did it, in the same commit, at the end of the audit's chain."""


Work = Callable[[Unit], Awaitable[T]]


class Store(Reader, Protocol):
    """Where resources are kept."""

    async def commit(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Run `work` and make what it wrote durable; when it raises, nothing is written.

        The backend may run `work` again after a passing fault: it must depend on nothing but
        the unit.

        Raises:
            FhirError: UNAVAILABLE when the store cannot write now; what `work` raises.
        """

    async def changes(self, after: int, count: int) -> Sequence[tuple[int, StoredVersion]]:
        """Versions in the order of their commits, each with its number, above `after`.

        The outbox: a version and its announcement are one row, so neither is ever without the
        other.
        """

    async def audited(self, asked: AuditQuery, count: int) -> Sequence[AuditEntry]:
        """At most `count` rows of the audit, in the order of their numbers or backwards.

        Among those of a name there may be some of another.
        """

    async def audit_ends(self) -> tuple[Link, Link]:
        """Where the audit's chain begins, after what retention took out, and its last row."""

    async def secret(self, name: str) -> bytes:
        """32 random bytes that every process on this store shares, made when first asked for."""

    def patient(self, patience: float) -> "Store":
        """The same store with searches that may take that many seconds.

        They run beside those of others, whom they do not keep waiting. It is closed with this one.
        """

    def lagging(self) -> Reader:
        """Reads whose answers may be some moments old, where the backend is set to give such.

        For answers alone, never for what is decided by them.
        """

    async def ready(self) -> None:
        """Raises FhirError UNAVAILABLE when the store cannot serve."""

    async def close(self) -> None:
        """Finish what is being committed and let go of the files."""
