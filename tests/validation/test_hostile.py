"""What is sent to cost much, or to break the check: it is refused like anything else, and soon."""

import threading
import time
import tracemalloc
from typing import Any, Final

import pytest

from fhir_server.terminology.known import KnownCodes
from fhir_server.validation.checker import Checker
from tests.validation.profiles import URL, checker, profile
from tests.work import steps

Json = dict[str, Any]
VITAL_SIGNS: Final = "http://hl7.org/fhir/StructureDefinition/vitalsigns"
SLICED: Final = profile(
    "Patient",
    {"id": "Patient.extension", "slicing": {"rules": "open"}},
    {
        "id": "Patient.extension:one",
        "max": "1",
        "type": [{"code": "Extension", "profile": ["http://hl7.org/fhir/StructureDefinition/tz"]}],
    },
    {"id": "Patient.extension:one.url", "fixedUri": "http://example.org/one"},
)


def vital_sign(name: str, *members: str) -> Json:
    concept = {
        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
        "code": "vital-signs",
    }
    links = [{"reference": f"Observation/{one}"} for one in members]
    return {
        "resourceType": "Observation",
        "id": name,
        "meta": {"profile": [VITAL_SIGNS]},
        "status": "final",
        "category": [{"coding": [concept]}],
        "code": {"text": "synthetic"},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-01-01",
        "dataAbsentReason": {"text": "synthetic"},
        **({"hasMember": links} if links else {}),
    }


def bundle(*resources: Json) -> Json:
    entries = [
        {"fullUrl": f"http://example.org/{one['resourceType']}/{one['id']}", "resource": one}
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def work(resource: Json) -> int:
    """Steps of a check whose profiles are compiled already."""
    checks = checker()
    checks.check(resource)
    return steps(lambda: checks.check(resource))


@pytest.mark.parametrize("url", [["x"], {"a": 1}, 5, None])
def test_an_extension_whose_url_is_no_text_is_refused(url: object) -> None:
    sent = {"resourceType": "Patient", "extension": [{"url": url, "valueString": "a"}]}
    found = checker(SLICED).check(sent, profiles=[URL]).errors
    assert "Patient.extension[0].url" in {each.expression for each in found}


@pytest.mark.parametrize("contained", [5, None, "x", [], {}])
def test_what_is_contained_and_no_resource_is_refused(contained: object) -> None:
    sent = {
        "resourceType": "Patient",
        "contained": [contained],
        "managingOrganization": {"reference": "#x"},
    }
    found = checker().check(sent).errors
    assert "Patient.contained[0]" in {each.expression for each in found}


def test_resources_that_refer_to_each_other_are_checked() -> None:
    around = bundle(vital_sign("a", "b"), vital_sign("b", "a"))
    assert checker().check(around).errors == []
    faulty = {**vital_sign("b", "a"), "category": [{"text": "none"}]}
    found = checker().check(bundle(vital_sign("a", "b"), faulty)).errors
    assert "Bundle.entry[0].resource.hasMember[0]" in {each.expression for each in found}


def test_a_resource_that_many_refer_to_is_checked_once() -> None:
    """Each of a layer refers to all three of the next: there are 3 ** layers ways through."""

    def layered(layers: int) -> Json:
        return bundle(
            *(
                vital_sign(f"{at}-{n}", *(f"{at + 1}-{m}" for m in range(3) if at + 1 < layers))
                for at in range(layers)
                for n in range(3)
            )
        )

    assert work(layered(14)) < 3 * work(layered(7))


def test_references_that_lead_on_and_on_are_refused() -> None:
    most = 1500
    chain = [vital_sign(str(n), *([str(n + 1)] if n + 1 < most else [])) for n in range(most)]
    found = checker().check(bundle(*chain[:5])).errors
    assert found == []
    found = checker().check(bundle(*chain)).errors
    assert "too-costly" in {each.code for each in found}


@pytest.mark.parametrize("name", ["c", "missing"])
def test_references_into_a_container_cost_what_they_are_many(name: str) -> None:
    def holder(count: int) -> Json:
        basic = {"resourceType": "Basic", "code": {"text": "x"}}
        return {
            "resourceType": "List",
            "status": "current",
            "mode": "working",
            "contained": [{**basic, "id": f"c{n}"} for n in range(count)],
            "entry": [{"item": {"reference": f"#{name}{n}"}} for n in range(count)],
        }

    assert work(holder(6000)) < 6 * work(holder(1500))


def test_a_long_full_url_costs_nothing_for_each_reference() -> None:
    sign = vital_sign("a", *map(str, range(2000)))

    def sent(length: int) -> Json:
        base = "http://example.org/" + "x/" * length
        entry = {"fullUrl": f"{base}Observation/a", "resource": sign}
        return {"resourceType": "Bundle", "type": "collection", "entry": [entry]}

    assert work(sent(200_000)) < 1.1 * work(sent(1))


def test_addresses_and_codes_that_senders_make_up_are_not_kept() -> None:
    checks, codes = Checker(), KnownCodes()

    def send(number: int) -> None:
        url = f"http://example.org/{number}/" + "x" * 100_000
        meta = {"profile": [url + "/p"]}
        extension = [{"url": url + "/e", "valueString": "a"}]
        checks.check({"resourceType": "Patient", "meta": meta, "extension": extension})
        codes.is_member("http://hl7.org/fhir/ValueSet/marital-status", url, "x")

    send(0)
    tracemalloc.start()
    try:
        for number in range(1, 30):
            send(number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000


def test_a_profile_that_is_being_compiled_is_waited_for() -> None:
    """One that leads to itself is no stand-in for other threads."""
    checks = Checker()
    inside, found = threading.Event(), []
    type_of = checks.library.tree

    def slow(canonical: str) -> Any:
        if canonical == VITAL_SIGNS:
            inside.set()
            time.sleep(0.3)
        return type_of(canonical)

    checks.library.tree = slow  # type: ignore[method-assign]
    first = threading.Thread(target=lambda: checks.check(vital_sign("a")))
    first.start()
    assert inside.wait(5)
    found += checks.check({**vital_sign("a"), "category": [{"text": "none"}]}).errors
    first.join()
    assert {each.profile for each in found} == {VITAL_SIGNS}
