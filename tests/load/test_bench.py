"""The bench's own parts: what it asks, counts, judges and tells; its figures are for people."""

import asyncio
import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner

from loadtests import arrivals
from loadtests.arrivals import Arrival, arrive
from loadtests.bench import __main__ as bench
from loadtests.bench import bulk, elsewhere, report
from loadtests.bench.asking import Refused, Reply, Target, ask, raw, tried
from loadtests.bench.cases import CASES, Case
from loadtests.bench.data import MANY, Data, bundles
from loadtests.bench.growth import Grown
from loadtests.bench.passes import Passes, Row, Terms
from loadtests.bench.servers import Options, Peer, bare, ours
from loadtests.client import Run
from loadtests.overload import judged, recovered
from loadtests.soak import plot, slope

RETRY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n"


def _row(case: str, server: str, *rates: float, target: float | None = None) -> Row:
    runs = [Run(1.0, [2.0] * int(rate)) for rate in rates]
    return Row(case, server, target, runs=runs, of_bare=[rate / 1000 for rate in rates])


def test_a_row_is_judged_by_the_median_of_its_passes() -> None:
    assert _row("read", "ours", 400, 600, 700, target=0.5).verdict == "met"
    assert _row("read", "ours", 400, 400, 700, target=0.5).verdict == "missed"
    assert _row("read", "ours", 400, 400, 700).verdict == ""
    failing = _row("read", "ours", 600, target=0.5)
    failing.runs[0].failed = 1
    assert failing.verdict == "missed", "what fails is not quick"


def test_the_table_tells_what_was_left_out_and_what_was_missed() -> None:
    good, bad = _row("read", "ours", 600, target=0.5), _row("create", "ours", 50, target=0.1)
    out = Row("vread", "ours", refused="404 Not here")
    assert "left out: 404 Not here" in report.line(out)
    assert report.tally([good, bad, out]) == "targets: 1 of 2 met; missed: create"


def test_servers_are_compared_pass_by_pass() -> None:
    rows = [_row("read", "ours", 600, 300), _row("read", "peer", 300, 100)]
    rows += [_row("own", "ours", 10), Row("own", "peer", refused="404")]
    (told,) = report.compared(rows)
    assert "2.50 times the rate of the peer" in told


def test_figures_are_saved_with_what_they_mean(tmp_path: Path) -> None:
    row = _row("read", "ours", 600, target=0.5)
    path = report.save(tmp_path / "new", "bench", {"rows": report.figures([row])})
    saved = json.loads(path.read_text())
    assert saved["rows"][0]["of_bare"] == 0.6
    assert saved["rows"][0]["passes"][0]["answers"] == 600
    assert saved["machine"]["Python"]
    assert "only 2xx counts" in saved["method"]


def test_the_same_data_are_made_each_time_with_pages_of_plans() -> None:
    data, again = Data(), Data()
    made = [*bundles(600, data)]
    assert made == [*bundles(600, again)]
    entries = [entry for bundle in made for entry in bundle["entry"]]
    assert data.resources == len(entries) >= 600
    assert len({entry["request"]["url"] for entry in entries}) == len(entries)
    whose = data.with_many[0]
    plans = [
        entry["resource"]
        for entry in entries
        if entry["resource"]["resourceType"] == "CarePlan"
        and entry["resource"]["subject"]["reference"] == f"Patient/{whose}"
    ]
    assert len(plans) >= MANY + 1


def test_what_fhir_resources_cannot_read_has_no_cost() -> None:
    patient = b'{"resourceType":"Patient","active":true}'
    both, one = elsewhere.cost(patient, patient), elsewhere.cost(patient, b"")
    assert both is not None
    assert one is not None
    assert both > one > 0
    assert elsewhere.cost(b'{"resourceType":"Patient","active":"yes?"}', b"") is None
    assert elsewhere.cost(b"", b"") is None


@pytest.mark.parametrize(
    ("costs", "sound"),
    [
        ({100: 50.0, 1000: 52.0}, True),
        ({100: 50.0, 1000: 74.0}, True),
        ({100: 50.0, 1000: 95.0}, False),
    ],
)
def test_what_grows_faster_than_the_logarithm_is_told(costs: dict[int, float], sound: bool) -> None:
    assert Grown("line", costs).is_sound == sound
    assert ("missed" in str(Grown("line", costs))) != sound


def test_growth_is_told_for_ten_times_the_size() -> None:
    assert Grown("line", {10: 10.0, 1000: 1000.0}).factor == pytest.approx(10)
    assert not Grown("line", {}, "there is no page 100").is_sound


def _arrivals(seconds: int, status: int, took: float, head: bytes = b"") -> list[Arrival]:
    return [Arrival(number / 10, took, 0.0, status, head) for number in range(seconds * 10)]


def test_overload_is_judged_by_what_is_answered_refused_and_after() -> None:
    before, after = _arrivals(5, 200, 10), _arrivals(12, 200, 10)
    during = [*_arrivals(5, 200, 1500), *_arrivals(5, 503, 1000, RETRY)]
    assert [one.met for one in judged(before, during, after, 10)] == [True] * 4
    slow = [*_arrivals(5, 200, 2500), *_arrivals(5, 503, 1000, RETRY)]
    assert not judged(before, slow, after, 10)[0].met
    rude = [*_arrivals(5, 200, 10), *_arrivals(5, 503, 10)]
    assert not judged(before, rude, after, 10)[1].met, "no Retry-After"
    assert not judged(before, [*during, *_arrivals(1, 0, 30_000)], after, 10)[1].met


def test_it_is_as_before_from_the_second_on_in_which_nothing_is_refused_or_late() -> None:
    before, after = _arrivals(5, 200, 20), _arrivals(12, 200, 20)
    assert recovered(before, after) == 0
    after[35] = replace(after[35], status=503)
    assert recovered(before, after) == 4
    late = [replace(one, milliseconds=900.0) if one.due < 7 else one for one in after]
    assert recovered(before, late) == 7


def test_a_connection_that_the_server_may_be_closing_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    opened = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        while await reader.read(100):
            writer.write(answer)
        writer.close()

    async def asked() -> list[int]:
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        counts = []
        for patience in (60.0, 0.0):
            monkeypatch.setattr(arrivals, "_KEPT", patience)
            connections = arrivals._Connections(f"http://127.0.0.1:{port}")
            opened.clear()
            await connections.open(1)
            for _ in range(3):
                assert await connections.exchange(b"GET / HTTP/1.1\r\n\r\n") == answer
            counts.append(len(opened))
            connections.close()
        server.close()
        await asyncio.gather(*(writer.wait_closed() for writer in opened))
        return counts

    assert asyncio.run(asked()) == [1, 3]


def test_memory_that_rises_is_seen_and_noise_is_not() -> None:
    rising = [(float(minute), 100 + minute * 0.5 + minute % 2) for minute in range(60)]
    assert slope(rising).an_hour == pytest.approx(30, abs=1)
    assert slope(rising).verdict(6) == "missed"
    filled = [(float(minute), min(minute, 10) + 100.0 + minute % 2) for minute in range(60)]
    assert slope(filled).verdict(6) == "met", "caches fill at first"
    assert slope(rising[:2]).verdict(6).startswith("not known")
    assert plot(rising, "50 a second").startswith("<svg")


def test_requests_that_cannot_be_measured_are_refused_with_the_reason() -> None:
    told: dict[str, Any] = {
        "resourceType": "OperationOutcome",
        "issue": [{"diagnostics": "No\nway"}],
    }
    assert Reply(400, {}, json.dumps(told).encode()).why == "400 No way"
    assert Reply(502, {}, b"<html>").why == "502 <html>"
    with pytest.raises(Refused, match="no answer"):
        ask(b"GET / HTTP/1.1\r\n\r\n", "http://127.0.0.1:1")


@contextmanager
def _rude(answers: int) -> Iterator[str]:
    """A server that closes connections without a word after so many answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    left = itertools.count(answers, -1)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(ConnectionError):
                    while connection.recv(65536) and next(left) > 0:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/fhir"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def test_a_server_that_breaks_off_is_left_out_and_the_bench_goes_on() -> None:
    terms = Terms(rounds=2, seconds=0.02, connections=1, warm=0.0)
    case = Case("rude", lambda _, target: lambda _: raw("GET", target, ""))
    with _rude(1) as rude, _rude(10**9) as polite, bare() as base:
        servers = [Peer(Target(rude), "rude"), Peer(Target(polite), "polite")]
        broken, whole = Passes(base, servers, Data(), terms, token=False).measure(case)
    assert broken.refused.startswith("broke off: ")
    assert "left out: broke off" in report.line(broken)
    assert whole.refused == ""
    assert len(whole.runs) == 2
    assert report.figures([broken, whole])[0]["refused"] == broken.refused


def test_nothing_is_loaded_into_a_database_that_has_everybody(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has everybody already"):
        bulk.loading(Options(store="mongodb://localhost/bench"), tmp_path / "load", 10)


def test_how_long_it_takes_is_said_before() -> None:
    told = [report.expected(Terms(rounds), 10_000, CASES, 1) for rounds in (5, 50)]
    short, long = (int(one.split()[-2]) for one in told)
    assert told[0].startswith(f"{len(CASES)} cases")
    assert 5 < short < 15
    assert long > short + 25


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "raed"), "No case has 'raed' in its name: read, vread, "),
        (("--growth", "--only", "raed"), "No line has 'raed' in its name: resources: read, "),
        (("--growth", "--resources", "500"), "--growth needs --resources of 600 at the least"),
    ],
)
def test_a_bench_of_nothing_is_refused(words: tuple[str, ...], said: str) -> None:
    ran = CliRunner().invoke(bench.main, words)
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_what_is_printed_is_kept_also_of_a_bench_that_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: Any) -> None:
        words[-1]["rows"] = ["those so far"]
        click.echo("a line")
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_table", broken)
    ran = CliRunner().invoke(bench.main, ["--results", str(tmp_path)])
    assert ran.exit_code == 1
    assert "a line" in ran.stdout
    (saved,) = tmp_path.glob("bench-*.json")
    told = json.loads(saved.read_text())
    assert told["rows"] == ["those so far"]
    assert told["printed"] == "a line\n"


def test_each_case_is_taken_by_a_server_and_counted(tmp_path: Path) -> None:
    terms = Terms(rounds=1, seconds=0.02, connections=1, warm=0.0)
    with ours(Options(resources=300), tmp_path) as server, bare() as base:
        for case in CASES:
            made = case.prepare(server.data, server.target)
            tried(made(0), server.target.base, entries=case.entries)
        missing = Peer(Target(f"{server.target.base}/nothing"), "peer")
        row, peer = Passes(base, [server, missing], server.data, terms, token=False).measure(
            CASES[0]
        )
        assert row.runs[0].times
        assert row.verdict in ("met", "missed")
        assert peer.refused.startswith("404")
        asked = raw("GET", server.target, "Patient/nobody")
        found = asyncio.run(arrive(server.target.base, lambda _: asked, rate=100, seconds=0.1))
        assert [one.status for one in found] == [404] * 10
        assert found[0].header(b"content-type").startswith(b"application/fhir+json")
