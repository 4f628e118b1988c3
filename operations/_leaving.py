"""How a stay ended: home, to another hospital, or with death.

Codes count only in the systems that define them: UK Core's, the NHS Data Dictionary's older names
for the same codes, and http://terminology.hl7.org/CodeSystem/discharge-disposition, which Da
Vinci's senders use. Another system's 79 is something else.
"""

from collections.abc import Iterable
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from operations._person import codes, extension, since, status_of

_DICTIONARY: Final = "https://fhir.hl7.org.uk/CodeSystem/NHSDataModelAndDictionary"
_DESTINATIONS: Final = (canonicals.DISCHARGE_DESTINATION, f"{_DICTIONARY}-DischargeDestination")
_DISCHARGE_METHODS: Final = (canonicals.DISCHARGE_METHOD, f"{_DICTIONARY}-DischargeMethod")
_ADMISSION_METHODS: Final = (canonicals.ADMISSION_METHOD, f"{_DICTIONARY}-AdmissionMethod")
_DISPOSITION: Final = "http://terminology.hl7.org/CodeSystem/discharge-disposition"

KNOWN_DESTINATIONS: Final = frozenset(
    {
        *("19", "29", "30", "37", "38", "48", "49", "50", "51", "52", "53", "54"),
        *("65", "66", "79", "84", "85", "87", "88", "98", "99"),
    }
)
_KNOWN_DISPOSITIONS: Final = frozenset(
    {
        *("home", "alt-home", "other-hcf", "hosp", "long", "aadvice"),
        *("exp", "psy", "rehab", "snf", "oth"),
    }
)
_ANOTHER_HOSPITAL: Final = frozenset({"49", "50", "53", "84", "87"})
DESTINATION_DIED: Final = "79"
METHOD_DIED: Final = "4"
_ELECTIVE: Final = frozenset({"11", "12", "13"})
"""Admission methods that were planned; what is not known to be planned counts as not."""


def left_for_hospital(stay: Resource) -> bool:
    """Whether the stay ended with a transfer: the young person is still in hospital."""
    return any(
        code in _ANOTHER_HOSPITAL if system in _DESTINATIONS else code == "psy"
        for system, code in _understood(stay)
    )


def died(stay: Resource) -> bool:
    """Whether the stay ended with the young person's death."""
    method = extension(stay, canonicals.DISCHARGE_METHOD_EXTENSION) or {}
    told = codes(method.get("valueCodeableConcept"))
    if any(system in _DISCHARGE_METHODS and code == METHOD_DIED for system, code in told):
        return True
    return any(
        code == (DESTINATION_DIED if system in _DESTINATIONS else "exp")
        for system, code in _understood(stay)
    )


def death_of(patient: Resource, stays: Iterable[Resource], now: int, noted: int) -> int | None:
    """When somebody died by what is told first.

    Args:
        noted: when it was first on record; that counts where no time is told, or none that is over.
    """
    ends = [one.get("period", {}) for one in stays if status_of(one) == "finished" and died(one)]
    times = [
        max(since(one.get("start")), since(one.get("end"))) if "end" in one else noted
        for one in ends
    ]
    if told := patient.get("deceasedDateTime"):
        when = interval(told)
        times.append(when.high - 1 if when.high <= now else max(when.low, noted))
    elif patient.get("deceasedBoolean"):
        times.append(noted)
    return min(times, default=None)


def is_understood(stay: Resource) -> bool:
    """Whether it is told in known codes where the young person went, or not told at all."""
    return not _disposition(stay) or bool(_understood(stay))


def was_planned(stay: Resource) -> bool:
    """Whether the admission was."""
    method = extension(stay.get("hospitalization", {}), canonicals.ADMISSION_METHOD_EXTENSION)
    told = codes((method or {}).get("valueCodeableConcept"))
    return any(system in _ADMISSION_METHODS and code in _ELECTIVE for system, code in told)


def _understood(stay: Resource) -> list[tuple[str, str]]:
    return [
        (system, code)
        for system, code in codes(_disposition(stay))
        if (system in _DESTINATIONS and code in KNOWN_DESTINATIONS)
        or (system == _DISPOSITION and code in _KNOWN_DISPOSITIONS)
    ]


def _disposition(stay: Resource) -> Resource:
    found: Resource = stay.get("hospitalization", {}).get("dischargeDisposition", {})
    return found
