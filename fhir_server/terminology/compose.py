"""Which codes a value set has.

Source: https://hl7.org/fhir/R4/valueset.html#compositions. What cannot be said completely is
refused, never left out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.codes import CodeSet, Members, listed, whole
from fhir_server.terminology.elements import items, number, text, texts
from fhir_server.terminology.library import Catalogue, system_of
from fhir_server.terminology.systems import CodeSystem

MAX_CODES: Final = 10_000
MAX_DEPTH: Final = 20
"""Value sets that import each other in a line."""
_MAX_WORK: Final = 1_000_000
"""Codes that are looked at, each as often as it is."""
_PARTIAL: Final = ("filter", "activeOnly", "limitedExpansion", "count", "offset")
"""Parameters of an expansion that say that it may not be all of the value set."""


class Composer:
    """Puts value sets together, each once.

    Args:
        max_codes: how many codes all that is asked may come to.
    """

    def __init__(self, catalogue: Catalogue, max_codes: int = MAX_CODES) -> None:
        self._catalogue = catalogue
        self._left = max_codes
        self._max_codes: Final = max_codes
        self._patience = _MAX_WORK
        self._sets: dict[str, CodeSet] = {}

    def codes(self, url: str) -> CodeSet:
        """The codes of a value set.

        Raises:
            FhirError: INVALID where it or what it needs is not known, or includes itself;
                UNSUPPORTED where its codes cannot be said; TOO_COSTLY for too many.
        """
        return self._codes(url, ())

    def account(self, codes: int) -> None:
        self._left -= codes
        if self._left < 0:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"The value sets come to more than {self._max_codes} codes, which is the most "
                "that one search may ask for",
            )

    def _codes(self, url: str, trail: Sequence[str]) -> CodeSet:
        require_way(url, trail)
        if url not in self._sets:
            held = self._catalogue.value_set(url)
            if held is None:
                raise unknown("value set", url)
            codes = self._composed(held.resource, (*trail, url))
            self.account(codes.size)
            self._sets[url] = codes
        return self._sets[url]

    def _composed(self, value_set: Resource, trail: Sequence[str]) -> CodeSet:
        """As it was expanded, where that is all of it; else as it is composed."""
        expansion = value_set.get("expansion")
        if isinstance(expansion, dict) and (codes := expanded(expansion)) is not None:
            return codes
        compose = value_set.get("compose")
        if not isinstance(compose, dict):
            raise FhirError(
                Kind.UNSUPPORTED,
                f"The value set {trail[-1]} has no compose and no complete expansion",
            )
        found = CodeSet()
        for include in items(compose, "include"):
            found = found.union(self._part(include, trail))
            self._work(found.size)
        for exclude in items(compose, "exclude"):
            found = found.minus(self._part(exclude, trail))
            self._work(found.size)
        return found if compose.get("inactive") is not False else self._active(found, compose)

    def _active(self, codes: CodeSet, compose: Resource) -> CodeSet:
        """Without the codes that are not in use any more."""
        named = {text(part, "system"): system_of(part) for part in items(compose, "include")}
        out = CodeSet()
        for system in codes.systems:
            inactive = self._system(named.get(system, system)).inactive
            out = out.union(CodeSet({system: Members(inactive)}))
        return codes.minus(out)

    def _work(self, codes: int) -> None:
        self._patience -= codes + 1
        if self._patience < 0:
            raise FhirError(Kind.TOO_COSTLY, "The value sets take too much work to put together")

    def _part(self, part: dict[str, Any], trail: Sequence[str]) -> CodeSet:
        """An include or exclude: what is in its system's part and in all its value sets."""
        sets = [self._of_system(part)] if text(part, "system") else []
        sets += [self._codes(url, trail) for url in texts(part, "valueSet")]
        if not sets:
            raise FhirError(
                Kind.INVALID, f"The value set {trail[-1]} includes neither a system nor a value set"
            )
        found = sets[0]
        for other in sets[1:]:
            found = found.intersection(other)
        return found

    def _of_system(self, part: dict[str, Any]) -> CodeSet:
        system = text(part, "system")
        concepts, filters = items(part, "concept"), items(part, "filter")
        if concepts:
            codes = [code for one in concepts if (code := text(one, "code"))]
            return listed(system, (*codes, *self._spelt(system_of(part), codes)))
        if not filters:
            return whole(system)
        known = self._system(system_of(part))
        found = known.codes
        for one in filters:
            self._work(len(known.concepts))
            found &= known.filtered(text(one, "property"), text(one, "op"), text(one, "value"))
        return listed(system, found)

    def _spelt(self, canonical: str, codes: Sequence[str]) -> Iterable[str]:
        """The codes as they are defined, where case means nothing to their system."""
        held = self._catalogue.code_system(canonical)
        if held is None or held.resource.get("caseSensitive") is not False:
            return ()
        return filter(None, map(held.system.spelt, codes))

    def _system(self, canonical: str) -> CodeSystem:
        held = self._catalogue.code_system(canonical)
        if held is None:
            raise unknown("code system", canonical)
        return held.system


def require_way(url: str, trail: Sequence[str]) -> None:
    """Raise for a value set that includes itself, or one that is too deep in others."""
    if url in trail:
        way = " -> ".join((*trail, url))
        raise FhirError(Kind.INVALID, f"The value set includes itself: {way}")
    if len(trail) > MAX_DEPTH:
        raise FhirError(
            Kind.TOO_COSTLY, f"Value sets import each other more than {MAX_DEPTH} steps deep"
        )


def unknown(what: str, url: str) -> FhirError:
    name, _, version = url.partition("|")
    here = f"here in version '{version}'" if version else "here"
    text = f"The {what} '{name}' is not known {here}, and so not which codes it has"
    return FhirError(Kind.INVALID, Issue(text, code="not-found"))


def expanded(expansion: dict[str, Any]) -> CodeSet | None:
    """The codes of an expansion; None where there may be more."""
    names = {text(one, "name") for one in items(expansion, "parameter")}
    found = CodeSet()
    seen, waiting = 0, items(expansion, "contains")
    codes: dict[str, set[str]] = {}
    while waiting:
        one = waiting.pop()
        seen += 1
        waiting += items(one, "contains")
        if text(one, "code") and one.get("abstract") is not True:
            codes.setdefault(text(one, "system"), set()).add(text(one, "code"))
    total = number(expansion, "total")
    if not names.isdisjoint(_PARTIAL) or number(expansion, "offset") > 0 or total > seen:
        return None
    for system, members in codes.items():
        found = found.union(listed(system, members))
    return found
