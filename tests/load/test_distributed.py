"""Load from several processes, as the compose profile `load` starts them, but without docker.

The options are those of the compose file, the rest that of the image: a leader and its workers run
here as they would there, for some seconds, and their raw data comes to one report.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import yaml
from click.testing import CliRunner

from fhir_server.region import Asked
from loadtests import load
from loadtests.people import Identity
from loadtests.plan import VARIABLE, Client, Plan, Step
from tests.support import REPOSITORY, free_port

SERVICES: Final = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
IMAGE: Final = (REPOSITORY / "deploy" / "load.Dockerfile").read_text()
KUBERNETES: Final = REPOSITORY / "deploy" / "load.kubernetes.yaml"
LEADER, WORKER = SERVICES["load-leader"], SERVICES["load-worker"]
ANYBODY: Final = Client(Identity("all", "anyone", "", ()), "", "")


def _words(service: dict[str, Any], workers: int, port: int) -> list[str]:
    """Its command, filled in as compose does it, on a port of the test's own."""
    filled = [re.sub(r"\$\{LOAD_WORKERS:-\d\}", str(workers), word) for word in service["command"]]
    leads = "--master" in filled
    return [*filled, "--master-bind-port" if leads else "--master-port", str(port)]


def _entry() -> list[str]:
    """The image's entry point, with this folder in place of that in which the image has it."""
    (told,) = re.findall(r"^ENTRYPOINT (.*)$", IMAGE, re.MULTILINE)
    words: list[str] = json.loads(told)
    assert words[0] == "locust"
    return [sys.executable, "-m", *(one.replace("/opt/load", str(REPOSITORY)) for one in words)]


@contextmanager
def _empty() -> Iterator[str]:
    """A server that finds nothing: each answer is wrong, and counted."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
    finally:
        server.shutdown()
        server.server_close()


def test_what_the_image_is_made_of_is_there() -> None:
    for service in (LEADER, WORKER):
        assert (REPOSITORY / service["build"]["dockerfile"]).read_text() == IMAGE
    lines = [line.split()[1:-1] for line in IMAGE.splitlines() if line.startswith("COPY ")]
    copied = {place for line in lines for place in line}
    assert {"pyproject.toml", "fhir_server", "profiles", "terminology", "loadtests"} <= copied
    assert all((REPOSITORY / place).exists() for place in copied)
    assert f"{VARIABLE}=/load/plan.json" in IMAGE


def test_the_pods_on_kubernetes_have_the_options_of_the_compose_file() -> None:
    claim, service, leader, worker = yaml.safe_load_all(KUBERNETES.read_text())
    name, pods = service["metadata"]["name"], [_pod(one) for one in (leader, worker)]
    leads, follows = (pod["containers"][0]["args"] for pod in pods)
    assert leads == _without_address(_words(LEADER, worker["spec"]["parallelism"], 0)[:-2])
    assert follows == ["--worker", "--master-host", name]
    assert WORKER["command"][:2] == follows[:2]
    assert service["spec"]["selector"] == leader["spec"]["template"]["metadata"]["labels"]
    assert [one["port"] for one in service["spec"]["ports"]] == [5557], "Locust's own"
    for pod in pods:
        (container,) = pod["containers"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert f"USER {pod['securityContext']['runAsUser']}:" in IMAGE
        assert {one["mountPath"] for one in container["volumeMounts"]} == {"/load", "/tmp"}  # noqa: S108
        assert container["securityContext"]["readOnlyRootFilesystem"] is LEADER["read_only"] is True


def _pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def _without_address(words: list[str]) -> list[str]:
    """On the loopback of one machine the leader listens there; in a pod it is asked from others."""
    place = words.index("--master-bind-host")
    return words[:place] + words[place + 2 :]


def test_a_leader_and_two_workers_make_one_report(tmp_path: Path) -> None:
    asked = Asked(register=2, as_of=datetime.now(UTC).date())
    with _empty() as base:
        plan = Plan(base, "", ".", asked, [ANYBODY], ["keyworkers", "partners"], [Step(4, 3.0)])
        plan.write(tmp_path / "plan.json")
        environment = {
            **os.environ,
            VARIABLE: str(tmp_path / "plan.json"),
            "PYTHONPATH": str(REPOSITORY),
        }
        port = free_port()
        commands = [[*_entry(), *_words(one, 2, port)] for one in (LEADER, WORKER, WORKER)]
        started = [
            subprocess.Popen(one, env=environment, stderr=subprocess.PIPE) for one in commands
        ]
        ends = [(one.communicate(timeout=60)[1][-800:], one.returncode) for one in started]
    assert [status for _, status in ends] == [0, 0, 0], ends
    made = [path for path in tmp_path.glob("samples-*.ndjson") if path.stat().st_size]
    assert len(made) == 2, "each worker has written its own"
    ran = CliRunner().invoke(load.main, ["report", str(tmp_path), "--to", str(tmp_path / "to")])
    assert ran.exit_code == 1, ran.output
    (run,) = json.loads((tmp_path / "to" / "report.json").read_text())["runs"]
    lines = sum(len(path.read_text().splitlines()) for path in made)
    assert sum(one["requests"] for one in run["requests"]) == lines > 0
    assert {one["fault"] for one in run["faults"]} <= {"status 404", "status 501"}
