"""The ten states of the pathway, `cancelled`, and the days on which a young person changed state.

Source: information for families working with a keyworker, Derbyshire
https://www.affinitytrust.org/what-we-do/children-and-young-people-services/derbyshire-keyworker-service/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Final

from fhir_server.caseload.elements import working_day

REFERRED: Final = "referred"
CONSENT_PENDING: Final = "consent-pending"
AWAITING_ALLOCATION: Final = "awaiting-allocation"
INFORMATION_GATHERING: Final = "information-gathering"
PLANNING: Final = "planning"
PLAN_ACTIVE: Final = "plan-active"
IN_HOSPITAL: Final = "in-hospital"
DISCHARGE_PLANNING: Final = "discharge-planning"
STEP_DOWN: Final = "step-down"
CLOSED: Final = "closed"
CANCELLED: Final = "cancelled"

EPISODE_STATUS: Final = {
    REFERRED: "planned",
    CONSENT_PENDING: "planned",
    AWAITING_ALLOCATION: "waitlist",
    INFORMATION_GATHERING: "active",
    PLANNING: "active",
    PLAN_ACTIVE: "active",
    IN_HOSPITAL: "active",
    DISCHARGE_PLANNING: "active",
    STEP_DOWN: "active",
    CLOSED: "finished",
    CANCELLED: "cancelled",
}

STAY_DAYS: Final = {
    REFERRED: (2, 5),
    CONSENT_PENDING: (3, 12),
    AWAITING_ALLOCATION: (4, 14),
    INFORMATION_GATHERING: (10, 20),
    PLANNING: (10, 18),
    PLAN_ACTIVE: (30, 70),
    IN_HOSPITAL: (9, 20),
    DISCHARGE_PLANNING: (20, 40),
    STEP_DOWN: (30, 60),
    CLOSED: (7, 40),
    CANCELLED: (7, 40),
}
_SINCE_DISCHARGE_DAYS: Final = (4, 10)
"""Within the fourteen days of the red hold."""

_COMMON_PATH: Final = (
    REFERRED,
    CONSENT_PENDING,
    AWAITING_ALLOCATION,
    INFORMATION_GATHERING,
    PLANNING,
    PLAN_ACTIVE,
)
_STAY: Final = (*_COMMON_PATH, IN_HOSPITAL, DISCHARGE_PLANNING)


@dataclass(frozen=True, slots=True)
class Slot:
    """What a place in the caseload stands for: the states gone through, and the rating now."""

    path: tuple[str, ...]
    rating: str
    close_reason: str | None = None
    on_register: bool = True

    @property
    def state(self) -> str:
        return self.path[-1]

    @property
    def stayed(self) -> bool:
        return IN_HOSPITAL in self.path

    @property
    def in_hospital(self) -> bool:
        return self.state in (IN_HOSPITAL, DISCHARGE_PLANNING)

    @property
    def home_again(self) -> bool:
        return self.stayed and not self.in_hospital


def _on_the_way(state: str, rating: str) -> Slot:
    return Slot(_COMMON_PATH[: _COMMON_PATH.index(state) + 1], rating)


_STEPPED_DOWN: Final = (*_COMMON_PATH, STEP_DOWN)
_DECLINED: Final = (REFERRED, CONSENT_PENDING, CANCELLED)

SLOTS: Final = (
    # The first eleven are one of each state, so that a small caseload shows the whole pathway.
    _on_the_way(REFERRED, "amber"),
    _on_the_way(CONSENT_PENDING, "amber"),
    _on_the_way(AWAITING_ALLOCATION, "red"),
    _on_the_way(INFORMATION_GATHERING, "amber"),
    _on_the_way(PLANNING, "amber"),
    _on_the_way(PLAN_ACTIVE, "amber"),
    Slot((*_COMMON_PATH, IN_HOSPITAL), "blue"),
    Slot(_STAY, "blue"),
    Slot(_STEPPED_DOWN, "green"),
    Slot((*_STEPPED_DOWN, CLOSED), "green", "stepped-down"),
    Slot(_DECLINED, "amber", "declined"),
    Slot((*_STAY, PLAN_ACTIVE), "red"),
    _on_the_way(PLAN_ACTIVE, "amber"),
    _on_the_way(INFORMATION_GATHERING, "red"),
    _on_the_way(PLANNING, "red"),
    _on_the_way(PLAN_ACTIVE, "green"),
    _on_the_way(AWAITING_ALLOCATION, "amber"),
    Slot(_STEPPED_DOWN, "amber"),
    _on_the_way(PLAN_ACTIVE, "red"),
    _on_the_way(REFERRED, "red"),
    _on_the_way(PLANNING, "amber"),
    _on_the_way(PLAN_ACTIVE, "amber"),
    _on_the_way(INFORMATION_GATHERING, "amber"),
    _on_the_way(CONSENT_PENDING, "red"),
    _on_the_way(PLAN_ACTIVE, "amber"),
    Slot(_STEPPED_DOWN, "green"),
    _on_the_way(INFORMATION_GATHERING, "amber"),
    _on_the_way(PLANNING, "amber"),
    _on_the_way(AWAITING_ALLOCATION, "amber"),
    Slot((*_STEPPED_DOWN, CLOSED), "green", "moved-away", on_register=False),
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Each state of a path with the day it began, oldest first."""

    steps: tuple[tuple[str, date], ...]

    def began(self, state: str) -> date | None:
        """The first day in the state."""
        return next((day for name, day in self.steps if name == state), None)

    @property
    def referred(self) -> date:
        return self.steps[0][1]

    @property
    def latest(self) -> date:
        """The day on which the state of today began."""
        return self.steps[-1][1]


def timeline(
    slot: Slot,
    as_of: date,
    random: Random,
    lasting: Mapping[str, tuple[int, int]] = STAY_DAYS,
) -> Timeline:
    """Walked backwards from today, so that today's state is the slot's.

    Args:
        lasting: the fewest and the most days of each state.
    """
    steps: list[tuple[str, date]] = []
    day = as_of
    for state in reversed(slot.path):
        just_home = slot.home_again and not steps
        day -= timedelta(
            days=random.randint(*(_SINCE_DISCHARGE_DAYS if just_home else lasting[state]))
        )
        steps.append((state, working_day(day)))
    return Timeline(tuple(reversed(steps)))
