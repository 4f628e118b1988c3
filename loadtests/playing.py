"""Puts actors together from a plan; how their requests travel is somebody else's."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from loadtests.people import Cast, people_of
from loadtests.plan import Client, Plan
from loadtests.scenarios import BY_NAME
from loadtests.scenarios.acting import FHIR_JSON, Actor, Answer, Check, Pool, Scenario, Wrong
from loadtests.tokens import NoToken, Tokens

Judge = Callable[[Answer], str]
"""What is wrong with an answer; empty for nothing."""


class Transport(Protocol):
    """Sends one request, counts it with what the judge says, and gives the answer.

    Status 0 is no answer.
    """

    def __call__(
        self,
        name: str,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> Answer: ...

    def lost(self, name: str, fault: str) -> None:
        """Count one that could not be sent."""


@dataclass(slots=True)
class Asker:
    """`Ask` of one client, over a transport."""

    base: str
    tokens: Tokens | None
    transport: Transport
    calls_itself: str = ""
    """What the server's links begin with in place of the base, if it calls itself otherwise."""

    def __call__(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: Sequence[int] = (200,),
        check: Check | None = None,
    ) -> Answer:
        url = self._address(path)
        sent = {**self._headers(name, url), **(headers or {})}
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = FHIR_JSON
        judged: list[str] = []

        def judge(answer: Answer) -> str:
            judged[:] = [_fault(answer, expect, check)]
            return judged[0]

        answer = self.transport(name, method, url, raw, sent, judge)
        if judged and judged[0]:
            raise Wrong(f"{name}: {judged[0]}")
        return answer

    def _address(self, path: str) -> str:
        if self.calls_itself and path.startswith(self.calls_itself):
            return self.base + path.removeprefix(self.calls_itself)
        return urljoin(f"{self.base}/", path)

    def _headers(self, name: str, url: str) -> dict[str, str]:
        """No token for another origin than the server's."""
        headers = {"Accept": FHIR_JSON}
        if self.tokens is not None and _origin(url) == _origin(self.base):
            try:
                headers["Authorization"] = f"Bearer {self.tokens.current()}"
            except NoToken as error:
                self.transport.lost(name, f"no token: {error}")
                raise Wrong(f"no token: {error}") from None
        return headers


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _fault(answer: Answer, expect: Sequence[int], check: Check | None) -> str:
    if answer.status not in expect:
        return _unexpected(answer, expect)
    if check is None or (answer.status >= 400 and answer.status not in expect):
        return ""
    try:
        check(answer)
    except Wrong as wrong:
        return str(wrong)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"an answer of another shape: {error!r}"
    return ""


def _unexpected(answer: Answer, expect: Sequence[int]) -> str:
    if answer.status == 0:
        return "no answer"
    if answer.status < 400 and min(expect) >= 400:
        return "answered what must be refused"
    return f"status {answer.status}"


@dataclass(slots=True)
class Stage:
    """Where actors come from: what is shared by all of one process."""

    plan: Plan
    sleep: Callable[[float], object]
    part: tuple[int, int] = (0, 1)
    seed: int = 1
    pools: dict[str, Pool] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)

    def actor(self, scenario: Scenario, transport: Transport) -> Actor:
        """The next one: clients of the scenario's kind take turns."""
        number = self.made[scenario.name] = self.made.get(scenario.name, 0) + 1
        clients = self.plan.clients_of(scenario.kind)
        client = clients[(number - 1) % len(clients)]
        cast = self.cast()
        return Actor(
            ask=Asker(self.plan.base, self.tokens_of(client), transport, self.plan.calls_itself),
            identity=client.identity,
            mine=cast.concerned(client.identity),
            hidden=cast.hidden(client.identity) if self.plan.hides else [],
            sleep=self.sleep,
            chance=Random(f"{self.seed}/{self.part}/{scenario.name}/{number}"),  # noqa: S311
            pools=self.pools,
            receivers=self.plan.receivers,
            part=self.part,
            lacks=self.plan.lacks,
        )

    def cast(self) -> Cast:
        return Cast(people_of(self.plan.asked))

    def tokens_of(self, client: Client) -> Tokens | None:
        if not client.key:
            return None
        if client.client_id not in self.tokens:
            self.tokens[client.client_id] = Tokens(
                self.plan.token_url,
                client.client_id,
                Path(client.key),
                client.identity.scopes,
            )
        return self.tokens[client.client_id]


def scenarios_of(plan: Plan) -> list[Scenario]:
    return [BY_NAME[name] for name in plan.scenarios]
