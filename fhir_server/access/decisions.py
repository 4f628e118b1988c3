"""Decisions by the facts that commits have recorded, with what was decided before kept at hand.

By time alone a decision holds until the next moment at which anything in the facts begins or
ends; that moment is known, so none is used a moment too long.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fhir_server.access.at_hand import AtHand, Shelf, facts_of, patient_ids
from fhir_server.access.caller import Caller, keeps_records
from fhir_server.access.case import Case, Terms, creates_stays
from fhir_server.access.decision import DENIED, Decision, Gathered
from fhir_server.access.facts import kept
from fhir_server.access.facts.parts import ALWAYS, REGISTER, Span, keeping
from fhir_server.access.facts.record import Facts
from fhir_server.access.identities import Identities, identities
from fhir_server.access.kept_terms import TermsAtHand
from fhir_server.access.sight import Shown
from fhir_server.access.table import Explanation, Held, decide, explained
from fhir_server.errors import FhirError
from fhir_server.fhir.references import is_id
from fhir_server.storage.interface import Reader

_MOST_DECISIONS: Final = 500_000
_MOST_MADE: Final = 50_000
_MOST_SHOWN: Final = 10_000
_MOST_CALLERS: Final = 1000
"""That are kept at hand."""

_log: Final = logging.getLogger(__name__)


class _Known(NamedTuple):
    """One patient's decision, and when it holds by time."""

    decision: Decision
    window: Span


@dataclass(slots=True)
class _Made:
    """A decision with what it was made of: the very objects, which are never changed."""

    shown: Shown
    """What it shows, shared by all decisions that are equal."""
    low: int
    high: int
    """Between them neither the facts nor who the caller is change by time."""
    facts: Facts
    who: Identities
    state: bytes = b""
    """The last state of the facts, as it is stored, at which it was decided by these."""

    def holds(self, shelf: Shelf, caller: Caller, patient_id: str, now: int) -> bool:
        """Whether it would be decided by the same objects again."""
        return (
            shelf.patients.get(patient_id) is self.facts
            and shelf.callers.get((caller.user, caller.organisation)) is self.who
            and self.low <= now < self.high
        )


@dataclass(slots=True)
class _Told:
    """What was decided for one caller."""

    who: Identities
    known: dict[str, _Known] = field(default_factory=dict)
    gathered: Mapping[Decision, frozenset[str]] = field(default_factory=dict)
    window: Span = ALWAYS
    """When all of it holds by time."""
    stale: set[str] = field(default_factory=set)
    """Whose facts have changed since."""


class TableDecisions:
    """The `Decisions` of the table in docs/decision-table.md.

    One for a process: it keeps at hand what it has decided. Where something fails that is not the
    store's being away, everything is denied.
    """

    def __init__(self, terms: Terms | None = None) -> None:
        self._terms = terms or Terms()
        self._at_hand = AtHand()
        self._decided_before: dict[tuple[object, ...], dict[str, _Made]] = {}
        """By what a decision depends on, and the ids of patients."""
        self._number = 0
        """Of all those."""
        self._shown: dict[Decision, Shown] = {}
        """By the decisions that they are of."""
        self._met: dict[int, tuple[Caller, dict[str, _Made]]] = {}
        """The same for callers who are the very object that asked before."""
        self.terms_at_hand: Final = TermsAtHand()
        """What these decisions come to in searches."""

    async def known(
        self, reader: Reader, caller: Caller, now: int
    ) -> Mapping[Decision, frozenset[str]]:
        """As of `Decisions`; the same object as before where nothing has changed.

        The glass is broken for one patient, who is asked about by name: here it counts for
        nothing.
        """
        try:
            return await self._known(reader, caller.breaking(""), now)
        except FhirError:
            raise
        except Exception as error:
            _log.error("Access could not be decided: %s", type(error).__name__)
            return {}

    def moment(
        self, caller: Caller, known: Mapping[Decision, frozenset[str]]
    ) -> tuple[bytes, Span] | None:
        """The state of the facts, as it is stored, by which all this was decided, and the time.

        None for what was not decided by the facts that are at hand now.
        """
        at_hand = self._at_hand
        told: _Told | None = at_hand.here.answers.get(_key(caller))
        if told is None or told.gathered is not known or told.stale or not at_hand.is_as_told:
            return None
        return at_hand.as_stored, _shared((told.window, told.who.window))

    async def about(self, reader: Reader, caller: Caller, patient_id: str, now: int) -> Decision:
        """What was decided holds as long as the facts that it was decided by are at hand."""
        try:
            known = self._before(caller).get(patient_id)
            if known is not None:
                told = await reader.memo(kept.STATE, kept.STATE_KEY)
                shelf = self._at_hand.here
                if self._at_hand.is_of(told) and known.holds(shelf, caller, patient_id, now):
                    known.state = self._at_hand.as_stored
                    return known.shown.decision
            case = await self._case(reader, caller, patient_id, now)
            return DENIED if case is None else self._made(case, caller)
        except FhirError:
            raise
        except Exception as error:
            _log.error("Access could not be decided: %s", type(error).__name__)
            return DENIED

    def as_before(self, state: bytes, caller: Caller, patient_id: str, now: int) -> Shown | None:
        """What the decision shows that was made before; None where it has to be decided.

        Args:
            state: of the facts, as it is stored at this moment. Each change of a fact makes it
                another one that was never there, so at the same one the same is decided as long
                as no moment passes at which time changes anything.
        """
        met = self._met.get(id(caller))
        made = met[1].get(patient_id) if met is not None and met[0] is caller else None
        if made is None or made.state != state or not made.low <= now < made.high:
            return None
        return made.shown

    def _before(self, caller: Caller) -> dict[str, _Made]:
        """What was decided for whoever is as the caller in all that a decision depends on."""
        met = self._met.get(id(caller))
        if met is None or met[0] is not caller:
            if len(self._met) >= _MOST_CALLERS:
                self._met.clear()
            key = (caller.break_glass, *_key(caller))
            met = self._met[id(caller)] = (caller, self._decided_before.setdefault(key, {}))
        return met[1]

    def _made(self, case: Case, caller: Caller) -> Decision:
        decision = explained(case).held.decision
        if self._number >= _MOST_MADE:
            self._decided_before.clear()
            self._met.clear()
            self._shown.clear()
            self._number = 0
        window = _shared([case.facts.window(case.now), case.who.window])
        shown = self._shown_of(decision)
        low, high = window.low, window.high
        self._before(caller)[case.patient_id] = _Made(shown, low, high, case.facts, case.who)
        self._number += 1
        return decision

    async def explain(
        self, reader: Reader, caller: Caller, patient_id: str, now: int
    ) -> Explanation:
        """The decision with its row, its consent, and why the rows before do not hold.

        It tells what only some may know: whoever asks for it decides who.
        """
        try:
            case = await self._case(reader, caller, patient_id, now)
            return _UNDECIDED if case is None else explained(case)
        except FhirError:
            raise
        except Exception as error:
            _log.error("Access could not be decided: %s", type(error).__name__)
            return _UNDECIDED

    async def _case(self, reader: Reader, caller: Caller, patient_id: str, now: int) -> Case | None:
        shelf = await self._at_hand.shelf(reader)
        if shelf is None or not is_id(patient_id):
            return None
        who = await _who(reader, shelf, caller, now)
        found = (await facts_of(reader, shelf, [patient_id]))[patient_id]
        return None if found is None else Case(patient_id, found, caller, who, now, self._terms)

    async def _known(
        self, reader: Reader, caller: Caller, now: int
    ) -> Mapping[Decision, frozenset[str]]:
        shelf = await self._at_hand.shelf(reader)
        if shelf is None:
            return {}
        state, key = shelf.state, _key(caller)
        told: _Told | None = shelf.answers.get(key)
        if told is None or not told.who.window.covers(now):
            told = _Told(await _who(reader, shelf, caller, now))
            subjects = await self._candidates(reader, told.who, caller)
        else:
            subjects = _outdated(told, now)
            if not subjects:
                return told.gathered
        ids = await patient_ids(reader, subjects)
        read = await facts_of(reader, shelf, ids)
        fresh = {one: self._decided(one, read[one], told.who, caller, now) for one in ids}
        if shelf.state != state:  # a commit came in between: this is good for this answer alone
            told = _Told(told.who, dict(told.known), told.gathered)
            _take(told, fresh)
            return told.gathered
        told.stale -= subjects
        _take(told, fresh)
        _keep(shelf, key, told)
        return told.gathered

    async def _candidates(self, reader: Reader, who: Identities, caller: Caller) -> set[str]:
        """Those whose facts name the caller, and those on the register for who signs it."""
        found: set[str] = set()
        for name in self._sought(who, caller):
            found |= await kept.of_grantee(reader, name)
        return found

    def _sought(self, who: Identities, caller: Caller) -> frozenset[str]:
        signs = caller.organisation.upper() in self._terms.signatories
        found = who.names | who.colleagues | ({REGISTER} if signs else frozenset())
        return found | frozenset(map(keeping, who.organisations if keeps_records(caller) else ()))

    def _decided(
        self, patient_id: str, found: Facts | None, who: Identities, caller: Caller, now: int
    ) -> _Known | None:
        """None for a patient who is none of the caller's, now or later."""
        if found is None:
            return None
        decision = decide(Case(patient_id, found, caller, who, now, self._terms))
        if not _shows(decision) and not found.grantees & self._sought(who, caller):
            return None
        return _Known(self._shown_of(decision).decision, found.window(now))

    def _shown_of(self, decision: Decision) -> Shown:
        """The same for equal decisions, of which there are few and of patients many."""
        found = self._shown.get(decision)
        if found is None:
            if len(self._shown) >= _MOST_SHOWN:
                self._shown.clear()
            found = self._shown[decision] = Shown(decision)
        return found


_UNDECIDED: Final = Explanation(Held(DENIED), ((0, "the facts cannot be read"),))


def _key(caller: Caller) -> tuple[object, ...]:
    """All that a decision depends on.

    Asked with each request, so what was made of the very same roles and grants is found again.
    """
    roles, grants = caller.roles, caller.grants
    by = (caller.user, caller.organisation, caller.purpose, id(roles), id(grants))
    known = _keys.get(by)
    if known is None or known[0] is not roles or known[1] is not grants:
        if len(_keys) >= _MOST_CALLERS:
            _keys.clear()
        rights = (creates_stays(caller), keeps_records(caller))
        key = (caller.user, caller.organisation, roles, caller.purpose, rights)
        known = _keys[by] = (roles, grants, key)
    return known[2]


_keys: Final[dict[tuple[object, ...], tuple[object, object, tuple[object, ...]]]] = {}


async def _who(reader: Reader, shelf: Shelf, caller: Caller, now: int) -> Identities:
    key, state = (caller.user, caller.organisation), shelf.state
    found = shelf.callers.get(key)
    if found is None or not found.window.covers(now):
        found = await identities(reader, caller, now)
        if shelf.state == state:
            if len(shelf.callers) >= _MOST_CALLERS:
                shelf.callers.clear()
            shelf.callers[key] = found
    return found


def _shows(decision: Decision) -> bool:
    """Whether it lets the caller know that there is such a patient."""
    return bool(decision.reads or decision.writes)


def _outdated(told: _Told, now: int) -> set[str]:
    """Whose decision was overtaken, by a commit or by time."""
    if told.window.covers(now):
        return set(told.stale)
    over = {f"Patient/{one}" for one, known in told.known.items() if not known.window.covers(now)}
    return over | told.stale


def _take(told: _Told, fresh: Mapping[str, _Known | None]) -> None:
    changed = {one: known for one, known in fresh.items() if told.known.get(one) != known}
    if not changed:
        return
    for one, known in changed.items():
        if known is None:
            told.known.pop(one, None)
        else:
            told.known[one] = known
    told.window = _shared(known.window for known in told.known.values())
    told.gathered = _gathered(told.known)


def _shared(windows: Iterable[Span]) -> Span:
    low, high = ALWAYS.low, ALWAYS.high
    for window in windows:
        low, high = max(low, window.low), min(high, window.high)
    return Span(low, high)


def _gathered(known: Mapping[str, _Known]) -> Mapping[Decision, frozenset[str]]:
    found: defaultdict[Decision, set[str]] = defaultdict(set)
    for patient_id, (decision, _) in known.items():
        if _shows(decision):
            found[decision].add(patient_id)
    return Gathered({decision: frozenset(ids) for decision, ids in found.items()})


def _keep(shelf: Shelf, key: tuple[object, ...], told: _Told) -> None:
    """Whoever asked longest ago makes room."""
    shelf.answers[key] = told
    shelf.answers.move_to_end(key)
    while len(shelf.answers) > 1 and (
        len(shelf.answers) > _MOST_CALLERS
        or sum(len(one.known) for one in shelf.answers.values()) > _MOST_DECISIONS
    ):
        shelf.answers.popitem(last=False)
