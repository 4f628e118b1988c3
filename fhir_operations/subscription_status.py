"""Subscription/$status: how subscriptions are, and how many events there were.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html
"""

from collections.abc import Sequence

from fhir_server.events.desk import all_own, find_own
from fhir_server.events.notification import QUERY_STATUS, status_of
from fhir_server.events.record import Record
from fhir_server.fhir import json
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.operation.api import Call

SCOPES = ("Subscription.r",)


async def run(call: Call) -> bytes:
    wanted = call.parameters.all("status")
    found = [one for one in await _asked_for(call) if not wanted or one.status in wanted]
    entries = [_entry(record) for record in found]
    return bundle("searchset", entries, total=len(entries))


async def _asked_for(call: Call) -> Sequence[Record]:
    ids = [call.id] if call.id else call.parameters.all("id")
    if ids:
        return [await find_own(call.session, one) for one in ids]
    return await all_own(call.session, call.limits.max_count)


def _entry(record: Record) -> Entry:
    status = status_of(record, QUERY_STATUS)
    return Entry(f"urn:uuid:{status['id']}", json.encode(status), {"search": {"mode": "match"}})
