"""What happened to a young person, told by the dates in their record.

A table: which element of which type says when something happened, and what that was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._person import UNDONE_STAY, is_inpatient, is_rating, status_of

_NEVER: Final = ("entered-in-error", "cancelled", "not-done")


@dataclass(frozen=True, slots=True)
class Source:
    """`path` leads to the date; `statuses` are those in which it has happened, none for all."""

    resource_type: str
    what: str
    path: str
    text: str
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Happening:
    time: str
    """As it stands in the record: a FHIR date or dateTime."""
    what: str
    text: str
    resource: Resource

    @property
    def place(self) -> list[Any]:
        """Where it stands in the order of all."""
        return [interval(self.time).low, reference_to(self.resource), self.what]


SOURCES: Final = (
    Source("ServiceRequest", "referred", "authoredOn", "Referred"),
    Source("Consent", "consent", "dateTime", "Consent"),
    Source("Flag", "rated", "period.start", "Rated"),
    Source("Flag", "rating-ended", "period.end", "No longer rated", ("inactive",)),
    Source("EpisodeOfCare", "keyworking-began", "period.start", "Keyworking began"),
    Source("EpisodeOfCare", "keyworking-ended", "period.end", "Keyworking ended", ("finished",)),
    Source("Encounter", "began", "period.start", "Visit"),
    Source("Encounter", "ended", "period.end", "Visit over", ("finished",)),
    Source("CarePlan", "plan-began", "period.start", "Plan began"),
    Source("CarePlan", "plan-ended", "period.end", "Plan ended", ("completed", "revoked")),
    Source("Goal", "goal-set", "startDate", "Goal set"),
    Source("Goal", "goal-ended", "statusDate", "Goal ended", ("completed",)),
    Source("QuestionnaireResponse", "answered", "authored", "Risk questions answered"),
    Source("Task", "task-opened", "authoredOn", "To do"),
    Source("Task", "task-done", "executionPeriod.end", "Done", ("completed",)),
    Source("Communication", "message", "sent", "Message"),
)
TYPES: Final = tuple(dict.fromkeys(source.resource_type for source in SOURCES))


def happenings(resource: Resource) -> Iterator[Happening]:
    """What the resource tells of; nothing where it never came to be."""
    if status_of(resource) in _NEVER:
        return
    for source in SOURCES:
        if source.resource_type != resource["resourceType"]:
            continue
        time = _at(resource, source.path)
        if time and (not source.statuses or status_or_lifecycle(resource) in source.statuses):
            yield Happening(time, *_told(source, resource), resource)


def _at(resource: Resource, path: str) -> str:
    found: Any = resource
    for name in path.split("."):
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, str) else ""


def status_or_lifecycle(resource: Resource) -> str:
    return status_of(resource) or str(resource.get("lifecycleStatus", ""))


def _told(source: Source, resource: Resource) -> tuple[str, str]:
    """What it was, and the same in words."""
    if source.resource_type == "Encounter" and _is_stay(resource):
        began = source.what == "began"
        return ("admitted", "Admitted") if began else ("discharged", "Left hospital")
    about = _about(resource)
    if source.resource_type == "Flag" and not is_rating(resource):
        what, text = ("flagged", "Flag") if source.what == "rated" else ("flag-ended", "Flag ended")
        said = _in_words(resource.get("code", {}))
        return what, f"{text}: {said}" if said else text
    return source.what, f"{source.text}: {about}" if about else source.text


def _is_stay(encounter: Resource) -> bool:
    return is_inpatient(encounter) and status_of(encounter) not in UNDONE_STAY


def _about(resource: Resource) -> str:
    """The resource in a few words of its own."""
    match resource["resourceType"]:
        case "Consent":
            kind = _code(resource.get("category"), canonicals.CONSENT_CATEGORY)
            return f"{kind} {status_of(resource)}".strip()
        case "Flag":
            return _code([resource.get("code", {})], canonicals.DSR_RATING)
        case "CarePlan":
            return str(
                resource.get("title")
                or _code(resource.get("category"), canonicals.CARE_PLAN_CATEGORY)
            )
        case "Goal" | "Task":
            described = resource.get("description", "")
            return str(described.get("text", "") if isinstance(described, dict) else described)
        case _:
            return ""


def _in_words(concept: Resource) -> str:
    told = [concept.get("text"), *(one.get("display") for one in concept.get("coding", ()))]
    return str(next(filter(None, told), ""))


def _code(concepts: Any, system: str) -> str:
    for concept in concepts or ():
        for coding in concept.get("coding", ()):
            if coding.get("system") == system:
                return str(coding.get("code", ""))
    return ""
