"""Everything that was told of one stay, and what it comes to: the same in whichever order it came.

What messages tell is kept beside the Encounter, in a Binary that nobody reads through the
interface. The Encounter is made from the whole of it each time, so that a word that comes late
takes its place and one that was taken back leaves none. Decision 0037.
"""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from fhir_server.access.labels import is_test_data
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._aftercare import right_to_aftercare
from operations._event import Told
from operations._message import Message, Trigger
from operations._person import (
    INPATIENT_CLASSES,
    OPEN_STAY,
    UNDONE_STAY,
    is_inpatient,
    since,
    status_of,
)

_RANKS: Final = {
    Trigger.PREADMIT: 0,
    Trigger.ADMIT: 1,
    Trigger.VISIT: 2,
    Trigger.TRANSFER: 3,
    Trigger.CANCEL_TRANSFER: 4,
    Trigger.LEAVE: 5,
    Trigger.RETURN: 6,
    Trigger.DISCHARGE: 7,
    Trigger.CANCEL_DISCHARGE: 8,
    Trigger.UPDATE: 9,
    Trigger.CANCEL_ADMIT: 10,
}
"""What comes after what, of things that are told with one and the same time."""
_KEPT_STATUS: Final = (Trigger.UPDATE, Trigger.VISIT, Trigger.CANCEL_TRANSFER)
"""Triggers that do not say whether the young person is there or on leave."""
_BEGINNING: Final = -(2**61)
_PLAIN: Final = "plain/"
"""What was written without a message; its version follows."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One word of the stay. Times are in microseconds since the epoch."""

    id: str
    """Of the message."""
    trigger: Trigger
    told: int
    """When it was sent."""
    at: int
    """When what it tells of took place among the others; a stay begins before all else of it."""
    effect: int
    """The end of a stay that is over, else its start."""
    seen: int
    """How many had come before it: decides between those that are alike in everything else."""
    stay: Resource
    """The Encounter as it was told, by the names that its resources have here."""

    @property
    def status(self) -> str:
        return "cancelled" if self._is_withdrawn else status_of(self.stay)

    @property
    def _is_withdrawn(self) -> bool:
        return self.trigger is Trigger.CANCEL_ADMIT and status_of(self.stay) not in UNDONE_STAY

    @property
    def _order(self) -> tuple[int, int, int]:
        return self.told, _RANKS[self.trigger], self.seen

    @property
    def placed(self) -> tuple[int, int, int, int]:
        """Its place in the course of the stay."""
        return self.at, *self._order

    @property
    def said(self) -> tuple[int, int, int]:
        """Its place among what was said of one and the same thing: the last word counts."""
        return self._order


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all that was told comes to."""

    stay: Resource
    happening: Happening
    """Whose words it is told in."""
    aftercare: bool | None
    """Whether there is a right to aftercare by all that was told; None where that is not known."""
    as_stay: frozenset[str]
    """Statuses in which the stay is one in hospital, whatever its class."""
    begun: int | None
    """When the admission was, where the stay is over and was told of while it went on."""


def outcome_of(happenings: Collection[Happening]) -> Outcome:
    """A pure function of the set; at least one is given."""
    last, status = _last(happenings)
    admissions = [one for one in happenings if _tells_admission(one)]
    over = status == "finished"
    ways = {one.trigger for one in happenings}
    is_stay = not ways.isdisjoint((Trigger.ADMIT, Trigger.DISCHARGE))
    as_stay = frozenset((*OPEN_STAY, "finished", *UNDONE_STAY) if is_stay else ())
    return Outcome(
        stay=_admitted({**last.stay, "status": status}, as_stay),
        happening=last,
        aftercare=right_to_aftercare(*(one.stay for one in happenings)),
        as_stay=as_stay,
        begun=max(admissions, key=lambda one: one.said).effect if admissions and over else None,
    )


def _tells_admission(one: Happening) -> bool:
    """Whether it says that somebody is in hospital: a transfer does, though no A01 came."""
    inpatient = one.stay.get("class", {}).get("code") in INPATIENT_CLASSES
    is_told = one.trigger in (Trigger.ADMIT, Trigger.CANCEL_DISCHARGE)
    return is_told or (inpatient and one.status in OPEN_STAY)


def _admitted(stay: Resource, as_stay: Collection[str]) -> Resource:
    """The stay, with what notices know it by where its class says that it is none."""
    if status_of(stay) not in as_stay or is_inpatient(stay):
        return stay
    kind = {"coding": [{"system": canonicals.STAY_TYPE, "code": "admitted"}]}
    return {**stay, "type": [*stay.get("type", ()), kind]}


def _last(happenings: Collection[Happening]) -> tuple[Happening, str]:
    """Whose words the stay is told in, and its status."""
    undone = [one for one in happenings if one.status in UNDONE_STAY]
    if undone:
        last = max(undone, key=lambda one: one.said)
        return last, last.status
    ended = [one for one in _standing(happenings) if one.status == "finished"]
    if ended:
        return max(ended, key=lambda one: one.said), "finished"
    standing = [one for one in _standing(happenings) if one.status != "finished"]
    going = [one for one in standing if one.status in OPEN_STAY]
    last = max(going or standing or happenings, key=lambda one: one.placed)
    return last, _open_status(going) if going else last.status


def _open_status(going: Sequence[Happening]) -> str:
    """Of the last word that says whether the young person is there."""
    telling = [one for one in going if one.trigger not in _KEPT_STATUS or one.status == "onleave"]
    return max(telling or going, key=lambda one: one.placed).status


def _standing(happenings: Collection[Happening]) -> list[Happening]:
    """Without the discharges and the transfers that were taken back after they had been told."""
    taken = {Trigger.CANCEL_DISCHARGE: -(2**63), Trigger.CANCEL_TRANSFER: -(2**63)}
    for one in happenings:
        if one.trigger in taken:
            taken[one.trigger] = max(taken[one.trigger], one.told)
    return [
        one
        for one in happenings
        if not (one.status == "finished" and one.told <= taken[Trigger.CANCEL_DISCHARGE])
        and not (one.trigger is Trigger.TRANSFER and one.told <= taken[Trigger.CANCEL_TRANSFER])
    ]


def told_by(message: Message, stay: Resource, known: Resource | None, now: int) -> Happening:
    """The message as one word of its stay."""
    said = message.said(now)
    return Happening(
        id=message.id,
        trigger=message.trigger,
        told=said,
        at=_took_place(message, stay, said),
        effect=message.happened(known),
        seen=0,
        stay=stay,
    )


def _took_place(message: Message, stay: Resource, said: int) -> int:
    """By the stay's own times where it tells of that, else when it was said."""
    match message.trigger:
        case Trigger.PREADMIT | Trigger.ADMIT:
            return _BEGINNING
        case Trigger.TRANSFER:
            times = [one.get("period", {}).get("start") for one in stay.get("location", ())]
        case Trigger.LEAVE | Trigger.RETURN:
            times = [
                one.get("period", {}).get("start")
                for one in stay.get("statusHistory", ())
                if one.get("status") == status_of(stay)
            ]
        case _:
            times = []
    return max((since(text) for text in times if text), default=said)


class Journal:
    """What is kept of one stay."""

    def __init__(self, records: Records, stay_id: str) -> None:
        self._records = records
        self._id = stable_id("told-of-stay", stay_id)

    async def add(self, happening: Happening, known: Resource | None) -> list[Happening]:
        """Keep one more; all there are, with what was written of the stay without a message."""
        kept, version = await self._read()
        if known is not None and known["meta"]["versionId"] != version:
            kept.append(_plain(known, kept, happening))
        kept.append(replace(happening, seen=len(kept)))
        return kept

    async def all(self) -> list[Happening]:
        """All that was kept."""
        kept, _ = await self._read()
        return kept

    async def keep(self, happenings: Collection[Happening], stay: Resource | None) -> None:
        """Keep them, and which version of the Encounter was made from them."""
        made = stay["meta"]["versionId"] if stay else ""
        names = [member.name for member in fields(Happening)]
        rows = [{name: getattr(one, name) for name in names} for one in happenings]
        content = json.encode({"version": made, "told": rows})
        await self._records.make(
            {
                "resourceType": "Binary",
                "id": self._id,
                "contentType": "application/json",
                "data": base64.b64encode(content).decode(),
            }
        )

    async def _read(self) -> tuple[list[Happening], str]:
        binary = await self._records.get("Binary", self._id)
        if binary is None or is_test_data(binary):
            return [], ""
        try:
            content = json.decode_own(base64.b64decode(binary["data"]))
            rows = [{**row, "trigger": Trigger(row["trigger"])} for row in content["told"]]
            return [Happening(**row) for row in rows], str(content["version"])
        except (KeyError, TypeError, ValueError):
            return [], ""  # somebody has written over it, on a server that is open to all


async def known_right(records: Records, stay: Resource, told: object) -> bool | None:
    """Whether there is a right to aftercare by all that was told of a stay, and by what it says.

    Args:
        told: what the message says that this follows from, if one does.
    """
    if isinstance(told, Told) and told.stay_id == stay["id"]:
        return told.aftercare
    happenings = await Journal(records, stay["id"]).all()
    return right_to_aftercare(stay, *(one.stay for one in happenings))


def _plain(known: Resource, kept: Sequence[Happening], following: Happening) -> Happening:
    """A stay as somebody wrote it without a message: after all that was known by then."""
    period, status = known.get("period", {}), status_of(known)
    start, end = since(period.get("start")), since(period.get("end"))
    return Happening(
        id=f"{_PLAIN}{reference_to(known)}/{known['meta']['versionId']}",
        trigger=Trigger.ADMIT if status in OPEN_STAY else Trigger.UPDATE,
        told=max((one.told + 1 for one in kept), default=following.told - 1),
        at=max((one.at + 1 for one in kept), default=following.at - 1),
        effect=max(start, end) if status == "finished" else start,
        seen=len(kept),
        stay={name: value for name, value in known.items() if name != "meta"},
    )
