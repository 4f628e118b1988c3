"""The young people and those they live with: drawn from a seed, none of them real.

Nobody has a birthday between coming onto the register and the as-of date, so that the legal
basis of a consent still fits the age at which it was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Final

from fhir_server.caseload.older_stories import OLDER
from fhir_server.caseload.pathway import SLOTS, STAY_DAYS, Slot, Timeline, timeline
from fhir_server.caseload.texts import FAMILY_GOALS, GoalText, Story
from fhir_server.caseload.younger_stories import YOUNGER

ID_PREFIX: Final = "kw-synthetic"

_GIVEN: Final = {
    "female": (
        *("Maya", "Ellie", "Aisha", "Bethan", "Chloe", "Darcey", "Freya", "Grace", "Imogen"),
        *("Jasmine", "Keira", "Leila", "Niamh", "Olivia", "Priya", "Rosie", "Tia", "Zofia"),
    ),
    "male": (
        *("Alfie", "Ben", "Callum", "Dylan", "Ethan", "Femi", "George", "Harun", "Isaac"),
        *("Jacob", "Kacper", "Lewis", "Mohammed", "Noah", "Owen", "Rohan", "Sam", "Theo"),
    ),
}
_FAMILY: Final = (
    *("Alder", "Barley", "Bracken", "Briar", "Clover", "Coppice", "Dale", "Elder", "Fell"),
    *("Fern", "Gorse", "Hawthorn", "Hazel", "Heath", "Juniper", "Larch", "Linden", "Meadow"),
    *("Moss", "Orchard", "Rowan", "Rush", "Sedge", "Sorrel", "Thistle", "Vale", "Willow"),
)
_STREETS: Final = ("Larch Close", "Mill Row", "Station Road", "Weavers Lane", "Hill View")


@dataclass(frozen=True, slots=True)
class Carer:
    """Who looks after the young person; `code` is of v3-RoleCode."""

    given: str
    code: str
    relation: str
    gender: str
    evidence: str | None
    """How parental responsibility is shown; None where somebody else holds it."""


_CARERS: Final = (
    Carer("Hannah", "MTH", "mother", "female", "BRTH"),
    Carer("Joanne", "MTH", "mother", "female", "BRTH"),
    Carer("Sunita", "MTH", "mother", "female", "BRTH"),
    Carer("David", "FTH", "father", "male", "BRTH"),
    Carer("Tomasz", "FTH", "father", "male", "PRNA"),
    Carer("Margaret", "GRMTH", "grandmother", "female", "SGORD"),
    Carer("Claire", "ADOPTP", "adoptive parent", "female", "ADPT"),
)
_FOSTER_CARER: Final = Carer("Yvonne", "PRNFOST", "foster carer", "female", None)


@dataclass(frozen=True, slots=True)
class YoungPerson:
    """One young person, everything drawn: the resources follow from this alone."""

    serial: int
    given: str
    family: str
    gender: str
    age: int
    birth_date: date
    address: str
    carer: Carer
    story: Story
    family_goal: GoalText
    slot: Slot
    timeline: Timeline
    as_of: date

    @property
    def id(self) -> str:
        return f"{ID_PREFIX}-{self.serial:03d}"

    @property
    def patient(self) -> str:
        return f"Patient/{self.id}"

    @property
    def carer_reference(self) -> str:
        return f"RelatedPerson/{self.id}-carer"

    @property
    def keeps_school_out(self) -> bool:
        """Some do not want school or college to know."""
        return self.serial % 10 == 6

    def birthday(self, age: int) -> date:
        """No leap-day birthdays are dealt, so every year has the day."""
        return self.birth_date.replace(year=self.birth_date.year + age)

    def began(self, state: str) -> date:
        """The first day in a state that this young person has reached."""
        day = self.timeline.began(state)
        if day is None:
            raise LookupError(f"{self.id} has not been in {state}")
        return day

    def reached(self, state: str) -> bool:
        return self.timeline.began(state) is not None


def _years_before(day: date, years: int) -> date:
    leap_day = (day.month, day.day) == (2, 29)
    return date(day.year - years, day.month, 28 if leap_day else day.day)


def _birth_date(age: int, referred: date, as_of: date, random: Random) -> date:
    """Before the register's consent, which is at most forty days older than the referral."""
    settled = (as_of - referred).days + 40
    return _years_before(as_of - timedelta(days=random.randint(settled, 355)), age)


def _carer(age: int, random: Random) -> Carer:
    """A foster carer only from 13: a child below consents through parental responsibility."""
    return random.choice((*_CARERS, _FOSTER_CARER) if age >= 13 else _CARERS)


def deal_stories(seed: int) -> tuple[Story, ...]:
    """One story to each slot; those who have been in hospital are twelve to seventeen."""
    stories = [*YOUNGER, *OLDER]
    Random(f"stories/{seed}").shuffle(stories)  # noqa: S311 - reproducible, not secret
    for place, slot in enumerate(SLOTS):
        if slot.stayed and not _teenage(stories[place]):
            other = next(
                index
                for index, story in enumerate(stories)
                if _teenage(story) and not SLOTS[index].stayed
            )
            stories[place], stories[other] = stories[other], stories[place]
    return tuple(stories)


def _teenage(story: Story) -> bool:
    return story.ages[0] >= 12 and story.ages[1] <= 17


@dataclass(frozen=True, slots=True)
class Dealt:
    """What may be settled before the rest is drawn: place, age and how long states last."""

    slot: Slot
    age: int
    lasting: Mapping[str, tuple[int, int]] = field(default_factory=lambda: STAY_DAYS)


def young_person(
    seed: int, as_of: date, serial: int, story: Story, dealt: Dealt | None = None
) -> YoungPerson:
    random = Random(f"{seed}/{serial}")  # noqa: S311 - reproducible, not secret
    slot = dealt.slot if dealt else SLOTS[(serial - 1) % len(SLOTS)]
    steps = timeline(slot, as_of, random, dealt.lasting if dealt else STAY_DAYS)
    gender = random.choice(("female", "male"))
    age = dealt.age if dealt else random.randint(*story.ages)
    return YoungPerson(
        serial=serial,
        given=random.choice(_GIVEN[gender]),
        family=random.choice(_FAMILY),
        gender=gender,
        age=age,
        birth_date=_birth_date(age, steps.referred, as_of, random),
        address=f"{random.randint(1, 80)} {random.choice(_STREETS)}",
        carer=_carer(age, random),
        story=story,
        family_goal=random.choice(FAMILY_GOALS),
        slot=slot,
        timeline=steps,
        as_of=as_of,
    )
