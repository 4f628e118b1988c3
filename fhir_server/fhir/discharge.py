"""The checklist of a discharge plan: fourteen items and when each is due.

The list is the project's own, from published guidance: terminology/SOURCES.md. The code system
`discharge-item` in `terminology/` says the same to the world; a test compares the two.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DischargeItem:
    """`days` count from admission, or from the planned discharge where they are negative."""

    code: str
    text: str
    days: int
    owner: str
    """Whose it is first of all: a code of `care-team-role`."""

    @property
    def when(self) -> str:
        """When it is due, for as long as no discharge is planned."""
        before = "1 day" if self.days == -1 else f"{-self.days} days"
        return f"{before} before the planned discharge, once it is set"


DISCHARGE_ITEMS: Final = (
    DischargeItem("dp-start", "Plan opened and owner named", 0, "keyworker"),
    DischargeItem("dp-voice", "Young person's wishes recorded", 7, "keyworker"),
    DischargeItem("dp-carers", "Chosen carers involved", 7, "keyworker"),
    DischargeItem(
        "dp-cetr", "Care, Education and Treatment Review held", 14, "strategic-keyworker"
    ),
    DischargeItem("dp-planned-date", "Planned discharge date set", 14, "inpatient-rc"),
    DischargeItem("dp-home", "Destination and housing needs agreed", -28, "social-worker"),
    DischargeItem("dp-community-team", "Receiving community team named", -28, "camhs"),
    DischargeItem("dp-education", "Education placement and EHC plan reviewed", -28, "education"),
    DischargeItem("dp-funding", "Funding agreed", -14, "strategic-keyworker"),
    DischargeItem("dp-crisis-plan", "Safety and crisis plan written", -7, "camhs"),
    DischargeItem("dp-ra", "Reasonable adjustments and passports ready", -7, "keyworker"),
    DischargeItem("dp-meds-physical", "Medicines and physical health handed over", -3, "gp"),
    DischargeItem("dp-agreements", "Everyone has agreed the plan", -1, "keyworker"),
    DischargeItem("dp-mdt", "Multidisciplinary team complete", -7, "inpatient-rc"),
)
