"""$closure: a client's table of which of its codes stand above which, kept up code by code.

https://hl7.org/fhir/R4/conceptmap-operation-closure.html. A table is its caller's own, known by
its name; it is forgotten when it was not used for long, and the client begins it anew.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from fhir_operations._terms import not_checkable
from fhir_server.access.session import Memo, SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Coding, coding_of
from fhir_server.terminology.expansion import Work, too_costly
from fhir_server.terminology.systems import CodeSystem

SCOPES = ("ConceptMap.rs",)
"""It keeps no more than its caller's own table."""
_SPACE: Final = "closure"
_MAX_CODES: Final = 2000
"""Of a table."""
_MAX_TABLES: Final = 20
"""Of a caller."""
_KEPT_FOR: Final = 90 * 24 * 3600 * 1_000_000
"""Microseconds."""
_MAX_NAME: Final = 200


@dataclass(slots=True)
class Table:
    """Codes by system, and links (version, system, code, code above it)."""

    version: int = 0
    codes: dict[str, list[str]] = field(default_factory=dict)
    links: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, near: Sequence["Near"]) -> None:
        """Add codes, and how they stand to those that are there."""
        count = sum(map(len, self.codes.values()))
        for one in near:
            system, code = one.system, one.code
            there = self.codes.setdefault(system, [])
            if code in there:
                continue
            above = one.above.intersection(there)
            below = one.below.intersection(there)
            self.links += [(self.version, system, code, other) for other in sorted(above)]
            self.links += [(self.version, system, other, code) for other in sorted(below - above)]
            there.append(code)
            count += 1
            if count > _MAX_CODES:
                raise too_costly(f"A closure table holds {_MAX_CODES} codes at the most")

    def since(self, version: int) -> list[tuple[int, str, str, str]]:
        return [link for link in self.links if link[0] > version]


@dataclass(frozen=True, slots=True)
class Near:
    """A code with all that is above and below it."""

    system: str
    code: str
    above: frozenset[str]
    below: frozenset[str]


async def run(call: Call) -> Resource:
    name = call.parameters.one("name")
    if not 0 < len(name) <= _MAX_NAME:
        text = f"The name has 1 to {_MAX_NAME} characters"
        raise FhirError.at(Kind.INVALID, "Parameters.parameter", text)
    codings = _codings(call)
    known = await _systems(call, codings)
    # Before the commit, which others wait for, and beside the loop.
    near = await asyncio.to_thread(_near, codings, known)
    version = _version(call)
    if codings and version is not None:
        text = "Send codes to be added, or the version from which on to tell, not both"
        raise FhirError.at(Kind.INVALID, "Parameters.parameter", text)
    key = quote(name, safe="")

    async def work(unit: SessionUnit) -> Resource:
        if version is not None:
            return _told(call, name, (table := await _table(unit, key)), table.since(version))
        if not codings:
            return await _begun(call, unit, name, key)
        table = await _table(unit, key)
        before = table.version
        table.version += 1
        table.add(near)
        await _keep(call, unit, key, table)
        return _told(call, name, table, table.since(before))

    return await call.session.commit("closure", work)


def _codings(call: Call) -> list[Coding]:
    found = []
    for index, one in enumerate(call.parameters.all("concept")):
        coding = coding_of(one, "", f"Parameters.parameter.where(name = 'concept')[{index}]")
        if not (coding.code and coding.system):
            raise FhirError.at(Kind.INVALID, coding.place, "A code comes with its system")
        found.append(coding)
    return found


def _version(call: Call) -> int | None:
    told = call.parameters.one("version")
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) < 10):
        raise FhirError.at(
            Kind.INVALID, "Parameters.parameter", f"'{told[:20]}' is no version of a closure table"
        )
    return int(told)


async def _systems(call: Call, codings: Sequence[Coding]) -> Mapping[str, CodeSystem]:
    """The code systems by address with version; each has the codes.

    Raises:
        FhirError: BUSINESS_RULE for one of which not all is known; INVALID for a wrong code.
    """
    service = call.session.terminology()
    await service.gather(*(("CodeSystem", one.canonical) for one in codings))
    found = {}
    for one in codings:
        held = service.catalogue.code_system(one.canonical)
        if held is None or not held.system.is_complete:
            raise not_checkable(f"What stands above '{one.code}' of {one.canonical}")
        if held.system.spelt(one.code) is None:
            issue = Issue(
                f"'{one.code}' is not a code of {one.canonical}", one.place, "code-invalid"
            )
            raise FhirError(Kind.BUSINESS_RULE, issue)
        found[one.canonical] = held.system
    return found


def _near(codings: Sequence[Coding], known: Mapping[str, CodeSystem]) -> list[Near]:
    found: list[Near] = []
    work = Work()
    for one in codings:
        system = known[one.canonical]
        code = system.spelt(one.code) or one.code
        above, below = (system.related(code, below=side) for side in (False, True))
        work.spend(len(above) + len(below))
        found.append(Near(one.canonical, code, above, below))
    return found


async def _begun(call: Call, unit: SessionUnit, name: str, key: str) -> Resource:
    others = [memo for memo in await unit.memos(_SPACE, count=_MAX_TABLES + 1) if memo.key != key]
    if len(others) >= _MAX_TABLES:
        raise too_costly(f"There are {_MAX_TABLES} closure tables already, which is the most")
    table = Table()
    await _keep(call, unit, key, table)
    return _told(call, name, table, [])


async def _table(unit: SessionUnit, key: str) -> Table:
    memo = await unit.memo(_SPACE, key)
    if memo is None:
        raise FhirError(
            Kind.NOT_FOUND,
            "There is no closure table of that name; begin it with the name alone",
        )
    kept = json.decode_own(memo.value)
    links = [(version, system, code, above) for version, system, code, above in kept["links"]]
    return Table(kept["version"], kept["codes"], links)


async def _keep(call: Call, unit: SessionUnit, key: str, table: Table) -> None:
    kept = {"version": table.version, "codes": table.codes, "links": table.links}
    await unit.keep(Memo(_SPACE, key, json.encode(kept), call.now + _KEPT_FOR))


def _told(
    call: Call, name: str, table: Table, links: Sequence[tuple[int, str, str, str]]
) -> Resource:
    """https://hl7.org/fhir/R4/terminology-service.html#closure: the target subsumes the code."""
    groups = list(_groups(links))
    return {
        "resourceType": "ConceptMap",
        "version": str(table.version),
        "name": f"Updates for closure table {name}",
        "status": "active",
        "date": call.time.isoformat(),
        **({"group": groups} if groups else {}),
    }


def _groups(links: Sequence[tuple[int, str, str, str]]) -> Iterator[dict[str, Any]]:
    for canonical in dict.fromkeys(system for _, system, _, _ in links):
        above: dict[str, list[str]] = {}
        for _, system, code, other in links:
            if system == canonical:
                above.setdefault(code, []).append(other)
        url, _, version = canonical.partition("|")
        versions = {"sourceVersion": version, "targetVersion": version} if version else {}
        elements = [
            {"code": code, "target": [{"code": one, "equivalence": "subsumes"} for one in others]}
            for code, others in above.items()
        ]
        yield {"source": url, "target": url, **versions, "element": elements}
