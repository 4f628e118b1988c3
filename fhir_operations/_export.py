"""Bulk data export: what is asked for, and the steps that write its files.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html. A step reads some resources of one type, in the
store's own order, and writes them as files in the same commit as the place where the next begins.
That order is of resources, not of versions: so each comes once, whoever else writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from fhir_operations._compartment import member, types_in
from fhir_server.access.session import (
    HistoryOf,
    Position,
    Session,
    SessionUnit,
    StoredVersion,
    current,
)
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.dates import interval
from fhir_server.fhir.definitions import is_resource_type, resource_types
from fhir_server.fhir.references import parse_local
from fhir_server.jobs.record import PART, Job, State
from fhir_server.operation.api import Call, Task
from fhir_server.operation.parameters import Inputs
from fhir_server.search.ast import (
    LAST_UPDATED,
    Chain,
    DateCompares,
    Everything,
    IdIn,
    Node,
    Prefix,
    Query,
    conjunction,
    disjunction,
)
from fhir_server.search.parse import RESULT_PARAMETERS, Reading, parse

_FORMATS: Final = ("application/fhir+ndjson", "application/ndjson", "ndjson")
_AT_ONCE: Final = 200
"""Resources that are read at one time."""
_MOST_PATIENTS: Final = 10_000
"""Of one export, where they are named."""

Asked = Mapping[str, Any]


async def start(call: Call) -> Job:
    """Accept the export, once everything that is asked for is understood.

    Raises:
        FhirError: INVALID, UNSUPPORTED; NOT_FOUND or GONE for the group.
    """
    job, given, known = call.job(), call.parameters, await call.session.parameters()
    _require_format(given.one("_outputFormat"))
    types = _types(given, call.resource_type)
    asked = {
        "types": types,
        "since": _since(given.one("_since")),
        "filters": _filters(
            given, types, Reading(call.base, call.now, call.limits, lenient=False, known=known)
        ),
        "within": bool(call.resource_type),
        # What was deleted is in no compartment any more.
        "deletions": given.one("_since") is not None and not call.resource_type,
        "patients": await _patients(call),
    }
    return await call.accept(asked, job)


def _require_format(wanted: str | None) -> None:
    if wanted is not None and wanted.replace(" ", "+") not in _FORMATS:
        text = f"'{wanted}' is not written; {', '.join(_FORMATS)} are"
        raise _at("_outputFormat", text, Kind.UNSUPPORTED)


def _types(given: Inputs, resource_type: str) -> list[str]:
    """Those that are asked for, else all that may be in the export."""
    names = _listed(given.all("_type"))
    possible = resource_types() if not resource_type else types_in("Patient")
    issues = [_wrong_type(name, possible) for name in names if name not in possible]
    if issues:
        raise FhirError.of(Kind.INVALID, issues)
    return list(dict.fromkeys(names)) or list(possible)


def _wrong_type(name: str, possible: Sequence[str]) -> Issue:
    why = "is never in the compartment of a Patient" if is_resource_type(name) else ""
    text = f"'{name}' {why or 'is not a resource type of R4'}"
    return Issue(f"{text}; {len(possible)} types may be exported here", "http._type")


def _listed(values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",")]


def _since(text: str | None) -> int | None:
    return None if text is None else interval(text).low


def _filters(given: Inputs, types: Sequence[str], reading: Reading) -> dict[str, list[str]]:
    """By type, the searches of which a resource must satisfy one."""
    found: dict[str, list[str]] = {}
    texts, most = given.all("_typeFilter"), reading.limits.max_parameters
    if len(texts) > most:
        text = f"{len(texts)} filters; {most} are allowed"
        raise _at("_typeFilter", text, Kind.TOO_COSTLY)
    for text in texts:
        name, _, criteria = text.partition("?")
        if name not in types:
            raise _at("_typeFilter", f"'{name}' is not among the types that are exported")
        _filter(name, criteria, reading)
        found.setdefault(name, []).append(criteria)
    return found


def _filter(name: str, criteria: str, reading: Reading) -> Node:
    """The meaning of one filter.

    Raises:
        FhirError: INVALID, UNSUPPORTED, as a search; for what is no criterion.
    """
    try:
        pairs = parse_qsl(criteria, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise _at("_typeFilter", f"'{name}?{criteria}' is not a search") from None
    for parameter, _ in pairs:
        if parameter.partition(":")[0] in RESULT_PARAMETERS:
            raise _at("_typeFilter", f"'{parameter}' is not a criterion; it has no meaning here")
    try:
        return parse(name, pairs, **reading._asdict()).query.where
    except FhirError as error:
        issues = (replace(issue, expression="http._typeFilter") for issue in error.issues)
        raise FhirError.of(error.kind, issues) from None


async def _patients(call: Call) -> list[str] | None:
    """The ids of those whose records are exported; None for all."""
    named = [_patient_id(reference, call.base) for reference in call.parameters.all("patient")]
    if call.resource_type != "Group":
        return named or None
    members = await _members(call)
    strangers = [one for one in named if one not in members]
    if strangers:
        raise _at("patient", f"Patient/{strangers[0]} is not an active member of the group")
    return named or members


async def _members(call: Call) -> list[str]:
    """The Patients who are in the group now."""
    group = json.decode_own((await current(call.session, "Group", call.id)).body)
    references = [
        parse_local(one.get("entity", {}).get("reference", ""), call.base)
        for one in group.get("member", ())
        if not one.get("inactive") and not _has_ended(one.get("period", {}), call.now)
    ]
    ids = dict.fromkeys(one.id for one in references if one and one.type == "Patient")
    if len(ids) > _MOST_PATIENTS:
        text = f"The group has {len(ids)} members; {_MOST_PATIENTS} can be exported at once"
        raise FhirError(Kind.TOO_COSTLY, text)
    return list(ids)


def _has_ended(period: Mapping[str, str], now: int) -> bool:
    return "end" in period and interval(period["end"]).high <= now


def _patient_id(reference: Mapping[str, Any], base: str) -> str:
    found = parse_local(str(reference.get("reference", "")), base)
    if found is None or found.type != "Patient":
        raise _at("patient", "A reference such as Patient/123 is expected")
    return found.id


def _at(name: str, text: str, kind: Kind = Kind.INVALID) -> FhirError:
    return FhirError.at(kind, f"http.{name}", text)


# --- the steps ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step begins."""

    index: int = 0
    """Of the type among those that are exported; after the last, of the deletions."""
    after: Position | None = None
    files: int = 0
    """Of this type so far."""
    done: int = 0
    """Resources that are written, of all types."""


async def step(task: Task) -> None:
    """Write some resources of one type; types without any are passed over."""
    types = task.asked["types"]
    place = _place(task.work.job)
    if place.index == len(types):
        await _tell_deletions(task, place)
        return
    place, found, after = await _next(task, place, types)

    async def change(unit: SessionUnit) -> Job:
        files = await _write(unit, task.work.job, place, found)
        further = _further(place, after, files, len(found)) if found else place
        return _moved(task.work.job, further, task.asked)

    await task.work.commit("export", change)


async def _next(
    task: Task, place: _Place, types: Sequence[str]
) -> tuple[_Place, list[StoredVersion], Position | None]:
    """The place of the next resources, these, and where those after them begin."""
    while place.index < len(types):
        found, after = await _read(task, types[place.index], place.after)
        if found:
            return place, found, after
        place = _Place(place.index + 1, done=place.done)
    return place, [], None


def _further(place: _Place, after: Position | None, files: int, count: int) -> _Place:
    done = place.done + count
    if after is not None:
        return _Place(place.index, after, place.files + files, done)
    return _Place(place.index + 1, done=done)


def _place(job: Job) -> _Place:
    if job.place is None:
        return _Place()
    index, after, files, done = job.place
    return _Place(index, None if after is None else tuple(after), files, done)


def _moved(job: Job, place: _Place, asked: Asked) -> Job:
    last = len(asked["types"])
    told = (place.index, place.after, place.files, place.done)
    done = place.index > last or (place.index == last and not asked["deletions"])
    state = State.DONE if done else State.RUNNING
    text = f"{place.done} resources, {min(place.index, last)} of {last} types"
    return replace(job, place=told, progress=text, state=state)


async def _read(
    task: Task, resource_type: str, after: Position | None
) -> tuple[list[StoredVersion], Position | None]:
    """About as many resources as fit one file, and where to go on; None at the end."""
    query = await _query(task, resource_type)
    found: list[StoredVersion] = []
    size = 0
    while size < PART // 2:
        page = await task.work.session.search(query, _AT_ONCE, after)
        found += page.matches
        size += sum(len(version.body) for version in page.matches)
        after = page.after
        if after is None:
            break
    return found, after


async def _query(task: Task, name: str) -> Query:
    asked = task.asked
    parts = [_about(asked), await _filtered(task, name)]
    since = asked["since"]
    if since is not None:
        parts.append(DateCompares(LAST_UPDATED, Prefix.GE, since, since))
    return Query(name, conjunction(*parts))


def _about(asked: Asked) -> Node:
    """The patients whose records are exported."""
    if not asked["within"]:
        return Everything()
    if asked["patients"] is None:
        return member("Patient", None)
    # By way of the patient: one whom the caller may not see leads nowhere.
    return Chain("{Patient}", "Patient", ("Patient/",), IdIn(tuple(asked["patients"])))


async def _filtered(task: Task, name: str) -> Node:
    filters = task.asked["filters"].get(name)
    if not filters:
        return Everything()
    # As when it was asked for: what is relative to a day means that day.
    asked_at = task.work.job.created
    known = await task.work.session.parameters()
    reading = Reading(task.base, asked_at, task.limits, lenient=False, known=known)
    return disjunction(*(_filter(name, criteria, reading) for criteria in filters))


async def _tell_deletions(task: Task, place: _Place) -> None:
    """Write what was deleted since then, the latest first, as transactions that delete it too.

    https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status
    """
    session, asked, job = task.work.session, task.asked, task.work.job
    before = None if place.after is None else place.after[0]
    entries = await session.history(HistoryOf(since=asked["since"]), _AT_ONCE, before)
    deleted = [entry.stored for entry in entries if entry.stored.type in asked["types"]]
    gone = [version for version in deleted if await _is_gone(session, version)]

    async def change(unit: SessionUnit) -> Job:
        number = place.files + bool(gone)
        if gone:
            name = f"deleted/Bundle/{number:06}"
            await unit.keep(job.file(name, b"".join(map(_deletion, gone))))
            await unit.keep(job.index(name, len(gone)))
        further = _Place(place.index + 1, done=place.done)
        if len(entries) == _AT_ONCE:
            further = _Place(place.index, (entries[-1].seq,), number, place.done)
        return _moved(job, further, asked)

    await task.work.commit("export", change)


async def _is_gone(session: Session, version: StoredVersion) -> bool:
    """Whether it is a deletion after which nothing came."""
    if not version.deleted:
        return False
    current = await session.read(version.type, version.id)
    return current is not None and current.version == version.version


def _deletion(version: StoredVersion) -> bytes:
    request = {"method": "DELETE", "url": f"{version.type}/{version.id}"}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": request}]}
    return json.encode(bundle) + b"\n"


async def _write(unit: SessionUnit, job: Job, place: _Place, found: Sequence[StoredVersion]) -> int:
    """Write the files; how many there are."""
    files = _files(found)
    for number, versions in enumerate(files, place.files + 1):
        name = f"output/{versions[0].type}/{number:06}"
        content = b"".join(version.body + b"\n" for version in versions)
        await unit.keep(job.file(name, content))
        await unit.keep(job.index(name, len(versions)))
    return len(files)


def _files(found: Sequence[StoredVersion]) -> list[list[StoredVersion]]:
    """Cut so that each file is at most `PART` long, unless one resource is longer."""
    files: list[list[StoredVersion]] = []
    room = 0
    for version in found:
        size = len(version.body) + 1
        if size > room:
            files.append([])
            room = PART
        files[-1].append(version)
        room -= size
    return files
