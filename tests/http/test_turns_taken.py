"""More than the server can do: who has a turn is answered, the others are told to come again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fhir_server.access.guarded import GuardedReader
from fhir_server.errors import FhirError, Kind
from fhir_server.http.turns import Turns
from fhir_server.settings import Settings
from tests.http.serving import served
from tests.support import assert_outcome

PATIENT = {"resourceType": "Patient"}


class _Work:
    """Work that is done when it is let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.let_go = asyncio.Event()

    async def do(self, number: int) -> int:
        self.begun.append(number)
        await self.let_go.wait()
        return number


def _asked(turns: Turns, work: _Work, number: int) -> "asyncio.Task[int]":
    return asyncio.create_task(turns.in_turn(lambda: work.do(number)))


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_so_many_are_worked_at_and_the_others_wait_in_order() -> None:
    turns, work = Turns(2, 60.0), _Work()
    asked = [_asked(turns, work, number) for number in range(8)]
    await _settle()
    assert work.begun == [0, 1]
    work.let_go.set()
    assert await asyncio.gather(*asked) == [*range(8)]
    assert work.begun == [*range(8)]


async def test_a_full_queue_refuses_at_once() -> None:
    turns, work = Turns(1, 60.0), _Work()
    asked = [_asked(turns, work, number) for number in range(17)]
    await _settle()
    with pytest.raises(FhirError) as refused:
        await turns.in_turn(lambda: work.do(99))
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.retry_after == 60
    work.let_go.set()
    await asyncio.gather(*asked)
    assert 99 not in work.begun


async def test_who_waits_too_long_is_refused_and_takes_no_turn() -> None:
    turns, work = Turns(1, 0.01), _Work()
    first = _asked(turns, work, 1)
    await _settle()
    with pytest.raises(FhirError, match="nothing was done, try again in 1 s"):
        await turns.in_turn(lambda: work.do(2))
    work.let_go.set()
    assert await first == 1
    assert await turns.in_turn(lambda: work.do(3)) == 3
    assert work.begun == [1, 3]


async def test_while_waiting_is_in_vain_nobody_new_should_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("fhir_server.http.turns.monotonic", lambda: now[0])
    turns, work = Turns(1, 0.01), _Work()
    first = _asked(turns, work, 0)
    await _settle()
    found = [turns.is_hopeless]
    with pytest.raises(FhirError):
        await turns.in_turn(lambda: work.do(1))
    found.append(turns.is_hopeless)
    later = _asked(turns, work, 2)
    await _settle()
    found.append(turns.is_hopeless)
    now[0] += 0.003
    found.append(turns.is_hopeless)
    # Nobody has given up; nobody waits, so who comes is next; now; for a moment alone.
    assert found == [False, False, True, False]
    work.let_go.set()
    await asyncio.gather(first, later, return_exceptions=True)


async def test_who_is_refused_at_the_door_is_not_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(settings) as client:
        monkeypatch.setattr(Turns, "is_hopeless", True)
        asked = {"x-request-id": "one"}
        refused = await client.post("Nothing?_format=xml", content=b"{", headers=asked)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"].startswith("application/fhir+xml")
        assert refused.headers["x-request-id"] == "one"
        assert b"too much to do" in refused.content
        monkeypatch.undo()
        assert (await client.get("Patient")).status_code == 200


async def test_who_goes_away_passes_the_turn_on() -> None:
    turns, work = Turns(1, 60.0), _Work()
    asked = [_asked(turns, work, number) for number in range(3)]
    await _settle()
    work.let_go.set()
    # When the first has passed its turn to the second, which has not noticed it yet.
    asyncio.get_running_loop().call_soon(asked[1].cancel)
    assert await asked[2] == 2
    assert await turns.in_turn(lambda: work.do(3)) == 3
    assert work.begun == [0, 2, 3]


async def test_work_that_fails_gives_its_turn_back() -> None:
    turns = Turns(1, 0.01)

    async def fail() -> None:
        raise FhirError(Kind.CONFLICT, "No")

    for _ in range(3):
        with pytest.raises(FhirError, match="No"):
            await turns.in_turn(fail)


async def test_a_bound_of_nothing_is_none() -> None:
    turns, work = Turns(0), _Work()
    asked = [_asked(turns, work, number) for number in range(500)]
    await _settle()
    assert len(work.begun) == 500
    work.let_go.set()
    await asyncio.gather(*asked)


async def test_a_server_with_too_much_to_do_says_so_and_does_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, let_go, read = asyncio.Event(), asyncio.Event(), GuardedReader.read

    async def slow(session: GuardedReader, *asked: Any) -> Any:
        here.set()
        await let_go.wait()
        return await read(session, *asked)

    async with served(settings, max_at_once=1, turn_patience=0.05) as client:
        monkeypatch.setattr(GuardedReader, "read", slow)
        reading = asyncio.create_task(client.get("Patient/nobody"))
        await here.wait()
        refused = await client.post("Patient", json=PATIENT, headers={"x-request-id": "one"})
        assert_outcome(refused, 503, "transient", "too much to do")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-request-id"] == "one"
        health = await client.get(str(client.base_url).replace("/fhir/", "/health/ready"))
        assert health.status_code == 200, "who watches over the server waits for nobody"
        let_go.set()
        assert (await reading).status_code == 404
        assert (await client.get("Patient?_summary=count")).json()["total"] == 0
        again = await client.post("Patient", json=PATIENT, headers={"x-request-id": "one"})
        assert again.status_code == 201, "a refusal is not kept as the answer of that id"


async def test_who_sends_a_body_slowly_keeps_nobody_waiting(settings: Settings) -> None:
    sending, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"resourceType":'
        sending.set()
        await rest.wait()
        yield b'"Patient"}'

    declared = {"content-type": "application/fhir+json"}
    async with served(settings, max_at_once=1, turn_patience=0.05) as client:
        slow = asyncio.create_task(client.post("Patient", content=body(), headers=declared))
        await sending.wait()
        assert (await client.post("Patient", json=PATIENT)).status_code == 201
        rest.set()
        assert (await slow).status_code == 201
