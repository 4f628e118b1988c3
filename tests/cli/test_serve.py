"""`keyworking serve` with settings that do not fit: one clear line, exit status 1 or 2."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from fastapi import FastAPI

from fhir_server import serving
from fhir_server.app import Application
from fhir_server.cli import main
from fhir_server.settings import Settings, refuse_unknown_variables
from fhir_server.synthetic import ensure_loaded
from tests.support import REPOSITORY, free_port

SERVE: Final = [sys.executable, "-c", "from fhir_server.cli import main; main()", "serve"]
_PATIENCE: Final = 30.0


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("KEYWORKING_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def assert_refused(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], *words: str) -> None:
    """It ends with one line on stderr, before anything is served or loaded."""

    def served(*_: object) -> None:
        pytest.fail("It serves with these settings")

    monkeypatch.setattr(serving, "_run", served)
    monkeypatch.setenv("KEYWORKING_AUTH", "none")
    if "--port" not in options and not any(
        name.upper() == "KEYWORKING_PORT" for name in os.environ
    ):
        monkeypatch.setenv("KEYWORKING_PORT", str(free_port()))
    ran = CliRunner().invoke(main, ["serve", *options], catch_exceptions=False)
    assert ran.exit_code in (1, 2)
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("Error: ")
    for word in words:
        assert word in lines[0]


BAD: Final[list[tuple[str, str, tuple[str, ...]]]] = [
    ("OPERATIONS", "nope", ("There is no package 'nope'",)),
    ("OPERATIONS", "os", ("'os' is a module",)),
    ("OPERATIONS", "", ("operations", "blank")),
    ("OPERATIONS", " ", ("operations", "blank")),
    ("OPERATIONS", "operations,,fhir_operations", ("operations", "blank")),
    ("OPERATIONS", ".operations", ("operations", "'.operations' is not the name of a package")),
    ("OPERATIONS", "operations,operations", ("is defined twice",)),
    ("PUBLIC_BASE", "http://", ("public_base", "host")),
    ("PUBLIC_BASE", "https://x.example/y?z", ("public_base", "query")),
    ("PUBLIC_BASE", "https://x.example/y?", ("public_base", "query")),
    ("PUBLIC_BASE", "https://x.example/y#z", ("public_base", "fragment")),
    ("PUBLIC_BASE", "https://x.example:port/y", ("public_base",)),
    ("PUBLIC_BASE", "https://somebody:secret@x.example/y", ("public_base", "user")),
    ("PUBLIC_BASE", "https://x.example/a b", ("public_base", "character")),
    ("PUBLIC_BASE", "https://x.example/it's", ("public_base", "character")),
    ("PUBLIC_BASE", "ftp://x.example/y", ("public_base", "http or https")),
    ("DEFAULT_COUNT", "1001", ("default_count 1001 is above max_count 1000",)),
    ("MAX_COUNT", "10", ("default_count 50 is above max_count 10",)),
    ("SEARCH_PATIENCE", "inf", ("search_patience",)),
    ("SEARCH_PATIENCE", "nan", ("search_patience",)),
    ("SEARCH_PATIENCE", "0", ("search_patience",)),
    ("PORT", "0", ("port 0", "nobody")),
    ("PORT", "65536", ("port",)),
    ("PORT", "http", ("port",)),
    ("WORKERS", "0", ("workers",)),
    ("MAX_BODY", "many", ("max_body",)),
    ("MAX_URL", "65536", ("max_url",)),
    ("MAX_DEPTH", "101", ("max_depth",)),
    ("TRUSTED_PROXIES", "proxy.example", ("trusted_proxies", "'proxy.example'")),
    ("TRUSTED_PROXIES", "10.0.0.1/8", ("trusted_proxies", "host bits")),
    ("TRUSTED_PROXIES", "10.0.0.1,", ("trusted_proxies", "''")),
    ("TRUSTED_PROXIES", "*", ("trusted_proxies", "'*'")),
    ("CONDITIONAL_DELETE", "all", ("conditional_delete",)),
    ("HOST", "0.0.0.0", ("loopback",)),  # noqa: S104 - it must be refused
    ("STORE", "mongodb://localhost", ("names no database",)),
    ("STORE", "mongodb://me:secret@localhost/a.b", ("names no database", "mongodb://***@local")),
    ("STORE", "mongodb://a/kw?readPreference=nearest", ("readPreference", "primary alone")),
    ("STORE", "mongodb://a:port/kw", ("mongodb://a:port/kw", "ort")),
    ("STORE", "sqlite:///", ("is not a store",)),
    ("STORE", "sqlite:///:memory:", ("is not a store",)),
    ("PRT", "8080", ("KEYWORKING_PRT is not a setting", "KEYWORKING_PORT")),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD)
def test_a_value_that_does_not_fit_is_an_error_at_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv(f"KEYWORKING_{name}", value)
    assert_refused(monkeypatch, (), *words)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["keyworking_prt", "Keyworking_Prt", "keyworking_", "KEYWORKING_"])
def test_an_unknown_name_is_an_error_in_any_case(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "8080")
    assert_refused(monkeypatch, (), f"{name} is not a setting")


def test_one_setting_under_two_names_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("keyworking_port", "1")
    monkeypatch.setenv("KEYWORKING_PORT", "2")
    assert_refused(monkeypatch, (), "KEYWORKING_PORT", "keyworking_port", "the same setting")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "0"), ("port 0",)),
        (("--store", "here.db"), ("'here.db' is not a store",)),
        (("--host", "keyworking.invalid"), ("loopback",)),
        (("--workers", "65"), ("workers",)),
    ],
)
def test_an_option_that_does_not_fit_is_an_error_at_start(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(monkeypatch, options, *words)


def _not_a_database(folder: Path) -> Path:
    path = folder / "notes.db"
    path.write_text("Not a database, but a note of more than a few words.\n" * 50)
    return path


def _a_directory(folder: Path) -> Path:
    path = folder / "directory.db"
    path.mkdir()
    return path


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "kw.db"


def _without_a_table(folder: Path) -> Path:
    path = folder / "lost.db"
    ensure_loaded(Settings(auth="none", store=f"sqlite:///{path}"))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE setting")
    connection.close()
    return path


def _of_a_newer_release(folder: Path) -> Path:
    path = folder / "newer.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    return path


STORES: Final = {
    "not-a-database": (_not_a_database, "not a database"),
    "a-directory": (_a_directory, "directory.db"),
    "below-a-file": (_below_a_file, "kw.db"),
    "without-a-table": (_without_a_table, "no such table"),
    "newer": (_of_a_newer_release, "schema 999"),
}


@pytest.mark.parametrize("options", [(), ("--synthetic-caseload",), ("--workers", "2")])
@pytest.mark.parametrize("kind", STORES)
def test_a_store_that_cannot_be_used_is_an_error_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: tuple[str, ...]
) -> None:
    make, word = STORES[kind]
    path = make(tmp_path)
    given = (*options, "--store", f"sqlite:///{path}")
    assert_refused(monkeypatch, given, f"The store {path} cannot be used", word)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_store_that_may_not_be_written_is_an_error_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for path in (tmp_path / "locked" / "kw.db", tmp_path / "locked" / "deeper" / "kw.db"):
        options = ("--store", f"sqlite:///{path}")
        assert_refused(monkeypatch, options, f"The store {path} cannot be used")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port: int = listener.getsockname()[1]
        yield port


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_an_error_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int, workers: str
) -> None:
    options = ("--port", str(taken), "--workers", workers, "--synthetic-caseload")
    assert_refused(monkeypatch, options, f"127.0.0.1, port {taken}", "in use")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("content", "word"),
    [("this is no Python", "SyntaxError"), ("import nope", "nope"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_package_that_cannot_be_imported_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, word: str
) -> None:
    name = f"unreadable_{word.lower()}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KEYWORKING_OPERATIONS", name)
    assert_refused(monkeypatch, (), name, word)


def _started(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start in a process of its own that must end by itself."""
    return subprocess.run(
        [*SERVE, "--auth", "none", "--port", str(free_port()), *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


def test_several_workers_do_not_start_again_and_again_with_a_bad_setting(tmp_path: Path) -> None:
    for options, environment in (
        ((), {"KEYWORKING_OPERATIONS": "nope"}),
        (("--store", f"sqlite:///{tmp_path}"), {}),
    ):
        ran = _started(tmp_path, "--workers", "2", *options, **environment)
        assert ran.returncode == 1
        assert ran.stderr.startswith("Error: The ")
        assert ran.stderr.count("\n") == 1


def _fill_the_disk() -> None:
    raise RuntimeError("The disk is full")


class _Failing(AbstractAsyncContextManager[None]):
    def __init__(self, _: FastAPI) -> None:
        """As what begins and ends with the application."""

    async def __aenter__(self) -> None:
        raise RuntimeError("The disk is full")

    async def __aexit__(self, *_: object) -> None:
        """Never comes to it."""


def test_a_server_that_does_not_come_up_has_failed() -> None:
    settings = Settings(auth="none", port=free_port())
    with pytest.raises(serving.BadSettings, match="did not start"):
        serving._run(settings, Application(lifespan=_Failing), [])


def test_small_bounds_do_not_keep_the_synthetic_caseload_from_loading(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/small.db"
    small = Settings(
        auth="none", store=store, max_entries=1, max_body=1024, max_values=1, max_parameters=1
    )
    ensure_loaded(small)


def test_settings_reach_the_workers_whatever_case_they_were_given_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "keyworking_port": "8081"})
    serving.export(Settings(auth="none", port=8082))
    refuse_unknown_variables()
    assert Settings().port == 8082


def test_the_page_of_settings_lists_each_with_its_default() -> None:
    text = (REPOSITORY / "docs" / "settings.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `KEYWORKING_")]
    listed = {row[0].strip("| `"): row[1].strip("`") for row in rows}
    assert len(listed) == len(rows)
    assert listed == {
        f"KEYWORKING_{name.upper()}": _shown(field.default)
        for name, field in Settings.model_fields.items()
    }


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "—"
    if isinstance(default, bool):
        return str(default).lower()
    return "—" if default in (None, "") else str(default)


@pytest.mark.parametrize(
    ("text", "proxies"),
    [("", ()), (" ", ()), ("10.0.0.7, 2001:db8::/32", ("10.0.0.7", "2001:db8::/32"))],
)
def test_proxies_are_a_list_that_worker_processes_read_too(
    monkeypatch: pytest.MonkeyPatch, text: str, proxies: tuple[str, ...]
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "KEYWORKING_TRUSTED_PROXIES": text})
    assert Settings().trusted_proxies == proxies
    serving.export(Settings())
    assert Settings().trusted_proxies == proxies
