"""StructureDefinitions by canonical: R4's own, UK Core's, the project's and those of packages.

A canonical may end in `|version`; without, the newest that is known is meant. Nothing is read
before it is first asked for.

Sources: https://hl7.org/fhir/R4/references.html#canonical,
https://hl7.org/fhir/R4/structuredefinition.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES, is_resource_type
from fhir_server.validation.profiles.rules import table
from fhir_server.validation.profiles.snapshot import profile_tree, type_tree
from fhir_server.validation.profiles.tree import CANONICAL, Node, ProfileError

Definition = Mapping[str, Any]
_SHIPPED: Final = ("core-profiles", "uk-core-profiles")
R4: Final = "4.0.1"


class Library:
    """Known StructureDefinitions; the trees of those that were asked for are kept."""

    def __init__(self, added: Iterable[Definition] = (), folder: Path = PROFILES) -> None:
        self._added: dict[str, dict[str, Definition]] = {}
        for definition in (*project_profiles(folder), *added):
            versions = self._added.setdefault(definition["url"], {})
            versions[str(definition.get("version", ""))] = definition
        self._namesakes: dict[str, str] = {}
        self._trees: dict[str, Node | None] = {}
        self._walking: set[str] = set()

    def definition(self, canonical: str) -> Definition | None:
        """A profile or extension; None where it is not known, or not in that version."""
        url, _, version = canonical.partition("|")
        known = self._added.get(url)
        if known is None:
            return _fits(_shipped(url), version)
        fitting = {v: each for v, each in known.items() if not version or _is_version(v, version)}
        return _newest(fitting) if fitting else None

    def is_known(self, canonical: str) -> bool:
        return self.type_of(canonical) is not None

    def type_of(self, canonical: str) -> str | None:
        """The type that a profile constrains or that the canonical names; None where unknown."""
        definition = self.definition(canonical)
        if definition is not None:
            return str(definition["type"])
        name = r4_type(canonical)
        return name if name and type_tree(name) else None

    def tree(self, canonical: str) -> Node | None:
        """The elements of a profile or type, None where it is not known.

        Raises:
            ProfileError: for one that cannot be used, or that is made from itself.
        """
        if canonical not in self._trees:
            if canonical in self._walking:
                raise ProfileError(canonical, "", "it is made from itself")
            self._walking.add(canonical)
            try:
                self._trees[canonical] = self._made(canonical)
            finally:
                self._walking.discard(canonical)
        return self._trees[canonical]

    def _made(self, canonical: str) -> Node | None:
        definition = self.definition(canonical)
        if definition is not None:
            try:
                return profile_tree(definition, self.tree)
            except FhirError as error:  # what is in a package is read here for the first time
                raise ProfileError(canonical, "", str(error)) from None
        name = r4_type(canonical)
        return type_tree(name) if name else None

    def namesake(self, url: str) -> str | None:
        """The known definition whose address ends in the same name, where this one is not known."""
        if not self._namesakes:
            self._namesakes = {known.rpartition("/")[2]: known for known in self.profiles()}
        return self._namesakes.get(url.rpartition("/")[2])

    def nearest(self, url: str) -> str | None:
        """The known definition that is called nearly so, of those whose addresses begin alike."""
        begin = f"{url.rpartition('/')[0]}/"
        known = [each for each in self.profiles() if each.startswith(begin)]
        return next(iter(get_close_matches(url, known, n=1, cutoff=0.9)), None)

    def of_resources(self) -> Mapping[str, Sequence[str]]:
        """By type, the canonicals of profiles of resources but for R4's own."""
        urls = sorted({*self._added, *table("uk-core-profiles")})
        found: dict[str, list[str]] = {}
        for url in urls:
            type_name = self.type_of(url) or ""
            if is_resource_type(type_name):
                found.setdefault(type_name, []).append(url)
        return found

    def profiles(self) -> Iterator[str]:
        """Canonicals, without versions, of all but R4's own types."""
        yield from sorted({*self._added, *(url for name in _SHIPPED for url in table(name))})


def r4_type(canonical: str) -> str | None:
    """`http://hl7.org/fhir/StructureDefinition/Patient|4.0.1`: Patient; None for a profile."""
    url, _, version = canonical.partition("|")
    if not url.startswith(CANONICAL) or (version and not _is_version(R4, version)):
        return None
    return url.removeprefix(CANONICAL)


def _is_version(version: str, wanted: str) -> bool:
    """`2.1` means any 2.1.x."""
    return version == wanted or version.startswith(f"{wanted}.")


def _fits(definition: Definition | None, wanted: str) -> Definition | None:
    if definition is None or not wanted:
        return definition
    return definition if _is_version(str(definition.get("version", "")), wanted) else None


def _newest(known: Mapping[str, Definition]) -> Definition:
    """Versions compare number by number, as https://semver.org says; the last one added else."""
    return known[max(known, key=_version_key)]


def _version_key(version: str) -> tuple[tuple[int, str], ...]:
    parts = version.replace("-", ".").split(".")
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _shipped(url: str) -> Definition | None:
    return _decoded_once(url) if any(url in table(name) for name in _SHIPPED) else None


@lru_cache(maxsize=32)  # the types of all of them are asked for once, as for `metadata`
def _decoded_once(url: str) -> Definition:
    """Of one that is there: senders can make up any number of addresses that are not."""
    return json.decode_resource(
        next(bytes(table(name)[url]) for name in _SHIPPED if url in table(name))
    )


def project_profiles(folder: Path) -> Iterator[Definition]:
    """The StructureDefinitions of a folder: `<name>/profile.json` each.

    Raises:
        ProfileError: for a file that is not JSON.
    """
    for path in sorted(folder.glob("*/profile.json")):
        yield _decoded(path, path.read_bytes())


def _decoded(path: Path, content: bytes) -> Definition:
    try:
        return json.decode_resource(content)
    except (FhirError, msgspec.DecodeError) as error:
        raise ProfileError(str(path), "", str(error)) from None
