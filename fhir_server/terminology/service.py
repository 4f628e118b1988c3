"""A small terminology service: which codes a value set has, and what is above or below a code.

Sources: https://hl7.org/fhir/R4/valueset.html#compositions, https://hl7.org/fhir/R4/codesystem.html
#subsumes. What cannot be said completely is refused, never left out.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.codes import CodeSet, listed, whole
from fhir_server.terminology.elements import items, number, text, texts
from fhir_server.terminology.library import Library, of_r4
from fhir_server.terminology.systems import CodeSystem, code_system

MAX_CODES: Final = 10_000
_MAX_DEPTH: Final = 20
"""Value sets that import each other in a line."""
_MAX_WORK: Final = 1_000_000
"""Codes that are looked at, each as often as it is."""
_PARTIAL: Final = ("filter", "activeOnly", "limitedExpansion", "count", "offset")
"""Parameters of an expansion that say that it may not be all of the value set."""


class Terminology:
    """Answers for one search: what it has looked up once, it knows.

    Args:
        max_codes: how many codes all that is asked may come to.
    """

    def __init__(self, library: Library, max_codes: int = MAX_CODES) -> None:
        self._library = library
        self._left = max_codes
        self._max_codes: Final = max_codes
        self._patience = _MAX_WORK
        self._sets: dict[str, CodeSet] = {}
        self._systems: dict[str, CodeSystem] = {}

    async def expand(self, url: str, local: str = "") -> CodeSet:
        """The codes of a value set.

        Args:
            url: its canonical address, perhaps with `|version`.
            local: `ValueSet/id`, where the address may be that of a resource on this server.

        Raises:
            FhirError: INVALID where it or what it needs is not known, or includes itself;
                UNSUPPORTED where its codes cannot be said; TOO_COSTLY for too many.
        """
        return await self._expand(url, local, ())

    async def subsumed(self, system: str, code: str, *, below: bool) -> CodeSet:
        """The code and all codes that it subsumes, or that subsume it.

        Raises:
            FhirError: as `expand`, also for a code that the system has not.
        """
        found = (await self._system(system)).related(code, below=below)
        self._account(len(found))
        return listed(system, found)

    async def _expand(self, url: str, local: str, trail: Sequence[str]) -> CodeSet:
        if url in trail:
            way = " -> ".join((*trail, url))
            raise FhirError(Kind.INVALID, f"The value set includes itself: {way}")
        if len(trail) > _MAX_DEPTH:
            raise FhirError(
                Kind.TOO_COSTLY, f"Value sets import each other more than {_MAX_DEPTH} steps deep"
            )
        if url not in self._sets:
            resource = await self._value_set(url, local)
            codes = of_r4(url) if resource is None else await self._codes(resource, (*trail, url))
            if codes is None:
                raise _unknown("value set", url)
            self._account(codes.size)
            self._sets[url] = codes
        return self._sets[url]

    async def _value_set(self, url: str, local: str) -> Resource | None:
        named = None if url == local else await self._library.named("ValueSet", url)
        return await self._library.at(local) if named is None and local else named

    def _account(self, codes: int) -> None:
        self._left -= codes
        if self._left < 0:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"The value sets come to more than {self._max_codes} codes, which is the most "
                "that one search may ask for",
            )

    async def _codes(self, value_set: Resource, trail: Sequence[str]) -> CodeSet:
        """As it was expanded, where that is all of it; else as it is composed."""
        expansion = value_set.get("expansion")
        if isinstance(expansion, dict) and (codes := _expanded(expansion)) is not None:
            return codes
        compose = value_set.get("compose")
        if not isinstance(compose, dict):
            raise FhirError(
                Kind.UNSUPPORTED,
                f"The value set {trail[-1]} has no compose and no complete expansion",
            )
        if compose.get("inactive") is False:
            raise FhirError(
                Kind.UNSUPPORTED,
                f"The value set {trail[-1]} leaves out inactive codes, which is not supported",
            )
        found = CodeSet()
        for include in items(compose, "include"):
            found = found.union(await self._part(include, trail))
            self._work(found.size)
        for exclude in items(compose, "exclude"):
            found = found.minus(await self._part(exclude, trail))
            self._work(found.size)
        return found

    def _work(self, codes: int) -> None:
        self._patience -= codes + 1
        if self._patience < 0:
            raise FhirError(Kind.TOO_COSTLY, "The value sets take too much work to put together")

    async def _part(self, part: dict[str, Any], trail: Sequence[str]) -> CodeSet:
        """An include or exclude: what is in its system's part and in all its value sets."""
        system = text(part, "system")
        sets = [await self._of_system(system, part)] if system else []
        sets += [await self._expand(url, "", trail) for url in texts(part, "valueSet")]
        if not sets:
            raise FhirError(
                Kind.INVALID, f"The value set {trail[-1]} includes neither a system nor a value set"
            )
        found = sets[0]
        for other in sets[1:]:
            found = found.intersection(other)
        return found

    async def _of_system(self, system: str, part: dict[str, Any]) -> CodeSet:
        concepts, filters = items(part, "concept"), items(part, "filter")
        if concepts:
            return listed(system, (code for one in concepts if (code := text(one, "code"))))
        if not filters:
            return whole(system)
        version = text(part, "version")
        known = await self._system(f"{system}|{version}" if version else system)
        found = known.codes
        for one in filters:
            self._work(len(known.codes))
            found &= known.filtered(text(one, "property"), text(one, "op"), text(one, "value"))
        return listed(system, found)

    async def _system(self, canonical: str) -> CodeSystem:
        if canonical not in self._systems:
            resource = await self._library.named("CodeSystem", canonical)
            if resource is None:
                raise _unknown("code system", canonical)
            # Beside the loop: there may be a hundred thousand concepts.
            self._systems[canonical] = await asyncio.to_thread(code_system, resource)
        return self._systems[canonical]


def _unknown(what: str, url: str) -> FhirError:
    text = f"The {what} '{url}' is not known here, and so not which codes it has"
    return FhirError(Kind.INVALID, Issue(text, code="not-found"))


def _expanded(expansion: dict[str, Any]) -> CodeSet | None:
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
