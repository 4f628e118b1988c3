"""What was decided about one patient and one caller: a row of the decision table.

The table is in docs/access.md; whoever asks for a decision gets what it allows, never why, unless
they may know (`$explain-access`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from fhir_server.access.caller import Caller
from fhir_server.storage.interface import Reader


class Sight(Enum):
    """How much of a record is seen."""

    NONE = 0
    COLOUR = 1
    """That there is a rating and its colour; of the child, who it is."""
    ALL = 2

    __hash__ = object.__hash__  # as of `Role`


class Area(Enum):
    """The columns of the table: each resource type of a patient's record belongs to one."""

    PERSON = "person"
    """Patient and RelatedPerson."""
    FLAG = "flag"
    PLAN = "plan"
    """CarePlan, Goal and the rest of the record: care team, tasks, episodes, stays ..."""
    RISK = "risk"
    """Consent, QuestionnaireResponse, RiskAssessment."""


class Right(Enum):
    """What some may write that is less than an area."""

    OWN_ACTIVITIES = "own-activities"
    """Tasks that are theirs."""
    EVENTS = "events"
    """Events of a stay with their own organisation: its Encounter, by message or by itself."""
    CONSENT = "consent"
    """A consent that they may give, or that they record for who gives it; its withdrawal."""
    IDENTITY = "identity"
    """Who the patient is, and who is related to them: of the record's own organisation."""
    BEGINNING = "beginning"
    """Consents that others gave, while nobody keyworks: of whoever keeps the record and is no
    inpatient unit, to which the consent and a stay of its own telling would open it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one caller may do with the record of one patient.

    Equal decisions are one decision: patients are gathered by it.
    """

    row: int
    """The row of the table; 0 where none holds, and nothing is allowed."""
    reads: tuple[tuple[Area, Sight], ...] = ()
    writes: frozenset[Area] = frozenset()
    rights: frozenset[Right] = frozenset()
    plan_categories: frozenset[str] = frozenset()
    """Codes of the only care plans that are seen; empty for any."""
    without_types: frozenset[str] = frozenset()
    """Resource types that a provision of the consent takes out."""
    without_labels: frozenset[tuple[str, str]] = frozenset()
    """Security labels, system and code, of what is taken out."""

    def sight(self, area: Area) -> Sight:
        for one, sight in self.reads:
            if one is area:
                return sight
        return Sight.NONE


DENIED: Final = Decision(0)


class Gathered(dict[Decision, frozenset[str]]):
    """Patients by decision, never changed: what is made of it is kept with it, in `made`.

    So it is as good as the decisions are, and goes when they go.
    """

    __slots__ = ("made",)

    def __init__(self, known: Mapping[Decision, frozenset[str]]) -> None:
        super().__init__(known)
        self.made: dict[Any, Any] = {}


class Decisions(Protocol):
    """Decides by the facts that the commits have recorded, as of one moment.

    Every method reads the facts through the reader that it is given: inside a commit they are
    those that the commit sees.
    """

    async def known(
        self, reader: Reader, caller: Caller, now: int
    ) -> Mapping[Decision, frozenset[str]]:
        """Ids of the patients of whom the caller may know anything, gathered by decision.

        `now` is in microseconds since the epoch. What cannot be decided is denied.
        """

    async def about(self, reader: Reader, caller: Caller, patient_id: str, now: int) -> Decision:
        """The decision about one patient, whether there is one of that id or not."""
