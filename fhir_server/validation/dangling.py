"""References of a document or message that nothing outside the Bundle can answer.

Each address that nothing answers is told once, however many refer to it, and not where an entry
that R4 refuses may well be the one that is meant.

Source: https://hl7.org/fhir/R4/bundle.html#references.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.validation.containing import SELF_CONTAINED
from fhir_server.validation.places import Place, expression
from fhir_server.validation.report import Node, Report, add
from fhir_server.validation.resolving import Entries

_LOCAL: Final = ("urn:uuid:", "urn:oid:")
_FULL_URL: Final = frozenset({"", "fullUrl"})
_RESOURCE: Final = frozenset({"", "resource", "resource.resourceType"})
_MAX_SHOWN: Final = 5


def dangling(bundle: Node, place: Place, report: Report) -> None:
    entries = bundle.get("entry")
    if bundle.get("type") not in SELF_CONTAINED or not isinstance(entries, list):
        return
    known = report.entries(bundle)
    found: dict[str, list[Place]] = {}
    for index, entry in enumerate(entries):
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping):
            at = (((place, "entry"), index), "resource")
            for reference, where in _unanswered(resource, resource, at, known):
                found.setdefault(reference, []).append(where)
    if found:
        _tell(found, _unclear(entries, (place, "entry"), report), report)


def _unanswered(
    value: Any, source: Node, place: Place, known: Entries
) -> Iterator[tuple[str, Place]]:
    if isinstance(value, Mapping):
        reference = str(value.get("reference", ""))
        if reference.startswith(_LOCAL) and known.find(reference, source) is None:
            yield reference, (place, "reference")
        for name, inner in value.items():
            if isinstance(inner, Mapping | list):
                yield from _unanswered(inner, source, (place, name), known)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, Mapping | list):
                yield from _unanswered(inner, source, (place, index), known)


def _unclear(entries: list[Any], place: Place, report: Report) -> list[str]:
    """The fullUrls of entries that R4 refuses, '' where it is that which cannot be read."""
    found = []
    for index, entry in enumerate(entries):
        at = (place, index)
        if report.has_wrong(at, _FULL_URL | _RESOURCE):
            url = entry.get("fullUrl") if isinstance(entry, Mapping) else None
            is_read = isinstance(url, str) and not report.has_wrong(at, ("fullUrl",))
            found.append(str(url) if is_read else "")
    return found


def _tell(found: Mapping[str, list[Place]], unclear: list[str], report: Report) -> None:
    unread = unclear.count("")
    for reference, places in found.items():
        if reference in unclear:
            continue
        if unread:
            unread -= 1
            continue
        text = f"{reference[:100]} is no fullUrl of the Bundle, and nothing else knows it"
        add(report, places[0], text + _also(places[1:]), "not-found")


def _also(places: list[Place]) -> str:
    if not places:
        return ""
    more = f" and {len(places) - _MAX_SHOWN} more" if len(places) > _MAX_SHOWN else ""
    return f"; it is also referred to at {', '.join(map(expression, places[:_MAX_SHOWN]))}{more}"
