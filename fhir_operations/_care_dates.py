"""When the care was: the search parameter that says it, by resource type.

https://hl7.org/fhir/R4/patient-operation-everything.html: start and end are about the dates of
care, not of its records.
"""

from functools import cache
from typing import Final

from fhir_server.fhir.dates import EARLIEST, LATEST
from fhir_server.search.ast import DateCompares, Everything, Missing, Node, Prefix, disjunction
from fhir_server.search.extract import indexed_parameters

_PREFERRED: Final = (
    *("authoredon", "date", "period", "onset-date", "occurrence", "event-date"),
    *("effective-time", "effective", "collected", "started", "sent", "identified", "start-date"),
    *("whenhandedover", "authored", "authored-on", "datetime", "datewritten", "created"),
    *("recorded", "issued"),
)
"""The first that a type has. `authoredon` stands before `date`, which in a MedicationRequest is
when each dose is due. Days of birth and death are no care."""


@cache
def care_date(resource_type: str) -> str | None:
    """The parameter; None where the type has none, as Patient."""
    known = indexed_parameters(resource_type)
    return next((code for code in _PREFERRED if code in known), None)


def cared_for(resource_type: str, low: int | None, high: int | None) -> Node:
    """Care at some time in `[low, high)`, or nobody says when. None: without that bound."""
    code = care_date(resource_type)
    if code is None or (low is None and high is None):
        return Everything()
    span = DateCompares(
        code, Prefix.AP, EARLIEST if low is None else low, LATEST if high is None else high
    )
    return disjunction(span, Missing(code, "date"))
