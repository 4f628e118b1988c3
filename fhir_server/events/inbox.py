"""The inbox in the server: a Communication to whoever subscribed, for each event.

https://hl7.org/fhir/R4/communication.html. It says what happened and to which record it belongs,
and no more: what the record says is read there, as far as the reader may.
"""

from typing import Final
from uuid import UUID

from fhir_server.access.labels import as_test_data, is_test_data
from fhir_server.access.masking import is_masked_type
from fhir_server.access.membership import patients_of
from fhir_server.events.notification import Told
from fhir_server.events.record import Record
from fhir_server.events.topics import TOPICS
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import named_id
from fhir_server.fhir.summary import SUBSETTED
from fhir_server.storage.interface import StoredVersion

_NAMESPACE: Final = UUID("0d1c54f2-3c0c-5f52-9a5c-2f9b1ce0c0de")
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/communication-category"


def communication(record: Record, told: Told, now: int) -> Resource:
    """The message of one event; it has the same id whenever it is made."""
    shown = told.shown
    assert shown is not None  # noqa: S101 - of what is hidden nothing is told
    about = json.decode_own(shown.body)
    event = told.event
    message: Resource = {
        "resourceType": "Communication",
        "id": named_id(_NAMESPACE, f"{record.key}{record.asked.topic}{event.number}/{event.at}"),
        "status": "completed",
        "category": [{"coding": [{"system": _CATEGORY, "code": "notification"}]}],
        "topic": _topic(record),
        "about": [{"reference": event.focus}],
        "sent": instant(now),
        "recipient": [{"reference": record.caller.user}],
        "payload": [{"contentString": _title(record)}],
    }
    patients = sorted(patients_of(about))
    if patients:
        message["subject"] = {"reference": f"Patient/{patients[0]}"}
    labels = about.get("meta", {}).get("security")
    if labels:  # whoever may not see the one for them does not learn of it by the other
        message["meta"] = {"security": labels}
    return as_test_data(message) if is_test_data(about) else message


def is_masked(shown: StoredVersion) -> bool:
    """Whether they see no more of it than the colour: then they read no message about it either.

    It would be in the record, and say that somebody was told who was not.
    """
    if not is_masked_type(shown.type):
        return False
    return SUBSETTED in json.decode_own(shown.body).get("meta", {}).get("tag", ())


def _topic(record: Record) -> Resource:
    topic = TOPICS.get(record.asked.topic)
    if topic is None:
        return {"text": _title(record)}
    system = f"{canonicals.KW}/SubscriptionTopic"
    return {"coding": [{"system": system, "code": topic.code}], "text": topic.title}


def _title(record: Record) -> str:
    topic = TOPICS.get(record.asked.topic)
    return topic.title if topic else f"A change that Subscription/{record.id} looks for"
