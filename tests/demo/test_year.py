"""`keyworking demo`: the year is played whole, and what it leaves behind is asked of the server."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from fhir.resources.R4B.measurereport import MeasureReport
from rich.console import Console

from fhir_server.cli import main
from fhir_server.demo import CannotPlay, readings
from fhir_server.demo.conversation import Conversation
from fhir_server.demo.year import (
    CHAPTERS,
    Staging,
    _end_in_order,
    family_of,
    finish,
    looking,
    perform,
)
from fhir_server.demo.year.cast import CAMHS, KEYWORKER, PROMPTER, SOCIAL, STRANGER
from fhir_server.demo.year.receiver import Receiver, receiving
from fhir_server.demo.year.record import SUBSCRIBED, Family
from fhir_server.demo.year.telling import WIDTH, Teller
from fhir_server.demo.year.theatre import House, own_server
from fhir_server.demo.year.year import Year, code, is_open
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from fhir_server.fhir.json import Resource
from fhir_server.storage.clock import MovableClock
from tests.cli.printed import environment
from tests.stores import sqlite_alone

pytestmark = sqlite_alone  # the demo's own server has no other store
NOTHING: Final = looking.View(known=False, rating="", plans=(), goals=0)

CHILDREN: Final = "/proc/{0}/task/{0}/children"


@dataclass(frozen=True, slots=True)
class Evening:
    """The year when it is over, with the server as it left it."""

    year: Year
    text: str
    folder: Path


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def house(receiver: Receiver) -> Iterator[House]:
    with own_server(receiver.origin) as found:
        yield found


def year_at(house: House, family: Family, receiver: Receiver, out: io.StringIO) -> Year:
    console = Console(file=out, width=WIDTH, markup=False, highlight=False, soft_wrap=True)
    return Year(house, Teller(console), family, receiver, lambda: None)


@pytest.fixture(scope="module")
def evening(
    house: House, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evening]:
    """Played once for all the tests."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("year")
    with closing(year_at(house, family_of(house), receiver, out)) as year:
        perform(year, CHAPTERS)
        finish(year, folder)
        yield Evening(year, out.getvalue(), folder)


def find(evening: Evening, resource_type: str, *criteria: tuple[str, str]) -> list[Resource]:
    """Asked anew, by the door that needs no token."""
    about = ("patient", evening.year.family.id)
    answer = evening.year.ask(PROMPTER).get(resource_type, about, ("_count", "500"), *criteria)
    return answer.entries("match", resource_type)


def category(resource: Resource, system: str) -> str:
    return next(filter(None, (readings.code_of(one, system) for one in resource["category"])), "")


def test_the_record_holds_the_whole_year(evening: Evening) -> None:
    (episode,) = find(evening, "EpisodeOfCare")
    history = [one["status"] for one in episode["statusHistory"]]
    assert history == ["planned", "waitlist", "active", "finished"]
    flags = sorted(find(evening, "Flag"), key=lambda flag: str(flag["period"]["start"]))
    colours = [readings.code_of(flag["code"], canonicals.DSR_RATING) for flag in flags]
    assert colours == ["amber", "red", "blue", "red", "amber", "red", "amber", "green"]
    assert [flag["status"] for flag in flags] == ["inactive"] * 7 + ["active"]
    (stay,) = [one for one in find(evening, "Encounter") if one["class"]["code"] == "IMP"]
    assert stay["status"] == "finished"
    plans = {
        category(one, canonicals.CARE_PLAN_CATEGORY): one["status"]
        for one in find(evening, "CarePlan")
    }
    assert plans == dict.fromkeys(
        ("keyworking-plan", "discharge-plan", "step-down-plan"), "completed"
    )
    goals = find(evening, "Goal")
    assert [goal["lifecycleStatus"] for goal in goals] == ["completed"] * 2


def test_the_server_did_by_itself_what_time_asked_for(evening: Evening) -> None:
    tasks: dict[str, list[Resource]] = {}
    for task in find(evening, "Task"):
        tasks.setdefault(code(task), []).append(task)
    for name in ("T-LAEP", "T-CETR-POSTADM", "T-FU-48", "T-FU-72", "T-RED-HOLD", "T-PROXY-16"):
        assert [task["status"] for task in tasks[name]] == ["completed"], name
    (missed,) = tasks["T-FU-7D"]
    due = missed["restriction"]["period"]["end"]
    assert missed["executionPeriod"]["end"] > due
    assert any(one["focus"]["reference"] == f"Task/{missed['id']}" for one in tasks["escalation"])
    late = [one for one in find(evening, "Task") if is_open(one) and "businessStatus" in one]
    assert late == []
    consents = {
        (one["performer"][0]["reference"].partition("/")[0], one["status"])
        for one in find(evening, "Consent")
    }
    assert consents == {
        ("RelatedPerson", "inactive"),
        ("Patient", "inactive"),
        ("Patient", "active"),
    }


def test_partners_were_told_when_it_happened(evening: Evening) -> None:
    told = [(notice.system, notice.topic) for notice in evening.year.told]
    assert told.count(("daniel", "rating-changed")) == 7
    assert told.count(("daniel", "admitted")) == told.count(("daniel", "discharged")) == 1
    late = [one for notice in evening.year.told for one in notice.resources if "for" in one]
    assert [code(one) for one in late] == ["T-FU-7D"]


def test_after_goodbye_the_record_is_the_young_persons(evening: Evening) -> None:
    year = evening.year
    for gone in (KEYWORKER, CAMHS, STRANGER):
        assert not looking.view(year, gone).plans, gone
    assert looking.view(year, STRANGER) == NOTHING
    own = looking.view(year, year.family.young_person)
    assert own.known
    assert "keyworking-plan" in own.plans


class _Loads(HTMLParser):
    """What a page would load, run or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object"):
            self.found.append((tag, attrs))
        self.found += [(tag, one) for one in attrs if one[0] in ("href", "src", "onload")]


def test_what_is_saved_needs_nothing_beside_it(evening: Evening) -> None:
    report = json.decode_resource((evening.folder / "oversight-report.json").read_bytes())
    MeasureReport.model_validate(report)
    assert report["type"] == "summary"
    for name in ("oversight-report.html", "plan-in-plain-words.html"):
        page = (evening.folder / name).read_text()
        loads = _Loads()
        loads.feed(page)
        assert loads.found == [], name
    page = (evening.folder / "oversight-report.html").read_text()
    assert "@media print" in page
    groups = len(report["group"])
    assert page.count('<th scope="row">') == groups
    # What is kept back in the report is no number on the page.
    masked = [one for one in report["group"] if any("_count" in part for part in one["population"])]
    assert masked
    assert page.count('<td class="few">') == len(masked)
    assert evening.year.family.given not in page


def test_it_is_told_in_eighty_columns_without_colours(evening: Evening) -> None:
    lines = evening.text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in evening.text
    for item in DISCHARGE_ITEMS:
        assert item.text in evening.text
    for refused in (
        "No consent to keyworking is in force",
        "contact-family comes before contact-mdt",
        "dp-funding is open",
        "the rating is red at least until",
        "complete, cancel or reject it",
    ):
        assert refused in re.sub(r"\s+", " ", evening.text), refused


def test_a_server_without_tokens_plays_along(
    evening: Evening, house: House, receiver: Receiver
) -> None:
    """At a server that runs already, and whose clock is where the last year left it."""
    open_house = House(house.stage_door, house.stage_door, evening.year.house.clock, None)
    out = io.StringIO()
    year = year_at(open_house, family_of(open_house), receiver, out)
    assert year.family.id != evening.year.family.id
    perform(year, CHAPTERS[:4])
    assert year.ask(PROMPTER).get(year.episode).resource["status"] == "active"
    assert "This server asks for no tokens" in out.getvalue()
    year.close()
    line = Conversation(house.stage_door)
    kept = line.get("Subscription", ("_sort", "-_lastUpdated"), ("_count", str(len(SUBSCRIBED))))
    assert [one["status"] for one in kept.entries("match", "Subscription")] == ["off"] * 4
    line.close()


def test_it_does_not_play_where_time_cannot_be_moved(
    house: House, receiver: Receiver, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(main, ["demo", "--server", house.stage_door])
    assert ran.exit_code == 2
    assert "goes by a clock that the demo cannot move" in ran.stderr
    other = House(house.stage_door, house.stage_door, MovableClock(tmp_path / "clock.txt"), None)
    other.clock.move_by(40 * 24 * 3_600_000_000)
    year = year_at(other, Family(3, family_of(other).start), receiver, io.StringIO())
    with pytest.raises(CannotPlay, match="is it that server's KEYWORKING_MOVABLE_CLOCK"):
        perform(year, ())
    assert year.ask(PROMPTER).get(year.family.patient).status == 404
    year.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--full"], "--full is for --admission"),
        (["--clock", "clock.txt"], "--clock is for --server"),
        (["--server", "https://fhir.invalid/fhir"], "--yes lets the demo write there"),
    ],
)
def test_options_that_do_not_fit_are_said(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(main, ["demo", *words])
    assert ran.exit_code == 2
    assert said in ran.stderr


_LISTENS: Final = "signal.signal(signal.SIGINT, signal.default_int_handler)"
_LISTENING: Final = [
    *(sys.executable, "-c"),
    f"import signal; {_LISTENS}; from fhir_server.cli import main; main()",
]
"""To Ctrl-C, also where the tests run in the background, in which a shell has it ignored."""


@pytest.mark.skipif(not Path(CHILDREN.format(os.getpid())).exists(), reason="no children told")
def test_nothing_is_left_of_a_demo_that_is_broken_off(tmp_path: Path) -> None:
    """Neither a process nor a file."""
    demo = subprocess.Popen(
        [*_LISTENING, "demo", "--pace", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**environment(), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if b"Kwame" in line:
            break
    children = _children(demo.pid)
    assert len(children) == 1
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert not any(map(_lives, children))
    assert list(tmp_path.iterdir()) == []


def test_told_to_end_it_ends_in_order() -> None:
    """As with Ctrl-C, what was begun is taken down."""
    with pytest.raises(SystemExit) as ended:
        _end_in_order()
    assert ended.value.code == 143


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(CHILDREN.format(pid)).read_text().split()]


def _lives(pid: int) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_a_step_that_does_not_come_out_as_told_ends_the_story(
    evening: Evening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With status 1, and what the server said."""

    def again(_: Staging) -> None:
        year = evening.year
        address = f"{year.family.patient}/$refer"
        year.deed(SOCIAL, "refers Skye again", year.operate(SOCIAL, address), 201)

    monkeypatch.setattr("fhir_server.demo.year.play", again)
    ran = CliRunner().invoke(main, ["demo"])
    assert ran.exit_code == 1
    assert "The story broke off: POST" in ran.stderr
    assert ", not 201" in ran.stderr
