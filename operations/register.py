"""$register: the Dynamic Support Register of an area at one moment, page by page.

Each row is what its caller may see of it: a signatory of the register sees the colour alone, a
commissioner nobody (docs/access.md).
"""

from collections.abc import Iterator
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.bundles import Entry as BundleEntry
from fhir_server.fhir.bundles import bundle
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call, Written
from operations._area import organisations
from operations._csv import CSV, table
from operations._register import BY_NAME, BY_REVIEW, ORDER, Asked, Entry, Place, page

PAGED = True
MEDIA = (CSV,)
SCOPES = ("Flag.rs", "Patient.rs")
_SORTS: Final = ("rating", "-rating", "since", BY_REVIEW, BY_NAME)
_USUAL: Final = 50
_COLUMNS: Final = (
    *("patient", "nhs-number", "family", "given", "birth-date"),
    *("rating", "since", "next-review", "overdue"),
)


async def run(call: Call) -> bytes | Written:
    asked, place = await _begun(call)
    entries, further = await page(call, asked, place)
    rest = call.link([asked.kept(), further.step, further.after]) if further else ""
    if call.media == CSV:
        return table(_COLUMNS, map(_row, entries), further=rest)
    links = [("next", rest)] if rest else []
    itself = f"{call.base}/{call.address}" + (f"?{call.query}" if call.query else "")
    found = [one for entry in entries for one in _rendered(call.base, entry)]
    return bundle("searchset", found, links=[("self", itself), *links])


async def _begun(call: Call) -> tuple[Asked, Place]:
    if call.page is None:
        return await _asked(call), Place()
    kept, step, after = call.page
    return Asked.of(kept), Place(step, None if after is None else tuple(after))


async def _asked(call: Call) -> Asked:
    """What the parameters ask for.

    Raises:
        FhirError: INVALID.
    """
    given = call.parameters.one
    area = f"Organization/{call.id}" if call.id else str(given("area") or "")
    at = given("at")
    moment = call.now if at is None else interval(str(at)).low
    if moment > call.now:
        raise FhirError.at(Kind.INVALID, "http.at", f"'{at}' is yet to come")
    return Asked(
        areas=await organisations(call, area),
        ratings=_among("rating", call.parameters.all("rating") or ORDER, ORDER),
        at=moment,
        is_past=at is not None,
        sort=_among("_sort", (given("_sort") or "rating",), _SORTS)[0],
        overdue=given("overdue"),
        count=_count(call),
    )


def _count(call: Call) -> int:
    count = call.parameters.one("_count")
    if count is not None and count < 1:
        raise FhirError.at(Kind.INVALID, "http._count", f"'{count}' is no number of rows")
    return min(_USUAL if count is None else count, call.limits.max_count)


def _among(name: str, values: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value not in allowed:
            text = f"'{str(value)[:40]}' is not allowed; {', '.join(allowed)} are"
            raise FhirError.at(Kind.INVALID, f"http.{name}", text)
    return tuple(dict.fromkeys(values))


def _rendered(base: str, entry: Entry) -> Iterator[BundleEntry]:
    """The rating, with what the register says of it, whose it is, and the review."""
    search = {"extension": [_said(entry)], "mode": "match"}
    for version, how in (
        (entry.rating, search),
        (entry.patient, {"mode": "include"}),
        (entry.review, {"mode": "include"}),
    ):
        if version is not None:
            address = f"{base}/{version.type}/{version.id}"
            yield BundleEntry(address, version.body, {"search": how})


def _said(entry: Entry) -> Resource:
    parts: list[Resource] = [{"url": "rating", "valueCode": entry.colour}]
    if entry.since:
        parts.append({"url": "since", "valueDateTime": entry.since})
    if entry.due:
        parts.append({"url": "next-review", "valueDateTime": entry.due})
        parts.append({"url": "overdue", "valueBoolean": entry.overdue})
    return {"url": canonicals.REGISTER_ENTRY_EXTENSION, "extension": parts}


def _row(entry: Entry) -> list[str]:
    patient = json.decode_own(entry.patient.body) if entry.patient else {}
    name: Resource = next(iter(patient.get("name", ())), {})
    number = next(
        (
            str(one.get("value", ""))
            for one in patient.get("identifier", ())
            if one.get("system") == canonicals.NHS_NUMBER
        ),
        "",
    )
    overdue = ("true" if entry.overdue else "false") if entry.due else ""
    return [
        str(patient.get("id", "")),
        number,
        str(name.get("family", "")),
        " ".join(name.get("given", ())),
        str(patient.get("birthDate", "")),
        entry.colour,
        entry.since,
        entry.due,
        overdue,
    ]
