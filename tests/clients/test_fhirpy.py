"""fhirpy (https://github.com/beda-software/fhir-py) against a running server."""

from typing import Any
from uuid import uuid4

import pytest
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from tests.support import ServerProcess


def _named(family: str, number: int) -> dict[str, Any]:
    return {"name": [{"family": family, "given": [f"Child{number}"]}], "birthDate": "2012-05-01"}


def _family() -> str:
    """Of one test alone: the server is the same for all."""
    return f"Synthetic-{uuid4().hex}"


async def test_async_client_creates_reads_updates_and_deletes(server: ServerProcess) -> None:
    client = AsyncFHIRClient(server.base)
    patient = client.resource("Patient", **_named(_family(), 1))
    await patient.save()
    assert patient["meta"]["versionId"] == "1"
    read = await client.reference("Patient", patient.id).to_resource()
    assert dict(read) == dict(patient)
    read["active"] = True
    await read.save()
    assert read["meta"]["versionId"] == "2"
    await client.delete(read)
    with pytest.raises((ResourceNotFound, OperationOutcome)):
        await client.reference("Patient", patient.id).to_resource()


async def test_async_client_searches_and_follows_all_pages(server: ServerProcess) -> None:
    client, family = AsyncFHIRClient(server.base), _family()
    for number in range(7):
        await client.resource("Patient", **_named(family, number)).save()
    search = client.resources("Patient").search(family=family)
    assert len(await search.limit(3).fetch()) == 3
    assert len(await search.limit(3).fetch_all()) == 7
    found = [patient async for patient in search.limit(2)]
    assert sorted(patient["name"][0]["given"][0] for patient in found) == [
        f"Child{number}" for number in range(7)
    ]
    one = await client.resources("Patient").search(family=family, given="Child3").get()
    assert one["name"][0]["given"] == ["Child3"]


async def test_async_client_includes(server: ServerProcess) -> None:
    client = AsyncFHIRClient(server.base)
    patient = client.resource("Patient", **_named(_family(), 1))
    await patient.save()
    plan = client.resource(
        "CarePlan", status="active", intent="plan", subject=patient.to_reference()
    )
    await plan.save()
    bundle = await (
        client.resources("CarePlan").search(_id=plan.id).include("CarePlan", "subject").fetch_raw()
    )
    assert [entry.resource.resource_type for entry in bundle["entry"]] == ["CarePlan", "Patient"]


async def test_async_client_is_told_what_is_wrong(server: ServerProcess) -> None:
    client = AsyncFHIRClient(server.base)
    with pytest.raises(OperationOutcome, match="gender"):
        await client.resource("Patient", gender="blue").save()
    with pytest.raises(OperationOutcome, match="colour"):
        await client.resources("Patient").search(colour="blue").fetch()


def test_sync_client_creates_reads_updates_and_deletes(server: ServerProcess) -> None:
    client = SyncFHIRClient(server.base)
    patient = client.resource("Patient", **_named(_family(), 1))
    patient.save()
    read = client.reference("Patient", patient.id).to_resource()
    assert dict(read) == dict(patient)
    read["active"] = True
    read.save()
    assert read["meta"]["versionId"] == "2"
    client.delete(read)
    with pytest.raises((ResourceNotFound, OperationOutcome)):
        client.reference("Patient", patient.id).to_resource()


def test_sync_client_searches_and_follows_all_pages(server: ServerProcess) -> None:
    client, family = SyncFHIRClient(server.base), _family()
    for number in range(5):
        client.resource("Patient", **_named(family, number)).save()
    search = client.resources("Patient").search(family=family)
    assert len(search.limit(2).fetch_all()) == 5
    assert len(list(search.limit(2))) == 5
    assert search.limit(2).first() is not None


async def test_async_client_counts_when_handled_leniently(server: ServerProcess) -> None:
    # Its count() sends `_totalMethod`, which only one vendor's server knows.
    family = _family()
    strict = AsyncFHIRClient(server.base)
    lenient = AsyncFHIRClient(server.base, extra_headers={"Prefer": "handling=lenient"})
    await strict.resource("Patient", **_named(family, 1)).save()
    assert await lenient.resources("Patient").search(family=family).count() == 1
    with pytest.raises(OperationOutcome, match="did you mean _total"):
        await strict.resources("Patient").search(family=family).count()


def test_sync_client_is_refused_a_condition_in_the_address(server: ServerProcess) -> None:
    # Its get_or_create() posts to `Patient?family=...`; R4 has If-None-Exist for that.
    client, family = SyncFHIRClient(server.base), _family()
    search = client.resources("Patient").search(family=family)
    with pytest.raises(OperationOutcome, match="If-None-Exist"):
        search.get_or_create(client.resource("Patient", **_named(family, 1)))
    assert search.fetch_all() == []
