"""A commit under way, as a caller may make it: what is written, and what it needs for that."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar, cast

from fhir_server.access import membership, moments
from fhir_server.access.audit import received
from fhir_server.access.audit.provenance import provenances
from fhir_server.access.audit.record import name_of
from fhir_server.access.caller import Role
from fhir_server.access.doing import Done
from fhir_server.access.facts.kept import follow
from fhir_server.access.following import NO_RULES, Rules, Written, is_made_for_tests
from fhir_server.access.glass import memo as glass_memo
from fhir_server.access.guarded import GuardedReader
from fhir_server.access.keeper import Keeper
from fhir_server.access.labels import as_test_data, is_test_data
from fhir_server.access.policy import AUDITED, Caller, Rule, refusal
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search import added
from fhir_server.search.ast import Query
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import (
    Draft,
    Memo,
    StoredVersion,
    Unit,
)
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.service import MAX_CODES

T = TypeVar("T")


class SessionUnit(GuardedReader):
    """A commit under way, as the caller may make it.

    Other servers are not asked meanwhile: whoever wants to write would wait for them.
    """

    def __init__(
        self,
        unit: Unit,
        caller: Caller,
        rule: Rule | None,
        action: str,
        max_codes: int = MAX_CODES,
        packaged: Packaged = NONE,
        *,
        keeper: Keeper | None = None,
        marks_test_data: bool = False,
    ) -> None:
        super().__init__(unit, caller, rule, max_codes, packaged=packaged)
        self._unit = unit
        self._keeper: Final = keeper
        self._marks_test_data = marks_test_data
        self._is_rule = False
        self.rules: Rules = NO_RULES
        self.done: Final = Done(action)

    @property
    def touched(self) -> list[StoredVersion]:
        return self.done.touched

    async def commit(self, action: str, work: "Callable[[SessionUnit], Awaitable[T]]") -> T:
        """As of a session: what is committed within a commit lands with it, or not at all."""
        self.done.action = action
        return await work(self)

    def as_service(self, reason: str) -> "SessionUnit":
        """As of a session, for what is left of this commit."""
        elevated = self._copied()
        elevated._rule = self._service_rule()
        elevated._marks_test_data = elevated._rule is not None
        self.done.acting_for = reason
        return elevated

    async def settle(self, told: object = None, about: tuple[str, str] | None = None) -> list[str]:
        """Let the service's rules look at what was written so far; what they did, in words.

        Each commit ends with it. Whoever answers with what follows asks before; `told` is what
        it knows beside the resources, for the rules of the same package; `about` is the type and
        id of a resource that they look at also where it is as it was.

        Raises:
            FhirError: where a rule refuses.
        """
        if about is not None:
            await self._leave_for_rules(*about)
        return await self.rules.look(self, told) if self.done.unsettled else []

    @property
    def followed(self) -> list[str]:
        """What rules wrote in this commit, as `Type/id/_history/version`."""
        return [*map(name_of, self.done.followed)]

    def taken(self) -> list[Written]:
        """What rules have not looked at yet, in the order in which it was written."""
        last = {(one.type, one.id): one for one in self.touched}
        found = [
            Written(*key, before, last.get(key)) for key, before in self.done.unsettled.items()
        ]
        self.done.unsettled.clear()
        return found

    def for_rules(self) -> "SessionUnit":
        """This commit with the service's own rights: what it reads, the caller has not seen."""
        elevated = self._copied()
        elevated._rule = self._service_rule()
        elevated._marks_test_data = elevated._rule is not None
        elevated._is_rule = True
        elevated.record = None
        return elevated

    def shared(self, kind: type[T]) -> T:
        """The one of its kind that an operation and the rules of this commit have together."""
        return cast("T", self.done.shared.setdefault(kind, kind()))

    async def remind(self, patient_id: str, at: int | None) -> None:
        """Have the service's rules look at the patient when that moment comes; None: never.

        For rules alone: it is the service's, and not the caller's.
        """
        await moments.keep(self._unit, patient_id, at)

    async def come(self, patient_id: str, leader: str) -> list[str]:
        """Let rules do what time alone brings about, unless somebody was quicker.

        Args:
            leader: the name of the process that does it, if it leads still.
        """
        if not await moments.is_leader(self._unit, leader):
            return []
        at = await moments.of(self._unit, patient_id)
        return [] if at is None else await self.rules.come(self, patient_id, at)

    async def postpone(self, patient_id: str, at: int) -> None:
        """Have it looked at not before that moment, in microseconds since the epoch."""
        asked = await moments.of(self._unit, patient_id)
        if asked is not None and asked < at:
            await moments.keep(self._unit, patient_id, at)

    async def keep(self, memo: Memo) -> None:
        """Keep the caller's memo, in place of one with the same key."""
        await self._unit.keep(replace(memo, key=self._own + memo.key))

    async def break_glass(self, patient_id: str, reason: str, until: int) -> None:
        """Let the caller read the record until then; the commit's row in the audit says why."""
        self.done.glass = reason
        await self.keep(glass_memo(self.caller, patient_id, reason, until))

    async def forget(self, space: str, prefix: str) -> None:
        """Forget the caller's memos whose keys begin with `prefix`."""
        await self._unit.forget(space, self._own + prefix)

    async def put(
        self, resource: Resource, method: str, draft: Draft | None = None
    ) -> StoredVersion:
        """Write the next version of the resource; it has passed validation and has an id.

        `draft` is the same resource where it was prepared before.

        Raises:
            FhirError: FORBIDDEN, when the policy covers not both what is there and what comes;
                BUSINESS_RULE or DUPLICATE for a SearchParameter that cannot take effect.
        """
        draft = draft or Draft(resource)
        if draft.type == AUDITED:
            raise refusal("AuditEvents are taken one by one, by create alone")
        if self._marks_test_data or (self._is_rule and await is_made_for_tests(self._unit, draft)):
            draft = Draft(as_test_data(dict(draft.resource)))
        if self._keeper is not None and draft.type == self._keeper.type:
            draft = await self._keeper.taken(self._unit, self.caller, draft)
        if self._rule is not None:
            await self._require_change(self._rule, draft, method)
        if draft.type == added.TYPE:
            await self._redefine(draft.id, resource)
        await self._leave_for_rules(draft.type, draft.id, is_new=draft.is_new)
        asked = self.caller.organisation or self._is_rule
        before = await self._number(draft) if asked else 0
        stored = await self._unit.put(draft, method)
        await follow(self._unit, stored, dict(draft.resource))
        self._note(stored, draft, is_new=stored.version != before)
        return stored

    async def receive(self, resource: Resource, method: str) -> StoredVersion:
        """Store the AuditEvent of a client, which stays as it is from then on.

        Raises:
            FhirError: FORBIDDEN; METHOD_NOT_ALLOWED where there is one of that id, or the id is
                one that the server gives its own; BUSINESS_RULE.
        """
        event_id = resource["id"]
        if event_id.isdigit() or await self._unit.read(AUDITED, event_id) is not None:
            raise received.never_changed(event_id)
        marked = received.marked(resource, self.caller)
        if self._rule is not None:
            await self._rule.require_write(self._unit, None, marked)
        stored = await self._unit.put(Draft(marked), method)
        self.touched.append(stored)
        self.done.received.append(received.told(stored))
        return stored

    async def sent(self, query: Query, count: int) -> Sequence[StoredVersion]:
        """AuditEvents that the caller's own client has sent; the query is as of `received`."""
        asked = received.among(query, self.caller)
        found = (await self._unit.search(asked, count)).matches
        if self.record is not None:
            self.record.see(*found)
        return found

    async def _require_change(self, rule: Rule, draft: Draft, method: str) -> None:
        """Raise unless both sides of the change are the caller's.

        Raises:
            FhirError: FORBIDDEN; NOT_FOUND for an update of what is not there, or hidden.
        """
        there = await self._before(draft)
        seen = await self._seen(rule, draft.type, there)
        is_new = seen is None or seen.deleted
        if method != "POST" and is_new and not rule.creates_by_update(draft.type):
            text = (
                f"{draft.type}/{draft.id} is not known; POST creates, and the server gives the id"
            )
            raise FhirError(Kind.NOT_FOUND, text)
        if there is not None and there.deleted and Role.LOAD_TEST in self.caller.roles:
            await self._require_was_test_data(there)
        old = None if there is None or there.deleted else json.decode_own(there.body)
        await rule.require_write(self._unit, old, draft.resource, self.done.fresh)

    async def _require_was_test_data(self, gone: StoredVersion) -> None:
        """What refers to something real that was deleted does not come to mean test data."""
        last = await self._unit.vread(gone.type, gone.id, gone.version - 1)
        if last is None or last.deleted or not is_test_data(json.decode_own(last.body)):
            raise refusal()

    async def _leave_for_rules(
        self, resource_type: str, resource_id: str, *, is_new: bool = False
    ) -> None:
        """Note how a resource is before it is written, where rules are to look at that."""
        key = (resource_type, resource_id)
        if resource_type in self.rules.types and key not in self.done.unsettled:
            self.done.unsettled[key] = None if is_new else await self._unit.read(*key)

    async def _before(self, draft: Draft) -> StoredVersion | None:
        """What there is in the draft's place."""
        return None if draft.is_new else await self._unit.read(draft.type, draft.id)

    def _note(self, stored: StoredVersion, draft: Draft, *, is_new: bool) -> None:
        self.touched.append(stored)
        if self._is_rule and is_new:
            self.done.followed.append(stored)
        if is_new:
            self.done.made.append(stored)
        if self._rule is not None or self._marks_test_data:
            self.done.about |= membership.patients_of(draft.resource)
            if stored.type == membership.PATIENT and stored.version == 1:
                self.done.fresh.add(stored.id)

    async def delete(self, current: StoredVersion) -> StoredVersion:
        """Write a deletion after `current`, which was read in this unit.

        Raises:
            FhirError: FORBIDDEN.
        """
        if self._rule is not None:
            there = await self._unit.read(current.type, current.id)
            old = None if there is None or there.deleted else json.decode_own(there.body)
            if old is not None:
                await self._rule.require_write(self._unit, old, None)
        if current.type == added.TYPE:
            await self._redefine(current.id, None)
        await self._leave_for_rules(current.type, current.id)
        if self._keeper is not None and current.type == self._keeper.type:
            await self._keeper.gone(self._unit, self.caller, current.id)
        stored = await self._unit.delete(current.type, current.id)
        await follow(self._unit, stored, None)
        self.touched.append(stored)
        if self._is_rule:
            self.done.followed.append(stored)
        self.done.made.append(stored)
        self.done.gone.append(current)
        return stored

    async def _number(self, draft: Draft) -> int:
        """Of the version before, which stays where the draft says nothing new."""
        found = await self._before(draft)
        return 0 if found is None else found.version

    async def attest(self) -> None:
        """Say whose the new versions are, where they are written for an organisation."""
        if not (self.caller.organisation and self.done.made):
            return
        is_test = Role.LOAD_TEST in self.caller.roles
        followed, action, gone = self.done.followed, self.done.action, self.done.gone
        own = [one for one in self.done.made if one not in followed]
        for told in (
            *provenances(self.caller, action, own, gone),
            *provenances(self.caller, action, followed, gone, by_rules=True),
        ):
            await self._unit.put(Draft(as_test_data(told) if is_test else told), "POST")

    def row(self) -> AuditRow:
        """The commit's row in the audit."""
        return self.done.row(self.caller, self.record)

    async def tell_reads(self) -> None:
        """Say in the audit what was read for what this commit keeps, where it writes nothing."""
        if self.record is not None and not self.touched:
            await self._unit.audit(*self.record.reads(self.done.action))

    async def _redefine(self, resource_id: str, resource: Resource | None) -> None:
        """By what can be searched, SearchParameter resources say."""
        known = await self._unit.parameters()
        changed = added.redefined(known, resource_id, resource)
        if changed is not known:
            await self._unit.define(changed)
