"""$oversight-report, against a slow recount of the raw resources"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.measure import Measure
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES
from fhir_server.operation.pathway import Pathway
from fhir_server.publishing import publish
from fhir_server.storage.interface import Store
from fhir_server.validation.structure import check_resource
from operations._measure_report import report as report_of
from operations._suppression import is_share_small, kept_back
from operations._tally import Period, Tally
from operations._telling import AsTheyAre
from operations.oversight_report import _snapshot
from tests.access.cast import SERVICES
from tests.access.region import CHILDREN, SHARED
from tests.access.served import served, store_all
from tests.operations.asking import counted, got
from tests.operations.chart import KEYWORKER, concept, ended
from tests.operations.messages import JSON
from tests.operations.overseeing import (
    FIRST,
    LAST,
    SUBJECT,
    counts,
    groups_of,
    report,
    reported,
    strata,
    task,
)
from tests.operations.recount import UK_CORE, Raw, Recount, begin, over, recounted
from tests.operations.timing import NOW, TODAY
from tests.support import assert_outcome, caseload, stored_versions

PERIODS: Final = ((FIRST, LAST), ("2026-03-01", "2026-03-31"), ("2026-01-01", TODAY.isoformat()))
TYPES: Final = (
    *("Patient", "EpisodeOfCare", "Flag", "Encounter", "Task", "Goal", "Consent", "CarePlan"),
    *("Condition", "ServiceRequest"),
)


def _stay(key: str, start: str, end: str, destination: str) -> JSON:
    went = concept(canonicals.DISCHARGE_DESTINATION, destination)
    return {
        "resourceType": "Encounter",
        "id": f"ov-{key}",
        "status": "finished",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": SUBJECT,
        "period": {"start": f"{start}T09:00:00Z", "end": f"{end}T16:00:00Z"},
        "hospitalization": {"dischargeDisposition": went},
    }


def _rating(colour: str, start: str, **elements: Any) -> JSON:
    return {
        "resourceType": "Flag",
        "id": f"ov-{colour}",
        "status": "active",
        "category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")],
        "code": concept(canonicals.DSR_RATING, colour),
        "subject": SUBJECT,
        "period": {"start": start},
        "author": KEYWORKER,
        **elements,
    }


def beside() -> Iterator[JSON]:
    """What the caseload has none of: home and back, a transfer, what was dropped, and avoided."""
    yield {"resourceType": "Patient", "id": "ov", "birthDate": "2009-06-01"}
    yield _stay("first", "2026-01-05", "2026-01-20", "19")
    yield _stay("soon", "2026-02-10", "2026-03-01", "53")
    yield _stay("moved", "2026-03-02", "2026-03-20", "19")
    yield _stay("later", "2026-05-10", "2026-05-20", "19")
    yield task("T-CETR-COMMUNITY", "before", "completed", executionPeriod={"end": "2026-01-02"})
    for code in ("T-CETR-REPEAT", "T-FU-48", "T-FU-7D"):
        yield task(code, "done", "completed", executionPeriod={"end": "2026-03-05"})
        yield task(code, "late", "completed", executionPeriod={"end": "2026-03-15"})
        yield task(code, "dropped", "cancelled", lastModified="2026-03-01")
        yield task(code, "missed", "cancelled", lastModified="2026-04-02")
    red = {**ended("2026-03-05"), "status": "inactive"}
    yield _rating(
        "red", "2026-03-01", **(red | {"period": {"start": "2026-03-01", "end": "2026-03-05"}})
    )
    avoided = [{"url": canonicals.ADMISSION_AVOIDED_EXTENSION, "valueBoolean": True}]
    yield _rating("green", "2026-03-05", extension=avoided)
    off = {**ended("2026-03-20"), "status": "inactive"}
    off["extension"][0]["valueCodeableConcept"]["extension"] = avoided
    yield _rating("amber", "2026-02-01", **off)


_STATE: Final = {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "closed"}
_ETHNIC: Final = {
    "url": f"{UK_CORE}/StructureDefinition/Extension-UKCore-EthnicCategory",
    "valueCodeableConcept": concept(f"{UK_CORE}/CodeSystem/UKCore-EthnicCategoryEngland", "Z"),
}
_WRITTEN_AGAIN: Final[dict[str, JSON]] = {
    "EpisodeOfCare": {"extension": [_STATE], "careManager": KEYWORKER},
    "Task": {"status": "cancelled", "lastModified": NOW.isoformat()},
    "Goal": {"achievementStatus": concept(canonicals.GOAL_ACHIEVEMENT, "no-progress")},
    "Consent": {"status": "entered-in-error"},
    "CarePlan": {"status": "revoked"},
    "Patient": {
        "gender": "other",
        "managingOrganization": {"reference": "Organization/elsewhere"},
        "extension": [_ETHNIC],
    },
    "Condition": {"code": {"text": "Asthma"}},
}
"""What a third of each becomes in a second version, after all periods but the last."""


def again(resources: list[JSON]) -> Iterator[JSON]:
    for index, resource in enumerate(resources):
        if index % 3 == 0 and (told := _WRITTEN_AGAIN.get(resource["resourceType"])):
            yield {**resource, **told}


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Raw]:
    """The caseload on a server, as it is, and the versions of each resource."""
    folder = tmp_path_factory.mktemp("region")

    async def prepare() -> Raw:
        every = [entry["resource"] for one in caseload() for entry in one["entry"]]
        async with served(folder, "none") as (app, _):
            await store_all(app, [*every, *beside()])
            await store_all(app, again(every))
            found: dict[str, dict[str, list[JSON]]] = {kind: {} for kind in TYPES}
            for version in await stored_versions(app.state.store):
                if version.type in found:
                    written = found[version.type].setdefault(version.id, [])
                    written.append(json.loads(version.body))
            return {kind: [*by_id.values()] for kind, by_id in found.items()}

    return folder, asyncio.run(prepare())


@pytest.fixture
async def loaded(
    region: tuple[Path, Raw], request: pytest.FixtureRequest
) -> AsyncIterator[httpx.AsyncClient]:
    """Nothing is small, unless a test says so."""
    least = getattr(request, "param", 0)
    async with served(region[0], "none", small_number=least) as (_, client):
        yield client


@pytest.mark.parametrize(("first", "last"), PERIODS)
async def test_counts_what_a_slow_recount_counts(
    loaded: httpx.AsyncClient, region: tuple[Path, Raw], first: str, last: str
) -> None:
    answer = await reported(loaded, f"start={first}&end={last}")
    groups, end = groups_of(answer), min(over(last), begin(answer["date"]))
    expected = recounted(Recount(region[1], begin(first), end))
    told = {name for name, found in expected.items() if _is_something(found)}
    assert groups.keys() | {"caseloads"} == told | {"caseloads"}
    for name in told:
        _require_same(groups[name], expected[name])


def _is_something(found: Any) -> bool:
    whole = found[1] if isinstance(found, tuple) else found
    return bool(sum(map(bool, whole.values())) if isinstance(whole, dict) else whole)


def _require_same(group: JSON, expected: Any) -> None:
    match expected:
        case dict():
            told = {by: Counter(strata(group, by)) for by in expected}
            assert told == expected, group["code"]["text"]
            assert {sum(parts.values()) for parts in expected.values()} == {counts(group)[0]}
        case int():
            assert counts(group) == [expected], group["code"]["text"]
        case tuple():
            assert counts(group) == [*expected], group["code"]["text"]
        case list():
            assert counts(group) == [len(expected)], group["code"]["text"]
            mean = sum(expected, timedelta()) / len(expected) / timedelta(days=1)
            score = float(group["measureScore"]["value"])
            assert score == pytest.approx(mean, abs=0.06), group["code"]["text"]


def _measure() -> JSON:
    found: JSON = json.loads((PROFILES / "measures" / "oversight.json").read_text("utf-8"))
    return found


def _shape(groups: list[JSON]) -> dict[str, tuple[list[str], list[str]]]:
    """Codes of populations and stratifiers by the code of the group."""

    def code(one: Any) -> str:
        coding = (one[0] if isinstance(one, list) else one)["coding"]
        return "|".join(coding[0][name] for name in ("system", "code"))

    return {
        code(group["code"]): (
            [code(one["code"]) for one in group["population"]],
            [code(one["code"]) for one in group.get("stratifier", ())],
        )
        for group in groups
    }


async def test_the_measure_defines_each_group_of_the_report(loaded: httpx.AsyncClient) -> None:
    """Of three reports together, which have all that there is."""
    measure = _measure()
    Measure.model_validate(measure)
    assert check_resource(measure) == []
    found: list[JSON] = []
    for first, last in PERIODS:
        answer = await reported(loaded, f"start={first}&end={last}")
        assert answer["measure"] == measure["url"]
        found += answer["group"]
    assert _shape(found) == _shape(measure["group"])


@pytest.mark.parametrize(
    ("name", "element"), [("oversight-measure", "group"), ("oversight-stratifier", "stratifier")]
)
def test_each_code_of_the_measure_is_in_its_code_system(name: str, element: str) -> None:
    path = PROFILES.parent / "terminology" / f"CodeSystem-{name}.json"
    known = [one["code"] for one in json.loads(path.read_text("utf-8"))["concept"]]
    groups, shape = _measure()["group"], _shape(_measure()["group"])
    named = [*shape] if element == "group" else [one for _, by in shape.values() for one in by]
    assert len(groups) == len(shape)
    assert {one.removeprefix(canonicals.code_system(name) + "|") for one in named} == {*known}


async def test_the_measure_is_published(client: httpx.AsyncClient, store: Store) -> None:
    await publish(store)
    found = await got(client, f"Measure?url={_measure()['url']}")
    assert [one["resource"]["id"] for one in found["entry"]] == ["oversight"]


@pytest.mark.parametrize("loaded", [5], indirect=True)
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
    hidden = [group for group in groups.values() if None in counts(group)]
    assert hidden
    assert not [group for group in hidden if "measureScore" in group or "stratifier" in group]


async def test_of_another_area_holds_nobody_of_this_one(loaded: httpx.AsyncClient) -> None:
    assert "episodes" in await report(loaded, f"area=ZZK01&start={FIRST}&end={LAST}")
    address = f"Organization/kw-org-icb/$oversight-report?start={FIRST}&end={LAST}"
    names = [group["code"]["text"] for group in (await got(loaded, address))["group"]]
    assert names == ["caseloads"]


async def test_asks_a_question_a_type_for_a_hundred_young_people(
    loaded: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = loaded._transport.app.state.store  # type: ignore[attr-defined]
    with counted(store, monkeypatch) as questions:
        await report(loaded)
    # Of a type with more than 200 resources there is a question more.
    assert len(set(questions)) == 10
    assert len(questions) <= 12, questions


async def test_gives_way_after_each_young_person(
    loaded: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, noted = 0, list[int]()

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr("operations.oversight_report.add", lambda *_: noted.append(turns))
    beside = asyncio.create_task(another())
    await got(loaded, "$oversight-report")
    beside.cancel()
    assert len(set(noted)) == len(noted) > 25


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


def test_the_difference_between_two_shares_tells_of_nobody() -> None:
    tally = Tally(shares={"readmissions-30": (10, 40), "readmissions-90": (12, 40)})
    told = report_of(tally, Period(0, 1), 0, Pathway(), AsTheyAre(5))
    assert [counts(group) for group in told["group"][:2]] == [[None, None], [12, 40]]


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
        ("start=2099-01-01&end=2099-01-31", "http.start"),
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
