"""Practitioner/$caseload: whom a keyworker is with, in which state, and what is due next.

Four questions of the store, however many they are: for the posts, the involvements, the young
people and their open tasks.
"""

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Lookup, reference_to
from operations._person import extension
from operations._record import is_open

SCOPES = ("EpisodeOfCare.rs", "Patient.rs", "Task.rs")
_OPEN: Final = "planned,waitlist,active,onhold"
_NOT_SEEN: Final = (
    "It is another's caseload: what you may not see of it is not counted, so the load is not told"
)


async def run(call: Call) -> Resource:
    lookup = Lookup(call.session, base=call.base, now=call.now)
    worker = await _worker(call, lookup)
    episodes = await _involvements(worker, lookup)
    people = sorted({_patient_of(one, "patient") for one in episodes} - {""})
    named = {one["id"]: one for one in await _about(lookup, "Patient", "_id", people)}
    tasks = await _about(lookup, "Task", "patient", [f"Patient/{one}" for one in people])
    found = _counted(len(episodes), call.pathway, sees_all=_is_own(call, worker))
    found += [
        {"name": "involvement", "part": _involvement(episode, named, tasks, call.now)}
        for episode in sorted(episodes, key=reference_to)
    ]
    return {"resourceType": "Parameters", "parameter": found}


async def _worker(call: Call, lookup: Lookup) -> Resource:
    """Whose caseload it is.

    Raises:
        FhirError: NOT_FOUND.
    """
    found = await lookup.get(call.resource_type, call.id)
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{call.resource_type}/{call.id} is not known")
    return found


def _is_own(call: Call, worker: Resource) -> bool:
    """Whether nothing of it is hidden: from a keyworker, no involvement of theirs is.

    Of another's nobody is told whether anything is, as that would say that it is there.
    """
    own = {reference_to(worker), worker.get("practitioner", {}).get("reference")}
    return call.session.is_open or call.session.caller.user in own


async def _involvements(worker: Resource, lookup: Lookup) -> list[Resource]:
    """Those that are open, managed by the practitioner or in one of their posts."""
    itself = reference_to(worker)
    managers = [itself]
    if worker["resourceType"] == "Practitioner":
        posts = await lookup.find("PractitionerRole", f"practitioner={itself}")
        managers += [reference_to(post) for post in posts]
    keyworking = f"{canonicals.EPISODE_TYPE}|keyworking"
    criteria = f"keyworker={','.join(managers)}&status={_OPEN}&type={keyworking}"
    return await lookup.find("EpisodeOfCare", criteria)


async def _about(
    lookup: Lookup, resource_type: str, parameter: str, values: Sequence[str]
) -> list[Resource]:
    if not values:
        return []
    status = "&status=draft,requested,received,accepted,ready,in-progress,on-hold"
    only = status if resource_type == "Task" else ""
    return await lookup.find(resource_type, f"{parameter}={','.join(values)}{only}")


def _counted(count: int, bounds: Pathway, *, sees_all: bool) -> list[dict[str, Any]]:
    """How many they are; how heavy that is, where it is known that they are all."""
    load = {"name": "load", "valueCode": load_of(count, bounds)}
    return [
        {"name": "count", "valueInteger": count},
        {"name": "target", "valueInteger": bounds.caseload_target},
        load if sees_all else {"name": "not-seen", "valueString": _NOT_SEEN},
    ]


def load_of(count: int, bounds: Pathway) -> str:
    """Colour of a caseload: what is above the target alone is not told apart."""
    if count > bounds.caseload_limit:
        return "red"
    return "amber" if count > bounds.caseload_warning else "green"


def _involvement(
    episode: Resource, named: dict[str, Resource], tasks: Sequence[Resource], now: int
) -> list[dict[str, Any]]:
    patient = _patient_of(episode, "patient")
    reference = {"reference": f"Patient/{patient}"} | _display(named.get(patient))
    parts: list[dict[str, Any]] = [
        {"name": "episode", "valueReference": {"reference": reference_to(episode)}},
        {"name": "patient", "valueReference": reference},
    ]
    if state := extension(episode, canonicals.PATHWAY_STATE_EXTENSION):
        parts.append({"name": "state", "valueCode": state.get("valueCode")})
    own = [task for task in tasks if is_open(task) and _patient_of(task, "for") == patient]
    dated = [task for task in own if _due(task)]
    if dated:
        task = min(dated, key=lambda one: interval(_due(one)).low)
        parts.append({"name": "next-task", "part": _task(task, now)})
    overdue = sum(interval(_due(task)).high <= now for task in dated)
    return [*parts, {"name": "overdue", "valueInteger": overdue}]


def _task(task: Resource, now: int) -> list[dict[str, Any]]:
    due = _due(task)
    return [
        {"name": "task", "valueReference": {"reference": reference_to(task)}},
        {"name": "due", "valueDateTime": due},
        {"name": "overdue", "valueBoolean": interval(due).high <= now},
    ]


def _due(task: Resource) -> str:
    return str(task.get("restriction", {}).get("period", {}).get("end", ""))


def _patient_of(resource: Resource, element: str) -> str:
    local = parse_relative(resource.get(element, {}).get("reference", ""))
    return local.id if local is not None and local.type == "Patient" else ""


def _display(patient: Resource | None) -> dict[str, str]:
    """Nothing where the caller may not see who it is."""
    name: Resource = next(iter((patient or {}).get("name", ())), {})
    shown = " ".join([*name.get("given", ()), name.get("family", "")]).strip()
    return {"display": shown} if shown else {}
