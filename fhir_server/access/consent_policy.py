"""The policy by consent: the decision table as terms of every query, and of one resource.

What a search finds (`terms`) and what may be seen of one resource (`sight`) are the same rule
twice, once for a database and once for what is at hand; a test compares them. Whatever goes wrong
in deciding denies.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from fhir_server.access import masking, membership
from fhir_server.access.as_stored import behind, mark_of
from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.access.consent_terms import ConsentTerms, ScopeTerms, every_scope
from fhir_server.access.decision import DENIED, Area, Decision, Decisions, Sight
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.glass import opened
from fhir_server.access.kept_terms import Epochs, KeptTerms
from fhir_server.access.labels import has_own_mark, is_test_data
from fhir_server.access.membership import Standing
from fhir_server.access.policy import Terms, covers, refusal
from fhir_server.access.sight import sight_alone, sight_of
from fhir_server.access.table import Explanation, Held
from fhir_server.access.writing import Writing, require_outcome, require_write
from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.search.ast import (
    Everything,
    Node,
)
from fhir_server.search.rewrite import used as used_by
from fhir_server.storage.interface import Reader, StoredVersion

T = TypeVar("T")
_KEYWORKER: Final = (2, 15)
_BREAK_GLASS: Final = 1
_COLOUR_ALONE: Final = frozenset({Sight.COLOUR})
_MOST_MADE: Final = 2000
"""Searches and terms that are kept with one caller's decisions."""
_log: Final = logging.getLogger(__name__)


@runtime_checkable
class Explains(Protocol):
    """Decisions that tell their reasons, to whoever may know them."""

    async def explain(
        self, reader: Reader, caller: Caller, patient_id: str, now: int
    ) -> Explanation: ...


class ConsentPolicy:
    """The rule of one caller.

    Args:
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        decisions: Decisions,
        caller: Caller,
        clock: Callable[[], int],
        scopes: ScopeTerms = every_scope,
    ) -> None:
        self._decisions = decisions
        # Whom the glass is broken for, the memos say: never the request by itself.
        self._caller: Final = caller.breaking("")
        self.clock: Final = clock
        self._scopes = scopes
        self._is_load_test: Final = Role.LOAD_TEST in caller.roles
        self._read_scopes: dict[str, tuple[Node, bool]] = {}
        self._marks: Final[dict[str, bytes]] = {}
        self._terms_at_hand = (
            decisions.terms_at_hand if isinstance(decisions, TableDecisions) else None
        )
        self.glass: Final[dict[str, str]] = {}
        """Why the glass was broken, by the ids of the patients for whom that decided."""

    async def terms(self, reader: Reader) -> Terms:
        """What may be found at this moment; nothing where that cannot be told."""
        return ConsentTerms(self._caller, self._scopes, await self._known_or_nobody(reader))

    def kept_terms(self) -> tuple[Terms, KeptTerms | None] | None:
        """As `make_terms`, of what was made before; None where there is none, or its time is over.

        Whether a commit has changed them is looked at when they were asked by (`still`).
        """
        if self._terms_at_hand is None:
            return None
        kept = self._terms_at_hand.find(self._caller, self._scopes, self.clock())
        return None if kept is None else (kept.terms, kept)

    async def make_terms(self, reader: Reader, store: Epochs) -> tuple[Terms, KeptTerms | None]:
        """As `terms`; and the same, kept, where it can be told how long they hold."""
        epoch, now = store.epoch(), self.clock()
        terms = ConsentTerms(self._caller, self._scopes, await self._known_or_nobody(reader))
        decisions, at_hand = self._decisions, self._terms_at_hand
        if at_hand is None or not isinstance(decisions, TableDecisions):
            return terms, None
        moment = decisions.moment(self._caller, terms.known)
        if moment is None or epoch is None or not moment[1].covers(now):
            return terms, None
        state, span = moment
        kept = KeptTerms(terms, state, max(now, span.low), span.high, epoch)
        at_hand.keep(kept)
        return terms, kept

    async def still(self, reader: Reader, store: Epochs, kept: KeptTerms) -> bool:
        """Whether what was just found by these terms may be shown."""
        if await kept.hold(reader, store):
            return True
        if self._terms_at_hand is not None:
            self._terms_at_hand.forget(kept)
        return False

    async def _known_or_nobody(self, reader: Reader) -> Mapping[Decision, frozenset[str]]:
        try:
            return await self._known(reader)
        except FhirError:
            raise
        except Exception:
            _log.exception("What a caller may read could not be decided: nothing")
            return {}

    def seen_as_before(self, state: bytes, version: StoredVersion) -> StoredVersion | None:
        """A current version as it is seen, by what was decided and looked into before.

        None where that does not say it, so that it has to be decided: of what is hidden, or
        about nobody or several, or was not asked for at this state of the facts.

        Args:
            state: of the facts, as it was stored when the version was read.
        """
        mark = self._marks.get(version.type)
        if mark is None:
            mark = self._marks[version.type] = self._mark(version.type)
        one = behind(mark, version.body) if mark else ""
        decisions = self._decisions
        if not one or not isinstance(decisions, TableDecisions):
            return None
        shown = decisions.as_before(state, self._caller, one, self.clock())
        return None if shown is None else shown.through(version, masks=not self._caller.user)

    def _mark(self, resource_type: str) -> bytes:
        """By what a resource says whom it is about; empty where that is not all that decides."""
        if self._is_load_test or not self._read_scope(resource_type)[1]:
            return b""  # criteria may look at anything
        return mark_of(resource_type)

    async def sight_as_stored(self, reader: Reader, resource_type: str, body: bytes) -> Sight:
        """As `sight`: whose it is decides, and nearly always nothing else."""
        try:
            if not self._read_scope(resource_type)[1]:  # criteria may look at anything
                return await self._sight(reader, json.decode_own(body))
            one = "" if self._is_load_test else membership.patient_as_stored(resource_type, body)
            if one:
                usual = await self._decisions.about(reader, self._caller, one, self.clock())
                sight = sight_alone(usual, resource_type)
                if sight is Sight.ALL:
                    return sight
                return await self._sight_of_one(reader, one, resource_type, body, usual)
            return await self._sight(reader, membership.looked_at(resource_type, body))
        except FhirError:
            raise
        except Exception:
            _log.exception("Whether a resource may be read could not be decided: it may not")
            return Sight.NONE

    async def _sight_of_one(
        self, reader: Reader, patient_id: str, name: str, body: bytes, usual: Decision
    ) -> Sight:
        """As `_sight_within`, by what was decided already."""
        if sight_alone(usual, name) is Sight.NONE and not self._caller.user:
            return Sight.NONE
        resource = membership.looked_at(name, body)
        sight = sight_of(usual, resource)
        if sight is Sight.ALL or not self._caller.user:
            return sight
        return sight_of(await self.about(reader, patient_id), resource)

    async def sight(self, reader: Reader, resource: Mapping[str, Any]) -> Sight:
        """How much of one resource may be seen; none where that cannot be told."""
        try:
            return await self._sight(reader, resource)
        except FhirError:
            raise
        except Exception:
            _log.exception("Whether a resource may be read could not be decided: it may not")
            return Sight.NONE

    async def require_write(
        self,
        reader: Reader,
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any] | None,
        fresh: Collection[str] = (),
    ) -> None:
        """Raise unless the table and the scopes allow the change, for both sides of it."""
        try:
            await self._require_scopes(reader, old, new)
            asked = Writing(self._caller, self.clock(), lambda one: self.about(reader, one), fresh)
            await require_write(asked, reader, old, new)
        except FhirError:
            raise
        except Exception as error:
            _log.exception("Whether a resource may be written could not be decided: it may not")
            raise refusal() from error

    async def require_outcome(self, reader: Reader, about: Collection[str]) -> None:
        await require_outcome(self._caller, reader, about)

    def creates_by_update(self, resource_type: str) -> bool:
        """Only of what is hidden from nobody, and of test data."""
        is_shared = membership.standing(resource_type) is Standing.SHARED
        return is_shared or self._is_load_test

    async def about(self, reader: Reader, patient_id: str) -> Decision:
        """What is decided about one patient."""
        caller, now = self._caller, self.clock()
        if caller.user:
            reason = (await opened(reader, caller, patient_id)).get(patient_id, "")
            caller = caller.breaking(reason)
        decision = await self._decisions.about(reader, caller, patient_id, now)
        if decision.row == _BREAK_GLASS:
            self.glass[patient_id] = caller.break_glass
        return decision

    async def explain(
        self, reader: Reader, patient_id: str, other: Caller | None = None
    ) -> Explanation | None:
        """Why the caller, or another, sees what it sees; None for whoever may not know.

        Auditors and the keyworker may know of everybody; others of themselves, where they are
        allowed anything, and of a consent only where they may read it.
        """
        if not isinstance(self._decisions, Explains):
            return None
        mine = await self.about(reader, patient_id)
        if other is None and mine.row == _BREAK_GLASS:
            return Explanation(Held(mine), ())
        if Role.AUDITOR in self._caller.roles or mine.row in _KEYWORKER:
            caller = self._caller if other is None else other
            return await self._decisions.explain(reader, caller, patient_id, self.clock())
        if other is not None or mine.sight(Area.PERSON) is Sight.NONE:
            return None
        held = Held(mine)
        if mine.sight(Area.RISK) is Sight.ALL:
            whole = await self._decisions.explain(reader, self._caller, patient_id, self.clock())
            held = whole.held
        return Explanation(held, ())

    async def reach(self, reader: Reader) -> str:
        """What may be read at this moment, as a digest: of scopes, roles and decisions."""
        known = await self._known_or_nobody(reader)
        told = sorted(f"{_exactly(one)} {sorted(ids)}" for one, ids in known.items())
        roles = sorted(role.value for role in self._caller.roles)
        grants = sorted(_granted(grant) for grant in self._caller.grants)
        return hashlib.sha256(repr((roles, grants, told)).encode()).hexdigest()

    async def _known(self, reader: Reader) -> Mapping[Decision, frozenset[str]]:
        """Patients by decision, those for whom the glass is broken among them."""
        now = self.clock()
        told = await self._decisions.known(reader, self._caller, now)
        glass = await opened(reader, self._caller) if self._caller.user else {}
        if not glass:
            return told
        known = dict(told)
        for patient_id in glass:
            decision = await self.about(reader, patient_id)
            for other in [one for one, ids in known.items() if patient_id in ids]:
                known[other] -= {patient_id}
            known[decision] = known.get(decision, frozenset()) | {patient_id}
        return _something(known)

    async def _sight(self, reader: Reader, resource: Mapping[str, Any]) -> Sight:
        name = resource["resourceType"]
        scope, everything = self._read_scope(name)
        if not everything and not await covers(reader, scope, resource):
            return Sight.NONE
        if self._is_load_test:
            is_audit = membership.standing(name) is Standing.AUDIT
            return _whole(not is_audit and is_test_data(resource))
        one = membership.patient_of(resource)
        if one:
            least = await self._sight_within(reader, one, resource)
        else:
            patients = membership.patients_of(resource)
            if not patients:  # what is about nobody in care, or about whom it cannot be told
                return self._sight_of_nobodys(name, resource)
            found = [await self._sight_within(reader, one, resource) for one in patients]
            least = min(found, key=lambda sight: sight.value)
        if everything or least is not Sight.COLOUR:
            return least
        return least if masking.is_public(name, used_by(scope)) else Sight.NONE

    def _read_scope(self, resource_type: str) -> tuple[Node, bool]:
        """What the scopes leave of a type to be read, and whether that is everything."""
        found = self._read_scopes.get(resource_type)
        if found is None:
            node = self._scopes(self._caller, resource_type, "r")
            found = self._read_scopes[resource_type] = (node, isinstance(node, Everything))
        return found

    def _sight_of_nobodys(self, name: str, resource: Mapping[str, Any]) -> Sight:
        standing = membership.standing(name)
        if standing is Standing.OWN:
            return _whole(has_own_mark(self._caller.name, resource))
        return _whole(standing is Standing.SHARED)

    async def _sight_within(
        self, reader: Reader, patient_id: str, resource: Mapping[str, Any]
    ) -> Sight:
        """Broken glass shows no more than all: it is looked at where anything is hidden."""
        usual = await self._decisions.about(reader, self._caller, patient_id, self.clock())
        sight = sight_of(usual, resource)
        if sight is Sight.ALL or not self._caller.user:
            return sight
        return sight_of(await self.about(reader, patient_id), resource)

    async def _require_scopes(
        self, reader: Reader, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
    ) -> None:
        letter = "c" if old is None else "d" if new is None else "u"
        for side in (old, new):
            if side is not None:
                allowed = self._scopes(self._caller, side["resourceType"], letter)
                if not await covers(reader, allowed, side):
                    raise refusal("The token's scopes do not cover this change")


def _granted(grant: Grant) -> str:
    return repr((grant.level, grant.resource_type, sorted(grant.letters), sorted(grant.criteria)))


def _exactly(decision: Decision) -> str:
    """The decision in words, the same in every process."""
    told = asdict(decision)
    sets = {name: sorted(map(repr, v)) for name, v in told.items() if isinstance(v, frozenset)}
    return repr(told | sets)


def _something(known: Mapping[Decision, frozenset[str]]) -> dict[Decision, frozenset[str]]:
    return {one: ids for one, ids in known.items() if ids and one != DENIED}


def _whole(allowed: bool) -> Sight:
    return Sight.ALL if allowed else Sight.NONE
