"""Whether the audit is as it was written: its chain of hashes gone through from end to end.

The AuditEvents of clients stand beside it; each is what the row of its commit says, and the store
has no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.access.audit import received
from fhir_server.storage.audited import PRUNE, AuditEntry, AuditQuery, Link, hash_of
from fhir_server.storage.interface import Store

_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault` is the first break, empty where there is none."""

    begin: Link
    """After this one: it and those before were taken out by retention."""
    end: Link
    """The last row that was found in its place."""
    fault: str = ""


def anchor(link: Link) -> str:
    """As it is printed, to be kept elsewhere."""
    return f"{link.number}:{link.hash.hex()}"


def read_anchor(text: str) -> Link:
    """
    Raises:
        ValueError: for a text that `anchor` has not made.
    """
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(digest) == 64):
        raise ValueError(
            f"'{text}' is no anchor; it is a number, a colon and 64 hexadecimal digits"
        )
    return Link(int(number), 0, bytes.fromhex(digest))


async def verify(store: Store, known: Link | None = None) -> Verdict:
    """Go through all rows that were there when it began.

    Args:
        known: a place of the chain that was noted before, and must still be there.
    """
    begin, head = await store.audit_ends()
    walk = _Walk(begin, known)
    while walk.link.number < head.number and not walk.fault:
        asked = AuditQuery(after=walk.link.number, before=head.number + 1)
        entries = await store.audited(asked, _AT_ONCE)
        now = (await store.audit_ends())[0]
        if now.number > walk.link.number:  # pruned meanwhile
            walk.begin_anew(now)
        else:
            walk.go(entries, head)
            walk.fault = walk.fault or await walk.unlike(store)
    fault = walk.fault or walk.missing(head) or await _beyond(store, head)
    fault = fault or await _added(store, walk, head)
    return Verdict(walk.begin, walk.link, fault)


async def _beyond(store: Store, head: Link) -> str:
    """Rows above the end, which those that are written meanwhile are not."""
    found = await store.audited(AuditQuery(after=head.number, backwards=True), 1)
    end = (await store.audit_ends())[1].number
    if found and found[0].link.number > end:
        return f"row {found[0].link.number} stands beyond the end of the chain, which is {end}"
    return ""


async def _added(store: Store, walk: "_Walk", head: Link) -> str:
    """AuditEvents that no row tells of, as far as nothing is written meanwhile."""
    there = await received.count(store)
    if await store.audit_ends() != (walk.begin, head) or there <= walk.received:
        return ""
    return f"{there} AuditEvents are marked as received, and rows tell of {walk.received}"


class _Walk:
    def __init__(self, begin: Link, known: Link | None) -> None:
        self.begin = self.link = begin
        self.fault = ""
        self._known = known
        self._told_of: set[str] = set()
        self.received = 0
        """AuditEvents of clients that the rows told of."""
        self._to_see: list[AuditEntry] = []

    def begin_anew(self, begin: Link) -> None:
        self.begin = self.link = begin
        self.received = 0

    async def unlike(self, store: Store) -> str:
        """What became of an AuditEvent that one of the last rows tells of."""
        entries, self._to_see = self._to_see, []
        for entry in entries:
            row = entry.row
            self.received += len(row.received)
            fault = await received.missing(store, row)
            if fault and (await store.audit_ends())[0].number < entry.link.number:
                return f"row {entry.link.number}: {fault}"
        return ""

    def go(self, entries: Sequence[AuditEntry], head: Link) -> None:
        for entry in entries:
            self.fault = self._step(entry)
            if self.fault:
                return
        if not entries:
            self.fault = (
                f"rows {self.link.number + 1} to {head.number} are missing: they were cut off"
            )

    def _step(self, entry: AuditEntry) -> str:
        link, number = entry.link, self.link.number + 1
        if link.number != number:
            return f"row {number} is missing: row {link.number} follows row {number - 1}"
        if hash_of(self.link.hash, number, link.at, entry.told) != link.hash:
            return f"row {number} is not what was written there after row {number - 1}"
        known = self._known or link
        if known.number == number and known.hash != link.hash:
            return f"row {number} is not the one of the anchor: the chain was made anew"
        if PRUNE.encode() in entry.told:
            self._note(entry)
        if b'"received":' in entry.told:
            self._to_see.append(entry)
        self.link = link
        return ""

    def _note(self, entry: AuditEntry) -> None:
        row = entry.row
        if row.action == PRUNE:
            self._told_of.add(row.description.rpartition(" ")[2])

    def missing(self, head: Link) -> str:
        """What is seen at the end alone."""
        begin, known = self.begin, self._known
        if (self.link.number, self.link.hash) != (head.number, head.hash):
            return f"the last row is to be {anchor(head)}, and is {anchor(self.link)}"
        if begin.number and begin.hash.hex() not in self._told_of:
            return f"rows up to {begin.number} are missing, and no row says that they were pruned"
        if known is not None and known.number > head.number:
            return f"row {known.number} of the anchor is missing: rows were cut off"
        return ""
