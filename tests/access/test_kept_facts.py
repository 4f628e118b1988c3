"""Facts that are kept at hand: in little memory, and no more of them than there is room for."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access import at_hand
from fhir_server.access.at_hand import Shelf, facts_of, gathered
from fhir_server.access.facts import kept
from fhir_server.access.facts.kept import State
from fhir_server.access.facts.parts import Contribution, decoded, encoded
from fhir_server.access.facts.reading import contribution
from fhir_server.access.facts.record import Facts
from fhir_server.storage.interface import Memo, Unit
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.people import child, consent, episode, member, numbered, rule, team


def told(number: int = 1) -> list[Contribution]:
    """What is stored of one patient."""
    patient = f"Patient/{number}"
    resources = (
        child(str(number), identifier=numbered(f"99900000{number:02}")),
        episode("PractitionerRole/post"),
        team(member("PractitionerRole/post", "lead-professional"), member("Practitioner/camhs")),
        consent(performer=patient, provision=rule("permit", "Practitioner/camhs")),
    )
    made = [contribution(each) for each in resources]
    return [decoded(encoded(each)) for each in made if each is not None]


def of(number: int) -> Facts:
    return gathered(told(number), f"Patient/{number}")


def test_names_and_times_that_are_equal_are_one_object() -> None:
    found, other = of(1), of(1)
    (one_team,) = found.teams.values()
    first, second = one_team.members
    (manager,) = (each.manager for each in found.episodes.values())
    assert first.names is manager
    assert first.period is second.period
    (named,) = (name for name in other.grantees if name == "Practitioner/camhs")
    assert second.names[0] is named, "of whomever they are"


def test_they_say_what_was_told() -> None:
    for one in told():
        found = of(1)
        parts = {**found.episodes, **found.teams, **found.consents, "Patient/1": found.patient}
        assert parts[one.ref] == one.part
        assert frozenset(one.grantees) <= found.grantees


def test_those_kept_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(State())
    shelf.keep("1", of(1))
    monkeypatch.setattr(at_hand, "_MOST_BYTES", 3 * shelf.size)
    for number in range(2, 10):
        shelf.keep(str(number), of(number))
    assert [*shelf.patients] == ["7", "8", "9"]
    assert {*shelf.ids_by_number} == {f"nhs:99900000{number:02}" for number in (7, 8, 9)}


def test_one_who_alone_is_too_many_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "_MOST_BYTES", 10)
    shelf = Shelf(State())
    for number in (1, 2):
        shelf.keep(str(number), replace(of(number), size=10**9))
    assert [*shelf.patients] == ["2"]


def test_what_is_dropped_takes_no_room() -> None:
    shelf = Shelf(State())
    for number in (1, 1, 2, 3):
        shelf.keep(str(number), of(number))
    shelf.keep("4", None)
    shelf.drop(("Patient/1", "nhs:9990000002", "Patient/4"), State())
    assert [*shelf.patients] == ["3"]
    shelf.drop(("Patient/3",), State())
    assert (shelf.size, shelf.ids_by_number) == (0, {})


class Counted:
    """A reader, and how many pages of facts it was asked for."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.pages = 0

    async def memos(self, *asked: Any) -> Sequence[Memo]:
        self.pages += 1
        return await self._store.memos(*asked)


async def test_the_facts_of_all_are_read_once_for_callers_who_come_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_hand, "_SCAN_FROM", 2)
    store = SqliteStore(tmp_path / "store.db")

    async def keep(unit: Unit) -> None:
        for one in told(1):
            await kept.replace(unit, one.ref, one, 0)

    await store.commit(keep)
    alone: Any = Counted(store)
    expected = await facts_of(alone, Shelf(State()), ["1", "2"])
    assert expected["1"] == of(1)
    together: Any = Counted(store)
    shelf = Shelf(State())
    found = await asyncio.gather(*(facts_of(together, shelf, ["1", "2"]) for _ in range(5)))
    assert found == [expected] * 5
    assert together.pages == alone.pages
    await store.close()
