"""`keyworking client`, `key` and `token`: from a new pair of keys to a token of a server."""

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner, Result
from jose import jwt

from fhir_server.access.caller import Role
from fhir_server.cli import main
from fhir_server.registration_commands import _ROLES
from tests.support import REPOSITORY, ServerProcess, opened

SCOPE: Final = "system/CarePlan.rs"


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("KEYWORKING_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, [*words], catch_exceptions=False)


def told(*words: str) -> str:
    """What a command says that does what it is told."""
    ran = run(*words)
    assert (ran.exit_code, ran.stderr) == (0, "")
    return ran.stdout


def assert_not_done(problem: str, *words: str) -> None:
    ran = run(*words)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: ")
    assert len(ran.stderr.splitlines()) == 1
    assert problem in ran.stderr, ran.stderr


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The address of a store that is there."""

    async def make() -> None:
        await (await opened(tmp_path / "store.db")).close()

    asyncio.run(make())
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def ward(store: str) -> str:
    """A client that is registered, with its keys in the folder."""
    told("key", "generate", "ward")
    told("client", "add", "ward", "--jwks", "ward.jwks.json", "--scope", SCOPE, "--store", store)
    return "ward"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path / "store.db", tmp_path / "log")
    server.start()
    yield server
    server.stop()


def test_from_a_pair_of_keys_to_a_token_and_to_its_end(running: ServerProcess) -> None:
    store = f"sqlite:///{running.store}"
    told("key", "generate", "ward")
    told("client", "add", "ward", "--jwks", "ward.jwks.json", "--scope", SCOPE, "--store", store)
    asked = ("token", "ward", "--key", "ward.private.json", "--server", running.base)
    token = told(*asked, "--scope", "system/*.read").strip()
    keys = httpx.get(running.base.replace("/fhir", "/auth/jwks")).json()
    claims = jwt.decode(token, keys, algorithms=["ES384"], audience=running.base)
    assert (claims["client_id"], claims["scope"]) == ("ward", SCOPE)
    assert_not_done("invalid_scope", *asked, "--scope", "system/Patient.rs")
    told("client", "disable", "ward", "--store", store)
    assert_not_done("answers 401: invalid_client", *asked, "--scope", SCOPE)
    told("client", "enable", "ward", "--store", store)
    assert told(*asked, "--scope", SCOPE)
    told("client", "remove", "ward", "--store", store)
    assert_not_done("answers 401: invalid_client", *asked, "--scope", SCOPE)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_worked_example_works(running: ServerProcess) -> None:
    page = (REPOSITORY / "docs" / "authorisation-server.md").read_text()
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert lines.count("keyworking ") == 4
    here = f"http://127.0.0.1:{running.port}"
    aside = f'keyworking() {{ {sys.executable} -m fhir_server.cli "$@"; }}\n'
    named = lines.replace("keyworking token ward", f"keyworking token ward --server {here}/fhir")
    ran = subprocess.run(
        ["bash", "-ec", aside + named.replace("http://127.0.0.1:8080", here)],
        env={**os.environ, "KEYWORKING_STORE": f"sqlite:///{running.store}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    *said, token, bundle = re.sub(r"\}\{", "}\n{", ran.stdout).splitlines()
    assert "ward is registered: system/CarePlan.rs system/Goal.rs" in said
    answer = json.loads(token)
    assert (answer["expires_in"], answer["scope"]) == (300, SCOPE)
    assert json.loads(bundle)["resourceType"] == "Bundle"


def test_an_assertion_alone_is_what_a_client_sends(running: ServerProcess, ward: str) -> None:
    made = ("token", ward, "--key", "ward.private.json", "--server", running.base, "--scope", "x")
    form = {
        "grant_type": "client_credentials",
        "scope": SCOPE,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": told(*made, "--assertion").strip(),
    }
    answer = httpx.post(running.base.replace("/fhir", "/auth/token"), data=form)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_private_key_is_for_its_owner_alone(tmp_path: Path, algorithm: str) -> None:
    told("key", "generate", "new", "--algorithm", algorithm)
    private = tmp_path / "new.private.json"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    (known,) = json.loads((tmp_path / "new.jwks.json").read_text())["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi"} & known.keys()
    assert known.items() <= json.loads(private.read_text()).items()


def test_no_key_is_written_over(tmp_path: Path) -> None:
    told("key", "generate", "ward")
    before = (tmp_path / "ward.private.json").read_text()
    assert_not_done("ward.jwks.json is there already", "key", "generate", "ward")
    (tmp_path / "ward.jwks.json").unlink()
    assert_not_done("ward.private.json: File exists", "key", "generate", "ward")
    assert (tmp_path / "ward.private.json").read_text() == before


def test_clients_are_listed_and_shown(ward: str, store: str) -> None:
    told("client", "disable", ward, "--store", store)
    assert told("client", "list", "--store", store) == f"ward (disabled)\t-\t{SCOPE}\t\n"
    shown: dict[str, Any] = json.loads(told("client", "show", ward, "--store", store))
    assert (shown["id"], shown["scopes"], shown["disabled"]) == ("ward", SCOPE, True)
    assert_not_done("there is no client 'x'", "client", "show", "x", "--store", store)


def test_what_does_not_fit_is_one_line(ward: str, store: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("x")
    add = ("client", "add", "new", "--store", store)
    assert_not_done("bad.json is not JSON", *add, "--jwks", "bad.json")
    assert_not_done("none.json: No such file", *add, "--jwks", "none.json")
    assert_not_done("private or symmetric", *add, "--jwks", _set_of(tmp_path, "ward.private.json"))
    assert_not_done("either a key set", *add, "--scope", SCOPE)
    assert_not_done("a client has one at least", *add, "--jwks", "ward.jwks.json")
    again = ("client", "add", ward, "--jwks", "ward.jwks.json", "--scope", SCOPE, "--store", store)
    assert_not_done("there is a client 'ward'", *again)
    told(*again, "--replace")
    assert_not_done("there is no client 'x'", "client", "remove", "x", "--store", store)
    assert_not_done("There is no store", "client", "list", "--store", "sqlite:///none.db")
    assert not (tmp_path / "none.db").exists()


def _set_of(folder: Path, name: str) -> str:
    key = json.loads((folder / name).read_text())
    (folder / "private-set.json").write_text(json.dumps({"keys": [key]}))
    return "private-set.json"


def test_an_operator_is_given_a_token_on_the_store(ward: str, store: str) -> None:
    token = told("token", ward, "--scope", "system/*.read", "--store", store).strip()
    assert jwt.get_unverified_claims(token)["scope"] == SCOPE
    told("client", "disable", ward, "--store", store)
    assert_not_done("no client of that id", "token", ward, "--scope", SCOPE, "--store", store)
    elsewhere = (
        "token",
        ward,
        "--scope",
        SCOPE,
        "--store",
        store,
        "--server",
        "http://127.0.0.1:9",
    )
    assert_not_done("--server is asked with --key", *elsewhere)


def test_what_no_token_can_be_made_with_is_one_line(ward: str) -> None:
    word = ("token", ward, "--scope", SCOPE)
    assert_not_done("--assertion is signed with --key", *word, "--assertion")
    assert_not_done("no private JSON Web Key", *word, "--key", "ward.jwks.json")
    nobody = ("--server", "http://127.0.0.1:9/fhir")
    assert_not_done("does not answer", *word, "--key", "ward.private.json", *nobody)


def test_the_signing_key_is_rotated(ward: str, store: str) -> None:
    on_it = ("--store", store)
    told("token", ward, "--scope", SCOPE, *on_it)
    first = told("key", "list", *on_it).split("\t")
    assert first[2] == "signs\n"
    kid = told("key", "rotate", *on_it).split()[0]
    lines = [line.split("\t") for line in told("key", "list", *on_it).splitlines()]
    assert [line[0] for line in lines] == [first[0], kid]
    assert lines[0][2].startswith("until 2")
    token = told("token", ward, "--scope", SCOPE, *on_it).strip()
    assert jwt.get_unverified_header(token)["kid"] == kid
    told("key", "rotate", "--at-once", *on_it)
    assert len(told("key", "list", *on_it).splitlines()) == 1


def test_the_help_names_all_roles() -> None:
    assert set(_ROLES) == {role.value for role in Role}
