"""Gives the scenarios a clock, users and processes: `locust -f loadtests/locustfile.py`.

What is run stands in the file that the environment variable LOADTEST_PLAN names. In the plan's
folder each process writes a line for each request, `samples-….ndjson`, and at the end how many
actions there were; the one that leads writes when each step began. Locust replaces the sockets of
its process: nothing else imports this module.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from json import dumps
from pathlib import Path
from typing import Any, Final, TextIO

import gevent
from locust import FastHttpUser, LoadTestShape, constant_pacing, events

from loadtests.plan import VARIABLE, read
from loadtests.playing import Judge, Stage, scenarios_of
from loadtests.samples import Sample, store_ms
from loadtests.scenarios.acting import Answer, Scenario, Wrong

_PLAN: Final = read(Path(os.environ[VARIABLE]))
_FOLDER: Final = Path(_PLAN.folder)
_STAGE: Final = Stage(_PLAN, gevent.sleep)

_ACTIONS: Final[Counter[str]] = Counter()


@cache
def _lines(process: int) -> TextIO:
    """The file of this process: Locust forks some from the one that has read this module."""
    return (_FOLDER / f"samples-{process}.ndjson").open("w", buffering=1 << 16)


def _part(environment: Any) -> tuple[int, int]:
    """Which of the processes that make load this is."""
    index = getattr(environment.runner, "worker_index", -1)
    return (max(0, index) % _PLAN.processes, _PLAN.processes)


class _Transport:
    """Over the client of a Locust user, which keeps its connection."""

    def __init__(self, client: Any, scenario: str) -> None:
        self._client = client
        self._scenario = scenario

    def __call__(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> Answer:
        at, began = time.time(), time.perf_counter()
        with self._client.request(
            method, url, name=name, data=body, headers=dict(headers), catch_response=True
        ) as response:
            took = (time.perf_counter() - began) * 1000
            answer = _answer(response)
            fault = judge(answer)
            if fault:
                response.failure(fault)
            else:
                response.success()
        store = store_ms(answer.headers.get("server-timing", ""))
        sample = Sample(at, self._scenario, name, took, answer.status, fault, store)
        _lines(os.getpid()).write(sample.line())
        return answer

    def lost(self, name: str, fault: str) -> None:
        sample = Sample(time.time(), self._scenario, name, 0.0, 0, fault[:200])
        _lines(os.getpid()).write(sample.line())


def _answer(response: Any) -> Answer:
    headers = {name.lower(): one for name, one in (response.headers or {}).items()}
    return Answer(response.status_code or 0, headers, response.content or b"")


def _user(scenario: Scenario) -> type[Any]:
    """A class of Locust users that play it."""

    def on_start(self: Any) -> None:
        _STAGE.part = _part(self.environment)
        self.transport = _Transport(self.client, scenario.name)
        self.actor = _STAGE.actor(scenario, self.transport)

    def act(self: Any) -> None:
        _ACTIONS[scenario.name] += 1
        try:
            scenario.play(self.actor)
        except Wrong:
            return  # counted where it was found
        except Exception as error:
            self.transport.lost("an action", f"broke off: {error!r}")
            raise

    own: dict[str, Any] = {
        "host": _PLAN.base,
        "tasks": [act],
        "on_start": on_start,
        "wait_time": constant_pacing(_PLAN.pace),
        "weight": max(1, scenario.weight),
        "fixed_count": 0 if scenario.weight else 1,
        "connection_timeout": 30.0,
        "network_timeout": 60.0,
    }
    return type(scenario.name.title().replace("_", ""), (FastHttpUser,), own)


# Each under one name alone: Locust takes every one for a class of its own.
globals().update({one.name: _user(one) for one in scenarios_of(_PLAN)})


def _tick(self: Any) -> tuple[int, float] | None:
    """The users of the step that it is time for; None when all are over."""
    passed = self.get_run_time()
    for number, step in enumerate(_PLAN.steps):
        if passed < step.seconds:
            if number != getattr(self, "at_step", -1):
                self.at_step = number
                _begin(number, step.users)
            return step.users, float(step.users)
        passed -= step.seconds
    return None


def _begin(number: int, users: int) -> None:
    with (_FOLDER / "steps.ndjson").open("a" if number else "w") as file:
        file.write(dumps({"step": number, "users": users, "at": time.time()}) + "\n")


Steps: Final = type("Steps", (LoadTestShape,), {"tick": _tick})


def _keep(**_: Any) -> None:
    """At the end of the steps, and again when the process ends."""
    _lines(os.getpid()).flush()
    (_FOLDER / f"actions-{os.getpid()}.json").write_text(dumps(_ACTIONS))


events.test_stop.add_listener(_keep)
events.quitting.add_listener(_keep)
