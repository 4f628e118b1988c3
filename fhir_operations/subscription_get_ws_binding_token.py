"""Subscription/$get-ws-binding-token: a token with which a websocket is bound.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-get-ws-binding-token.html
"""

from collections.abc import Sequence

from fhir_server.errors import FhirError, Kind
from fhir_server.events.asked import WEBSOCKET
from fhir_server.events.binding import grant, websocket_url
from fhir_server.events.desk import find_own
from fhir_server.events.record import ACTIVE
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call

SCOPES = ("Subscription.r",)


async def run(call: Call) -> Resource:
    ids = [call.id] if call.id else call.parameters.all("ids")
    if not ids:
        raise FhirError.at(Kind.INVALID, "ids", "Name the subscriptions that are to be bound")
    await _require_bindable(call, ids)
    token, expires = await grant(call.session, ids, call.now)
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "token", "valueString": token},
            {"name": "expiration", "valueDateTime": instant(expires)},
            *({"name": "subscription", "valueString": one} for one in ids),
            {"name": "websocket-url", "valueUrl": websocket_url(call.base)},
        ],
    }


async def _require_bindable(call: Call, ids: Sequence[str]) -> None:
    for one in ids:
        record = await find_own(call.session, one)
        if record.asked.channel != WEBSOCKET or record.status != ACTIVE:
            raise FhirError(
                Kind.BUSINESS_RULE,
                f"Subscription/{one} is {record.status} with the channel {record.asked.channel}; "
                f"one that is {ACTIVE} with the channel {WEBSOCKET} can be bound",
            )
