"""Who belongs to a compartment, and what may stand beside it, as conditions of a search.

https://hl7.org/fhir/R4/compartmentdefinition.html. The pseudo-parameter `{Patient}` finds what is
in a Patient's compartment.
"""

from functools import cache, lru_cache

from fhir_server.access.session import StoredVersion
from fhir_server.fhir import json
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.ast import (
    Chain,
    Everything,
    Missing,
    Node,
    Not,
    ReferenceTo,
    conjunction,
    disjunction,
)
from fhir_server.search.extract import extract_elements, indexed_parameters
from fhir_server.search.values import ReferenceValue


@cache
def types_in(compartment: str) -> tuple[str, ...]:
    """The types that may be in it: its own first, the others in order."""
    others = [
        name for name in resource_types() if name != compartment and _places(name, compartment)
    ]
    return (compartment, *others)


def member(compartment: str, focus: StoredVersion | None) -> Node:
    """In the compartment of that resource, or in any that the caller may see."""
    names = None if focus is None else (f"{compartment}/{focus.id}",)
    return _about(membership(compartment), compartment, names)


def membership(compartment: str) -> str:
    """The pseudo-parameter that finds who is in such a compartment."""
    return f"{{{compartment}}}"


def beside(resource_type: str, compartment: str, focus: StoredVersion | None) -> Node:
    """Not in the compartment, and about no other patient than it is about.

    What is about a patient is shown with that patient's, never along with another's. Some types
    are in no patient's compartment and name one all the same, such as Task.
    """
    outside = Not(member(compartment, focus))
    code = "{Patient}" if _places(resource_type, "Patient") else "patient"
    if code == "patient" and code not in indexed_parameters(resource_type):
        return outside
    own = _about(code, "Patient", None if focus is None else _patients(focus))
    return conjunction(outside, disjunction(Missing(code, "reference"), own))


def _about(code: str, target: str, names: tuple[str, ...] | None) -> Node:
    if names is not None:
        return ReferenceTo(code, names)
    # The policy guards the end of a chain: a patient who may not be seen leads nowhere.
    return Chain(code, target, (f"{target}/",), Everything())


@cache
def _places(resource_type: str, compartment: str) -> bool:
    """Whether resources of the type may be in that compartment."""
    return any(name == compartment for name, _ in memberships(resource_type))


def _patients(focus: StoredVersion) -> tuple[str, ...]:
    """Those in whose compartment it is."""
    return _patients_in(focus.body)


@lru_cache(maxsize=16)
def _patients_in(body: bytes) -> tuple[str, ...]:
    """Asked once for each type that may stand beside one resource."""
    return tuple(
        value.target
        for code, value in extract_elements(json.decode_own(body))
        if code == "{Patient}" and isinstance(value, ReferenceValue)
    )
