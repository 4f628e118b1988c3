"""Whether the Tasks that a discharge plan refers to are its checklist, where they are stored.

The plan alone cannot tell: it may refer to thirteen Tasks of anybody. Each that is an item says
which in its code, and is for the same young person; those that are not known here are believed.
Source: docs/profiles/kw-discharge-plan.md
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.errors import Issue
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.terminology.library import Reads
from fhir_server.validation.same_person import local_name

_FOLLOWED: Final = ("active", "on-hold", "completed")
_MANDATORY: Final = {item.code for item in DISCHARGE_ITEMS} - {"dp-education"}
_MOST: Final = 100
"""Activities whose Tasks are looked up."""
_PLACE: Final = "CarePlan.activity"
_PROFILE: Final = canonicals.structure_definition("kw-discharge-plan")


async def unfit_items(resource: Resource | None, data: Reads, base: str) -> list[Issue]:
    """What keeps a plan that is followed from having the checklist that it refers to."""
    if resource is None or not _is_followed(resource):
        return []
    whose = local_name(resource["subject"], base)
    seen, elsewhere, issues = _coded(resource), 0, list[Issue]()
    tasks = [*_references(resource)][:_MOST]
    for index, reference in tasks:
        task = await _stored(reference, data, base)
        place = f"{_PLACE}[{index}].reference"
        if task is None:
            elsewhere += 1
        elif local_name(task.get("for"), base) != whose:
            issues.append(_issue(f"{reference} is not for {whose}, whose plan this is", place))
        elif again := seen & _items(task.get("code")):
            text = f"{sorted(again)[0]} stands in the plan already: {reference} is that item again"
            issues.append(_issue(text, place))
        else:
            seen |= _items(task.get("code"))
    missing = sorted(_MANDATORY - seen)
    if not issues and tasks and len(missing) > elsewhere:
        issues.append(_lacks(missing))
    return issues


def _lacks(missing: list[str]) -> Issue:
    text = (
        f"The checklist lacks {', '.join(missing)}: add an activity for each, or one that refers "
        f"to a Task whose code has it ({canonicals.DISCHARGE_ITEM})"
    )
    return _issue(text, _PLACE)


def _issue(text: str, place: str) -> Issue:
    return Issue(text, place, "business-rule", "error", "checklist", _PROFILE)


def _is_followed(resource: Resource) -> bool:
    if resource.get("resourceType") != "CarePlan" or resource.get("status") not in _FOLLOWED:
        return False
    return any(
        "discharge-plan" in _codes(each, canonicals.CARE_PLAN_CATEGORY)
        for each in resource.get("category", ())
    )


async def _stored(reference: str, data: Reads, base: str) -> Resource | None:
    """The Task, None for one that is not here, or may not be seen."""
    local = parse_local(reference, base)
    if local is None or local.type != "Task":
        return None
    found = await data.read("Task", local.id)
    return None if found is None or found.deleted else json.decode_own(found.body)


def _references(plan: Resource) -> Iterator[tuple[int, str]]:
    """To Tasks that the plan does not contain, with the number of the activity."""
    for index, activity in enumerate(plan.get("activity", ())):
        reference = activity.get("reference", {}).get("reference", "")
        if reference and not reference.startswith("#"):
            yield index, reference


def _coded(plan: Resource) -> set[str]:
    """The items that the plan itself has."""
    details = (activity.get("detail", {}) for activity in plan.get("activity", ()))
    own = (*details, *plan.get("contained", ()))
    return {code for each in own for code in _items(each.get("code"))}


def _items(concept: Any) -> set[str]:
    return _codes(concept, canonicals.DISCHARGE_ITEM) if isinstance(concept, Mapping) else set()


def _codes(concept: Mapping[str, Any], system: str) -> set[str]:
    codings = concept.get("coding", ())
    return {str(one.get("code")) for one in codings if one.get("system") == system}
