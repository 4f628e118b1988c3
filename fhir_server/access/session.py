"""The session: the only door to stored data.

It carries the caller and the policy, and makes the policy a term of whatever is asked. What a
caller may not see answers exactly as what is not there.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from fhir_server.access.again import Basis, Watched, basis
from fhir_server.access.audit import received
from fhir_server.access.caller import Role
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.data import Data
from fhir_server.access.everybodys import of_all_callers
from fhir_server.access.following import NO_RULES, Rules
from fhir_server.access.guarded import GuardedReader
from fhir_server.access.keeper import Keeper
from fhir_server.access.policy import Caller, Policy, Rule, rule_of
from fhir_server.access.session_unit import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Query
from fhir_server.storage.audited import AuditEntry, AuditQuery
from fhir_server.storage.interface import (
    Draft,
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Store,
    StoredVersion,
    Unit,
)
from fhir_server.storage.patience import OutOfTime, too_slow
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.service import MAX_CODES

__all__ = [
    "AuditEntry",
    "AuditQuery",
    "Basis",
    "Data",
    "Draft",
    "HistoryEntry",
    "HistoryOf",
    "Memo",
    "Page",
    "Position",
    "Session",
    "SessionUnit",
    "StoredVersion",
    "current",
    "of_all_callers",
]

T = TypeVar("T")

_ATTEMPTS: Final = 3
"""What the service looks up itself is little: a store that is slow with it may have hiccupped."""


async def current(data: Data, resource_type: str, resource_id: str) -> StoredVersion:
    """The current version.

    Raises:
        FhirError: NOT_FOUND, or GONE after a deletion.
    """
    found = await data.read(resource_type, resource_id)
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{resource_type}/{resource_id} is not known")
    if found.deleted:
        raise FhirError(Kind.GONE, f"{resource_type}/{resource_id} was deleted")
    return found


class Session(GuardedReader):
    """One caller's view of the store, for one request."""

    def __init__(
        self,
        store: Store,
        caller: Caller,
        policy: Policy | Rule | None = None,
        max_codes: int = MAX_CODES,
        outside: Outside | None = None,
        packaged: Packaged = NONE,
        rules: Rules = NO_RULES,
        keeper: Keeper | None = None,
    ) -> None:
        self._store: Final = store
        self._keeper: Final = keeper
        self._acting_for = ""
        self._rules = rules
        self.watched: Watched | None = None
        """The same store, where it tells what changes."""
        super().__init__(store, caller, rule_of(policy), max_codes, outside, packaged)

    def answering(self) -> "Data":
        """The reads of an answer that nothing is decided by: it may be some moments old.

        Whether a caller may see a resource is decided by what it says, and others that it belongs
        to: where there is a policy, never by an old state.
        """
        if self._rule is not None:
            return self
        lagging = self._store.lagging()
        reader = GuardedReader(
            lagging, self.caller, None, self._max_codes, self._outside, self._packaged
        )
        reader.record = self.record
        return reader

    async def basis(self) -> Basis | None:
        """By which it is told later whether the answer that is made next is still good.

        None where that cannot be told.
        """
        rule = self._rule
        if self.watched is None or not (rule is None or isinstance(rule, ConsentPolicy)):
            return None
        return await basis(self.watched, rule)

    async def audited(self, asked: AuditQuery, count: int) -> Sequence[AuditEntry]:
        """Rows of the audit.

        Raises:
            FhirError: FORBIDDEN for whoever is no auditor, whatever there is.
        """
        self._require_auditor()
        return await self._store.audited(asked, count)

    async def received(self, query: Query, count: int, after: Position | None = None) -> Page:
        """The AuditEvents of clients that a search finds, which has no chains and value sets.

        Raises:
            FhirError: FORBIDDEN for whoever is no auditor, whatever there is.
        """
        self._require_auditor()
        return await self._store.search(received.among(query), count, after)

    async def count_received(self, query: Query) -> int:
        """How many there are; raises as `received`."""
        self._require_auditor()
        return await self._store.total(received.among(query))

    def _require_auditor(self) -> None:
        if self._rule is not None and Role.AUDITOR not in self.caller.roles:
            raise FhirError(Kind.FORBIDDEN, "The audit is read by auditors alone")

    def part(self, asked: str) -> "Session":
        """The same session for one entry of a batch, which leaves a row of its own."""
        if self.record is None:
            return self
        inner = self._copied()
        inner.record = self.record.part(asked)
        return inner

    def as_service(self, reason: str) -> "Session":
        """The same caller's session with the service's own rights, which the audit tells.

        Through `fhir_server.operation.api.Call.as_service` alone, which asks for the declaration
        of the operation. A load test keeps its own bounds, and what it makes its mark.
        """
        elevated = self._copied()
        elevated._acting_for = reason
        elevated._rule = self._service_rule()
        return elevated

    def as_it_is(self) -> "Session":
        """The same session for records that come from elsewhere, which no rule follows up at once.

        The scheduler looks later at those whom they are about.
        """
        taking = self._copied()
        taking._rules = self._rules.as_it_is()
        return taking

    async def commit(self, action: str, work: Callable[[SessionUnit], Awaitable[T]]) -> T:
        """Run `work` in one commit, with a line in the audit that says who did what.

        `work` may be run more than once and depends on nothing but its unit.

        Raises:
            FhirError: what `work` raises, with nothing written; UNAVAILABLE.
        """

        by_itself = False

        async def guarded(unit: Unit) -> tuple[T, bool]:
            inside = SessionUnit(
                unit,
                self.caller,
                self._rule,
                action,
                self._max_codes,
                self._packaged,
                keeper=self._keeper,
                marks_test_data=self._acting_for != "" and self._rule is not None,
            )
            inside.record = self.record
            inside.rules = self._rules
            inside.done.acting_for = self._acting_for
            nonlocal by_itself
            by_itself = self._acting_for != ""
            result = await work(inside)
            by_itself = True
            await inside.settle()
            if self._rule is not None:
                await self._rule.require_outcome(unit, inside.done.about)
            touched = bool(inside.touched)
            if touched:
                await inside.attest()
                await unit.audit(inside.row())
            return result, touched

        for _ in range(_ATTEMPTS):
            try:
                result, touched = await self._store.commit(guarded)
                break
            except OutOfTime:
                if not by_itself:
                    raise
        else:
            raise too_slow()
        if touched and self.record is not None:
            self.record.has_row = True
        return result
