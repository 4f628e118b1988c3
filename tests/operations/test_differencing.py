"""$oversight-report to whoever sees nobody: two reports, taken from each other, tell of nobody"""

from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.app import Application
from fhir_server.errors import FhirError
from operations._tally import Sum
from operations._telling import AsTheyAre, Rounded
from operations.oversight_report import _require_whole
from tests.access.cast import SERVICES
from tests.access.people import child, episode, organisation, ref
from tests.access.served import served, store_all
from tests.operations.messages import JSON
from tests.operations.overseeing import groups_of
from tests.support import assert_outcome

LEAST: Final = 5
MOST: Final = 40
COMMISSIONER: Final = next(one for one in SERVICES if one.kind == "commissioner")
_PARTS: Final = st.lists(st.integers(0, 18), min_size=2, max_size=4)


def _range(told: int | None) -> tuple[int, int]:
    """What a number may be that is told so."""
    may_be = [number for number in range(MOST * 3) if Rounded(LEAST).count(number) == told]
    return min(may_be), max(may_be)


_RANGES: Final = {told: _range(told) for told in (None, *range(LEAST, MOST * 2, LEAST))}


@given(_PARTS)
def test_no_whole_tells_how_few_there_are_in_a_part(parts: list[int]) -> None:
    """Of areas and their union, months and their quarter, strata and their total.

    That there are 4 is told where all parts are as many as they may be, and never who is alone.
    """
    low, high = _RANGES[Rounded(LEAST).count(sum(parts))]
    bounds = [_RANGES[Rounded(LEAST).count(number)] for number in parts]
    for index, number in enumerate(parts):
        others = [one for at, one in enumerate(bounds) if at != index]
        least = max(bounds[index][0], low - sum(one[1] for one in others))
        most = min(bounds[index][1], high - sum(one[0] for one in others))
        assert least <= number <= most
        if 0 < number < LEAST - 1:
            assert least < most


@given(st.integers(0, MOST), st.integers(1, LEAST - 1))
def test_the_difference_of_two_numbers_is_never_small(number: int, more: int) -> None:
    before, after = (Rounded(LEAST).count(one) or 0 for one in (number, number + more))
    assert (after - before) % LEAST == 0
    shares = [Rounded(LEAST).share(one, MOST * 2, None) for one in (number, number + more)]
    assert {part % LEAST for share in shares for part in share or (1,)} == {0}


@given(st.lists(st.floats(0, 500), min_size=LEAST, max_size=20))
def test_no_single_stay_shows_in_a_mean(stays: list[float]) -> None:
    """It could be anything between none and as long as it is, and the mean be told the same."""
    longest = max(stays)
    told = Rounded(LEAST).mean(Sum(sum(stays), len(stays), longest))
    error = abs(told - sum(stays) / len(stays))
    assert told == int(told)
    assert error <= max(1, 2.5 * longest / len(stays)) / 2


_FEW: Final = st.lists(st.integers(1, 8), min_size=2, max_size=5)


@given(_FEW)
def test_the_total_does_not_tell_what_is_kept_back_of_it(parts: list[int]) -> None:
    told = AsTheyAre(LEAST).parts({str(index): number for index, number in enumerate(parts)})
    back = [parts[int(name)] for name, number in told.items() if number is None]
    # Their sum is known, and none of them is empty.
    wanted, others = sum(back), len(back) - 1
    assert not back or len(range(1, wanted - others + 1)) >= LEAST


def _one(key: str, manager: str) -> Iterator[JSON]:
    told = child(born="2011-03-04", managingOrganization=ref(f"Organization/{manager}"))
    yield {**told, "id": key, "gender": "female"}
    yield {**episode("Practitioner/kw"), "id": f"{key}-e", "patient": ref(f"Patient/{key}")}


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[tuple[Application, httpx.AsyncClient]]:
    """A board with three trusts: twelve young people, one, and nobody."""
    async with served(tmp_path, keyworking_profiles=False, rounded_reports=True) as (app, client):
        part = {"partOf": ref("Organization/board")}
        trusts = [{**organisation(key, key.upper()), **part} for key in ("many", "one", "none")]
        people = [one for number in range(12) for one in _one(f"p{number}", "many")]
        await store_all(app, [organisation("board", "BOARD"), *trusts, *people])
        await store_all(app, _one("alone", "one"))
        yield app, client


async def _told(client: httpx.AsyncClient, area: str, query: str = "snapshot=week") -> JSON:
    address = f"Organization/{area}/$oversight-report?{query}"
    answer = await client.get(address, headers=COMMISSIONER.headers())
    assert answer.status_code == 200, answer.text
    found: JSON = answer.json()
    return found


def _numbers(report: JSON) -> Iterator[int]:
    for group in report["group"]:
        strata = [one for by in group.get("stratifier", ()) for one in by["stratum"]]
        for part in (group, *strata):
            yield from (one["count"] for one in part["population"] if "count" in one)


async def test_an_area_with_one_young_person_reads_as_one_with_nobody(
    region: tuple[Application, httpx.AsyncClient],
) -> None:
    _, client = region
    one, nobody = await _told(client, "one"), await _told(client, "none")
    assert one["group"] == nobody["group"]
    assert groups_of(one)["episodes"]["population"][0]["_count"]


async def test_a_board_and_its_trusts_do_not_differ_by_one(
    region: tuple[Application, httpx.AsyncClient],
) -> None:
    app, client = region
    board, trust = await _told(client, "board"), await _told(client, "many")
    assert [*_numbers(board)]
    assert {number % LEAST for number in (*_numbers(board), *_numbers(trust))} == {0}
    await store_all(app, _one("another", "many"))
    again = await _told(client, "many")
    changed = {a - b for a, b in zip(_numbers(again), _numbers(trust), strict=True)}
    assert changed <= {0, LEAST}


TODAY: Final = date(2026, 11, 22)
"""A Sunday."""


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("2026-11-09", "2026-11-15"), ("2026-02-01", "2026-02-28"), ("2026-07-01", "2026-09-30")),
        *(("2025-01-01", "2025-12-31"), ("2025-04-01", "2026-03-31"), ("2025-11-01", "2026-10-31")),
    ],
)
def test_a_week_a_month_a_quarter_and_twelve_months_are_reported_on(start: str, end: str) -> None:
    _require_whole(date.fromisoformat(start), date.fromisoformat(end), TODAY)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("2026-11-10", "2026-11-16"), ("2026-11-09", "2026-11-14"), ("2026-11-09", "2026-11-09")),
        *(("2026-01-01", "2026-02-28"), ("2026-02-01", "2026-04-30"), ("2026-02-01", "2026-02-27")),
        *(("2026-11-16", "2026-11-22"), ("2026-11-01", "2026-11-30"), ("2000-01-01", "2026-10-31")),
    ],
)
def test_periods_that_overlap_as_one_likes_are_refused(start: str, end: str) -> None:
    with pytest.raises(FhirError, match="a week from Monday"):
        _require_whole(date.fromisoformat(start), date.fromisoformat(end), TODAY)


async def test_a_commissioner_is_told_which_periods_there_are(
    region: tuple[Application, httpx.AsyncClient],
) -> None:
    _, client = region
    address = "$oversight-report?start=2000-01-01&end=2026-10-30"
    answer = await client.get(address, headers=COMMISSIONER.headers())
    assert_outcome(answer, 400, "invalid", "a week from Monday", expression="http.end")


def test_a_month_is_over_on_the_day_after() -> None:
    first, last = TODAY.replace(day=1), date(2026, 11, 30)
    _require_whole(first, last, last + timedelta(days=1))
