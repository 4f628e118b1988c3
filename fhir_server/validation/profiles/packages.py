"""FHIR packages: `.tgz` files in the layout of npm, with a manifest and one resource a file.

Source: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification.
Nothing is unpacked to the disk, and nothing is fetched: what a package depends on has to be there.
At start all of a package is passed once, for the headings of its resources; what is in one is read
when it is asked for.
"""

import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.filed import Filed
from fhir_server.fhir.json import Resource
from fhir_server.fhir.unzipped import Unzipped

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
    """`dependencies` name other packages with their versions; `files` go with the resources."""

    name: str
    version: str
    dependencies: Mapping[str, str]
    resources: tuple[Filed, ...]
    files: tuple[str, ...] = ()


def read_package(path: Path) -> Package:
    """All resources of a package but its examples.

    Raises:
        BadPackage: naming the file and what is wrong with it.
    """
    manifest, resources = b"", {}
    try:
        unzipped = Unzipped(path, _MAX_TOTAL)
        with tarfile.open(fileobj=unzipped, mode="r|") as archive:
            for file in _files(archive):
                if file.name == "package.json":
                    manifest = file.content
                else:
                    resources[file.name] = _filed(path, unzipped, file)
        while unzipped.read(_MAX_FILE):  # so that a file that was cut off is told now
            pass
    except tarfile.ReadError:
        raise BadPackage(f"{path} is no FHIR package: that is a .tgz, a gzipped tar file") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise BadPackage(f"{path} cannot be read as a package: {error}") from None
    found = _manifest(path, manifest)
    versions = [each for each in found.fhir_versions if each.startswith("4.0")]
    if found.fhir_versions and not versions:
        raise BadPackage(f"{path} is for FHIR {', '.join(found.fhir_versions)}, not for 4.0.1")
    return Package(
        found.name,
        found.version,
        found.dependencies,
        tuple(resources[name] for name in sorted(resources)),
        tuple(sorted(resources)),
    )


class _File(NamedTuple):
    """`at` is where its content begins in what is unzipped."""

    name: str
    at: int
    content: bytes


def _files(archive: tarfile.TarFile) -> Iterator[_File]:
    for number, member in enumerate(archive):
        folder, _, name = member.name.rpartition("/")
        if number >= _MAX_FILES:
            raise tarfile.TarError("it is too large")
        if folder != "package" or not name.endswith(".json") or name.startswith("."):
            continue
        if member.size > _MAX_FILE:
            raise tarfile.TarError(f"{name} is larger than {_MAX_FILE} bytes")
        file = archive.extractfile(member) if member.isreg() else None
        yield _File(name, member.offset_data, file.read() if file else b"")


def _manifest(path: Path, content: bytes) -> _Manifest:
    try:
        return msgspec.json.decode(content, type=_Manifest)
    except msgspec.MsgspecError as error:
        text = f"{path} has no package/package.json that says what it is: {error}"
        raise BadPackage(text) from None


def _filed(path: Path, unzipped: Unzipped, file: _File) -> Filed:
    name, at, size = file.name, file.at, len(file.content)

    def read() -> Resource:
        try:
            return json.decode_resource(unzipped.at(at, size))
        except FhirError as error:
            text = f"{name} of the package {path.name} is no resource: {error}"
            raise FhirError(Kind.UNSUPPORTED, text) from None

    try:
        return Filed(file.content, read)
    except ValueError as error:
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


def resources_of(places: Iterable[str]) -> list[Filed]:
    """What packages define: StructureDefinitions, terminology and so on.

    Raises:
        BadPackage: as `read_packages`.
    """
    return [resource for package in read_packages(places) for resource in package.resources]


def definitions(resources: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The StructureDefinitions among them that constrain something of R4.

    Logical models and R4's own types have nothing to be checked by.

    Raises:
        BadPackage: for one without type or base.
    """
    return [
        _sound(resource)
        for resource in resources
        if resource.get("resourceType") == "StructureDefinition"
        and "url" in resource
        and resource.get("derivation") == "constraint"
    ]


def _sound(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """It breaks R4 where it does not say what it constrains."""
    for name in ("url", "type", "baseDefinition"):
        if not isinstance(definition.get(name), str):
            text = f"The StructureDefinition {definition.get('url')} of a package has no {name}"
            raise BadPackage(text)
    return definition
