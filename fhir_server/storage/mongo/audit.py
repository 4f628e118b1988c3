"""The audit's rows as documents.

The end of their chain is in the document that every commit begins with a write to: commits are one
after the other there, and so is the chain, however many processes write.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pymongo import DeleteMany, UpdateOne

from fhir_server.storage.audited import (
    AuditEntry,
    AuditQuery,
    AuditRow,
    Link,
    encode,
    names_of,
    number_of,
    received_of,
)
from fhir_server.storage.mongo.documents import name_of
from fhir_server.storage.mongo.driver import Document, Operation

COLLECTION: Final = "trail"
END: Final = "audit"
"""The field of the document `commit` with the end of the chain."""
BEGIN: Final = "audit_begin"
"""Its field with the last row that retention took out."""
FORWARDS: Final = (("_id", 1),)
BACKWARDS: Final = (("_id", -1),)


def chained(link: Link, rows: Sequence[tuple[AuditRow, int]]) -> tuple[list[Document], Link]:
    """The documents of rows, each with its time, that come after a link; and the last link."""
    documents: list[Document] = []
    for row, at in rows:
        told = encode(row)
        link = link.next(at, told)
        names = sorted({number_of(name) for name in names_of(row)})
        documents.append({**_document(link), "told": told, "names": names})
    return documents, link


def _document(link: Link) -> Document:
    return {"_id": link.number, "at": link.at, "hash": link.hash}


def end_of(link: Link) -> Document:
    """The end of the chain, as it is kept."""
    return {"number": link.number, "at": link.at, "hash": link.hash}


def link_of(end: Document | None) -> Link:
    return Link() if end is None else Link(end["number"], end["at"], bytes(end["hash"]))


def entry_of(document: Document) -> AuditEntry:
    link = Link(document["_id"], document["at"], bytes(document["hash"]))
    return AuditEntry(link, bytes(document["told"]))


def taken_out(first: Sequence[AuditEntry]) -> list[tuple[str, list[Operation]]]:
    """What takes out the first rows that there are, by collection; where they ended is kept.

    The AuditEvents that they tell were received go with them.
    """
    numbers = {"$gte": first[0].link.number, "$lte": first[-1].link.number}
    names: list[str] = []
    for entry in first:
        with suppress(ValueError):
            names += [name_of(*one) for one in received_of(entry.row)]
    begin = UpdateOne({"_id": {"$eq": "commit"}}, {"$set": {BEGIN: end_of(first[-1].link)}})
    return [
        (COLLECTION, [DeleteMany({"_id": numbers})]),
        ("version", [DeleteMany({"resource": {"$eq": name}}) for name in names]),
        ("setting", [begin]),
    ]


def asked_of(asked: AuditQuery) -> Document:
    """The filter that finds those rows."""
    number: Document = {"$gt": asked.after}
    if asked.before is not None:
        number["$lt"] = asked.before
    found: Document = {"_id": number}
    if asked.name:
        found["names"] = {"$eq": number_of(asked.name)}
    times = {"$gte": asked.low, "$lt": asked.high}
    within = {operator: moment for operator, moment in times.items() if moment is not None}
    return {**found, "at": within} if within else found
