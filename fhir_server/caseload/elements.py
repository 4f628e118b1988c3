"""Small parts of FHIR resources, and the transaction entries they end up in.

Resources are built with the typed models of `fhir.resources.R4B`; only elements that mean the
same in R4 are used (https://hl7.org/fhir/R4B/diff.html).
"""

import json
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir.resources.R4B.annotation import Annotation
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.humanname import HumanName
from fhir.resources.R4B.meta import Meta
from fhir.resources.R4B.period import Period
from fhir.resources.R4B.reference import Reference

from fhir_server.fhir import canonicals

LONDON: Final = ZoneInfo("Europe/London")
TEST_DATA: Final = Meta(
    tag=[Coding(system=canonicals.ACT_REASON, code="HTEST", display="test health data")]
)
"""On every resource: this is nobody's record."""


def coded(system: str, code: str, text: str | None = None) -> CodeableConcept:
    return CodeableConcept(coding=[Coding(system=system, code=code)], text=text)


def words(text: str) -> CodeableConcept:
    return CodeableConcept(text=text)


def reference(target: str, display: str | None = None) -> Reference:
    return Reference(reference=target, display=display)


def coded_extension(url: str, system: str, code: str, text: str | None = None) -> Extension:
    return Extension(url=url, valueCodeableConcept=coded(system, code, text))


def note(text: str, on: date, author: str | None = None) -> Annotation:
    return Annotation(
        text=text,
        time=at(on, 15),
        authorReference=reference(author) if author else None,
    )


def synthetic_name(given: str, family: str) -> HumanName:
    """A name that nobody takes for a real one: the family name begins with `Synthetic-`."""
    return HumanName(use="official", given=[given], family=f"Synthetic-{family}")


def at(day: date, hour: int, minute: int = 0) -> datetime:
    """A time of day in England, so that summer days carry summer time."""
    return datetime.combine(day, time(hour, minute), LONDON)


def days(start: date, end: date | None = None) -> Period:
    """Whole days: a FHIR dateTime may stop at the day, which the model's type hint leaves out."""
    return Period.model_validate({"start": start, "end": end})


def until(end: date) -> Period:
    return Period.model_validate({"end": end})


def working_day(day: date) -> date:
    """The day itself, or the Friday before a weekend (keyworking is Monday to Friday)."""
    return day - timedelta(days=max(0, day.weekday() - 4))


def after_working_days(start: date, count: int) -> date:
    """Bank holidays are not taken into account: the caseload needs no calendar."""
    day = start
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < 5
    return day


def renamed(**values: Any) -> dict[str, Any]:
    """Elements whose names are Python keywords (`class`, `for`), to be given with `**`."""
    return {name.rstrip("_"): value for name, value in values.items()}


def entry(resource: DomainResource) -> dict[str, Any]:
    """`PUT Type/id`, so that loading the caseload twice makes the same resources."""
    body = json.loads(resource.model_dump_json())
    address = f"{body['resourceType']}/{body['id']}"
    return {"resource": body, "request": {"method": "PUT", "url": address}}


def transaction(resources: Iterable[DomainResource]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [entry(resource) for resource in resources],
    }
