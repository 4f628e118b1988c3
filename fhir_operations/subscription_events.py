"""Subscription/$events: what a subscription was told of, by number.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.events.asked import CONTENTS
from fhir_server.events.desk import find_own, told_before
from fhir_server.events.notification import QUERY_EVENT, notice
from fhir_server.operation.api import Call

SCOPES = ("Subscription.r",)
_DIGITS: Final = 15


async def run(call: Call) -> bytes:
    record = await find_own(call.session, call.id)
    first = _number(call, "eventsSinceNumber", 1)
    last = _number(call, "eventsUntilNumber", record.numbered)
    content = call.parameters.one("content")
    if content is not None and content not in CONTENTS:
        text = f"'{content}' is not known; {', '.join(CONTENTS)} are"
        raise FhirError.at(Kind.INVALID, "http.content", text)
    told = await told_before(call.session, record, first, last, call.limits.max_count)
    return notice(call.base, record, QUERY_EVENT, told, call.now, content or "")


def _number(call: Call, name: str, otherwise: int) -> int:
    text = call.parameters.one(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise FhirError.at(
            Kind.INVALID, f"http.{name}", f"'{text}' is not a number of an event, such as 1"
        )
    return max(1, int(text))
