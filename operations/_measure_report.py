"""A tally as a MeasureReport: https://hl7.org/fhir/R4/measurereport.html."""

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from operations._oversight import Period, Tally
from operations._suppression import is_share_small, is_small, kept_back
from operations.caseload import load_of

_POPULATION: Final = "http://terminology.hl7.org/CodeSystem/measure-population"
_HIDDEN: Final = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "masked",
        }
    ]
}


def report(tally: Tally, period: Period, measure: str, now: int, bounds: Pathway) -> Resource:
    """`measure` is the canonical address of what is measured."""
    least = bounds.small_number
    groups = [
        *(_counted(name, tally, least) for name in sorted(tally.counts)),
        *(_share(name, *tally.shares[name], least) for name in sorted(tally.shares)),
        *(_days(name, *tally.days[name], least) for name in sorted(tally.days)),
        _caseloads(tally, bounds),
    ]
    return {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "summary",
        "measure": measure,
        "date": instant(now),
        "period": {"start": instant(period.low), "end": instant(period.high)},
        "group": groups,
    }


def _counted(name: str, tally: Tally, least: int) -> Resource:
    total = tally.counts[name]
    hidden = is_small(total, least)
    strata = {by: parts for (measure, by), parts in sorted(tally.parts.items()) if measure == name}
    group: Resource = {
        "code": {"text": name},
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
    return {"code": [{"text": by}], "stratum": found}


def _share(name: str, part: int, whole: int, least: int) -> Resource:
    hidden = is_share_small(part, whole, least)
    group: Resource = {
        "code": {"text": name},
        "population": [
            _population("numerator", None if hidden else part),
            _population("denominator", None if hidden else whole),
        ],
    }
    if whole and not hidden:
        group["measureScore"] = {"value": round(100 * part / whole, 1), "unit": "%"}
    return group


def _days(name: str, total: float, count: int, least: int) -> Resource:
    hidden = is_small(count, least)
    group: Resource = {
        "code": {"text": name},
        "population": [_population("measure-population", None if hidden else count)],
    }
    if count and not hidden:
        group["measureScore"] = {"value": round(total / count, 1), "unit": "days"}
    return group


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
        "code": {"text": "caseloads"},
        "population": [_population("initial-population", len(tally.keyworkers))],
        "stratifier": [{"code": [{"text": "load"}], "stratum": found}],
    }


def _population(code: str, count: int | None) -> Resource:
    concept = {"coding": [{"system": _POPULATION, "code": code}]}
    return {"code": concept, **({"_count": _HIDDEN} if count is None else {"count": count})}
