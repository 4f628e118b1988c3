"""What tests of the timers say and ask: days before and after today, and the Tasks that are due."""

from datetime import datetime, timedelta
from typing import Any

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import KEYWORKER, Chart, code_of, concept
from tests.operations.messages import JSON

NOW = datetime.now(LOCAL).replace(microsecond=0)
TODAY = NOW.date()


def days_ago(count: int) -> str:
    return (TODAY - timedelta(days=count)).isoformat()


def in_days(count: int) -> str:
    return (TODAY + timedelta(days=count)).isoformat()


def born(years: int, days: int = 0) -> str:
    """Of somebody whose birthday of that age was so many days ago; for 29 February, a day more."""
    day = TODAY - timedelta(days=days)
    if (day.month, day.day) == (2, 29):
        day -= timedelta(days=1)
    return day.replace(year=day.year - years).isoformat()


async def timers(chart: Chart, code: str, *statuses: str) -> list[JSON]:
    """Tasks of the code, by due date; those to be done, without statuses."""
    found = [
        task
        for task in await chart.all("Task")
        if code_of(task["code"]) == code and task["status"] in (statuses or ("requested",))
    ]
    return sorted(found, key=due)


def due(task: JSON) -> str:
    end: str = task["restriction"]["period"]["end"]
    return end


async def dues(chart: Chart, code: str, *statuses: str) -> list[str]:
    return [due(task) for task in await timers(chart, code, *statuses)]


async def complete(chart: Chart, task: JSON, day: str) -> None:
    await chart.write({**task, "status": "completed", "executionPeriod": {"end": day}})


async def begin(chart: Chart, **elements: Any) -> None:
    """Somebody who is known, and on no register yet."""
    await chart.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    patient = {"resourceType": "Patient", "id": "young-person", "birthDate": born(12, 100)}
    number = [{"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}]
    await chart.write({**patient, "identifier": number, **elements})


async def involve(chart: Chart, state: str = "plan-active", **elements: Any) -> JSON:
    episode = {
        "resourceType": "EpisodeOfCare",
        "id": "involvement",
        "extension": [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}],
        "status": "active",
        "type": [concept(canonicals.EPISODE_TYPE, "keyworking")],
        "patient": {"reference": chart.patient},
        "managingOrganization": {
            "identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "X99"}
        },
        "period": {"start": "2026-01-05"},
        "careManager": KEYWORKER,
    }
    return await chart.write({**episode, **elements})


async def by_parent(chart: Chart, **elements: Any) -> JSON:
    parent = {
        "resourceType": "RelatedPerson",
        "id": "mother",
        "patient": {"reference": chart.patient},
        "relationship": [concept(canonicals.ROLE_CODE, "MTH")],
    }
    await chart.write(parent)
    basis = concept(canonicals.NHS_PROXY_LEGAL_BASIS, "parental-responsibility")
    performer = [{"reference": "RelatedPerson/mother"}]
    told = {"policyRule": basis, "performer": performer, "dateTime": days_ago(90), **elements}
    provision = {"type": "permit", "period": {"start": days_ago(90), "end": in_days(9)}}
    return await chart.consent("register", provision=provision, **told)
