"""Facts kept at hand in the process, never older than the store's own.

Whoever asks reads the state of the facts first: what commits have changed since, of whatever
process, is dropped. A commit under way sees what it has written itself, which nobody else may, so
what it has changed it does not share.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fhir_server.access.facts import kept
from fhir_server.access.facts.kept import Overfull, State
from fhir_server.access.facts.parts import AnyPart, Contribution, Names, PatientPart
from fhir_server.access.facts.record import Facts, facts
from fhir_server.access.facts.sharing import Sharing
from fhir_server.access.identities import Identities
from fhir_server.storage.interface import Memo, Reader

_MOST_BYTES: Final = 32 * 1024 * 1024
"""That facts are reckoned to take: of some 4,800 patients as in the synthetic region."""
_LEAST: Final = 1500
"""Bytes of one patient's, whatever they hold."""
_SCAN_FROM: Final = 200
"""Patients from which on the facts of all are read in pages, rather than each by itself."""
_TRIES: Final = 3


@dataclass(slots=True)
class Shelf:
    """What is kept of one state of the facts; None for a patient whose facts cannot be read."""

    state: State
    patients: OrderedDict[str, Facts | None] = field(default_factory=OrderedDict)
    ids_by_number: dict[str, set[str]] = field(default_factory=dict)
    callers: dict[tuple[str, str], Identities] = field(default_factory=dict)
    answers: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    """What callers were told, by whatever names them; each has `stale`, a set of subjects."""
    size: int = 0
    """Bytes that `patients` are reckoned to take."""
    scanning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of whoever reads the facts of all: others who want as many find them here afterwards. All at
    once, when a server has just started, they took ten times the memory that is kept of them."""

    def parted(self, patient_ids: Iterable[str]) -> tuple[dict[str, Facts | None], list[str]]:
        """What is here of these patients, and those of whom nothing is."""
        wanted = list(patient_ids)
        found = {one: self.patients[one] for one in wanted if one in self.patients}
        return found, [one for one in wanted if one not in found]

    def keep(self, patient_id: str, found: Facts | None) -> None:
        self._forget(patient_id)
        self.patients[patient_id] = found
        self.size += _size(found)
        for number in _numbered(found):
            self.ids_by_number.setdefault(number, set()).add(patient_id)
        while self.size > _MOST_BYTES and len(self.patients) > 1:
            self._forget(next(iter(self.patients)))

    def _forget(self, patient_id: str) -> None:
        if patient_id not in self.patients:
            return
        found = self.patients.pop(patient_id)
        self.size -= _size(found)
        for number in _numbered(found):
            ids = self.ids_by_number.get(number, set())
            ids.discard(patient_id)
            if not ids:
                self.ids_by_number.pop(number, None)

    def drop(self, changed: Names, reached: State) -> None:
        """Forget what hangs on the facts of these."""
        self.state = reached
        if any(not subject.startswith(("Patient/", "nhs:")) for subject in changed):
            # Who works where has changed, and so who is who.
            self.callers.clear()
            self.answers.clear()
        for subject in changed:
            self._forget(subject.removeprefix("Patient/"))
            for patient_id in tuple(self.ids_by_number.get(subject, ())):
                self._forget(patient_id)
        for answer in self.answers.values():
            answer.stale.update(changed)


def _size(found: Facts | None) -> int:
    return _LEAST if found is None else _LEAST + found.size


def _numbered(found: Facts | None) -> Names:
    return found.patient.numbers if found and found.patient else ()


class AtHand:
    """The shelf of a process, brought to the store's state at each question."""

    def __init__(self) -> None:
        self.here = Shelf(State())
        """The shelf, of whatever state."""
        self._told: tuple[bytes, State] = (b"", State())
        """What the store told of its state when the shelf was of that very one."""

    async def shelf(self, reader: Reader) -> Shelf | None:
        """What may be used at this moment; None where the facts are not complete.

        Every answer from it is as of now or later. What the store told is compared as it is
        stored: each request asks, and most of the time nothing has changed.
        """
        told = await reader.memo(kept.STATE, kept.STATE_KEY)
        if told is None:
            return None
        shelf = self.here
        if self.is_of(told):
            return shelf
        reached = kept.state_of(told.value)
        if reached.usable and reached == shelf.state:
            self._told = (told.value, shelf.state)
            return shelf
        return await self._brought(reader)

    @property
    def as_stored(self) -> bytes:
        """The state that the shelf was of when the store was last asked, as it is stored."""
        return self._told[0]

    @property
    def is_as_told(self) -> bool:
        """Whether the shelf that is here is of the state that is `as_stored`."""
        return self.here.state is self._told[1]

    def is_of(self, told: Memo | None) -> bool:
        """Whether the shelf that is here is of the state that the store told."""
        known = self._told
        return told is not None and told.value == known[0] and self.here.state is known[1]

    async def _brought(self, reader: Reader) -> Shelf | None:
        """The shelf, brought to what the store has come to."""
        for _ in range(_TRIES):
            told = await reader.memo(kept.STATE, kept.STATE_KEY)
            reached = State() if told is None else kept.state_of(told.value)
            if told is None or not reached.usable:
                return None
            shelf, before = self.here, self.here.state
            if reached == before:
                return shelf
            if _is_under_way(reader):
                return Shelf(reached)
            if before.usable and reached.number < before.number:
                continue  # another question was quicker, unless the store was restored
            changed = await kept.changed(reader, before, reached) if before.usable else None
            if self.here is not shelf or shelf.state != before:
                continue
            if changed is None:
                self.here = Shelf(reached)
            else:
                shelf.drop(changed, reached)
            self._told = (told.value, reached)
            return self.here
        self.here = Shelf(reached)
        return self.here


def _is_under_way(reader: Reader) -> bool:
    """Whether it is a commit's, which can keep memos."""
    return hasattr(reader, "keep")


async def facts_of(
    reader: Reader, shelf: Shelf, patient_ids: Collection[str]
) -> dict[str, Facts | None]:
    """The facts of each; None where they cannot be read."""
    found, missing = shelf.parted(patient_ids)
    if not missing:
        return found
    if len(missing) < _SCAN_FROM:
        return found | await _kept(reader, shelf, missing)
    async with shelf.scanning:
        found, missing = shelf.parted(patient_ids)
        return found | await _kept(reader, shelf, missing)


async def _kept(
    reader: Reader, shelf: Shelf, patient_ids: Collection[str]
) -> dict[str, Facts | None]:
    """What is read of those who are not on the shelf, and put there."""
    state = shelf.state
    if len(patient_ids) < _SCAN_FROM:
        read = {one: await facts_of_one(reader, one) for one in patient_ids}
    else:
        read = await _facts_of_many(reader, frozenset(patient_ids))
    if shelf.state == state:  # else a commit may have changed them since
        for one, facts_read in read.items():
            shelf.keep(one, facts_read)
    return read


async def facts_of_one(reader: Reader, patient_id: str) -> Facts | None:
    """As the reader has them now; None where they cannot be read."""
    own = f"Patient/{patient_id}"
    try:
        told = await kept.of_subject(reader, own)
        for number in _numbers(told, own):
            told += await kept.of_subject(reader, number)
        return gathered(told, own)
    except (Overfull, msgspec.MsgspecError, ValueError):
        return None


async def _facts_of_many(reader: Reader, patient_ids: frozenset[str]) -> dict[str, Facts | None]:
    told: dict[str, list[Contribution]] = {f"Patient/{one}": [] for one in patient_ids}
    async for subject, one in kept.of_many(reader, "Patient/", told):
        told[subject].append(one)
    numbered: dict[str, list[Contribution]] = {
        number: [] for own, parts in told.items() for number in _numbers(parts, own)
    }
    async for subject, one in kept.of_many(reader, "nhs:", numbered):
        numbered[subject].append(one)
    return {
        own.removeprefix("Patient/"): _readable(
            [*parts, *(one for number in _numbers(parts, own) for one in numbered[number])], own
        )
        for own, parts in told.items()
    }


def _readable(told: Iterable[Contribution], own: str) -> Facts | None:
    try:
        return gathered(told, own)
    except ValueError:
        return None


def _numbers(told: Iterable[Contribution], own: str) -> Names:
    parts: Mapping[str, AnyPart] = {one.ref: one.part for one in told}
    patient = parts.get(own)
    return patient.numbers if isinstance(patient, PatientPart) else ()


def gathered(told: Iterable[Contribution], own: str) -> Facts:
    """One patient's facts.

    Under an NHS number there may be another Patient with it, who is none of this one's."""
    told = [one for one in told if one.ref == own or not isinstance(one.part, PatientPart)]
    shared = Sharing()
    grantees = frozenset(shared.one(name) for one in told for name in one.grantees)
    parts = {shared.one(one.ref): shared.one(one.part) for one in told}
    return facts(parts, own, grantees, shared.size)


async def patient_ids(reader: Reader, subjects: Iterable[str]) -> set[str]:
    """The ids of the patients that the subjects are, also those told by NHS number."""
    found: set[str] = set()
    for subject in subjects:
        if subject.startswith("Patient/"):
            found.add(subject.removeprefix("Patient/"))
        elif subject.startswith("nhs:"):
            told = await kept.of_subject(reader, subject)
            found |= {
                one.ref.removeprefix("Patient/")
                for one in told
                if isinstance(one.part, PatientPart)
            }
    return found
