"""`keyworking load-terminology`: a code system that somebody licensed, sent to a running server.

A table (CSV with the columns code, display and perhaps parent), or a folder with the snapshot of
a release of SNOMED CT (RF2). It becomes CodeSystem resources that hold a part each, small enough
for any store; they are marked as fragments, and where they say how many concepts there are in
all, the server knows the system completely once it has all of them.

Sources: https://docs.snomed.org/snomed-ct-specifications/snomed-ct-release-file-specification,
https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.count
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.loading import CannotLoad, Report, load
from fhir_server.terminology.held import memory_of

_MOST: Final = 200_000
"""Concepts: all of them are in the memory of a server that is asked about them."""
_PART: Final = 2 * 1024 * 1024
"""Bytes of a part, or a little more."""
_IS_A: Final = "116680003"
_FULL_NAME: Final = "900000000000003001"
_COLUMNS: Final = ("code", "display", "parent")
_FILES: Final = ("Concept", "Description", "Relationship")
_REFSETS: Final = "*der2_*Refset_*Snapshot*.txt"


@dataclass(frozen=True, slots=True)
class Named:
    """What the files do not say about the code system."""

    url: str
    version: str
    id: str
    complete: bool = False
    """Whether a table, or a part of a release, counts as all codes."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is wanted of a release: of each kind whatever any of them has; () of both for all."""

    below: tuple[str, ...] = ()
    """Concepts, each with all that is a kind of it."""
    refsets: tuple[str, ...] = ()
    """Reference sets, by the codes of their concepts."""

    def __bool__(self) -> bool:
        return bool(self.below or self.refsets)


@dataclass(slots=True)
class Concept:
    """A concept of the files, with the codes directly above it."""

    display: str = ""
    others: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)


Concepts = dict[str, Concept]
_ALL: Final = Part()
_TOLD: Final = 5
"""Codes that one message names."""


def load_terminology(
    path: Path, named: Named, server: str, part: Part = _ALL, token: str = ""
) -> tuple[Report, int]:
    """Send the code system in a CSV file or a folder of RF2.

    Returns:
        What came of it, and the bytes of memory that a server needs to keep it.

    Raises:
        CannotLoad: for files that are not what they should be; when no server answers.
    """
    if path.is_dir():
        concepts, complete = read_rf2(path, part), named.complete or not part
    elif part:
        raise CannotLoad(f"{path} is a table; only of a folder of RF2 a part can be chosen")
    else:
        concepts, complete = read_csv(path), named.complete
    _require_links(concepts)
    size = 0
    with TemporaryDirectory() as folder:
        for number, resource in enumerate(parts(concepts, named, complete=complete), 1):
            size += (Path(folder) / f"{number:04}.json").write_bytes(json.encode(resource))
        return load([Path(folder)], server, 2, token), memory_of(size)


def read_csv(path: Path) -> Concepts:
    """A table with a line for each code; one that stands below several has a line for each."""
    found: Concepts = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _require_columns(path, reader.fieldnames or ())
            for row in reader:
                _add_row(found, row, f"{path}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotLoad(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    _require_no_circle(found)
    return found


def _require_no_circle(concepts: Concepts) -> None:
    """Raise for codes below themselves: a slip in a table that somebody made."""
    above = {code: {*one.parents} & concepts.keys() for code, one in concepts.items()}
    below: dict[str, list[str]] = {}
    for code, parents in above.items():
        for parent in parents:
            below.setdefault(parent, []).append(code)
    waiting = [code for code, parents in above.items() if not parents]
    while waiting:
        done = waiting.pop()
        del above[done]
        for code in below.get(done, ()):
            above[code].discard(done)
            if not above[code]:
                waiting.append(code)
    if above:
        raise CannotLoad(f"These stand below themselves, or below one that does: {_some(above)}")


def _some(codes: Iterable[str]) -> str:
    first = [*islice(codes, _TOLD + 1)]
    return ", ".join(first[:_TOLD]) + (" …" if len(first) > _TOLD else "")


def _require_columns(path: Path, columns: Sequence[str]) -> None:
    if not {"code", "display"} <= {*columns} <= {*_COLUMNS}:
        named = ", ".join(columns) or "none"
        raise CannotLoad(
            f"{path} has the columns {named}; code and display are expected, and perhaps parent"
        )


def _add_row(found: Concepts, row: Mapping[str, Any], place: str) -> None:
    code, display, parent = ((row.get(name) or "").strip() for name in _COLUMNS)
    if not code or None in row:
        raise CannotLoad(f"{place} has no code, or more cells than there are columns")
    concept = found.setdefault(code, Concept(display))
    if concept.display != display:
        raise CannotLoad(f"{place} calls {code} '{display}', and not '{concept.display}' as before")
    if parent and parent not in concept.parents:
        concept.parents.append(parent)
    _require_few(found)


def read_rf2(folder: Path, part: Part = _ALL) -> Concepts:
    """The active concepts of a snapshot, what they are called, and what each is a kind of.

    Of a part, a concept stands below the nearest of those above it that are in the part.
    """
    files = {name: sorted(folder.rglob(f"*sct2_{name}_*Snapshot*.txt")) for name in _FILES}
    for name, there in files.items():
        if not there:
            raise CannotLoad(f"{folder} has no file sct2_{name}_…Snapshot….txt in it")
    active = {row["id"]: Concept() for row in _rows(files["Concept"], ("id",))}
    for row in _rows(files["Relationship"], ("sourceId", "destinationId", "typeId")):
        if row["typeId"] == _IS_A and (concept := active.get(row["sourceId"])):
            concept.parents.append(row["destinationId"])
    found = _chosen(active, part, folder) if part else active
    _require_few(found)
    for row in _rows(files["Description"], ("conceptId", "typeId", "term")):
        if concept := found.get(row["conceptId"]):
            _call(concept, row["term"], is_full=row["typeId"] == _FULL_NAME)
    return found


def _chosen(active: Concepts, part: Part, folder: Path) -> Concepts:
    chosen = _below(active, part.below) | _members(active, part.refsets, folder)
    return {
        code: Concept(parents=_nearest(code, active, chosen)) for code in active if code in chosen
    }


def _below(active: Concepts, roots: Sequence[str]) -> set[str]:
    for code in roots:
        if code not in active:
            raise CannotLoad(f"{code} is no active concept of the release")
    children: dict[str, list[str]] = {}
    for code, concept in active.items():
        for parent in concept.parents:
            children.setdefault(parent, []).append(code)
    found, waiting = set(roots), [*roots]
    while waiting:
        fresh = [one for one in children.get(waiting.pop(), ()) if one not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _members(active: Concepts, refsets: Sequence[str], folder: Path) -> set[str]:
    """Active members of the reference sets that are concepts of the release."""
    members: dict[str, set[str]] = {code: set() for code in refsets}
    files = sorted(folder.rglob(_REFSETS)) if refsets else []
    for row in _rows(files, ("refsetId", "referencedComponentId")):
        if row["refsetId"] in members and row["referencedComponentId"] in active:
            members[row["refsetId"]].add(row["referencedComponentId"])
    for code, found in members.items():
        if not found:
            raise CannotLoad(f"No file {_REFSETS} in {folder} has concepts of the refset {code}")
    return set().union(*members.values())


def _nearest(code: str, active: Concepts, chosen: set[str]) -> list[str]:
    """Those above the code that were chosen, and on each way up no further than to the first."""
    found: dict[str, None] = {}
    seen, waiting = {code}, [code]
    while waiting:
        for parent in active[waiting.pop()].parents:
            if parent in seen or parent not in active:
                continue
            seen.add(parent)
            if parent in chosen:
                found[parent] = None
            else:
                waiting.append(parent)
    return [*found]


def _call(concept: Concept, term: str, *, is_full: bool) -> None:
    if is_full and not concept.display:
        concept.display = term
    else:
        concept.others.append(term)


def _rows(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """The active rows: tab-separated, without quotation marks that mean anything."""
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                missing = {*columns, "active"} - {*(reader.fieldnames or ())}
                if missing:
                    raise CannotLoad(f"{path} has no column {', '.join(sorted(missing))}")
                for row in reader:
                    if None in row.values():
                        raise CannotLoad(f"{path}:{reader.line_num} has too few columns")
                    if row["active"] == "1":
                        yield row
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CannotLoad(f"{path} cannot be read: {error}") from None


def _require_few(concepts: Concepts) -> None:
    if len(concepts) > _MOST:
        raise CannotLoad(
            f"There are more than {_MOST} codes, which a server could not keep in memory. Choose "
            "a part of a release with --below CODE or --refset CODE, a smaller table, or name a "
            "terminology server that has all of them with KEYWORKING_TERMINOLOGY_SERVER"
        )


def _require_links(concepts: Concepts) -> None:
    if not concepts:
        raise CannotLoad("There is no code in it")
    for code, concept in concepts.items():
        for parent in concept.parents:
            if parent not in concepts:
                raise CannotLoad(f"{code} stands below {parent}, which is not there")


def parts(concepts: Concepts, named: Named, *, complete: bool) -> Iterator[Resource]:
    """CodeSystem resources that together hold the concepts."""
    some: list[Resource] = []
    size = number = 0
    for code, concept in concepts.items():
        some.append(_concept(code, concept))
        size += len(json.encode(some[-1]))
        if size > _PART:
            number += 1
            yield _part(named, number, some, len(concepts) if complete else None)
            some, size = [], 0
    if some:
        yield _part(named, number + 1, some, len(concepts) if complete else None)


def _concept(code: str, concept: Concept) -> Resource:
    found: Resource = {"code": code}
    if concept.display:
        found["display"] = concept.display
    if concept.others:
        found["designation"] = [{"value": term} for term in concept.others]
    if concept.parents:
        found["property"] = [{"code": "parent", "valueCode": one} for one in concept.parents]
    return found


def _part(named: Named, number: int, concepts: list[Resource], count: int | None) -> Resource:
    version = re.sub(r"[^A-Za-z0-9.-]+", "-", named.version)[-24:]
    return {
        "resourceType": "CodeSystem",
        "id": f"{named.id}-{version}-{number}",
        "url": named.url,
        "version": named.version,
        "name": f"{named.id}, part {number}",
        "status": "active",
        "hierarchyMeaning": "is-a",
        "content": "fragment",
        **({} if count is None else {"count": count}),
        "property": [
            {
                "code": "parent",
                "uri": "http://hl7.org/fhir/concept-properties#parent",
                "type": "code",
            }
        ],
        "concept": concepts,
    }
