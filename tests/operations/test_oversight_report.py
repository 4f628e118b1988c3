"""$oversight-report, against a slow recount of the raw resources"""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fhir.resources.R4B.measurereport import MeasureReport
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir import canonicals
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from operations._suppression import is_share_small, kept_back
from operations.oversight_report import _snapshot
from tests.access.cast import SERVICES
from tests.access.region import CHILDREN, SHARED
from tests.access.served import served, store_all
from tests.operations.asking import counted, got
from tests.operations.messages import JSON
from tests.support import assert_outcome, body, caseload

LONDON = ZoneInfo("Europe/London")


def resources(kind: str = "") -> list[JSON]:
    found = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]
    return [one for one in found if not kind or one["resourceType"] == kind]


def last_day() -> str:
    """The latest day on which something is told; nothing of the caseload is in the future."""
    return max(str(one["authoredOn"])[:10] for one in resources("Task"))


FIRST = "2000-01-01"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Nothing is small, unless a test says so."""
    return settings.model_copy(update={"small_number": getattr(request, "param", 0)})


@pytest.fixture
async def loaded(client: httpx.AsyncClient) -> httpx.AsyncClient:
    every = resources()
    for start in range(0, len(every), 50):
        entries = [_entry(one) for one in every[start : start + 50]]
        batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        answer = await client.post("", **body(batch))
        assert answer.status_code == 200, answer.text
    return client


def _entry(resource: JSON) -> JSON:
    address = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": address}}


async def stored(client: httpx.AsyncClient, kind: str) -> list[JSON]:
    """What is there after the rules of the service, by plain searches."""
    found, address = list[JSON](), f"{kind}?_count=100"
    while address:
        bundle = await got(client, address)
        found += [entry["resource"] for entry in bundle.get("entry", ())]
        links = {one["relation"]: one["url"] for one in bundle["link"]}
        address = links.get("next", "")
    return found


async def report(client: httpx.AsyncClient, query: str = "") -> dict[str, JSON]:
    asked = query or f"start={FIRST}&end={last_day()}"
    answer = await got(client, f"$oversight-report?{asked}")
    MeasureReport.model_validate(answer)
    return {group["code"]["text"]: group for group in answer["group"]}


def strata(group: JSON, by: str) -> dict[str, int | None]:
    (found,) = [one for one in group["stratifier"] if one["code"][0]["text"] == by]
    return {one["value"]["text"]: one["population"][0].get("count") for one in found["stratum"]}


def total(group: JSON) -> Any:
    return group["population"][0].get("count")


def coded(concept: JSON, system: str) -> str:
    return str(next(one["code"] for one in concept["coding"] if one.get("system") == system))


def moment(text: str, *, end: bool = False) -> datetime:
    if "T" in text:
        return datetime.fromisoformat(text)
    day = datetime.fromisoformat(text).replace(tzinfo=LONDON)
    return day.replace(hour=23, minute=59, second=59) if end else day


async def test_counts_what_a_slow_recount_counts(loaded: httpx.AsyncClient) -> None:
    groups = await report(loaded)
    over = moment(last_day(), end=True)
    episodes = [
        one
        for one in await stored(loaded, "EpisodeOfCare")
        if one["status"] != "cancelled"
        and ("end" not in one["period"] or moment(one["period"]["end"]) > over)
    ]
    patients = {one["id"]: one for one in await stored(loaded, "Patient")}
    whose = [one["patient"]["reference"].partition("/")[2] for one in episodes]
    assert total(groups["episodes"]) == len(episodes) > 10
    state = Counter(
        next(
            one["valueCode"]
            for one in episode["extension"]
            if one["url"] == canonicals.PATHWAY_STATE_EXTENSION
        )
        for episode in episodes
    )
    assert strata(groups["episodes"], "state") == state
    assert strata(groups["episodes"], "sex") == Counter(patients[one]["gender"] for one in whose)
    assert strata(groups["episodes"], "rating") == await _colours(loaded, whose)
    managers = Counter(one["careManager"]["reference"] for one in episodes if "careManager" in one)
    assert total(groups["caseloads"]) == len(managers)
    goals = await stored(loaded, "Goal")
    achieved = Counter(
        coded(one["achievementStatus"], canonicals.GOAL_ACHIEVEMENT)
        if "achievementStatus" in one
        else "not-recorded"
        for one in goals
    )
    assert strata(groups["goals"], "achievement") == achieved
    consents = Counter(one["status"] for one in await stored(loaded, "Consent"))
    assert strata(groups["consents"], "status") == consents


async def _colours(client: httpx.AsyncClient, whose: list[str]) -> Counter[str]:
    active = {
        flag["subject"]["reference"].partition("/")[2]: coded(flag["code"], canonicals.DSR_RATING)
        for flag in await stored(client, "Flag")
        if flag["status"] == "active"
        and any(one.get("system") == canonicals.DSR_RATING for one in flag["code"]["coding"])
    }
    return Counter(active.get(one, "none") for one in whose)


async def test_recounts_stays_and_tasks(loaded: httpx.AsyncClient) -> None:
    groups = await report(loaded)
    over = moment(last_day(), end=True)
    stays = [one for one in await stored(loaded, "Encounter") if one["class"]["code"] == "IMP"]
    assert total(groups["admissions"]) == len(stays) > 0
    lengths = [
        (moment(one["period"]["end"]) - moment(one["period"]["start"])).total_seconds() / 86400
        for one in stays
        if "end" in one["period"]
    ]
    assert total(groups["length-of-stay"]) == len(lengths) > 0
    mean = round(sum(lengths) / len(lengths), 1)
    told = float(groups["length-of-stay"]["measureScore"]["value"])
    assert told == pytest.approx(mean, abs=0.11)
    tasks = await stored(loaded, "Task")
    late = [
        one
        for one in tasks
        if one["status"] == "requested"
        and moment(one["restriction"]["period"]["end"], end=True) <= over
    ]
    assert total(groups.get("tasks-overdue", {"population": [{"count": 0}]})) == len(late)
    due = [
        one
        for one in tasks
        if coded_any(one) == "T-FU-72"
        and one["status"] != "cancelled"
        and moment(one["restriction"]["period"]["end"], end=True) <= over
    ]
    done = [
        one
        for one in due
        if one["status"] == "completed"
        and moment(one["executionPeriod"]["end"])
        <= moment(one["restriction"]["period"]["end"], end=True)
    ]
    counts = [one.get("count") for one in groups["in-time-T-FU-72"]["population"]]
    assert counts == [len(done), len(due)]


def coded_any(task: JSON) -> str:
    return str(task["code"]["coding"][0]["code"])


@pytest.mark.parametrize("settings", [5], indirect=True)
async def test_keeps_small_numbers_back(loaded: httpx.AsyncClient) -> None:
    groups = await report(loaded)
    told = [
        population.get("count")
        for name, group in groups.items()
        if name != "caseloads"
        for one in (group, *(s for by in group.get("stratifier", ()) for s in by["stratum"]))
        for population in one["population"]
    ]
    assert None in told
    assert not [count for count in told if count is not None and 0 < count < 5]
    assert "count" not in groups["admissions"]["population"][0]


async def test_of_another_area_holds_nobody_of_this_one(loaded: httpx.AsyncClient) -> None:
    assert "episodes" in await report(loaded, f"area=ZZK01&start={FIRST}&end={last_day()}")
    address = f"Organization/kw-org-icb/$oversight-report?start={FIRST}&end={last_day()}"
    names = [group["code"]["text"] for group in (await got(loaded, address))["group"]]
    assert names == ["caseloads"]


async def test_asks_a_question_a_type_for_a_hundred_young_people(
    loaded: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(store, monkeypatch) as questions:
        await report(loaded)
    # Of a type with more than 200 resources there is a question more.
    assert len(set(questions)) == 10
    assert len(questions) <= 12, questions


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 30), max_size=8), st.integers(0, 10))
def test_nobody_tells_a_small_part_by_difference(parts: dict[str, int], least: int) -> None:
    back = kept_back(parts, least)
    assert all(name in back for name, count in parts.items() if 0 < count < least)
    if sum(parts.values()) >= least and any(0 < count < least for count in parts.values()):
        assert sum(parts[name] for name in back) >= least
        assert len(back) > 1


@pytest.mark.parametrize(
    ("part", "whole", "small"), [(1, 20, True), (19, 20, True), (6, 20, False), (0, 20, False)]
)
def test_a_share_tells_of_those_in_it_and_of_the_others(part: int, whole: int, small: bool) -> None:
    assert is_share_small(part, whole, 5) is small


@pytest.mark.parametrize(
    ("kind", "today", "first", "last"),
    [
        ("week", "2026-11-22", "2026-11-09", "2026-11-15"),
        ("week", "2026-11-23", "2026-11-16", "2026-11-22"),
        ("month", "2026-11-22", "2026-10-01", "2026-10-31"),
        ("month", "2026-03-01", "2026-02-01", "2026-02-28"),
    ],
)
def test_snapshots_end_with_a_sunday_or_a_month(
    kind: str, today: str, first: str, last: str
) -> None:
    found = _snapshot(kind, date.fromisoformat(today))
    assert found == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("snapshot=year", "http.snapshot"),
        ("snapshot=week&start=2026-01-01", "http.snapshot"),
        ("start=2026-01-01", "http.end"),
        ("start=2026-02-01&end=2026-01-01", "http.end"),
        ("area=QXX", "http.area"),
    ],
)
async def test_what_cannot_be_is_refused(client: httpx.AsyncClient, query: str, place: str) -> None:
    answer = await client.get(f"$oversight-report?{query}")
    assert_outcome(answer, 400, "invalid", "", expression=place)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(tmp_path) as (app, client):
        await store_all(app, [*SHARED, *(one for child in CHILDREN for one in child.stored)])
        yield client


async def test_is_for_overseers_and_has_no_person_in_it(guarded: httpx.AsyncClient) -> None:
    for caller in SERVICES:
        answer = await guarded.get("$oversight-report", headers=caller.headers())
        if caller.role == "commissioner":
            assert answer.status_code == 200, answer.text
            assert "zq" not in answer.text
            assert "Patient/" not in answer.text
        else:
            assert answer.status_code == 403, caller.kind
