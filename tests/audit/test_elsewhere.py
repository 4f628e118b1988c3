"""Rows of the audit in files and on the way to a syslog: the store is the record."""

import asyncio
import csv
import json
import socket
import sqlite3
import ssl
import stat
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

from fhir_server.access.audit.syslog import Follower, Receiver
from fhir_server.app import create_app
from fhir_server.cli import main
from fhir_server.settings import Settings
from fhir_server.storage.audited import AuditQuery, AuditRow
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Store
from tests.audit.test_chain import _no_settings_but_the_test_s_own, path, verify
from tests.cli.test_tls import Authority
from tests.storage.test_contract_audit import add
from tests.support import free_port

__all__ = ["_no_settings_but_the_test_s_own", "path"]


def export(path: Path, target: Path, *more: str) -> Result:
    command = ["audit", "export", str(target), "--store", f"sqlite:///{path}", *more]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_an_export_is_one_audit_event_a_line(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "audit.ndjson"
    result = export(path, target)
    assert (result.exit_code, result.stdout.split()[0]) == (0, "6")
    events = [json.loads(line) for line in target.read_text().splitlines()]
    assert [event["id"] for event in events] == ["1", "2", "3", "4", "5", "6"]
    assert {event["resourceType"] for event in events} == {"AuditEvent"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_export_is_in_the_audit_itself(path: Path, tmp_path: Path) -> None:
    export(path, tmp_path / "audit.ndjson", "--from", "2026-01-01")
    with closing(sqlite3.connect(path)) as connection:
        ((told,),) = connection.execute("SELECT told FROM audit WHERE number = 7")
    assert json.loads(told) == {
        "caller": "operator",
        "action": "audit-export",
        "description": "0 rows as ndjson, from 2026-01-01 until None",
    }
    assert verify(path).exit_code == 0


def test_a_table_has_all_that_a_row_has_and_no_formulas(path: Path, tmp_path: Path) -> None:
    async def fill() -> None:
        from fhir_server.storage.sqlite.store import SqliteStore

        store = SqliteStore(path)
        await add(store, AuditRow("=cmd()", "read", targets=("Patient/a", "Flag/b"), outcome="4"))
        await store.close()

    asyncio.run(fill())
    assert export(path, tmp_path / "audit.csv", "--format", "csv").exit_code == 0
    with (tmp_path / "audit.csv").open(newline="") as file:
        table = [*csv.DictReader(file)]
    assert [one["request_id"] for one in table] == [*(f"r{day}" for day in range(1, 7)), ""]
    last = table[-1]
    assert (last["caller"], last["targets"], last["outcome"]) == (
        "'=cmd()",
        "Patient/a Flag/b",
        "4",
    )
    assert len(last["hash"]) == 64


@pytest.mark.parametrize(
    ("more", "count"),
    [
        (("--to", "1970-01-02"), "6"),
        (("--from", "1970-01-02"), "0"),
        (("--from", "1970", "--to", "1970-01-01T00:00:00.000001Z"), "0"),
    ],
)
def test_an_export_is_of_a_range_of_time(
    path: Path, tmp_path: Path, more: tuple[str, ...], count: str
) -> None:
    assert export(path, tmp_path / "audit", *more).stdout.split()[0] == count


@pytest.mark.parametrize("more", [("--from", "yesterday"), ("--to", "2026-99")])
def test_what_is_no_time_is_refused(path: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    result = export(path, tmp_path / "audit", *more)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_nothing_is_written_over(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.write_text("kept")
    assert export(path, target).exit_code == 2
    assert target.read_text() == "kept"


# Syslog


class _Listener:
    """A syslog receiver over TCP, which reads frames with their length before them."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, secured: ssl.SSLContext | None = None) -> int:
        self._server = await asyncio.start_server(self._read, "127.0.0.1", port, ssl=secured)
        return int(self._server.sockets[0].getsockname()[1])

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while length := (await reader.readuntil(b" ") if not reader.at_eof() else b""):
            self.messages.append((await reader.readexactly(int(length))).decode())
        writer.close()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    def rows(self) -> list[AuditRow]:
        """What the messages say, in the order of their coming."""
        import msgspec

        told = [json.loads(one[one.index("{") :])["row"] for one in self.messages]
        return [msgspec.json.decode(one, type=AuditRow) for one in told]


async def until(count: int, messages: list[str]) -> None:
    async with asyncio.timeout(60):
        while len(messages) < count:  # noqa: ASYNC110 - it grows in another task
            await asyncio.sleep(0.01)


async def test_each_row_is_a_message_in_the_order_of_the_chain(store: Store) -> None:
    listener = _Listener()
    port = await listener.start()
    follower = Follower(store, Receiver(f"tcp://127.0.0.1:{port}"), system_clock)
    await add(store, AuditRow("a", "read", "r1"), AuditRow("b", "read", "r2", outcome="4"))
    await follower.step()
    await add(store, AuditRow("c", "read", "line\nend"))
    await follower.step()
    await until(3, listener.messages)
    assert [row.caller for row in listener.rows()] == ["a", "b", "c"]
    first, second, third = listener.messages
    assert first.startswith("<110>1 2")
    assert second.startswith("<108>1 2")
    assert " keyworking - audit - {" in first
    assert "\n" not in third
    await follower.stop()
    await listener.stop()


async def test_over_tls_the_receiver_shows_who_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, known, other = 1_000_000_000, Authority(tmp_path), Authority(tmp_path, "Another")
    monkeypatch.setenv("SSL_CERT_FILE", str(known.file))
    await add(store, AuditRow("a", "read"))
    for authority in (other, known):
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secured.load_cert_chain(*authority.issue(f"syslog {authority.file.stem}"))
        listener = _Listener()
        port = await listener.start(secured=secured)
        now += 16_000_000  # so long the one before would be waited for
        follower = Follower(store, Receiver(f"tls://127.0.0.1:{port}"), partial(int, now))
        if authority is other:
            with pytest.raises(ssl.SSLCertVerificationError):
                await follower.step()
            assert listener.messages == []
        else:
            await follower.step()
            await until(1, listener.messages)
        await follower.stop()
        await listener.stop()
    assert [row.caller for row in listener.rows()] == ["a"]


async def test_rows_wait_for_a_receiver_that_is_away(store: Store) -> None:
    listener, port = _Listener(), free_port()
    follower = Follower(store, Receiver(f"tcp://127.0.0.1:{port}"), system_clock)
    await add(store, AuditRow("a", "read"))
    with pytest.raises(OSError, match="onnect"):
        await follower.step()
    assert len(await store.audited(AuditQuery(), 10)) == 1
    await listener.start(port)
    await follower.step()
    await until(1, listener.messages)
    await follower.stop()
    await listener.stop()


async def test_one_process_sends_and_another_goes_on_where_it_ended(store: Store) -> None:
    now = 1_000_000_000
    listener = _Listener()
    receiver = f"tcp://127.0.0.1:{await listener.start()}"
    first = Follower(store, Receiver(receiver), lambda: now)
    second = Follower(store, Receiver(receiver), lambda: now)
    await add(store, AuditRow("a", "read"))
    await first.step()
    await add(store, AuditRow("b", "read"))
    await second.step()
    await until(1, listener.messages)
    assert [row.caller for row in listener.rows()] == ["a"]
    now += 16_000_000
    await second.step()
    await until(2, listener.messages)
    assert [row.caller for row in listener.rows()] == ["a", "b"]
    for one in (first, second):
        await one.stop()
    await listener.stop()


async def test_a_server_sends_to_a_local_socket(settings: Settings, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as local:
        local.bind(str(tmp_path / "log"))
        local.setblocking(False)
        told = {**settings.model_dump(), "audit_syslog": f"unix://{tmp_path / 'log'}"}
        app = create_app(Settings(**told))
        async with app.router.lifespan_context(app):
            await add(app.state.store, AuditRow("a", "read"))
            async with asyncio.timeout(60):
                message = await asyncio.get_running_loop().sock_recv(local, 65_536)
    assert b"<110>1 " in message


@pytest.mark.parametrize(
    "address", ["localhost", "tcp://host", "udp://h:1", "unix://", "tcp://h:1/x"]
)
def test_an_address_that_is_no_receiver_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="is no receiver"):
        Settings(audit_syslog=address)
