"""Links of entries: what is told without a walk through the tree is what the walk tells."""

from typing import Any

import pytest

from fhir_server.fhir import json
from fhir_server.interactions import links
from fhir_server.interactions.links import conditional_references, relinked, with_types

URN = "urn:uuid:00000000-0000-4000-8000-000000000001"
NAMES = {
    URN: "Patient/1",
    "http://elsewhere.example/fhir/Patient/2": "Patient/2",
    'http://elsewhere.example/"quoted"': "Patient/3",
    "http://elsewhere.example/back\\slash": "Patient/4",
    "Patient/plain": "Patient/5",
}
MANY = {**NAMES, **{f"http://elsewhere.example/{number}": "Patient/6" for number in range(200)}}
BESIDE = "http://elsewhere.example/fhir/Observation/1"
"""The address of an entry in whose place relative references stand."""


def observation(reference: str, div: str = "") -> dict[str, Any]:
    text = {"text": {"status": "generated", "div": f"<div>{div}</div>"}} if div else {}
    return {"resourceType": "Observation", **text, "subject": {"reference": reference}}


@pytest.mark.parametrize("names", [NAMES, MANY])
@pytest.mark.parametrize("full_url", ["", URN, BESIDE])
@pytest.mark.parametrize(
    "resource",
    [
        *(observation(name) for name in NAMES),
        *(observation("Patient/9", f"""<a href='{name}'>who</a>""") for name in NAMES),
        observation("Patient/2"),
        observation("Patient/9"),
        observation("http://elsewhere.example/199"),
    ],
)
def test_links_are_told_as_by_a_walk(
    resource: dict[str, Any], full_url: str, names: dict[str, str]
) -> None:
    root = "http://elsewhere.example/fhir" if full_url == BESIDE else ""
    walked = links._Links(names, root).object(resource, "Observation", "Observation")
    text = json.encode(resource)
    assert relinked(resource, text, full_url, names) == walked
    assert with_types(resource, text, names) == links._with_types(resource, names)


def test_what_holds_no_link_is_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_Links", None)
    plain = observation("Patient/9")
    names = {URN: "Patient/1", "http://elsewhere.example/fhir/Patient/2": "Patient/2"}
    text = json.encode(plain)
    assert relinked(plain, text, URN, names) is plain
    assert with_types(plain, text, names) is plain


def test_references_by_criteria_are_found_wherever_they_stand() -> None:
    asked = "Patient?identifier=a|1"
    resource = {**observation(asked, "who?"), "performer": [{"reference": asked}]}
    assert [*conditional_references(resource, json.encode(resource), "Observation")] == [
        (asked, "Observation.subject.reference"),
        (asked, "Observation.performer[0].reference"),
    ]
    plain = observation("Patient/9", "who?")
    assert [*conditional_references(plain, json.encode(plain), "Observation")] == []
