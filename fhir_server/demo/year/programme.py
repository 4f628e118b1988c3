"""The chapters of the year in their order, and what each is about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.demo.year import beginning, hospital, steadier
from fhir_server.demo.year.year import Year


@dataclass(frozen=True, slots=True)
class Chapter:
    """`month` is the one of the year in which it begins."""

    month: int
    title: str
    why: str
    play: Callable[[Year], None]


CHAPTERS: Final = (
    Chapter(
        1,
        "Amber, and a referral",
        "Skye is 15 and autistic. She is amber on the Dynamic Support Register: without the right "
        "help she may end up in hospital. Nothing begins without consent.",
        beginning.referral,
    ),
    Chapter(
        1,
        "Consent, and a keyworker",
        "Her mother may decide for her, as somebody has looked whether Skye can.",
        beginning.consent_and_match,
    ),
    Chapter(
        1,
        "The family first",
        "The keyworker speaks to the family before any service. The server sees to the order.",
        beginning.family_first,
    ),
    Chapter(
        1,
        "Two visits, and a plan in Skye's words",
        "Who is in the team may read the plan from the moment it stands, and nobody else.",
        beginning.visits_and_plan,
    ),
    Chapter(
        3,
        "A crisis",
        "Nobody sleeps, and the support worker has left. Red means: in danger of hospital now. The "
        "server asks for the emergency meeting (LAEP) and the review in the community (CETR).",
        hospital.crisis,
    ),
    Chapter(
        3,
        "Hospital",
        "The keyworker stays. The ward's own system sends one message, and what follows from it "
        "is stored with it or not at all.",
        hospital.admission,
    ),
    Chapter(
        3,
        "The way home, in 14 items",
        "Home, team, school, money, a plan for crises: somebody's name and a day at each.",
        hospital.way_home,
    ),
    Chapter(
        4,
        "Home",
        "The rating is red for 14 days at least, so that support does not stop at the ward's door.",
        hospital.discharge,
    ),
    Chapter(
        4,
        "Somebody asks how it goes",
        "The plan is shared within 24 hours; somebody is there after 48 hours, 72 hours, 7 days. "
        "This time the last one is missed.",
        hospital.follow_up,
    ),
    Chapter(
        7,
        "A crisis, and no hospital",
        "The same signs as before. This time the review comes first.",
        steadier.prevented,
    ),
    Chapter(
        9,
        "Stepping down",
        "A goal is reached, the rating is green. Who steps down has been home for a while, and "
        "there is a plan for afterwards.",
        steadier.step_down,
    ),
    Chapter(
        9,
        "Sixteen",
        "From her birthday on nobody decides for Skye. What rested on her mother's word ends by "
        "itself.",
        steadier.birthday,
    ),
    Chapter(
        12,
        "Goodbye",
        "Keyworking ends when nothing is left open.",
        steadier.goodbye,
    ),
)
