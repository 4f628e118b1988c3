"""What `keyworking serve --auth token --synthetic-caseload` prints; commands that show a token."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from click.testing import CliRunner, Result

from fhir_server.cli import main
from fhir_server.loading import Bearer
from fhir_server.story import TRUST
from tests.cli.printed import KEYWORKING, Served, environment, serving

ANSWERS: Final = {
    "A ward's system makes a pair of keys": r"ward\.jwks\.json",
    "and is registered, by whoever runs the server": r"ward is registered",
    "It asks for a token, which is good for some minutes": r"^$",
    "Nobody's plan is for it to see": r'"type": "searchset",\s*"link": [^"]*"relation": "self"',
    "until it tells of an admission": r"The event is stored",
    "Now it sees the plans of the young person in its care": r'"code": "discharge-plan"',
    "It tells of the discharge": r"The event is stored",
    "and from then on they are not for it any more": r'"type": "searchset"',
    "What can this server do?": r'"fhirVersion": "4\.0\.1"',
}
"""What each printed comment promises of the answer."""
HIDDEN: Final = ("Nobody's plan is for it to see", "and from then on they are not for it any more")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tokens")
    with serving(folder, "token", KEYWORKING_INPATIENT_UNITS=TRUST) as found:
        command = folder / ".venv" / "bin" / "keyworking"
        command.parent.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        command.write_text(f'#!/bin/sh\nexec {python} -m fhir_server.cli "$@"\n')
        command.chmod(0o755)
        yield found


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_each_printed_line_works_as_printed_and_one_after_the_other(served: Served) -> None:
    lines = re.findall(r"^  # (.+)\n  (\S.+)$", served.printed, re.MULTILINE)
    assert [comment for comment, _ in lines] == list(ANSWERS)
    script = "".join(f"{command}\necho; echo '----'\n" for _, command in lines)
    ran = subprocess.run(
        ["bash", "-ec", script],
        cwd=served.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = ran.stdout.split("----\n")
    for (comment, _), answer in zip(lines, answers, strict=False):
        assert re.search(ANSWERS[comment], answer.strip()), (comment, answer[:2000])
        assert comment not in HIDDEN or '"resource"' not in answer, (comment, answer[:2000])


def test_the_demo_says_that_it_has_no_token(served: Served) -> None:
    ran = subprocess.run(
        [*KEYWORKING, "demo", "--admission", "--server", served.base],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert "asks for tokens" in ran.stderr
    assert "Traceback" not in ran.stderr


def _load(served: Served, path: Path, *options: str, token: str = "") -> Result:
    words = ["load", str(path), "--server", served.base, *options]
    return CliRunner().invoke(main, words, input=token, catch_exceptions=False)


def _token(served: Served, scope: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a client that is registered for it."""
    monkeypatch.chdir(served.folder)
    for name in [*os.environ]:
        if name.startswith("KEYWORKING_"):
            monkeypatch.delenv(name)
    _told("key", "generate", "loader")
    registered = ("--scope", "system/*.cruds", "--ods", "ZZK03", "--role", "administrator")
    _told("client", "add", "loader", "--jwks", "loader.jwks.json", *registered)
    asked = ("--key", "loader.private.json", "--server", served.base)
    return _told("token", "loader", "--scope", scope, *asked).strip()


def _told(*words: str) -> str:
    ran = CliRunner().invoke(main, [*words], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_token_is_shown_from_a_file_or_from_standard_input(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value_set = {
        "resourceType": "ValueSet",
        "id": "loaded-with-a-token",
        "url": "https://example.org/fhir/ValueSet/loaded",
        "status": "draft",
    }
    path = tmp_path / "one.json"
    path.write_text(json.dumps(value_set))
    refused = _load(served, path)
    assert refused.exit_code == 1
    assert "401" in refused.output
    assert "A token is needed" in refused.output
    token = _token(served, "system/ValueSet.cu", monkeypatch)
    (tmp_path / "token").write_text(f"{token}\n")
    for options, typed in (([str(tmp_path / "token")], ""), (["-"], token)):
        loaded = _load(served, path, "--token-file", *options, token=typed)
        assert loaded.exit_code == 0, loaded.output
        assert "Stored: 1" in loaded.output
        assert token not in loaded.output


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://fhir.example/fhir/Patient", True),
        ("https://fhir.example/elsewhere", True),
        ("http://fhir.example/fhir/Patient", False),
        ("https://fhir.example:8443/fhir/Patient", False),
        ("https://fhir.example.org/fhir/Patient", False),
    ],
)
def test_a_token_is_for_the_server_that_was_named_alone(address: str, shown: bool) -> None:
    bearer = Bearer("abc", "https://fhir.example/fhir")
    (request,) = bearer.auth_flow(httpx.Request("GET", address))
    assert (request.headers.get("authorization") == "Bearer abc") is shown
