"""`keyworking region`: how many, of which sort, and the same from the same seed."""

import json
from collections import Counter
from datetime import date
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from fhir_server.cli import main
from fhir_server.fhir import nhs_number
from fhir_server.region import Asked, BadRegion, Member, generate, members, records, services
from fhir_server.region.area import ORGANISATIONS, board_of
from fhir_server.region.asked import (
    LASTING,
    MOST_BOARDS,
    age_shares,
    band_of,
    rating_shares,
    slot_shares,
    state_shares,
)
from fhir_server.region.tally import Tally
from tests.caseload.reading import parts

AS_OF: Final = date(2026, 6, 1)
SMALL: Final = Asked(boards=2, register=6, as_of=AS_OF)


def texts(asked: Asked) -> list[str]:
    return [text for some in generate(asked) for text in some]


def resources(asked: Asked) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts(asked)]


@pytest.fixture(scope="module")
def small() -> list[str]:
    return texts(SMALL)


@pytest.fixture(scope="module")
def large() -> list[Member]:
    return [*members(Asked(boards=10, register=400, as_of=AS_OF))]


def test_the_same_seed_and_day_give_the_same_bytes_and_another_seed_others(
    small: list[str],
) -> None:
    def digest(found: list[str]) -> str:
        return sha256("\n".join(found).encode()).hexdigest()

    assert digest(texts(SMALL)) == digest(small)
    assert digest(texts(Asked(2, 6, seed=2, as_of=AS_OF))) != digest(small)


def test_the_first_board_is_the_same_in_a_larger_region(small: list[str]) -> None:
    one = [*generate(Asked(1, 6, as_of=AS_OF))]
    both = [*generate(SMALL)]
    assert both[0] == one[0]
    assert both[2:8] == one[1:]
    assert sum(map(len, both)) == len(small)


def test_every_reference_leads_to_what_came_before_or_beside_it() -> None:
    known: set[str] = set()
    for some in generate(SMALL):
        made = [json.loads(text) for text in some]
        known |= {f"{one['resourceType']}/{one['id']}" for one in made}
        named = [part.get("reference") for one in made for part in parts(one)]
        assert {one for one in named if isinstance(one, str)} - known == set()


def test_nobody_is_left_in_the_small_service_of_the_caseload(small: list[str]) -> None:
    whole = "\n".join(small)
    assert not any(one in whole for one in ("kw-org-", "kw-ward-", "Hollin Vale", "northmoor"))


def test_a_register_is_dealt_by_the_shares_that_are_asked_for(large: list[Member]) -> None:
    people = [one.person for one in large]
    states = Counter(one.slot.state for one in people)
    ratings = Counter(one.slot.rating if one.slot.on_register else "none" for one in people)
    ages = Counter(band_of(one.age) for one in people)
    for shares, counts in (
        (state_shares(), states),
        (rating_shares(), ratings),
        (age_shares(), ages),
    ):
        assert sum(shares.values()) == pytest.approx(1)
        for value, share in shares.items():
            assert counts[value] / len(people) == pytest.approx(share, abs=0.005), value


def test_who_has_been_in_hospital_is_of_the_age_of_its_wards(large: list[Member]) -> None:
    ages = {one.person.age for one in large if one.person.slot.stayed}
    assert ages == {*range(12, 18)}


def test_no_way_through_the_pathway_is_so_long_that_a_birthday_falls_into_it() -> None:
    """From the register's consent, forty days before the referral, and a weekend before that."""
    for slot, _ in slot_shares():
        longest = sum(LASTING[state][1] for state in slot.path)
        if slot.home_again:
            longest -= LASTING[slot.path[-1]][1] - 10  # who has just come home
        assert longest + 40 + 2 <= 355, slot


def test_each_has_a_number_of_their_own_that_no_person_has(large: list[Member]) -> None:
    numbers = [one.nhs_number for one in large]
    assert len({*numbers}) == len(numbers)
    assert all(nhs_number.is_valid(one) and nhs_number.is_for_tests(one) for one in numbers)
    caseload = {nhs_number.synthetic(serial) for serial in range(1000)}
    assert caseload.isdisjoint(numbers)


def test_a_keyworker_has_ten_young_people_at_the_most(large: list[Member]) -> None:
    held = Counter((one.board.number, one.around["keyworker"]) for one in large)
    assert {*held.values()} == {10}


def test_each_board_has_sixty_organisations_and_no_two_share_a_code() -> None:
    every = Asked(boards=MOST_BOARDS, register=10, as_of=AS_OF)
    boards = [board_of(every, number) for number in range(1, MOST_BOARDS + 1)]
    codes = [
        one["identifier"][0]["value"]
        for some in islice(services(every), 3)
        for one in map(json.loads, some)
        if one["resourceType"] == "Organization"
    ]
    assert len(codes) == len({*codes}) == 3 * ORGANISATIONS
    assert ORGANISATIONS == 60
    last = {board.ods("college", 6) for board in boards}
    assert len(last) == MOST_BOARDS
    assert len({board.place for board in boards}) == MOST_BOARDS


def test_all_boards_of_england_are_made_one_record_at_a_time() -> None:
    """A list of all of them would take minutes, and gigabytes."""
    everywhere = members(Asked(boards=MOST_BOARDS, register=20_000, as_of=AS_OF))
    first = [*islice(everywhere, 3)]
    assert [one.person.serial for one in first] == [1000, 1001, 1002]
    assert "Patient" in records(first[0])[0]


@pytest.mark.parametrize(
    ("boards", "register", "population", "said"),
    [
        (0, 400, 1000, "1 to 42 boards"),
        (43, 400, 1000, "1 to 42 boards"),
        (1, 0, 1000, "1 to 20000 people"),
        (1, 300, 200, "fewer than the register's"),
    ],
)
def test_a_region_that_cannot_be_is_refused(
    boards: int, register: int, population: int, said: str
) -> None:
    with pytest.raises(BadRegion, match=said):
        Asked(boards, register, population)
    options = [f"--boards={boards}", f"--register={register}", f"--population={population}"]
    ran = CliRunner().invoke(main, ["region", *options, "--to", "nowhere"])
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_the_statistics_count_what_was_made_beside_what_was_asked(small: list[str]) -> None:
    tally = Tally(SMALL)
    for text in small:
        tally.add(json.loads(text), len(text))
    told = {line[:46].strip(): line[46:].split() for line in tally.lines()}
    assert told["young people on the register"] == ["12", "12"]
    assert told["organisations"] == ["120", "120"]
    assert told["resources"] == [f"{len(small):,}"]
    amber = sum(one.person.slot.rating == "amber" for one in members(SMALL))
    assert told["rating amber"] == ["47.0%", f"{amber / 12:.1%}"]
    # Counted from the resources: one that is left out is missed.
    fewer = Tally(SMALL)
    for text in small[1:]:
        fewer.add(json.loads(text), len(text))
    assert [*fewer.lines()] != [*tally.lines()]


def test_the_files_are_ndjson_by_type_and_fit_the_profiles(tmp_path: Path) -> None:
    words = ["region", "--register", "20", "--as-of", "2026-06-01", "--to", str(tmp_path)]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 0, ran.output
    found = {path.stem for path in tmp_path.glob("*.ndjson")}
    assert {"Patient", "CarePlan", "Goal", "Task", "Consent", "CareTeam", "Organization"} < found
    lines = (tmp_path / "Patient.ndjson").read_text().splitlines()
    assert [json.loads(line)["resourceType"] for line in lines] == ["Patient"] * 20
    assert (tmp_path / "statistics.txt").read_text() == ran.stdout
    checked = CliRunner().invoke(main, ["validate", str(tmp_path)])
    assert checked.exit_code == 0, checked.output[-2000:]
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2
    assert "has files of a region already" in again.stderr


def test_it_says_where_to_once() -> None:
    for places in ([], ["--to", "one", "--server", "http://127.0.0.1:1/fhir"]):
        ran = CliRunner().invoke(main, ["region", *places])
        assert ran.exit_code == 2
        assert "Say where to" in ran.stderr


def test_a_server_that_is_not_there_is_said_so() -> None:
    words = ["region", "--register", "1", "--server", "http://127.0.0.1:1/fhir"]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 2
    assert "cannot be reached" in ran.stderr
