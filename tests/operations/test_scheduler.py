"""What time alone brings about, with the clock moved on."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from fhir_server.access import moments
from fhir_server.access.caller import Caller
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application, create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.events.topics import topics_of
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.jobs.scheduler import Diary, Pace, Scheduler
from fhir_server.settings import Settings
from fhir_server.storage.clock import MovableClock
from fhir_server.storage.interface import Store
from fhir_server.timing import scheduler
from tests.operations.chart import KEYWORKER, Chart, code_of, concept
from tests.operations.messages import JSON
from tests.operations.timing import (
    TODAY,
    begin,
    born,
    by_parent,
    days_ago,
    due,
    involve,
    timers,
)
from tests.support import ServerProcess, put

DAY = 24 * 3600 * 1_000_000
STRATEGIC = {"reference": "PractitionerRole/strategic"}


@pytest.fixture
def clock(tmp_path: Path) -> MovableClock:
    return MovableClock(tmp_path / "clock")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"movable_clock": tmp_path / "clock"})


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
def one(app: Application) -> Scheduler:
    """Of one process."""
    return scheduler(app.state.store, app.state.server)


@pytest.fixture
def other(app: Application) -> Scheduler:
    """Of another."""
    return scheduler(app.state.store, app.state.server)


async def work_off(scheduler: Scheduler) -> int:
    total = 0
    while found := await scheduler.work():
        total += found
    return total


async def status(chart: Chart, code: str) -> list[str | None]:
    return [task.get("businessStatus", {}).get("text") for task in await timers(chart, code)]


async def rated_amber(chart: Chart) -> None:
    """With a consent that does not run out while the clock is moved."""
    await begin(chart)
    ends = (TODAY + timedelta(days=364)).isoformat()
    given = {"type": "permit", "period": {"start": TODAY.isoformat(), "end": ends}}
    await chart.consent("keyworking", dateTime=TODAY.isoformat(), provision=given)
    await involve(chart)
    team: JSON = {"resourceType": "CareTeam", "id": "team", "status": "active"}
    role = concept(canonicals.CARE_TEAM_ROLE, "strategic-keyworker")
    member = {"role": [role], "member": STRATEGIC, "period": {"start": days_ago(9)}}
    subject = {"reference": chart.patient}
    await chart.write({"resourceType": "PractitionerRole", "id": "strategic"})
    await chart.write({**team, "subject": subject, "participant": [member]})
    await chart.rate("amber", TODAY.isoformat())


async def test_nothing_is_done_before_its_time(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(27 * DAY)
    assert await work_off(one) == 0
    assert await status(unknown, "T-REVIEW-AMBER") == [None]


async def test_what_was_due_is_overdue_and_then_the_strategic_keyworker_s(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(29 * DAY)
    assert await work_off(one) == 1
    assert await status(unknown, "T-REVIEW-AMBER") == ["Overdue"]
    (late,) = await timers(unknown, "T-REVIEW-AMBER")
    assert topics_of(late, None) == {"task-overdue"}
    assert await timers(unknown, "escalation") == []
    clock.move_by(7 * DAY)
    assert await work_off(one) == 1
    (escalation,) = await timers(unknown, "escalation")
    (task,) = await timers(unknown, "T-REVIEW-AMBER")
    assert escalation["owner"] == STRATEGIC
    assert escalation["focus"] == {"reference": f"Task/{task['id']}"}
    assert task["owner"] == KEYWORKER


async def test_an_escalation_ends_when_what_was_overdue_is_done(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(40 * DAY)
    await work_off(one)
    (task,) = await timers(unknown, "T-REVIEW-AMBER")
    assert len(await timers(unknown, "escalation")) == 1
    today = datetime.now(LOCAL) + timedelta(days=40)
    done = {"status": "completed", "executionPeriod": {"end": today.date().isoformat()}}
    await unknown.write({**task, **done})
    assert len(await timers(unknown, "escalation", "completed")) == 1
    assert await status(unknown, "T-REVIEW-AMBER") == [None], "the next one is not late"


async def test_what_is_dated_again_is_not_overdue_any_more(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(29 * DAY)
    await work_off(one)
    (task,) = await timers(unknown, "T-REVIEW-AMBER")
    later = (TODAY + timedelta(days=60)).isoformat()
    await unknown.write({**task, "status": "accepted", "restriction": {"period": {"end": later}}})
    (task,) = await timers(unknown, "T-REVIEW-AMBER", "accepted")
    clock.move_by(DAY)
    assert await work_off(one) == 0
    clock.move_by(40 * DAY)
    assert await work_off(one) == 1


async def test_what_nobody_sees_to_is_told_once(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(60 * DAY)
    await work_off(one)
    before = await unknown.all("Task")
    clock.move_by(3 * DAY)
    await work_off(one)
    codes = [code_of(task["code"]) for task in before]
    assert codes.count("escalation") == 1
    later = [task for task in await unknown.all("Task") if task not in before]
    assert {code_of(task["code"]) for task in later} <= {"escalation"}
    assert await work_off(one) == 0


# Birthdays --------------------------------------------------------------------------------------


async def test_t_proxy_review_is_raised_weeks_before_the_13th_birthday(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await begin(unknown, birthDate=born(13, -40))
    await by_parent(unknown)
    assert await timers(unknown, "T-PROXY-REVIEW") == []
    clock.move_by(13 * DAY)
    await work_off(one)
    assert len(await timers(unknown, "T-PROXY-REVIEW")) == 1


async def test_t_proxy_16_a_parent_s_consent_ends_on_the_16th_birthday(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await begin(unknown, birthDate=born(16, -5))
    await by_parent(unknown)
    clock.move_by(4 * DAY)
    await work_off(one)
    assert (await unknown.all("Consent"))[0]["status"] == "active"
    clock.move_by(1 * DAY)
    await work_off(one)
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "inactive"
    assert "ROLE_DEACTIVATED_END_DATE_REACHED" in str(consent["extension"])


async def test_t_transition_and_exit_come_with_their_birthdays(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await begin(unknown, birthDate=born(18, -5))
    await involve(unknown)
    (before,) = await timers(unknown, "T-TRANSITION")
    clock.move_by(6 * DAY)
    await work_off(one)
    (after,) = await timers(unknown, "T-TRANSITION")
    assert before["id"] != after["id"], "one step takes the place of the other"
    asked = [task["focus"]["reference"] for task in await timers(unknown, "escalation")]
    assert f"Task/{before['id']}" not in asked, "nobody is asked why that is late"
    clock.move_by(round(7.01 * 365.25) * DAY)
    await work_off(one)
    assert len(await timers(unknown, "exit")) == 1
    assert await timers(unknown, "T-TRANSITION") == []


async def test_a_consent_that_runs_out_is_talked_about(
    unknown: Chart, one: Scheduler, clock: MovableClock
) -> None:
    await begin(unknown)
    await involve(unknown)
    last = (TODAY + timedelta(days=10)).isoformat()
    provision = {"type": "permit", "period": {"start": days_ago(10), "end": last}}
    await unknown.consent("keyworking", provision=provision)
    clock.move_by(9 * DAY)
    await work_off(one)
    assert await timers(unknown, "review-consent") == []
    clock.move_by(2 * DAY)
    await work_off(one)
    assert len(await timers(unknown, "review-consent")) == 1


# Several processes ------------------------------------------------------------------------------


async def versions(chart: Chart) -> list[str]:
    return sorted(task["meta"]["versionId"] for task in await chart.all("Task"))


async def test_two_processes_at_once_do_it_once(
    unknown: Chart, one: Scheduler, other: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    before = len(await unknown.all("Task"))
    clock.move_by(29 * DAY)
    found = await asyncio.gather(*(each.work() for each in (one, other, one, other)))
    assert sorted(found)[:2] == [0, 0]
    assert len(await unknown.all("Task")) == before
    (task,) = await timers(unknown, "T-REVIEW-AMBER")
    assert task["meta"]["versionId"] == "2"


async def test_another_leads_once_the_lease_has_run_out(
    unknown: Chart, one: Scheduler, other: Scheduler, clock: MovableClock, store: Store
) -> None:
    await rated_amber(unknown)
    clock.move_by(29 * DAY)
    assert await moments.lead(store, one.name, clock(), clock() + 15_000_000)
    assert await other.work() == 0
    clock.move_by(16_000_000)
    assert await other.work() == 1
    assert not await moments.lead(store, one.name, clock(), clock() + 15_000_000)


async def test_one_that_has_lost_the_lead_does_nothing(
    unknown: Chart, one: Scheduler, other: Scheduler, clock: MovableClock, store: Store
) -> None:
    await rated_amber(unknown)
    clock.move_by(29 * DAY)
    assert await moments.lead(store, other.name, clock(), clock() + 15_000_000)
    await one._see_to("young-person")
    assert await status(unknown, "T-REVIEW-AMBER") == [None]


async def test_stopping_lets_go_of_the_lead(
    unknown: Chart, one: Scheduler, other: Scheduler, clock: MovableClock
) -> None:
    await rated_amber(unknown)
    clock.move_by(29 * DAY)
    one.start()
    await _until(lambda: status(unknown, "T-REVIEW-AMBER"), ["Overdue"])
    await one.stop()
    clock.move_by(7 * DAY)
    assert await other.work() == 1


async def _until(ask: object, wanted: object, seconds: float = 20) -> None:
    assert callable(ask)
    deadline = time.monotonic() + seconds
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


def _diary(store: Store) -> Diary:
    return Diary(
        lambda now, count: moments.come(store, now, count),
        lambda name, now, until: moments.lead(store, name, now, until),
        lambda name: moments.let_go(store, name),
    )


class _Failing:
    """Rules that fail at one patient, and note the others."""

    types = frozenset[str]()

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def look(self, unit: SessionUnit, told: object) -> list[str]:  # noqa: ARG002
        return []

    async def come(self, unit: SessionUnit, patient_id: str, at: int) -> list[str]:  # noqa: ARG002
        if patient_id == "b":
            raise FhirError(Kind.TOO_COSTLY, "Too much")
        self.seen.append(patient_id)
        await unit.remind(patient_id, None)
        return []

    def as_it_is(self) -> "_Failing":
        return self


async def _remind(store: Store, *patients: str) -> None:
    async def work(unit: SessionUnit) -> None:
        for number, patient in enumerate(patients):
            await unit.remind(patient, number)

    await Session(store, Caller("test")).commit("test", work)


async def test_a_backlog_is_worked_off_in_pieces_the_oldest_first(
    store: Store, clock: MovableClock
) -> None:
    rules = _Failing()
    await _remind(store, "d", "a", "ab", "c", "e")
    pace = Pace(piece=2)
    worker = Scheduler(_diary(store), lambda: Session(store, Caller("x"), rules=rules), clock, pace)
    assert [await worker.work() for _ in range(4)] == [2, 2, 1, 0]
    assert rules.seen == ["d", "a", "ab", "c", "e"]


async def test_a_patient_at_whom_the_rules_fail_does_not_hold_others_up(
    store: Store, clock: MovableClock
) -> None:
    rules = _Failing()
    await _remind(store, "b", "a")
    pace = Pace(piece=1)
    worker = Scheduler(_diary(store), lambda: Session(store, Caller("x"), rules=rules), clock, pace)
    assert [await worker.work() for _ in range(3)] == [1, 1, 0]
    assert rules.seen == ["a"]
    clock.move_by(2 * 3600 * 1_000_000)
    assert await worker.work() == 1, "it is tried again"


def test_a_server_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = MovableClock(tmp_path / "clock")
    environment = {"KEYWORKING_MOVABLE_CLOCK": str(tmp_path / "clock")}
    process = ServerProcess(tmp_path / "s.db", tmp_path / "log", **environment)
    process.start()
    try:
        asyncio.run(_rate_all(process.base))
        clock.move_by(40 * DAY)
        time.sleep(0.3)  # some are done by now, some are not
        process.kill()
        process.start()
        asyncio.run(_await_all(process.base))
    finally:
        process.stop()


def test_of_two_servers_the_other_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    clock = MovableClock(tmp_path / "clock")
    environment = {"KEYWORKING_MOVABLE_CLOCK": str(tmp_path / "clock")}
    both = [ServerProcess(tmp_path / "s.db", tmp_path / f"{n}", **environment) for n in range(2)]
    try:
        for process in both:
            process.start()
        asyncio.run(_rate_all(both[1].base))
        clock.move_by(40 * DAY)
        time.sleep(0.1)  # the first to start leads, and may have begun
        both[0].kill()
        clock.move_by(60_000_000)  # whoever led is not waited for any longer
        asyncio.run(_await_all(both[1].base))
    finally:
        for process in both:
            process.stop()


_PEOPLE = 12


async def _rate_all(base: str) -> None:
    async with httpx.AsyncClient(base_url=base + "/", timeout=60) as client:
        for number in range(_PEOPLE):
            patient = {"resourceType": "Patient", "id": f"p{number}", "birthDate": born(12, 100)}
            await put(client, patient)
            flag: JSON = {
                "resourceType": "Flag",
                "id": f"f{number}",
                "status": "active",
                "category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")],
                "code": concept(canonicals.DSR_RATING, "amber"),
                "subject": {"reference": f"Patient/p{number}"},
                "period": {"start": TODAY.isoformat()},
                "author": KEYWORKER,
            }
            await put(client, flag)


async def _await_all(base: str) -> None:
    """All are overdue and escalated in the end, each once."""
    async with httpx.AsyncClient(base_url=base + "/", timeout=60) as client:

        async def codes() -> list[tuple[str, str]]:
            bundle = (await client.get("Task?_count=100")).json()
            tasks = [entry["resource"] for entry in bundle.get("entry", ())]
            return sorted((code_of(one["code"]), one["meta"]["versionId"]) for one in tasks)

        once = [("T-REVIEW-AMBER", "2")] * _PEOPLE + [("escalation", "1")] * _PEOPLE
        await _until(codes, once, 60)


# The order of things ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_of_writes_does_not_matter(unknown: Chart, seed: int) -> None:
    """What is still to be done is the same, whether a stay or a rating is told first."""
    found = []
    for number in range(2):
        chart = Chart(unknown.client, unknown.store, patient=f"Patient/person-{number}")
        patient = {"resourceType": "Patient", "id": f"person-{number}", "birthDate": born(14, 9)}
        await chart.write(patient)
        steps = _steps(chart, number)
        if number:
            random.Random(seed).shuffle(steps)  # noqa: S311 - a test's
        for step in steps:
            await chart.write(step)
        waiting = [task for task in await chart.all("Task") if task["status"] == "requested"]
        found.append(sorted((code_of(task["code"]), due(task)) for task in waiting))
    assert found[0] == found[1]
    assert len(found[0]) >= 5


def _steps(chart: Chart, number: int) -> list[JSON]:
    subject = {"reference": chart.patient}
    common = {"category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")]}
    flag = {"resourceType": "Flag", **common, "subject": subject, "author": KEYWORKER}
    request: JSON = {
        "resourceType": "ServiceRequest",
        "id": f"r{number}",
        "status": "active",
        "intent": "order",
        "subject": subject,
        "authoredOn": days_ago(30),
        "requester": KEYWORKER,
        "code": {"text": "Keyworking"},
        "performerType": concept(canonicals.CARE_TEAM_ROLE, "keyworker"),
        "supportingInfo": [{"reference": f"Flag/red-{number}"}],
    }
    red = {"code": concept(canonicals.DSR_RATING, "red"), "period": {"start": days_ago(9)}}
    amber = {"code": concept(canonicals.DSR_RATING, "amber"), "period": {"start": days_ago(2)}}
    stay: JSON = {
        "resourceType": "Encounter",
        "id": f"e{number}",
        "status": "in-progress",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "identifier": [{"system": "https://ward.example/spell", "value": str(number)}],
        "subject": subject,
        "period": {"start": days_ago(1) + "T09:00:00Z"},
        "serviceProvider": KEYWORKER | {"reference": "Organization/ward"},
    }
    ward: JSON = {"resourceType": "Organization", "id": "ward", "name": "Ward"}
    return [
        request,
        {**flag, "id": f"red-{number}", "status": "active", **red},
        {**flag, "id": f"amber-{number}", "status": "active", **amber},
        ward,
        stay,
    ]
