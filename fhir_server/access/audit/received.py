"""AuditEvents that clients sent: they are stored beside the audit's rows, and the chain has them.

https://hl7.org/fhir/R4/auditevent.html. The server marks each with a tag and with whom it came
from, and the row of the commit that stored it holds its hash: one that is changed or removed
shows. The events that the server makes of its own rows have numbers as ids and no such mark,
which no client can take off, so neither passes for the other.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from fhir_server.access.audit.events import CLIENT, PROFILE, TYPE
from fhir_server.access.caller import Caller
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import And, Node, Query, TokenIs, UriIs
from fhir_server.storage.audited import AuditRow, received_of
from fhir_server.storage.interface import Store, StoredVersion

SYSTEM: Final = canonicals.code_system("audit-origin")
CODE: Final = "received"
_TAG: Final = {"system": SYSTEM, "code": CODE, "display": "Received from a client"}
IS_RECEIVED: Final[Node] = TokenIs("_tag", SYSTEM, CODE)
"""What the server took in; AuditEvents of releases that marked none are not among them."""


def source_of(caller: Caller) -> str:
    """`meta.source` of what comes from there."""
    return f"{CLIENT}/{quote(caller.client or caller.name, safe='')}"


def among(query: Query, sender: Caller | None = None) -> Query:
    """The query, of what was taken in alone; of one sender, what the same client has sent."""
    terms: list[Node] = [query.where, IS_RECEIVED]
    if sender is not None:
        terms.append(UriIs("_source", source_of(sender)))
    return replace(query, where=And(tuple(terms)))


def marked(resource: Mapping[str, Any], caller: Caller) -> Resource:
    """The AuditEvent as it is stored, marked as the client's.

    Raises:
        FhirError: BUSINESS_RULE where it says that it is one of the server's own.
    """
    meta = resource.get("meta") or {}
    for index, profile in enumerate(meta.get("profile", ())):
        if isinstance(profile, str) and profile.partition("|")[0] == PROFILE:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{TYPE}.meta.profile[{index}]",
                f"{PROFILE} is of the events that the server makes itself; leave it out, or name "
                "a profile of your own",
            )
    tags = [tag for tag in meta.get("tag", ()) if tag.get("system") != SYSTEM]
    return {**resource, "meta": {**meta, "source": source_of(caller), "tag": [*tags, _TAG]}}


def never_changed(event_id: str) -> FhirError:
    return FhirError(
        Kind.METHOD_NOT_ALLOWED,
        f"{TYPE}/{event_id} is, or may come to be, an entry of the audit, which nobody changes; "
        f"POST {TYPE} adds one",
        allowed_methods=("GET", "HEAD", "OPTIONS"),
    )


def told(stored: StoredVersion) -> str:
    """What a row of the audit holds of it: `AuditEvent/id` and the SHA-256 of its JSON."""
    return f"{stored.type}/{stored.id} {hashlib.sha256(stored.body).hexdigest()}"


async def missing(store: Store, row: AuditRow) -> str:
    """What became of one of those that the row tells of; '' where all are as they were stored."""
    for (_, name), one in zip(received_of(row), row.received, strict=True):
        stored = await store.read(TYPE, name)
        if stored is None or stored.deleted:
            return f"{TYPE}/{name}, which was received, is gone"
        if told(stored) != one:
            return f"{TYPE}/{name} is not as it was received"
    return ""


async def count(store: Store) -> int:
    """How many of them the store shows."""
    return await store.total(Query(TYPE, IS_RECEIVED))
