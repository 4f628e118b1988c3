"""Transactions as tests put them together."""

from typing import Any

import httpx

from tests.support import body, exact

CHILD = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000001"
PLAN = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000002"
NHS_NUMBER = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}
CRITERIA = f"identifier={NHS_NUMBER['system']}|{NHS_NUMBER['value']}"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [NHS_NUMBER],
    "name": [{"family": "Synthetic-Entry"}],
}

Entry = dict[str, Any]


def entry_of(method: str, url: str, resource: Any = None, full_url: str = "", **more: str) -> Entry:
    entry: Entry = {"request": {"method": method, "url": url, **more}}
    if resource is not None:
        entry["resource"] = resource
    if full_url:
        entry["fullUrl"] = full_url
    return entry


def plan_of(subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CarePlan",
        "status": "draft",
        "intent": "plan",
        "subject": {"reference": subject},
        **more,
    }


async def transact(client: httpx.AsyncClient, *entries: Entry) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    return await client.post("", **body(bundle))


async def stored_at(client: httpx.AsyncClient, response: httpx.Response, index: int) -> Any:
    assert response.status_code == 200, response.text
    location = response.json()["entry"][index]["response"]["location"]
    return exact(await client.get(location))
