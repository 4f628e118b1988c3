"""A single resource is a register: what many clients see of it has one order.

After the register test of Jepsen (https://jepsen.io/consistency/models/linearizable): clients of
two server processes on one store read, update and update with If-Match, and write down when. The
checker is shown to refuse what is wrong before it is believed.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.linearizable import UNKNOWN, Kind, Operation, applied, is_linearizable
from tests.stores import KINDS, NIGHTLY, store_at
from tests.support import ServerProcess, body, put

CLIENTS: Final = 10
ROUNDS: Final = 20 if NIGHTLY else 1
OPERATIONS: Final = 20


def read(began: float, ended: float, value: str) -> Operation:
    return Operation(Kind.READ, began, ended, value)


def write(began: float, ended: float, value: str) -> Operation:
    return Operation(Kind.WRITE, began, ended, value)


def cas(began: float, ended: float, expected: str, value: str, done: bool = True) -> Operation:
    return Operation(Kind.CAS, began, ended, value, expected, done)


GOOD: Final[dict[str, list[Operation]]] = {
    "nothing": [],
    "one after the other": [
        write(0, 1, "a"),
        read(2, 3, "a"),
        cas(4, 5, "a", "b"),
        read(6, 7, "b"),
    ],
    "a read beside a write sees either": [write(0, 9, "a"), read(1, 2, "0"), read(3, 4, "a")],
    "of two beside each other one wins": [cas(0, 9, "0", "a"), cas(0, 9, "0", "b", False)],
    "a write without an answer is seen late": [
        write(0, UNKNOWN, "a"),
        read(1, 2, "0"),
        read(3, 4, "a"),
    ],
    "a write without an answer is never seen": [write(0, UNKNOWN, "a"), read(5, 6, "0")],
    "a compare without an answer": [cas(0, UNKNOWN, "0", "a"), read(1, 2, "0"), read(3, 4, "a")],
}
BAD: Final[dict[str, list[Operation]]] = {
    "a stale read": [write(0, 1, "a"), read(2, 3, "0")],
    "a value of nowhere": [write(0, 1, "a"), read(2, 3, "b")],
    "back again": [write(0, 9, "a"), read(1, 2, "a"), read(3, 4, "0")],
    "a lost update": [cas(0, 9, "0", "a"), cas(0, 9, "0", "b")],
    "refused for nothing": [cas(0, 1, "0", "a", False)],
    "seen before it was asked": [read(0, 1, "a"), write(2, 3, "a")],
    "two readers see two orders": [
        *(write(0, 1, "a"), write(0, 1, "b")),
        *(read(2, 3, "a"), read(4, 5, "b")),
    ],
    "made, and then not": [write(0, UNKNOWN, "a"), read(1, 2, "a"), read(3, 4, "0")],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_with_an_order_is_taken(name: str) -> None:
    assert is_linearizable(GOOD[name], "0")


@pytest.mark.parametrize("name", BAD)
def test_a_history_without_one_is_refused(name: str) -> None:
    assert not is_linearizable(BAD[name], "0")


VALUES: Final = st.sampled_from("0abc")
TIMES: Final = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)
OPERATION: Final = st.builds(
    lambda kind, times, *rest: Operation(kind, times[0], times[1], *rest),
    st.sampled_from(Kind),
    TIMES,
    VALUES,
    VALUES,
    st.booleans(),
)


@given(st.lists(OPERATION, max_size=5))
def test_it_finds_what_trying_all_orders_finds(history: list[Operation]) -> None:
    assert is_linearizable(history, "0") == any(map(_explains, permutations(history)))


def _explains(order: tuple[Operation, ...]) -> bool:
    """By the definition: no later one ended before an earlier one began, and each answer fits."""
    value: str | None = "0"
    for number, operation in enumerate(order):
        if any(later.ended < operation.began for later in order[number + 1 :]):
            return False
        value = None if value is None else applied(operation, value)
    return value is not None


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ServerProcess]]:
    """Two processes that serve one store."""
    folder: Path = tmp_path_factory.mktemp("register")
    store = store_at(folder / "register.db", request.param)
    patience = {"KEYWORKING_WRITE_PATIENCE": "120"}  # a busy machine refuses nobody
    both = [ServerProcess(store, folder / f"{n}.log", **patience) for n in range(2)]
    try:
        for process in both:
            process.start()
        yield both
    finally:
        for process in both:
            process.stop()


@pytest.fixture
async def clients(servers: list[ServerProcess]) -> AsyncIterator[list[httpx.AsyncClient]]:
    found = [
        httpx.AsyncClient(base_url=servers[n % 2].base + "/", timeout=60) for n in range(CLIENTS)
    ]
    yield found
    for client in found:
        await client.aclose()


class Register:
    """One Patient as a client uses it; its name is the value."""

    def __init__(self, client: httpx.AsyncClient, name: str, history: list[Operation]) -> None:
        self._client = client
        self._address = f"Patient/{name}"
        self._name = name
        self._history = history
        self._known = ("", "")
        """The last value that it saw, and its ETag."""

    async def operate(self, chosen: Kind, value: str) -> None:
        began = time.monotonic()
        if chosen is Kind.READ:
            response = await self._client.get(self._address)
            assert response.status_code == 200
            value = response.json()["name"][0]["text"]
            self._known = (value, response.headers["etag"])
            self._history.append(Operation(Kind.READ, began, time.monotonic(), value))
            return
        expected, etag = self._known if chosen is Kind.CAS else ("", "")
        response = await self._client.put(self._address, **self._request(value, etag))
        assert response.status_code in ((200, 412) if etag else (200,)), response.text
        done = response.status_code == 200
        if done:
            self._known = (value, response.headers["etag"])
        operation = Operation(chosen, began, time.monotonic(), value, expected, done)
        self._history.append(operation)

    def _request(self, value: str, etag: str) -> dict[str, Any]:
        request = body({"resourceType": "Patient", "id": self._name, "name": [{"text": value}]})
        if etag:
            request["headers"]["If-Match"] = etag
        return request


@pytest.mark.parametrize(
    ("servers", "round_"),
    [(kind, number) for kind in KINDS for number in range(ROUNDS)],
    indirect=["servers"],
    scope="module",
)
async def test_what_many_clients_see_of_one_resource_has_one_order(
    clients: list[httpx.AsyncClient], round_: int
) -> None:
    name = f"register-{round_}"
    await put(clients[0], {"resourceType": "Patient", "id": name, "name": [{"text": "0"}]})
    history: list[Operation] = []

    async def use(number: int) -> None:
        drawn = random.Random(f"{round_}-{number}")  # noqa: S311 - the same each time
        register = Register(clients[number], name, history)
        await register.operate(Kind.READ, "")
        for turn in range(OPERATIONS):
            kind = drawn.choices([*Kind], (4, 1, 4))[0]
            await register.operate(kind, f"{number}-{turn}")

    await asyncio.gather(*map(use, range(CLIENTS)))
    assert len(history) == CLIENTS * (OPERATIONS + 1)
    answers = {(operation.kind, operation.done) for operation in history}
    assert answers >= {(Kind.CAS, True), (Kind.CAS, False), (Kind.READ, True), (Kind.WRITE, True)}
    assert is_linearizable(history, "0")
    stale = max(history, key=lambda operation: operation.ended).ended + 1
    assert not is_linearizable([*history, Operation(Kind.READ, stale, stale, "0")], "0")
