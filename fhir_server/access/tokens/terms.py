"""What the scopes of a caller come to, as a term of a query: the policy is never wider.

A caller who has several grants may do what any of them allows. A grant of `patient/` is narrowed
to the patient of the launch: to what names that patient as the one it is about, and to what is
about nobody (organisations, practitioners, terminology), which may be read.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from fhir_server.access.caller import Caller, Grant
from fhir_server.access.tokens.scopes import ANY
from fhir_server.errors import FhirError
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import is_resource_type, search_parameters
from fhir_server.search.ast import (
    And,
    DateCompares,
    DateCovers,
    Everything,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    TokenIn,
    TokenIs,
    UriBelow,
    UriIs,
    conjunction,
    disjunction,
)
from fhir_server.search.chains import forms
from fhir_server.search.parse import parse_criteria

ABOUT_NOBODY: Final = frozenset(
    {
        *("CodeSystem", "ConceptMap", "NamingSystem", "ValueSet"),
        *("CapabilityStatement", "CompartmentDefinition", "ImplementationGuide"),
        *("OperationDefinition", "SearchParameter", "StructureDefinition", "StructureMap"),
        *("HealthcareService", "Location", "Organization", "OrganizationAffiliation"),
        *("Practitioner", "PractitionerRole"),
        *("ActivityDefinition", "Medication", "PlanDefinition", "Questionnaire", "Substance"),
    }
)
"""Types that a `patient/` scope lets be read whoever the patient is."""
_DECIDABLE: Final = (
    *(DateCompares, DateCovers, IdIn, Missing, NumberCompares, QuantityCompares, ReferenceTo),
    *(StringMatches, TokenIn, TokenIs, UriBelow, UriIs),
)
"""What one resource alone says: whoever decides about it needs no other, and no terminology."""


def terms(caller: Caller, resource_type: str, letter: str, base: str = "") -> Node:
    """The resources of the type for which the caller's scopes grant the letter.

    Args:
        letter: c, r, u, d or s.
        base: the server's address; references below it, in criteria, are to its own resources.
    """
    kept = _kept(caller.grants)
    key = (resource_type, letter, caller.patient, bool(caller.user), base)
    found = kept.get(key)
    if found is None:
        found = kept[key] = _terms(caller, resource_type, letter, base)
    return found


def _kept(grants: tuple[Grant, ...]) -> dict[tuple[object, ...], Node]:
    """What the grants came to before, as long as they are the very same object.

    A token that is known again has the same; to hash them costs more than to look.
    """
    known = _known.get(id(grants))
    if known is None or known[0] is not grants or len(known[1]) >= _MOST_EACH:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(grants)] = (grants, {})
    return known[1]


_known: Final[dict[int, tuple[tuple[Grant, ...], dict[tuple[object, ...], Node]]]] = {}
_MOST_KNOWN: Final = 1000
_MOST_EACH: Final = 1000


def _terms(caller: Caller, resource_type: str, letter: str, base: str) -> Node:
    if not is_resource_type(resource_type):
        return Nothing()
    nodes = [
        _term(grant, caller.patient, resource_type, letter, base)
        for grant in _grants(caller, letter)
        if grant.resource_type in (resource_type, ANY)
    ]
    if any(isinstance(node, Everything) for node in nodes):
        return Everything()
    return disjunction(*(node for node in nodes if not isinstance(node, Nothing)))


def granted(caller: Caller, resource_type: str, letter: str, base: str = "") -> bool:
    """Whether there is anything of the type for which the letter is granted; `*` is any type."""
    if resource_type != ANY:
        return not isinstance(terms(caller, resource_type, letter, base), Nothing)
    return any(grant.resource_type == ANY for grant in _grants(caller, letter))


def _grants(caller: Caller, letter: str) -> Iterator[Grant]:
    """Those with the letter that have what their level is about."""
    about = {"patient": caller.patient, "user": caller.user, "system": "itself"}
    return (one for one in caller.grants if letter in one.letters and about.get(one.level))


@lru_cache(maxsize=4096)
def _term(grant: Grant, patient: str, resource_type: str, letter: str, base: str) -> Node:
    criteria = _criteria(resource_type, grant.criteria, base) if grant.criteria else Everything()
    if grant.level != "patient":
        return criteria
    return conjunction(criteria, _about(patient, resource_type, letter, base))


def _criteria(resource_type: str, criteria: tuple[tuple[str, str], ...], base: str) -> Node:
    """Nothing for criteria that are none of the type, or that one resource cannot decide."""
    try:
        found = parse_criteria(resource_type, criteria, base=base, now=0)
    except FhirError:
        return Nothing()
    return found if _is_decidable(found) else Nothing()


def _is_decidable(node: Node) -> bool:
    match node:
        case And(nodes) | Or(nodes):
            return all(map(_is_decidable, nodes))
        case Not(inner):
            return _is_decidable(inner)
        case DateCompares(prefix=Prefix.AP):
            return False  # about now, which is another moment each time
        case _:
            return isinstance(node, _DECIDABLE)


def _about(patient: str, resource_type: str, letter: str, base: str) -> Node:
    """The resources of the type that are about the patient.

    By the parameter `patient` where the type has one: CompartmentDefinition also admits what a
    patient only performed, sent or wrote, which may be about another.
    """
    heads = forms("Patient", base) if base else ("Patient/",)
    targets = tuple(head + patient for head in heads)
    if _names_patient(resource_type):
        return ReferenceTo("patient", targets)
    if any(name == "Patient" for name, _ in memberships(resource_type)):
        return ReferenceTo("{Patient}", targets)
    return Everything() if resource_type in ABOUT_NOBODY and letter in "rs" else Nothing()


def _names_patient(resource_type: str) -> bool:
    parameter = search_parameters(resource_type).get("patient")
    return parameter is not None and parameter.type == "reference"
