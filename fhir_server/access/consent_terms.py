"""What one caller may find at one moment, as terms of queries: patients by decision, and scopes.

`moment` says how long that holds: by time until a known end, and else until a commit changes the
facts or breaks the glass. Whether one has, is asked of the store after each search.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fhir_server.access import masking, membership, targets
from fhir_server.access.caller import Caller, Role
from fhir_server.access.decision import DENIED, Decision, Gathered, Sight
from fhir_server.access.labels import IS_TEST_DATA, is_own
from fhir_server.access.membership import Standing
from fhir_server.access.sight import detail, sight_of, sight_of_type
from fhir_server.search.ast import (
    Everything,
    KeptQuery,
    Narrowed,
    Node,
    Not,
    Nothing,
    Query,
    Search,
    conjunction,
    disjunction,
)
from fhir_server.search.rewrite import Targets, Used, guarded, guarded_parts, is_plain
from fhir_server.search.rewrite import used as used_by

T = TypeVar("T")
_COLOUR_ALONE: Final = frozenset({Sight.COLOUR})
_MOST_MADE: Final = 2000
"""Searches and terms that are kept with one caller's decisions."""

ScopeTerms = Callable[[Caller, str, str], Node]
"""What the scopes of a caller leave of a type, for one of the letters c, r, u, d and s."""


def every_scope(caller: Caller, resource_type: str, letter: str) -> Node:
    """Of callers whose scopes are not looked at."""
    del caller, resource_type, letter
    return Everything()


@dataclass(slots=True)
class ConsentTerms:
    """What one caller may find at one moment."""

    caller: Caller
    scopes: ScopeTerms
    known: Mapping[Decision, frozenset[str]] = field(default_factory=dict)

    def readable(self, resource_type: str, used: Used, targets: Targets, /) -> Node:
        scope = self.scopes(self.caller, resource_type, "s")
        # Whoever asks for a token chooses its criteria: they too find nothing by what is masked.
        if isinstance(scope, Everything):
            return self._allowed(resource_type, used, targets)
        used = used | used_by(scope)
        return conjunction(self._allowed(resource_type, used, targets), scope)

    def narrowed(self, search: Search) -> Search:
        """As `guarded`; the same object for what was asked before, of the same decisions.

        It hangs on these, on who asks and on what was granted, and on no moment.
        """
        known, caller = self.known, self.caller
        if not isinstance(known, Gathered) or not isinstance(search, Query):
            return guarded(search, self.readable)
        if not is_plain(search):
            return self._narrowed(known, search, Query)
        kept = self._made_before(known, search)
        if kept is None:
            kept = self._narrowed(known, search, KeptQuery)
            self._keep(known, (search, caller.name, caller.patient), (caller.grants, kept))
        return kept

    def _narrowed(self, known: Gathered, search: Query, kind: type[Query]) -> Query:
        """As `guarded`; it tells where it is put within what was made of all patients."""
        name = search.resource_type
        made = Narrowed.to(*guarded_parts(search, self.readable))
        again = any(known.made.get((name, one)) is made.within for one in (True, False))
        return kind(name, made.where, search.sort, made if again else None)

    def as_before(self, search: Search) -> Search | None:
        """What `narrowed` made before of the very same question; None where it has to be made.

        Only of what needs neither value sets nor a look at what else the caller sees.
        """
        known = self.known
        if not isinstance(known, Gathered) or not is_plain(search):
            return None
        if search.resource_type == targets.TYPE:  # by whose targets more has to be decided
            return None
        return self._made_before(known, search)

    def _made_before(self, known: Gathered, search: Query) -> Query | None:
        """For whoever asked, with what was granted then."""
        caller = self.caller
        kept: tuple[object, Query] | None = known.made.get((search, caller.name, caller.patient))
        return kept[1] if kept is not None and kept[0] is caller.grants else None

    def _keep(self, known: Gathered, key: Hashable, made: T) -> T:
        """With the decisions, as long as there are not too many."""
        if len(known.made) >= _MOST_MADE:
            known.made.clear()
        known.made[key] = made
        return made

    def masks(self, resource_type: str) -> bool:
        return Sight.COLOUR in self._sights(resource_type)

    def masks_all(self, resource_type: str) -> bool:
        return self._sights(resource_type) == _COLOUR_ALONE

    def _sights(self, resource_type: str) -> frozenset[Sight]:
        """How much is seen of what is found, of a type that is masked for somebody."""
        if not masking.is_masked_type(resource_type) or Role.LOAD_TEST in self.caller.roles:
            return frozenset()
        made = self.known.made if isinstance(self.known, Gathered) else {}
        found: frozenset[Sight] | None = made.get(resource_type)
        if found is None:
            each = frozenset(sight_of_type(one, resource_type) for one in self.known)
            found = made[resource_type] = each - {Sight.NONE}
        return found

    def sight(self, resource: Mapping[str, Any]) -> Sight:
        found = [self._sight_within(one, resource) for one in membership.patients_of(resource)]
        return min(found, key=lambda sight: sight.value, default=Sight.NONE)

    def _sight_within(self, patient_id: str, resource: Mapping[str, Any]) -> Sight:
        decisions = (one for one, ids in self.known.items() if patient_id in ids)
        return sight_of(next(decisions, DENIED), resource)

    def _allowed(self, resource_type: str, used: Used, targets: Targets) -> Node:
        standing = membership.standing(resource_type)
        if standing is Standing.AUDIT:
            return Nothing()
        if Role.LOAD_TEST in self.caller.roles:
            return IS_TEST_DATA
        if standing is Standing.OWN:
            return is_own(self.caller.name)
        if standing is not Standing.RECORD:
            return Everything() if standing is Standing.SHARED else Nothing()
        return self._of_patients(resource_type, used, membership.asked_for(resource_type, targets))

    def _of_patients(self, resource_type: str, used: Used, asked: frozenset[str] | None) -> Node:
        """About these patients and nobody else, and of each what was decided about them.

        Of all it is kept with the decisions, as there may be thousands; of a few who are asked for
        it is made anew, where the search itself was not kept.
        """
        if asked is not None or not isinstance(self.known, Gathered):
            return self._within(resource_type, used, asked)
        key = (resource_type, masking.is_public(resource_type, used))
        found: Node | None = self.known.made.get(key)
        if found is None:
            found = self._keep(self.known, key, self._within(resource_type, used, None))
        return found

    def _within(self, resource_type: str, used: Used, asked: frozenset[str] | None) -> Node:
        groups = self._groups(resource_type, used, asked)
        if not groups:
            return Nothing()
        details = [(node, refs) for node, refs in groups if not isinstance(node, Everything)]
        everyone = groups[0][1] if len(groups) == 1 else [one for _, refs in groups for one in refs]
        within = membership.about_only(resource_type, everyone)
        if len(groups) == 1:
            # Said so, it is tried of each and leads no search: it holds of nearly all.
            return conjunction(within, *(Not(Not(node)) for node, _ in details))
        return conjunction(
            within,
            *(
                disjunction(Not(membership.about_any(resource_type, refs)), node)
                for node, refs in details
            ),
        )

    def _groups(
        self, resource_type: str, used: Used, asked: frozenset[str] | None
    ) -> list[tuple[Node, tuple[str, ...]]]:
        """The patients of whom something is seen, as references, by what else must hold.

        Of those who are asked for, where that is so few.
        """
        found: dict[Node, list[str]] = {}
        for decision, patients in self.known.items():
            ids = patients if asked is None else patients & asked
            sight = sight_of_type(decision, resource_type)
            if sight is Sight.COLOUR and not masking.is_public(resource_type, used):
                continue
            if ids and sight is not Sight.NONE:
                further = detail(decision, resource_type, sight)
                found.setdefault(further, []).extend(membership.references_to(ids))
        return [(further, tuple(refs)) for further, refs in found.items()]
