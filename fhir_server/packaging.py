"""The project's FHIR package: its profiles, terminology and examples, for other servers to load.

An npm tarball as FHIR has it (https://confluence.hl7.org/display/FHIR/NPM+Package+Specification):
`package/package.json`, `package/.index.json`, the definitions beside them, and the valid examples
in `package/example/`. The same definitions give the same bytes.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.tree import ProfileError
from fhir_server.validation.profiles.written import with_snapshot

Definition = Mapping[str, Any]
Complete = Callable[[Definition], Definition]
"""What is done with each StructureDefinition: a snapshot is put in."""

NAME: Final = "keyworking.fhir.r4"
UK_CORE: Final = ("uk.core.r4", "2.0.0-staging.2025-06-20")
"""The package of UK Core that the profiles are written against."""
_TERMINOLOGY: Final = PROFILES.with_name("terminology")
_KINDS: Final = ("CodeSystem", "ValueSet", "ConceptMap", "NamingSystem")
_INDEXED: Final = ("id", "url", "version", "kind", "type")


class CannotPackage(Exception):
    """A file that should be in the package cannot be, or the package cannot be written."""


def whole(definition: Definition) -> Definition:
    """With its snapshot, as not everybody who loads a package makes one.

    Raises:
        CannotPackage: for a profile that cannot be used.
    """
    try:
        return with_snapshot(definition, _library())
    except ProfileError as error:
        raise CannotPackage(f"The {error}") from None


@cache
def _library() -> Library:
    return Library()


def write(path: Path | None) -> tuple[Path, int]:
    """Write the package, by default named after its version; where it is, and how many resources.

    Raises:
        CannotPackage: saying which file is not as it should be.
    """
    files = contents()
    target = path or Path(f"{NAME}-{_version()}.tgz")
    try:
        target.write_bytes(packed(files))
    except OSError as error:
        raise CannotPackage(f"{target} cannot be written: {error.strerror}") from None
    return target, sum(not name.endswith(("package.json", ".index.json")) for name in files)


def contents(complete: Complete = whole) -> dict[str, bytes]:
    """Each file of the package by its name in it."""
    definitions = {
        _file_name(one): complete(one) if one["resourceType"] == "StructureDefinition" else one
        for one in _definitions()
    }
    examples = {_file_name(one): one for one in _read(PROFILES.glob("*/examples/valid-*.json"))}
    files = {f"package/{name}": one for name, one in definitions.items()}
    files |= {f"package/example/{name}": one for name, one in examples.items()}
    files["package/package.json"] = manifest()
    files["package/.index.json"] = _index(definitions)
    files["package/example/.index.json"] = _index(examples)
    return {name: _encoded(content) for name, content in sorted(files.items())}


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tarball without times, owners or whatever else changes from run to run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0)


def manifest() -> dict[str, Any]:
    return {
        "name": NAME,
        "version": _version(),
        "title": "NHS keyworking: profiles and terminology",
        "description": "What the keyworking FHIR server asks of resources, on UK Core.",
        "author": "Keyworking FHIR server project",
        "license": "Apache-2.0",
        "type": "IG",
        "canonical": canonicals.KW,
        "fhirVersions": ["4.0.1"],
        "dependencies": {"hl7.fhir.r4.core": "4.0.1", UK_CORE[0]: UK_CORE[1]},
        "directories": {"lib": "package", "example": "package/example"},
    }


def _version() -> str:
    return version("keyworking-fhir-server")


def _definitions() -> Iterator[Definition]:
    yield from _read(PROFILES.glob("*/profile.json"))
    for folder in ("search-parameters", "measures"):
        yield from _read((PROFILES / folder).glob("*.json"))
    yield from _read(PROFILES.glob("kw-questionnaire/dsr-risk.json"))
    for kind in _KINDS:
        yield from _read(_TERMINOLOGY.glob(f"{kind}-*.json"))


def _read(paths: Iterable[Path]) -> Iterator[Definition]:
    """In the order of their names, as the order within a folder differs between machines."""
    for path in sorted(paths):
        try:
            yield json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise CannotPackage(f"{path} cannot be read: {error}") from None


def _file_name(resource: Definition) -> str:
    return f"{resource['resourceType']}-{resource['id']}.json"


def _index(resources: Mapping[str, Definition]) -> dict[str, Any]:
    return {
        "index-version": 1,
        "files": [
            {"filename": name, "resourceType": resource["resourceType"]}
            | {key: resource[key] for key in _INDEXED if isinstance(resource.get(key), str)}
            for name, resource in sorted(resources.items())
        ],
    }


def _encoded(content: Definition) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
