"""Asking for $oversight-report, and what its groups say."""

from typing import Any, Final

import httpx
from fhir.resources.R4B.measurereport import MeasureReport

from fhir_server.fhir import canonicals
from fhir_server.validation.structure import check_resource
from tests.operations.asking import got
from tests.operations.chart import concept
from tests.operations.messages import JSON

FIRST: Final = "2000-01-01"
LAST: Final = "2026-05-28"
"""The day after which nothing is told of the caseload."""
SUBJECT: Final = {"reference": "Patient/ov"}


async def reported(client: httpx.AsyncClient, query: str = "") -> JSON:
    answer = await got(client, f"$oversight-report?{query or f'start={FIRST}&end={LAST}'}")
    MeasureReport.model_validate(answer)
    assert check_resource(answer) == []
    return answer


def groups_of(answer: JSON) -> dict[str, JSON]:
    return {group["code"]["text"]: group for group in answer["group"]}


async def report(client: httpx.AsyncClient, query: str = "") -> dict[str, JSON]:
    return groups_of(await reported(client, query))


def strata(group: JSON, by: str) -> dict[str, int | None]:
    (found,) = [one for one in group["stratifier"] if one["code"][0]["text"] == by]
    return {one["value"]["text"]: one["population"][0].get("count") for one in found["stratum"]}


def counts(group: JSON) -> list[int | None]:
    return [one.get("count") for one in group["population"]]


def task(code: str, key: str, status: str, **elements: Any) -> JSON:
    return {
        "resourceType": "Task",
        "id": f"ov-{code}-{key}".lower(),
        "status": status,
        "intent": "order",
        "code": concept(canonicals.TIMER, code),
        "for": SUBJECT,
        "authoredOn": "2026-01-02",
        "restriction": {"period": {"end": "2026-03-10"}},
        **elements,
    }
