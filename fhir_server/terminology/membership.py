"""Whether a code is in a value set, also where not all of the value set is known.

Source: https://hl7.org/fhir/R4/valueset.html#compositions. The answers are yes, no and unknown;
a code in one part of a union is in it, whatever is not known of the other parts.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.terminology.codes import CodeSet
from fhir_server.terminology.compose import expanded, require_way
from fhir_server.terminology.elements import items, text, texts
from fhir_server.terminology.held import Held
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
        well_formed = catalogue.is_well_formed(system, code)
        return Verdict.UNKNOWN if well_formed is None else Verdict.of(well_formed)
    if held.system.spelt(code) is not None:
        return Verdict.YES
    return Verdict.NO if held.system.is_complete else Verdict.UNKNOWN


def is_member(catalogue: Catalogue, url: str, system: str, code: str) -> Verdict:
    """Whether the value set has the code.

    Args:
        system: '' for a `code` alone, which names none: then that of any system will do.

    Raises:
        FhirError: INVALID for a value set that includes itself; TOO_COSTLY for one too deep.
    """
    if system:
        return _Question(catalogue, system, code).of(url, ())
    if catalogue.value_set(url) is None:
        return Verdict.UNKNOWN
    systems = systems_of(catalogue, url)
    return some(_Question(catalogue, one, code).of(url, ()) for one in systems)


def systems_of(catalogue: Catalogue, url: str) -> list[str]:
    """The systems from which the value set takes codes; '' stands for those of one not known."""
    found: dict[str, None] = {}
    waiting, seen = [url], {url}
    while waiting:
        held = catalogue.value_set(waiting.pop())
        resource = held.resource if held else {}
        told = [*items(resource.get("expansion"), "contains")]
        parts = items(resource.get("compose"), "include")
        found |= dict.fromkeys(text(one, "system") for one in (*told, *parts))
        fresh = {one for part in parts for one in texts(part, "valueSet")} - seen
        seen |= fresh
        waiting += sorted(fresh)
        if held is None:
            found[""] = None
    return [*found]


def _expanded(value_set: Held) -> CodeSet | None:
    """All its codes, as it was expanded; None where it was not, or there may be more."""
    expansion = value_set.resource.get("expansion")
    if not isinstance(expansion, dict):
        return None
    return value_set.once("expansion", lambda: expanded(expansion))


class _Question:
    """About one code, answered for each value set once."""

    def __init__(self, catalogue: Catalogue, system: str, code: str) -> None:
        self._catalogue = catalogue
        self._system = system
        self._code = code
        self._answers: dict[str, Verdict] = {}

    def of(self, url: str, trail: Sequence[str]) -> Verdict:
        require_way(url, trail)
        if url not in self._answers:
            held = self._catalogue.value_set(url)
            found = self._composed(held, (*trail, url)) if held else Verdict.UNKNOWN
            self._answers[url] = found
        return self._answers[url]

    def _composed(self, value_set: Held, trail: Sequence[str]) -> Verdict:
        if (codes := _expanded(value_set)) is not None:
            return Verdict.of(self._code in codes.of(self._system).codes)
        compose = value_set.resource.get("compose")
        if not isinstance(compose, dict):
            return Verdict.UNKNOWN
        included = some(self._part(value_set, part, trail) for part in items(compose, "include"))
        if included is Verdict.NO:
            return included
        excluded = some(self._part(value_set, part, trail) for part in items(compose, "exclude"))
        active = Verdict.YES if compose.get("inactive") is not False else self._is_active()
        return every((included, excluded.negated(), active))

    def _part(self, value_set: Held, part: dict[str, Any], trail: Sequence[str]) -> Verdict:
        if text(part, "system") not in ("", self._system):
            return Verdict.NO
        found = [self._of_system(value_set, part)] if text(part, "system") else []
        for url in texts(part, "valueSet"):
            if Verdict.NO in found:
                break
            found.append(self.of(url, trail))
        return every(found) if found else Verdict.UNKNOWN

    def _of_system(self, value_set: Held, part: dict[str, Any]) -> Verdict:
        system = system_of(part)
        if listed := value_set.listed(part):
            return Verdict.of(self._code in listed or self._is_spelt_in(listed, system))
        filters = items(part, "filter")
        if not filters:
            return is_code(self._catalogue, system, self._code)
        held = self._catalogue.code_system(system)
        if held is None:
            return Verdict.UNKNOWN
        code = held.system.spelt(self._code)
        try:
            return Verdict.of(
                code is not None
                and all(
                    held.system.passes(
                        code, text(one, "property"), text(one, "op"), text(one, "value")
                    )
                    for one in filters
                )
            )
        except FhirError:
            return Verdict.UNKNOWN

    def _is_spelt_in(self, listed: Iterable[str], system: str) -> bool:
        """Whether it is one of the listed in another case, which means nothing to the system."""
        held = self._catalogue.code_system(system)
        if held is None or held.resource.get("caseSensitive") is not False:
            return False
        code = held.system.spelt(self._code)
        return code is not None and any(held.system.spelt(one) == code for one in listed)

    def _is_active(self) -> Verdict:
        held = self._catalogue.code_system(self._system)
        if held is None:
            return Verdict.UNKNOWN
        return Verdict.of(self._code not in held.system.inactive)
