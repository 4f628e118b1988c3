"""Searches are put within what a caller may see as if nothing had been asked before."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.caller import Grant
from fhir_server.access.consent_terms import ConsentTerms, every_scope
from fhir_server.access.decision import Decision, Gathered
from fhir_server.access.tokens.terms import terms as scopes
from fhir_server.fhir import canonicals
from fhir_server.search.ast import KeptQuery, Query, Search, conjuncts
from tests.access.deciding import CARE_TEAM, COLOUR, INPATIENT, NURSE, chances
from tests.storage.questions import query

DECISIONS: Final[tuple[Mapping[Decision, frozenset[str]], ...]] = (
    {CARE_TEAM: frozenset({"1", "2"})},
    {COLOUR: frozenset({"1", "2"})},
    {INPATIENT: frozenset({"1"}), COLOUR: frozenset({"2", "3"})},
)
ALL, ACTIVE = (
    (Grant("system", "*", frozenset("rs"), criteria),) for criteria in ((), (("status", "active"),))
)
OF_USERS = (Grant("user", "*", frozenset("rs")),)
CALLERS: Final = (
    replace(NURSE, grants=ALL),
    replace(NURSE, grants=ACTIVE),
    replace(NURSE, name="another", grants=ALL, patient="1"),
    replace(NURSE, grants=OF_USERS),
    replace(NURSE, name="nobody", user="", grants=OF_USERS),
)
SEARCHES: Final = (
    *("Flag", "Flag?_id:not=x", "Flag?_id:not=y", "Flag?_id=x", "Flag?status:not=inactive"),
    *("Flag?date=ge2026", "Flag?_lastUpdated=ge2026&_id:not=x", "Flag?author:missing=true"),
    f"Flag?code={canonicals.DSR_RATING}|red&_id:not=x",
    *("Flag?code=red&_id:not=x", "Flag?_sort=date&_id:not=x", "Flag?_sort=status&_id:not=x"),
    *("Flag?patient=1&_id:not=x", "Flag?patient=1,9&_id:not=x"),
    *("Flag?_id=x,y&subject:Patient.name=a", "Flag?_has:Provenance:target:_id=x&_id:not=x"),
    *("Patient?_id=1", "Patient?_id:not=1", "Patient?name=a&_id:not=1", "Patient?gender:not=x"),
    *("CarePlan?_id:not=x", "CarePlan?date=ge2026", "CarePlan?status:not=active&date=ge2026"),
    *("Provenance?target=Goal/1&_id:not=x", "Provenance?_id:not=x", "Provenance?_id:not=y"),
    *("Organization?_id:not=x", "Subscription?_id:not=x", "Group?_id:not=x"),
)


def put_within(terms: ConsentTerms, search: Query) -> Search:
    """As a session does it."""
    return terms.as_before(search) or terms.narrowed(search)


def test_what_was_asked_before_changes_nothing() -> None:
    """But that what comes again is the same object."""
    random, told = chances(11), 0
    for known in map(Gathered, DECISIONS):
        for _ in range(300):
            caller, text = random.choice(CALLERS), random.choice(SEARCHES)
            search = query(text)
            found = put_within(ConsentTerms(caller, scopes, known), search)
            fresh = ConsentTerms(caller, scopes, Gathered(known)).narrowed(search)
            assert isinstance(fresh, Query)
            assert isinstance(found, Query)
            assert (found.where, found.sort, type(found)) == (fresh.where, fresh.sort, type(fresh))
            assert (found.narrowed is None) == (fresh.narrowed is None), text
            if found.narrowed is not None:
                told += _is_whole(found)
    assert told, "else nothing here is tried"


def _is_whole(found: Query) -> bool:
    """Whether what it is made of comes to its criteria, the last of them those of the policy."""
    made: Any = found.narrowed
    nodes, last = map(conjuncts, (made.where, made.within))
    assert made.where is found.where
    assert all(one is other for one, other in zip(nodes[-len(last) :], last, strict=True))
    return True


def test_searches_in_other_words_are_put_within_the_very_same_object() -> None:
    terms = ConsentTerms(NURSE, every_scope, Gathered(DECISIONS[0]))
    for name, count in (("CarePlan", 40), ("Flag", 3)):
        found = [put_within(terms, query(f"{name}?_id:not=x{number}")) for number in range(count)]
        parts = {id(one.narrowed.within) for one in found if one.narrowed}  # type: ignore[union-attr]
        assert len(parts) == 1
        assert all(isinstance(one, Query) and one.narrowed for one in found)
    again = query("CarePlan?status=active")
    kept = put_within(terms, again)
    assert isinstance(kept, KeptQuery)
    assert kept.narrowed
    assert put_within(terms, again) is kept


def test_what_names_a_patient_or_has_criteria_of_a_token_is_not_kept_as_rows() -> None:
    for caller, text in (
        (CALLERS[0], "Flag?patient=1&_id:not=x"),
        (CALLERS[1], "Flag?_id:not=x"),
        (CALLERS[0], "Organization?_id:not=x"),
    ):
        found = put_within(ConsentTerms(caller, scopes, Gathered(DECISIONS[0])), query(text))
        assert isinstance(found, Query)
        assert found.narrowed is None


def test_what_is_asked_of_a_provenance_is_looked_at_each_time() -> None:
    """Whether the caller may know of what it names, says no number of that."""
    terms = ConsentTerms(NURSE, every_scope, Gathered(DECISIONS[0]))
    for text in ("Provenance?target:identifier=1", "Provenance?_id:not=x"):
        terms.narrowed(query(text))
        assert terms.as_before(query(text)) is None
