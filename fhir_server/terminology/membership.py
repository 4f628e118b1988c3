"""Whether a code is in a value set, also where not all of the value set is known.

Source: https://hl7.org/fhir/R4/valueset.html#compositions. The answers are yes, no and unknown;
a code in one part of a union is in it, whatever is not known of the other parts.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.terminology.compose import expanded, require_way
from fhir_server.terminology.elements import items, text, texts
from fhir_server.terminology.library import Catalogue, system_of


class Verdict(Enum):
    """Ordered so that the least of several holds for all of them, the greatest for any."""

    NO = 0
    UNKNOWN = 1
    YES = 2

    @classmethod
    def of(cls, holds: bool) -> "Verdict":
        return cls.YES if holds else cls.NO

    def negated(self) -> "Verdict":
        return Verdict(2 - self.value)


def every(verdicts: Iterable[Verdict]) -> Verdict:
    return Verdict(min((one.value for one in verdicts), default=2))


def some(verdicts: Iterable[Verdict]) -> Verdict:
    return Verdict(max((one.value for one in verdicts), default=0))


def is_code(catalogue: Catalogue, system: str, code: str) -> Verdict:
    """Whether the system (with `|version` or not) has the code."""
    held = catalogue.code_system(system)
    if held is None:
        return Verdict.UNKNOWN
    if held.system.spelt(code) is not None:
        return Verdict.YES
    return Verdict.NO if held.system.is_complete else Verdict.UNKNOWN


def is_member(
    catalogue: Catalogue, url: str, system: str, code: str, trail: Sequence[str] = ()
) -> Verdict:
    """Whether the value set has the code.

    Raises:
        FhirError: INVALID for a value set that includes itself; TOO_COSTLY for one too deep.
    """
    require_way(url, trail)
    held = catalogue.value_set(url)
    if held is None:
        return Verdict.UNKNOWN
    expansion = held.resource.get("expansion")
    if isinstance(expansion, dict) and (codes := expanded(expansion)) is not None:
        return Verdict.of(code in codes.of(system).codes)
    compose = held.resource.get("compose")
    if not isinstance(compose, dict):
        return Verdict.UNKNOWN

    def holds(part: dict[str, Any]) -> Verdict:
        return _part(catalogue, part, system, code, (*trail, url))

    included = some(map(holds, items(compose, "include")))
    if included is Verdict.NO:
        return included
    excluded = some(map(holds, items(compose, "exclude")))
    active = Verdict.YES
    if compose.get("inactive") is False:
        active = _is_active(catalogue, system, code)
    return every((included, excluded.negated(), active))


def _part(
    catalogue: Catalogue, part: dict[str, Any], system: str, code: str, trail: Sequence[str]
) -> Verdict:
    if text(part, "system") not in ("", system):
        return Verdict.NO
    found = [_of_system(catalogue, part, code)] if text(part, "system") else []
    for url in texts(part, "valueSet"):
        if Verdict.NO in found:
            break
        found.append(is_member(catalogue, url, system, code, trail))
    return every(found) if found else Verdict.UNKNOWN


def _of_system(catalogue: Catalogue, part: dict[str, Any], code: str) -> Verdict:
    system = system_of(part)
    if concepts := items(part, "concept"):
        return Verdict.of(any(text(one, "code") == code for one in concepts))
    filters = items(part, "filter")
    if not filters:
        return is_code(catalogue, system, code)
    held = catalogue.code_system(system)
    if held is None:
        return Verdict.UNKNOWN
    spelt = held.system.spelt(code) or code
    try:
        return every(
            Verdict.of(
                spelt
                in held.system.filtered(text(one, "property"), text(one, "op"), text(one, "value"))
            )
            for one in filters
        )
    except FhirError:
        return Verdict.UNKNOWN


def _is_active(catalogue: Catalogue, system: str, code: str) -> Verdict:
    held = catalogue.code_system(system)
    return Verdict.UNKNOWN if held is None else Verdict.of(code not in held.system.inactive)
