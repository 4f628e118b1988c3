"""A tally as a MeasureReport: https://hl7.org/fhir/R4/measurereport.html."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from operations._oversight import IN_TIME, WAYS
from operations._tally import Period, Sum, Tally
from operations._telling import Parts, Telling
from operations.caseload import load_of

_POPULATION: Final = "http://terminology.hl7.org/CodeSystem/measure-population"
MEASURE: Final = f"{canonicals.KW}/Measure/oversight"
"""Defines each group: `profiles/measures/oversight.json`."""
COUNTED: Final = (
    *("admissions", "admissions-avoided", "clinically-ready", "consents", "episodes", "goals"),
    "tasks-overdue",
)
SHARES: Final = (
    *("admissions-without-cetr", "readmissions-30", "readmissions-90"),
    *(f"in-time-{code}" for code in IN_TIME),
)
DAYS: Final = ("length-of-stay", "days-clinically-ready", *WAYS)
_NESTED: Final = {"readmissions-30": "readmissions-90"}
"""Shares of the same whole, of which the one is a part of the other."""
_HIDDEN: Final = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "masked",
        }
    ]
}


def report(tally: Tally, period: Period, now: int, bounds: Pathway, telling: Telling) -> Resource:
    groups = [
        *(_counted(name, tally, telling) for name in _names(tally.counts, COUNTED, telling)),
        *(_share(name, tally, telling) for name in _names(tally.shares, SHARES, telling)),
        *(_days(name, tally, telling) for name in _names(tally.days, DAYS, telling)),
        _caseloads(tally, bounds, telling.staff),
    ]
    return {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "summary",
        "measure": MEASURE,
        "date": instant(now),
        "period": {"start": instant(period.low), "end": instant(period.high)},
        "group": groups,
    }


def _names(found: Iterable[str], every: Iterable[str], telling: Telling) -> list[str]:
    return sorted(every if telling.none_is_few else found)


def _counted(name: str, tally: Tally, telling: Telling) -> Resource:
    strata = {by: parts for (measure, by), parts in sorted(tally.parts.items()) if measure == name}
    return _group(name, tally.counts.get(name, 0), strata, telling)


def _group(name: str, total: int, strata: Mapping[str, Parts], telling: Telling) -> Resource:
    told = telling.count(total)
    group: Resource = {
        "code": _measure(name),
        "population": [_population("initial-population", told)],
    }
    divided = [_stratifier(by, telling.parts(parts)) for by, parts in strata.items()]
    if told is not None and (shown := [one for one in divided if one["stratum"]]):
        group["stratifier"] = shown
    return group


def _stratifier(by: str, told: Mapping[str, int | None]) -> Resource:
    found: list[dict[str, Any]] = [
        {
            "value": {"text": stratum},
            "population": [_population("initial-population", told[stratum])],
        }
        for stratum in sorted(told)
    ]
    return {"code": [_stratum_code(by)], "stratum": found}


def _share(name: str, tally: Tally, telling: Telling) -> Resource:
    part, whole = tally.shares.get(name, (0, 0))
    wider = tally.shares.get(_NESTED.get(name, ""))
    told = telling.share(part, whole, wider[0] if wider else None)
    numerator, denominator = told or (None, None)
    group: Resource = {
        "code": _measure(name),
        "population": [
            _population("numerator", numerator),
            _population("denominator", denominator),
        ],
    }
    if numerator is not None and denominator:
        group["measureScore"] = {"value": round(100 * numerator / denominator, 1), "unit": "%"}
    return group


def _days(name: str, tally: Tally, telling: Telling) -> Resource:
    found = tally.days.get(name, Sum())
    told = telling.count(found.count)
    strata = {by: parts for (measure, by), parts in tally.day_parts.items() if measure == name}
    group: Resource = {"code": _measure(name), **_mean(found, told, telling)}
    divided = [_day_stratifier(by, parts, telling) for by, parts in sorted(strata.items())]
    if told is not None and (shown := [one for one in divided if one["stratum"]]):
        group["stratifier"] = shown
    return group


def _day_stratifier(by: str, parts: Mapping[str, Sum], telling: Telling) -> Resource:
    told = telling.parts({stratum: found.count for stratum, found in parts.items()})
    found = [
        {"value": {"text": stratum}, **_mean(parts[stratum], told[stratum], telling)}
        for stratum in sorted(told)
    ]
    return {"code": [_stratum_code(by)], "stratum": found}


def _mean(found: Sum, told: int | None, telling: Telling) -> Resource:
    group: Resource = {"population": [_population("measure-population", told)]}
    if told:
        group["measureScore"] = {"value": telling.mean(found), "unit": "days"}
    return group


def _caseloads(tally: Tally, bounds: Pathway, telling: Telling) -> Resource:
    loads = {"green": 0, "amber": 0, "red": 0}
    for count in tally.keyworkers.values():
        loads[load_of(count, bounds)] += 1
    return _group("caseloads", len(tally.keyworkers), {"load": loads}, telling)


def _measure(name: str) -> Resource:
    return _concept(canonicals.OVERSIGHT_MEASURE, name)


def _stratum_code(name: str) -> Resource:
    return _concept(canonicals.OVERSIGHT_STRATIFIER, name)


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}], "text": code}


def _population(code: str, count: int | None) -> Resource:
    concept = {"coding": [{"system": _POPULATION, "code": code}]}
    return {"code": concept, **({"_count": _HIDDEN} if count is None else {"count": count})}
