"""The report: one file, drawn by itself, that says what was measured."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from fhir_server.region import Asked
from loadtests import figures, report, runs, thresholds
from loadtests.capacity import Capacity, Knee
from loadtests.plan import Plan, Step
from loadtests.plots import Line, nice, plot
from loadtests.report import Told
from loadtests.runs import Run
from loadtests.samples import Sample

START: Final = 1_000_000.0
PLAN: Final = Plan(
    base="http://127.0.0.1:1/fhir",
    token_url="http://127.0.0.1:1/auth/token",
    folder="raw",
    asked=Asked(register=400, as_of=date(2026, 6, 1)),
    clients=[],
    scenarios=["partners", "commissioner"],
    steps=[Step(5, 10.0), Step(20, 10.0)],
    workers=1,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Of raw data as the processes leave it: two that made load, and one server."""
    PLAN.write(tmp_path / "plan.json")
    each = [
        Sample(START + n / 10, "partners", "page of plans", 20.0, 200, "", 5.0) for n in range(200)
    ]
    each[150] = replace(each[150], fault="status 500", status=500)
    each[151] = replace(each[151], fault="<b>odd</b>")
    for process in (0, 1):
        lines = "".join(one.line() for one in each[process::2])
        (tmp_path / f"samples-{process}.ndjson").write_text(lines)
        (tmp_path / f"actions-{process}.json").write_text('{"partners": 50}')
    uses = [[START + n, n * 0.5, 80 + n] for n in range(20)]
    (tmp_path / "use.ndjson").write_text("\n".join(map(json.dumps, uses)))
    for name, each_second in (("load", 0.25), ("machine", 1.5)):
        used = [[START + n, n * each_second, 0.0] for n in range(20)]
        (tmp_path / f"use-of-{name}.ndjson").write_text("\n".join(map(json.dumps, used)))
    steps = [{"at": START, "users": 5}, {"at": START + 10, "users": 20}]
    (tmp_path / "steps.ndjson").write_text("\n".join(map(json.dumps, steps)))
    (tmp_path / "notices.json").write_text('{"quick": 7}')
    return runs.read(tmp_path, thresholds.read())


def _told(run: Run) -> Told:
    held = runs.held(run, thresholds.read())
    return Told([run, replace(run, workers=2)], held, "2 cores", "2026-06-01", ["a: because"])


def test_raw_data_of_several_processes_comes_to_one_run(run: Run) -> None:
    assert len(run.samples) == 200
    assert [step.users for step in run.steps] == [5, 20]
    assert run.steps[0].rate == pytest.approx(10, abs=0.2)
    # 100 actions made 200 requests; 400 young people make 2400 × 0.15 actions in the hour.
    assert run.capacity.peak == {"partners": pytest.approx(2400 * 0.15 / 3600 * 2)}
    assert run.steps[1].faults == 2
    assert run.steps[0].store == 5


def test_the_page_is_one_file_that_fetches_nothing(run: Run) -> None:
    page = report.page(_told(run))
    assert not re.search(r"(src|href)\s*=|@import|url\(|<script", page)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2 + 2 * 6
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # noqa: S314 - of our own making
    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page


def test_the_page_says_what_was_missed_and_what_one_more_worker_gave(run: Run) -> None:
    page = report.page(_told(run))
    assert "Thresholds: <span class='missed'>missed</span>" in page
    assert "2 workers carry 1.00 times what 1 worker carries" in page
    gained = report.in_words(_told(run))[-1]
    assert "2 workers carry 1.00 times" in gained
    assert (
        "With 5 users a request took 50.0 ms of a core with 1 worker and 50.0 with 2, "
        "and 5.0 and 5.0 ms at the store"
    ) in gained
    enough = replace(run.capacity, knee=replace(run.capacity.knee, found=False))
    more = report.page(_told(replace(run, capacity=enough)))
    assert "What 2 workers gave cannot be told, as no step was too much for 1 worker" in more
    assert "<strong>1 worker</strong> carries 10 requests a second" in page
    assert "<strong>2 workers</strong> carry 10 requests a second" in page
    assert "status 500" in page
    assert "Left out: a: because" in page
    assert "quick: 7" in page


def test_the_first_line_says_whether_the_region_fits(run: Run) -> None:
    told = _told(run)
    fits, missed = report.answer(told)
    assert fits.startswith("The region fits: the busiest hour of its 400 young people takes 2.00%")
    assert "errors of the server's own (5xx)" in missed
    assert f"<strong>{fits}</strong>" in report.page(told)
    share = [replace(one, found=0.7) for one in told.held if one.what == thresholds.SHARE]
    (tight,) = report.answer(replace(told, held=share))
    assert tight.startswith("The region does not fit: ")
    assert "takes 70% of what 1 worker carries, at most 50% is allowed" in tight
    (unknown,) = report.answer(replace(told, held=[replace(share[0], found=math.inf)]))
    assert (
        unknown == "Whether the region fits cannot be told: 1 worker did not carry the first step."
    )


def test_each_plot_names_its_axes_and_draws_its_limit(run: Run) -> None:
    page = report.page(replace(_told(run), p95_ms=500.0))
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        words = {one.text for one in ElementTree.fromstring(drawing).iter("text")}  # noqa: S314
        assert words & {"users", "seconds"}
        assert words & {"a second", "ms", "cores", "MB"}
    assert page.count('class="limit"') == 1
    assert "20 users</text>" in page


def test_other_work_on_the_machine_is_told_of(run: Run) -> None:
    assert run.other_cores == pytest.approx(1.5 - 0.5 - 0.25)
    busy = "other work on the machine took 0.75 cores. That is too much"
    assert busy in report.page(_told(run))
    assert any(busy in line for line in report.in_words(_told(run)))
    quiet = _told(replace(run, by_machine=[*run.uses]))
    assert "too much for these figures" not in report.page(replace(quiet, runs=quiet.runs[:1]))


def test_the_same_is_told_to_programs(run: Run) -> None:
    told = json.loads(json.dumps(report.numbers(_told(run))))
    assert told["met"] is False
    missed = {one["what"] for one in told["thresholds"] if not one["met"]}
    assert "errors of the server's own (5xx)" in missed
    assert told["runs"][0]["requests"][0]["requests"] == 200
    assert told["runs"][0]["knee"]["why"] == "20 users: 2.7% of the requests went wrong"


def test_what_was_not_measured_is_null_for_programs(run: Run) -> None:
    """NaN and Infinity are no JSON (RFC 8259, section 6)."""
    unknown = replace(run, steps=[replace(one, cores=float("nan")) for one in run.steps])
    told = report.numbers(Told([unknown], [], "2 cores", "2026-06-01"))
    assert json.loads(json.dumps(told, allow_nan=False))["runs"][0]["steps"][0]["cores"] is None
    assert "of a core with" not in report.in_words(replace(_told(unknown), held=[]))[-1]


def test_figures_are_written_between_the_marks_of_a_page(run: Run) -> None:
    told = _told(run)
    page = f"# Title\n\n{figures.BEGIN}\nof last year\n{figures.END}\n\nAfter.\n"
    filled = figures.filled(page, told)
    assert filled.startswith("# Title")
    assert filled.endswith("After.\n")
    assert "of last year" not in filled
    assert "| 1 | 10 | 5 |" in filled
    assert figures.filled(filled, told) == filled
    with pytest.raises(ValueError, match="no place for figures"):
        figures.filled("# Title\n", told)


def test_who_carried_nothing_has_a_page_too(run: Run) -> None:
    nothing = Capacity(Knee(0.0, 0, True, "5 users: late"), {"partners": 1.0}, 1)
    nobody = replace(run, capacity=nothing)
    told = replace(_told(nobody), held=())
    page = report.page(told)
    assert "did not carry the first step" in page
    assert "What 2 workers gave cannot be told" in page
    assert "nan" not in page
    assert "late" in figures.filled(f"{figures.BEGIN}{figures.END}", told)


def test_a_folder_without_raw_data_is_said_so(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "plan.json")
    with pytest.raises(runs.NothingMeasured, match="no requests were made"):
        runs.read(tmp_path, thresholds.read())


def test_a_plot_stays_within_its_frame_and_leaves_out_what_is_no_number() -> None:
    lines = [Line("one", [(0, 0), (5, 40), (10, 99), (11, float("nan"))], marked=True)]
    drawn = ElementTree.fromstring(plot("A <plot>", "s", "ms", lines, limit=120))  # noqa: S314
    (points,) = [one.attrib["points"].split() for one in drawn.iter("polyline")]
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == 3
    assert all(0 <= x <= 640 and 0 <= y <= 240 for x, y in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert drawn.attrib["aria-label"] == "A <plot>"
    assert "nothing was measured" in plot("Empty", "s", "ms", [Line("none", [])])


@pytest.mark.parametrize(
    ("value", "above"), [(0, 1), (0.3, 0.5), (1, 1), (7, 10), (101, 200), (2300, 2500)]
)
def test_an_axis_ends_at_a_round_number(value: float, above: float) -> None:
    assert nice(value) == pytest.approx(above)
