"""Which change is an event of which topic: each row of docs/api/subscriptions.md."""

from typing import Any

import pytest

from fhir_server.events.topics import TOPICS, topics_of
from fhir_server.fhir import canonicals
from tests.events.receiving import rating, stay

_ENDED = {
    "url": canonicals.RATING_END_REASON_EXTENSION,
    "valueCodeableConcept": {
        "coding": [{"system": canonicals.RATING_END_REASON, "code": "superseded"}]
    },
}


def _episode(state: str | None) -> dict[str, Any]:
    told = [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}] if state else []
    return {"resourceType": "EpisodeOfCare", "extension": told}


def _task(business: str = "") -> dict[str, Any]:
    coding = [{"system": canonicals.BUSINESS_STATUS, "code": business}]
    told = {"businessStatus": {"coding": coding}}
    return {"resourceType": "Task", "status": "requested", **(told if business else {})}


def _of_category(resource_type: str, system: str, code: str) -> dict[str, Any]:
    category = [{"coding": [{"system": system, "code": code}]}]
    return {"resourceType": resource_type, "category": category}


_PLAN = _of_category("CarePlan", canonicals.CARE_PLAN_CATEGORY, "discharge-plan")
_CONSENT = _of_category("Consent", canonicals.CONSENT_CATEGORY, "register")
_ACUTE = {**stay("in-progress"), "class": {"code": "AMB"}}
_OVER = rating("red", status="inactive")


@pytest.mark.parametrize(
    ("before", "now", "topic"),
    [
        (None, rating("red"), "rating-changed"),
        (rating("amber"), rating("red"), "rating-changed"),
        (rating("red"), _OVER, "rating-changed"),
        (rating("red"), {**_OVER, "extension": [_ENDED]}, ""),
        (rating("red"), {**rating("red"), "period": {"start": "2026-11-02"}}, ""),
        (None, {**rating("red"), "code": {"text": "an allergy"}}, ""),
        (None, stay("in-progress"), "admitted"),
        (stay("planned"), stay("arrived"), "admitted"),
        (stay("in-progress"), stay("onleave"), ""),
        (stay("finished"), stay("in-progress"), ""),
        (None, stay("planned"), ""),
        (None, _ACUTE, ""),
        (stay("in-progress"), stay("finished"), "discharged"),
        (None, stay("finished"), "discharged"),
        (stay("finished"), stay("finished"), ""),
        (None, _PLAN, "plan-changed"),
        (_PLAN, {**_PLAN, "status": "active"}, "plan-changed"),
        (None, {"resourceType": "CarePlan", "category": [{"text": "asthma"}]}, ""),
        (None, {"resourceType": "Goal"}, "plan-changed"),
        (None, _CONSENT, "consent-changed"),
        (None, {"resourceType": "Consent"}, ""),
        (_task(), _task("overdue"), "task-overdue"),
        (None, _task("overdue"), "task-overdue"),
        (_task("overdue"), {**_task("overdue"), "priority": "asap"}, ""),
        (_task("overdue"), _task("waiting"), ""),
        (_episode("referred"), _episode("planning"), "transition"),
        (None, _episode("referred"), "transition"),
        (_episode("planning"), _episode("planning"), ""),
        (None, _episode(None), ""),
        (None, {"resourceType": "Patient"}, ""),
    ],
)
def test_a_change_is_an_event_of_its_topic_alone(before: Any, now: Any, topic: str) -> None:
    assert topics_of(now, before) == ({topic} if topic else set())


def test_each_topic_of_the_service_is_tried_above() -> None:
    assert set(TOPICS) == {
        *("rating-changed", "admitted", "discharged", "plan-changed", "consent-changed"),
        *("task-overdue", "transition"),
    }
