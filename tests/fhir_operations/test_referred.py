"""What a compartment refers to: in order, within a bounded memory."""

from random import Random
from typing import Final

import httpx
import pytest

from fhir_operations import _everything, _referred
from fhir_operations._care_dates import care_date
from fhir_server.fhir import json
from fhir_server.fhir.definitions import compartments
from tests.fhir_operations.record import PATIENT, compartment, names, pages, referred
from tests.support import exact

BASE: Final = "http://127.0.0.1:8080/fhir"


def test_only_references_to_this_server_are_found() -> None:
    resource = {
        "resourceType": "Basic",
        "subject": {"reference": "Patient/1"},
        "author": {"reference": f"{BASE}/Practitioner/2/_history/3"},
        "extension": [
            {"url": "https://example.org/x", "valueReference": {"reference": "Group/4"}},
            {"url": "Binary/5", "valueString": 'He said "reference":"Patient/6"'},
            {"url": "Patient/7", "valueAttachment": {"url": f"{BASE}/Binary/8"}},
            {"url": "u", "valueReference": {"reference": "#contained"}},
            {"url": "u", "valueReference": {"reference": "https://example.org/fhir/Patient/9"}},
            {"url": "u", "valueReference": {"reference": "urn:uuid:10"}},
            {"url": "u", "valueReference": {"reference": "Dragon/11"}},
            {"url": "u", "valueReference": {"display": "reference"}},
        ],
    }
    assert _referred.targets(json.encode(resource), BASE) == {
        *("Patient/1", "Practitioner/2", "Group/4", "Binary/5", "Binary/8"),
    }


@pytest.mark.parametrize("after", ["", "Group/0500", "Group/9999"])
def test_the_nearest_are_kept_whatever_the_order_they_come_in(
    monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monkeypatch.setattr(_referred, "_KEPT", 10)
    targets = [f"Group/{n:04}" for n in range(1000)]
    for seed in range(5):
        nearest = _referred._Nearest(after)
        shuffled = Random(seed).sample(targets, len(targets))  # noqa: S311
        for is_new in (False, True):
            for target in shuffled:
                nearest.add(target, is_new=is_new and target.endswith("3"))
        found = nearest.found()
        expected = [target for target in targets if target > after]
        assert [target for target, _ in found.targets] == expected[:10]
        assert [new for _, new in found.targets] == [t.endswith("3") for t in expected[:10]]
        assert found.more is (len(expected) > 10)


async def test_each_comes_once_where_one_walk_does_not_find_all(
    caseload: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_referred, "_KEPT", 3)
    monkeypatch.setattr(_everything, "_AT_ONCE", 2)
    members = compartment(PATIENT)
    for count in (1, 4, 100):
        found = await pages(caseload, f"{PATIENT}/$everything?_count={count}")
        shown = [name for page in found for name in names(page, "include")]
        assert shown == sorted(referred(members))


async def test_too_many_to_look_through_are_left_out_and_that_is_said(
    caseload: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_referred, "_MOST", 10)
    bundle = exact(await caseload.get(f"{PATIENT}/$everything?_count=100"))
    assert {*names(bundle, "match")} == compartment(PATIENT)
    assert names(bundle, "include") == []
    *_, entry = bundle["entry"]
    assert entry["search"] == {"mode": "outcome"}
    (issue,) = entry["resource"]["issue"]
    assert (issue["severity"], issue["code"]) == ("warning", "too-costly")


def test_the_days_of_care_are_those_of_every_type_that_has_them() -> None:
    types = {*compartments()["Patient"], *compartments()["Encounter"], "Patient"}
    assert {name for name in types if care_date(name) is None} == {
        *("AppointmentResponse", "BodyStructure", "Coverage", "DeviceUseStatement"),
        *("EnrollmentRequest", "Group", "MolecularSequence", "Patient", "Person"),
        *("RelatedPerson", "SupplyDelivery"),
    }
    assert care_date("MedicationRequest") == "authoredon"
    assert care_date("Condition") == "onset-date"
    assert care_date("Encounter") == "date"
