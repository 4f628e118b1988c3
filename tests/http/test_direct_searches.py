"""The short way of plain searches answers as the general one, byte by byte, and audits the same."""

import asyncio
import os
from collections.abc import Iterator
from random import Random
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.http.rates import rates
from fhir_server.http.turns import Turns
from fhir_server.storage.sqlite import reader
from tests.http.comparing import comparable
from tests.http.test_direct import Served
from tests.http.wired import Told, get
from tests.search import ask, generate
from tests.search.comparing import SEEDS, random_of

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
TYPES: Final = generate.WORLD
SEVERAL: Final = 60
RESULTS: Final = (
    *("_count=1", "_count=3", "_count=0", "_count=", "_count=x", "_count=100", "_count=101"),
    *("_total=accurate", "_total=none", "_summary=count", "_summary=true", "_summary=text"),
    *("_elements=id,status", "_elements=nothing", "_sort=_id", "_sort=-_lastUpdated", "_sort=no"),
    *("_format=json", "_format=xml", "_format=", "_pretty=true", "_pretty=false", "_pretty=2"),
    *("_include=*", "_revinclude=*", "_include=CarePlan:subject", "_include:iterate=*:*"),
    *(
        "_contained=true",
        "_contained=both",
        "_type=Goal",
        "_nothing=1",
        "access_token=x",
        "_page=x",
    ),
    *("a%ccess=1", "_id=%00", "_id=%ff", "%5Fcount=2", "_count=2&_count=3", "&&", "=", "_count"),
)
HEADERS: Final = (
    ("Accept", "application/fhir+json"),
    ("Accept", "application/fhir+xml"),
    ("Accept", "image/png"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept-Encoding", "gzip, identity;q=0"),
    ("Forwarded", "for=9.9.9.9;host=elsewhere"),
    ("If-None-Match", 'W/"1"'),
    ("Prefer", "handling=lenient"),
    ("Prefer", "handling=strict"),
    ("X-Correlation-ID", "one-of-them"),
    ("X-Forwarded-For", "7.7.7.7"),
    ("X-Request-ID", "mine"),
    ("Connection", "close"),
)
FORMS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "proxied": {"trusted_proxies": ("127.0.0.1",), "max_url": 256, "max_parameters": 3},
    "crossing": {"cors_origins": ("https://app.example",), "public_base": "https://h.example/fhir"},
}


class Searched(Served):
    """A server with resources of several types that refer to each other."""

    async def fill(self) -> None:
        async def work(unit: SessionUnit) -> None:
            for number in range(SEVERAL):
                kind = TYPES[number % len(TYPES)]
                name = str(1 + number // len(TYPES))
                await unit.put(generate.linked(kind, name, Random(number), 3), "PUT")  # noqa: S311

        store = self.app.state.store
        await Session(store, ANONYMOUS, OpenPolicy()).commit("set up", work)

    def compared(self, raw: bytes) -> Told:
        general, usual = (comparable(self.app, one) for one in self.both(raw))
        assert usual == general
        return usual

    def compared_generally(self, path: str) -> int:
        """How many had taken the short way, before this was asked for."""
        before = self.wired.short
        self.compared(get(path))
        return before


@pytest.fixture(scope="module", params=FORMS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searched]:
    found = Searched(tmp_path_factory.mktemp("searched"), **FORMS[request.param])
    found.runner.run(found.fill())
    yield found
    found.stop()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    found = Searched(tmp_path_factory.mktemp("plain"))
    found.runner.run(found.fill())
    yield found
    found.stop()


def asked(resource_type: str, random: Random) -> str:
    """Criteria of all kinds, few of which make sense, and how the answer is to look."""
    make = random.choice(
        (ask.parameters, ask.parameters, one_of(ask.chained), one_of(ask.looked_up))
    )
    query = urlencode(make(resource_type, random), safe=":,|", quote_via=quote)
    more = random.sample(RESULTS, random.choice((0, 0, 1, 1, 2)))
    return f"{resource_type}?{'&'.join([query, *more])}"


def one_of(make: Any) -> Any:
    return lambda resource_type, random: [make(resource_type, random)]


@settings(
    max_examples=3000 if NIGHTLY else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(TYPES),
    seeds=st.lists(SEEDS, min_size=3, max_size=3),
    headers=st.lists(st.sampled_from(HEADERS), max_size=2),
)
def test_both_ways_answer_and_audit_alike(
    served: Searched, kind: str, seeds: list[int], headers: list[tuple[str, str]]
) -> None:
    for seed in seeds:
        served.compared(get(asked(kind, random_of(seed)), *headers))
        served.compared(get(asked(kind, random_of(seed))))


@pytest.mark.parametrize("more", RESULTS)
def test_each_parameter_by_itself(served: Searched, more: str) -> None:
    for before in ("", "_id=1,2&", "status=active&"):
        served.compared(get(f"CarePlan?{before}{more}"))


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_each_header_by_itself(served: Searched, header: tuple[str, str]) -> None:
    served.compared(get("CarePlan?_id=1,2", header))


def is_short(served: Searched, path: str, *headers: tuple[str, str]) -> bool:
    before = served.wired.short
    assert b"HTTP/1.1 200 OK" in served.compared(get(path, *headers)).answer
    return served.wired.short > before


def test_what_is_asked_most_takes_the_short_way(plain: Searched) -> None:
    for path in (
        "CarePlan?_id=1,2",
        "CarePlan?subject=Patient/1&status=active&_count=2",
        "CarePlan?subject:Patient.name=a&_include=CarePlan:subject&_format=json",
        "Patient?_total=accurate&_elements=id",
    ):
        assert is_short(plain, path), path
    for path in (
        "CarePlan",
        "CarePlan?_id=1&_format=xml",
        "CarePlan?_id=1&_pretty=true",
        "CarePlan?code:in=http://example.org/vs",
        "CarePlan?_count=101",
        "Patient?_revinclude=CarePlan:subject",
        "AuditEvent?_count=1",
        "Binary?_count=1",
    ):
        assert plain.wired.short == plain.compared_generally(path), path


def test_a_link_to_the_next_page_takes_the_short_way(plain: Searched) -> None:
    page = plain.runner.run(plain.wired.usually(get("CarePlan?_count=1&_sort=_id"))).answer
    link = page.partition(b'"next","url":"')[2].partition(b'"')[0].partition(b"/fhir/")[2].decode()
    assert is_short(plain, link)


def test_what_takes_long_is_not_tried_again(
    plain: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "CarePlan?status=active&_sort=-date,_id"
    monkeypatch.setattr(reader, "_BRIEF_STEPS", 1)
    assert [is_short(plain, path) for _ in range(2)] == [False, False]
    monkeypatch.undo()
    assert [is_short(plain, path) for _ in range(14)] == [*[False] * 13, True]
    assert is_short(plain, path)
    assert is_short(plain, f"{path}&_count=5")


def test_where_others_wait_a_search_waits_too(
    plain: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, turns = "CarePlan?_id=2", Turns(1)
    assert is_short(plain, path)
    assert plain.app.fhir is not None
    monkeypatch.setattr(plain.app.fhir, "turns", turns)
    assert is_short(plain, path)

    async def meanwhile() -> None:
        before = plain.wired.short
        asking = asyncio.create_task(plain.wired.usually(get(path)))
        await asyncio.sleep(0)
        assert not asking.done()
        turns._pass_on()
        assert b"200 OK" in (await asking).answer
        assert plain.wired.short == before

    async def busy() -> None:
        await turns.in_turn(lambda: asyncio.sleep(0))
        turns._free -= 1
        await meanwhile()

    plain.runner.run(busy())


def test_each_counts_for_the_bound_of_its_client(
    plain: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plain.app.fhir is not None
    monkeypatch.setattr(plain.app.fhir, "rates", rates(0.001, 3, 0, 1))

    async def ask_often() -> list[bytes]:
        raw = get("CarePlan?_id=1")
        return [(await plain.wired.usually(raw)).answer[9:12] for _ in range(5)]

    assert plain.runner.run(ask_often()) == [b"200"] * 3 + [b"429"] * 2


@pytest.mark.parametrize(
    ("paths", "at_once"),
    [
        ([f"CarePlan?_id=1&_count={number}" for number in range(1, 21)], 7),
        (["CarePlan?_id=1"] * 60, 25),
    ],
    ids=["anew", "again"],
)
def test_many_at_once_do_not_keep_others_waiting(
    plain: Searched, paths: list[str], at_once: int
) -> None:
    async def ask() -> None:
        for _ in range(4):  # as none is kept that is made while the audit is written
            await plain.wired.usually(get(paths[0]))
        protocol, transport = plain.wired.connected()
        protocol.data_received(b"".join(map(get, paths)))
        assert transport.written.count(b"HTTP/1.1 200 ") == at_once
        while protocol.tasks:
            await asyncio.gather(*protocol.tasks)
        assert transport.written.count(b"HTTP/1.1 200 ") == len(paths)
        protocol.connection_lost(None)
        protocol._unset_keepalive_if_required()

    plain.runner.run(ask())
