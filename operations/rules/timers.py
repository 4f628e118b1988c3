"""The timers: tasks with due dates that follow from what the record says, and what time alone does.

After each change that concerns them, and when the time comes, the tasks are made to fit the record
(`operations._wanted` says what it asks for).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from fhir_server.search.ast import TokenIs
from operations._consenting import is_parents
from operations._event import Told
from operations._overdue import next_moment
from operations._person import (
    OPEN_TASK,
    any_of,
    codes,
    has_code,
    is_inpatient,
    is_open_plan,
    is_rating,
    status_of,
)
from operations._plan import plan_id
from operations._record import SELF_HARM, Record, patient_in, record_of, task_code, with_tasks
from operations._tasks import fit
from operations._turning import end_parents_consents, end_ratings_of_the_outgrown

ON: Final = (
    *("CarePlan", "Condition", "Consent", "Encounter", "EpisodeOfCare", "Flag"),
    *("Patient", "QuestionnaireResponse", "ServiceRequest", "Task"),
)
_SETTLED: Final = "timers"
_PLAN_FOR_HOME: Final = (canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")
_IS_TO_BE_BEGUN: Final = (
    TokenIs("code", canonicals.TASK, "planning-visit"),
    any_of("status", *OPEN_TASK),
)
_LOOKED_AT: Final[Mapping[str, Sequence[str]]] = {
    "CarePlan": ("subject", "encounter", "author", "status"),
    "Condition": ("subject", "code", "clinicalStatus"),
    "Consent": (
        *("patient", "status", "category", "dateTime", "policyRule", "provision", "extension"),
    ),
    "Encounter": (
        *("subject", "status", "class", "type", "period", "hospitalization", "extension"),
    ),
    "EpisodeOfCare": ("patient", "status", "type", "period", "careManager", "extension"),
    "Flag": ("subject", "status", "category", "code", "period", "extension"),
    "Patient": ("birthDate", "deceasedBoolean", "deceasedDateTime"),
    "QuestionnaireResponse": ("subject", "questionnaire", "status", "authored", "item"),
    "ServiceRequest": ("subject", "status", "performerType", "authoredOn"),
    "Task": (
        *("for", "status", "code", "focus", "restriction", "executionPeriod", "lastModified"),
        *("businessStatus", "statusReason", "owner", "authoredOn"),
    ),
}
"""By type, the elements that tasks are made from; a change of others changes none."""


async def ahead(changes: Sequence[Change]) -> None:
    plans = [change for change in changes if change.type == "CarePlan"]
    patients = {f"Patient/{one}" for change in plans if (one := _is_new_for(change))}
    if len(patients) > 1:
        asked = ("Task", sorted(patients), *_IS_TO_BE_BEGUN)
        await changes[0].records.about_each(*asked, latest=1)


async def follow(change: Change) -> list[str]:
    """Make the tasks fit, unless nothing was written since they were."""
    if not await _concerns(change):
        return []
    said = []
    for patient_id in dict.fromkeys(filter(None, map(patient_in, _sides(change)))):
        key, written = f"{_SETTLED}/{patient_id}", len(change.records.saved)
        if change.records.at_hand.get(key) != written:
            said += await _settle(change, patient_id, on_time=False)
            change.records.at_hand[key] = len(change.records.saved)
    return said


def _sides(change: Change) -> list[Resource]:
    return [side for side in (change.before, change.after) if side is not None]


async def due(change: Change) -> list[str]:
    """What time alone has brought about for this patient."""
    return await _settle(change, change.id, on_time=True)


async def taken(change: Change) -> None:
    """Have a look at those whom it is about, when there is time."""
    if await _concerns(change):
        for patient_id in dict.fromkeys(filter(None, map(patient_in, _sides(change)))):
            await change.records.remind(patient_id, change.now)


async def _settle(change: Change, patient_id: str, *, on_time: bool) -> list[str]:
    records, news = change.records, await _news(change)

    async def now() -> Record | None:
        return await record_of(records, patient_id, change.now, change.pathway, news)

    record = await now()
    if record is None:
        await records.remind(patient_id, None)
        return []
    said = await end_parents_consents(records, record)
    said += await end_ratings_of_the_outgrown(records, record)
    record = (await now() if said else record) or record
    before = len(records.saved)
    told = await fit(records, record, on_time=on_time)
    await records.remind(patient_id, next_moment(with_tasks(record, records.saved[before:])))
    return said + told


async def _news(change: Change) -> Mapping[str, int]:
    """The stay that a message tells of, if it makes it one in hospital."""
    told = change.told
    if not isinstance(told, Told):
        return {}
    stay = await change.records.get("Encounter", told.stay_id)
    if stay is None:
        return {}
    is_stay = status_of(stay) in told.as_stay or is_inpatient(stay)
    return {told.stay_id: told.at} if is_stay else {}


# Whether a change can matter --------------------------------------------------------------------


async def _concerns(change: Change) -> bool:
    """Whether it changes something that tasks are made from, or tells news of a stay."""
    if change.type == "Task" and change.by_rule:
        return False
    before, after = _looked_at(change.before), _looked_at(change.after)
    if change.type == "Patient":
        return change.before is not None and before != after
    if before == [] == after and change.type == "CarePlan":
        return await _concerns_home(change)
    if change.type != "Encounter":
        return before != after
    if change.id in await _news(change):
        return True
    is_stay = any(side is not None and is_inpatient(side) for side in (change.before, change.after))
    return before != after and (is_stay or await _hangs_on(change))


async def _concerns_home(change: Change) -> bool:
    """Whether a plan for home is there no more, or is there now and somebody is to begin one."""
    new = _is_new_for(change)
    if not new:
        return _home_of(change.before) != _home_of(change.after)
    asked = ("Task", f"Patient/{new}", *_IS_TO_BE_BEGUN)
    return bool(await change.records.about(*asked, latest=1))


def _is_new_for(change: Change) -> str:
    """Whose open plan for home it has become; '' where it was one before, or is none."""
    return "" if _home_of(change.before) else _home_of(change.after)


def _home_of(plan: Resource | None) -> str:
    """Whose open plan for home it is; '' for any other."""
    if plan is None or not has_code(plan.get("category"), *_PLAN_FOR_HOME):
        return ""
    return patient_in(plan) if is_open_plan(plan) else ""


async def _hangs_on(change: Change) -> bool:
    """Whether it was a stay because of what a message told."""
    return await change.records.get("CarePlan", plan_id(change.resource)) is not None


def _looked_at(resource: Resource | None) -> list[object]:
    """What a record's tasks are made from; nothing of what is not the service's."""
    if resource is None or not _matters(resource):
        return []
    return [resource.get(name) for name in _LOOKED_AT[resource["resourceType"]]]


def _matters(resource: Resource) -> bool:
    kind = resource["resourceType"]
    if kind == "CarePlan":
        return "encounter" in resource
    if kind == "Flag":
        return is_rating(resource)
    if kind == "Task":
        return task_code(resource) is not None
    if kind == "Consent":
        return _has(resource.get("category"), canonicals.CONSENT_CATEGORY) or is_parents(resource)
    if kind == "QuestionnaireResponse":
        asked = str(resource.get("questionnaire", "")).partition("|")[0]
        return asked == canonicals.DSR_RISK_QUESTIONNAIRE
    if kind == "Condition":
        return has_code(resource.get("code"), *SELF_HARM)
    system = {
        "EpisodeOfCare": ("type", canonicals.EPISODE_TYPE),
        "ServiceRequest": ("performerType", canonicals.CARE_TEAM_ROLE),
    }.get(kind)
    return system is None or _has(resource.get(system[0]), system[1])


def _has(concepts: object, system: str) -> bool:
    return any(found == system for found, _ in codes(concepts))
