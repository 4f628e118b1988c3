"""Build the tables in `fhir_server/terminology/data/` from packages of FHIR R4 and of UK Core.

    python tools/build_terminology.py hl7.fhir.r4.core.tgz uk.core.r4.tgz [--out DIRECTORY]

The packages are `hl7.fhir.r4.core` 4.0.1 (CC0-1.0, https://hl7.org/fhir/R4/downloads.html) and UK
Core's definitions (Apache-2.0, https://github.com/NHSDigital/FHIR-R4-UKCORE-STAGING-MAIN). The
tables hold codes, displays, hierarchies, properties and the composition of value sets, no prose.
Of systems that others license (SNOMED CT, LOINC, dm+d and the like) they hold the codes that a
value set lists one by one, without their terms, and nothing that somebody expanded. One entry a
line, sorted, so that a second run gives the same bytes and a change shows as a small diff.
"""

import argparse
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
Table = Mapping[str, object]

DATA: Final = Path(__file__).parents[1] / "fhir_server" / "terminology" / "data"
LEFT_OUT: Final = {
    "http://dicom.nema.org/resources/ontology/DCM": "NEMA's copyright",
    "http://terminology.hl7.org/CodeSystem/ex-diagnosis-on-admission": "of UB04, licensed by NUBC",
    "http://terminology.hl7.org/CodeSystem/ex-revenue-center": "of UB04, licensed by NUBC",
    "urn:iso-astm:E1762-95:2013": "ASTM's copyright",
    "urn:oid:1.2.36.1.2001.1001.101.104.16592": "of an Australian agency",
}
"""Code systems in the packages whose owners say that they may not be passed on like this."""
NOT_LISTED: Final = ("http://www.ama-assn.org/go/cpt", "http://nucc.org/provider-taxonomy")
"""Systems of which not even codes are held."""
HEAD: Final = ("version", "name", "title", "status", "experimental", "date", "publisher")


def resources(path: Path) -> Iterator[Json]:
    with tarfile.open(path) as archive:
        for member in archive:
            if re.fullmatch(r"package/(CodeSystem|ValueSet)-[\w.-]+\.json", member.name):
                file = archive.extractfile(member)
                assert file is not None  # noqa: S101 - it is a file by its name
                yield json.load(file)


# Code systems --------------------------------------------------------------------------------


def code_systems_table(systems: Mapping[str, Json]) -> Table:
    """Address -> head, properties, and each concept after the one that it stands under."""
    return {url: _system_entry(system) for url, system in systems.items()}


def _is_held(system: Json) -> bool:
    return (
        system["content"] in ("complete", "fragment", "example") and system["url"] not in LEFT_OUT
    )


def _system_entry(system: Json) -> Json:
    return {
        **_head(system, "caseSensitive", "hierarchyMeaning", "content", "valueSet"),
        "property": [[one["code"], one["type"]] for one in system.get("property", ())],
        "concept": list(_concept_rows(system.get("concept", ()), 0)),
    }


def _concept_rows(concepts: Any, depth: int) -> Iterator[list[object]]:
    """[depth, code, display, [[property, value[x], value], ...], [[language, text], ...]]

    The last two stand only where there are some.
    """
    for concept in concepts:
        properties = [
            [one["code"], name, value]
            for one in concept.get("property", ())
            for name, value in one.items()
            if name.startswith("value")
        ]
        told = [[one.get("language", ""), one["value"]] for one in concept.get("designation", ())]
        rest: list[object] = [properties, told] if told else [properties] if properties else []
        yield [depth, concept["code"], concept.get("display", ""), *rest]
        yield from _concept_rows(concept.get("concept", ()), depth + 1)


# Value sets ----------------------------------------------------------------------------------


def value_sets_table(sets: Mapping[str, Json], systems: Mapping[str, Json]) -> Table:
    """Address -> head and how it is composed, with a listed concept as [code, display] or code."""
    displays = {url: _displays(system.get("concept", ())) for url, system in systems.items()}
    return {
        url: {**_head(one), "compose": _compose(one["compose"], displays)}
        for url, one in sets.items()
        if not any(_is_forbidden(part) for part in one["compose"]["include"])
    }


def _head(resource: Json, *more: str) -> Json:
    return {name: resource[name] for name in (*HEAD, *more) if name in resource}


def _is_forbidden(part: Json) -> bool:
    return part.get("system") in NOT_LISTED and "concept" in part


def _displays(concepts: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for concept in concepts:
        found[concept["code"]] = concept.get("display", "")
        found |= _displays(concept.get("concept", ()))
    return found


def _compose(compose: Json, displays: Mapping[str, Mapping[str, str]]) -> Json:
    found: Json = {"inactive": compose["inactive"]} if "inactive" in compose else {}
    for side in ("include", "exclude"):
        parts = [_part(one, displays.get(one.get("system", ""))) for one in compose.get(side, ())]
        if parts:
            found[side] = parts
    return found


def _part(part: Json, known: Mapping[str, str] | None) -> Json:
    """`known` are the displays of its system, None for one that is not held."""
    found: Json = {name: part[name] for name in ("system", "version", "valueSet") if name in part}
    if "filter" in part:
        found["filter"] = [
            {name: one[name] for name in ("property", "op", "value")} for one in part["filter"]
        ]
    if "concept" in part:
        found["concept"] = [_listed(one, known) for one in part["concept"]]
    return found


def _listed(concept: Json, known: Mapping[str, str] | None) -> object:
    code, display = concept["code"], concept.get("display", "")
    if known is None or display in ("", known.get(code)):
        return code
    return [code, display]


# Tables --------------------------------------------------------------------------------------


def build(paths: list[Path]) -> dict[str, bytes]:
    """File name -> content."""
    found = [one for path in paths for one in resources(path)]
    systems = _by_url(one for one in found if one["resourceType"] == "CodeSystem" and _is_held(one))
    sets = _by_url(
        one
        for one in found
        if one["resourceType"] == "ValueSet"
        and not one["url"].startswith("http://hl7.org/fhir/ValueSet/example-")
    )
    files = {
        "code-systems.json": _table(code_systems_table(systems)),
        "value-sets.json": _table(value_sets_table(sets, systems)),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, "checksums.json": _table(sums)}


def _by_url(found: Iterator[Json]) -> dict[str, Json]:
    by_url = {one["url"]: one for one in found}
    return {url: by_url[url] for url in sorted(by_url)}


def _table(table: Table) -> bytes:
    lines = [
        f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in sorted(table.items())
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in build(arguments.packages).items():
        (arguments.out / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
