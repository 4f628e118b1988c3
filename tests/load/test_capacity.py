"""The knee, the busiest hour and the thresholds: from numbers that are made up, by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from loadtests import figures, thresholds
from loadtests.capacity import Capacity, Knee, Limits, Measured, at_peak, gain, knee, measured
from loadtests.samples import Began, Sample, Use, store_ms
from loadtests.scenarios import ALL, BY_NAME
from tests.support import REPOSITORY

LIMITS: Final = Limits(p95_ms=500, faults=0.01, keeps_up=0.9)
FAULTLESS: Final = Sample(0.0, "partners", "page of plans", 10.0, 200, "")


def step(users: int, rate: float, p95: float = 50.0, faults: int = 0) -> Measured:
    return Measured(users, 10.0, int(rate * 10), 10.0, p95, 90.0, faults, 0.5, 100.0, 1.0)


def test_the_knee_is_the_last_step_before_the_first_that_is_too_much() -> None:
    found = knee([step(5, 10), step(20, 40), step(40, 78), step(80, 100)], LIMITS)
    assert (found.rate, found.users, found.found) == (78, 40, True)
    assert found.why == "80 users: 100 requests a second, not the 160 that are due"


def test_a_server_that_carries_every_step_carries_at_least_the_last() -> None:
    found = knee([step(5, 10), step(20, 40)], LIMITS)
    assert found == Knee(40.0, 20, found=False, why="")


@pytest.mark.parametrize(
    ("too_much", "why"),
    [
        (step(40, 80, p95=501), "p95 is 501 ms, more than 500"),
        (step(40, 80, faults=9), "1.1% of the requests went wrong"),
        (step(40, 70), "70 requests a second, not the 80 that are due"),
    ],
)
def test_a_step_is_too_much_when_it_is_late_or_wrong_or_behind(
    too_much: Measured, why: str
) -> None:
    assert knee([step(20, 40), too_much], LIMITS).why == f"40 users: {why}"
    assert not knee([step(20, 40), step(40, 74, p95=499, faults=7)], LIMITS).found


def test_few_users_do_not_say_what_is_due_of_many() -> None:
    """The first two or three are those of the report and the export, who ask for more."""
    assert not knee([step(2, 9), step(6, 17), step(20, 40), step(40, 80)], LIMITS).found
    assert knee([step(2, 9), step(20, 40), step(40, 70)], LIMITS).users == 20


def test_a_step_after_the_knee_that_looks_well_does_not_count() -> None:
    found = knee([step(5, 10), step(20, 40, p95=600), step(40, 80)], LIMITS)
    assert found.rate == 10


def test_who_does_not_carry_the_first_step_carries_nothing() -> None:
    found = knee([step(5, 10, p95=900)], LIMITS)
    assert (found.rate, found.found) == (0.0, True)
    assert Capacity(found, {"partners": 1.0}, 1).share == math.inf
    assert math.isnan(gain(found, found))


def test_only_right_answers_are_carried() -> None:
    assert knee([step(5, 10), step(20, 40, faults=4)], LIMITS).rate == pytest.approx(39.6)


def test_what_one_more_worker_gave_is_the_ratio_of_what_both_carry() -> None:
    assert gain(Knee(100, 40, True, ""), Knee(170, 80, True, "")) == pytest.approx(1.7)


def test_the_busiest_hour_is_actions_by_the_register_times_requests_to_an_action() -> None:
    rush = replace(BY_NAME["morning_rush"], a_day=2.0, peak=0.5)
    # 400 young people, twice a day each, half of it in one hour: 400 actions in 3600 seconds.
    found = at_peak([rush], {"morning_rush": 30}, {"morning_rush": 10}, 400)
    assert found == {"morning_rush": pytest.approx(400 / 3600 * 3)}
    assert at_peak([rush], {}, {}, 400) == {}


def test_the_share_is_the_busiest_hour_to_what_is_carried() -> None:
    capacity = Capacity(Knee(200, 80, True, ""), {"a": 1.5, "b": 0.5}, boards=2)
    assert capacity.peak_rate == 2.0
    assert capacity.share == pytest.approx(0.01)
    assert capacity.regions == pytest.approx(200)


def test_every_scenario_says_how_often_it_is_played_on_a_working_day() -> None:
    assert all(one.a_day > 0 for one in ALL)
    assert all(0 <= one.peak <= 1 for one in ALL)
    assert sum(one.weight for one in ALL) > 0


def test_the_page_tells_each_scenario_with_its_numbers() -> None:
    page = (REPOSITORY / "docs" / "load-testing.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for one in ALL:
        users = f"| {one.weight} |" if one.weight else "| one user |"
        assert users in rows[one.name]
        assert rows[one.name].endswith(f"| {one.a_day:g}, {one.peak:g} |")


def test_the_page_of_capacity_has_a_place_for_figures() -> None:
    page = (REPOSITORY / "docs" / "capacity.md").read_text()
    assert page.index(figures.BEGIN) < page.index(figures.END)


def test_the_beginning_of_a_step_is_not_measured() -> None:
    samples = [replace(FAULTLESS, at=at, ms=ms) for at, ms in ((1, 900), (3, 10), (9, 30), (13, 7))]
    uses = [Use(3.0, 10.0, 80.0), Use(9.0, 13.0, 90.0), Use(13.0, 20.0, 70.0)]
    first, second = measured([Began(0.0, 5), Began(10.0, 9)], 20.0, samples, uses)
    assert (first.users, first.requests, first.seconds, first.p50) == (5, 2, 7.5, 20)
    assert first.cores == pytest.approx(0.5)
    assert first.each == pytest.approx(0.5 / (2 / 7.5) * 1000)
    assert first.megabytes == 90
    assert (second.users, second.requests) == (9, 1)
    assert math.isnan(second.cores)
    assert math.isnan(first.store)


def test_the_time_at_the_store_is_read_from_the_header() -> None:
    assert store_ms("store;dur=1.25, total;dur=3.50") == 1.25
    assert store_ms("total;dur=3.5, store;desc=x;dur=2") == 2
    assert store_ms("total;dur=3.5") == -1
    assert store_ms("") == -1


# Thresholds

GIVEN: Final = thresholds.read()


def _held(
    measure: Measured, samples: list[Sample], share: float = 0.01, megabytes: float | None = 100
) -> dict[str, bool]:
    capacity = Capacity(Knee(100, 40, True, ""), {"a": share * 100}, 1)
    held = thresholds.held(GIVEN, measure, samples, samples, capacity, megabytes)
    return {one.what.removeprefix("20 users: "): one.met for one in held}


def test_a_run_that_is_well_meets_every_threshold_of_the_file() -> None:
    held = _held(step(20, 40), [replace(FAULTLESS, name="report")])
    assert all(held.values())
    assert {"p50, ms", "p95, ms", "p99, ms", "p95 of 'report', ms"} < held.keys()


@pytest.mark.parametrize(
    ("what", "samples"),
    [
        (
            "answers that are wrong by what they say",
            [replace(FAULTLESS, fault="answered what must be refused")],
        ),
        (
            "answers that are wrong by what they say",
            [replace(FAULTLESS, fault="the record of another young person")],
        ),
        (
            "errors of the server's own (5xx)",
            [replace(FAULTLESS, status=500, fault="status 500")],
        ),
        ("p95 of 'report', ms", [replace(FAULTLESS, name="report", ms=1e6)]),
    ],
)
def test_one_wrong_answer_misses_its_threshold_and_no_other(
    what: str, samples: list[Sample]
) -> None:
    held = _held(step(20, 40), samples)
    assert [name for name, met in held.items() if not met] == [what]


def test_a_server_that_has_no_time_is_not_wrong() -> None:
    busy = [replace(FAULTLESS, status=503, fault="status 503")]
    assert all(_held(step(20, 40), busy).values())


def test_late_answers_a_small_machine_and_memory_miss_theirs() -> None:
    assert not _held(step(20, 40, p95=501), [])["p95, ms"]
    assert not _held(step(20, 40, faults=1), [])["share of requests that went wrong"]
    assert not _held(step(20, 40), [], share=0.51)["share that the busiest hour takes"]
    assert not _held(step(20, 40), [], megabytes=251)["memory of a server process, MB"]
    assert not _held(step(20, 40), [], megabytes=math.nan)["memory of a server process, MB"]
    assert "memory of a server process, MB" not in _held(step(20, 40), [], megabytes=None)


def test_the_step_that_is_judged_has_the_most_users_up_to_those_of_the_file() -> None:
    steps = [step(5, 10), step(15, 30), step(40, 80)]
    assert thresholds.steady(steps, 20).users == 15
    assert thresholds.steady(steps, 2).users == 5


def test_the_thresholds_name_requests_that_there_are() -> None:
    text = "\n".join(
        path.read_text() for path in (REPOSITORY / "loadtests" / "scenarios").glob("*.py")
    )
    assert all(f'"{name}"' in text for name in GIVEN["steady"]["p95_ms_of"])


def test_a_file_without_its_parts_is_no_file_of_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text("[knee]\np95_ms = 1\n")
    with pytest.raises(ValueError, match="has to have the parts"):
        thresholds.read(path)
