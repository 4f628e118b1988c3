"""Compartments: which resources belong to a patient, an encounter, a practitioner ...

Source: https://hl7.org/fhir/R4/compartmentdefinition.html.
"""

from functools import cache

from fhir_server.fhir.definitions import compartments


@cache
def memberships(resource_type: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Compartment and the parameters whose references place a resource of the type in it.

    `{def}` among the parameters: a resource of the type is in its own compartment.
    """
    return tuple(
        (name, frozenset(types[resource_type]) | _itself(name, resource_type))
        if resource_type in types
        else (name, _itself(name, resource_type))
        for name, types in compartments().items()
        if resource_type in types or name == resource_type
    )


def _itself(compartment: str, resource_type: str) -> frozenset[str]:
    return frozenset({"{def}"} if compartment == resource_type else ())
