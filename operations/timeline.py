"""Patient/$timeline: what happened to a young person, in order, as far as the caller may read it.

It looks through one record, type by type; a page is a piece of that, made anew each time.
"""

from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.dates import EARLIEST, LATEST, interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, reference_to
from operations._chronicle import TYPES, Happening, happenings

PAGED = True
SCOPES = tuple(f"{name}.rs" for name in ("Patient", *TYPES))
_SORTS: Final = ("date", "-date")
_USUAL: Final = 50


async def run(call: Call) -> Resource:
    asked, after = (_asked(call), None) if call.page is None else call.page
    found = await _all(call, asked)
    if after is not None:
        found = [one for one in found if _comes_after(one.place, after, asked["sort"])]
    shown = found[: asked["count"]]
    parameters = [{"name": "event", "part": _parts(one)} for one in shown]
    if len(found) > len(shown):
        address = call.link([asked, shown[-1].place])
        parameters.append({"name": "next", "valueUrl": address})
    return {"resourceType": "Parameters", "parameter": parameters} if parameters else _EMPTY


_EMPTY: Final[Resource] = {"resourceType": "Parameters"}


def _asked(call: Call) -> dict[str, Any]:
    """As it stands in the links.

    Raises:
        FhirError: INVALID.
    """
    given = call.parameters.one
    sort, count = str(given("_sort") or "date"), given("_count")
    if sort not in _SORTS:
        text = f"'{sort[:40]}' is not allowed; {', '.join(_SORTS)} are"
        raise FhirError.at(Kind.INVALID, "http._sort", text)
    if count is not None and count < 1:
        raise FhirError.at(Kind.INVALID, "http._count", f"'{count}' is no number of events")
    start, end = given("start"), given("end")
    low = interval(str(start)).low if start else EARLIEST
    high = interval(str(end)).high if end else LATEST
    if low >= high:
        raise FhirError.at(Kind.INVALID, "http.end", f"'{end}' is before '{start}'")
    most = min(_USUAL if count is None else count, call.limits.max_count)
    return {"low": low, "high": high, "sort": sort, "count": most}


async def _all(call: Call, asked: dict[str, Any]) -> list[Happening]:
    """All of the period, in order.

    Raises:
        FhirError: NOT_FOUND.
    """
    lookup = Lookup(call.session, base=call.base, now=call.now)
    if await lookup.get("Patient", call.id) is None:
        raise FhirError(Kind.NOT_FOUND, f"Patient/{call.id} is not known")
    found = [
        happening
        for name in TYPES
        for resource in await lookup.find(name, f"patient=Patient/{call.id}")
        for happening in happenings(resource)
        if asked["low"] <= interval(happening.time).low < asked["high"]
    ]
    return sorted(found, key=lambda one: one.place, reverse=asked["sort"] == "-date")


def _comes_after(place: list[Any], after: list[Any], sort: str) -> bool:
    return place < after if sort == "-date" else place > after


def _parts(one: Happening) -> list[dict[str, Any]]:
    return [
        {"name": "time", "valueDateTime": one.time},
        {"name": "what", "valueCode": one.what},
        {"name": "text", "valueString": one.text},
        {"name": "resource", "valueReference": {"reference": reference_to(one.resource)}},
    ]
