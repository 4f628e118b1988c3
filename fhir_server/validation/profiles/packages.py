"""FHIR packages: `.tgz` files in the layout of npm, with a manifest and one resource a file.

Source: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification.
Nothing is unpacked to the disk, and nothing is fetched: what a package depends on has to be there.
"""

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.errors import FhirError
from fhir_server.fhir import json

_MAX_FILE: Final = 32 * 1024 * 1024
_MAX_FILES: Final = 100_000
_MAX_TOTAL: Final = 1024 * 1024 * 1024
SHIPPED: Final = frozenset(
    {"hl7.fhir.r4.core", "uk.core.r4", "fhir.r4.ukcore.stu2", "keyworking.fhir.r4"}
)
"""Packages whose profiles the server has anyway."""


class BadPackage(ValueError):
    """A file that is no FHIR package, or one that is not for R4."""


class _Manifest(msgspec.Struct, frozen=True, rename={"fhir_versions": "fhirVersions"}):
    name: str
    version: str
    fhir_versions: tuple[str, ...] = ()
    dependencies: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Package:
    """`dependencies` name other packages with their versions."""

    name: str
    version: str
    dependencies: Mapping[str, str]
    resources: tuple[Mapping[str, Any], ...]


def read_package(path: Path) -> Package:
    """All resources of a package but its examples.

    Raises:
        BadPackage: naming the file and what is wrong with it.
    """
    try:
        with tarfile.open(path) as archive:
            files = dict(_files(archive))
    except tarfile.ReadError:
        raise BadPackage(f"{path} is no FHIR package: that is a .tgz, a gzipped tar file") from None
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BadPackage(f"{path} cannot be read as a package: {error}") from None
    manifest = _manifest(path, files.pop("package.json", b""))
    versions = [each for each in manifest.fhir_versions if each.startswith("4.0")]
    if manifest.fhir_versions and not versions:
        raise BadPackage(f"{path} is for FHIR {', '.join(manifest.fhir_versions)}, not for 4.0.1")
    resources = tuple(_resource(path, name, content) for name, content in sorted(files.items()))
    return Package(manifest.name, manifest.version, manifest.dependencies, resources)


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    total = 0
    for number, member in enumerate(archive):
        folder, _, name = member.name.rpartition("/")
        if number >= _MAX_FILES or total > _MAX_TOTAL:
            raise tarfile.TarError("it is too large")
        if folder != "package" or not name.endswith(".json") or name.startswith("."):
            continue
        if member.size > _MAX_FILE:
            raise tarfile.TarError(f"{name} is larger than {_MAX_FILE} bytes")
        file = archive.extractfile(member)
        content = file.read() if file else b""
        total += len(content)
        yield name, content


def _manifest(path: Path, content: bytes) -> _Manifest:
    try:
        return msgspec.json.decode(content, type=_Manifest)
    except msgspec.MsgspecError as error:
        text = f"{path} has no package/package.json that says what it is: {error}"
        raise BadPackage(text) from None


def _resource(path: Path, name: str, content: bytes) -> Mapping[str, Any]:
    try:
        return json.decode_resource(content)
    except FhirError as error:
        raise BadPackage(f"{path}: {name} is no resource: {error}") from None


def read_packages(places: Iterable[str]) -> list[Package]:
    """Those of the files and folders, each after what it depends on.

    Raises:
        BadPackage: for a place that is not there, and for a package that is missing.
    """
    found = [read_package(path) for place in places for path in _paths(Path(place))]
    names = {package.name for package in found} | SHIPPED
    for package in found:
        missing = sorted(package.dependencies.keys() - names)
        missing = [name for name in missing if not name.startswith("hl7.terminology")]
        if missing:
            raise BadPackage(
                f"{package.name} {package.version} depends on {', '.join(missing)}, "
                "which is not among the packages"
            )
    return found


def _paths(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(place.glob("*.tgz"))
    if not place.exists():
        raise BadPackage(f"{place} is not there")
    return [place]


def resources_of(places: Iterable[str]) -> list[Mapping[str, Any]]:
    """What packages define: StructureDefinitions, terminology and so on.

    Raises:
        BadPackage: as `read_packages`.
    """
    return [resource for package in read_packages(places) for resource in package.resources]


def definitions(resources: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The StructureDefinitions among them that constrain something of R4.

    Logical models and R4's own types have nothing to be checked by.
    """
    return [
        resource
        for resource in resources
        if resource.get("resourceType") == "StructureDefinition"
        and "url" in resource
        and resource.get("derivation") == "constraint"
    ]
