"""`keyworking load-package`: https://hl7.org/fhir/R4/implementationguide.html"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner, Result

from fhir_server.cli import main
from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.support import ServerProcess
from tests.validation.profiles import URL, profile
from tests.validation.test_profile_data import MANIFEST, packed

PROFILE: Final = profile(
    "Patient",
    {"id": "Patient.gender", "min": 1},
    id="trust-patient",
    name="TrustPatient",
    status="active",
    abstract=False,
)
PARAMETER: Final = {"resourceType": "SearchParameter", "id": "s", "url": "http://example.org/s"}
CONTENT: Final = (PROFILE, SYSTEM, value_set("trees", below("oak")), PARAMETER)
PATIENT: Final = {"resourceType": "Patient", "meta": {"profile": [URL]}}


def run(path: Path, *options: str, packages: Path | str = "") -> Result:
    arguments = ["load-package", str(path), *options]
    return CliRunner().invoke(main, arguments, env={"KEYWORKING_PACKAGES": str(packages)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "packages"
    made.mkdir()
    return made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return packed(tmp_path / "a.tgz", MANIFEST, *CONTENT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "s.db", tmp_path / "s.log")
    process.start()
    yield process
    process.stop()


def test_all_of_it_is_read_before_it_is_put_there(tmp_path: Path, folder: Path) -> None:
    deep: dict[str, Any] = {"url": "http://example.org/e"}
    for _ in range(300):
        deep = {"url": "http://example.org/e", "extension": [deep]}
    path = packed(tmp_path / "deep.tgz", MANIFEST, {"resourceType": "Basic", "extension": [deep]})
    result = run(path, packages=folder)
    assert result.exit_code == 2
    assert "R-0.json of the package deep.tgz is no resource" in result.output
    assert [*folder.iterdir()] == []


def test_a_server_that_starts_checks_by_it(tmp_path: Path, package: Path, folder: Path) -> None:
    result = run(package, packages=folder)
    assert result.exit_code == 0, result.output
    placed = folder / "trust.guide-1.0.0.tgz"
    assert "trust.guide 1.0.0: 1 StructureDefinition, 1 CodeSystem" in result.output
    assert f"{placed}: servers check by it" in result.output
    assert [each.name for each in folder.iterdir()] == [placed.name]
    started = ServerProcess(tmp_path / "s.db", tmp_path / "log", KEYWORKING_PACKAGES=str(folder))
    started.start()
    try:
        refused = httpx.post(f"{started.base}/Patient", json=PATIENT)
        assert (refused.status_code, "gender is missing" in refused.text) == (422, True)
    finally:
        started.stop()


def test_a_running_server_gets_its_definitions(package: Path, server: ServerProcess) -> None:
    result = run(package, "--server", server.base)
    assert result.exit_code == 0, result.output
    assert "Not sent: 1 SearchParameter" in result.output
    with httpx.Client(base_url=server.base + "/") as client:
        (entry,) = client.get(f"StructureDefinition?url={URL}").json()["entry"]
        paths = [one["path"] for one in entry["resource"]["snapshot"]["element"]]
        assert paths[0] == "Patient"
        assert "Patient.birthDate" in paths
        lookup = client.get(f"CodeSystem/$lookup?system={TREE}&code=oak")
        assert lookup.status_code == 200
        assert client.get("SearchParameter/s").status_code == 404


def test_a_profile_that_cannot_be_used_is_told(tmp_path: Path, folder: Path) -> None:
    broken = {**profile("Patient", {"id": "Patient.nose", "min": 1}), "id": "broken"}
    result = run(packed(tmp_path / "b.tgz", MANIFEST, broken), packages=folder)
    assert result.exit_code == 1
    assert "there is no nose" in result.output


@pytest.mark.parametrize(
    ("element", "place"),
    [
        ({"id": "Patient.name", "min": 3, "max": "2"}, "Patient.name: min 3 is more than max 2"),
        ({"id": "Patient.contact", "min": 1, "max": "0"}, "Patient.contact: min 1 is more than"),
    ],
)
def test_a_profile_that_nothing_can_fit_is_told(
    tmp_path: Path, folder: Path, element: dict[str, Any], place: str
) -> None:
    broken = {**profile("Patient", element), "id": "broken"}
    result = run(packed(tmp_path / "b.tgz", MANIFEST, SYSTEM, broken), packages=folder)
    assert result.exit_code == 1
    assert f"R-1.json: the profile {URL}, element {place}" in result.output


def test_it_is_never_put_elsewhere(tmp_path: Path, folder: Path) -> None:
    manifest: dict[str, Any] = {**MANIFEST, "name": "../up", "version": "/1"}
    assert run(packed(tmp_path / "b.tgz", manifest), packages=folder).exit_code == 0
    assert [each.name for each in folder.iterdir()] == ["..-up--1.tgz"]


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (None, "package.json"),
        ({**MANIFEST, "fhirVersions": ["5.0.0"]}, "not for 4.0.1"),
        ({**MANIFEST, "dependencies": {"other.guide": "1"}}, "depends on other.guide"),
    ],
)
def test_what_is_no_package_is_not_loaded(
    tmp_path: Path, folder: Path, manifest: dict[str, Any] | None, text: str
) -> None:
    result = run(packed(tmp_path / "b.tgz", manifest, PROFILE), packages=folder)
    assert result.exit_code == 2
    assert text in result.output
    assert list(folder.iterdir()) == []


def test_without_a_folder_it_says_what_is_missing(package: Path) -> None:
    result = run(package)
    assert result.exit_code == 2
    assert "KEYWORKING_PACKAGES names no folder" in result.output


def test_without_a_server_nothing_is_sent(package: Path) -> None:
    assert run(package, "--server", "http://127.0.0.1:9/fhir").exit_code == 2
