"""Versions and index entries as documents.

A version of a resource is one document. The current one carries the index entries, in three
arrays: `t` for texts (token, reference, URI, string), `r` for ranges (date, number, quantity) and
positions, and `g` for the groups of composites; in `i` the contained resources, each with such
arrays; and the words of its text, `w` each once, `n` and `o` in their order, of the narrative
and of all else. Field names are fixed and short; whatever comes
from a resource or a request is a value, never a name.
"""

from collections.abc import Iterable
from typing import Any, Final

import bson

from fhir_server.errors import FhirError, Kind
from fhir_server.search.fulltext import NARRATIVE
from fhir_server.search.values import (
    CompositeValue,
    ContainedValue,
    DateValue,
    IndexValue,
    NumberValue,
    PlainValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from fhir_server.search.words import MARK
from fhir_server.storage.interface import HistoryEntry, StoredVersion
from fhir_server.storage.mongo.driver import Document

TEXTS: Final = "t"
RANGES: Final = "r"
GROUPS: Final = "g"
CONTAINED: Final = "i"
WORDS: Final = "w"
NARRATIVE_WORDS: Final = "n"
OTHER_WORDS: Final = "o"
ARRAYS: Final = (TEXTS, RANGES, GROUPS)
ENTRIES: Final = (*ARRAYS, CONTAINED, WORDS, NARRATIVE_WORDS, OTHER_WORDS)

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


def entries(values: Iterable[tuple[str, IndexValue]]) -> Document:
    """The fields that the current version has beside the others; none is empty."""
    found: dict[str, Any] = {}
    texts: list[tuple[str, str]] = []
    for code, value in values:
        match value:
            case TextValue(words):
                texts.append((code, words))
            case ContainedValue(inner_id, inner):
                one = {"p": code, "id": inner_id, **entries(inner)}
                found.setdefault(CONTAINED, []).append(one)
            case _:
                found.setdefault(_array_of(value), []).append({"p": code, **_entry(value)})
    return {**found, **_words(texts)}


def _words(texts: list[tuple[str, str]]) -> Document:
    narrative = [words for code, words in texts if code == NARRATIVE]
    others = [words for code, words in texts if code != NARRATIVE and words not in narrative]
    each = {word: None for words in (*narrative, *others) for word in words.split()}
    each.pop(MARK, None)
    fields: Document = {NARRATIVE_WORDS: _padded(narrative), OTHER_WORDS: _padded(others)}
    return {name: found for name, found in {WORDS: [*each], **fields}.items() if found}


def _padded(texts: list[str]) -> str:
    """With a space before and after each word."""
    return f" {f' {MARK} '.join(texts)} " if texts else ""


def _array_of(value: PlainValue | CompositeValue) -> str:
    match value:
        case CompositeValue():
            return GROUPS
        case DateValue() | NumberValue() | QuantityValue() | PositionValue():
            return RANGES
        case _:
            return TEXTS


def _entry(value: PlainValue | CompositeValue) -> dict[str, Any]:
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
        case PositionValue(latitude, longitude):
            return {"l": latitude, "h": longitude}
        case QuantityValue(low_number, high_number, system, code, unit):
            return {"l": low_number, "h": high_number, "s": system, "c": code, "u": unit}
        case CompositeValue(parts):
            return {
                part(index): [_entry(one) for one in values] for index, values in enumerate(parts)
            }
