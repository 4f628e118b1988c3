"""What a story and a goal consist of, and the goals that families set.

All of it is invented. A story belongs to a range of ages and to no name, sex or colour, so that
a seed can deal the stories out afresh. Goals are SMART: what is wanted, how anyone would know,
by how much, and in how many weeks.
"""

from dataclasses import dataclass
from typing import Final

AUTISM: Final = "Autism"
LEARNING_DISABILITY: Final = "Learning disability"
BOTH: Final = (AUTISM, LEARNING_DISABILITY)


@dataclass(frozen=True, slots=True)
class GoalText:
    """`said` is how the young person put it."""

    area: str
    wish: str
    measure: str
    detail: str
    weeks: int
    said: str


@dataclass(frozen=True, slots=True)
class Story:
    """`gap` is what is missing from the support now; `helps` is a reasonable adjustment."""

    ages: tuple[int, int]
    needs: tuple[str, ...]
    voice: str
    helps: str
    place: str
    gap: str
    goal: GoalText


FAMILY_GOALS: Final = (
    GoalText(
        "Family",
        "Home and the team use one way of sharing good and hard days",
        "Weeks in which both sides filled in the shared diary",
        "Six weeks out of eight",
        8,
        "They can write the hard bits. I write the good bits.",
    ),
    GoalText(
        "Family",
        "The family has a regular break that everybody trusts",
        "Breaks that took place as planned",
        "Three breaks in twelve weeks",
        12,
        "It is all right if it is with somebody I know.",
    ),
    GoalText(
        "Family",
        "The family knows whom to ring, and when, on a hard day",
        "A one-page list on the fridge, tried out twice",
        "One list, two trials",
        6,
        "Mum should not have to ring six people.",
    ),
    GoalText(
        "Family",
        "Brothers and sisters have time and somebody of their own",
        "Times the young carers' group was joined",
        "Four times",
        10,
        "They need a day that is not about me.",
    ),
)
