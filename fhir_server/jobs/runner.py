"""Runs jobs in the background of a server process.

A job is taken for a short time, the lease, and renewed while it is worked at; each step is one
commit that stores what it made, where the next one begins, and sees to it that the job is still
this process's. When a process is killed, another takes the job where the last commit left it,
once the lease has run out. So no step happens twice, and none is lost.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

from fhir_server.access.caller import Caller, Stands, unchanged
from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.jobs.record import OPEN, RECORDS, Job, State, read

_log: Final = logging.getLogger(__name__)
_POLL: Final = 1.0
"""Seconds between two looks for jobs that other processes were given, or left behind."""
_PAUSE: Final = 1.0
"""Seconds before a step is tried again when the store could not write."""
_MOST_TAKES: Final = 5
"""A job that ended so many processes in a row is the reason."""
_TOO_OFTEN: Final = FhirError(
    Kind.INTERNAL, f"The server stopped {_MOST_TAKES} times at the same step of this job"
)


class Lost(Exception):
    """The job was cancelled, has expired, or is another process's by now."""


Change = Callable[[SessionUnit], Awaitable[Job]]


class Work:
    """A job in the hands of a process: what a step gets."""

    def __init__(self, job: Job, session: Session, keep: Callable[[Job], Job]) -> None:
        self.job = job
        self.session = session
        """Of the job's caller, made anew for each step: what it may do is decided then."""
        self.at_hand: dict[str, Any] = {}
        """Whatever a step leaves for the next one, in this process only."""
        self._keep = keep

    def note(self, asked: str) -> None:
        """What the audit will say was asked for by the next commit."""
        if self.session.record is not None:
            self.session.record.asked = asked

    async def commit(self, action: str, change: Change) -> None:
        """Run `change` in one commit with the job as it returns it.

        What the step has read by then is in the audit with it: what it keeps goes out.

        Raises:
            Lost: with nothing written.
            FhirError: what `change` raises, with nothing written; UNAVAILABLE.
        """
        holder = self.job.holder

        async def held(unit: SessionUnit) -> Job:
            require_held(await unit.memo(RECORDS, self.job.id), holder)
            changed = self._keep(await change(unit))
            await unit.tell_reads()
            await unit.keep(changed.memo())
            if changed.finished:
                await unit.forget(OPEN, changed.id)
            return changed

        self.job = await self.session.commit(action, held)


Step = Callable[[Work], Awaitable[None]]
"""Does a little of the job, with one `commit`; the job is run until that finishes it."""
Open = Callable[[], Awaitable[Sequence[tuple[str, Memo]]]]
"""The marks of unfinished jobs, each with the name of its caller."""
_WITHDRAWN: Final = FhirError(
    Kind.FORBIDDEN, "The client may not do any more what it might when it began"
)


def require_held(found: Memo | None, holder: str) -> Job:
    """The job, which is still this holder's.

    Raises:
        Lost.
    """
    job = None if found is None else read(found)
    if job is None or job.holder != holder or job.finished:
        raise Lost
    return job


@dataclass(frozen=True, slots=True)
class Terms:
    """How many jobs run at a time, and the seconds for which one is taken."""

    concurrency: int = 2
    lease: float = 15.0


class Runner:
    """Takes unfinished jobs, one step after the other.

    Args:
        unfinished: finds jobs of all callers.
        open_session: makes the session of a caller.
        steps: by the kind of a job. A kind that is not there is left to other processes.
        woken: set when there may be something to do.
        stands: asked before each step.
    """

    def __init__(
        self,
        unfinished: Open,
        open_session: Callable[[Caller], Session],
        steps: Mapping[str, Step],
        clock: Callable[[], int],
        terms: Terms,
        woken: asyncio.Event,
        stands: Stands = unchanged,
    ) -> None:
        self._stands = stands
        self._unfinished = unfinished
        self._open_session = open_session
        self._steps = steps
        self._clock = clock
        self._terms = terms
        self._name: Final = str(uuid4())
        self._running: dict[str, asyncio.Task[None]] = {}
        self._woken = woken
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.create_task(self._take_for_ever())

    async def stop(self) -> None:
        """Let go of everything, so that another process may go on at once."""
        tasks = [*self._running.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_for_ever(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._take_what_is_free()
            except FhirError as error:
                _log.warning("No jobs can be taken: %s", error)
            except Exception:
                _log.exception("No jobs can be taken")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):  # `wait_for` may lose a cancellation
                    await self._woken.wait()

    async def _take_what_is_free(self) -> None:
        marks = sorted(await self._unfinished(), key=lambda mark: int(mark[1].value))
        for caller, mark in marks:
            if len(self._running) >= self._terms.concurrency:
                return
            if mark.key not in self._running:
                await self._take(caller, mark.key)

    async def _take(self, caller: str, job_id: str) -> None:
        session = self._open_session(Caller(caller))
        found = await session.memo(RECORDS, job_id)
        job = None if found is None else read(found)
        if job is None or not self._is_free(job):
            return
        taken = await self._taken(session, job_id)
        if taken is not None:
            task = asyncio.create_task(self._run(taken))
            self._running[job_id] = task
            task.add_done_callback(lambda _: self._let_go_of(job_id))

    def _is_free(self, job: Job) -> bool:
        return job.kind in self._steps and not job.finished and job.until <= self._clock()

    async def _taken(self, session: Session, job_id: str) -> Job | None:
        """The job, if nobody was quicker."""

        async def work(unit: SessionUnit) -> Job | None:
            found = await unit.memo(RECORDS, job_id)
            job = None if found is None else read(found)
            if job is None or not self._is_free(job):
                return None
            taken = replace(self._kept(job), state=State.RUNNING, takes=job.takes + 1)
            await unit.keep(taken.memo())
            return taken

        return await session.commit("job", work)

    def _kept(self, job: Job) -> Job:
        """The job with its lease begun anew, or ended where it is finished."""
        if job.finished:
            return replace(job, holder="", until=0)
        until = self._clock() + int(self._terms.lease * 1_000_000)
        return replace(job, holder=self._name, until=until)

    def _let_go_of(self, job_id: str) -> None:
        del self._running[job_id]
        self._woken.set()

    async def _run(self, job: Job) -> None:
        work = Work(job, self._session_of(job), self._stepped)
        steps = asyncio.create_task(self._take_steps(work))
        renewal = asyncio.create_task(self._renew(job))
        try:
            await asyncio.wait((steps, renewal), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (steps, renewal):
                task.cancel()
            await asyncio.gather(steps, renewal, return_exceptions=True)
            await self._release(job)

    def _session_of(self, job: Job) -> Session:
        return self._open_session(job.asked_by)

    def _stepped(self, job: Job) -> Job:
        return replace(self._kept(job), takes=0)

    async def _take_steps(self, work: Work) -> None:
        while not work.job.finished:
            try:
                await self._step(work)
            except Lost:
                return
            except Exception as error:
                await self._failed(work, error)
            await asyncio.sleep(0)

    async def _step(self, work: Work) -> None:
        before = work.job
        if before.takes > _MOST_TAKES:
            raise _TOO_OFTEN
        caller = await self._stands(before.asked_by)
        if caller is None:
            raise _WITHDRAWN
        work.session = self._open_session(caller)
        work.note(f"job {before.id}: {before.kind}")
        work.job = ready = before.reaching(await work.session.reach())
        await self._steps[before.kind](work)
        if work.job is ready:
            raise RuntimeError(f"A step of {before.kind} did not commit")

    async def _failed(self, work: Work, error: Exception) -> None:
        """Write the failure down; what may pass by itself is waited for."""
        if isinstance(error, FhirError) and error.kind is Kind.UNAVAILABLE:
            await asyncio.sleep(_PAUSE)
            return
        if not isinstance(error, FhirError):
            _log.error("Job %s failed", work.job.id, exc_info=error)
            error = FhirError(Kind.INTERNAL, "The server failed at this job")
        ended = replace(work.job, **work.job.failed(error))

        async def change(unit: SessionUnit) -> Job:  # noqa: ARG001
            return ended

        try:
            await work.commit("job", change)
        except Lost:
            return
        except FhirError:  # which the next turn meets again
            await asyncio.sleep(_PAUSE)

    async def _renew(self, job: Job) -> None:
        """Keep the lease while a step takes long; ends when the job is not ours any more."""
        session = self._session_of(job)

        async def work(unit: SessionUnit) -> None:
            current = require_held(await unit.memo(RECORDS, job.id), self._name)
            await unit.keep(self._kept(current).memo())

        while True:
            await asyncio.sleep(self._terms.lease / 3)
            try:
                await session.commit("job", work)
            except Lost:
                return
            except FhirError as error:
                _log.warning("Job %s cannot be held: %s", job.id, error)

    async def _release(self, job: Job) -> None:
        """Let others take it at once, where it is still unfinished and ours."""

        async def work(unit: SessionUnit) -> None:
            current = require_held(await unit.memo(RECORDS, job.id), self._name)
            takes = max(0, current.takes - 1)
            await unit.keep(replace(current, holder="", until=0, takes=takes).memo())

        with contextlib.suppress(Lost, FhirError):
            await self._session_of(job).commit("job", work)
