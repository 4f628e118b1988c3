"""Who is on the registers: place, age and story of each, and who works with them.

Places and ages are dealt evenly: the fractional parts of the multiples of an irrational number fill
every share as well as any number of people allows, in no order that shows, without a list of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Final, TypeVar

from fhir_server.caseload.older_stories import OLDER
from fhir_server.caseload.pathway import Slot
from fhir_server.caseload.people import Dealt, YoungPerson, young_person
from fhir_server.caseload.texts import Story
from fhir_server.caseload.younger_stories import YOUNGER
from fhir_server.fhir import nhs_number
from fhir_server.region.area import Board, board_of, count_of, staff_of
from fhir_server.region.asked import (
    AGES,
    FIRST_SERIAL,
    LASTING,
    STAYED_AGES,
    Asked,
    slot_shares,
)

T = TypeVar("T")
_STORIES: Final[tuple[Story, ...]] = (*YOUNGER, *OLDER)


@dataclass(frozen=True, slots=True)
class Member:
    """A young person of the region, and the numbers of the organisations and staff around them."""

    board: Board
    person: YoungPerson
    around: Mapping[str, int]
    """Kind of organisation to its number; `keyworker`, `camhs-staff`, `social-worker` to people."""

    @property
    def nhs_number(self) -> str:
        return nhs_number.synthetic(self.person.serial)


def members(asked: Asked) -> Iterator[Member]:
    slots, ages, stayed = (_Deal(asked.seed, name) for name in ("slots", "ages", "stayed"))
    slot_table = slot_shares()
    serial = FIRST_SERIAL
    for number in range(1, asked.boards + 1):
        board = board_of(asked, number)
        for place in range(asked.register):
            slot = slots.next(slot_table)
            band = stayed.next(STAYED_AGES) if slot.stayed else ages.next(AGES)
            yield _member(asked, board, (serial, place), slot, band)
            serial += 1


class _Deal:
    """Deals values by their shares: after any number of them, hardly one more or less than due."""

    def __init__(self, seed: int, name: str) -> None:
        self._at = Random(f"region/{seed}/{name}").random()  # noqa: S311 - reproducible, no secret
        self._step = sqrt({"slots": 2, "ages": 3, "stayed": 5}[name])

    def next(self, table: Sequence[tuple[T, float]]) -> T:
        self._at = (self._at + self._step) % 1.0
        reached = 0.0
        for value, share in table:
            reached += share
            if self._at < reached:
                return value
        return table[-1][0]


def _member(
    asked: Asked, board: Board, number: tuple[int, int], slot: Slot, band: tuple[int, int]
) -> Member:
    serial, place = number
    random = Random(f"region/{asked.seed}/{serial}")  # noqa: S311 - reproducible, not secret
    age = random.randint(*band)
    story = random.choice([one for one in _STORIES if one.ages[0] <= age <= one.ages[1]])
    person = young_person(asked.seed, asked.as_of, serial, story, Dealt(slot, age, LASTING))
    return Member(board, person, _around(board, place, random))


def _around(board: Board, place: int, random: Random) -> dict[str, int]:
    kinds = ("trust", "camhs", "council", "adult-team", "advocacy", "surgery")
    schools = ("primary", "secondary", "college")
    around = {slug: random.randint(1, count_of(slug)) for slug in (*kinds, *schools)}
    around["keyworker"] = place % board.keyworkers + 1
    around["camhs-staff"] = _colleague("camhs", around["camhs"], random)
    around["social-worker"] = _colleague("council", around["council"], random)
    return around


def _colleague(slug: str, organisation: int, random: Random) -> int:
    each = staff_of(slug)
    return (organisation - 1) * each + random.randint(1, each)
