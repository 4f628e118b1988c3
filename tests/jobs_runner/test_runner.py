"""The runner of jobs: who holds one, until when, and what becomes of one that cannot go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit, of_all_callers
from fhir_server.errors import FhirError, Kind
from fhir_server.jobs.desk import Desk
from fhir_server.jobs.record import OPEN, Job, State
from fhir_server.jobs.runner import Lost, Runner, Terms, Work
from fhir_server.storage.sqlite.store import SqliteStore
from tests.jobs import until

SECOND: Final = 1_000_000


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "jobs.db", clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(clock, lifetime=100)


def session(store: SqliteStore, caller: str = "somebody") -> Session:
    return Session(store, Caller(caller, "r1"), OpenPolicy())


Runs = Callable[..., Runner]


@pytest.fixture
async def runs(store: SqliteStore, clock: Clock) -> AsyncIterator[Runs]:
    """Makes runners, as other processes on the same store would have them."""
    made: list[Runner] = []

    def run(step: Callable[[Work], Awaitable[None]], lease: float = 10.0) -> Runner:
        runner = Runner(
            lambda: of_all_callers(store, OPEN),
            lambda caller: Session(store, caller, OpenPolicy()),
            {"count": step},
            clock,
            Terms(concurrency=2, lease=lease),
            asyncio.Event(),
        )
        runner.start()
        made.append(runner)
        return runner

    yield run
    for runner in made:
        await runner.stop()


async def queued(store: SqliteStore, desk: Desk) -> Job:
    one = session(store)
    return await desk.start(one, desk.new(one, "count"), b"{}")


async def advanced(work: Work, state: State = State.RUNNING) -> None:
    async def change(unit: SessionUnit) -> Job:  # noqa: ARG001
        return replace(work.job, place=(work.job.place or 0) + 1, state=state)

    await work.commit("count", change)


async def ends(work: Work) -> None:
    await advanced(work, State.DONE if work.job.place == 4 else State.RUNNING)


def is_finished(store: SqliteStore, desk: Desk, job: Job) -> Callable[[], Awaitable[bool]]:
    async def finished() -> bool:
        return (await desk.find(session(store), job.id)).finished

    return finished


async def test_a_job_is_run_step_by_step_in_its_callers_name(
    store: SqliteStore, desk: Desk, runs: Runs
) -> None:
    seen: list[Caller] = []

    async def step(work: Work) -> None:
        seen.append(work.session.caller)
        await ends(work)

    job = await queued(store, desk)
    runs(step)
    await until(is_finished(store, desk, job))
    assert seen == [Caller("somebody", "r1")] * 5
    found = await desk.find(session(store), job.id)
    assert (found.state, found.place, found.holder) == (State.DONE, 5, "")
    assert await of_all_callers(store, OPEN) == []


async def test_what_a_process_holds_is_taken_by_another_only_once_its_lease_has_run_out(
    store: SqliteStore, desk: Desk, runs: Runs, clock: Clock
) -> None:
    begun = asyncio.Event()

    async def endless(work: Work) -> None:  # noqa: ARG001
        begun.set()
        await asyncio.Event().wait()

    job = await queued(store, desk)
    runs(endless, lease=50.0)
    await begun.wait()
    runs(ends)
    clock.now += 49 * SECOND
    await asyncio.sleep(1.2)  # in which the other one looked
    assert (await desk.find(session(store), job.id)).place is None
    clock.now += 2 * SECOND
    await until(is_finished(store, desk, job))


async def test_who_lost_a_job_writes_nothing_more(
    store: SqliteStore, desk: Desk, runs: Runs, clock: Clock
) -> None:
    begun, late = asyncio.Event(), asyncio.Event()
    lost: list[bool] = []

    async def slow(work: Work) -> None:
        begun.set()
        await late.wait()
        try:
            await advanced(work)
        except Lost:
            lost.append(True)
            raise

    job = await queued(store, desk)
    runs(slow, lease=50.0)
    await begun.wait()
    clock.now += 51 * SECOND
    runs(ends)
    await until(is_finished(store, desk, job))
    late.set()

    async def is_lost() -> bool:
        return bool(lost)

    await until(is_lost)
    assert (await desk.find(session(store), job.id)).place == 5


async def test_a_lease_is_renewed_while_a_step_takes_long(
    store: SqliteStore, desk: Desk, runs: Runs, clock: Clock
) -> None:
    late = asyncio.Event()

    async def slow(work: Work) -> None:
        await late.wait()
        await ends(work)

    job = await queued(store, desk)
    runs(slow, lease=0.2)

    async def held_until() -> int:
        return (await desk.find(session(store), job.id)).until

    async def is_held() -> bool:
        return await held_until() > 0

    await until(is_held)
    before = await held_until()
    clock.now += SECOND

    async def is_renewed() -> bool:
        return await held_until() >= before + SECOND

    await until(is_renewed)
    late.set()
    await until(is_finished(store, desk, job))


async def test_a_cancelled_job_ends_in_the_middle_of_a_step(
    store: SqliteStore, desk: Desk, runs: Runs
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(work: Work) -> None:  # noqa: ARG001
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    job = await queued(store, desk)
    runs(endless, lease=0.1)
    await begun.wait()
    await desk.cancel(session(store), job.id)
    await asyncio.wait_for(ended.wait(), 60)


async def test_what_ends_every_process_fails_in_the_end(
    store: SqliteStore, desk: Desk, runs: Runs, clock: Clock
) -> None:
    begun = asyncio.Event()

    async def dies(work: Work) -> None:  # noqa: ARG001
        begun.set()
        await asyncio.Event().wait()

    job = await queued(store, desk)
    for _ in range(5):
        begun.clear()
        runner = runs(dies)
        await begun.wait()
        for task in [*runner._running.values(), runner._watch]:
            assert task is not None
            # As a killed process: nothing is released.
            runner._release = _nothing  # type: ignore[method-assign]
            task.cancel()
        clock.now += 11 * SECOND
    runs(ends)
    await until(is_finished(store, desk, job))
    found = await desk.find(session(store), job.id)
    assert (found.state, found.status) == (State.FAILED, 500)
    assert found.outcome is not None
    assert "stopped 5 times at the same step" in found.outcome["issue"][0]["diagnostics"]


async def _nothing(job: Job) -> None:
    """What a killed process releases."""


async def test_a_step_is_tried_again_when_the_store_could_not_write(
    store: SqliteStore, desk: Desk, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhir_server.jobs.runner._PAUSE", 0.01)
    refusals = [FhirError(Kind.UNAVAILABLE, "not now")] * 3

    async def step(work: Work) -> None:
        if refusals:
            raise refusals.pop()
        await ends(work)

    job = await queued(store, desk)
    runs(step)
    await until(is_finished(store, desk, job))
    assert (await desk.find(session(store), job.id)).state is State.DONE


async def test_a_job_and_its_files_expire(store: SqliteStore, desk: Desk, clock: Clock) -> None:
    job = await queued(store, desk)
    clock.now += 99 * SECOND
    assert (await desk.find(session(store), job.id)).id == job.id
    clock.now += 2 * SECOND
    with pytest.raises(FhirError) as refused:
        await desk.find(session(store), job.id)
    assert refused.value.kind is Kind.NOT_FOUND
    assert await of_all_callers(store, OPEN) == []
    assert await store.memos("job-file") == []


async def test_a_step_that_commits_nothing_fails_and_does_not_spin(
    store: SqliteStore, desk: Desk, runs: Runs
) -> None:
    async def idle(work: Work) -> None:
        """Forgets to commit."""

    job = await queued(store, desk)
    runs(idle)
    await until(is_finished(store, desk, job))
    assert (await desk.find(session(store), job.id)).status == 500
