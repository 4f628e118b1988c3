"""The types of FHIRPath's items: FHIR's, by R4's names, and `System.Boolean` and the like.

A set of types is what is known of a collection before it is evaluated; ANY where nothing is.
Sources: https://hl7.org/fhir/R4/fhirpath.html#types (which FHIR types become which system types),
https://hl7.org/fhir/R4/datatypes.html (what specialises what).
"""

from functools import cache
from typing import Final

from fhir_server.fhir.definitions import base_type, is_resource_type, type_definition
from fhir_server.fhirpath.problems import BadExpression

Types = frozenset[str] | None
ANY: Final[Types] = None

BOOLEAN: Final = "System.Boolean"
STRING: Final = "System.String"
INTEGER: Final = "System.Integer"
DECIMAL: Final = "System.Decimal"
DATE: Final = "System.Date"
DATE_TIME: Final = "System.DateTime"
TIME: Final = "System.Time"
QUANTITY: Final = "System.Quantity"

_SYSTEM: Final = (BOOLEAN, STRING, INTEGER, DECIMAL, DATE, DATE_TIME, TIME, QUANTITY)
_PARENTS: Final = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("url", "canonical", "uuid", "oid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
}
"""What the table of elements does not say: primitives that specialise a primitive."""

SYSTEM_OF: Final = {
    **dict.fromkeys(
        (
            *("string", "code", "id", "markdown", "uri", "url", "canonical", "uuid", "oid"),
            *("base64Binary", "xhtml"),
        ),
        STRING,
    ),
    "boolean": BOOLEAN,
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), INTEGER),
    "decimal": DECIMAL,
    "date": DATE,
    **dict.fromkeys(("dateTime", "instant"), DATE_TIME),
    "time": TIME,
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), QUANTITY),
    **{name: name for name in _SYSTEM},
}
"""The system type whose value an item has; other types have none."""


@cache
def is_a(name: str, ancestor: str) -> bool:
    """Whether a FHIR type is another or specialises it; a system type is only itself."""
    while name:
        if name == ancestor:
            return True
        name = _parent(name)
    return False


def _parent(name: str) -> str:
    if name in _PARENTS:
        return _PARENTS[name]
    try:
        return base_type(name)
    except KeyError:
        return ""


@cache
def has_type(name: str, wanted: str) -> bool:
    """Whether an item of type `name` passes `is wanted`.

    An unqualified system type takes the FHIR primitives that become it as well: R4's own que-7
    asks of a FHIR boolean whether it is `Boolean`.
    """
    if is_a(name, wanted) or (name, wanted) == (QUANTITY, "Quantity"):
        return True
    return wanted.startswith("~") and SYSTEM_OF.get(name) == wanted[1:]


@cache
def resolved(name: str) -> str:
    """The type that a specifier names, for `has_type`: FHIR's before the system's.

    Raises:
        BadExpression: when there is none of that name.
    """
    namespace, _, local = name.rpartition(".")
    if namespace in ("", "FHIR") and _is_fhir(local):
        return local
    system = f"System.{local}"
    if namespace == "System" or (not namespace and system in _SYSTEM):
        return system if namespace else f"~{system}"
    if "." in name and _is_fhir(name):
        return name
    raise BadExpression(f"{name} is not a type of R4 or FHIRPath")


def _is_fhir(name: str) -> bool:
    try:
        type_definition(name)
    except KeyError:
        return False
    return True


def is_resource(name: str) -> bool:
    return name in ("Resource", "DomainResource") or is_resource_type(name)


def narrowed(types: Types, wanted: str) -> Types:
    """What is left of the types after `ofType(wanted)`."""
    if types is None:
        return ANY if wanted.startswith("~") or wanted in _ABSTRACT else frozenset({wanted})
    kept = {name for name in types if has_type(name, wanted)}
    # An abstract type may turn out to be anything below it.
    if any(is_a(wanted, name) for name in types):
        kept.add(wanted)
    return frozenset(kept)


_ABSTRACT: Final = ("Resource", "DomainResource", "Element", "BackboneElement")


def united(*given: Types) -> Types:
    found: frozenset[str] = frozenset()
    for types in given:
        if types is None:
            return ANY
        found |= types
    return found
