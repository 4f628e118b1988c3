"""Build the tables in `fhir_server/fhir/data/` from HL7's package of FHIR R4.

    python tools/build_definitions.py hl7.fhir.r4.core.tgz [--out DIRECTORY]

The package is `hl7.fhir.r4.core` 4.0.1 of HL7's package registry
(https://hl7.org/fhir/R4/downloads.html), licence CC0-1.0. The tables hold paths,
cardinalities, types, bindings, summary flags, codes and expressions, no prose. One entry a line,
sorted, so that a second run gives the same bytes and a change shows as a small diff.
"""

import argparse
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
Codes = dict[str, set[str]]
Table = Mapping[str, object]

STRUCTURE: Final = "http://hl7.org/fhir/StructureDefinition/"
SEARCH_PARAMETER: Final = "http://hl7.org/fhir/SearchParameter/"
FHIR_TYPE: Final = STRUCTURE + "structuredefinition-fhir-type"
KINDS: Final = {"resource": "resource", "complex-type": "datatype", "primitive-type": "primitive"}
COMPARTMENTS: Final = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")
SHARED_PARAMETERS: Final = ("clinical", "conformance", "individual", "medications", "filter")
"""What the url of a parameter starts with where it is no type: the parameters of several types."""
NOT_CORE: Final = frozenset({"List-notes"})
ANY_TYPE: Final = ("Resource", "DomainResource")
DATA: Final = Path(__file__).parents[1] / "fhir_server" / "fhir" / "data"


class NotEnumerableError(Exception):
    """The package does not hold all codes of a value set (mime types, languages, UCUM)."""


class Package:
    """The conformance resources of the package by canonical address."""

    def __init__(self, path: Path) -> None:
        self._by_type: dict[str, dict[str, Json]] = {}
        for resource in _resources(path):
            of_type = self._by_type.setdefault(resource["resourceType"], {})
            of_type[resource["url"]] = resource

    def all(self, resource_type: str) -> Iterator[Json]:
        by_url = self._by_type[resource_type]
        return (by_url[url] for url in sorted(by_url))

    def get(self, resource_type: str, url: str) -> Json | None:
        return self._by_type[resource_type].get(url.partition("|")[0])

    def types(self) -> Iterator[Json]:
        """The types of FHIR itself: no profiles and no logical models."""
        return (
            definition
            for definition in self.all("StructureDefinition")
            if definition["kind"] in KINDS and definition.get("derivation") != "constraint"
        )


def _resources(path: Path) -> Iterator[Json]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if _is_resource_file(member.name) else None
            resource: Json = json.load(file) if file else {}
            if "url" in resource and "resourceType" in resource:
                yield resource


def _is_resource_file(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder == "package" and re.match(r"[A-Z]\w+-.*\.json", file) is not None


# Types ---------------------------------------------------------------------------------------


def types_table(package: Package) -> Table:
    """Type or backbone path -> {kind, base, elements}; `elements` holds what `base` has not."""
    table: dict[str, object] = {}
    for definition in package.types():
        elements = definition["snapshot"]["element"]
        for owner in _owners(elements):
            table[owner["path"]] = _type_entry(package, definition, owner, elements)
    return table


def resource_types_table(package: Package) -> Table:
    """Resource type -> its base, for the types that a resource can have."""
    return {
        definition["type"]: _base(definition)
        for definition in package.types()
        if definition["kind"] == "resource" and not definition["abstract"]
    }


def _owners(elements: list[Json]) -> list[Json]:
    """The root and each element with its own children: a backbone."""
    parents = {element["path"].rpartition(".")[0] for element in elements}
    return [element for element in elements if element["path"] in parents]


def _type_entry(package: Package, definition: Json, owner: Json, elements: list[Json]) -> Json:
    path = owner["path"]
    is_root = path == definition["type"]
    backbones = {owner["path"] for owner in _owners(elements)}
    own = [
        _element_row(package, element, backbones)
        for element in elements
        if element["path"].rpartition(".")[0] == path
        and element["base"]["path"].partition(".")[0] == path.partition(".")[0]
        and not (definition["kind"] == "primitive-type" and element["path"] == f"{path}.value")
    ]
    return {
        "kind": KINDS[definition["kind"]] if is_root else "backbone",
        "base": _base(definition) if is_root else owner["type"][0]["code"],
        "elements": own,
    }


def _base(definition: Json) -> str:
    base: str = definition.get("baseDefinition", "").removeprefix(STRUCTURE)
    if definition["kind"] == "primitive-type":
        return "Element"  # `code` is derived from `string`, its elements are Element's
    return base


def _element_row(package: Package, element: Json, backbones: set[str]) -> list[object]:
    """[name, min, max or null, [[type, target, ...], ...], required value set or null, summary]

    The last stands only where it is true.
    """
    path, most = element["path"], element["max"]
    return [
        path.rpartition(".")[2],
        element["min"],
        None if most == "*" else int(most),
        [[path]] if path in backbones else list(_types(package, element)),
        _required_value_set(element),
        *([True] if element.get("isSummary") else ()),
    ]


def _types(package: Package, element: Json) -> Iterator[list[str]]:
    if "contentReference" in element:
        yield [element["contentReference"].removeprefix("#")]
    for entry in element.get("type", ()):
        yield [_type_code(element["path"], entry), *_targets(package, entry)]


def _type_code(path: str, entry: Json) -> str:
    if path == "Resource.id":
        return "id"  # the package says string, https://hl7.org/fhir/R4/resource.html says id
    for extension in entry.get("extension", ()):
        if extension["url"] == FHIR_TYPE:
            return str(extension["valueUrl"])
    return str(entry["code"])


def _targets(package: Package, entry: Json) -> list[str]:
    targets: set[str] = set()
    for profile in entry.get("targetProfile", ()):
        definition = package.get("StructureDefinition", profile)
        targets.add(definition["type"] if definition else profile.removeprefix(STRUCTURE))
    return [] if "Resource" in targets else sorted(targets)


def _required_value_set(element: Json) -> str | None:
    binding = element.get("binding", {})
    if binding.get("strength") != "required":
        return None
    return str(binding["valueSet"]).partition("|")[0]


# Search parameters ---------------------------------------------------------------------------


def search_parameters_table(package: Package) -> Table:
    """Type -> [[code, type, url, expression, targets, [[definition, expression], ...]], ...]"""
    known = {definition["type"] for definition in package.types()}
    table: dict[str, list[list[object]]] = {}
    for parameter in package.all("SearchParameter"):
        if _is_core_parameter(parameter, known):
            for base in parameter["base"]:
                table.setdefault(base, []).append(_parameter_row(parameter, base, known))
    return {base: sorted(rows, key=lambda row: str(row[0])) for base, rows in table.items()}


def _is_core_parameter(parameter: Json, known: set[str]) -> bool:
    """R4's registry has no parameters of examples or on extensions; the package has some."""
    name = parameter["url"].removeprefix(SEARCH_PARAMETER)
    prefix = name.partition("-")[0]
    return (
        bool(parameter.get("base"))
        and name not in NOT_CORE
        and not name.startswith(("patient-extensions", "example"))
        and (prefix in known or prefix in SHARED_PARAMETERS)
    )


def _parameter_row(parameter: Json, base: str, known: set[str]) -> list[object]:
    return [
        parameter["code"],
        parameter["type"],
        parameter["url"],
        branches_of(parameter.get("expression", ""), base, known),
        sorted(parameter.get("target", ())),
        [[part["definition"], part["expression"]] for part in parameter.get("component", ())],
    ]


def branches_of(expression: str, base: str, known: set[str]) -> str:
    """The branches of a union over several types that begin at `base`."""
    wanted = {base, *ANY_TYPE}
    kept = [
        branch
        for branch in _branches(expression)
        if (owner := re.match(r"\(*\s*(\w*)", branch)) is not None
        and (owner[1] in wanted or owner[1] not in known)
    ]
    return " | ".join(kept)


def _branches(expression: str) -> list[str]:
    """Split at each `|` that stands outside parentheses and quotation marks."""
    parts, depth, quoted = [""], 0, False
    for character in expression:
        quoted ^= character == "'"
        depth += 0 if quoted else (character == "(") - (character == ")")
        if character == "|" and not quoted and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


# Compartments --------------------------------------------------------------------------------


def compartments_table(package: Package) -> Table:
    """Compartment -> {resource type: [search parameter, ...]}"""
    table: dict[str, object] = {}
    for definition in package.all("CompartmentDefinition"):
        if definition["id"] != "example":
            table[definition["code"]] = {
                entry["code"]: entry["param"]
                for entry in sorted(definition["resource"], key=lambda entry: str(entry["code"]))
                if entry.get("param")
            }
    if tuple(sorted(table)) != COMPARTMENTS:
        raise SystemExit(f"expected the compartments {COMPARTMENTS}, found {sorted(table)}")
    return table


# Value sets ----------------------------------------------------------------------------------


def value_sets_table(package: Package) -> Table:
    """Canonical -> {system: [code, ...]}, for the enumerable sets of required bindings."""
    table: dict[str, object] = {}
    for url in _required_value_sets(package):
        try:
            codes = expand(package, url)
        except NotEnumerableError:
            continue
        table[url] = {system: sorted(codes[system]) for system in sorted(codes)}
    return table


def _required_value_sets(package: Package) -> set[str]:
    return {
        url
        for definition in package.types()
        for element in definition["snapshot"]["element"]
        if (url := _required_value_set(element)) is not None
    }


def expand(package: Package, url: str) -> Codes:
    """All codes of a value set; raises NotEnumerableError where the package does not hold them."""
    value_set = package.get("ValueSet", url)
    if value_set is None:
        raise NotEnumerableError(url)
    compose = value_set["compose"]
    codes = _union(_part(package, part) for part in compose["include"])
    for part in compose.get("exclude", ()):
        for system, excluded in _part(package, part).items():
            codes.get(system, set()).difference_update(excluded)
    return {system: members for system, members in codes.items() if members}


def _part(package: Package, part: Json) -> Codes:
    """One include or exclude: what is in the system and in each of the value sets."""
    sets = [expand(package, url) for url in part.get("valueSet", ())]
    if "system" in part:
        sets.append({part["system"]: _codes_of_system(package, part)})
    common = sets[0]
    for other in sets[1:]:
        common = {system: common[system] & other[system] for system in common.keys() & other}
    return common


def _codes_of_system(package: Package, part: Json) -> set[str]:
    if "filter" in part:
        raise NotEnumerableError(part["system"])
    if "concept" in part:
        return {concept["code"] for concept in part["concept"]}
    system = package.get("CodeSystem", part["system"])
    if system is None or system["content"] != "complete":
        raise NotEnumerableError(part["system"])
    return set(_concepts(system.get("concept", ())))


def _concepts(concepts: Iterable[Json]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", ()))


def _union(sets: Iterable[Codes]) -> Codes:
    total: Codes = {}
    for codes in sets:
        for system, members in codes.items():
            total.setdefault(system, set()).update(members)
    return total


# Files ---------------------------------------------------------------------------------------


def tables(package: Package) -> dict[str, Table]:
    return {
        "types": types_table(package),
        "resource-types": resource_types_table(package),
        "search-parameters": search_parameters_table(package),
        "compartments": compartments_table(package),
        "value-sets": value_sets_table(package),
    }


def render(table: Table) -> bytes:
    """One entry a line, sorted by key."""
    lines = (f"{_compact(key)}:{_compact(table[key])}" for key in sorted(table))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def build(package_path: Path, out: Path) -> None:
    package = Package(package_path)
    contents = {f"{name}.json": render(table) for name, table in tables(package).items()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (contents | {"checksums.json": render(sums)}).items():
        (out / name).write_bytes(content)
        sys.stdout.write(f"{name}: {len(content)} bytes\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the tables of FHIR R4's definitions.")
    parser.add_argument("package", type=Path, help="hl7.fhir.r4.core.tgz")
    parser.add_argument("--out", type=Path, default=DATA, help="default: fhir_server/fhir/data")
    arguments = parser.parse_args()
    build(arguments.package, arguments.out)


if __name__ == "__main__":
    main()
