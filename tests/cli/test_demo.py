"""`keyworking demo --admission`, and the lines that `serve --synthetic-caseload` prints."""

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.cli.printed import (
    KEYWORKING,
    PRINTED,
    Served,
    environment,
    printed_lines,
    request_of,
    serving,
)
from tests.support import ServerProcess, free_port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("caseload"), "none") as found:
        yield found


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KEYWORKING, "demo", "--admission", *options],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )


STORY: Final = (
    r"Meet \w+",
    r"NHS number 999 ",
    r"keyworker +\w+ Synthetic-",
    r"CAMHS reads the plan and the goals",
    r"_include=CarePlan:goal",
    r"In their own words",
    r"Rating: AMBER",
    r"R-AMBER-\w+",
    r"The ward tells of an admission",
    r"POST http://\S+/\$process-message",
    r"200 OK",
    r"The rating is blue",
    r"Rating: BLUE",
    r"R-BLUE-INPATIENT +In a mental health hospital",
    r"Discharge plan, draft, 14 items",
    r"Plan opened and owner named +in-progress +\w{3} \d+ \w{3} \d{4}",
    r"Contact the hospital and the young person there +(Mon|Tue|Wed|Thu|Fri) ",
    r"The same message again changes nothing",
    r"The same answer as before",
    r"Still one plan, in version 1",
    r"CAMHS reads the discharge plan",
    r'If-Match: W/"1"',
    r'200 OK, version W/"2"',
    r"13 items are open",
    r"412 Precondition Failed",
    r"the current version is 2",
    r"nobody's work was lost",
    r"400 Bad Request",
    r"Bundle\.entry\[1\]\.resource\.subject: ",
    r"Nothing of it was stored",
    r"The ward tells of the discharge",
    r"Rating: RED",
    r"R-RED-POSTDISCHARGE +Discharged less than 14 days ago",
    r"red +.* now +\w{3} \d+ \w{3} \d{4}",
    r"Send the care plan to everyone it names +\w{3} ",
    r"Follow-up within 72 hours +\w{3} ",
    r"Follow-up within 7 days +\w{3} ",
    r"/_history",
    r"4 +\w{3} .* completed +1 of 14",
    r"1 +\w{3} .* draft +0 of 14",
    r"at home again",
)
"""What the demo says, in this order."""


def assert_told_in_order(output: str, facts: Sequence[str]) -> None:
    position = 0
    for fact in facts:
        found = re.compile(fact).search(output, position)
        assert found, f"{fact} is not told after:\n{output[:position][-500:]}"
        position = found.end()


def test_tells_the_whole_story_and_then_again(served: Served) -> None:
    for _ in range(2):
        ran = demo("--server", served.base)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert_told_in_order(ran.stdout, STORY)
        assert "\x1b" not in ran.stdout


def test_leaves_nobody_in_hospital_who_was_not_there(served: Served) -> None:
    open_stays = f"{served.base}/Encounter?class=IMP&status=in-progress&_summary=count"
    before = httpx.get(open_stays).json()["total"]
    assert demo("--server", served.base).returncode == 0
    assert httpx.get(open_stays).json()["total"] == before


def test_full_shows_the_complete_json(served: Served) -> None:
    ran = demo("--server", served.base + "/", "--full", "--yes", "--pause", "0")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"resourceType": "MessageHeader"' in ran.stdout
    assert '"resourceType": "CarePlan"' in ran.stdout


def test_says_so_when_there_is_no_server() -> None:
    base = f"http://127.0.0.1:{free_port()}/fhir"
    ran = demo("--server", base)
    assert ran.returncode == 2
    assert f"There is no FHIR server at {base}" in ran.stderr
    assert "make run" in ran.stderr


def test_says_so_when_there_is_no_synthetic_caseload(server: ServerProcess) -> None:
    ran = demo("--server", server.base)
    assert ran.returncode == 2
    assert "has no synthetic caseload" in ran.stderr


def test_does_not_write_to_another_machine_unasked() -> None:
    ran = demo("--server", "https://fhir.invalid/fhir")
    assert ran.returncode == 2
    assert "--yes" in ran.stderr


class _Stub(BaseHTTPRequestHandler):
    """A server with a caseload that refuses every search."""

    def do_GET(self) -> None:
        known: dict[str, tuple[int, dict[str, Any]]] = {
            "/fhir/metadata": (200, {"resourceType": "CapabilityStatement"}),
            "/fhir/Provenance/kw-synthetic-caseload": (200, {"resourceType": "Provenance"}),
        }
        issue = {"severity": "error", "code": "exception", "diagnostics": "The disk is full"}
        refusal = (500, {"resourceType": "OperationOutcome", "issue": [issue]})
        status, resource = known.get(self.path, refusal)
        content = json.dumps(resource).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quietly."""


@contextmanager
def _stub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stub) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{stub.server_port}/fhir"
        stub.shutdown()


def test_fails_with_the_reason_when_a_step_does_not_come_out_as_told() -> None:
    with _stub() as base:
        ran = demo("--server", base)
    assert ran.returncode == 1
    assert "500 Internal Server Error, not 200" in ran.stderr
    assert "The disk is full" in ran.stderr


def test_each_printed_line_works_as_printed(served: Served) -> None:
    examples = printed_lines(served.printed)
    assert [comment for comment, _ in examples] == list(PRINTED)
    assert served.printed.count("curl ") == len(examples)
    for comment, command in examples:
        status, answer = _run(command, served.folder)
        assert 200 <= status < 300, (command, status, answer)
        assert re.search(PRINTED[comment], answer), (comment, command, answer[:2000])


def test_the_printed_demo_line_names_the_server(served: Served) -> None:
    found = re.search(r"\.venv/bin/keyworking (demo .+)$", served.printed, re.MULTILINE)
    assert found
    assert shlex.split(found[1]) == ["demo", "--admission", "--server", served.base]


def _run(command: str, folder: Path) -> tuple[int, str]:
    """Status and body; through bash and curl where they are installed."""
    if not (shutil.which("curl") and shutil.which("bash")):
        return _send(command, folder)
    ran = subprocess.run(
        ["bash", "-c", f"{command} -w '\\n%{{http_code}}'"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer, _, status = ran.stdout.rpartition("\n")
    return int(status), answer


def _send(command: str, folder: Path) -> tuple[int, str]:
    method, url, headers, content = request_of(command, folder)
    answer = httpx.request(method, url, headers=headers, content=content)
    return answer.status_code, answer.text


@pytest.mark.parametrize("example", ["GET", "POST"])
def test_lines_are_understood_without_curl_too(served: Served, example: str) -> None:
    commands = [command for _, command in printed_lines(served.printed)]
    command = next(line for line in commands if (" -d " in line) == (example == "POST"))
    status, _ = _send(command, served.folder)
    assert status == 200
