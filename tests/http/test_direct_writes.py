"""The short way of plain writes answers, stores and audits as the general one does."""

import asyncio
import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.http.direct_writes import DirectWrites
from fhir_server.storage.audited import AuditQuery
from tests.access import issuing
from tests.access.served import served as served_with_tokens
from tests.http.test_direct import FORMS, LONG, Served
from tests.http.wired import Wired, send

_ID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME: Final = re.compile(rb"lastUpdated[^,>]+|(last-modified|content-length): [^\r]+")
_NUMBER: Final = re.compile(rb'versionId[^,>]+|after [0-9]+|_history/[0-9]+|W/"[0-9]+"')
GOAL: Final = {
    "resourceType": "Goal",
    "lifecycleStatus": "active",
    "description": {"text": LONG},
    "subject": {"reference": "Patient/p1"},
}
BODY: Final = json.dumps(GOAL).encode()
OWN: Final = json.dumps({**GOAL, "id": "own"}).encode()
PATIENT: Final = b'{"resourceType": "Patient", "id": "p1", "gender": "female"}'
Sent = tuple[str, str, bytes, tuple[tuple[str, str], ...]]
PLAIN: Final[dict[str, Sent]] = {
    "create": ("POST", "Goal", BODY, ()),
    "create, as browsers do": (
        *("POST", "Goal", BODY),
        (("Accept", "*/*"), ("Accept-Encoding", "gzip, br"), ("X-Correlation-ID", "c")),
    ),
    "update": ("PUT", "Patient/p1", PATIENT, (("X-Request-ID", "mine"),)),
    "update of a version": ("PUT", "Goal/short", b"", (("If-Match", 'W/"1"'),)),
    "stale": ("PUT", "Goal/own", OWN, (("If-Match", 'W/"7"'),)),
    "another's type": ("POST", "Patient", BODY, ()),
    "another's id": ("PUT", "Goal/other", OWN, ()),
    "no JSON": ("POST", "Goal", b'{"resourceType": "Goal",', ()),
    "twice": ("POST", "Goal", b'{"resourceType": "Goal", "resourceType": "Goal"}', ()),
    "empty": ("POST", "Goal", b"", ()),
    "unsound": ("POST", "Goal", b'{"resourceType": "Goal", "lifecycleStatus": "no"}', ()),
    "a part": (
        *("POST", "Goal"),
        json.dumps({**GOAL, "meta": {"tag": [{"code": "SUBSETTED"}]}}).encode(),
        (),
    ),
}
OTHER: Final[dict[str, Sent]] = {
    "XML": ("POST", "Goal", b"<Goal/>", (("Content-Type", "application/fhir+xml"),)),
    "of no type": ("POST", "Goal", BODY, (("Content-Type", "text/plain"),)),
    "conditional": ("POST", "Goal", BODY, (("If-None-Exist", "identifier=x"),)),
    "minimal": ("POST", "Goal", BODY, (("Prefer", "return=minimal"),)),
    "pretty": ("POST", "Goal?_pretty=true", BODY, ()),
    "in XML": ("POST", "Goal", BODY, (("Accept", "application/fhir+xml"),)),
    "not to be had": ("POST", "Goal", BODY, (("Accept", "image/png"),)),
    "two versions": ("PUT", "Goal/own", OWN, (("If-Match", 'W/"1"'), ("If-Match", 'W/"2"'))),
    "Binary": ("POST", "Binary", b"hello", (("Content-Type", "application/octet-stream"),)),
    "large": ("POST", "Goal", BODY[:-1] + b" " * 70_000 + b"}", ()),
    "a Bundle": ("POST", "", b"{}", ()),
    "a search": ("POST", "Goal/_search", b"", ()),
    "nothing there": ("POST", "Gaol", BODY, ()),
    "no id": ("PUT", "Goal/a_b", OWN, ()),
    "from elsewhere": ("POST", "Goal", BODY, (("Origin", "https://app.example"),)),
    "compressed": ("POST", "Goal", BODY, (("Content-Encoding", "gzip"),)),
    "with too much": ("POST", "Goal", BODY, (("User-Agent", "y" * 33_000),)),
}


@pytest.fixture(scope="module", params=("proxied", "crossing", "bounded"))
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("writes"), **FORMS[request.param])
    yield found
    found.stop()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("plain"))
    yield found
    found.stop()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request, whether the short way took it."""
    found: list[bool] = []
    answer = DirectWrites.answer

    async def told(self: DirectWrites, *asked: Any) -> bool:
        found.append(await answer(self, *asked))
        return found[-1]

    monkeypatch.setattr(DirectWrites, "answer", told)
    return found


def comparable(text: bytes) -> bytes:
    """Without what differs each time that something is written."""
    head, end, body = text.partition(b"\r\n\r\n")
    if b"content-encoding: gzip" in head:
        text = head + end + gzip.decompress(body)
    for pattern in (_ID, _TIME, _NUMBER):
        text = pattern.sub(b"", text)
    return text


async def one_way(served: Served, sent: Sent, *, short: bool) -> tuple[object, ...]:
    """What comes of a request: the answer, rows that the trail was given, and the newest of all."""
    app, wired = served.app, served.wired
    there = await app.state.store.read("Goal", "short")
    raw = asked(sent, there.version)
    told = await (wired.usually if short else wired.generally)(raw)
    rows = tuple(comparable(repr(row).encode()) for row in told.rows)
    await app.state.trail.flushed()
    (newest,) = await app.state.store.audited(AuditQuery(backwards=True), 1)
    return comparable(told.answer), rows, comparable(newest.told), told.closed


def asked(sent: Sent, version: int) -> bytes:
    """The bytes of a request; where it has no body of its own, of what follows on a version."""
    method, path, body, headers = sent
    if path == "Goal/short":
        text = {"text": f"after {version}"}
        body = json.dumps({**GOAL, "id": "short", "description": text}).encode()
        headers = (("If-Match", f'W/"{version}"'),)
    return send(method, path, body, *headers)


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_both_ways_do_alike(served: Served, taken: list[bool], name: str) -> None:
    sent = (PLAIN | OTHER)[name]
    served.refilled()
    general = served.runner.run(one_way(served, sent, short=False))
    turns = served.refilled()
    assert served.runner.run(one_way(served, sent, short=True)) == general
    assert served.refilled() == turns
    assert taken == ([name in PLAIN] if name != "with too much" else [])


def test_what_is_sent_again_under_its_id_is_done_once(plain: Served, taken: list[bool]) -> None:
    raw = send("POST", "Goal", BODY, ("X-Request-ID", "again"))
    first, second = (plain.runner.run(plain.wired.usually(raw)).answer for _ in range(2))
    assert first == second
    assert taken == [False, False]


def test_what_is_stored_is_the_same(plain: Served) -> None:
    async def ask() -> None:
        bodies = []
        for number, way in enumerate((plain.wired.generally, plain.wired.usually)):
            resource = {**GOAL, "id": f"one-{number}"}
            await way(send("PUT", f"Goal/one-{number}", json.dumps(resource).encode()))
            stored = await plain.app.state.store.read("Goal", f"one-{number}")
            bodies.append(comparable(stored.body).replace(b"one-0", b"one-1"))
        assert bodies[0] == bodies[1] != b""

    plain.runner.run(ask())


def test_who_goes_away_before_the_end_of_the_body_leaves_a_row(plain: Served) -> None:
    async def ask() -> bytes:
        protocol, _ = plain.wired.connected()
        protocol.data_received(send("POST", "Goal", BODY)[:-10])
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)
        await plain.app.state.trail.flushed()
        (newest,) = await plain.app.state.store.audited(AuditQuery(backwards=True), 1)
        told: bytes = newest.told
        return told

    assert b"The client went away" in plain.runner.run(ask())


def test_a_fault_of_the_server_tells_nothing_of_the_inside(
    plain: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("fhir_server.http.direct_writes.decode_resource", fail)
    told = plain.runner.run(plain.wired.usually(send("POST", "Goal", BODY)))
    assert b" 500 " in told.answer
    assert b"secret" not in told.answer
    assert "ZeroDivisionError" in caplog.text


async def test_a_token_writes_what_its_scopes_grant(tmp_path: Path, taken: list[bool]) -> None:
    """The first request has the token verified, and goes the general way."""
    now = int(time.time())
    told: dict[str, Any] = {
        "exp": now + 900,
        "iat": now,
        "nbf": now,
        "scope": "system/Goal.r user/Basic.cu",
    }
    told |= {"fhirUser": "Practitioner/kw", "ods_code": "X26", "client_id": "a"}
    bearer = ("Authorization", f"Bearer {issuing.token(**told)}")
    async with served_with_tokens(tmp_path) as (app, _):
        wired = Wired(app)
        for _ in range(2):
            found = await wired.usually(send("POST", "Goal", BODY, bearer))
            assert b" 403 " in found.answer[:16]
            assert b"Goal.c" in found.answer
            assert comparable(found.answer) == comparable(
                (await wired.generally(send("POST", "Goal", BODY, bearer))).answer
            )
        refused = await wired.usually(send("POST", "Goal", BODY, (bearer[0], bearer[1][:-3])))
        assert b" 401 " in refused.answer[:16]
    assert taken == [False, True, False]
