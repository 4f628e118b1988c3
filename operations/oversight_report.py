"""$oversight-report: the measures of the service in a period, with no person in them.

It walks through the area a hundred young people at a time, and keeps counts alone. Of what was
written again since the period ended it asks for the version of then.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final

from fhir_server.access.caller import Role
from fhir_server.access.session import Data, HistoryOf, Position, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.records import walked
from fhir_server.search.ast import (
    LAST_UPDATED,
    DateCompares,
    Everything,
    Node,
    Prefix,
    Query,
    ReferenceTo,
    disjunction,
)
from operations._area import organisations
from operations._measure_report import report
from operations._oversight import AS_AT, TYPES, add
from operations._person import local_day
from operations._tally import Period, Tally, Told
from operations._telling import AsTheyAre, Rounded, Telling

AS_SERVICE: Final = "a report that holds counts alone"
"""Whoever oversees the service may see nobody, and so could count nobody either."""
SCOPES = ("MeasureReport.rs",)
_AT_ONCE: Final = 100
_MOST: Final = 20_000
"""Young people whom one report looks at."""


async def run(call: Call) -> Resource:
    _require_overseer(call)
    asked, telling = _period(call), _telling(call)
    if telling.none_is_few:
        _require_whole(local_day(asked.low), local_day(asked.high - 1), local_day(call.now))
    period = replace(asked, high=min(asked.high, call.now))
    area = f"Organization/{call.id}" if call.id else str(call.parameters.one("area") or "")
    areas = await organisations(call, area)
    data, tally = call.as_service(), Tally()
    looked_at = 0
    async for patients in _patients(data, areas, period.high):
        looked_at += len(patients)
        if looked_at > _MOST:
            raise FhirError(Kind.TOO_COSTLY, f"More than {_MOST} young people; narrow the area")
        records = await _records(data, patients, period.high)
        for patient in patients:
            add(tally, patient, records[patient["id"]], period, call.pathway)
            await asyncio.sleep(0)  # a record is little, a region is much: others go in between
    data.shows(())
    return report(tally, asked, call.now, call.pathway, telling)


def _require_overseer(call: Call) -> None:
    if not call.session.is_open and Role.COMMISSIONER not in call.session.caller.roles:
        text = "The report is for whoever oversees the service: a token with the role commissioner"
        raise FhirError(Kind.FORBIDDEN, text)


def _telling(call: Call) -> Telling:
    pathway, is_open = call.pathway, call.session.is_open
    if pathway.rounded_reports and not is_open and pathway.small_number > 1:
        return Rounded(pathway.small_number)
    return AsTheyAre(pathway.small_number)


def _require_whole(first: date, last: date, today: date) -> None:
    """Periods that overlap as one likes, or end today, would tell by difference when each came.

    Raises:
        FhirError: INVALID.
    """
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    is_of_months = first.day == 1 and (last + timedelta(days=1)).day == 1
    is_week = first.isoweekday() == 1 and last - first == timedelta(days=6)
    begins = {1: 1, 3: 3, 12: 1}.get(months) if is_of_months else None
    if last < today and (is_week or (begins and (first.month - 1) % begins == 0)):
        return
    text = (
        f"{first} to {last} is not allowed; a week from Monday, a month, a quarter or twelve "
        "months that are over are, as with others one could tell by difference who it is about"
    )
    raise FhirError.at(Kind.INVALID, "http.end", text)


def _period(call: Call) -> Period:
    """From the days given, else the week or month that was over last.

    Raises:
        FhirError: INVALID.
    """
    given = call.parameters.one
    start, end, snapshot = given("start"), given("end"), given("snapshot")
    if snapshot is not None and (start or end):
        text = "A snapshot has its own days: give it, or 'start' and 'end'"
        raise FhirError.at(Kind.INVALID, "http.snapshot", text)
    if snapshot is not None or not (start or end):
        first, last = _snapshot(str(snapshot or "month"), local_day(call.now))
        start, end = first.isoformat(), last.isoformat()
    if not (start and end):
        raise FhirError.at(Kind.INVALID, "http.end", "'start' and 'end' come together")
    low, high = interval(str(start)).low, interval(str(end)).high
    if low >= high:
        raise FhirError.at(Kind.INVALID, "http.end", f"'{end}' is before '{start}'")
    if low >= call.now:
        raise FhirError.at(Kind.INVALID, "http.start", f"'{start}' is yet to come")
    return Period(low, high)


def _snapshot(kind: str, today: date) -> tuple[date, date]:
    """First and last day: a week ends with its Sunday, a month with its last day."""
    if kind == "week":
        sunday = today - timedelta(days=today.isoweekday())
        return sunday - timedelta(days=6), sunday
    if kind == "month":
        last = today.replace(day=1) - timedelta(days=1)
        return last.replace(day=1), last
    text = f"'{kind[:40]}' is not allowed; week and month are"
    raise FhirError.at(Kind.INVALID, "http.snapshot", text)


async def _patients(data: Data, areas: Sequence[str], at: int) -> AsyncIterator[list[Resource]]:
    """As they were at that moment: those of the area then, wherever they are by now."""
    query, after = Query("Patient", _candidates(areas, at)), None
    while True:
        position: Position | None = after
        page = await data.search(query, _AT_ONCE, position)
        told = [await _then(data, one, at) or json.decode_own(one.body) for one in page.matches]
        if found := [one for one in told if not areas or _managed_by(one) in areas]:
            yield found
        if page.after is None:
            return
        after = page.after


def _candidates(areas: Sequence[str], at: int) -> Node:
    """Of the area now, or written since: they may have been of it then."""
    if not areas:
        return Everything()
    written_since = DateCompares(LAST_UPDATED, Prefix.GE, at, at + 1)
    return disjunction(ReferenceTo("organization", tuple(areas)), written_since)


def _managed_by(patient: Resource) -> str:
    return str(patient.get("managingOrganization", {}).get("reference", ""))


async def _records(
    data: Data, patients: Sequence[Resource], at: int
) -> dict[str, dict[str, list[Told]]]:
    """Their records by id and type: a question a type, for all of them."""
    about = ReferenceTo("patient", tuple(f"Patient/{one['id']}" for one in patients))
    found: dict[str, dict[str, list[Told]]] = {
        one["id"]: {name: [] for name in TYPES} for one in patients
    }
    for name in TYPES:
        async for version in walked(data, Query(name, about)):
            resource = json.decode_own(version.body)
            whose = _whose(resource)
            if whose in found:
                then = await _then(data, version, at) if name in AS_AT else None
                found[whose][name].append(Told(resource, then or resource))
    return found


async def _then(data: Data, version: StoredVersion, at: int) -> Resource | None:
    """As it was at that moment, or when it was first told; None where that is as it is now."""
    if version.version == 1 or version.last_updated < at:
        return None
    scope = HistoryOf(version.type, version.id, at=(at - 1, at))
    held = [entry.stored for entry in await data.history(scope, 1)]
    first = held[0] if held else await data.vread(version.type, version.id, 1)
    return None if first is None or first.deleted else json.decode_own(first.body)


def _whose(resource: Resource) -> str:
    for element in ("subject", "patient", "for"):
        local = parse_relative(resource.get(element, {}).get("reference", ""))
        if local is not None:
            return local.id
    return ""
