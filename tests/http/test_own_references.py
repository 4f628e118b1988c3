"""References to this server by its full address: https://hl7.org/fhir/R4/references.html#literal"""

from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from tests.support import found_ids, put


def _flag(reference: str) -> dict[str, Any]:
    return {
        "resourceType": "Flag",
        "id": "f1",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }


@pytest.fixture(params=["Patient/p1", "Patient/p1/_history/1"])
async def relative(client: httpx.AsyncClient, request: pytest.FixtureRequest) -> str:
    await put(client, {"resourceType": "Patient", "id": "p1", "active": True})
    return str(request.param)


async def test_are_kept_relative_to_it(
    client: httpx.AsyncClient, settings: Settings, relative: str
) -> None:
    stored = await put(client, _flag(f"{settings.base}/{relative}"))
    assert stored["subject"]["reference"] == relative


@pytest.mark.parametrize(
    "search",
    [
        "subject=p1",
        "subject=Patient/p1",
        "patient=p1",
        "subject:Patient=p1",
        "subject={base}/Patient/p1",
    ],
)
async def test_are_found_in_every_form(
    client: httpx.AsyncClient, settings: Settings, relative: str, search: str
) -> None:
    await put(client, _flag(f"{settings.base}/{relative}"))
    assert await found_ids(client, f"Flag?{search.format(base=settings.base)}") == ["f1"]


async def test_come_along_by_both_kinds_of_include(
    client: httpx.AsyncClient, settings: Settings, relative: str
) -> None:
    await put(client, _flag(f"{settings.base}/{relative}"))
    back = (await client.get("Patient?_id=p1&_revinclude=Flag:subject")).json()
    assert [entry["resource"]["id"] for entry in back["entry"]] == ["p1", "f1"]
    forth = (await client.get("Flag?_id=f1&_include=Flag:subject")).json()
    assert [entry["resource"]["id"] for entry in forth["entry"]] == ["f1", "p1"]


async def test_elsewhere_stay_as_they_are(client: httpx.AsyncClient, settings: Settings) -> None:
    for reference in (
        "https://elsewhere.example/fhir/Patient/p1",
        f"{settings.base}x/Patient/p1",
        f"{settings.base}/Nothing/p1",
    ):
        assert (await put(client, _flag(reference)))["subject"]["reference"] == reference
