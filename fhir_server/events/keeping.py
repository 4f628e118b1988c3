"""What a write of a Subscription brings about: it is checked, marked, and its record is kept.

By whatever way it is written: the session asks this of each (`access.keeper.Keeper`). The server
alone says `active` and `error` (https://hl7.org/fhir/R4/subscription.html#status).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from secrets import token_hex
from typing import Final
from urllib.parse import parse_qsl

from fhir_server.access.caller import Caller, caller_to_json, own_prefix
from fhir_server.access.labels import as_own
from fhir_server.errors import FhirError, Kind
from fhir_server.events.asked import INBOX, REST_HOOK, Asked, read_asked, shown_header
from fhir_server.events.record import (
    ACTIVE,
    EVENTS,
    OFF,
    OPEN,
    RECORDS,
    REQUESTED,
    TYPE,
    Record,
    find,
    forget_events,
    keep,
    key_of,
)
from fhir_server.events.terms import DAY, Terms
from fhir_server.fhir.dates import instant, interval
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import And, Chain, Contains, Has, InValueSet, Node, Not, Or, Subsumes
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import parse_criteria
from fhir_server.storage.interface import Draft, HistoryOf, Unit

_CHANGES_ITSELF: Final = "Communication"


class Keeping:
    """Keeps the records of subscriptions."""

    type = TYPE

    def __init__(self, read_terms: Callable[[], Terms]) -> None:
        self._read: Final = read_terms

    @cached_property
    def _terms(self) -> Terms:
        """Read when a Subscription is written: hardly any session sees one."""
        return self._read()

    async def taken(self, unit: Unit, caller: Caller, draft: Draft) -> Draft:
        """The Subscription as it is stored; its record lands with it.

        Raises:
            FhirError: for what is asked for and cannot be; TOO_COSTLY beyond the caller's share.
        """
        resource = dict(draft.resource)
        before = await find(unit, key_of(caller.name, draft.id))
        asked = read_asked(resource, _known_headers(resource, before))
        self._require_status(resource, asked)
        await self._require_sound(unit, caller, asked)
        record = await self._record(unit, caller, draft.id, asked, before)
        if resource["status"] == OFF:
            record = replace(record, status=OFF)
            await forget_events(unit, record)
        else:
            record = replace(record, end=self._end(resource))
            await self._require_room(unit, caller, before)
        await keep(unit, record)
        return Draft(self._stored(resource, caller, record))

    async def gone(self, unit: Unit, caller: Caller, resource_id: str) -> None:
        key = key_of(caller.name, resource_id)
        for space in (RECORDS, OPEN, EVENTS):
            await unit.forget(space, key)

    def _require_status(self, resource: Resource, asked: Asked) -> None:
        if resource["status"] not in (REQUESTED, OFF):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                "Subscription.status",
                f"The server alone says '{resource['status']}'; write '{REQUESTED}' to begin or "
                f"go on, '{OFF}' to end",
            )
        if resource["status"] == REQUESTED and asked.channel == REST_HOOK:
            self._require_endpoint(asked.endpoint)

    def _require_endpoint(self, endpoint: str) -> None:
        try:
            self._terms.endpoints.require(endpoint)
        except FhirError as error:
            named = ", ".join(self._terms.endpoints.named) or "none"
            raise FhirError.at(
                error.kind,
                "Subscription.channel.endpoint",
                f"Notices do not go to '{endpoint[:200]}'; they may go to addresses below: {named}",
            ) from None

    async def _require_sound(self, unit: Unit, caller: Caller, asked: Asked) -> None:
        if asked.channel == INBOX and not caller.user:
            text = "An inbox is a user's; this caller is a system, which may use rest-hook"
            raise FhirError.at(Kind.BUSINESS_RULE, "Subscription.channel.type", text)
        if not asked.criteria:
            return
        if asked.channel == INBOX and asked.resource_type == _CHANGES_ITSELF:
            text = "An inbox is made of Communications: it cannot watch them too"
            raise FhirError.at(Kind.BUSINESS_RULE, "Subscription.criteria", text)
        read_criteria(asked, self._terms, await unit.parameters())

    async def _require_room(self, unit: Unit, caller: Caller, before: Record | None) -> None:
        if before is not None and before.at_work:
            return
        most = self._terms.most
        if len(await unit.memos(OPEN, own_prefix(caller.name), most)) >= most:
            text = f"{most} subscriptions are at work already, which is the most; end one"
            raise FhirError(Kind.TOO_COSTLY, text)

    async def _record(
        self, unit: Unit, caller: Caller, resource_id: str, asked: Asked, before: Record | None
    ) -> Record:
        """One that is new, or was off, begins now; any other goes on where it is."""
        status = REQUESTED if asked.channel == REST_HOOK else ACTIVE
        # It outlives the token by which it is written, and is the client's from then on.
        who, mark = caller_to_json(replace(caller, token="")), token_hex(8)
        if before is not None and before.status != OFF:
            changed = replace(before, who=who, asked=asked, status=status, mark=mark)
            return replace(changed, failures=0, failing=0, retry=0, error="")
        newest = await unit.history(HistoryOf(), 1)
        cursor = newest[0].seq if newest else 0
        now = self._terms.clock()
        return Record(resource_id, who, asked, status, mark, cursor, end=0, told=now)

    def _end(self, resource: Resource) -> int:
        """When it ends: as it says, and not later than subscriptions live."""
        last = self._terms.clock() + self._terms.days * DAY
        if "end" not in resource:
            return last
        end = interval(str(resource["end"])).low
        if end <= self._terms.clock() or end > last:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                "Subscription.end",
                f"The end is to come, within {self._terms.days} days; write it again to renew it",
            )
        return end

    def _stored(self, resource: Resource, caller: Caller, record: Record) -> Resource:
        """With what the server says of it, and without secrets."""
        channel = dict(resource["channel"])
        if record.asked.headers:
            channel["header"] = [*map(shown_header, record.asked.headers)]
        kept = {name: value for name, value in resource.items() if name != "error"}
        told = {**kept, "status": record.status, "channel": channel}
        if record.end:
            told["end"] = instant(record.end)
        return as_own(caller.name, told)


def _known_headers(resource: Resource, before: Record | None) -> tuple[str, ...]:
    """Those that need not be told again: a secret does not go elsewhere than it was meant to."""
    if before is None or before.asked.endpoint != resource["channel"].get("endpoint"):
        return ()
    return before.asked.headers


def read_criteria(asked: Asked, terms: Terms, known: ParameterSet) -> Node:
    """The criteria of a search, which one resource can be held against.

    Raises:
        FhirError: INVALID for what is no criteria; UNSUPPORTED for what hangs on others.
    """
    name, _, query = asked.criteria.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    base, now, limits = terms.base, terms.clock(), terms.limits
    try:
        node = parse_criteria(name, pairs, base=base, now=now, limits=limits, known=known)
    except FhirError as error:
        issues = [replace(issue, expression="Subscription.criteria") for issue in error.issues]
        raise FhirError.of(error.kind, issues) from None
    if _hangs_on_others(node):
        raise FhirError.at(
            Kind.UNSUPPORTED,
            "Subscription.criteria",
            "Chains, _has and value sets have no place in a subscription; criteria that the "
            "resource decides by itself have",
        )
    return node


def _hangs_on_others(node: Node) -> bool:
    match node:
        case And(nodes) | Or(nodes):
            return any(map(_hangs_on_others, nodes))
        case Not(inner) | Contains(_, inner):
            return _hangs_on_others(inner)
        case Chain() | Has() | InValueSet() | Subsumes():
            return True
        case _:
            return False
