"""Whom a reference names, in every form that FHIR has for it.

Source: https://hl7.org/fhir/R4/references.html. References below the server's own base were made
relative when the resource came in, and a transaction has put ids for `urn:uuid:`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from fhir_server.access.facts.parts import UNKNOWN, Names
from fhir_server.fhir.canonicals import NHS_NUMBER, ODS_ORGANIZATION
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative

_ODS: Final = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{10}", re.ASCII)
_MOST: Final = 500
"""Items that are read of a list; who makes a longer one is not understood."""


class Unreadable(ValueError):
    """The resource is not what R4 says, or larger than what is read of one."""


def objects(value: Any) -> list[Any]:
    """The objects of a list.

    Raises:
        Unreadable: when it is something else, or of more than 500.
    """
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST:
        raise Unreadable("A list of objects is expected, of 500 at the most")
    if not all(isinstance(item, dict) for item in value):
        raise Unreadable("A list of objects is expected")
    return value


def ods(code: str) -> str:
    """The name of an organisation with that ODS code, '' for what is none."""
    return f"ods:{code.upper()}" if _ODS.fullmatch(code) else ""


def names(reference: Any, container: Resource) -> Names:
    """What the reference names, the surest first; `UNKNOWN` where that cannot be told."""
    if not isinstance(reference, dict):
        return (UNKNOWN,)
    found = [*_by_address(reference.get("reference"), container)]
    found += [*_by_identifiers([reference.get("identifier")])]
    return tuple(dict.fromkeys(found)) or (UNKNOWN,)


def own_numbers(patient: Resource) -> Names:
    """The NHS numbers of a Patient."""
    found = _by_identifiers(objects(patient.get("identifier")))
    return tuple(dict.fromkeys(name for name in found if name.startswith("nhs:")))


def own_codes(organisation: Resource) -> Names:
    """The ODS codes of an Organization."""
    found = _by_identifiers(objects(organisation.get("identifier")))
    return tuple(dict.fromkeys(name for name in found if name.startswith("ods:")))


def _by_address(address: Any, container: Resource) -> Iterator[str]:
    if not isinstance(address, str):
        return
    if address.startswith("#"):
        yield from _contained(address[1:], container)
    elif (local := parse_relative(address)) is not None:
        yield str(local)


def _contained(anchor: str, container: Resource) -> Iterator[str]:
    """A contained resource is not known to anybody but by what it refers to."""
    for inner in objects(container.get("contained")):
        if anchor and inner.get("id") == anchor:
            if inner.get("resourceType") == "PractitionerRole":
                practitioner = inner.get("practitioner") or {}
                yield from _by_address(_outside(practitioner.get("reference")), container)
            else:
                yield from _by_identifiers(objects(inner.get("identifier")))


def _outside(address: Any) -> Any:
    """What is contained contains nothing."""
    return None if isinstance(address, str) and address.startswith("#") else address


def _by_identifiers(identifiers: list[Any]) -> Iterator[str]:
    for identifier in identifiers:
        value = identifier.get("value") if isinstance(identifier, dict) else None
        if not isinstance(value, str):
            continue
        if identifier.get("system") == ODS_ORGANIZATION and ods(value):
            yield ods(value)
        elif identifier.get("system") == NHS_NUMBER and _NUMBER.fullmatch(value):
            yield f"nhs:{value}"
