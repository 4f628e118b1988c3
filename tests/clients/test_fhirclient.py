"""fhirclient (https://github.com/smart-on-fhir/client-py) against a running server."""

from uuid import uuid4

import pytest
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle, BundleEntry, BundleEntryRequest
from fhirclient.models.careplan import CarePlan
from fhirclient.models.fhirreference import FHIRReference
from fhirclient.models.humanname import HumanName
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException

from tests.support import ServerProcess


@pytest.fixture
def client(server: ServerProcess) -> FHIRClient:
    client = FHIRClient(settings={"app_id": "tests", "api_base": server.base})
    client.prepare()
    return client


def _patient(family: str, given: str = "Child") -> Patient:
    patient, name = Patient(), HumanName()
    name.family, name.given = family, [given]
    patient.name = [name]
    return patient


def _family() -> str:
    """Of one test alone: the server is the same for all."""
    return f"Synthetic-{uuid4().hex}"


def test_takes_the_capability_statement(client: FHIRClient) -> None:
    assert client.ready
    assert client.server.capabilityStatement.fhirVersion == "4.0.1"


def test_creates_reads_updates_and_deletes(client: FHIRClient) -> None:
    family = _family()
    created = _patient(family).create(client.server)
    read = Patient.read(created["id"], client.server)
    assert read.name[0].family == family
    read.active = True
    assert read.update(client.server)["meta"]["versionId"] == "2"
    assert Patient.read(created["id"], client.server).active is True
    read.delete()
    # It has no exception of its own for 410, and tells of it as it comes.
    with pytest.raises(Exception, match="410"):
        Patient.read(created["id"], client.server)


def test_is_told_that_a_resource_is_not_there(client: FHIRClient) -> None:
    with pytest.raises(FHIRNotFoundException):
        Patient.read("nobody", client.server)


def test_searches_and_follows_all_pages(client: FHIRClient) -> None:
    family = _family()
    for number in range(7):
        _patient(family, f"Child{number}").create(client.server)
    search = Patient.where({"family": family, "_count": "3", "_sort": "given"})
    pages = list(search.perform_iter(client.server))
    assert [len(page.entry) for page in pages] == [3, 3, 1]
    found = list(search.perform_resources_iter(client.server))
    assert [patient.name[0].given for patient in found] == [[f"Child{n}"] for n in range(7)]


def test_searches_with_includes(client: FHIRClient) -> None:
    created = _patient(_family()).create(client.server)
    plan = CarePlan({"status": "active", "intent": "plan", "subject": {"reference": "x"}})
    plan.subject.reference = f"Patient/{created['id']}"
    stored = plan.create(client.server)
    search = CarePlan.where({"_id": stored["id"]}).include("subject")
    found = list(search.perform_resources_iter(client.server))
    assert [resource.resource_type for resource in found] == ["CarePlan", "Patient"]


def test_resolves_references(client: FHIRClient) -> None:
    created = _patient(_family()).create(client.server)
    plan = CarePlan({"status": "active", "intent": "plan", "subject": {"reference": "x"}})
    plan.subject = FHIRReference({"reference": f"Patient/{created['id']}"})
    stored = CarePlan.read(plan.create(client.server)["id"], client.server)
    assert stored.subject.resolved(Patient).id == created["id"]


def test_posts_a_transaction(client: FHIRClient) -> None:
    family = _family()
    bundle, entry = Bundle(), BundleEntry()
    bundle.type, bundle.entry = "transaction", [entry]
    entry.resource = _patient(family)
    entry.request = BundleEntryRequest({"method": "POST", "url": "Patient"})
    answer = client.server.post_json("", bundle.as_json())
    assert answer.json()["entry"][0]["response"]["status"] == "201 Created"
    found = list(Patient.where({"family": family}).perform_resources_iter(client.server))
    assert len(found) == 1
