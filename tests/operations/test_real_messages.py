"""Messages as real senders send them: NHS England's and Da Vinci's, where they are beside the
checkout, and always three of our own in the same shapes.
"""

import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome

from fhir_server.fhir import canonicals
from fhir_server.fhir.references import rewrite
from fhir_server.storage.interface import Store
from tests.operations.chart import everything, require_typed
from tests.operations.messages import JSON
from tests.support import exact, official_examples, without_server_parts

OWN: Final = Path(__file__).parent / "examples"
MESSAGES: Final = [
    *(pytest.param(path, id=path.stem) for path in sorted(OWN.glob("*.json"))),
    *official_examples("*message*.json"),
]


def test_there_are_messages_of_our_own() -> None:
    assert len([*OWN.glob("*.json")]) >= 3


@pytest.fixture(params=MESSAGES)
def sent(request: pytest.FixtureRequest) -> bytes:
    content: bytes = request.param.read_bytes()
    return content


async def process(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post(
        "$process-message", content=content, headers={"content-type": "application/fhir+json"}
    )


async def test_is_processed_and_its_resources_are_read_back_as_they_were_sent(
    client: httpx.AsyncClient, store: Store, sent: bytes
) -> None:
    response = await process(client, sent)
    assert response.status_code == 200, response.text
    OperationOutcome.model_validate_json(response.content)
    stored = await stored_by_content(client, sent)
    for resource in stored.values():
        assert resource["meta"]["versionId"] == "1"
    await require_typed(store)


async def test_again_answers_the_same_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, sent: bytes
) -> None:
    first = await process(client, sent)
    before = await everything(store)
    assert (await process(client, sent)).content == first.content
    assert await everything(store) == before


async def test_is_found_by_the_patient_and_by_the_spell(
    client: httpx.AsyncClient, sent: bytes
) -> None:
    await process(client, sent)
    for resource_type in ("Encounter", "Patient"):
        identifier = resources(sent, resource_type)[0]["identifier"][0]
        token = f"{identifier['system']}|{identifier['value']}"
        found = await client.get(resource_type, params={"identifier": token})
        assert len(found.json()["entry"]) == 1


def resources(sent: bytes, resource_type: str | None = None) -> list[JSON]:
    """What the message holds besides its header, or what of it is of that type."""
    return [
        entry["resource"]
        for entry in json.loads(sent)["entry"][1:]
        if resource_type in (None, entry["resource"]["resourceType"])
    ]


_ADMITTED: Final = {"coding": [{"system": canonicals.STAY_TYPE, "code": "admitted"}]}


async def stored_by_content(client: httpx.AsyncClient, sent: bytes) -> dict[str, JSON]:
    """By fullUrl, what was stored of each entry: it says what was sent, but for references."""
    receipts = exact(await client.get("Provenance"))["entry"]
    targets = [target["reference"] for target in receipts[0]["resource"]["target"]]
    *versions, patient = targets  # whose compartment the receipt is in
    assert patient.startswith("Patient/")
    assert all("/_history/" in version for version in versions)
    written = [exact(await client.get(version)) for version in versions]
    entries = exact_entries(sent)
    by_url: dict[str, JSON] = {}
    for url, resource in entries.items():
        (by_url[url],) = [
            other
            for other in written
            if _without_references(other) == _without_references(resource)
        ]
    names: dict[str, str] = {}
    for url, resource in entries.items():
        address = f"{resource['resourceType']}/{by_url[url]['id']}"
        names |= {url: address, f"{resource['resourceType']}/{resource.get('id')}": address}
    for url, resource in entries.items():
        expected = without_server_parts(rewrite(resource, names.get))
        found = _as_told(by_url[url])
        assert _to_the_digit(found) == _to_the_digit(expected)
    return by_url


def exact_entries(sent: bytes) -> dict[str, JSON]:
    """Resources by fullUrl, decimals as they were written."""
    bundle: Any = exact(httpx.Response(200, content=sent))
    return {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"][1:]}


def _to_the_digit(resource: JSON) -> str:
    return json.dumps(resource, default=str, sort_keys=True, indent=1)


def _without_references(resource: JSON) -> JSON:
    anonymous = rewrite(resource, lambda _: "-")
    return _as_told(anonymous)


def _as_told(resource: JSON) -> JSON:
    """Without what the service adds to a stay: its involvement, and that it was an admission."""
    found: JSON = without_server_parts(resource)
    found.pop("episodeOfCare", None)
    if resource["resourceType"] == "Encounter":
        told = [one for one in found.pop("type", []) if one != _ADMITTED]
        found |= {"type": told} if told else {}
    return found
