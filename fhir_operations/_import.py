"""Bulk import: what comes in, and the steps that store it.

The lines are kept as they come, in parts; then a step stores some lines in one commit with the
place where the next begins. So each line counts once, whatever becomes of the process. Files from
elsewhere are fetched one after the other, each as a whole before its first line is stored.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any, Final

from fhir_operations._fetch import fetched
from fhir_operations._inlet import Inlet
from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.outcomes import outcome
from fhir_server.jobs import desk
from fhir_server.jobs.record import FILES, PART, Job, State
from fhir_server.operation.api import Call, Task, Write

FORMATS: Final = ("application/fhir+ndjson", "application/ndjson", "ndjson")
_PLACE: Final = "Parameters.parameter"
_MOST_FILES: Final = 100
_LINES_AT_ONCE: Final = 16
_BYTES_AT_ONCE: Final = 256 * 1024
"""Of lines that one commit stores: everybody else's commits wait for it."""
_MOST_WARNED: Final = 1000
"""Lines whose warnings are told."""
_KINDS: Final = ("created", "updated", "unchanged", "refused")
_EXTENSION: Final = "https://keyworking.example/fhir/import-counts"


# --- what comes in --------------------------------------------------------------------------


async def start(call: Call) -> Job:
    """Take the lines in, and accept the import.

    Raises:
        FhirError: INVALID without lines; TOO_LARGE; FORBIDDEN for files elsewhere.
    """
    job = call.job()
    if call.lines is None:
        return await call.accept(_files(call), job)

    async def keep(part: int, content: bytes) -> None:
        async def work(unit: SessionUnit) -> None:
            await unit.keep(job.file(_folder(0) + f"{part:06}", content))

        await call.session.commit("import", work)

    inlet = Inlet(call.max_line, keep)
    try:
        await inlet.take_all(call.lines)
        if not inlet.lines:
            raise FhirError(Kind.INVALID, "The body is empty; resources in ndjson are expected")
        return await call.accept({"lines": inlet.lines, "urls": [""]}, job)
    except BaseException:
        await desk.forget(call.session, job.id)
        raise


def _folder(number: int) -> str:
    """Of the parts of one input."""
    return f"input/{number:03}/"


def _files(call: Call) -> dict[str, Any]:
    """The files that are to be fetched, all of them from where that is allowed."""
    inputs = call.parameters.all("input")
    if not inputs:
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Type",
            "$import takes a body of application/fhir+ndjson: one resource a line",
        )
    if len(inputs) > _MOST_FILES:
        raise FhirError(Kind.TOO_COSTLY, f"{len(inputs)} files; {_MOST_FILES} are allowed")
    wanted = call.parameters.one("inputFormat")
    if wanted not in (None, *FORMATS):
        text = f"'{wanted}' is not read; {', '.join(FORMATS)} are"
        raise FhirError.at(Kind.UNSUPPORTED, _PLACE, text)
    urls = [_url(parts) for parts in inputs]
    for url in urls:
        call.import_from.require(url, _PLACE)
    return {"urls": urls, "line": call.max_line, "all": call.max_lines}


def _url(parts: Sequence[Any]) -> str:
    named = {part.get("name"): part.get("valueUrl", part.get("valueUri")) for part in parts}
    if named.keys() - {"type", "url"} or not named.get("url"):
        text = "An input has the parts 'url', with a valueUrl, and 'type'"
        raise FhirError.at(Kind.INVALID, _PLACE, text)
    return str(named["url"])


# --- the steps ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step begins, and what came of those before."""

    input: int = 0
    """Which of several files."""
    lines: int | None = None
    """How many it has, None before it is fetched."""
    part: int = 0
    offset: int = 0
    """Bytes of that part that are done with."""
    line: int = 0
    """Lines that are done with."""
    counts: tuple[int, ...] = (0,) * len(_KINDS)
    files: int = 0
    """Of what is told of lines."""
    warned: int = 0
    """Lines that were stored with a warning."""


@dataclass(slots=True)
class _Batch:
    """The lines of one step, and where those after them begin."""

    lines: list[bytes] = field(default_factory=list)
    part: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that was read: how to store it, or why it is refused. 0 is all of its file."""

    number: int
    write: Write | None
    refusal: FhirError | None = None
    warnings: tuple[Issue, ...] = ()


async def step(task: Task) -> None:
    """Store some lines, or fetch a file. What comes from elsewhere is taken as it is."""
    task.work.session = task.work.session.as_it_is()
    told = task.work.job.place
    place = _Place(lines=task.asked.get("lines")) if told is None else _read(told)
    await (_apply(task, place) if place.lines is not None else _fetch(task, place))


def _read(told: Any) -> _Place:
    return _Place(**{**told, "counts": tuple(told["counts"])})


def _moved(job: Job, place: _Place, inputs: int) -> Job:
    """The job at its next place; after the lines of one file come those of the next."""
    counts = dict(zip(_KINDS, place.counts, strict=True))
    text = f"{place.line} of {place.lines} lines, {counts['refused']} refused"
    if inputs > 1:
        text = f"file {place.input + 1} of {inputs}: {text}"
    done = False
    if place.line >= (place.lines or 0):
        done = place.input + 1 == inputs
        place = replace(place, input=place.input + 1, lines=None, part=0, offset=0, line=0)
    return replace(
        job,
        place=asdict(place),
        progress=text,
        state=State.DONE if done else State.RUNNING,
        summary={_EXTENSION: counts} if done else None,
    )


async def _fetch(task: Task, place: _Place) -> None:
    """Take in a file from elsewhere, from its beginning: nothing of it is stored yet."""
    work, url = task.work, task.asked["urls"][place.input]
    folder = _folder(place.input)

    async def keep(part: int, content: bytes) -> None:
        async def change(unit: SessionUnit) -> Job:
            if part == 0:  # whatever an earlier attempt left
                await unit.forget(FILES, f"{work.job.id}/{folder}")
            await unit.keep(work.job.file(f"{folder}{part:06}", content))
            return replace(work.job, progress=f"fetching file {place.input + 1}, part {part + 1}")

        await work.commit("import", change)

    inlet = Inlet(task.asked["line"], keep)
    refused: list[_Line] = []
    try:
        await inlet.take_all(fetched(url, task.asked["all"], task.import_from))
    except FhirError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise
        refused.append(_Line(0, None, error))
    await _commit(task, replace(place, lines=0 if refused else inlet.lines), refused)


async def _apply(task: Task, place: _Place) -> None:
    batch = await _lines(task.work.session, task.work.job, place)
    ready = [one async for one in _ready(task, batch.lines, place.line)]
    line = place.line + len(batch.lines)
    await _commit(task, replace(place, part=batch.part, offset=batch.offset, line=line), ready)


async def _commit(task: Task, further: _Place, ready: Sequence[_Line]) -> None:
    """Store the lines, and with them where the next begin and what is refused."""
    job, urls = task.work.job, task.asked["urls"]

    async def change(unit: SessionUnit) -> Job:
        came = [await _store(unit, line) for line in ready]
        counts = tuple(
            before + sum(what == kind for _, what in came)
            for kind, before in zip(_KINDS, further.counts, strict=True)
        )
        told, warned = _told(came, further.warned, urls[further.input])
        files = await _tell(unit, job, further.files, told)
        place = replace(further, counts=counts, files=files, warned=warned)
        return _moved(task.work.job, place, len(urls))

    await task.work.commit("import", change)


async def _lines(session: Session, job: Job, place: _Place) -> _Batch:
    """The next lines, and where those after them begin."""
    batch = _Batch(part=place.part, offset=place.offset)
    size, begun = 0, bytearray()
    async for number, content in _parts(session, job, place):
        offset = place.offset if number == place.part else 0
        while (end := content.find(b"\n", offset)) >= 0:
            begun += content[offset:end]
            batch.lines.append(bytes(begun))
            size += len(begun)
            begun.clear()
            offset = end + 1
            batch.part, batch.offset = number, offset
            if len(batch.lines) >= _LINES_AT_ONCE or size >= _BYTES_AT_ONCE:
                return batch
        begun += content[offset:]
    if begun:
        batch.lines.append(bytes(begun))
    return batch


async def _parts(session: Session, job: Job, place: _Place) -> AsyncIterator[tuple[int, bytes]]:
    """From the place on."""
    for number in count(place.part):
        found = await session.memo(FILES, f"{job.id}/{_folder(place.input)}{number:06}")
        if found is None:
            return
        yield number, found.value


async def _ready(task: Task, lines: Sequence[bytes], before: int) -> AsyncIterator[_Line]:
    """The lines that are not blank, read and checked before the commit."""
    for number, raw in enumerate(lines, before + 1):
        if raw.strip():
            yield await _checked(task, raw, number)
            await asyncio.sleep(0)  # others have their turn between two lines


async def _checked(task: Task, raw: bytes, number: int) -> _Line:
    try:
        ready = await task.prepare(json.decode_resource(raw))
        return _Line(number, ready.write, warnings=tuple(filter(_is_of_profile, ready.told)))
    except FhirError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise
        return _Line(number, None, error)


async def _store(unit: SessionUnit, line: _Line) -> tuple[_Line, str]:
    """What came of the line; what is refused has written nothing."""
    if line.write is None:
        return line, "refused"
    try:
        return line, await line.write(unit)
    except FhirError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise
        return replace(line, refusal=error), "refused"


def _is_of_profile(issue: Issue) -> bool:
    """What R4 itself recommends, such as a narrative, would be told of every line."""
    return issue.severity == "warning" and issue.profile is not None


def _told(came: Sequence[tuple[_Line, str]], warned: int, url: str) -> tuple[list[bytes], int]:
    """Refusals, and warnings of what is stored, in the order of the lines.

    Args:
        warned: lines before these whose warnings were told; how many there are then is told too.
    """
    told: list[bytes] = []
    for line, what in came:
        if what == "refused":
            told.append(_outcome(line, url))
        elif line.warnings and warned < _MOST_WARNED:
            told.append(_warning(line, url))
            warned += 1
    return told, warned


async def _tell(unit: SessionUnit, job: Job, files: int, told: Sequence[bytes]) -> int:
    """Write it to the last file of it, or to a new one; how many files there are."""
    if not told:
        return files
    content = b"".join(one + b"\n" for one in told)
    name = _file(files)
    before = await unit.memo(FILES, f"{job.id}/{name}") if files else None
    if before is None or len(before.value) + len(content) > PART:
        files, name = files + 1, _file(files + 1)
    else:
        content = before.value + content
    await unit.keep(job.file(name, content))
    await unit.keep(job.index(name, content.count(b"\n")))
    return files


def _file(number: int) -> str:
    return f"error/OperationOutcome/{number:06}"


def _outcome(line: _Line, url: str) -> bytes:
    """The refusal."""
    error = line.refusal or FhirError(Kind.INTERNAL, "The server failed at this line")
    return json.encode(outcome(_placed(error.issues, line, url), default_code=error.kind.code))


def _warning(line: _Line, url: str) -> bytes:
    """What is to be known of a line that is stored."""
    return json.encode(outcome(_placed(line.warnings, line, url), default_code="informational"))


def _placed(issues: Iterable[Issue], line: _Line, url: str) -> list[Issue]:
    """With the number of the line and, of several files, which one it was."""
    where = ", ".join([*([url] if url else []), *([f"Line {line.number}"] if line.number else [])])
    return [replace(one, text=f"{where}: {one.text}") for one in issues]
