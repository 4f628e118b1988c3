"""Servers that are not ours: what they lack is told, and is no failure of the run.

A small server stands for them here, as others do what this project's does not: it says of itself
what a test wants, and calls itself by another address, as one behind a proxy does.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
from click.testing import CliRunner

from fhir_server.region import Asked
from loadtests import foreign, load
from loadtests.foreign import Found, Known, look
from loadtests.people import Identity, people_of
from loadtests.playing import Asker, Judge
from loadtests.scenarios.acting import (
    COUNTING,
    Actor,
    Answer,
    Wrong,
    is_first,
    moved_on_from,
)
from loadtests.serving import CannotRun
from loadtests.tokens import Tokens

REGION: Final = Asked(register=8, as_of=date(2026, 6, 1))
PEOPLE: Final = people_of(REGION)
ELSEWHERE: Final = "https://fhir.inside.example/r4"
READS: Final = [{"code": "read"}, {"code": "search-type"}]
GOAL: Final = {"resourceType": "Goal", "id": "one"}


@dataclass
class Stranger:
    """What the server says.

    Args:
        resources: of its CapabilityStatement.
        included: what comes with plans.
    """

    base: str = ""
    resources: list[dict[str, Any]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    included: list[dict[str, Any]] = field(default_factory=list)
    calls_itself: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        name = path.removeprefix("/r4/")
        if name == "metadata":
            return 200, self._statement()
        if self.status != 200:
            return self.status, {}
        if name.startswith("Patient/"):
            known = name.partition("/")[2] in {one.id for one in PEOPLE}
            return (200, {"resourceType": "Patient", "id": name[8:]}) if known else (404, {})
        link = [{"relation": "self", "url": f"{self.calls_itself or self.base}/{name}"}]
        entries = [{"resource": one} for one in self.included]
        return 200, {"resourceType": "Bundle", "link": link, "entry": entries}

    def _statement(self) -> dict[str, Any]:
        operations = [{"name": name} for name in self.operations]
        rest = {"mode": "server", "resource": self.resources, "operation": operations}
        return {"resourceType": "CapabilityStatement", "rest": [rest]}


@contextmanager
def _running(stranger: Stranger) -> Iterator[Stranger]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = stranger.answer(self.path)
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stranger.base = f"http://127.0.0.1:{server.server_address[1]}/r4"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield stranger
    finally:
        server.shutdown()
        server.server_close()


def _looked(stranger: Stranger) -> Found:
    with _running(stranger):
        return look(_known(stranger.base), REGION)


def _known(base: str, key: Path | None = None, token_url: str = "") -> Known:
    return Known(base, "load" if key else "", key, token_url, ())


def _left_out(found: Found) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in found.left_out)


def test_what_a_server_has_no_operation_for_is_left_out_with_a_line() -> None:
    left = _left_out(_looked(Stranger(included=[GOAL])))
    assert left["morning_rush"] == "the server has no $caseload"
    assert left["night_export"] == "the server has no $export"
    assert "several organisations" in left["wild_retries"]
    found = _looked(Stranger(included=[GOAL], operations=["export"]))
    assert found.scenarios == ["partners", "keyworkers", "night_export"]
    assert found.remarks == []


def test_what_a_server_says_that_it_cannot_do_to_a_type_is_not_asked_of_it() -> None:
    found = _looked(Stranger(resources=[{"type": "Goal", "interaction": READS}]))
    assert found.scenarios == ["partners"]
    assert _left_out(found)["keyworkers"] == "the server says that it has no update of Goal"
    nothing = [{"type": name, "interaction": [{"code": "vread"}]} for name in ("Goal", "CarePlan")]
    with pytest.raises(CannotRun, match=r"nothing can be played there: partners: the server says"):
        _looked(Stranger(resources=nothing))


def test_goals_that_do_not_come_with_plans_are_not_waited_for() -> None:
    found = _looked(Stranger())
    assert "goals with plans" in found.lacks
    assert found.remarks == [
        "it has not answered _include=CarePlan:goal: plans are asked for without goals"
    ]
    assert "goals with plans" not in _looked(Stranger(included=[GOAL])).lacks


def test_no_conflict_is_asked_of_a_server_that_does_not_look_at_if_match() -> None:
    found = _looked(
        Stranger(resources=[{"type": "Goal", "versioning": "versioned"}], included=[GOAL])
    )
    assert found.lacks == ["counting", "conflicts"]
    assert found.remarks == ["it says that Goals are versioned: no conflict is asked for"]
    aware = [{"type": "Goal", "versioning": "versioned-update"}]
    assert _looked(Stranger(resources=aware, included=[GOAL])).lacks == ["counting"]


def test_links_of_a_server_that_calls_itself_otherwise_lead_to_where_it_is_asked() -> None:
    found = _looked(Stranger(calls_itself=ELSEWHERE, included=[GOAL]))
    assert found.calls_itself == ELSEWHERE
    assert found.remarks[0].startswith(f"its links begin with {ELSEWHERE}: http://127.0.0.1:")
    kept = _Kept()
    asker = Asker("http://127.0.0.1:1/r4", None, kept, ELSEWHERE)
    for path in (f"{ELSEWHERE}/CarePlan?page=2", "CarePlan?page=2", "/r4/CarePlan?page=2"):
        asker("page", "GET", path)
    assert kept.urls == ["http://127.0.0.1:1/r4/CarePlan?page=2"] * 3


@dataclass
class _Kept:
    """A transport that sends nothing."""

    urls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __call__(
        self, name: str, method: str, url: str, body: Any, headers: Any, judge: Judge
    ) -> Answer:
        del name, method, body, headers
        self.urls.append(url)
        answer = Answer(200, {}, b"{}")
        judge(answer)
        return answer

    def lost(self, name: str, fault: str) -> None:
        self.faults.append(f"{name}: {fault}")


def _actor(*lacks: str) -> Actor:
    asker = Asker("http://127.0.0.1:1/r4", None, _Kept())
    return Actor(asker, Identity("all", "anyone", "", ()), [], [], lambda _: None, lacks=lacks)


def _version(told: str, body: str = "") -> Answer:
    content = json.dumps({"meta": {"versionId": body or told}}).encode()
    return Answer(200, {"etag": f'W/"{told}"'}, content)


def test_versions_of_others_are_any_text_that_is_another_one_each_time() -> None:
    ours, other = _actor(), _actor(COUNTING)
    moved_on_from("a7", other)(_version("f3"))
    is_first(other)(_version("4711"))
    moved_on_from("1", ours)(_version("2"))
    for actor, before, now in ((other, "a7", "a7"), (ours, "1", "1"), (ours, "1", "3")):
        with pytest.raises(Wrong, match=f"version {now} after {before}"):
            moved_on_from(before, actor)(_version(now))
    with pytest.raises(Wrong, match="ETag and versionId differ"):
        moved_on_from("a7", other)(_version("f3", "f4"))
    with pytest.raises(Wrong, match="an old version"):
        is_first(ours)(_version("2"))


def test_whoever_gets_no_token_has_each_request_counted_as_a_fault(tmp_path: Path) -> None:
    kept = _Kept()
    base = "http://127.0.0.1:1/r4"
    asker = Asker(base, Tokens(f"{base}/token", "x", tmp_path / "no.json", ()), kept)
    with pytest.raises(Wrong, match="no token"):
        asker("goal: read", "GET", "Goal/1")
    assert kept.urls == []
    (fault,) = kept.faults
    assert fault.startswith("goal: read: no token: ")
    assert "no.json" in fault


def test_a_scope_that_only_reads_is_told_from_one_that_writes() -> None:
    for writes in ("system/*.cruds", "system/Goal.cu", "user/*.write", "system/*.*", "a/b.rus"):
        assert foreign._may_write(writes), writes
    for reads in ("system/*.rs", "system/Goal.read", "system/*.r openid launch", ""):
        assert not foreign._may_write(reads), reads


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("127.0.0.1:1/fhir", "has to begin with http:// or https://, not '127.0.0.1:1/fhir'"),
        ("http://127.0.0.1:1/fhir", "http://127.0.0.1:1/fhir/metadata: "),
    ],
)
def test_a_server_that_cannot_be_asked_is_said_so_with_status_2(base: str, said: str) -> None:
    ran = CliRunner().invoke(load.main, ["run", "--server", base])
    assert ran.exit_code == 2
    assert ran.stderr.startswith("Error: ")
    assert said in ran.stderr
    assert ran.exception is None or isinstance(ran.exception, SystemExit)


def test_a_server_that_asks_for_tokens_is_said_so() -> None:
    with pytest.raises(CannotRun, match="401; it asks for tokens: give --client-id and --key"):
        _looked(Stranger(status=401))
    with pytest.raises(CannotRun, match="403; the token is not for that"):
        _looked(Stranger(status=403))


def test_a_key_that_is_none_is_said_so(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"keys": []}')
    stranger = Stranger()
    with (
        _running(stranger),
        pytest.raises(CannotRun, match="no private JSON Web Key with kid and alg"),
    ):
        look(_known(stranger.base, key, f"{stranger.base}/token"), REGION)


@pytest.mark.parametrize(
    "words", [("--seconds", "-1"), ("--pace", "0"), ("--processes", "0"), ("--steps", "5,x")]
)
def test_options_without_sense_are_refused(words: tuple[str, str]) -> None:
    ran = CliRunner().invoke(load.main, ["run", *words])
    assert ran.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in ran.stderr
