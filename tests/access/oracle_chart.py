"""What the second reading of the decision table knows of a patient: its calendar and a chart."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

LONDON: Final = ZoneInfo("Europe/London")
KW: Final = "https://keyworking.example/fhir"
TYPES: Final = ("CarePlan", "Consent", "Flag", "Goal")
"""Those that the rules of the tests name, and one for all others."""
AREAS: Final = ("person", "flag", "plan", "risk")

Resource = dict[str, Any]


def first(text: str) -> datetime:
    if "T" in text:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    year, month, day = ([int(part) for part in text.split("-")] + [1, 1])[:3]
    return datetime(year, month, day, tzinfo=LONDON)


def after(text: str) -> datetime:
    """The first moment that it does not cover."""
    if "T" in text:
        return first(text) + timedelta(seconds=1)
    parts = [int(part) for part in text.split("-")]
    if len(parts) == 1:
        return datetime(parts[0] + 1, 1, 1, tzinfo=LONDON)
    if len(parts) == 2:
        year, month = (parts[0] + 1, 1) if parts[1] == 12 else (parts[0], parts[1] + 1)
        return datetime(year, month, 1, tzinfo=LONDON)
    following = date(*parts) + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=LONDON)


def within(period: Mapping[str, str] | None, now: datetime) -> bool:
    if period is None:
        return True
    begun = "start" not in period or first(period["start"]).astimezone(UTC) <= now
    return begun and ("end" not in period or now < after(period["end"]).astimezone(UTC))


def years_old(born: date, on: date) -> int:
    """By the day: whoever was born on 29 February ages on 1 March of other years."""
    before = (on.month, on.day) < (born.month, born.day)
    return on.year - born.year - before


class Chart:
    """All resources of one patient."""

    def __init__(self, resources: Sequence[Resource], now: datetime) -> None:
        self.resources = resources
        self.now = now
        patients = [one for one in resources if one["resourceType"] == "Patient"]
        self.patient = patients[0] if patients else None

    def of(self, resource_type: str) -> list[Resource]:
        return [one for one in self.resources if one["resourceType"] == resource_type]

    def least_age(self, moment: datetime | None = None) -> int:
        """-1 where the birth is not known."""
        return self._age(moment, latest_birth=True, unknown=-1)

    def most_age(self) -> int:
        return self._age(None, latest_birth=False, unknown=999)

    def _age(self, moment: datetime | None, *, latest_birth: bool, unknown: int) -> int:
        born = (self.patient or {}).get("birthDate")
        if born is None:
            return unknown
        day = (after(born) - timedelta(days=1) if latest_birth else first(born)).date()
        return years_old(day, (moment or self.now).astimezone(LONDON).date())

    @property
    def dead(self) -> bool:
        told = self.patient or {}
        died = told.get("deceasedDateTime")
        if died is not None:
            return first(died).astimezone(UTC) <= self.now
        return told.get("deceasedBoolean") is True


def name_of(reference: Mapping[str, Any]) -> str:
    if "reference" in reference:
        return str(reference["reference"])
    return "ods:" + str(reference["identifier"]["value"]).upper()


def code_of(concepts: Any, system: str) -> list[str]:
    listed = concepts if isinstance(concepts, list) else [concepts or {}]
    codings = [coding for concept in listed for coding in concept.get("coding", ())]
    return [coding["code"] for coding in codings if coding["system"] == system]


def category_of(consent: Resource) -> list[str]:
    return code_of(consent["category"], f"{KW}/CodeSystem/consent-category")


def basis_of(consent: Resource) -> str:
    return str(consent["policyRule"]["coding"][0]["code"])


def competence_of(consent: Resource) -> tuple[str, str] | None:
    for extension in consent.get("extension", ()):
        parts = {part["url"]: part for part in extension["extension"]}
        return parts["outcome"]["valueCode"], parts["date"]["valueDate"]
    return None
