"""The shipped terminology is what HL7's package and UK Core's say.

The packages are read here by code that shares nothing with the tool that makes the tables.
"""

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.errors import FhirError
from fhir_server.fhir.definitions import required_codes
from fhir_server.terminology.expansion import expansion
from fhir_server.terminology.known import KnownCodes, Verdict, display_of, is_member
from fhir_server.terminology.library import Shipped
from fhir_server.terminology.shipped import shipped, systems, value_sets
from tests.support import PACKAGE, REPOSITORY, SHARED, needs_package
from tools.build_terminology import LEFT_OUT

DATA: Final = REPOSITORY / "fhir_server" / "terminology" / "data"
UK_CORE: Final = SHARED / "fhir" / "uk.core.r4.tgz"
LICENSED: Final = ("http://snomed.info/sct", "http://loinc.org", "https://dmd.nhs.uk")
JSON = dict[str, Any]
GROWN: Final = ("https://fhir.hl7.org.uk/ValueSet/UKCore-SampleCategory",)
"""Whose code systems have got more codes since they were expanded."""
NOWHERE: Final = {
    "http://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html#table_B.5-1",
    "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html",
    "http://hl7.org/fhir/StructureDefinition/ConditionRelationship",
    "http://hl7.org/fhir/ValueSet/observation-triggeredbytype",
    "http://hl7.org/fhir/ValueSet/patient-fetalstatus",
    "http://hl7.org/fhir/ValueSet/subscription-payload-content",
    "http://loinc.org/vs/LL379-9",
    "http://www.rsna.org/RadLex_Playbook.aspx",
    "https://fhir.hl7.org.uk/ValueSet/UKCore-BloodPressureDeviceType",
}
"""Value sets that bindings name and neither package holds."""


@cache
def official() -> tuple[JSON, ...]:
    found = []
    for package in (PACKAGE, UK_CORE):
        with tarfile.open(package) as archive:
            for member in archive:
                if member.name.endswith(".json") and member.name.count("/") == 1:
                    file = archive.extractfile(member)
                    resource = json.load(file) if file else None
                    if isinstance(resource, dict) and "url" in resource:
                        found.append(resource)
    return tuple(found)


def of_type(resource_type: str) -> Iterator[JSON]:
    return (one for one in official() if one.get("resourceType") == resource_type)


def concepts(nodes: Any, parent: str = "") -> Iterator[tuple[str, str, str]]:
    """Code, display and the code above it."""
    for node in nodes:
        yield node["code"], node.get("display", ""), parent
        yield from concepts(node.get("concept", ()), node["code"])


@needs_package
def test_the_tables_are_what_the_tool_makes_of_the_packages(tmp_path: Path) -> None:
    tool = REPOSITORY / "tools" / "build_terminology.py"
    command = [sys.executable, *map(str, (tool, PACKAGE, UK_CORE, "--out", tmp_path))]
    subprocess.run(command, check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in DATA.iterdir()}


def test_the_tables_are_small_and_hold_no_prose() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 3_000_000
    for path in DATA.glob("*-s*.json"):
        assert b'"definition":' not in path.read_bytes()
        assert b'"description":' not in path.read_bytes()


def test_no_terms_of_licensed_systems_are_held() -> None:
    for url in value_sets():
        held = shipped("ValueSet", url)
        assert held is not None
        for part in held.resource["compose"]["include"]:
            if part.get("system") in LICENSED:
                assert not any("display" in one for one in part.get("concept", ())), url
    assert not {*LICENSED, *LEFT_OUT} & {*systems()}


@needs_package
def test_every_code_system_has_the_codes_displays_and_hierarchy_of_its_package() -> None:
    compared = 0
    for resource in of_type("CodeSystem"):
        url = resource["url"]
        if url in LEFT_OUT or resource["content"] not in ("complete", "fragment", "example"):
            assert shipped("CodeSystem", url) is None
            continue
        held = shipped("CodeSystem", url)
        assert held is not None, url
        assert held.system.version == resource.get("version", "")
        expected = [*concepts(resource.get("concept", ()))]
        assert [*held.system.concepts] == list(dict.fromkeys(code for code, _, _ in expected)), url
        for code, display, parent in expected:
            assert held.system.display(code) == display or display == ""
            assert not parent or parent in held.system.parents[code]
        compared += 1
    assert compared > 1100


def contained(nodes: Any) -> Iterator[JSON]:
    for node in nodes:
        yield node
        yield from contained(node.get("contains", ()))


@needs_package
def test_every_value_set_with_known_systems_is_expanded_as_its_authors_did() -> None:
    """UK Core's come with expansions; what needs SNOMED CT or the like is not known here."""
    compared, unknown = 0, 0
    for resource in of_type("ValueSet"):
        told = resource.get("expansion", {}).get("contains", ())
        if not told or resource["url"].startswith("http://hl7.org/fhir/ValueSet/"):
            continue
        try:
            made = expansion(Shipped(), resource["url"])
        except FhirError:
            unknown += 1
            continue
        told = [*contained(told)]
        expected = {(one["system"], one["code"]) for one in told}
        codes = {(one.system, one.code) for one in made.concepts}
        assert codes == expected or (resource["url"] in GROWN and codes > expected), resource["url"]
        known = {(one.system, one.code): one.display for one in made.concepts}
        for one in told:
            if one["system"] in {*systems()}:
                display = known[one["system"], one["code"]]
                assert display.split() == one["display"].split(), resource["url"]
        compared += 1
    assert (compared, unknown) == (47, 43)


def bindings() -> Iterator[tuple[str, str]]:
    for definition in of_type("StructureDefinition"):
        sides = ("snapshot", "differential")
        elements = next((definition[s]["element"] for s in sides if s in definition), ())
        for element in elements:
            binding = element.get("binding", {})
            strong = binding.get("strength") in ("required", "extensible", "preferred")
            if strong and "valueSet" in binding:
                yield binding["valueSet"].partition("|")[0], binding["strength"]


@needs_package
def test_every_binding_names_a_value_set_that_is_there() -> None:
    named = {url for url, _ in bindings()}
    missing = {url for url in named if shipped("ValueSet", url) is None}
    assert missing == NOWHERE
    assert len(named) > 300


@pytest.mark.parametrize(
    ("value_set", "system", "code", "verdict"),
    [
        ("administrative-gender", "http://hl7.org/fhir/administrative-gender", "male", "YES"),
        ("administrative-gender", "http://hl7.org/fhir/administrative-gender", "m", "NO"),
        ("administrative-gender", "http://elsewhere", "male", "NO"),
        ("administrative-gender|4.0.1", "http://hl7.org/fhir/administrative-gender", "male", "YES"),
        ("administrative-gender|3", "http://hl7.org/fhir/administrative-gender", "male", "UNKNOWN"),
        ("no-such", "http://hl7.org/fhir/administrative-gender", "male", "UNKNOWN"),
        ("languages", "urn:ietf:bcp:47", "en-GB", "YES"),
        ("languages", "urn:ietf:bcp:47", "cy", "NO"),
        ("mimetypes", "urn:ietf:bcp:13", "text/plain", "YES"),
        ("mimetypes", "http://elsewhere", "text/plain", "NO"),
        ("condition-code", "http://snomed.info/sct", "160245001", "YES"),
        ("condition-code", "http://snomed.info/sct", "404684003", "UNKNOWN"),
    ],
)
def test_the_validator_is_told_at_once(
    value_set: str, system: str, code: str, verdict: str
) -> None:
    url = f"http://hl7.org/fhir/ValueSet/{value_set}"
    assert is_member(url, system, code) is Verdict[verdict]


@needs_package
def test_it_knows_of_required_value_sets_what_the_table_of_the_base_check_says() -> None:
    """That table is made by another tool; its systems without a known content are left out."""
    known, compared = KnownCodes(), 0
    for url in sorted({url for url, strength in bindings() if strength == "required"}):
        for system, codes in (required_codes(url) or {}).items():
            for code in codes:
                assert known.is_member(url, system, code) == "yes", (url, system, code)
                assert known.is_member(url, "", code) == "yes", (url, code)
            assert known.is_member(url, system, "no such code") == "no", url
            assert known.is_member(url, "", "no such code") == "no", url
            compared += 1
    assert compared > 150


def test_displays_are_told_at_once() -> None:
    assert display_of("http://hl7.org/fhir/administrative-gender", "male") == "Male"
    assert display_of("http://hl7.org/fhir/administrative-gender", "m") is None
    assert display_of("http://snomed.info/sct", "160245001") is None


def test_value_sets_are_expanded_or_it_is_said_what_is_not_known() -> None:
    made, refused = 0, []
    for url in value_sets():
        try:
            found = expansion(Shipped(), url)
        except FhirError as error:
            refused.append(str(error))
        else:
            made += 1
            assert len({(one.system, one.code) for one in found.concepts}) == len(found.concepts)
    assert made >= 1288
    assert all("is not known here" in text or "not completely" in text for text in refused)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    program = (
        "from fhir_server.app import create_app; from fhir_server.settings import Settings;"
        "from fhir_server.terminology import shipped; create_app(Settings(auth='none'));"
        "print(shipped._table.cache_info().currsize, shipped._own.cache_info().currsize)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


def test_what_senders_make_up_at_length_is_not_remembered() -> None:
    value_set, codes = "http://hl7.org/fhir/ValueSet/request-status", KnownCodes()
    for number in range(20):
        assert codes.is_member(value_set, "http://hl7.org/fhir/x", f"{number}" * 300) == "no"
    assert codes._remembered.cache_info().currsize == 0
    assert codes.is_member(value_set, "http://hl7.org/fhir/x", "short") == "no"
    assert codes._remembered.cache_info().currsize == 1
