"""Build the tables in `fhir_server/validation/data/` from HL7's packages of FHIR R4 and UK Core.

    python tools/build_profiles.py hl7.fhir.r4.core.tgz uk.core.r4.tgz [--out DIRECTORY]

The packages are `hl7.fhir.r4.core` 4.0.1 (https://hl7.org/fhir/R4/downloads.html, CC0-1.0) and
UK Core (https://simplifier.net/hl7fhirukcorer4). `rules.json` holds what R4 says of an element
beyond the tables of `build_definitions.py`; the others hold profiles and extensions as
differentials, without prose. One entry a line, sorted: a second run gives the same bytes.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tools.build_definitions import STRUCTURE, Json, Package, Table, render

DATA: Final = Path(__file__).parents[1] / "fhir_server" / "validation" / "data"
CHECKED_BY_HAND: Final = frozenset({"ele-1", "ext-1"})
"""Of every element and extension: `validation/structure.py` has them in Python."""
HEAD: Final = ("url", "version", "name", "title", "status", "type", "kind", "baseDefinition")
CONTEXT: Final = ("context", "contextInvariant")
PROSE: Final = frozenset(
    {
        *("definition", "short", "comment", "mapping", "requirements", "alias", "example"),
        *("isModifierReason", "meaningWhenMissing", "orderMeaning", "condition", "isSummary"),
        *("extension", "base", "label", "code"),
    }
)


# What R4's own types say -----------------------------------------------------------------------


def rules_table(package: Package) -> Table:
    """Path -> {constraint?, binding?, isModifier?, profile?, maxLength?, minValue?, maxValue?}

    constraint: [[key, severity, expression], ...]; binding: [strength, value set] where it is
    not `example`; profile: those that the one type of the element has to fit.
    """
    table: dict[str, object] = {}
    roots = {each["type"]: each["snapshot"]["element"][0] for each in _types(package)}
    for definition in _types(package):
        for element in definition["snapshot"]["element"]:
            if _is_own(definition, element):
                rules = _rules(definition, element, roots)
                if rules:
                    table[element["path"]] = rules
    return table


def _types(package: Package) -> Iterator[Json]:
    return (each for each in package.types() if "snapshot" in each and each["kind"] != "logical")


def _is_own(definition: Json, element: Json) -> bool:
    """Neither inherited, nor the `value` of a primitive, which is no element of its own."""
    path: str = element["path"]
    if definition["kind"] == "primitive-type":
        return False
    base: str = element["base"]["path"]
    return path == definition["type"] or base.startswith(definition["type"] + ".")


def _rules(definition: Json, element: Json, roots: Mapping[str, Json]) -> Json:
    inherited = _inherited(definition, element, roots)
    constraints = [
        [each["key"], each["severity"], each["expression"]]
        for each in element.get("constraint", ())
        if each["key"] not in inherited and "expression" in each
    ]
    profiles = [p for entry in element.get("type", ()) for p in entry.get("profile", ())]
    rules: Json = {
        "constraint": constraints,
        "binding": _binding(element),
        "isModifier": element.get("isModifier", False),
        "profile": profiles,
        "maxLength": element.get("maxLength"),
        "minValue": element.get("minValueInteger"),
        "maxValue": element.get("maxValueInteger"),
    }
    return {name: value for name, value in rules.items() if value}


def _inherited(definition: Json, element: Json, roots: Mapping[str, Json]) -> frozenset[str]:
    """Keys of the rules that the type of the element has anyway."""
    is_root = element["path"] == definition["type"]
    base = definition.get("baseDefinition", "").removeprefix(STRUCTURE)
    types = [base] if is_root else [entry["code"] for entry in element.get("type", ())]
    keys = (
        each["key"] for name in types if name in roots for each in roots[name].get("constraint", ())
    )
    return CHECKED_BY_HAND.union(keys)


def _binding(element: Json) -> list[str] | None:
    binding = element.get("binding", {})
    if binding.get("strength", "example") == "example" or "valueSet" not in binding:
        return None
    return [binding["strength"], str(binding["valueSet"]).partition("|")[0]]


# Profiles and extensions -----------------------------------------------------------------------


def profiles_table(package: Package) -> Table:
    """Canonical -> StructureDefinition with its differential, without prose."""
    return {
        definition["url"]: compact(definition)
        for definition in package.all("StructureDefinition")
        if definition.get("derivation") == "constraint" and "differential" in definition
    }


def compact(definition: Json) -> Json:
    elements = definition["differential"]["element"]
    kept = {name: definition[name] for name in (*HEAD, *CONTEXT) if name in definition}
    return kept | {
        "derivation": "constraint",
        "differential": {"element": [_element(element) for element in elements]},
    }


def _element(element: Json) -> Json:
    kept = {name: value for name, value in element.items() if name not in PROSE}
    if "binding" in kept:
        binding = kept["binding"]
        kept["binding"] = {n: binding[n] for n in ("strength", "valueSet") if n in binding}
    if "slicing" in kept:
        kept["slicing"] = {n: v for n, v in kept["slicing"].items() if n != "description"}
    if "constraint" in kept:
        kept["constraint"] = [_constraint(each) for each in kept["constraint"]]
    return kept


def _constraint(constraint: Json) -> Json:
    return {n: constraint[n] for n in ("key", "severity", "expression") if n in constraint}


# Files -----------------------------------------------------------------------------------------


def tables(core: Package, uk_core: Package) -> dict[str, Table]:
    return {
        "rules": rules_table(core),
        "core-profiles": profiles_table(core),
        "uk-core-profiles": profiles_table(uk_core),
    }


def build(core: Path, uk_core: Path, out: Path) -> None:
    made = tables(Package(core), Package(uk_core))
    contents = {f"{name}.json": render(table) for name, table in made.items()}
    sums: dict[str, Any] = {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (contents | {"checksums.json": render(sums)}).items():
        (out / name).write_bytes(content)
        sys.stdout.write(f"{name}: {len(content)} bytes\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the tables of profiles.")
    parser.add_argument("core", type=Path, help="hl7.fhir.r4.core.tgz")
    parser.add_argument("uk_core", type=Path, help="uk.core.r4.tgz")
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    build(arguments.core, arguments.uk_core, arguments.out)


if __name__ == "__main__":
    main()
