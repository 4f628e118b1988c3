"""Pages that are given again: the same bytes and the same rows of the audit, and for how long."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session
from fhir_server.fhir.dates import interval
from fhir_server.http.asking import Kept
from fhir_server.http.pages import _MOST_MET, Page, Pages
from fhir_server.storage.interface import Store
from tests.http.comparing import comparable
from tests.http.test_direct_searches import Searched
from tests.http.wired import Told, get

pytestmark = pytest.mark.sqlite_alone
TWO: Final = "CarePlan?_count=2&_sort=_id"
_LINK: Final = re.compile(rb"_page=([^\"]+)\"")
SECOND: Final = 1_000_000
NOON: Final = interval("2026-11-23T12:00:00Z").low


class Again(Searched):
    """A server whose pages are asked for several times, and whose clock can be moved."""

    def told(self, path: str, *headers: tuple[str, str]) -> Told:
        """Once the audit's rows are on disk: what is made while somebody commits is not kept."""

        async def ask() -> Told:
            await self.app.state.trail.flushed()
            return await self.wired.usually(get(path, *headers))

        return self.runner.run(ask())

    def link(self, path: str = TWO) -> bytes:
        """The seal of the link to the next page, which is another one each time that it is made."""
        found = _LINK.search(self.told(path).answer)
        assert found is not None
        return found[1]

    def at(self, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
        """The server's clock stands, so long after noon."""
        assert self.app.fhir is not None
        moment = NOON + seconds * SECOND
        stands = replace(self.app.fhir.server, clock=lambda: moment)
        monkeypatch.setattr(self.app.fhir, "server", stands)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Again]:
    found = Again(tmp_path_factory.mktemp("again"))
    found.runner.run(found.fill())
    yield found
    found.stop()


@pytest.mark.parametrize(
    "path",
    [
        TWO,
        "CarePlan?subject:Patient.name=a&_include=CarePlan:subject&_total=accurate",
        "Patient?_elements=id&_count=3",
        "Patient?_summary=count",
        "Patient?_id=nobody",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Accept-Encoding", "gzip"),),
        (("X-Request-ID", "mine"), ("X-Correlation-ID", "ours")),
        (("Accept", "application/fhir+json"),),
    ],
    ids=["plain", "compressed", "named", "accepting"],
)
def test_it_is_the_same_answer_and_the_same_row(
    served: Again, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    general = served.runner.run(served.wired.generally(get(path, *headers)))
    told = [served.told(path, *headers) for _ in range(4)]
    assert told[3] == told[2], "else it was made anew"
    assert comparable(served.app, general) == comparable(served.app, told[3])
    assert len(told[3].rows) == 1


def test_it_is_given_again_from_the_second_time_on(served: Again) -> None:
    path = f"{TWO}&_total=none"
    links = [served.link(path) for _ in range(4)]
    assert links[0] not in links[1:]
    assert links[2] == links[3]


def test_each_is_told_by_the_address_that_they_came_from(served: Again) -> None:
    for _ in range(3):
        told = served.runner.run(served.wired.usually(get(TWO), "10.0.0.1"))
    (row,) = told.rows
    (other,) = served.told(TWO).rows
    assert (row.address, other.address) == ("10.0.0.1", "127.0.0.1")


def test_links_are_made_anew_before_they_are_old(
    served: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{TWO}&_elements=status"
    served.at(monkeypatch, 0)
    for _ in range(3):
        before = served.link(path)
    served.at(monkeypatch, 59)
    assert served.link(path) == before
    served.at(monkeypatch, 60)
    assert served.link(path) != before


def test_what_hangs_on_the_moment_is_made_anew(served: Again) -> None:
    path = "CarePlan?_lastUpdated=gt2020&_lastUpdated=ne1999,ap2026&_count=1"
    assert len({served.link(path) for _ in range(3)}) == 3


def test_a_page_behind_a_link_ends_with_the_link(
    served: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.at(monkeypatch, 0)
    path = f"CarePlan?_page={served.link(f'{TWO}&_elements=id').decode()}"
    assert served.app.fhir is not None
    lifetime = served.app.fhir.server.page_lifetime
    served.at(monkeypatch, lifetime)
    for _ in range(3):
        assert b"200 OK" in served.told(path).answer
    served.at(monkeypatch, lifetime + 1)
    assert b"410 Gone" in served.told(path).answer


def test_who_has_written_reads_it(served: Again) -> None:
    path = "Goal?_id=mine"

    async def write(store: Store, text: str) -> None:
        goal = {"resourceType": "Goal", "id": "mine", "description": {"text": text}}
        session = Session(store, ANONYMOUS, OpenPolicy())
        await session.commit("update", lambda unit: unit.put(goal, "PUT"))

    for number in range(4):
        for _ in range(3):
            found = served.told(path).answer
        assert (f"word {number - 1}".encode() in found) is (number > 0)
        served.runner.run(write(served.app.state.store, f"word {number}"))


class Standing:
    async def holds(self) -> bool:
        return True


def page(kept: Any, size: int) -> Page:
    basis: Any = Standing()
    return Page(kept, basis, 10, b"x" * size, encoded=False, row=None)


def words(number: int, kept: object) -> Any:
    return (b"/fhir/Goal?_count=%d" % number, None, None, "http://here/fhir", id(kept))


async def test_what_was_not_asked_for_longest_makes_room() -> None:
    pages, kept = Pages(most=30_000), Kept(ANONYMOUS, Session(Any, ANONYMOUS))  # type: ignore[arg-type]
    for number in range(4):
        pages.keep(words(number, kept), page(kept, 8000))
        assert await pages.find(words(0, kept), kept, 0) is not None
    there = [await pages.find(words(number, kept), kept, 0) is not None for number in range(4)]
    assert there == [True, False, True, True]
    pages.keep(words(5, kept), page(kept, 300_000))
    assert await pages.find(words(5, kept), kept, 0) is None
    pages.keep(words(3, kept), page(kept, 7000))
    assert pages._size == sum(one.size for one in pages._pages.values()) <= 30_000


async def test_another_caller_of_the_same_number_has_no_page_of_theirs() -> None:
    pages, kept = Pages(), Kept(ANONYMOUS, Session(Any, ANONYMOUS))  # type: ignore[arg-type]
    other = Kept(ANONYMOUS, kept.session)
    pages.keep(words(1, kept), page(kept, 10))
    assert await pages.find(words(1, kept), other, 0) is None


def test_so_many_are_known_to_be_asked_for_once() -> None:
    pages = Pages()
    assert not pages.takes(words(0, None), [])
    assert pages.takes(words(0, None), [])
    for number in range(_MOST_MET + 1):
        pages.takes(words(number + 1, None), [])
    assert len(pages._met) <= _MOST_MET
    assert not pages.takes(words(0, None), [])
