"""What a caller does with jobs: start one, look at it, fetch its files, cancel it.

All through the caller's session: another's job is as if it were not there.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.caller import caller_to_json
from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.references import new_id
from fhir_server.jobs.record import FILES, INDEX, OPEN, PART, RECORDS, REQUEST, SPACES, Job, read

_AT_ONCE: Final = 1000
"""Entries of an index that are read at one time: they are small."""
_FILES_AT_ONCE: Final = 8
"""Files that are forgotten in one commit."""

Asking = Session | SessionUnit
"""A session, or a commit of one that is under way."""


def _now() -> int:
    return time.time_ns() // 1000


def _nobody() -> None:
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The jobs of one server.

    `lifetime` in seconds; `most` jobs of one caller may be unfinished at a time. `wake` is told
    of a new one.
    """

    clock: Callable[[], int] = _now
    lifetime: int = 24 * 3600
    most: int = 20
    wake: Callable[[], None] = _nobody

    def new(self, session: Asking, kind: str) -> Job:
        """A job that is not started yet: its files may be kept before."""
        now = self.clock()
        caller = session.caller
        expires = now + self.lifetime * 1_000_000
        who = caller_to_json(caller)
        return Job(new_id(), kind, caller.name, caller.request_id, now, expires, who=who)

    async def start(self, session: Asking, job: Job, request: bytes, *files: Memo) -> Job:
        """Put the job into the queue, with what it is asked for and further files.

        Raises:
            FhirError: TOO_LARGE for a request beyond `PART`; TOO_COSTLY when the caller has too
                many jobs already.
        """
        if len(request) > PART:
            text = f"What is asked for takes {len(request)} bytes; {PART} are allowed"
            raise FhirError(Kind.TOO_LARGE, text)

        async def work(unit: SessionUnit) -> Job:
            await self._require_room(unit)
            # Inside, so that what others committed before has an earlier time.
            begun = replace(job, created=self.clock())
            for memo in (begun.memo(), begun.file(REQUEST, request), *files):
                await unit.keep(memo)
            await unit.keep(Memo(OPEN, job.id, str(begun.created).encode(), job.expires))
            return begun

        begun = await session.commit("job", work)
        self.wake()
        return begun

    async def _require_room(self, unit: SessionUnit) -> None:
        if len(await unit.memos(OPEN, count=self.most)) >= self.most:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"{self.most} jobs are under way already; wait for one, or cancel one",
            )

    async def find(self, session: Session, job_id: str) -> Job:
        """The caller's job of that id.

        Raises:
            FhirError: NOT_FOUND, also for another's, and after it was cancelled or has expired.
        """
        found = await session.memo(RECORDS, job_id)
        if found is None:
            raise FhirError(Kind.NOT_FOUND, "There is no such job; jobs expire")
        return read(found)

    async def cancel(self, session: Session, job_id: str) -> None:
        """Forget the job and all its files; what it has stored elsewhere stays.

        Raises:
            FhirError: NOT_FOUND.
        """
        await self.find(session, job_id)
        await forget(session, job_id)


async def forget(session: Asking, job_id: str) -> None:
    """Forget whatever is kept under that id: the files a few at a time, as others wait for it."""

    async def work(unit: SessionUnit) -> None:
        for space in SPACES:
            if space != FILES:
                await unit.forget(space, job_id)

    await session.commit("job", work)
    while some := await session.memos(FILES, f"{job_id}/", _FILES_AT_ONCE):
        await session.commit("job", _forgetting(some))


def _forgetting(some: Sequence[Memo]) -> Callable[[SessionUnit], Awaitable[None]]:
    async def work(unit: SessionUnit) -> None:
        for memo in some:
            await unit.forget(memo.space, memo.key)

    return work


async def file(session: Session, job_id: str, name: str) -> bytes:
    """A file of the job.

    Raises:
        FhirError: NOT_FOUND.
    """
    found = await session.memo(FILES, f"{job_id}/{name}")
    if found is None:
        raise FhirError(Kind.NOT_FOUND, "The job has no such file")
    return found.value


async def index(session: Session, job_id: str) -> AsyncIterator[tuple[str, int]]:
    """The files that are shown, by name, with the number of their lines."""
    head, after = f"{job_id}/", f"{job_id}/"
    while found := await session.memos(INDEX, head, _AT_ONCE, after):
        for memo in found:
            yield memo.key.removeprefix(head), int(memo.value)
        after = found[-1].key


async def files(session: Session, job_id: str, folder: str) -> AsyncIterator[tuple[str, bytes]]:
    """The files whose names begin with `folder`, in the order of their names."""
    head = f"{job_id}/{folder}"
    after = head
    while found := await session.memos(FILES, head, 1, after):
        yield found[0].key.removeprefix(head), found[0].value
        after = found[0].key
