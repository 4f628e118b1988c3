"""$register"""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from fhir_server.fhir import canonicals, nhs_number
from fhir_server.storage.interface import Store
from operations._csv import defused
from tests.access.cast import SERVICES, Cast
from tests.access.region import CHILDREN, SHARED
from tests.access.served import served, store_all
from tests.operations.asking import counted, got
from tests.operations.chart import concept, ended
from tests.operations.messages import JSON
from tests.profiles.rules import broken
from tests.support import assert_outcome, body, put

ICB = "Organization/icb"


def young_person(serial: int, family: str, manager: str) -> JSON:
    return {
        "resourceType": "Patient",
        "id": f"p{serial}",
        "identifier": [
            {"system": canonicals.NHS_NUMBER, "value": nhs_number.synthetic(800 + serial)}
        ],
        "name": [{"family": family, "given": ["Test"]}],
        "birthDate": "2012-01-01",
        "managingOrganization": {"reference": manager},
    }


def rated(serial: int, colour: str, start: str, *, end: str = "") -> JSON:
    return {
        "resourceType": "Flag",
        "id": f"f{serial}-{colour}",
        "status": "active",
        "category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")],
        "code": concept(canonicals.DSR_RATING, colour),
        "subject": {"reference": f"Patient/p{serial}"},
        "period": {"start": start},
        "author": {"reference": ICB},
        **({"encounter": {"reference": "Encounter/ward"}} if colour == "blue" else {}),
        **({**ended(start), "period": {"start": start, "end": end}} if end else {}),
    }


def review(serial: int, colour: str, due: str, status: str = "requested") -> JSON:
    return {
        "resourceType": "Task",
        "id": f"t{serial}-{due}",
        "status": status,
        "intent": "order",
        "code": concept(canonicals.TIMER, f"T-REVIEW-{colour.upper()}"),
        "for": {"reference": f"Patient/p{serial}"},
        "focus": {"reference": f"Flag/f{serial}-{colour}"},
        "authoredOn": "2026-01-01",
        "restriction": {"period": {"end": due}},
        **({"executionPeriod": {"end": "2026-02-20"}} if status == "completed" else {}),
    }


def organisation(key: str, code: str, **elements: object) -> JSON:
    identifier = [{"system": canonicals.ODS_ORGANIZATION, "value": code}]
    return {"resourceType": "Organization", "id": key, "identifier": identifier, **elements}


@pytest.fixture
async def region(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two areas: p1 to p3 in the one, p4 in the other; p5 was on the register once.

    Somebody has planned the reviews of p1 and p2; that of p4 is the timer's.
    """
    for resource in (
        organisation("icb", "QF7"),
        organisation("host", "ZZK9", partOf={"reference": ICB}),
        organisation("far", "QZZ"),
        young_person(1, "Synthetic-Ash", ICB),
        young_person(2, "=cmd|calc", "Organization/host"),
        young_person(3, "Synthetic-Oak", ICB),
        young_person(4, "Synthetic-Elm", "Organization/far"),
        young_person(5, "Synthetic-Yew", ICB),
        review(1, "amber", "2026-03-01"),
        review(1, "amber", "2026-02-15", "completed"),
        review(2, "red", "2099-01-01"),
        rated(1, "amber", "2026-02-01"),
        rated(1, "green", "2026-01-05", end="2026-02-01"),
        rated(2, "red", "2026-03-01"),
        rated(3, "blue", "2026-01-01"),
        rated(4, "red", "2026-01-02"),
        rated(5, "amber", "2026-01-02", end="2026-03-01"),
    ):
        await put(client, resource)
    return client


def rows(bundle: JSON) -> list[str]:
    """Patient, colour, since, next review, overdue of each match."""
    found = []
    for entry in bundle.get("entry", ()):
        if entry["search"]["mode"] == "match":
            said = {
                part["url"]: next(value for name, value in part.items() if name != "url")
                for part in entry["search"]["extension"][0]["extension"]
            }
            patient = entry["resource"]["subject"]["reference"].partition("/")[2]
            parts = (patient, *(str(said.get(name, "-")) for name in _SAID))
            found.append(" ".join(parts))
    return found


_SAID = ("rating", "since", "next-review", "overdue")


async def asked(client: httpx.AsyncClient, query: str = "") -> list[str]:
    return rows(await got(client, f"$register?{query}"))


async def test_tells_rating_since_when_next_review_and_overdue_red_first(
    region: httpx.AsyncClient,
) -> None:
    assert await asked(region) == [
        "p2 red 2026-03-01 2099-01-01 False",
        "p4 red 2026-01-02 2026-01-16 True",
        "p1 amber 2026-02-01 2026-03-01 True",
        "p3 blue 2026-01-01 - -",
    ]


async def test_what_it_says_is_as_its_extension_defines_it(region: httpx.AsyncClient) -> None:
    bundle = await got(region, "$register")
    assert broken("register-entry", bundle) == []
    del bundle["entry"][0]["search"]["extension"][0]["extension"][0]
    assert broken("register-entry", bundle) == ["Extension.extension:rating min"]


async def test_includes_who_they_are_and_the_review(region: httpx.AsyncClient) -> None:
    bundle = await got(region, "$register?rating=amber")
    modes = [(one["resource"]["resourceType"], one["search"]["mode"]) for one in bundle["entry"]]
    assert modes == [("Flag", "match"), ("Patient", "include"), ("Task", "include")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("area=QF7", ["p2", "p1", "p3"]),
        ("area=Organization/host", ["p2"]),
        ("area=QZZ", ["p4"]),
        ("rating=red&rating=blue", ["p2", "p4", "p3"]),
        ("overdue=true", ["p4", "p1"]),
        ("overdue=false&area=QF7", ["p2", "p3"]),
        ("_sort=since", ["p3", "p4", "p1", "p2"]),
        ("_sort=-rating", ["p3", "p1", "p2", "p4"]),
        ("_sort=next-review", ["p4", "p1", "p2", "p3"]),
        ("_sort=name", ["p2", "p1", "p4", "p3"]),
        ("_sort=name&area=QF7&overdue=false", ["p2", "p3"]),
    ],
)
async def test_is_narrowed_and_sorted(
    region: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    assert [row.split()[0] for row in await asked(region, query)] == expected


async def test_of_an_organisation_is_that_of_its_area(region: httpx.AsyncClient) -> None:
    assert [row[:2] for row in rows(await got(region, "Organization/far/$register"))] == ["p4"]


async def test_at_a_past_moment_has_the_ratings_that_held_then(region: httpx.AsyncClient) -> None:
    assert await asked(region, "at=2026-01-20T12:00:00Z&area=QF7") == [
        "p5 amber 2026-01-02 - -",
        "p1 green 2026-01-05 - -",
        "p3 blue 2026-01-01 - -",
    ]


async def test_on_the_day_of_a_change_has_the_new_rating_alone(region: httpx.AsyncClient) -> None:
    found = await asked(region, "at=2026-02-01T12:00:00Z&area=QF7")
    assert [row.split()[:2] for row in found if row.startswith("p1")] == [["p1", "amber"]]


async def test_at_a_past_moment_has_the_review_that_was_open_then(
    region: httpx.AsyncClient,
) -> None:
    found = await asked(region, "at=2026-02-18T12:00:00Z&rating=amber&area=QF7")
    assert "p1 amber 2026-02-01 2026-02-15 True" in found


async def test_what_was_written_by_mistake_was_never_on_it(region: httpx.AsyncClient) -> None:
    wrong = concept(canonicals.RATING_END_REASON, "added-in-error")
    reason = {"url": canonicals.RATING_END_REASON_EXTENSION, "valueCodeableConcept": wrong}
    await put(region, {**rated(5, "amber", "2026-01-02", end="2026-03-01"), "extension": [reason]})
    assert not [r for r in await asked(region, "at=2026-01-20T12:00:00Z") if r.startswith("p5")]


@pytest.mark.parametrize(
    "query",
    [
        *("", "_sort=since", "at=2026-03-05T00:00:00Z", "overdue=false"),
        *("_sort=name", "_sort=next-review", "_sort=next-review&at=2026-03-05T00:00:00Z"),
    ],
)
async def test_pages_hold_each_row_once(region: httpx.AsyncClient, query: str) -> None:
    whole = await asked(region, query)
    found, address = list[str](), f"$register?_count=1&{query}"
    while address:
        page = await got(region, address)
        assert len(rows(page)) <= 1
        found += rows(page)
        links = {one["relation"]: one["url"] for one in page["link"]}
        address = links.get("next", "")
    assert found == whole


@pytest.mark.parametrize("sort", ["rating", "-rating", "since", "name"])
async def test_whoever_is_rated_anew_between_two_pages_is_on_one(
    region: httpx.AsyncClient, sort: str
) -> None:
    """Neither on none of them nor on two: all pages tell of the moment of the first."""
    whole = await asked(region, f"_sort={sort}")
    page = await got(region, f"$register?_count=2&_sort={sort}")
    found = rows(page)
    for serial, colour in ((1, "red"), (2, "green"), (4, "amber")):
        await put(region, rated(serial, colour, "2026-03-02"))
    while links := [one["url"] for one in page["link"] if one["relation"] == "next"]:
        page = await got(region, links[0])
        found += rows(page)
    by_colour = [row.split()[:2] for row in found]
    assert by_colour == [row.split()[:2] for row in whole]
    assert await asked(region, f"_sort={sort}") != whole


async def test_as_a_table(region: httpx.AsyncClient) -> None:
    answer = await region.get("$register", headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    header, *found = list(csv.reader(io.StringIO(answer.text)))
    assert header[:3] == ["patient", "nhs-number", "family"]
    assert found[0] == [
        *("p2", nhs_number.synthetic(802), "'=cmd|calc", "Test", "2012-01-01"),
        *("red", "2026-03-01", "2099-01-01", "false"),
    ]
    assert len(found) == 4


@pytest.mark.parametrize("sort", ["rating", "since", "next-review", "name"])
async def test_a_table_is_in_the_same_order(region: httpx.AsyncClient, sort: str) -> None:
    rows_of_bundle = [row.split()[0] for row in await asked(region, f"_sort={sort}")]
    answer = await region.get(f"$register?_sort={sort}", headers={"accept": "text/csv"})
    assert [line.split(",")[0] for line in answer.text.splitlines()[1:]] == rows_of_bundle


async def test_names_alike_have_an_order_of_their_own(region: httpx.AsyncClient) -> None:
    for serial in (12, 11, 10):
        await put(region, young_person(serial, "synthetic-ASH", ICB))
        await put(region, rated(serial, "green", "2026-01-02"))
    first = await got(region, "$register?_sort=name&_count=3")
    links = {one["relation"]: one["url"] for one in first["link"]}
    second = await got(region, links["next"])
    patients = [row.split()[0] for row in (*rows(first), *rows(second))]
    assert patients[:5] == ["p2", "p1", "p10", "p11", "p12"]


async def test_more_than_can_be_sorted_is_refused(
    region: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations._register._MOST_SORTED", 3)
    answer = await region.get("$register?_sort=name")
    text = "More than 3 ratings cannot be sorted by name; narrow the area"
    assert_outcome(answer, 403, "too-costly", text, "http._sort")
    assert len(await asked(region, "_sort=name&area=QF7")) == 3


async def test_a_table_has_its_next_page_in_a_header(region: httpx.AsyncClient) -> None:
    first = await region.get("$register?_count=3&_format=text/csv")
    address = first.headers["link"].partition(">")[0][1:]
    second = await region.get(address, headers={"accept": "text/csv"})
    assert [line[:2] for line in second.text.splitlines()[1:]] == ["p3"]
    assert "link" not in second.headers


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_a_cell_that_begins_as_a_formula_is_defused(cell: str) -> None:
    assert defused(cell) == f"'{cell}"
    assert defused("a=1") == "a=1"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/fhir+json"),
        ("text/csv;q=0.5, application/fhir+json", "application/fhir+json"),
        ("application/fhir+xml", "application/fhir+xml"),
        ("text/csv, */*;q=0.1", "text/csv"),
    ],
)
async def test_a_table_is_for_whoever_asks_for_it(
    region: httpx.AsyncClient, accept: str, content_type: str
) -> None:
    answer = await region.get("$register", headers={"accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == content_type


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("area=QXX", "http.area", "no organisation"),
        ("at=2099-01-01T00:00:00Z", "http.at", "yet to come"),
        ("rating=purple", "http.rating", "red, amber, green, blue"),
        ("_sort=colour", "http._sort", "rating, -rating, since, next-review, name"),
        ("_count=0", "http._count", "number of rows"),
        ("overdue=perhaps", "http.overdue", "true or false"),
    ],
)
async def test_what_cannot_be_is_refused(
    region: httpx.AsyncClient, query: str, place: str, text: str
) -> None:
    answer = await region.get(f"$register?{query}")
    assert_outcome(answer, 400, "invalid", text, expression=place)


async def test_a_form_that_there_is_not_is_refused(region: httpx.AsyncClient) -> None:
    answer = await region.get("$register?_format=text/html")
    assert answer.status_code == 406


async def test_asks_three_questions_a_page_however_many_there_are(
    region: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for serial in range(10, 40):
        await put(region, young_person(serial, "Synthetic-Fir", "Organization/far"))
        await put(region, rated(serial, "red", "2026-01-02"))
    with counted(store, monkeypatch) as questions:
        assert len(await asked(region, "_count=20")) == 20
    assert questions == ["Flag", "Patient", "Task"]


async def test_what_cannot_be_is_told_where_it_stands_in_a_body(region: httpx.AsyncClient) -> None:
    count, area = {"name": "_count", "valueInteger": 5}, {"name": "area", "valueString": "QXX"}
    sent = {"resourceType": "Parameters", "parameter": [count, area]}
    answer = await region.post("$register", **body(sent))
    place = "Parameters.parameter[1]"
    assert_outcome(answer, 400, "invalid", "no organisation", expression=place)


async def test_is_asked_with_post_too(region: httpx.AsyncClient) -> None:
    told = {"resourceType": "Parameters", "parameter": [{"name": "area", "valueString": "QZZ"}]}
    answer = await region.post("$register", **body(told))
    assert [row[:2] for row in rows(answer.json())] == ["p4"]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The region of the access matrix, under tokens."""
    async with served(tmp_path) as (app, client):
        await store_all(app, [*SHARED, *(one for child in CHILDREN for one in child.stored)])
        yield client


async def test_each_row_is_what_its_caller_may_see(guarded: httpx.AsyncClient) -> None:
    """By the slow reading of the table; a signatory sees the colour and not since when."""
    for caller in SERVICES:
        await _require_own_rows(guarded, caller)


async def _require_own_rows(guarded: httpx.AsyncClient, caller: Cast) -> None:
    answer = await guarded.get("$register?_count=1000", headers=caller.headers())
    if not caller.scopes:
        assert answer.status_code == 403
        return
    flags = {child: next(one for one in child.papers if one["id"] == "f") for child in CHILDREN}
    expected = {
        f"{child.key} {sight}"
        for child, flag in flags.items()
        if (sight := caller.sees(child, flag)) and child.key not in caller.breaks
    }
    found = {
        f"{patient} {'colour' if since == '-' else 'all'}"
        for patient, _, since, *_ in map(str.split, rows(answer.json()))
    }
    assert found == expected, caller.kind


async def test_somebody_sees_all_and_somebody_the_colour() -> None:
    """Else the test above could say nothing."""
    flag = next(one for one in CHILDREN[0].papers if one["id"] == "f")
    sights = {caller.kind: caller.sees(CHILDREN[0], flag) for caller in SERVICES}
    assert sights["keyworker"] == "all"
    assert sights["signatory of health"] == "colour"
    assert sights["commissioner"] == ""
