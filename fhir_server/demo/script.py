"""The story itself: the steps in their order, and why each matters to the child and the family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.demo import chapters
from fhir_server.demo.chapters import Tale


@dataclass(frozen=True, slots=True)
class Chapter:
    """`{name}` in the title and the words is the young person's."""

    title: str
    why: str
    play: Callable[[Tale], None]


CHAPTERS: Final = (
    Chapter(
        "Meet {name}",
        "{name} has a keyworker: one person who knows {name}, who is not from any one service, and "
        "who keeps everybody around {name} pulling the same way. {name} is invented, as everyone "
        "here is; the service works as the real one does.",
        chapters.meet,
    ),
    Chapter(
        "CAMHS reads the plan and the goals",
        "The child and adolescent mental health service opens {name}'s plan in its own system, "
        "without asking the family to tell it all again. One search brings the plan and its goals.",
        chapters.camhs_reads_the_plan,
    ),
    Chapter(
        "How likely is an admission?",
        "The Dynamic Support Register rates the risk. The server suggests a colour and says which "
        "rules led to it, so that people can judge; it decides nothing by itself.",
        chapters.risk_before,
    ),
    Chapter(
        "The ward tells of an admission",
        "{name} is taken to hospital in a crisis. The ward's own system sends one message. The "
        "stay, the rating, the discharge plan and the first tasks are stored together or not at "
        "all, so nobody at home or on the ward sees half of it.",
        chapters.admission,
    ),
    Chapter(
        "The rating is blue",
        "Blue means: in a mental health hospital. {name} stays in view of the people who plan the "
        "way home, and does not drop off the list because a bed was found.",
        chapters.rating_is_blue,
    ),
    Chapter(
        "The way home is planned from the first day",
        "A discharge plan with 14 items is open on the day of admission, each with the time by "
        "which it is due, so that {name} stays no longer than needed. Tasks come with their dates "
        "too: the keyworker is in touch with the hospital and with {name} on the next working day.",
        chapters.plan_is_open,
    ),
    Chapter(
        "The same message again changes nothing",
        "Networks fail, and a ward that got no answer sends again. {name} must not get two stays, "
        "two plans, and twice the telephone calls.",
        chapters.same_message_again,
    ),
    Chapter(
        "CAMHS reads the discharge plan",
        "The same minute, the community team sees the discharge plan. {name}'s own goals are part "
        "of it: the plan for going home is about what {name} wants, not only about the ward.",
        chapters.camhs_reads_the_discharge_plan,
    ),
    Chapter(
        "Somebody works on the plan",
        "The keyworker marks the first item as done. The request says which version it was made "
        "from, and the server makes the next one.",
        chapters.somebody_works_on_the_plan,
    ),
    Chapter(
        "An old copy cannot overwrite it",
        "Somebody else still has version 1 on the screen and saves. Without a check, the "
        "keyworker's work would be gone and nobody would know. The server refuses with 412, and "
        "the person reads the plan again first.",
        chapters.stale_version_is_refused,
    ),
    Chapter(
        "A bad message is refused",
        "A message arrives that does not say whom it is about. Guessing could put one child's stay "
        "into another child's record. The sender is told the place and what is wrong.",
        chapters.bad_message_is_refused,
    ),
    Chapter(
        "The ward tells of the discharge",
        "{name} goes home. In life that is weeks later; here it is now. Again it is one message, "
        "and all that follows from it in one piece.",
        chapters.discharge,
    ),
    Chapter(
        "The rating is red, for 14 days at least",
        "The first weeks at home can be the hardest. The rating is red, and it carries the date "
        "before which nobody lowers it by accident, so that the support does not stop at the "
        "hospital door.",
        chapters.rating_is_red,
    ),
    Chapter(
        "Somebody asks how it goes",
        "The plan goes to everyone it names within 24 hours; somebody is in touch with {name} and "
        "the family within 72 hours, and again within 7 days. The clock starts at the discharge.",
        chapters.follow_up,
    ),
    Chapter(
        "The discharge plan is closed",
        "{name} is at home, so the keyworker closes the discharge plan; {name}'s own plan goes on. "
        "What was still open stays to be seen in it, and is a matter for the follow-up.",
        chapters.plan_is_closed,
    ),
    Chapter(
        "What did the plan say, and when?",
        "Every version of the plan is kept. When the family or a review asks what was known on a "
        "day, the answer is there.",
        chapters.history_of_the_plan,
    ),
)
