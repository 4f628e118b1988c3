"""A tally as a MeasureReport: https://hl7.org/fhir/R4/measurereport.html."""

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from operations._suppression import is_share_small, is_small, kept_back
from operations._tally import Period, Sum, Tally
from operations.caseload import load_of

_POPULATION: Final = "http://terminology.hl7.org/CodeSystem/measure-population"
MEASURE: Final = f"{canonicals.KW}/Measure/oversight"
"""Defines each group: `profiles/measures/oversight.json`."""
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


def report(tally: Tally, period: Period, now: int, bounds: Pathway) -> Resource:
    least = bounds.small_number
    groups = [
        *(_counted(name, tally, least) for name in sorted(tally.counts)),
        *(_share(name, tally, least) for name in sorted(tally.shares)),
        *(_days(name, tally, least) for name in sorted(tally.days)),
        _caseloads(tally, bounds),
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


def _counted(name: str, tally: Tally, least: int) -> Resource:
    total = tally.counts[name]
    hidden = is_small(total, least)
    strata = {by: parts for (measure, by), parts in sorted(tally.parts.items()) if measure == name}
    group: Resource = {
        "code": _measure(name),
        "population": [_population("initial-population", None if hidden else total)],
    }
    if strata and not hidden:
        group["stratifier"] = [_stratifier(by, parts, least) for by, parts in strata.items()]
    return group


def _stratifier(by: str, parts: Mapping[str, int], least: int) -> Resource:
    back = kept_back(parts, least)
    found: list[dict[str, Any]] = [
        {
            "value": {"text": stratum},
            "population": [
                _population("initial-population", None if stratum in back else parts[stratum])
            ],
        }
        for stratum in sorted(parts)
    ]
    return {"code": [_stratum_code(by)], "stratum": found}


def _share(name: str, tally: Tally, least: int) -> Resource:
    part, whole = tally.shares[name]
    hidden = is_share_small(part, whole, least) or _is_told_by_another(name, tally, least)
    group: Resource = {
        "code": _measure(name),
        "population": [
            _population("numerator", None if hidden else part),
            _population("denominator", None if hidden else whole),
        ],
    }
    if whole and not hidden:
        group["measureScore"] = {"value": round(100 * part / whole, 1), "unit": "%"}
    return group


def _is_told_by_another(name: str, tally: Tally, least: int) -> bool:
    """Whether the difference between this share and the wider one is a small number."""
    wider = tally.shares.get(_NESTED.get(name, ""))
    return wider is not None and is_small(wider[0] - tally.shares[name][0], least)


def _days(name: str, tally: Tally, least: int) -> Resource:
    found = tally.days[name]
    hidden = is_small(found[1], least)
    strata = {by: parts for (measure, by), parts in tally.day_parts.items() if measure == name}
    group: Resource = {"code": _measure(name), **_mean(found, hidden=hidden)}
    if strata and not hidden:
        group["stratifier"] = [
            _day_stratifier(by, parts, least) for by, parts in sorted(strata.items())
        ]
    return group


def _day_stratifier(by: str, parts: Mapping[str, Sum], least: int) -> Resource:
    back = kept_back({stratum: count for stratum, (_, count) in parts.items()}, least)
    found = [
        {"value": {"text": stratum}, **_mean(parts[stratum], hidden=stratum in back)}
        for stratum in sorted(parts)
    ]
    return {"code": [_stratum_code(by)], "stratum": found}


def _mean(found: Sum, *, hidden: bool) -> Resource:
    total, count = found
    told: Resource = {"population": [_population("measure-population", None if hidden else count)]}
    if count and not hidden:
        told["measureScore"] = {"value": round(total / count, 1), "unit": "days"}
    return told


def _caseloads(tally: Tally, bounds: Pathway) -> Resource:
    """Of keyworkers, who are not kept back: their numbers are no secret."""
    loads = {"green": 0, "amber": 0, "red": 0}
    for count in tally.keyworkers.values():
        loads[load_of(count, bounds)] += 1
    found = [
        {"value": {"text": load}, "population": [_population("initial-population", count)]}
        for load, count in loads.items()
    ]
    return {
        "code": _measure("caseloads"),
        "population": [_population("initial-population", len(tally.keyworkers))],
        "stratifier": [{"code": [_stratum_code("load")], "stratum": found}],
    }


def _measure(name: str) -> Resource:
    return _concept(canonicals.OVERSIGHT_MEASURE, name)


def _stratum_code(name: str) -> Resource:
    return _concept(canonicals.OVERSIGHT_STRATIFIER, name)


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}], "text": code}


def _population(code: str, count: int | None) -> Resource:
    concept = {"coding": [{"system": _POPULATION, "code": code}]}
    return {"code": concept, **({"_count": _HIDDEN} if count is None else {"count": count})}
