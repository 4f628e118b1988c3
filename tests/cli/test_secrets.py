"""Secrets come from the environment or from files, and are printed nowhere. CWE-214, CWE-532."""

import os
from pathlib import Path
from typing import Final

import pytest

from fhir_server import serving
from fhir_server.setting_groups.secrets import secrets
from fhir_server.settings import Settings, read_settings, refuse_unknown_variables

SECRET: Final = "hunter2-and-more"
ADDRESS: Final = f"mongodb://me:{SECRET}@127.0.0.1:1/kw"


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: value for name, value in os.environ.items() if "KEYWORKING" not in name.upper()}
    monkeypatch.setattr(os, "environ", kept)


def _file(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_come_from_a_file(tmp_path: Path, end: str) -> None:
    os.environ["KEYWORKING_STORE_FILE"] = _file(tmp_path, ADDRESS + end)
    settings = read_settings({"auth": "none"})
    assert settings.store == ADDRESS
    assert SECRET not in repr(settings) + str(settings)


def test_an_option_goes_before_the_file(tmp_path: Path) -> None:
    os.environ["KEYWORKING_STORE_FILE"] = _file(tmp_path, ADDRESS)
    settings = read_settings({"store": "sqlite:///a.db"})
    assert settings.store == "sqlite:///a.db"
    serving.export(settings)
    assert Settings().store == "sqlite:///a.db", "for worker processes too"


@pytest.mark.parametrize("name", ["KEYWORKING_STORE_FILE", "keyworking_store_file"])
def test_worker_processes_are_told_the_file_and_not_the_secret(tmp_path: Path, name: str) -> None:
    os.environ[name] = _file(tmp_path, ADDRESS)
    serving.export(read_settings({"auth": "none"}))
    assert not any(SECRET in value for value in os.environ.values())
    refuse_unknown_variables()
    assert Settings().store == ADDRESS


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "does not hold one line"),
        ("\n", "does not hold one line"),
        (f"{ADDRESS}\nand more", "does not hold one line"),
        ("x" * 70_000, "does not hold one line"),
        (b"\xff\xfe" + ADDRESS.encode(), "it is no text"),
    ],
)
def test_a_file_that_holds_no_secret_is_an_error(
    tmp_path: Path, content: str | bytes, text: str
) -> None:
    path = os.environ["KEYWORKING_STORE_FILE"] = _file(tmp_path, content)
    with pytest.raises(ValueError, match=text) as caught:
        read_settings({"auth": "none"})
    assert "KEYWORKING_STORE_FILE" in str(caught.value)
    assert path in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    os.environ["KEYWORKING_STORE_FILE"] = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="No such file"):
        read_settings({"auth": "none"})


def test_two_places_for_one_secret_are_an_error(tmp_path: Path) -> None:
    os.environ["KEYWORKING_STORE_FILE"] = _file(tmp_path, ADDRESS)
    os.environ["KEYWORKING_STORE"] = "sqlite:///a.db"
    with pytest.raises(ValueError, match="are both there; give one of them"):
        read_settings({"auth": "none"})


def test_what_is_no_secret_does_not_come_from_a_file(tmp_path: Path) -> None:
    os.environ["KEYWORKING_PORT_FILE"] = _file(tmp_path, "8080")
    with pytest.raises(ValueError, match="KEYWORKING_PORT_FILE is not a setting"):
        read_settings({"auth": "none"})


def test_every_setting_that_sounds_secret_is_one() -> None:
    words = ("password", "secret", "credential")
    sounding = {name for name in Settings.model_fields if any(word in name for word in words)}
    shown = {name for name in sounding if Settings.model_fields[name].repr}
    assert shown <= {"introspection_secret_file"}, "which is a path"
    assert "store" in secrets(Settings)


@pytest.mark.parametrize("name", [*secrets(Settings)])
def test_no_error_about_settings_tells_a_secret(name: str) -> None:
    os.environ[f"KEYWORKING_{name.upper()}"] = ADDRESS
    os.environ["KEYWORKING_MAX_COUNT"] = "-1"
    with pytest.raises(ValueError, match="max_count") as caught:
        read_settings({"auth": "none"})
    assert SECRET not in str(caught.value) + repr(caught.value)
