"""Whether what the service takes over into its own words from elsewhere can make them unsound.

What is put together of the service's own words is as sound as the tests find it. What varies in it
is looked at here, in place of a check of all of it: decision 0049.
"""

from collections.abc import Iterable
from typing import Any, Final

from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.validation.primitives import PRIMITIVES

PROFESSIONALS: Final = frozenset({"Organization", "Practitioner", "PractitionerRole"})
"""Types that may rate, act and report."""
PERFORMERS: Final = PROFESSIONALS | {"RelatedPerson"}
"""Types that may have an item of a plan."""


def is_name(reference: Resource, types: Iterable[str]) -> bool:
    """Whether a Reference is the name of one of the types here, or an identifier, and no more."""
    if not reference.keys() <= {"reference", "identifier", "display"}:
        return False
    told, identifier = reference.get("reference"), reference.get("identifier")
    if told is None and identifier is None:
        return False
    local = None if told is None else parse_relative(told)
    is_local = told is None or (local is not None and local.type in types)
    return (
        is_local
        and (identifier is None or is_identifier(identifier))
        and are("string", reference.get("display", "-"))
    )


def is_identifier(identifier: Resource) -> bool:
    """Whether it is a value, and maybe its system, and nothing more."""
    plain = "value" in identifier and identifier.keys() <= {"system", "value"}
    return (
        plain
        and are("string", identifier["value"])
        and ("system" not in identifier or are("uri", identifier["system"]))
    )


def are(kind: str, *values: Any) -> bool:
    """Whether they are primitives of that type."""
    check = PRIMITIVES[kind]
    return all(check(value) is None for value in values)


def is_as_sent(resource: Resource, sent: Resource) -> bool:
    """Whether it says what was sent, but for the names of itself, its subject and its episode here.

    Those are put in by the service, and of the right types.
    """
    names = {"id", "episodeOfCare"}
    rest = {name: value for name, value in resource.items() if name not in names}
    if "subject" in sent and "subject" in rest:
        rest["subject"] = {**rest["subject"], "reference": sent["subject"].get("reference")}
    return rest == {name: value for name, value in sent.items() if name != "id"}
