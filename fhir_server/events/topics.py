"""The topics of the service: which change of a record is an event of which topic.

As a SubscriptionTopic of R5 says it (https://hl7.org/fhir/R5/subscriptiontopic.html): resource
triggers that look at what is there now and what was there before. R4 has no such resource, so
their canonical addresses are told by the CapabilityStatement and docs/api/subscriptions.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.fhir import canonicals

Side = Mapping[str, Any]
Before = Mapping[str, Any] | None
_OPEN: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
_INPATIENT: Final = frozenset({"IMP", "ACUTE", "NONAC"})
"""https://terminology.hl7.org/CodeSystem-v3-ActCode.html"""
_ADMITTED: Final = (canonicals.STAY_TYPE, "admitted")
_OVERDUE: Final = (canonicals.BUSINESS_STATUS, "overdue")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: `happened` says whether a change is an event of it."""

    code: str
    title: str
    types: tuple[str, ...]
    happened: Callable[[Side, Before], bool]
    gone: Callable[[Side], bool] = lambda _: False
    """Whether a deletion of what was there is an event too."""

    @property
    def url(self) -> str:
        return f"{canonicals.KW}/SubscriptionTopic/{self.code}"


def _codings(concepts: Any) -> set[tuple[str, str]]:
    """System and code of each coding in a CodeableConcept, or in several."""
    listed = concepts if isinstance(concepts, list) else [concepts or {}]
    return {
        (coding.get("system", ""), coding.get("code", ""))
        for concept in listed
        for coding in concept.get("coding", ())
    }


def _has_system(concepts: Any, system: str) -> bool:
    return any(of == system for of, _ in _codings(concepts))


def _rating(flag: Before) -> frozenset[str]:
    """The colours that an active rating says; none of any other flag."""
    if flag is None or flag.get("status") != "active":
        return frozenset()
    told = _codings(flag.get("code"))
    return frozenset(code for system, code in told if system == canonicals.DSR_RATING)


def _is_superseded(flag: Side) -> bool:
    ends = [
        one.get("valueCodeableConcept")
        for one in flag.get("extension", ())
        if one.get("url") == canonicals.RATING_END_REASON_EXTENSION
    ]
    return any((canonicals.RATING_END_REASON, "superseded") in _codings(end) for end in ends)


def _rating_changed(now: Side, before: Before) -> bool:
    """A rating begins, has another colour, or ends without another in its place."""
    if _rating(now) == _rating(before):
        return False
    return bool(_rating(now)) or not _is_superseded(now)


def _is_open_stay(encounter: Before) -> bool:
    return encounter is not None and _is_stay(encounter) and encounter.get("status") in _OPEN


def _is_stay(encounter: Side) -> bool:
    """By its class, or because an admission was told of it."""
    if _ADMITTED in _codings(encounter.get("type", [])):
        return True
    return encounter.get("class", {}).get("code") in _INPATIENT


def _admitted(now: Side, before: Before) -> bool:
    was_there = before is not None and _is_stay(before) and before.get("status") == "finished"
    return _is_open_stay(now) and not _is_open_stay(before) and not was_there


def _discharged(now: Side, before: Before) -> bool:
    has_ended = _is_stay(now) and now.get("status") == "finished"
    return has_ended and (before is None or before.get("status") != "finished")


def _plan_changed(now: Side, before: Before) -> bool:
    del before
    if now["resourceType"] == "Goal":
        return True
    return _has_system(now.get("category"), canonicals.CARE_PLAN_CATEGORY)


def _is_plan(plan: Side) -> bool:
    return _plan_changed(plan, None)


def _is_consent(consent: Side) -> bool:
    return _consent_changed(consent, None)


def _is_rated(flag: Side) -> bool:
    return bool(_rating(flag))


def _consent_changed(now: Side, before: Before) -> bool:
    del before
    return _has_system(now.get("category"), canonicals.CONSENT_CATEGORY)


def _is_overdue(task: Before) -> bool:
    return task is not None and _OVERDUE in _codings(task.get("businessStatus"))


def _task_overdue(now: Side, before: Before) -> bool:
    return _is_overdue(now) and not _is_overdue(before)


def _state(episode: Before) -> str | None:
    found = () if episode is None else episode.get("extension", ())
    url = canonicals.PATHWAY_STATE_EXTENSION
    return next((one.get("valueCode") for one in found if one.get("url") == url), None)


def _moved(now: Side, before: Before) -> bool:
    return _state(now) is not None and _state(now) != _state(before)


_ALL: Final = (
    Topic(
        "rating-changed", "A rating begins, changes or ends", ("Flag",), _rating_changed, _is_rated
    ),
    Topic("admitted", "A stay in hospital begins", ("Encounter",), _admitted),
    Topic("discharged", "A stay in hospital ends", ("Encounter",), _discharged),
    Topic(
        "plan-changed", "A plan or a goal is written", ("CarePlan", "Goal"), _plan_changed, _is_plan
    ),
    Topic(
        "consent-changed",
        "A consent is given or changes",
        ("Consent",),
        _consent_changed,
        _is_consent,
    ),
    Topic("task-overdue", "A task becomes overdue", ("Task",), _task_overdue),
    Topic("transition", "The pathway moves on", ("EpisodeOfCare",), _moved),
)
TOPICS: Final[Mapping[str, Topic]] = {topic.code: topic for topic in _ALL}
BY_URL: Final[Mapping[str, Topic]] = {topic.url: topic for topic in _ALL}
WATCHED: Final = frozenset(name for topic in _ALL for name in topic.types)
"""The types whose changes may be an event."""
FILTERS: Final[Mapping[str, str]] = {
    "patient": "whom it is about: Patient/[id]",
    "area": "who manages the involvement: an ODS code or Organization/[id]",
    "team": "whose team is involved: CareTeam/[id], or the Organization/[id] that manages it",
}
"""What each topic can be narrowed by."""
FILTER_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "patient": ("Patient",),
    "area": ("Organization",),
    "team": ("CareTeam", "Organization"),
}
"""What a reference in a filter may lead to."""


def topics_of(now: Side, before: Before) -> frozenset[str]:
    """Codes of the topics of which a change is an event.

    Args:
        before: None where it was not there, or was deleted.
    """
    name = now["resourceType"]
    return frozenset(
        topic.code for topic in _ALL if name in topic.types and topic.happened(now, before)
    )


def topics_of_deleted(before: Side) -> frozenset[str]:
    """Codes of the topics of which a deletion of what was there is an event."""
    name = before["resourceType"]
    return frozenset(topic.code for topic in _ALL if name in topic.types and topic.gone(before))
