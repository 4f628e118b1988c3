"""What a commit has asked about patients, kept right while it writes.

Nobody else writes meanwhile. So what was found once is put right by what the commit has written
since, in memory, where that is plain; else it is forgotten, and asked for again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from fhir_server.access.session import StoredVersion
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import LAST_UPDATED, Node, ReferenceTo, SortKey
from fhir_server.search.match import holds
from fhir_server.search.plain import Reading, reading

WRITTEN: Final = SortKey(LAST_UPDATED, "date", descending=True)
MOST: Final = 1000
"""Resources of one kind about one person that a rule looks at."""
_ABOUT: Final = ReferenceTo("patient", ())
_NOTHING: Final[Sequence[StoredVersion]] = ()
_MOST_PUT_RIGHT: Final = 50
"""Versions that an answer is put right by; for more of them, the store is asked again."""


class Question(NamedTuple):
    """Which resources of a type are asked for."""

    type: str
    patient: str
    """Whom they are about, as `Patient/id`."""
    further: tuple[Node, ...]
    latest: int
    """How many at most, the first by `by`; 0 for all, in the order in which they came to be."""
    by: SortKey


@dataclass(slots=True)
class _Answer:
    found: list[Resource]
    seen: int
    """How many of the type's versions that the commit wrote it is right by."""


class Remembered:
    """Of one commit: what the operation that makes it and the rules have asked and written."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        """How many questions there were about each patient."""
        self.versions: dict[tuple[str, str, int], Resource] = {}
        """What was written, decoded."""
        self._answers: dict[Question, _Answer] = {}
        self._absent: dict[str, Mapping[str, int]] = {}
        """By patient, types of which there was nothing, and how many had been written of each."""
        self._written: dict[str, list[StoredVersion]] = {}
        self._taken_in = 0

    def take_in(self, touched: Sequence[StoredVersion]) -> None:
        """Note what the commit has written by now; `touched` only grows."""
        for version in touched[self._taken_in :]:
            self._written.setdefault(version.type, []).append(version)
        self._taken_in = len(touched)

    def forget(self) -> None:
        """Where what may be seen can hang on anything that is written."""
        self._answers.clear()
        self._absent.clear()

    def keep(self, question: Question, found: list[Resource]) -> None:
        self._answers[question] = _Answer(found, self._count(question.type))

    def keep_absent(self, patient: str, types: Iterable[str]) -> None:
        """Nothing of these types is about the patient, whatever else is asked."""
        self._absent[patient] = {name: self._count(name) for name in types}

    def answer(self, question: Question, names: tuple[str, ...]) -> list[Resource] | None:
        """What would be found; None where the store has to be asked.

        Args:
            names: by which references name the patient.
        """
        known = self._answers.get(question) or self._of_nothing(question)
        if known is None:
            return None
        since = self._written.get(question.type, _NOTHING)[known.seen :]
        found = self._put_right(question, known.found, since, names) if since else known.found
        if found is None:
            self._answers.pop(question, None)
            return None
        known.found, known.seen = found, known.seen + len(since)
        return found

    def decoded(self, version: StoredVersion) -> Resource:
        known = self.versions.get((version.type, version.id, version.version))
        return json.decode_own(version.body) if known is None else known

    def _count(self, resource_type: str) -> int:
        return len(self._written.get(resource_type, _NOTHING))

    def _of_nothing(self, question: Question) -> _Answer | None:
        seen = self._absent.get(question.patient, {}).get(question.type)
        if seen is None:
            return None
        answer = self._answers[question] = _Answer([], seen)
        return answer

    def _put_right(
        self,
        question: Question,
        found: list[Resource],
        since: Sequence[StoredVersion],
        names: tuple[str, ...],
    ) -> list[Resource] | None:
        """With what was written since in its place; None where that cannot be told."""
        read = reading(question.type, _ABOUT, *question.further)
        most = question.latest or MOST
        if read is None or len(since) > _MOST_PUT_RIGHT:
            return None
        wanted = (ReferenceTo(_ABOUT.code, names), *question.further)
        for version in since:
            if len(found) >= most:
                return None  # there may be others behind these
            resource = None if version.deleted else self.decoded(version)
            fits = resource is not None and _fits(resource, wanted, read)
            changed = _with(question, found, version, resource if fits else None)
            if changed is None:
                return None
            found = changed
        return found


def _fits(resource: Resource, wanted: Iterable[Node], read: Reading) -> bool:
    values = read(resource)
    return all(holds(node, resource["id"], values) for node in wanted)


def _with(
    question: Question, found: list[Resource], version: StoredVersion, resource: Resource | None
) -> list[Resource] | None:
    """What is found once the version was written; None where its place among them is not known.

    Args:
        resource: what it says, where that is asked for.
    """
    at = next((n for n, one in enumerate(found) if one["id"] == version.id), None)
    if at is not None:
        if resource is None:
            return [*found[:at], *found[at + 1 :]]
        return None if question.latest else [*found[:at], resource, *found[at + 1 :]]
    if resource is None:
        return found
    if version.version > 1:
        return None  # it came to be at some time, and was not asked for then
    if not question.latest or not found:
        return [*found, resource]
    is_last = question.by == WRITTEN and _written_at(found[0]) <= _written_at(resource)
    return [resource, *found] if is_last else None


def _written_at(resource: Resource) -> str:
    """All have as many digits."""
    return str(resource["meta"]["lastUpdated"])
