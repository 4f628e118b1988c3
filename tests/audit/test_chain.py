"""`keyworking audit verify`: what is done to the rows behind the server's back shows."""

import asyncio
import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jose import jws

from fhir_server.cli import main
from fhir_server.registering import make_pair, signed_with
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.sqlite.backup import back_up
from fhir_server.storage.sqlite.prune import Retention, prune
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.kept import damage, rows
from tests.storage.test_backup import quietly
from tests.storage.test_contract_audit import add

COUNT = 6


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("KEYWORKING_"):
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with six rows, each of a day of its own."""
    path = tmp_path / "store.db"
    asyncio.run(_fill(path))
    return path


async def _fill(path: Path) -> None:
    now = 0
    store = SqliteStore(path, clock=lambda: now)
    for day in range(1, COUNT + 1):
        now = day
        await add(store, AuditRow("caller", "read", f"r{day}", patients=("a",)))
    await store.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], catch_exceptions=False)


def verify(path: Path, *more: str) -> Result:
    return run("verify", "--store", f"sqlite:///{path}", *more)


def anchor_of(result: Result) -> str:
    return result.stdout.rpartition("Anchor: ")[2].strip()


def test_a_chain_that_nobody_touched_is_whole(path: Path) -> None:
    result = verify(path)
    assert result.exit_code == 0, result.output
    assert f"Rows 1 to {COUNT} are as they were written." in result.stdout
    assert verify(path, "--anchor", anchor_of(result)).exit_code == 0


def test_an_anchor_may_be_signed_and_is_taken_by_its_key_alone(path: Path, tmp_path: Path) -> None:
    keys = {name: make_pair(name, tmp_path, "ES384") for name in ("auditor", "another")}
    private, public = keys["auditor"]
    said = verify(path, "--sign", str(private)).stdout
    plain, _, signed = said.rpartition("Signed: ")
    mine = ("--key", str(public))
    assert verify(path, "--anchor", signed.strip(), *mine).exit_code == 0
    assert jws.get_unverified_header(signed.strip())["typ"] == "keyworking-audit-anchor"
    assert jws.verify(signed.strip(), json.loads(public.read_bytes()), ["ES384"])
    head, claims, signature = signed.strip().split(".")
    moved = base64.urlsafe_b64encode(b'{"anchor":"1:%s"}' % (b"0" * 64)).decode().rstrip("=")
    token = signed_with(private, {"anchor": anchor_of(verify(path))})
    for other in (
        f"{head}.{moved}.{signature}",
        verify(path, "--sign", str(keys["another"][0])).stdout.rpartition("Signed: ")[2].strip(),
        plain.rpartition("Anchor: ")[2].strip(),
        token,
        f"{head}.{claims}",
    ):
        refused = verify(path, "--anchor", other, *mine)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), other
    damage(path, "UPDATE audit SET hash = zeroblob(32) WHERE number = 6")
    broken = verify(path, "--anchor", signed.strip(), *mine, "--sign", str(private))
    assert broken.exit_code == 1
    assert "Signed" not in broken.stdout


@pytest.mark.parametrize(
    "content", ["", "[]", '{"kid": "a"}', '{"d": "x", "kid": "a", "alg": "ES384"}']
)
def test_what_cannot_sign_is_told_on_one_line(path: Path, tmp_path: Path, content: str) -> None:
    key = tmp_path / "key.json"
    key.write_text(content)
    for more in (("--sign", str(key)), ("--anchor", "a.b.c", "--key", str(key))):
        result = verify(path, *more)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output


_SWAP = """
    UPDATE audit SET told = (SELECT told FROM audit b WHERE b.number = 5 - audit.number)
    WHERE number IN (2, 3)
"""


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("UPDATE audit SET told = replace(told, 'r3', 'r9') WHERE number = 3", "row 3 is not what"),
        ("UPDATE audit SET told = x'00' WHERE number = 3", "row 3 is not what"),
        ("UPDATE audit SET at = at + 1 WHERE number = 3", "row 3 is not what"),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 3", "row 3 is not what"),
        (_SWAP, "row 2 is not what"),
        ("DELETE FROM audit WHERE number = 3", "row 3 is missing: row 4 follows row 2"),
        ("DELETE FROM audit WHERE number = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE number > 4", "rows 5 to 6 are missing: they were cut off"),
        ("DELETE FROM audit", "rows 1 to 6 are missing"),
        (
            "INSERT INTO audit SELECT 9, at, told, hash FROM audit WHERE number = 6",
            "row 9 stands beyond the end of the chain, which is 6",
        ),
    ],
)
def test_the_first_break_is_told(path: Path, deed: str, told: str) -> None:
    damage(path, deed)
    result = verify(path)
    assert result.exit_code == 1
    assert told in result.stdout


def test_a_chain_that_was_made_anew_shows_by_the_anchor_that_was_kept_elsewhere(path: Path) -> None:
    """Somebody with the file cuts rows off and sets its end to fit; or writes others in between."""
    anchor = anchor_of(verify(path))
    number, at, digest = rows(path, "SELECT number, at, hash FROM audit WHERE number = 4")[0]
    head = number.to_bytes(8, "big") + at.to_bytes(8, "big") + digest
    damage(path, "DELETE FROM audit WHERE number > 4")
    damage(path, f"UPDATE setting SET value = x'{head.hex()}' WHERE name = 'audit:head'")
    assert verify(path).exit_code == 0
    result = verify(path, "--anchor", anchor)
    assert result.exit_code == 1
    assert "row 6 of the anchor is missing" in result.stdout

    asyncio.run(_add_two(path))
    result = verify(path, "--anchor", anchor)
    assert "row 6 is not the one of the anchor" in result.stdout


async def _add_two(path: Path) -> None:
    store = SqliteStore(path)
    await add(store, AuditRow("other", "read"), AuditRow("other", "read"))
    await store.close()


def test_what_is_pruned_leaves_a_chain_that_says_so(path: Path) -> None:
    anchor = anchor_of(verify(path))
    assert prune(path, Retention(audit_before=4), quietly).audit_rows == 3
    assert rows(path, "SELECT DISTINCT number FROM audit_name ORDER BY 1") == [(4,), (5,), (6,)]
    result = verify(path, "--anchor", anchor)
    assert result.exit_code == 0, result.output
    assert "Rows up to 3 were pruned." in result.stdout
    assert "Rows 4 to 7 are as they were written." in result.stdout


def test_rows_cannot_be_taken_out_in_the_name_of_retention(path: Path) -> None:
    number, at, digest = rows(path, "SELECT number, at, hash FROM audit WHERE number = 3")[0]
    begin = number.to_bytes(8, "big") + at.to_bytes(8, "big") + digest
    damage(path, "DELETE FROM audit WHERE number <= 3")
    damage(path, f"INSERT INTO setting VALUES ('audit:begin', x'{begin.hex()}')")
    result = verify(path)
    assert result.exit_code == 1
    assert "rows up to 3 are missing, and no row says that they were pruned" in result.stdout


def test_a_backup_has_the_chain(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "backup.db", quietly)
    assert anchor_of(verify(tmp_path / "backup.db")) == anchor_of(verify(path))


@pytest.mark.parametrize("anchor", ["", "6", "x:" + "0" * 64, "6:" + "z" * 64])
def test_what_is_no_anchor_is_refused(path: Path, anchor: str) -> None:
    result = verify(path, "--anchor", anchor)
    assert result.exit_code == 2
    assert "The audit cannot be verified" in result.stderr


def test_there_is_nothing_to_verify_without_a_store(tmp_path: Path) -> None:
    result = verify(tmp_path / "none.db")
    assert (result.exit_code, (tmp_path / "none.db").exists()) == (2, False)


def test_the_hash_is_sha_256_of_what_the_documentation_says(path: Path) -> None:
    number, at, told, digest = rows(path, "SELECT number, at, told, hash FROM audit LIMIT 1")[0]
    text = bytes(32) + number.to_bytes(8, "big") + at.to_bytes(8, "big") + told
    assert hashlib.sha256(text).digest() == digest
