"""The tables of profiles, as their checksums say and as the packages give them; FHIR packages."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server import packaging
from fhir_server.validation.profiles.packages import BadPackage, read_package, read_packages
from fhir_server.validation.profiles.rules import DATA
from tests.support import PACKAGE, SHARED, needs_package
from tests.validation.profiles import profile
from tools.build_profiles import build

UK_CORE: Final = SHARED / "fhir" / "uk.core.r4.tgz"
TABLES: Final = ("rules.json", "core-profiles.json", "uk-core-profiles.json")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_as_it_was_built(table: str) -> None:
    checksums = json.loads((DATA / "checksums.json").read_bytes())
    assert hashlib.sha256((DATA / table).read_bytes()).hexdigest() == checksums[table]


@needs_package
def test_the_packages_give_the_same_tables(tmp_path: Path) -> None:
    build(PACKAGE, UK_CORE, tmp_path)
    for table in (*TABLES, "checksums.json"):
        assert (tmp_path / table).read_bytes() == (DATA / table).read_bytes(), table


def packed(path: Path, manifest: dict[str, Any] | None, *resources: dict[str, Any]) -> Path:
    files = {f"R-{number}.json": resource for number, resource in enumerate(resources)}
    if manifest is not None:
        files["package.json"] = manifest
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            file = path.parent / name
            file.write_text(json.dumps(content))
            archive.add(file, f"package/{name}")
    return path


MANIFEST: Final = {"name": "trust.guide", "version": "1.0.0", "fhirVersions": ["4.0.1"]}


def test_a_package_is_read(tmp_path: Path) -> None:
    wanted = {**MANIFEST, "dependencies": {"hl7.fhir.r4.core": "4.0.1"}}
    path = packed(tmp_path / "a.tgz", wanted, profile("Patient"))
    package = read_package(path)
    assert (package.name, package.version) == ("trust.guide", "1.0.0")
    assert [each["url"] for each in package.resources] == [profile("Patient")["url"]]
    assert [each.name for each in read_packages([str(tmp_path)])] == ["trust.guide"]


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (None, "has no package/package.json"),
        ({**MANIFEST, "fhirVersions": ["5.0.0"]}, "is for FHIR 5.0.0"),
        ({**MANIFEST, "dependencies": {"other.guide": "1"}}, "depends on other.guide"),
    ],
)
def test_a_package_that_cannot_be_used_says_why(
    tmp_path: Path, manifest: dict[str, Any] | None, text: str
) -> None:
    packed(tmp_path / "a.tgz", manifest)
    with pytest.raises(BadPackage, match=text):
        read_packages([str(tmp_path)])


def test_a_package_of_a_trust_stands_on_what_the_server_has(tmp_path: Path) -> None:
    own = {"hl7.fhir.r4.core": "4.0.1", "uk.core.r4": "2.0.0", packaging.NAME: "0.1.0"}
    path = packed(tmp_path / "p.tgz", {**MANIFEST, "dependencies": own})
    assert [package.name for package in read_packages([str(path)])] == [MANIFEST["name"]]


def test_what_is_no_package_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.tgz").write_text("no archive")
    with pytest.raises(BadPackage, match="is no FHIR package"):
        read_packages([str(tmp_path / "b.tgz")])
    with pytest.raises(BadPackage, match="is not there"):
        read_packages([str(tmp_path / "c.tgz")])
