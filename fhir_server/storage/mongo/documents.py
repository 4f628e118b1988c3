"""Versions and index entries as documents.

A version of a resource is one document. The current one carries the index entries, in three
arrays: `t` for texts (token, reference, URI, string), `r` for ranges (date, number, quantity)
and `g` for the groups of composites. Field names are fixed and short; whatever comes from a
resource or a request is a value, never a name.
"""

from collections.abc import Iterable
from typing import Any, Final

import bson

from fhir_server.errors import FhirError, Kind
from fhir_server.search.values import (
    CompositeValue,
    DateValue,
    IndexValue,
    NumberValue,
    PlainValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)
from fhir_server.storage.interface import HistoryEntry, StoredVersion
from fhir_server.storage.mongo.driver import Document

TEXTS: Final = "t"
RANGES: Final = "r"
GROUPS: Final = "g"
ENTRIES: Final = (TEXTS, RANGES, GROUPS)

MOST: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a document, with room for what its update adds. MongoDB's limit is 16 MiB:
https://www.mongodb.com/docs/manual/reference/limits/"""
_SURELY_SMALL: Final = 256 * 1024


def name_of(resource_type: str, resource_id: str) -> str:
    """The field `resource`: what the versions of one resource have in common."""
    return f"{resource_type}/{resource_id}"


def part(index: int) -> str:
    """The field of a group with what stands for the component of that number."""
    return f"c{index}"


def document_of(stored: StoredVersion, seq: int, first: int, *, created: bool) -> Document:
    """Without entries.

    Args:
        seq: its number in the order of all commits.
        first: the number of the resource's first version: searches without a sort go by it.
        created: there was nothing before it, or a deletion.
    """
    resource = name_of(stored.type, stored.id)
    return {
        "_id": f"{resource}/{stored.version}",
        "resource": resource,
        "type": stored.type,
        "id": stored.id,
        "version": stored.version,
        "seq": seq,
        "first": first,
        "updated": stored.last_updated,
        "method": stored.method,
        "body": stored.body,
        "created": created,
    }


def require_fit(document: Document) -> None:
    """Raises FhirError TOO_LARGE for what MongoDB would not take."""
    if len(document["body"]) <= _SURELY_SMALL:
        return
    size = len(bson.encode(document))
    if size > MOST:
        raise FhirError(
            Kind.TOO_LARGE,
            f"{document['resource']} is {size} bytes with what searches find it by, and this store "
            f"takes up to {MOST}; keep large content in a Binary or DocumentReference of its own",
        )


def version_of(document: Document) -> StoredVersion:
    return StoredVersion(
        document["type"],
        document["id"],
        document["version"],
        document["updated"],
        document["method"],
        document["body"],
    )


def history_entry_of(document: Document) -> HistoryEntry:
    return HistoryEntry(version_of(document), document["seq"], document["created"])


def entries(values: Iterable[tuple[str, IndexValue]]) -> dict[str, list[Document]]:
    """The arrays that are not empty."""
    found: dict[str, list[Document]] = {}
    for code, value in values:
        array = GROUPS if isinstance(value, CompositeValue) else array_of(value)
        found.setdefault(array, []).append({"p": code, **_entry(value)})
    return found


def array_of(value: PlainValue) -> str:
    return RANGES if isinstance(value, DateValue | NumberValue | QuantityValue) else TEXTS


def _entry(value: IndexValue) -> dict[str, Any]:
    """`c` is the text to find it by, `l` and `h` are the ends of a range."""
    match value:
        case TokenValue(system, code):
            return {"c": code, "s": system}
        case ReferenceValue(target, version):
            return {"c": target, "v": version}
        case UriValue(uri):
            return {"c": uri}
        case StringValue(text, exact):
            return {"c": text, "x": exact}
        case DateValue(low, high):
            return {"l": low, "h": high}
        case NumberValue(low_number, high_number):
            return {"l": low_number, "h": high_number}
        case QuantityValue(low_number, high_number, system, code, unit):
            return {"l": low_number, "h": high_number, "s": system, "c": code, "u": unit}
        case CompositeValue(parts):
            return {
                part(index): [_entry(one) for one in values] for index, values in enumerate(parts)
            }
