"""The concepts of a value set, in order and with their displays: what `$expand` tells.

Sources: https://hl7.org/fhir/R4/valueset.html#expansion,
https://hl7.org/fhir/R4/valueset-operation-expand.html. Which codes there are, `compose` says; here
they get their order, that of the value set or else of the code system.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.codes import CodeSet
from fhir_server.terminology.compose import Composer, expanded, unknown
from fhir_server.terminology.elements import items, text, texts
from fhir_server.terminology.library import Catalogue, system_of
from fhir_server.terminology.systems import CodeSystem

_MOST: Final = 100_000
"""Concepts of one expansion, of which a page is shown."""
_MAX_WORK: Final = 1_000_000
"""Codes that are looked at, each as often as it is."""
_MAX_NESTING: Final = 40
_KEPT: Final = 64 * 1024 * 1024
"""Characters of the expansions that are kept, or a little more in memory."""
_MOST_NAMED: Final = 10
"""Codes that a warning names."""
_MOST_SHOWN: Final = 100
"""Characters of such a code."""
_OVERHEAD: Final = 200
"""Characters that a concept counts beside its own."""


_Key = tuple[str, str]
"""System and code; of an expansion, the address and the catalogue's key."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A concept of an expansion."""

    system: str
    code: str
    display: str
    designations: Sequence[Mapping[str, Any]]
    inactive: bool
    abstract: bool

    def told(self, filtered: Sequence[str]) -> bool:
        """Whether each word stands in its code or in one of its names."""
        names = (self.code, self.display, *(text(one, "value") for one in self.designations))
        told = "\n".join(names).casefold()
        return all(word in told for word in filtered)

    def display_in(self, language: str) -> str:
        """Its name in that language, as far as there is one."""
        wanted = language.casefold()
        for one in self.designations:
            known = text(one, "language").casefold()
            if known == wanted or known.startswith(wanted + "-"):
                return text(one, "value")
        return self.display


@dataclass(frozen=True, slots=True)
class Expansion:
    """All concepts of a value set, and the code systems that they were taken from."""

    concepts: Sequence[Concept]
    versions: Sequence[str]
    """Canonical addresses with versions."""
    warnings: Sequence[str] = ()
    """What was left out, and why."""

    @property
    def size(self) -> int:
        """Characters, about."""
        return sum(_size(one) for one in self.concepts) + sum(map(len, self.warnings))


def _size(concept: Concept) -> int:
    names = (concept.system, concept.code, concept.display)
    others = (text(one, "value") for one in concept.designations)
    return _OVERHEAD + sum(map(len, names)) + sum(_OVERHEAD + len(one) for one in others)


class Shelf:
    """The last expansions, by the content of everything that they are made of.

    Within a bound, the keys included: senders make up value sets. Of whatever threads.
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._size = 0
        self._held: OrderedDict[_Key, tuple[int, Expansion]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _Key) -> Expansion | None:
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[1]

    def put(self, key: _Key, made: Expansion) -> None:
        size = _OVERHEAD + sum(map(len, key)) + made.size
        with self._lock:
            if key in self._held or size > self._most:
                return
            self._held[key] = size, made
            self._size += size
            while self._size > self._most:
                _, (gone, _) = self._held.popitem(last=False)
                self._size -= gone


_KEPT_HERE: Final = Shelf()
"""Of this process."""


def expansion(catalogue: Catalogue, url: str) -> Expansion:
    """All concepts of the value set, with whatever it needs in the catalogue.

    Raises:
        FhirError: as `Composer.codes`; UNSUPPORTED where not all codes of a system are known.
    """
    key = url, catalogue.key
    if (kept := _KEPT_HERE.get(key)) is not None:
        return kept
    made = _made(catalogue, url)
    _KEPT_HERE.put(key, made)
    return made


def _made(catalogue: Catalogue, url: str) -> Expansion:
    codes = Composer(catalogue, _MOST).codes(url)
    found: dict[tuple[str, str], Concept] = {}
    walk = _Walk(catalogue, codes)
    for concept in walk.of(url):
        found.setdefault((concept.system, concept.code), concept)
        if len(found) > _MOST:
            raise too_costly(f"The value set has more than {_MOST} codes")
    return Expansion([*found.values()], [*walk.versions], walk.warnings)


def too_costly(text: str) -> FhirError:
    """https://hl7.org/fhir/R4/valueset-operation-expand.html: an error, not a part."""
    return FhirError(Kind.BUSINESS_RULE, Issue(text, code="too-costly"))


class Work:
    """What one question may cost."""

    def __init__(self, most: int = _MAX_WORK) -> None:
        self._left = most

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise too_costly("The value sets take too much work to put together")


class _Walk:
    """Goes through what a value set is composed of, in order."""

    def __init__(self, catalogue: Catalogue, codes: CodeSet) -> None:
        self._catalogue = catalogue
        self._codes = codes
        self._been: set[str] = set()
        self._work = Work()
        self._left_out: dict[str, dict[str, None]] = {}
        self.versions: dict[str, None] = {}

    @property
    def warnings(self) -> list[str]:
        return [_no_codes(canonical, [*codes]) for canonical, codes in self._left_out.items()]

    def of(self, url: str) -> Iterator[Concept]:
        """Those concepts of the value set that are among the codes; some more than once."""
        held = self._catalogue.value_set(url)
        if held is None:
            raise unknown("value set", url)
        if url in self._been:
            return
        self._been.add(url)
        told = held.resource.get("expansion")
        if isinstance(told, dict) and expanded(told) is not None:
            yield from self._told(told)
            return
        for part in items(held.resource.get("compose"), "include"):
            yield from self._part(part)

    def _part(self, part: Resource) -> Iterator[Concept]:
        system = text(part, "system")
        if not system:
            # What is in all of them is in the first.
            for url in texts(part, "valueSet")[:1]:
                yield from self.of(url)
            return
        canonical = system_of(part)
        known = self._system(canonical)
        if listed := items(part, "concept"):
            there = self._there(canonical, known, [_defined(one, known) for one in listed])
            yield from self._concepts(system, known, there)
        elif known is None:
            raise unknown("code system", canonical)
        else:
            known.require_complete()
            every = [{"code": code} for code in known.concepts]
            yield from self._concepts(system, known, every)

    def _there(
        self, canonical: str, known: CodeSystem | None, listed: Sequence[Resource]
    ) -> Sequence[Resource]:
        """Without the concepts that a system, all of which is known, has not: no member is one."""
        if known is None or not known.is_complete:
            return listed
        there = [one for one in listed if text(one, "code") in known.concepts]
        gone = [one for one in listed if text(one, "code") not in known.concepts]
        if gone:
            noted = self._left_out.setdefault(canonical, {})
            noted.update(dict.fromkeys(text(one, "code") for one in gone))
        return there

    def _told(self, expansion: Resource) -> Iterator[Concept]:
        waiting = [*reversed(items(expansion, "contains"))]
        while waiting:
            one = waiting.pop()
            waiting += reversed(items(one, "contains"))
            system = text(one, "system")
            yield from self._concepts(system, self._system(system), [one])

    def _concepts(
        self, system: str, known: CodeSystem | None, listed: Sequence[Mapping[str, Any]]
    ) -> Iterator[Concept]:
        members = self._codes.of(system)
        self._work.spend(len(listed) + 1)
        for one in listed:
            code = text(one, "code")
            if code and (code in members.codes) is not members.every:
                yield _concept(system, code, one, known)

    def _system(self, canonical: str) -> CodeSystem | None:
        held = self._catalogue.code_system(canonical)
        if held is None:
            return None
        version = held.system.version
        self.versions[f"{held.system.url}|{version}" if version else held.system.url] = None
        return held.system


def _no_codes(canonical: str, codes: Sequence[str]) -> str:
    named = ", ".join(f"'{code[:_MOST_SHOWN]}'" for code in codes[:_MOST_NAMED])
    more = len(codes) - _MOST_NAMED
    others = f" and {more} more" if more > 0 else ""
    return f"Left out, as {canonical} has no such code: {named}{others}"


def _defined(listed: Resource, known: CodeSystem | None) -> Resource:
    """The concept with its code as it is defined, where case means nothing to its system."""
    code = known.spelt(text(listed, "code")) if known else None
    return listed if code in (None, listed.get("code")) else {**listed, "code": code}


def _concept(system: str, code: str, told: Mapping[str, Any], known: CodeSystem | None) -> Concept:
    defined = known.concepts.get(code) if known else None
    return Concept(
        system,
        code,
        text(told, "display") or text(defined, "display"),
        [*items(told, "designation"), *items(defined, "designation")],
        inactive=known is not None and code in known.inactive,
        abstract=known is not None and code in known.abstract,
    )


# What an answer holds --------------------------------------------------------------------------


def contains(
    concepts: Sequence[Concept], language: str, *, designations: bool
) -> list[dict[str, Any]]:
    """`ValueSet.expansion.contains`, flat."""
    return [_contained(one, language, designations) for one in concepts]


def nested(
    catalogue: Catalogue, concepts: Sequence[Concept], language: str, *, designations: bool
) -> list[dict[str, Any]]:
    """`ValueSet.expansion.contains`, each below the nearest of those above it."""
    rows = {(one.system, one.code): _contained(one, language, designations) for one in concepts}
    above = _parents(catalogue, rows)
    top: list[dict[str, Any]] = []
    for key, row in rows.items():
        parent = above.get(key)
        where = top if parent is None else rows[parent].setdefault("contains", [])
        where.append(row)
    return top


def _parents(catalogue: Catalogue, rows: Mapping[_Key, Any]) -> dict[_Key, _Key]:
    """For each code the nearest one above it that is there too, and nowhere a circle."""
    work = Work()
    found: dict[_Key, _Key] = {}
    for key in rows:
        parent = _nearest(catalogue, key, rows, work)
        if parent is not None and not _leads_to(key, parent, found, work):
            found[key] = parent
    for key in rows:
        _require_shallow(key, found)
    return found


def _require_shallow(key: _Key, parents: Mapping[_Key, _Key]) -> None:
    at, depth = key, 0
    while at in parents:
        at, depth = parents[at], depth + 1
        if depth > _MAX_NESTING:
            raise too_costly(
                f"Codes would stand more than {_MAX_NESTING} levels deep; leave out "
                "'excludeNested=false'"
            )


def _nearest(catalogue: Catalogue, key: _Key, rows: Mapping[_Key, Any], work: Work) -> _Key | None:
    system, code = key
    held = catalogue.code_system(system)
    seen, waiting = {code}, deque([code])
    while held is not None and waiting:
        for parent in sorted(held.system.parents.get(waiting.popleft(), ())):
            work.spend(1)
            if parent not in seen:
                if (system, parent) in rows:
                    return system, parent
                seen.add(parent)
                waiting.append(parent)
    return None


def _leads_to(key: _Key, parent: _Key, found: Mapping[_Key, _Key], work: Work) -> bool:
    """Whether the parent stands below the code already."""
    at: _Key | None = parent
    while at is not None and at != key:
        work.spend(1)
        at = found.get(at)
    return at == key


def _contained(concept: Concept, language: str, designations: bool) -> dict[str, Any]:
    display = concept.display_in(language) if language else concept.display
    found: dict[str, Any] = {"system": concept.system} if concept.system else {}
    if concept.abstract:
        found["abstract"] = True
    if concept.inactive:
        found["inactive"] = True
    found["code"] = concept.code
    if display:
        found["display"] = display
    if designations and concept.designations:
        found["designation"] = [dict(one) for one in concept.designations]
    return found
