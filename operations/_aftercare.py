"""Whether a stay gives a right to aftercare under section 117 of the Mental Health Act 1983.

The service notes on the discharge plan what follows from all legal statuses that were told of the
stay, and marks that it says so by itself. It takes back what does not follow any more, and nothing
that a person has said. Decision 0054.
"""

from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Lookup, Records
from operations._person import code_in, codes, extension, status_of, with_extension

_AFTERCARE_STATUSES: Final = frozenset({"03", "09", "10", "15", "16", "17", "18", "37", "38"})
"""Legal statuses after which section 117 of the Mental Health Act gives a right to aftercare:
detention under sections 3, 37, 45A, 47 and 48 in the codes of UK Core."""
LEGAL_STATUSES: Final = _AFTERCARE_STATUSES | {
    *("01", "02", "04", "05", "06", "07", "08", "12", "13", "14", "19", "20"),
    *("31", "32", "35", "36", "98", "99"),
}
"""All of UK Core's."""
_NOT_KNOWN: Final = "99"
"""A legal status that says that nobody knows it."""
_MARK: Final = canonicals.SECTION_117_DERIVED_EXTENSION
"""That the service says it by itself, and what it says."""
_DECIDING_ITEM: Final = "dp-funding"
"""The item of the checklist with which somebody decides on aftercare."""


def right_to_aftercare(*stays: Resource) -> bool | None:
    """Whether there is one under section 117 by the legal statuses of a stay, told once or more.

    None where that is not known: none is told, or one that is no code or says that nobody knows.
    """
    told = [status for stay in stays for status in _legal_statuses(stay)]
    if any(status in _AFTERCARE_STATUSES for status in told):
        return True
    known = all(status in LEGAL_STATUSES and status != _NOT_KNOWN for status in told)
    return False if told and known else None


def with_right(plan: Resource, *, right: bool | None) -> Resource:
    """The plan with what all that was told says of a right; the plan itself where it stays.

    A right stays, whatever the legal status becomes: what counts is any time during the stay. That
    there is none is noted where nobody has said anything, and goes when it is not known any more.

    Args:
        right: as `right_to_aftercare` says.
    """
    said = has_section_117(plan)
    if (right and not said) or (right is False and said is None):
        noted = with_extension(plan, _valued(canonicals.SECTION_117_EXTENSION, right))
        return with_extension(noted, _valued(_MARK, right))
    if right is None and said is False and _is_by_service(plan):
        return _without(plan, canonicals.SECTION_117_EXTENSION, _MARK)
    return plan


def as_written(plan: Resource, before: Resource | None) -> Resource:
    """The plan as a person wrote it: what they say of a right is theirs, and has no mark.

    Who leaves it as it was says nothing; who completes dp-funding has decided.

    Args:
        before: what they changed, None where they wrote it anew.
    """
    untouched = before is not None and _said(plan) == _said(before)
    if extension(plan, _MARK) is None or (untouched and _is_by_service(plan)):
        return plan
    return _without(plan, _MARK)


async def note_right(records: Records, plan: Resource, *, right: bool | None) -> Resource:
    """Note on the stay's plan what is known of it now; the plan as it is then."""
    noted = with_right(plan, right=right)
    return plan if noted is plan else await records.amend(noted)


def _valued(url: str, value: bool) -> Resource:
    return {"url": url, "valueBoolean": value}


def _without(plan: Resource, *urls: str) -> Resource:
    kept = [one for one in plan["extension"] if one.get("url") not in urls]
    others = {name: value for name, value in plan.items() if name != "extension"}
    return {**others, "extension": kept} if kept else others


def _said(plan: Resource) -> tuple[Resource | None, Resource | None]:
    return extension(plan, canonicals.SECTION_117_EXTENSION), extension(plan, _MARK)


def _is_by_service(plan: Resource) -> bool:
    """Whether the service says it by itself, and nobody has decided by it."""
    said, mark = _said(plan)
    decided = any(
        code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) == _DECIDING_ITEM
        and status_of(detail) == "completed"
        for detail in (one.get("detail", {}) for one in plan.get("activity", ()))
    )
    if said is None or mark is None or decided:
        return False
    return bool(said.get("valueBoolean") == mark.get("valueBoolean"))


def has_section_117(plan: Resource) -> bool | None:
    """Whether there is a right to aftercare; None where that is not told."""
    found = extension(plan, canonicals.SECTION_117_EXTENSION) or {}
    return found.get("valueBoolean")


async def aftercare(lookup: Lookup, plan: Resource) -> Resource:
    """The parameter of an answer that tells it, or what is missing to know it."""
    right = has_section_117(plan)
    if right is not None:
        return {"name": "section-117", "valueBoolean": right}
    local = parse_relative(plan.get("encounter", {}).get("reference", ""))
    stay = await lookup.get("Encounter", local.id) if local and local.type == "Encounter" else None
    why = what_is_missing(stay) if stay else "The plan does not say whether there is a right"
    return {"name": "section-117-missing", "valueString": why}


def unclear_status(stay: Resource) -> str | None:
    """A legal status that is none, while no other gives a right to aftercare."""
    unknown = [one for one in _legal_statuses(stay) if one not in LEGAL_STATUSES]
    return unknown[0] if unknown and not right_to_aftercare(stay) else None


def not_understood(status: str) -> str:
    return (
        f"The legal status {status} is not understood: it is no code of "
        f"{canonicals.LEGAL_STATUS_CLASSIFICATION}"
    )


def what_is_missing(stay: Resource) -> str:
    """Why nobody can say whether there is a right to aftercare."""
    told = _legal_statuses(stay)
    if status := unclear_status(stay):
        why = not_understood(status)
    elif _NOT_KNOWN in told:
        why = f"A legal status of the stay is told as not known ({_NOT_KNOWN})"
    elif told:
        why = "Another word of the stay told a legal status that is not understood or not known"
    else:
        why = "No legal status of the stay is told"
    return f"{why}. Whether it gives a right to aftercare under section 117 is left open"


def _legal_statuses(stay: Resource) -> list[str]:
    return [
        code
        for outer in stay.get("extension", ())
        if outer.get("url") == canonicals.LEGAL_STATUS_EXTENSION
        for inner in outer.get("extension", ())
        if inner.get("url") == "legalStatusClassification"
        for _, code in codes(inner.get("valueCodeableConcept"))
    ]
