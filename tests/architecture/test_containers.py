"""The image and the compose file: not root, nothing to write but volumes, no password of ours."""

import re
import shutil
import subprocess
import sys
from typing import Any, Final

import pytest
import yaml

from fhir_server.settings import Settings, is_loopback
from tests.support import REPOSITORY

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
SERVERS: Final = ("server", "server-a", "server-b")
SECRETS: Final = ("MONGO_ROOT_PASSWORD", "MONGO_PASSWORD", "MONGO_KEY")
DOCKERFILE: Final = (REPOSITORY / "Dockerfile").read_text()
TEXT: Final = (REPOSITORY / "docker-compose.yml").read_text()
_VARIABLE: Final = re.compile(r"(?<!\$)\$\{(\w+)(?::-([\w:]*))?\}")


def interpolated(value: str) -> str:
    """As compose fills it in where nothing is set."""
    return _VARIABLE.sub(lambda found: found[2] or "", value)


def test_alone_is_the_server_and_beside_it_the_profile_scale() -> None:
    assert [name for name, one in SERVICES.items() if "profiles" not in one] == ["server"]
    assert {name for name, one in SERVICES.items() if one.get("profiles") == ["scale"]} == {
        *("proxy", "server-a", "server-b", "mongo-init"),
        *("mongo-1", "mongo-2", "mongo-3"),
    }
    assert {name for name, one in SERVICES.items() if one.get("profiles") == ["load"]} == {
        *("load-leader", "load-worker")
    }


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    published = [interpolated(port) for port in service.get("ports", ())]
    assert all(is_loopback(port.partition(":")[0]) for port in published)


@pytest.mark.parametrize("name", SERVERS)
def test_the_settings_of_a_server_fit_and_it_stays_on_loopback(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {k: interpolated(v) for k, v in SERVICES[name]["environment"].items()}
    assert given["KEYWORKING_STORE" if name != "server" else "KEYWORKING_AUTH"]
    if given.pop("KEYWORKING_STORE", "").startswith("mongodb://"):
        assert name != "server"
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert is_loopback(settings.host)
    assert SERVICES[name]["read_only"] is True


def test_each_server_behind_the_proxy_is_one_of_its_upstreams() -> None:
    upstreams = re.findall(
        r"^\s+server 127\.0\.0\.1:(\d+)", (REPOSITORY / "deploy/nginx.conf").read_text(), re.M
    )
    ports = [SERVICES[name]["environment"]["KEYWORKING_PORT"] for name in SERVERS[1:]]
    assert upstreams == ports
    assert {SERVICES[name]["network_mode"] for name in SERVERS[1:]} == {"service:proxy"}


def test_no_secret_has_a_default_and_the_example_holds_none() -> None:
    defaults = dict(_VARIABLE.findall(TEXT))
    assert {*SECRETS} < defaults.keys()
    assert {defaults[name] for name in SECRETS} == {""}
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    told = dict(line.split("=") for line in lines if line and not line.startswith("#"))
    assert told.keys() == defaults.keys()
    assert {told[name] for name in SECRETS} == {""}
    assert ".env" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_an_empty_secret_ends_the_containers_that_need_it() -> None:
    for name in ("mongo-1", "mongo-2", "mongo-3"):
        script = SERVICES[name]["entrypoint"][-1].replace("$$", "$")
        ended = subprocess.run(
            ["bash", "-euc", script], env={"MONGO_KEY": ""}, capture_output=True, check=False
        )
        assert ended.returncode != 0
        assert b"set it in .env" in ended.stderr
    init = (REPOSITORY / "deploy/mongo-init.js").read_text()
    assert "if (!password || !root)" in init


def test_the_members_of_the_replica_set_keep_their_data_apart() -> None:
    members = [SERVICES[f"mongo-{n}"] for n in (1, 2, 3)]
    assert {one["image"] for one in members} == {"mongo:8.0"}
    volumes = [volume.partition(":")[0] for one in members for volume in one["volumes"]]
    assert len({*volumes}) == 6
    assert {*volumes, "store"} == COMPOSE["volumes"].keys()
    assert all("healthcheck" in one for one in members)
    assert COMPOSE["networks"]["data"] == {"internal": True}


def test_the_image_is_not_root_and_has_nothing_to_build_with() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert len(stages) == 2
    last = stages[1]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "pip uninstall --yes pip" in last
    assert not re.search(r"apt-get|gcc|build-essential|pip install", last)
    assert re.search(r"^HEALTHCHECK .*\n?.*CMD \[\"python\"", last, re.M)


def test_everything_that_is_installed_is_copied_into_the_image() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    (included,) = re.findall(r"^include = \[(.*)\]$", project, re.M)
    for package in re.findall(r'"(\w+)\*"', included):
        assert f"COPY {package} {package}\n" in DOCKERFILE
        assert f"!{package}\n" in (REPOSITORY / ".dockerignore").read_text()


def test_the_file_is_as_the_specification_of_compose_has_it() -> None:
    """By the schema of https://github.com/compose-spec/compose-spec, as check-jsonschema has it."""
    schema = ["--builtin-schema", "vendor.compose-spec"]
    told = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, "docker-compose.yml"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout.decode() + told.stderr.decode()


def _compose() -> list[str]:
    """The command of compose, where the client is installed: of version 2, as 1 has ended."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = [*command, "version", "--short"]
            tried = subprocess.run(asked, capture_output=True, check=False)
            if tried.returncode == 0 and not tried.stdout.startswith((b"0.", b"1.")):
                return command
    return []


def test_what_makes_load_has_its_own_image_with_the_scenarios_and_is_not_root() -> None:
    dockerfile = (REPOSITORY / "deploy" / "load.Dockerfile").read_text()
    assert "COPY loadtests loadtests\n" in dockerfile
    assert "!loadtests\n" in (REPOSITORY / ".dockerignore").read_text()
    assert re.search(r"^USER 10001:10001$", dockerfile, re.M)
    for name in ("load-leader", "load-worker"):
        assert SERVICES[name]["read_only"] is True
        assert interpolated(SERVICES[name]["user"]) != "0:0"
        assert SERVICES[name]["volumes"] == ["./build/load:/load"]
    leads, follows = (SERVICES[name]["command"] for name in ("load-leader", "load-worker"))
    assert (
        leads[leads.index("--master-bind-host") + 1] == follows[follows.index("--master-host") + 1]
    )
    assert "ENV LOADTEST_PLAN=/load/plan.json" in dockerfile


@pytest.mark.skipif(not _compose(), reason="the client of docker compose is not installed")
@pytest.mark.parametrize("profile", [[], ["--profile", "scale"], ["--profile", "load"]])
def test_compose_itself_takes_the_file(profile: list[str]) -> None:
    told = subprocess.run(
        [*_compose(), *profile, "config", "--quiet"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
