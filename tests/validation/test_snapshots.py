"""Snapshots that the project makes, against those in HL7's own package.

HL7's profiles have both a differential and a snapshot: from the first must come the second.
Source: https://hl7.org/fhir/R4/profiling.html#snapshot
"""

import json
import re
import tarfile
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest

from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.snapshot import snapshot
from fhir_server.validation.profiles.tree import type_code
from tests.support import PACKAGE, needs_package
from tests.validation.profiles import URL, profile

Json = dict[str, Any]
SUBJECTS: Final = 628
"""Resource types, data types, profiles and extensions of the package that have both."""
DIFFERENT: Final = {
    # Elements that HL7's snapshot does not have although base and differential do, or has twice.
    ("catalog", "Composition.date"): "left out of HL7's snapshot",
    ("elementdefinition-de", "ElementDefinition.extension"): "children without being named",
    ("familymemberhistory-genetic", "FamilyMemberHistory"): "left out of HL7's snapshot",
    # HL7's snapshot takes these from the differential of another version.
    ("provenance-relevant-history", "Provenance.agent"): "an extensible binding of another name",
    ("provenance-relevant-history", "Provenance.entity.agent"): "refers to a slice",
    # The differential names a profile of Quantity and HL7 adds that one's rules to the element.
    ("cholesterol", "Observation.referenceRange.high"): "rules of SimpleQuantity",
    ("hdlcholesterol", "Observation.referenceRange.low"): "rules of SimpleQuantity",
    ("ldlcholesterol", "Observation.referenceRange.high"): "rules of SimpleQuantity",
}
"""Element (and what is in it) of a definition -> why ours is not the same."""
_SLICE_OF_CHOICE: Final = re.compile(r"\[x\]:[a-z]\w*")


@cache
def library() -> Library:
    return Library()


@cache
def official() -> dict[str, Json]:
    """By id; empty without the package."""
    return {each["id"]: each for each in _read()} if PACKAGE.exists() else {}


def _read() -> Iterator[Json]:
    with tarfile.open(PACKAGE) as archive:
        for member in archive:
            if member.name.startswith("package/StructureDefinition-"):
                file = archive.extractfile(member)
                definition = json.load(file) if file else {}
                kind = definition["kind"] in ("resource", "complex-type")
                if kind and "snapshot" in definition and "differential" in definition:
                    yield definition


def facts(element: Json) -> Json:
    """What a checker reads of an element."""
    binding = element.get("binding", {})
    slicing = element.get("slicing", {})
    is_extension = element["path"].endswith("xtension")
    return {
        "min": element["min"],
        "max": element["max"],
        "types": sorted(map(_type, element.get("type", ()))),
        "binding": _binding(binding),
        "values": sorted(k for k in element if k.startswith(("fixed", "pattern", "max", "min"))),
        "constraints": _keys(element),
        "contentReference": element.get("contentReference"),
        "isModifier": element.get("isModifier", False),
        "slicing": None if is_extension else (slicing.get("rules"), slicing.get("ordered")),
    }


def _type(entry: Json) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """R4's package writes ids and the url of an extension as types of FHIRPath."""
    code = type_code(entry)
    targets = {
        target for target in entry.get("targetProfile", ()) if not target.endswith("/Resource")
    }
    return (
        "string" if code in ("id", "uri") else code,
        tuple(sorted(targets)),
        tuple(entry.get("profile", ())),
    )


def _binding(binding: Json) -> tuple[str, str] | None:
    if binding.get("strength", "example") == "example":
        return None
    return binding["strength"], str(binding.get("valueSet")).partition("|")[0]


def _keys(element: Json) -> list[str]:
    return sorted({each["key"] for each in element.get("constraint", ())} - {"ele-1", "ext-1"})


def by_id(elements: list[Json]) -> dict[str, Json]:
    """HL7 writes `value[x]:valueQuantity` in some places and `value[x]` in others."""
    return {_SLICE_OF_CHOICE.sub("[x]", each["id"]): facts(each) for each in elements}


@needs_package
def test_there_is_something_to_compare() -> None:
    assert len(official()) == SUBJECTS


@needs_package
def test_snapshots_of_the_standard_come_from_their_differentials() -> None:
    different: set[tuple[str, str]] = set()
    for name, definition in official().items():
        tree = library().tree(definition["url"])
        assert tree is not None
        ours, theirs = by_id(snapshot(tree)), by_id(definition["snapshot"]["element"])
        for element in ours.keys() | theirs.keys():
            if ours.get(element) != theirs.get(element):
                different.add((name, element))
    unknown = {pair for pair in different if not _explained(*pair)}
    assert not unknown, sorted(unknown)[:20]
    assert {_explained(*pair) for pair in different} == DIFFERENT.keys(), "an exception is gone"


def _explained(name: str, element: str) -> tuple[str, str] | None:
    fitting = [key for key in DIFFERENT if key[0] == name and element.startswith(key[1])]
    return max(fitting, key=lambda key: len(key[1]), default=None)


def test_a_snapshot_has_base_and_differential_and_slices_in_order() -> None:
    definition = profile(
        "Patient",
        {"id": "Patient.identifier", "slicing": {"discriminator": [], "rules": "open"}},
        {"id": "Patient.identifier:nhs", "max": "1"},
        {"id": "Patient.identifier:nhs.system", "min": 1, "fixedUri": "https://example.org/n"},
    )
    tree = Library([definition]).tree(URL)
    assert tree is not None
    elements = snapshot(tree)
    ids = [each["id"] for each in elements]
    at = ids.index("Patient.identifier:nhs")
    assert ids[:2] == ["Patient", "Patient.id"]
    assert ids[at - 1] == "Patient.identifier"
    assert "Patient.identifier:nhs.system" in ids[at : at + 8]
    assert ids.index("Patient.active") > at
    nhs = elements[at]
    assert (nhs["path"], nhs["sliceName"], nhs["min"], nhs["max"]) == (
        "Patient.identifier",
        "nhs",
        0,
        "1",
    )


@pytest.mark.parametrize("with_ids", [True, False])
def test_elements_are_placed_by_ids_or_by_their_order(with_ids: bool) -> None:
    definition = profile(
        "Patient",
        {"id": "Patient.telecom:a", "max": "1"},
        {"id": "Patient.telecom:a.value", "min": 1},
        {"id": "Patient.telecom:b.value", "max": "0"},
    )
    elements = definition["differential"]["element"]
    elements.insert(2, {"id": "Patient.telecom:b", "path": "Patient.telecom", "sliceName": "b"})
    if not with_ids:
        for element in elements:
            del element["id"]
    tree = Library([definition]).tree(URL)
    assert tree is not None
    found = {each["id"]: each for each in snapshot(tree)}
    assert found["Patient.telecom:a.value"]["min"] == 1
    assert found["Patient.telecom:b.value"]["max"] == "0"
    assert found["Patient.telecom:b"]["max"] == "*"
