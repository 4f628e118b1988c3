"""What one request did, gathered while it is carried out, and the one row that it leaves.

A write's row is in its commit. Of everything else, refusals among it, the row goes to the trail
when the answer is known.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import structs

from fhir_server.access.audit.trail import Trail
from fhir_server.access.caller import ANONYMOUS, Caller, Role
from fhir_server.storage.audited import MOST_TARGETS, AuditRow
from fhir_server.storage.interface import StoredVersion

UNKNOWN: Final = "unknown"
"""The caller of a request that was refused before anybody knew whose it was."""
_MOST_SEEN: Final = 2000
"""Versions that are looked at for one row."""
_MOST_ASKED: Final = 2000
"""Characters of what was asked."""
_MOST_SAID: Final = 500
"""Characters of a refusal."""
_MOST_LOOKED_AT: Final = 2048
"""Versions that were looked through for patients, of which that is remembered."""
_SMALL: Final = 4096
"""Bytes of those."""
_NAMED: Final = b'"reference":"Patient/'
_ID: Final = re.compile(rb'([A-Za-z0-9.-]{1,64})[/"]')
_BY_ITSELF: Final = re.compile(rb'"resourceType":"Patient","id":"([A-Za-z0-9.-]{1,64})"')
_OF_NOBODY: Final[Mapping[str, Any]] = {"caller": ANONYMOUS.name}
Row = AuditRow
"""As what answers does not see the store."""
_SERIOUS: Final = 500
_REFUSED: Final = 400


class Record:
    """One request, or one entry of a batch.

    Args:
        asked: method, path and query.
        address: where it came from.
    """

    __slots__ = (
        *("action", "address", "asked", "caller", "further", "glass", "has_row", "name"),
        *("request_id", "seen", "shown", "trail"),
    )

    def __init__(self, trail: Trail, asked: str, address: str = "") -> None:
        self.trail: Final = trail
        self.asked = asked
        self.address: Final = address
        self.request_id = ""
        self.caller: Caller | None = None
        self.action = UNKNOWN
        self.name = ""
        """`Type/id` of the resource that was asked for, where it was one."""
        self.seen: list[StoredVersion] = []
        """What was read on the way."""
        self.further = 0
        """What was read beyond what is kept of it."""
        self.shown: Sequence[StoredVersion] | None = None
        """What the answer holds of it, where the interaction says so."""
        self.glass: Mapping[str, str] = {}
        """Why the glass was broken, by the ids of the patients whose records that opened."""
        self.has_row = False
        """Whether it has its row already, in a commit or for each of its entries."""

    def begin(self, action: str, resource_type: str = "", resource_id: str = "") -> None:
        """What is asked for is known."""
        self.action = action
        self.name = f"{resource_type}/{resource_id}" if resource_id else ""

    async def settle(self) -> None:
        """Raises FhirError UNAVAILABLE where the answer has to wait for its row, which fails."""
        await self.trail.settle()

    def part(self, asked: str) -> "Record":
        """The record of one of its entries, which has a row of its own."""
        self.has_row = True
        inner = Record(self.trail, f"{self.asked} {asked}", self.address)
        inner.request_id, inner.caller, inner.glass = self.request_id, self.caller, self.glass
        return inner

    def see(self, *versions: StoredVersion) -> None:
        """They were read, and may be part of the answer."""
        if len(versions) == 1 and len(self.seen) < _MOST_SEEN:
            self.seen.append(versions[0])
            return
        room = _MOST_SEEN - len(self.seen)
        self.seen += versions[:room]
        self.further += max(0, len(versions) - room)

    def written(self, action: str, touched: Sequence[StoredVersion]) -> AuditRow:
        """The row of its commit."""
        versions = [*touched, *(self.shown or ())]
        return self._row(action, versions, "0", "")

    def reads(self, action: str) -> Iterator[AuditRow]:
        """Rows that name all that was read for what a commit keeps."""
        versions = self.seen if self.shown is None else self.shown
        named = [*{name_of(one): one for one in versions}.values()]
        for begin in range(0, len(named), MOST_TARGETS):
            row = self._row(action, named[begin : begin + MOST_TARGETS], "0", "")
            beyond = begin + MOST_TARGETS >= len(named) and self.shown is None
            yield structs.replace(row, further=self.further) if beyond else row

    def close(self, status: int, text: str = "", body: bytes = b"") -> Row | None:
        """The answer is known: unless it has a row, it gets one.

        Args:
            text: of a refusal.
            body: where nothing is known of what it holds, it is looked through for patients.
        """
        if self.has_row:
            return None
        self.has_row = True
        row = self._closing(status, text, body)
        self.trail.put(row)
        return row

    def _closing(self, status: int, text: str, body: bytes) -> AuditRow:
        if status >= _REFUSED:
            outcome = "8" if status >= _SERIOUS else "4"
            return self._row(self.action, (), outcome, f"{status} {text}".strip())
        versions = self.seen if self.shown is None else self.shown
        told = body if self.shown is None and self.action != "capabilities" else b""
        return self._row(self.action, versions, "0", "", told)

    def _row(
        self,
        action: str,
        versions: Sequence[StoredVersion],
        outcome: str,
        description: str,
        body: bytes = b"",
    ) -> AuditRow:
        if len(versions) == 1:
            names = [name_of(versions[0])]
        else:
            names = [*dict.fromkeys(map(name_of, versions))] if versions else self._named()
        further = len(names) - MOST_TARGETS if len(names) > MOST_TARGETS else 0
        if self.further and self.shown is None and outcome == "0":
            further += self.further
        patients = patients_of(versions) if versions else _patients_in(body)
        if not patients and self.name.startswith("Patient/"):
            patients = [self.name.partition("/")[2]]
        row = AuditRow(
            action=bounded(action, 100),
            request_id=self.request_id,
            targets=tuple(names[:MOST_TARGETS]),
            further=further,
            patients=tuple(patients),
            address=self.address,
            asked=bounded(self.asked, _MOST_ASKED),
            outcome=outcome,
            description=bounded(description, _MOST_SAID),
            **of_caller(self.caller),
        )
        return structs.replace(row, break_glass=self._broken(row)) if self.glass else row

    def _broken(self, row: AuditRow) -> str:
        """Why the glass was broken for those whom the row is about; of a count, for all."""
        reasons = [self.glass[one] for one in row.patients if one in self.glass]
        if row.outcome == "0" and len(row.patients) in (0, MOST_TARGETS):
            reasons = [*self.glass.values()]
        return bounded("; ".join(dict.fromkeys(reasons)), _MOST_SAID)

    def _named(self) -> list[str]:
        return [self.name] if self.name else []


def of_caller(caller: Caller | None) -> Mapping[str, Any]:
    """The members of a row that say who asked."""
    if caller is None:
        return {"caller": UNKNOWN}
    if caller.name == ANONYMOUS.name:
        return _OF_NOBODY
    who = (caller.name, caller.client, caller.user, caller.organisation)
    return _of_caller(*who, caller.roles, caller.purpose, caller.break_glass)


@lru_cache(maxsize=4096)
def _of_caller(
    name: str,
    client: str,
    user: str,
    organisation: str,
    roles: frozenset[Role],
    purpose: str,
    break_glass: str,
) -> Mapping[str, Any]:
    told: dict[str, Any] = {"client": bounded(client, 200), "user": bounded(user, 200)}
    told |= {"organisation": bounded(organisation, 100), "purpose": bounded(purpose, 100)}
    told |= {"roles": tuple(sorted(role.value for role in roles))}
    told |= {"break_glass": bounded(break_glass, _MOST_SAID)}
    said = {member: value for member, value in told.items() if value}
    return {"caller": bounded(name, 400), **said}


def teller(caller: Caller) -> tuple[Any, ...]:
    """What `of_caller` says, as the members stand in a row: the first, and those in the middle."""
    row = AuditRow(action="", **of_caller(caller))
    return row.caller, *(getattr(row, name) for name in _WHO)


_WHO: Final = ("client", "user", "organisation", "roles", "purpose", "break_glass")


def of_read(
    caller: tuple[Any, ...], request_id: str, address: str, asked: str, found: StoredVersion
) -> AuditRow:
    """The row of a read that shows one version, as `Record.close` makes it.

    The members go by their places, which takes half of the time.

    Args:
        caller: `teller`.
        asked: what can be printed, and is short.
    """
    patients = [found.id] if found.type == "Patient" else [*_referred(found.body)][:MOST_TARGETS]
    name, client, user, organisation, roles, purpose, broken = caller
    return AuditRow(
        name,
        "read",
        request_id,
        (name_of(found),),
        0,
        tuple(patients),
        client,
        user,
        organisation,
        roles,
        purpose,
        broken,
        address,
        asked,
    )


def of_again(row: Row, request_id: str, address: str) -> Row:
    """The row of a request that was answered with the very same as another of that caller's."""
    return structs.replace(row, request_id=request_id, address=address)


def of_stranger(action: str, asked: str, address: str, text: str) -> AuditRow:
    """The row of a refusal to whoever asks the authorisation server and is no client of it."""
    return AuditRow(
        caller=UNKNOWN,
        action=bounded(action, 100),
        address=address,
        asked=bounded(asked, _MOST_ASKED),
        outcome="4",
        description=bounded(text, _MOST_SAID),
    )


def bounded(text: str, most: int) -> str:
    """The text without control characters and line ends, cut where it is longer."""
    if not text:
        return text
    clean = text if text.isprintable() else "".join(map(_printable, text))
    return clean if len(clean) <= most else f"{clean[:most]}[...]"


def _printable(character: str) -> str:
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def name_of(stored: StoredVersion) -> str:
    return f"{stored.type}/{stored.id}/_history/{stored.version}"


def patients_of(versions: Iterable[StoredVersion]) -> list[str]:
    """Ids of the patients whom the versions are of, or refer to; the first of them."""
    found: dict[str, None] = {}
    for one in versions:
        if one.type == "Patient":
            found[one.id] = None
        else:
            found.update(_again(one.body) if len(one.body) <= _SMALL else _referred(one.body))
    return [*found][:MOST_TARGETS]


@lru_cache(maxsize=_MOST_LOOKED_AT)
def _again(body: bytes) -> dict[str, None]:
    """As `_referred`; pages show the same versions over and over, as the very same objects."""
    return _referred(body)


def _referred(body: bytes) -> dict[str, None]:
    """Ids of the patients that references name, read off the JSON as it is stored.

    To decode it would cost a read more than all else. The text of a string cannot pass for a
    reference: a quotation mark in it stands behind a backslash.
    """
    found: dict[str, None] = {}
    at = body.find(_NAMED)
    while at >= 0:
        at += len(_NAMED)
        named = _ID.match(body, at)
        if named:
            found[named[1].decode()] = None
        at = body.find(_NAMED, at)
    return found


def _patients_in(body: bytes) -> list[str]:
    """Of the patients in an answer that says nothing of what it is made of."""
    if b"Patient" not in body:
        return []
    found = [match.decode() for match in _BY_ITSELF.findall(body)]
    return [*dict.fromkeys([*found, *_referred(body)])][:MOST_TARGETS]
