"""What is asked for: the size of the region, and the shares that its register is dealt by.

No register publishes such figures person by person. The shares are the project's own estimates of a
register that works as the guidance wants it to (https://www.england.nhs.uk/publication/dynamic-support-register-and-care-education-and-treatment-review-policy-and-guide/);
who has better ones changes them here.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from fhir_server.caseload.pathway import (
    DISCHARGE_PLANNING,
    PLAN_ACTIVE,
    SLOTS,
    STAY_DAYS,
    STEP_DOWN,
    Slot,
)

MOST_BOARDS: Final = 42
"""Integrated care boards of England."""
FIRST_SERIAL: Final = 1000
"""Below are the NHS numbers of the synthetic caseload."""
_LAST_SERIAL: Final = 899_999
MOST_REGISTER: Final = 20_000
CASELOAD: Final = 10
"""Young people to a keyworker, as the pilot of Birmingham and Solihull had them."""

PLACES: Final[tuple[tuple[int, float], ...]] = (
    # A place of the synthetic caseload, which is a way through the pathway with a rating, and
    # the share of the register that has it.
    *((0, 0.03), (19, 0.01), (1, 0.03), (23, 0.01), (2, 0.02), (16, 0.03), (3, 0.06), (13, 0.02)),
    *((4, 0.07), (14, 0.02), (5, 0.22), (18, 0.06), (15, 0.16), (6, 0.04), (7, 0.03), (11, 0.04)),
    *((8, 0.08), (17, 0.02), (9, 0.03), (10, 0.01), (29, 0.01)),
)
AGES: Final[tuple[tuple[tuple[int, int], float], ...]] = (
    *(((5, 10), 0.12), ((11, 13), 0.2), ((14, 15), 0.26), ((16, 17), 0.28), ((18, 24), 0.14)),
)
"""First and last year of age, and its share of those who have not been in hospital."""
STAYED_AGES: Final[tuple[tuple[tuple[int, int], float], ...]] = (
    *(((12, 13), 0.2), ((14, 15), 0.35), ((16, 17), 0.45)),
)
"""Of those who have: the wards are adolescent ones."""
LASTING: Final = {
    **STAY_DAYS,
    PLAN_ACTIVE: (30, 130),
    DISCHARGE_PLANNING: (15, 80),
    STEP_DOWN: (30, 70),
}
"""Days of the states: longer than in the caseload, which is to show much in little.

All on one way come to less than a year less forty days, as nobody has a birthday meanwhile.
"""


class BadRegion(ValueError):
    """Such a region cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A region.

    Args:
        boards: integrated care boards, 1 to 42.
        register: young people on the register of each.
        population: people of all ages in the area of each; a number to relate others to.
        seed: what everything is drawn from.
        as_of: the day that is today.
    """

    boards: int = 1
    register: int = 400
    population: int = 1_800_000
    seed: int = 1
    as_of: date = date(2026, 6, 1)

    def __post_init__(self) -> None:
        if not 1 <= self.boards <= MOST_BOARDS:
            raise BadRegion(f"A region has 1 to {MOST_BOARDS} boards, not {self.boards}")
        if not 1 <= self.register <= MOST_REGISTER:
            raise BadRegion(f"A register has 1 to {MOST_REGISTER} people, not {self.register}")
        if self.population < self.register:
            raise BadRegion(f"{self.population} people are fewer than the register's")
        if FIRST_SERIAL + self.boards * self.register > _LAST_SERIAL:
            raise BadRegion("There are not so many NHS numbers for tests (899,000 of 999…)")

    @property
    def young_people(self) -> int:
        return self.boards * self.register


def slot_shares() -> list[tuple[Slot, float]]:
    return [(SLOTS[number], share) for number, share in PLACES]


def rating_shares() -> dict[str, float]:
    """Colour to share of those who have one today: who has moved away is rated no more."""
    shares: dict[str, float] = {}
    for slot, share in slot_shares():
        colour = slot.rating if slot.on_register else "none"
        shares[colour] = shares.get(colour, 0.0) + share
    return shares


def state_shares() -> dict[str, float]:
    shares: dict[str, float] = {}
    for slot, share in slot_shares():
        shares[slot.state] = shares.get(slot.state, 0.0) + share
    return shares


def stayed_share() -> float:
    return sum(share for slot, share in slot_shares() if slot.stayed)


def age_shares() -> dict[str, float]:
    """Of the bands of `AGES`, those who have been in hospital with the others."""
    stayed = stayed_share()
    within = {band_of(first): share for (first, _), share in STAYED_AGES}
    return {
        band_of(first): share * (1 - stayed) + within.get(band_of(first), 0.0) * stayed
        for (first, _), share in AGES
    }


def band_of(age: int) -> str:
    first, last = next(
        (band for band, _ in AGES if band[0] <= age <= band[1]), (AGES[-1][0][0], AGES[-1][0][1])
    )
    return f"{first} to {last}"
