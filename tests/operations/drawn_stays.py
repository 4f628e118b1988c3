"""Stays as `hypothesis` draws them: several, that follow each other or overlap, and deaths."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hypothesis import strategies as st

from fhir_server.fhir import nhs_number
from tests.operations.courses import ADMITTED, Manner, told, ward
from tests.operations.messages import JSON, Spell

SHAPES: Final = ("nhs", "davinci", "v2")
ODD: Final = (None, (), ("02",), ("77",), ("99",), ("03",), ("01", "77"), ("20",))
"""Legal statuses: as the stay has them, none, and such as tell more or less of a right."""
PLAIN: Final = Manner()
NUMBER: Final = nhs_number.synthetic(700)
"""Of the young person in a `Chart`."""
_HOURS: Final = 470
"""In which all happens: it is over before now."""
_DESTINATIONS: Final = ("19", "19", "84", "53", "79")


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody tells: of a stay, or of the Patient."""

    at: float
    """Hours after the first may begin."""
    name: str
    message: JSON | None = None
    """None where the Patient is written."""
    manner: Manner = PLAIN
    death: str | None = None
    """When it was by the Patient; None for none, so that one that was told is taken back."""


Drawn = tuple[list[Word], list[Word]]


@st.composite
def orders_of_stays(draw: st.DrawFn) -> Drawn:
    """What is told of some stays, as it happened, and the same in another order.

    What is written of the Patient keeps its order: each replaces the one before.
    """
    words = [word for number in range(draw(st.integers(1, 3))) for word in draw(_stay(number))]
    words += draw(st.lists(_death(), max_size=2))
    first = sorted(words, key=lambda word: word.at)
    deaths = iter([word for word in first if word.message is None])
    shuffled = draw(st.permutations(first))
    return first, [next(deaths) if word.message is None else word for word in shuffled]


@st.composite
def _stay(draw: st.DrawFn, number: int) -> list[Word]:
    begun = draw(st.integers(1, _HOURS - 20))
    left = draw(st.integers(begun + 5, min(begun + 150, _HOURS - 10)))
    spell = Spell(NUMBER, ADMITTED + timedelta(hours=begun), f"stay {number}")
    after = left + draw(st.sampled_from((0, 0, -2, 2)))
    may_be = [
        (begun - 0.5, spell.preadmit()),
        (begun + 0.1, spell.admit()),
        (begun + 1, spell.transfer(location=ward("Swift"))),
        (begun + 2, spell.event("A21", "onleave", location=ward("Lark"))),
        (begun + 3, spell.update(location=ward("Wren"))),
        (left + 0.1, _discharge(draw, spell, left)),
        (left + 3, spell.event("A13", "in-progress", location=ward("Lark"))),
        (left + 4, _discharge(draw, spell, after)),
        (left + 5, spell.event("A11", "cancelled")),
    ]
    chosen = draw(st.sets(st.sampled_from(range(len(may_be) - 1)), min_size=1)) | {1}
    if draw(st.integers(0, 7)) == 0:
        chosen = chosen - {1} | {len(may_be) - 1}
    manners = st.builds(Manner, st.sampled_from(SHAPES), st.sampled_from(ODD))
    return [
        Word(at, f"stay {number}, word {index}", told(sent, at / 24), draw(manners))
        for index, (at, sent) in enumerate(may_be)
        if index in chosen
    ]


def _discharge(draw: st.DrawFn, spell: Spell, left: int) -> JSON:
    to = draw(st.sampled_from(_DESTINATIONS))
    method = "4" if to == "79" else "1"
    return spell.discharge(ADMITTED + timedelta(hours=left), to=to, method=method)


@st.composite
def _death(draw: st.DrawFn) -> Word:
    """To the second or the day; one without a time would hang on when the test is run."""
    at = draw(st.integers(1, _HOURS))
    when = ADMITTED + timedelta(hours=at)
    death = draw(st.sampled_from((None, when.isoformat(), when.date().isoformat())))
    return Word(at, f"Patient: {death}", death=death)
