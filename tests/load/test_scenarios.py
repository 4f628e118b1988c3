"""The scenarios against one server with a region, real tokens and consent: no clock, no Locust.

What answers are held against is worked out of the region by `loadtests.people`, and not by the
server; so the two are compared here once in full.
"""

import json
import random
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner, Result

from fhir_server.region import Asked
from loadtests import foreign, load, plan, serving, thresholds
from loadtests.people import Identity
from loadtests.plan import Client, Plan, Step
from loadtests.playing import Asker, Judge, Stage
from loadtests.samples import Sample
from loadtests.scenarios import ALL, BY_NAME
from loadtests.scenarios.acting import (
    Actor,
    Answer,
    Pool,
    Scenario,
    Wrong,
    all_among,
    resources,
    subject,
)
from loadtests.serving import CannotRun
from loadtests.tokens import NoToken, Tokens
from loadtests.watching import Receivers, machine, receiving, used
from tests.support import REPOSITORY

REGION: Final = Asked(register=30, as_of=datetime.now(UTC).date())


@dataclass
class Played:
    """A transport over httpx that keeps what was asked."""

    client: httpx.Client
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    bearers: set[str] = field(default_factory=set)

    def __call__(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> Answer:
        response = self.client.request(method, url, content=body, headers=dict(headers))
        answer = Answer(response.status_code, dict(response.headers), response.content)
        self.counts[name] += 1
        self.bearers.add(headers.get("Authorization", ""))
        fault = judge(answer)
        if fault:
            self.faults.append(f"{name}: {fault}: {response.text[:300]}")
        return answer

    def lost(self, name: str, fault: str) -> None:
        self.faults.append(f"{name}: {fault}")


@dataclass
class World:
    """The server, its region and all who act."""

    plan: Plan
    pid: int
    transport: Played
    receivers: Receivers

    def stage(self, **changed: Any) -> Stage:
        return Stage(replace(self.plan, **changed), time.sleep)

    def client(self, kind: str) -> Client:
        return self.plan.clients_of(kind)[0]

    def play(self, name: str, times: int, seed: int = 1) -> Counter[str]:
        """What was asked, when it was played so often without a fault."""
        self.transport.counts.clear()
        stage = Stage(self.plan, time.sleep, seed=seed)
        for _ in range(times):
            BY_NAME[name].play(stage.actor(BY_NAME[name], self.transport))
        assert self.transport.faults == []
        return Counter(self.transport.counts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("load")
    told = serving.make_region(REGION, folder)
    assert "Refused" not in told
    clients = serving.register(REGION, folder)
    with (
        receiving() as receivers,
        serving.serving(
            REGION, folder, folder / "served", workers=1, notices_to=receivers.origins
        ) as served,
        httpx.Client(timeout=30) as client,
    ):
        steps = [Step(2, 2.0), Step(4, 2.5)]
        names = [one.name for one in ALL]
        made = Plan(served.base, served.token_url, str(folder), REGION, clients, names, steps)
        made = replace(made, receivers=receivers.addresses, pace=0.5)
        yield World(made, served.pid, Played(client), receivers)


def _found(world: World, client: Client, path: str) -> list[dict[str, Any]]:
    """What the client finds, over all pages."""
    stage = world.stage()
    asker = Asker(world.plan.base, stage.tokens_of(client), world.transport)
    return resources(asker("all of it", "GET", path))


@pytest.mark.parametrize("kind", ["partner", "keyworker"])
def test_who_sees_whom_is_what_the_region_says(world: World, kind: str) -> None:
    """Were it told wrongly, a load test would cry out at right answers, or not at wrong ones."""
    cast = world.stage().cast()
    for client in world.plan.clients_of(kind):
        due = {one.id for one in cast.concerned(client.identity) if one.has_plan}
        found = {subject(one) for one in _found(world, client, "CarePlan?_count=500")}
        assert found == due, client.identity.name
        assert {one.id for one in cast.hidden(client.identity)}.isdisjoint(found)


def test_an_inpatient_unit_sees_who_is_in_its_beds(world: World) -> None:
    cast = world.stage().cast()
    units = world.plan.clients_of("unit")
    for client in units:
        due = {one.id for one in cast.people if client.identity.sees(one)}
        found = {subject(one) for one in _found(world, client, "CarePlan?_count=500")}
        assert found == due, client.identity.name
    assert any(client.identity.sees(one) for one in cast.people for client in units)


EXPECTED: Final = {
    "partners": {"plans with goals of one", "goal: read", "page of plans"},
    "keyworkers": {"visit: create", "goal: update", "goal: conflict", "task: update"},
    "morning_rush": {"caseload", "tasks of one"},
    "inpatient_units": {
        *("admission", "admission again", "late admission", "transfer", "discharge"),
        *("plans of who is in the bed", "hidden: plans after the discharge"),
    },
    "commissioner": {"report", "hidden: read"},
    "night_export": {"export: begin", "export: file", "export: clear away"},
    "subscribers": {"subscription: create (dead)", "subscriptions: status"},
    "wild_retries": {"wild: half a body", "wild: a task that is none", "wild: no token of ours"},
}
TIMES: Final = {
    "partners": (8, 1),
    "keyworkers": (5, 56),
    "morning_rush": (2, 1),
    "inpatient_units": (4, 87),
    "commissioner": (2, 1),
    "night_export": (1, 1),
    "subscribers": (2, 1),
    "wild_retries": (5, 24),
}
"""How often each is played, and a seed with which all is asked by then."""


@pytest.mark.parametrize("name", BY_NAME)
def test_each_scenario_asks_what_it_should_and_is_answered_rightly(world: World, name: str) -> None:
    asked = world.play(name, *TIMES[name])
    assert EXPECTED[name] - asked.keys() == set()


def test_what_must_be_refused_is_asked_for_and_an_answer_to_it_is_a_failure(world: World) -> None:
    """Whoever sees all of the test data plays a partner, to whom most of it is hidden."""
    partner, all_seeing = world.client("partner"), world.client("exporter")
    stage = world.stage()
    cast = stage.cast()
    asker = Asker(world.plan.base, stage.tokens_of(all_seeing), Played(world.transport.client))
    hidden = cast.hidden(partner.identity)
    actor = Actor(asker, partner.identity, cast.concerned(partner.identity), hidden, time.sleep)
    for _ in range(4):
        with pytest.raises(Wrong, match=r"hidden: \w+: answered what must be refused"):
            actor.ask_for_what_is_hidden()


def test_a_page_with_somebody_elses_record_is_a_failure(world: World) -> None:
    partner, all_seeing = world.client("partner"), world.client("exporter")
    stage = world.stage(
        clients=[replace(all_seeing, identity=replace(partner.identity, scopes=_SCOPES))]
    )
    actor = stage.actor(BY_NAME["partners"], Played(world.transport.client))
    path = "CarePlan?_count=100"
    actor.ask("all that this token shows", "GET", path)
    with pytest.raises(Wrong, match="a record that is not for this caller"):
        actor.ask("page of plans", "GET", path, check=all_among(actor.mine))


_SCOPES: Final = ("system/*.rs",)


@dataclass
class Broken(Played):
    """As of a server that is broken: what is asked is changed before it gets there."""

    breaks: Callable[[str, dict[str, str]], str] = field(kw_only=True)
    samples: list[Sample] = field(default_factory=list)

    def __call__(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> Answer:
        def judged(answer: Answer) -> str:
            fault = judge(answer)
            self.samples.append(Sample(0.0, "broken", name, 1.0, answer.status, fault))
            return fault

        changed = dict(headers)
        broken = self.breaks(url, changed)
        return super().__call__(name, method, broken, body, changed, judged)


def _of_another(world: World) -> Callable[[str, dict[str, str]], str]:
    """Whoever is asked for, the plans of one and the same are answered."""
    (one, *_) = world.stage().cast().concerned(world.client("partner").identity)

    def breaks(url: str, headers: dict[str, str]) -> str:
        del headers
        return re.sub(r"patient=[^&]+", f"patient={one.id}", url)

    return breaks


def _without_consent(world: World) -> Callable[[str, dict[str, str]], str]:
    """Everybody sees what a token of a load test sees."""
    tokens = world.stage().tokens_of(world.client("exporter"))
    assert tokens is not None

    def breaks(url: str, headers: dict[str, str]) -> str:
        headers["Authorization"] = f"Bearer {tokens.current()}"
        return url

    return breaks


def _without_if_match(world: World) -> Callable[[str, dict[str, str]], str]:
    """Whatever version is named, it is taken for the newest."""

    def breaks(url: str, headers: dict[str, str]) -> str:
        if "If-Match" in headers:
            token = {"Authorization": headers["Authorization"]}
            headers["If-Match"] = world.transport.client.get(url, headers=token).headers["etag"]
        return url

    return breaks


@pytest.mark.parametrize(
    ("name", "breaking", "fault"),
    [
        ("partners", _of_another, "plans with goals of one: the record of another young person"),
        ("partners", _without_consent, "hidden: search: answered what must be refused"),
        ("partners", _without_consent, "page of plans: a record that is not for this caller"),
        ("keyworkers", _without_if_match, "goal: conflict: answered what must be refused"),
    ],
)
def test_a_server_that_is_broken_on_purpose_misses_the_threshold_of_wrong_answers(
    world: World,
    name: str,
    breaking: Callable[[World], Callable[[str, dict[str, str]], str]],
    fault: str,
) -> None:
    transport = Broken(world.transport.client, breaks=breaking(world))
    stage, scenario = world.stage(), BY_NAME[name]
    actors = [stage.actor(scenario, transport) for _ in world.plan.clients_of(scenario.kind)]
    for actor in actors * 60:
        with suppress(Wrong):
            scenario.play(actor)
        if any(f"{one.name}: {one.fault}" == fault for one in transport.samples):
            break
    else:
        pytest.fail("nobody has seen it")
    bounds = thresholds.read()["always"]
    assert sum(map(thresholds.wrong, transport.samples)) > bounds["wrong"]


def test_who_is_in_a_stay_that_broke_off_is_not_admitted_again(world: World) -> None:
    """The unit sees their plans by right, as the discharge was refused."""
    actor = world.stage().actor(BY_NAME["inpatient_units"], world.transport)
    for whole in (False, True):
        free = actor.pool("to be admitted", lambda one: one.at_home).free
        pool, before = Pool(list(free)), len(free)
        with suppress(Wrong), pool.taken(random.Random(1), 1, whole=whole):  # noqa: S311
            raise Wrong("admission: status 503")
        assert len(pool.free) == (before - 1 if whole else before)


def test_tokens_are_used_again_and_renewed_in_time(world: World) -> None:
    client = world.client("partner")
    whole = (world.plan.token_url, client.client_id, Path(client.key), client.identity.scopes)
    kept, short = Tokens(*whole), Tokens(*whole, used=0.0)
    assert kept.current() == kept.current()
    assert kept.count == 1
    assert short.current() != short.current()
    assert short.count == 2
    with pytest.raises(NoToken, match=r"401 .*invalid_client"):
        Tokens(world.plan.token_url, "nobody", Path(client.key), ("system/*.rs",)).current()


def test_notices_reach_the_receivers_that_live(world: World) -> None:
    world.play("subscribers", 1)
    world.play("inpatient_units", 2)
    _eventually(lambda: world.receivers.taken["quick"] > 0)


def _eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def test_what_a_server_uses_is_read_from_its_processes(world: World) -> None:
    before, all_before = used(world.pid), machine()
    world.play("morning_rush", 3)
    after, all_after = used(world.pid), machine()
    assert after.cpu >= before.cpu > 0
    assert 30 < after.megabytes < 1000
    assert all_after.cpu > all_before.cpu > before.cpu


def test_on_another_server_what_it_cannot_do_is_left_out_with_a_line(world: World) -> None:
    exporter = world.client("exporter")
    known = foreign.Known(
        f"{world.plan.base}/", exporter.client_id, Path(exporter.key), "", ("system/*.rs",)
    )
    found = foreign.look(known, REGION)
    assert found.token_url == world.plan.token_url
    assert found.scenarios == ["partners", "night_export"]
    assert [line.partition(":")[0] for line in found.left_out] == [
        *("keyworkers", "morning_rush", "inpatient_units", "commissioner", "subscribers"),
        "wild_retries",
    ]
    assert found.left_out[0] == "keyworkers: the token is for reading alone (system/*.rs)"
    assert found.lacks == ["counting"], "plans come with their goals, and conflicts are refused"
    assert found.calls_itself == ""
    stage = world.stage(clients=[found.client], hides=False)
    transport = Played(world.transport.client)
    for scenario in (BY_NAME["partners"], BY_NAME["night_export"]):
        scenario.play(stage.actor(scenario, transport))
    assert transport.faults == []
    with pytest.raises(CannotRun, match="the region is not there"):
        foreign.look(known, replace(REGION, register=31))
    with pytest.raises(CannotRun, match="go together"):
        foreign.look(replace(known, key=None), REGION)


def test_locust_plays_a_plan_and_the_report_holds_it_against_the_thresholds(
    world: World, tmp_path: Path
) -> None:
    """Some seconds, headless; Locust runs in a process of its own, whose sockets it replaces."""
    folder = tmp_path / "raw"
    folder.mkdir()
    replace(world.plan, folder=str(folder)).write(tmp_path / "plan.json")
    bounds = tmp_path / "thresholds.toml"
    given = (REPOSITORY / "loadtests" / "thresholds.toml").read_text()
    bounds.write_text(given.replace("_ms = ", "_ms = 100").replace('" = ', '" = 100'))
    options = ["--to", str(tmp_path), "--thresholds", str(bounds)]
    ran = _load("run", "--plan", str(tmp_path / "plan.json"), *options)
    assert ran.exit_code == 0, ran.output
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["met"] is True
    (run,) = told["runs"]
    assert run["faults"] == []
    assert [step["users"] for step in run["steps"]] == [2, 4]
    assert {one["scenario"] for one in run["requests"]} >= {"commissioner", "night_export"}
    assert all(one["store"] >= 0 for one in run["requests"] if one["name"] == "report")
    assert "<svg" in (tmp_path / "report.html").read_text()

    bounds.write_text(given.replace("p99_ms = 2000", "p99_ms = 0.001"))
    missed = _load("report", str(folder), *options)
    assert missed.exit_code == 1
    assert "Missed: 4 users: p99, ms" in missed.stdout
    nothing = _load("report", str(tmp_path), *options)
    assert nothing.exit_code == 2
    assert "no requests were made" in nothing.stderr


def _load(*words: str) -> Result:
    return CliRunner().invoke(load.main, [*words], catch_exceptions=False)


def test_a_plan_is_read_as_it_was_written(world: World, tmp_path: Path) -> None:
    world.plan.write(tmp_path / "plan.json")
    assert plan.read(tmp_path / "plan.json") == world.plan


def test_a_server_elsewhere_gets_a_plan_keys_and_the_lines_that_register_them(
    tmp_path: Path,
) -> None:
    one = replace(REGION, register=1)
    to, place = tmp_path / "to", tmp_path / "place"
    place.mkdir()
    options = ["--register", "1", "--to", str(to), "--server", "https://there.example/fhir/"]
    ran = _load("prepare", *options)
    assert ran.exit_code == 0, ran.output
    assert "KEYWORKING_INPATIENT_UNITS=ZZ" in ran.stdout
    made = plan.read(to / "plan.json")
    assert (made.base, made.token_url) == (
        "https://there.example/fhir",
        "https://there.example/auth/token",
    )
    assert made.folder == str(to)
    assert all(Path(client.key).is_file() for client in made.clients)
    assert "subscribers" not in made.scenarios
    serving.make_region(one, place)
    store = f"sqlite:///{place / 'region.db'}"
    lines = [shlex.split(line)[1:] for line in (to / "clients.sh").read_text().splitlines()]
    with chdir(to):
        for words in lines:
            serving.command(*words, "--store", store)
    listed = serving.command("client", "list", "--store", store)
    assert len(listed.splitlines()) == len(made.clients)


def test_every_scenario_has_identities_that_play_it(world: World) -> None:
    def kinds(scenario: Scenario) -> set[Identity]:
        return {client.identity for client in world.plan.clients_of(scenario.kind)}

    assert all(kinds(scenario) for scenario in ALL)
    assert {path.stem for path in (REPOSITORY / "loadtests/scenarios").glob("*.py")} == {
        *BY_NAME,
        *("__init__", "acting", "messages"),
    }
