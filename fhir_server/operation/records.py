"""Records of one commit, for operations: found as dicts, saved only where they changed."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from fhir_server.access.session import Data, Position, SessionUnit, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import localised, named_id, new_id
from fhir_server.operation.remembered import MOST, WRITTEN, Question, Remembered
from fhir_server.search.ast import (
    And,
    Node,
    Query,
    ReferenceTo,
    SortKey,
    TokenIs,
    disjunction,
)
from fhir_server.search.parse import parse
from fhir_server.validation.beside import unfit
from fhir_server.validation.checker import Checker

_NAMESPACE = UUID("5f2d4c1e-6a37-5d0b-9c41-8b6f0a3e7d92")
_TOGETHER = 40
"""Patients who are asked about in one question, each by two names."""
_OFTEN = 3
"""Questions about one patient in a commit, with which it is worth to know of what there is none."""
_OF_A_PATIENT: Final = (
    *("CarePlan", "CareTeam", "Condition", "Consent", "Encounter", "EpisodeOfCare", "Flag"),
    *("Goal", "QuestionnaireResponse", "ServiceRequest", "Task"),
)
"""Types that operations ask about; of others nothing is known beforehand."""
_AT_ONCE = 100
"""Resources of a long walk that are in memory at one time, and that are asked for at first."""


@lru_cache(maxsize=4096)
def stable_id(*parts: str) -> str:
    """The same id for the same parts, so that what an event makes is never made twice."""
    return named_id(_NAMESPACE, "\x1f".join(parts))


async def walked(data: Data, query: Query) -> AsyncIterator[StoredVersion]:
    """Whatever a query finds, however much that is, a page at a time."""
    after: Position | None = None
    while True:
        page = await data.search(query, _AT_ONCE, after)
        for version in page.matches:
            yield version
        if page.after is None:
            return
        after = page.after


class Lookup:
    """Reads, decoded."""

    def __init__(self, data: Data, *, base: str, now: int) -> None:
        self._data = data
        self._base = base
        self.now: Final = now
        """Microseconds since the epoch."""

    async def get(self, resource_type: str, resource_id: str) -> Resource | None:
        """The current version, None where there is none."""
        found = await self._data.read(resource_type, resource_id)
        return None if found is None or found.deleted else _decoded(found.body)

    async def find(self, resource_type: str, criteria: str) -> list[Resource]:
        """What a search finds; `criteria` is a query string.

        Raises:
            FhirError: TOO_COSTLY when it finds more than anyone should have.
        """
        known = await self._data.parameters()
        pairs = parse_qsl(criteria)
        request = parse(resource_type, pairs, base=self._base, now=self.now, known=known)
        return await self._all(request.query)

    async def about(
        self,
        resource_type: str,
        patient: str,
        *further: Node,
        latest: int = 0,
        by: SortKey = WRITTEN,
    ) -> list[Resource]:
        """Those about a patient, `Patient/id`, of which all `further` criteria hold as well.

        Args:
            latest: how many at most, the latest first; 0 for all.
            by: what tells which they are.

        Raises:
            FhirError: as of `find`, where all are asked for.
        """
        named = ReferenceTo("patient", self._names(patient))
        where = And((named, *further)) if further else named
        if not latest:
            return await self._all(Query(resource_type, where))
        page = await self._data.search(Query(resource_type, where, (by,)), latest)
        return [_decoded(version.body) for version in page.matches]

    def _names(self, patient: str) -> tuple[str, ...]:
        """By which references name the patient."""
        return patient, f"{self._base}/{patient}"

    async def by_identifier(
        self, resource_type: str, identifiers: Iterable[Mapping[str, Any]]
    ) -> list[Resource]:
        """Those that have one of the identifiers, each compared by system and value."""
        tokens = _tokens(identifiers)
        return await self._all(Query(resource_type, disjunction(*tokens))) if tokens else []

    async def each_identified(
        self, resource_type: str, identifiers: Iterable[Mapping[str, Any]]
    ) -> AsyncIterator[Resource]:
        """As `by_identifier`, however many they are."""
        if tokens := _tokens(identifiers):
            async for version in walked(self._data, Query(resource_type, disjunction(*tokens))):
                yield _decoded(version.body)

    async def each_referring(
        self, resource_type: str, parameter: str, target: str
    ) -> AsyncIterator[Resource]:
        """Those that refer to a resource, or to a version of it, by a search parameter."""
        async for version in walked(
            self._data, Query(resource_type, ReferenceTo(parameter, (target,)))
        ):
            yield _decoded(version.body)

    async def _all(self, query: Query) -> list[Resource]:
        page = await self._data.search(query, min(_AT_ONCE, MOST))
        if page.after is not None:  # seldom: for so few, a store need not hand the search on
            page = await self._data.search(query, MOST)
        if page.after is not None:
            raise FhirError(
                Kind.TOO_COSTLY, f"More than {MOST} {query.resource_type} are concerned"
            )
        return [_decoded(version.body) for version in page.matches]


class Once(Lookup):
    """Reads for one answer, which asks each question about a patient once."""

    def __init__(self, data: Data, *, base: str, now: int) -> None:
        super().__init__(data, base=base, now=now)
        self._known: dict[Question, list[Resource]] = {}

    async def about(
        self,
        resource_type: str,
        patient: str,
        *further: Node,
        latest: int = 0,
        by: SortKey = WRITTEN,
    ) -> list[Resource]:
        question = Question(resource_type, patient, further, latest, by)
        found = self._known.get(question)
        if found is None:
            asked = super().about(resource_type, patient, *further, latest=latest, by=by)
            found = self._known[question] = await asked
        return [*found]


class Records(Lookup):
    """Reads and writes of one commit.

    Nobody else writes meanwhile: what is asked for again is known. What is given out is the same
    each time, and never changed in place.
    """

    def __init__(self, unit: SessionUnit, *, base: str, now: int, checker: Checker) -> None:
        super().__init__(unit, base=base, now=now)
        self.unit: Final = unit
        """The commit, as its reader may see it."""
        self._checker = checker
        self._written = 0
        self._got: dict[tuple[str, str], Resource | None] = {}
        self._remembered = unit.shared(Remembered) if unit.is_open else Remembered()
        self.saved: list[Resource] = []
        """What was written, in order."""
        self.at_hand: dict[str, object] = {}
        """Whatever a rule leaves for its next look in this commit."""

    async def get(self, resource_type: str, resource_id: str) -> Resource | None:
        self._take_in_written()
        key = resource_type, resource_id
        if key not in self._got:
            self._got[key] = self.decoded(await self.unit.read(*key))
        return self._got[key]

    def expect_questions(self, patient: str) -> None:
        """There will be many about this patient, `Patient/id`."""
        self._remembered.asked.setdefault(patient, _OFTEN - 1)

    async def about(
        self,
        resource_type: str,
        patient: str,
        *further: Node,
        latest: int = 0,
        by: SortKey = WRITTEN,
    ) -> list[Resource]:
        self._take_in_written()
        question = Question(resource_type, patient, further, latest, by)
        found = await self._known(question)
        if found is None:
            asked = super().about(resource_type, patient, *further, latest=latest, by=by)
            found = await asked
            self._remembered.keep(question, found)
        return [*found]

    async def _known(self, question: Question) -> list[Resource] | None:
        """What was asked before, or is known to be all that there is.

        Who asks often is spared what would find nothing; once or twice, the search is cheaper.
        """
        remembered, patient = self._remembered, question.patient
        names = self._names(patient)
        found = remembered.answer(question, names)
        if found is not None:
            return found
        asked = remembered.asked[patient] = remembered.asked.get(patient, 0) + 1
        if asked != _OFTEN:
            return None
        there = await self.unit.referring(_OF_A_PATIENT, "patient", names)
        remembered.keep_absent(patient, {*_OF_A_PATIENT} - there)
        return remembered.answer(question, names)

    async def about_each(
        self, resource_type: str, patients: Collection[str], *further: Node, latest: int = 0
    ) -> None:
        """Ask once for what `about` is going to be asked of each of these patients.

        Where one question cannot tell what each of them would find, each is asked for by itself.
        """
        asked = [*patients]
        for first in range(0, len(asked), _TOGETHER):
            some = asked[first : first + _TOGETHER]
            found = await self._found_together(resource_type, some, further, latest)
            for patient, resources in found.items():
                kept = resources[:latest] if latest else resources
                question = Question(resource_type, patient, further, latest, WRITTEN)
                self._remembered.keep(question, kept)

    async def _found_together(
        self, resource_type: str, patients: Sequence[str], further: tuple[Node, ...], latest: int
    ) -> dict[str, list[Resource]]:
        self._take_in_written()
        names = {name: one for one in patients for name in self._names(one)}
        where = And((ReferenceTo("patient", tuple(names)), *further))
        order = (WRITTEN,) if latest else ()
        page = await self._data.search(Query(resource_type, where, order), MOST)
        found: dict[str, list[Resource]] = {patient: [] for patient in patients}
        for version in page.matches:
            resource = _decoded(version.body)
            whose = names.get(_patient_of(resource))
            if whose is None:
                return {}
            found[whose].append(resource)
        return {} if page.after else found

    def _take_in_written(self) -> None:
        """Whoever wrote it. What somebody may see can hang on anything that is written."""
        touched = self.unit.touched
        if self._written == len(touched):
            return
        if not self.unit.is_open:
            self._got.clear()
            self._remembered.forget()
        for one in touched[self._written :]:
            self._got.pop((one.type, one.id), None)
        self._remembered.take_in(touched)
        self._written = len(touched)

    async def remind(self, patient_id: str, at: int | None) -> None:
        """Have the rules look at the patient's record again when that moment comes; None: never."""
        await self.unit.remind(patient_id, at)

    async def save(self, resource: Resource, *, is_sound: bool = False) -> Resource:
        """Write a version, unless it would say what the current one says; the stored resource.

        Args:
            is_sound: it was found sound already, or is the service's own words and what varies in
                them was looked at: it is not checked again. Tests check what is written so.

        Raises:
            FhirError: INVALID, with every place where it breaks its definition; PROFILE where it
                breaks only a profile that it has to fit, or others that are stored.
        """
        current = await self.get(resource["resourceType"], resource["id"])
        if current is not None and _content(current) == _content(resource):
            return current
        return await (self._write if is_sound else self._put)(resource, "PUT")

    async def create(self, resource: Resource) -> Resource:
        """Write a new resource, under its id or one that the server gives; the stored resource.

        Raises:
            FhirError: as of `save`.
        """
        return await self._put({"id": new_id(), **resource}, "POST")

    async def _put(self, resource: Resource, method: str) -> Resource:
        findings = await self._checker.check_all(resource, self.unit.terminology())
        if findings.errors:
            kind = Kind.INVALID if findings.breaks_definition else Kind.PROFILE
            raise FhirError.of(kind, findings.errors)
        if told := await unfit(resource, self.unit, self._base):
            raise FhirError.of(Kind.PROFILE, told)
        return await self._write(resource, method)

    async def make(self, resource: Resource) -> Resource:
        """Write what the service puts together of its own words, and of what is stored already.

        It is not checked: whether it is sound hangs on nothing that anybody sends. The tests
        of the operations check whatever is written so.
        """
        return await self._write(resource, "PUT")

    async def amend(self, resource: Resource) -> Resource:
        """As `save`, of what is stored, whichever rules it breaks by now.

        For what must not be held up by what was wrong before: nor would whoever asks for it have to
        be told what that is, as they may not see it.
        """
        current = await self.get(resource["resourceType"], resource["id"])
        if current is not None and _content(current) == _content(resource):
            return current
        return await self._write(resource, "PUT")

    async def _write(self, resource: Resource, method: str) -> Resource:
        stored = await self.unit.put(localised(resource, self._base), method)
        saved = _decoded(stored.body)
        self._remembered.versions[stored.type, stored.id, stored.version] = saved
        self.saved.append(saved)
        return saved

    def decoded(self, version: StoredVersion | None) -> Resource | None:
        """What a version says, once where it was written here; None for a deletion."""
        if version is None or version.deleted:
            return None
        return self._remembered.decoded(version) if self.unit.is_open else _decoded(version.body)


def _decoded(body: bytes) -> Resource:
    """Of what is stored, which was looked at before it was."""
    found: Resource = json.decode_own(body)
    return found


def _patient_of(resource: Resource) -> str:
    """The reference to whom it is about, as it stands there; '' where it has none alone."""
    told = [resource[name] for name in ("patient", "subject", "for") if name in resource]
    return str(told[0].get("reference", "")) if len(told) == 1 else ""


def _tokens(identifiers: Iterable[Mapping[str, Any]]) -> list[TokenIs]:
    return [
        TokenIs("identifier", str(identifier.get("system", "")), str(identifier["value"]))
        for identifier in identifiers
        if identifier.get("value")
    ]


def _content(resource: Resource) -> Resource:
    """Without what the server adds to each version."""
    meta = {
        name: value
        for name, value in resource.get("meta", {}).items()
        if name not in ("versionId", "lastUpdated")
    }
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest


def reference_to(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"
