"""What is left of a year: the plan in plain words, the timeline, the steering group's report."""

import re
from html import unescape
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_server.demo import readings
from fhir_server.demo.conversation import Exchange, NotAsTold
from fhir_server.demo.year import report
from fhir_server.demo.year.cast import COMMISSIONER
from fhir_server.demo.year.year import Year, require
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_AREA: Final = "ZZK01"
_AREA_NAME: Final = "Hollin Vale Keyworking"
_LEAST: Final = 5
"""The smallest number that is shown: KEYWORKING_SMALL_NUMBER as it is by default."""
_LINES: Final = 12
"""Of the plan in plain words, in the terminal."""
_TOLD: Final = {
    *("referred", "keyworking-began", "rated", "admitted", "discharged", "goal-ended"),
    *("plan-began", "keyworking-ended"),
}
"""Events of the timeline that make the year in a few lines."""
_COURSE: Final = ["amber", "red", "blue", "red", "amber", "red", "amber", "green"]


def plain_words(year: Year, folder: Path) -> None:
    """`$easy-read`, for the young person's own eyes."""
    skye = year.family.young_person
    answer = year.ask(skye).fetch(f"{year.plan}/$easy-read", "text/html")
    require(answer.status_code == 200, f"$easy-read answered {answer.status_code}")
    page = answer.text
    require("Cook tea for my nan" in page, "The page has not Skye's own goal in it")
    file = _saved(folder / "plan-in-plain-words.html", page)
    year.teller.deed(
        year.now, skye.label, "reads the plan in plain words", "GET CarePlan/…/$easy-read -> 200 OK"
    )
    lines = _text(page)
    year.teller.quote(lines[:_LINES])
    year.teller.note(f"… and {max(len(lines) - _LINES, 0)} lines more. Saved: {file}")
    year.pace()


def _text(page: str) -> list[str]:
    """What a browser shows of the body."""
    body = page[page.find("<body") :]
    plain = unescape(re.sub(r"<[^>]+>", "\n", body))
    return [line.strip() for line in plain.splitlines() if line.strip()]


def _saved(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def timeline(year: Year) -> None:
    """`$timeline`, as the young person sees it: the year in a few lines."""
    answer = year.ask(year.family.young_person).get(
        f"{year.family.patient}/$timeline", ("_count", "500")
    )
    answer.require(200)
    events = _events(answer)
    told = [one for one in events if one["what"] in _TOLD]
    require(
        [one["text"].rpartition(": ")[2] for one in told if one["what"] == "rated"] == _COURSE,
        "The timeline has other ratings than the story",
    )
    rows = [(readings.day(str(one["time"])).partition(",")[0], str(one["text"])) for one in told]
    year.teller.table(("Day", "What happened"), rows, indent=4)
    year.teller.note(f"{len(told)} of the {len(events)} events of $timeline.")
    year.pace()


def _events(answer: Exchange) -> list[dict[str, Any]]:
    """Each with the names and values of its parts."""
    return [dict(one) for one in readings.values(answer.resource, "event")]


def steering_group(year: Year, folder: Path) -> None:
    """`$oversight-report` of the year: over everybody of the area, and no person in it."""
    answer = year.ask(COMMISSIONER).get(
        "$oversight-report",
        ("area", _AREA),
        ("start", year.family.start.isoformat()),
        ("end", year.today.isoformat()),
    )
    told = year.deed(COMMISSIONER, "asks how the year was, in numbers", answer).resource
    require(told["resourceType"] == "MeasureReport", "The report is no MeasureReport")
    _require_nobody(told, year)
    rows = report.rows(told)
    require(any(row.code == "episodes" for row in rows), "The report counts nobody")
    year.teller.table(("The year in numbers", ""), [(row.words, row.value) for row in rows], 4)
    kept = sum(row.value == report.FEW for row in rows)
    year.teller.note(
        f"{kept} of the {len(rows)} measures are about fewer than {_LEAST} people, or would tell "
        "of fewer, and are kept back; so is what says '-' below."
    )
    _parts(year, rows)
    page = report.page(told, _AREA_NAME, _LEAST)
    written = msgspec.json.format(json.encode(told), indent=2).decode()
    year.teller.note(f"Saved: {_saved(folder / 'oversight-report.json', written)}")
    year.teller.note(f"Saved: {_saved(folder / 'oversight-report.html', page)}, to print")


def _require_nobody(told: Resource, year: Year) -> None:
    text = json.encode(told).decode()
    if year.family.id in text or year.family.nhs_number in text:
        raise NotAsTold("The report names a young person")


def _parts(year: Year, rows: list[report.Row]) -> None:
    """How those with keyworking are divided; '-' is kept back."""
    parts = [part for row in rows if row.code == "episodes" for part in row.parts]
    year.teller.table(("Those with keyworking now, by", ""), parts, 4)


def sum_up(year: Year) -> None:
    """Raise unless the whole year went as told."""
    require(year.colours == _COURSE, f"The ratings were {year.colours}, not {_COURSE}")
    topics = {notice.topic for notice in year.told}
    wanted = {"rating-changed", "admitted", "discharged", "task-overdue"}
    require(wanted <= topics, f"Nobody was told of {wanted - topics}")
    year.is_at("closed")
    year.teller.title("What this was")
    year.teller.say(
        f"A year in {year.requests} requests: {year.steps} steps of people, {year.refusals} that "
        f"the server refused, {len(year.told)} notices to their systems, and {year.by_the_way} "
        "tasks that were done on their day without a word. The same over the internet, with your "
        "own systems: docs/api."
    )
