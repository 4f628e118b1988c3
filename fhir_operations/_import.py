"""Bulk import: what comes in, and the steps that store it.

The lines are kept as they come, in parts; then a step stores some lines in one commit with the
place where the next begins. So each line counts once, whatever becomes of the process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.outcomes import outcome
from fhir_server.jobs import desk
from fhir_server.jobs.record import FILES, PART, Job, State
from fhir_server.operation.api import Call, Task, Write

INPUT: Final = "input"
"""The folder with the parts of what comes in."""
_LINES_AT_ONCE: Final = 32
_BYTES_AT_ONCE: Final = 256 * 1024
"""Of lines that one commit stores: everybody else's commits wait for it."""
_KINDS: Final = ("created", "updated", "unchanged", "refused")
_EXTENSION: Final = "https://keyworking.example/fhir/import-counts"


# --- what comes in --------------------------------------------------------------------------


class Inlet:
    """Keeps lines as they come in, and looks only at how long they are.

    Parts of `PART` bytes, cut wherever that is; the last may be shorter.
    """

    def __init__(self, call: Call, job: Job) -> None:
        self._session = call.session
        self._most = call.max_line
        self._job = job
        self._waiting = bytearray()
        self._line = 0
        """Bytes of the line that is not ended yet."""
        self._parts = 0
        self.lines = 0

    async def take(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            FhirError: TOO_LARGE for a line that is longer than a resource may be.
        """
        self._measure(piece)
        self._waiting += piece
        while len(self._waiting) >= PART:
            await self._keep(bytes(self._waiting[:PART]))
            del self._waiting[:PART]

    async def finish(self) -> None:
        """Keep what is left after the last piece."""
        if self._waiting:
            await self._keep(bytes(self._waiting))
        if self._line:
            self.lines += 1

    def _measure(self, piece: bytes) -> None:
        ends = piece.split(b"\n")
        for index, text in enumerate(ends):
            self._line += len(text)
            if self._line > self._most:
                text_ = f"Line {self.lines + 1} is too long; {self._most} bytes are allowed"
                raise FhirError(Kind.TOO_LARGE, text_)
            if index < len(ends) - 1:
                self.lines += 1
                self._line = 0

    async def _keep(self, content: bytes) -> None:
        memo = self._job.file(f"{INPUT}/{self._parts:06}", content)
        self._parts += 1

        async def work(unit: SessionUnit) -> None:
            await unit.keep(memo)

        await self._session.commit("import", work)


async def start(call: Call) -> Job:
    """Take the lines in, and accept the import.

    Raises:
        FhirError: INVALID without lines; TOO_LARGE; UNSUPPORTED for files elsewhere.
    """
    job = call.job()
    if call.lines is None:
        raise _without_lines(call)
    inlet = Inlet(call, job)
    try:
        async for piece in call.lines:
            await inlet.take(piece)
        await inlet.finish()
        if not inlet.lines:
            raise FhirError(Kind.INVALID, "The body is empty; resources in ndjson are expected")
        return await call.accept({"lines": inlet.lines}, job)
    except BaseException:
        await desk.forget(call.session, job.id)
        raise


def _without_lines(call: Call) -> FhirError:
    if call.parameters.all("input"):
        return FhirError.at(
            Kind.UNSUPPORTED,
            "Parameters.parameter",
            "No files are fetched from elsewhere; send their lines as the body, with "
            "'Content-Type: application/fhir+ndjson'",
        )
    return FhirError.at(
        Kind.UNSUPPORTED_MEDIA_TYPE,
        "http.Content-Type",
        "$import takes a body of application/fhir+ndjson: one resource a line",
    )


# --- the steps ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step begins, and what came of those before."""

    part: int = 0
    offset: int = 0
    """Bytes of that part that are done with."""
    line: int = 0
    """Lines that are done with."""
    counts: tuple[int, ...] = (0,) * len(_KINDS)
    files: int = 0
    """Of refusals."""


@dataclass(slots=True)
class _Batch:
    """The lines of one step."""

    lines: list[bytes] = field(default_factory=list)
    part: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that was read: how to store it, or why it is refused."""

    number: int
    write: Write | None
    refusal: FhirError | None = None


async def step(task: Task) -> None:
    """Store some lines."""
    job = task.work.job
    place = _Place() if job.place is None else _read_place(job.place)
    batch = await _lines(task.work.session, job, place)
    ready = [one async for one in _ready(task, batch.lines, place.line)]
    further = replace(
        place, part=batch.part, offset=batch.offset, line=place.line + len(batch.lines)
    )

    async def change(unit: SessionUnit) -> Job:
        came = [await _store(unit, line) for line in ready]
        refused = [line for line, what in came if what == "refused"]
        counts = tuple(
            before + sum(what == kind for _, what in came)
            for kind, before in zip(_KINDS, place.counts, strict=True)
        )
        files = await _tell(unit, job, place.files, refused)
        return _moved(job, replace(further, counts=counts, files=files), task.asked["lines"])

    await task.work.commit("import", change)


def _read_place(told: Sequence[Any]) -> _Place:
    part, offset, line, counts, files = told
    return _Place(part, offset, line, tuple(counts), files)


def _moved(job: Job, place: _Place, total: int) -> Job:
    told = (place.part, place.offset, place.line, place.counts, place.files)
    counts = dict(zip(_KINDS, place.counts, strict=True))
    text = f"{place.line} of {total} lines, {counts['refused']} refused"
    done = place.line >= total
    return replace(
        job,
        place=told,
        progress=text,
        state=State.DONE if done else State.RUNNING,
        summary={_EXTENSION: counts} if done else None,
    )


async def _lines(session: Session, job: Job, place: _Place) -> _Batch:
    """The next lines, and where those after them begin."""
    batch = _Batch(part=place.part, offset=place.offset)
    size, open_line = 0, bytearray()
    async for number, content in _parts(session, job, place.part):
        offset = place.offset if number == place.part else 0
        while (end := content.find(b"\n", offset)) >= 0:
            open_line += content[offset:end]
            batch.lines.append(bytes(open_line))
            size += len(open_line)
            open_line.clear()
            offset = end + 1
            batch.part, batch.offset = number, offset
            if len(batch.lines) >= _LINES_AT_ONCE or size >= _BYTES_AT_ONCE:
                return batch
        open_line += content[offset:]
    if open_line:
        batch.lines.append(bytes(open_line))
    return batch


async def _parts(session: Session, job: Job, first: int) -> AsyncIterator[tuple[int, bytes]]:
    number = first
    while (found := await _part(session, job, number)) is not None:
        yield number, found.value
        number += 1


async def _part(session: Session, job: Job, number: int) -> Memo | None:
    return await session.memo(FILES, f"{job.id}/{INPUT}/{number:06}")


async def _ready(task: Task, lines: Sequence[bytes], before: int) -> AsyncIterator[_Line]:
    """The lines that are not blank, read and checked before the commit."""
    for number, raw in enumerate(lines, before + 1):
        if raw.strip():
            yield _read(task, raw, number)
            await asyncio.sleep(0)  # others have their turn between two lines


def _read(task: Task, raw: bytes, number: int) -> _Line:
    try:
        return _Line(number, task.prepare(json.decode_resource(raw)))
    except FhirError as error:
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


async def _tell(unit: SessionUnit, job: Job, files: int, refused: Sequence[_Line]) -> int:
    """Write the refusals to the last file of them, or to a new one; how many files there are."""
    if not refused:
        return files
    content = b"".join(_outcome(line) + b"\n" for line in refused)
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


def _outcome(line: _Line) -> bytes:
    error = line.refusal or FhirError(Kind.INTERNAL, "The server failed at this line")
    issues = [replace(one, text=f"Line {line.number}: {one.text}") for one in error.issues]
    return json.encode(outcome(issues, default_code=error.kind.code))
