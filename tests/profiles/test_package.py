"""`keyworking package`: a FHIR package that others can load."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.cli import main
from fhir_server.fhir import canonicals
from fhir_server.packaging import CannotPackage, contents, manifest, packed, write
from tests.profiles.rules import FOLDERS, TERMINOLOGY
from tests.support import SHARED, needs_package

UK_CORE = SHARED / "fhir" / "uk.core.r4.tgz"


def opened(archive: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = [member for member in tar if member.isfile()]
        return {one.name: json.loads(tar.extractfile(one).read()) for one in members}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    return opened(packed(contents()))


def test_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, _ = write(tmp_path / "first.tgz")
    second, _ = write(tmp_path / "second.tgz")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_holds_every_profile_extension_and_code_system(package: dict[str, Any]) -> None:
    for folder in FOLDERS:
        assert package[f"package/StructureDefinition-{folder.name}.json"]["id"] == folder.name
    for path in TERMINOLOGY.glob("*.json"):
        assert package[f"package/{path.name}"]["resourceType"] == path.name.partition("-")[0]
    assert "package/SearchParameter-Task-due.json" in package
    assert "package/Questionnaire-dsr-risk.json" in package


def test_holds_valid_examples_and_no_others(package: dict[str, Any]) -> None:
    examples = [name for name in package if name.startswith("package/example/")]
    valid = sum(1 for folder in FOLDERS for _ in (folder / "examples").glob("valid-*.json"))
    assert len(examples) == valid + 1
    assert "package/example/Flag-kw-rating-flag-blue.json" in package


def test_holds_resources_that_r4b_takes(package: dict[str, Any]) -> None:
    for name, content in package.items():
        if "resourceType" in content:
            get_fhir_model_class(content["resourceType"]).model_validate(content)
            assert name.endswith(f"/{content['resourceType']}-{content['id']}.json")


@pytest.mark.parametrize("folder", ["package", "package/example"])
def test_has_an_index_of_what_is_in_a_folder(package: dict[str, Any], folder: str) -> None:
    index = package[f"{folder}/.index.json"]
    assert index["index-version"] == 1
    listed = {f"{folder}/{entry['filename']}": entry for entry in index["files"]}
    found = {
        name: content
        for name, content in package.items()
        if name.rpartition("/")[0] == folder and "resourceType" in content
    }
    assert listed.keys() == found.keys()
    for name, entry in listed.items():
        for key in entry.keys() - {"filename"}:
            assert entry[key] == found[name][key]
    if folder == "package":
        assert all("url" in entry for entry in listed.values() if _has_url(entry))


def _has_url(entry: dict[str, Any]) -> bool:
    return str(entry["resourceType"]) != "NamingSystem"


def test_says_what_it_leans_on(package: dict[str, Any]) -> None:
    found = package["package/package.json"]
    assert found == manifest()
    assert (found["fhirVersions"], found["canonical"]) == (["4.0.1"], canonicals.KW)
    assert found["dependencies"]["hl7.fhir.r4.core"] == "4.0.1"


@needs_package
def test_leans_on_the_uk_core_that_the_profiles_are_written_against() -> None:
    with tarfile.open(UK_CORE) as tar:
        theirs = json.loads(tar.extractfile("package/package.json").read())  # type: ignore[union-attr]
    assert manifest()["dependencies"][theirs["name"]] == theirs["version"]


def test_has_one_place_where_snapshots_are_put_in() -> None:
    files = contents(lambda one: {**one, "snapshot": {"element": [{"id": one["type"]}]}})
    flag = json.loads(files["package/StructureDefinition-kw-rating-flag.json"])
    assert flag["snapshot"]["element"] == [{"id": "Flag"}]
    assert "snapshot" not in json.loads(files["package/ValueSet-legal-basis.json"])


def test_is_written_by_a_command(tmp_path: Path) -> None:
    target = tmp_path / "kw.tgz"
    result = CliRunner().invoke(main, ["package", "--output", str(target)], catch_exceptions=False)
    assert result.exit_code == 0
    files = opened(gzip.compress(gzip.decompress(target.read_bytes())))
    resources = sum("resourceType" in content for content in files.values())
    assert result.output == f"{target}: {resources} resources\n"


def test_is_named_after_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = write(None)
    assert path.name == f"keyworking.fhir.r4-{manifest()['version']}.tgz"
    assert path.exists()


def test_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "kw.tgz"
    with pytest.raises(CannotPackage, match="cannot be written: No such file"):
        write(target)
    result = CliRunner().invoke(main, ["package", "--output", str(target)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {target} cannot be written")


def test_its_profiles_have_snapshots(package: dict[str, Any]) -> None:
    found = [one for one in package.values() if one.get("resourceType") == "StructureDefinition"]
    assert len(found) > 30
    for one in found:
        assert (
            one["snapshot"]["element"][0] | {"path": one["type"], "id": one["type"]}
            == (one["snapshot"]["element"][0])
        )
