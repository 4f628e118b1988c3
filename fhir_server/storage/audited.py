"""The audit as both backends keep it: rows in one chain of hashes.

Each row has the next number, a time that is never before that of the row before it, and the
SHA-256 of the hash before, its number, its time and its text. So a row that is changed, removed or
put elsewhere breaks the chain, and where the last hash is known, one that was cut off is missed.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

MOST_TARGETS: Final = 200
"""References that one row names; beyond, it has their count."""


class AuditRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request: who asked for what, and what came of it."""

    caller: str
    action: str
    """The interaction, or what a commit of the server itself does."""
    request_id: str = ""
    targets: tuple[str, ...] = ()
    """References, with versions, to what was shown, written or refused."""
    further: int = 0
    """Targets beyond those."""
    patients: tuple[str, ...] = ()
    """Ids of the patients whom the targets are about."""
    client: str = ""
    user: str = ""
    organisation: str = ""
    roles: tuple[str, ...] = ()
    purpose: str = ""
    break_glass: str = ""
    address: str = ""
    """Of the network, where the request came from."""
    asked: str = ""
    """Method, path and query."""
    outcome: str = "0"
    """http://hl7.org/fhir/R4/valueset-audit-event-outcome.html"""
    description: str = ""
    """Of a refusal."""
    received: tuple[str, ...] = ()
    """The AuditEvents of clients that the commit stored: `AuditEvent/id`, a space, and the SHA-256
    of the JSON, in hexadecimal digits."""


def received_of(row: AuditRow) -> list[tuple[str, str]]:
    """Types and ids of the AuditEvents that the row tells were received."""
    named = (one.partition(" ")[0].partition("/") for one in row.received)
    return [(resource_type, resource_id) for resource_type, _, resource_id in named]


@dataclass(frozen=True, slots=True)
class Link:
    """Where the chain has come to: a row's number, time (microseconds) and hash."""

    number: int = 0
    at: int = 0
    hash: bytes = bytes(32)

    def next(self, at: int, told: bytes) -> "Link":
        """The link of the row that comes after this one; its time is not before this one's."""
        number, at = self.number + 1, max(at, self.at)
        return Link(number, at, hash_of(self.hash, number, at, told))


def hash_of(before: bytes, number: int, at: int, told: bytes) -> bytes:
    """The hash of a row with that text after the one with that hash."""
    head = before + number.to_bytes(8, "big") + at.to_bytes(8, "big", signed=True)
    return hashlib.sha256(head + told).digest()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row in its place: `told` is its text as it is hashed."""

    link: Link
    told: bytes

    @property
    def row(self) -> AuditRow:
        """
        Raises:
            ValueError: for a text that nobody here has written.
        """
        return _reader.decode(self.told)


PRUNE: Final = "prune"
"""What a row says was done that tells of others taken out."""


def pruned(last: Link) -> AuditRow:
    """The row that tells up to which rows were taken out."""
    text = f"rows up to {last.number}, whose hash was {last.hash.hex()}"
    return AuditRow("server", PRUNE, description=text)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Rows with numbers above `after` and below `before`, made in `[low, high)`.

    `name`: they have this user, or `Patient/id` as one whom they are about.
    """

    name: str = ""
    low: int | None = None
    high: int | None = None
    after: int = 0
    before: int | None = None
    backwards: bool = False
    """The newest first."""


_reader: Final = msgspec.json.Decoder(AuditRow)
encode: Final = msgspec.json.Encoder().encode
"""The text of a row: the same for the same row."""


def names_of(row: AuditRow) -> set[str]:
    """What the row is found by: whom it is about, and the user who asked.

    Not its other targets: a page of a search has many, and each would cost as much as the row.
    """
    names = {f"Patient/{one}" for one in row.patients}
    if row.user:
        names.add(row.user)
    return names


@lru_cache(maxsize=4096)
def number_of(name: str) -> int:
    """A signed number of 64 bits for a name; two names may share one, so it only narrows."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
