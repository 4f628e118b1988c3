"""`keyworking load-package`: a FHIR package, put where servers find it, or sent to a running one.

In the folder of packages that the settings name it is what resources are checked by, from the next
start on; sent, its definitions and terminology are resources like any other, which the terminology
operations and bindings use at once.
Source: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.loading import CannotLoad, Report, load
from fhir_server.validation.checker import Checker
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.packages import (
    BadPackage,
    Package,
    definitions,
    read_package,
    read_packages,
)
from fhir_server.validation.profiles.tree import Node, ProfileError
from fhir_server.validation.profiles.written import with_snapshot

_SENT: Final = ("CodeSystem", "ConceptMap", "NamingSystem", "StructureDefinition", "ValueSet")
"""What means nothing but itself; a SearchParameter would change what the server indexes."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9.@_-]+")
"""What stands in no name of a file."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A package that can be used beside those that are there, and what of it cannot."""

    package: Package
    library: Library
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.package.name} {self.package.version}"

    def lines(self) -> Iterator[str]:
        """For people."""
        counts = Counter(str(one.get("resourceType")) for one in self.package.resources)
        yield f"{self.name}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
        yield from (f"  {problem}" for problem in self.problems)


def verified(path: Path, packages: Sequence[str]) -> Verified:
    """The package in a file, looked at with those of the settings.

    Raises:
        CannotLoad: where it is none, or lacks a package on which it depends.
    """
    try:
        package = read_package(path)
        for resource in package.resources:
            resource.fresh()
        others = [one for one in read_packages([*packages, str(path)]) if one.name != package.name]
    except (BadPackage, FhirError) as error:
        raise CannotLoad(str(error)) from None
    every = [one for each in (*others, package) for one in each.resources]
    library = Library(definitions(every))
    return Verified(package, library, tuple(_problems(package, library)))


def _problems(package: Package, library: Library) -> Iterator[str]:
    """Profiles by which nothing can be checked, or that nothing can fit: all would be refused."""
    checker = Checker(library)
    for file, resource in zip(package.files, package.resources, strict=True):
        for definition in definitions([resource]):
            url = str(definition["url"])
            try:
                checker.check_of(url)
                tree = library.tree(url)
            except ProfileError as error:
                yield f"{file}: the {error}"
                continue
            for problem in _unfit(tree, tree.name) if tree else ():
                yield f"{file}: the profile {url}, element {problem}"


def _unfit(node: Node, where: str) -> Iterator[str]:
    """Elements that need more values than they may have."""
    least, most = node.element["min"], node.element["max"]
    if node.touched and most != "*" and least > int(most):
        yield f"{where}: min {least} is more than max {most}, so nothing can fit it"
    for child in (node.children or {}).values():
        yield from _unfit(child, f"{where}.{child.name}")
    for each in node.slices.values():
        yield from _unfit(each, f"{where}:{each.slice_name}")


def place(path: Path, package: Package, packages: Sequence[str]) -> Path:
    """Copy the file to the folder of packages; where it is then.

    Raises:
        CannotLoad: where the settings name no folder, or it cannot be written.
    """
    folder = next((Path(one) for one in packages if Path(one).is_dir()), None)
    if folder is None:
        raise CannotLoad(
            "KEYWORKING_PACKAGES names no folder that is there; name one, or --server to send it"
        )
    target = folder / f"{_UNFIT.sub('-', f'{package.name}-{package.version}')}.tgz"
    unfinished = target.with_suffix(".part")
    try:
        shutil.copyfile(path, unfinished)
        unfinished.replace(target)
    except OSError as error:
        raise CannotLoad(f"{target} cannot be written: {error}") from None
    return target


def send(found: Verified, server: str, token: str = "") -> tuple[Report, Counter[str]]:
    """Send what may be sent; what came of it, and by type how much was left out.

    Raises:
        CannotLoad: when there is nothing to send, or no server answers.
    """
    left_out: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        for number, resource in enumerate(found.package.resources):
            if resource.get("resourceType") in _SENT and "id" in resource:
                whole = json.encode(_whole(resource, found.library))
                (Path(folder) / f"{number:06}.json").write_bytes(whole)
            else:
                left_out[str(resource.get("resourceType"))] += 1
        return load([Path(folder)], server, 2, token), left_out


def _whole(resource: Mapping[str, Any], library: Library) -> dict[str, Any]:
    if (
        resource["resourceType"] != "StructureDefinition"
        or resource.get("derivation") != "constraint"
    ):
        return dict(resource)
    try:
        return dict(with_snapshot(resource, library))
    except ProfileError:
        return dict(resource)  # it is among the problems
