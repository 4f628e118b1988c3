"""The OpenAPI description: valid, complete, and every promise in it is kept.

https://spec.openapis.org/oas/v3.0.3, https://hl7.org/fhir/R4/http.html#summary
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from openapi_spec_validator import OpenAPIV30SpecValidator

from fhir_server.app import Application, create_app
from fhir_server.cli import main
from fhir_server.fhir.definitions import compartments, resource_types
from fhir_server.interactions.table import ROUTER
from fhir_server.settings import Settings
from tests.support import REPOSITORY

ADDRESS = "http://127.0.0.1:8080/openapi.json"
LARGEST = 2_500_000
METHODS = ("get", "post", "put", "patch", "delete")
DEFINITIONS = [
    json.loads(path.read_text())
    for package in ("operations", "fhir_operations")
    for path in sorted((REPOSITORY / package).glob("*.json"))
]

BY_GET_TOO = ("admission-risk", "discharge-plan")
"""They write by POST alone."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What is printed with the settings as they are without any."""
    ran = CliRunner().invoke(main, ["openapi"], catch_exceptions=False)
    assert ran.exit_code == 0
    described: dict[str, Any] = json.loads(ran.stdout)
    return described


def _promises(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def test_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPIV30SpecValidator(document).validate()


def test_every_name_of_an_operation_is_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _promises(document)]
    assert len(names) == len(set(names))


async def test_is_served_without_a_token_and_within_its_size(
    app: Application, document: dict[str, Any]
) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport) as client:
        plain = await client.get(ADDRESS, headers={"accept-encoding": "identity"})
        small = await client.get(ADDRESS, headers={"accept-encoding": "gzip"})
    assert plain.headers["content-type"] == "application/json"
    assert "content-encoding" not in plain.headers
    assert len(plain.content) < LARGEST
    assert plain.json()["servers"] == [{"url": "/fhir"}]
    assert plain.json()["paths"] == document["paths"]
    assert small.headers["content-encoding"] == "gzip"
    assert small.content == plain.content
    assert int(small.headers["content-length"]) < LARGEST / 10


async def test_says_where_the_server_stands(settings: Settings) -> None:
    base = "https://fhir.example.nhs.uk/r4"
    app = create_app(Settings(**{**settings.model_dump(), "public_base": base}))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport) as client:
        described = (await client.get(ADDRESS)).json()
    assert described["servers"] == [{"url": base}]


def test_everything_that_is_wired_is_in_it(document: dict[str, Any]) -> None:
    promised = {(method, path) for method, path, _ in _promises(document)}
    wired = {
        (route.method.lower(), "/" + route.pattern.replace("{type}", name))
        for name in resource_types()
        for route in ROUTER.of(name)
        if "{operation}" not in route.pattern
        if "{member}" not in route.pattern or name in compartments()
    }
    assert promised == wired | set(_defined())


def _defined() -> Iterator[tuple[str, str]]:
    """Where the definitions of the operations say that they are invoked."""
    for definition in DEFINITIONS:
        types = definition.get("resource", [])
        named = resource_types() if "Resource" in types else types
        places = ["/$"] if definition["system"] else []
        places += [f"/{name}/$" for name in named if definition["type"]]
        if definition["instance"]:
            places += [f"/{name}/{{id}}/$" for name in named if name not in ROUTER.own]
        for place in places:
            yield "post", place + definition["code"]
            own = place.split("/")[1] in ROUTER.own
            reads = not definition.get("affectsState", True) or definition["code"] in BY_GET_TOO
            if reads and not own:
                yield "get", place + definition["code"]


async def test_every_promise_is_kept(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    broken = []
    for method, path, operation in _promises(document):
        address = path.replace("{id}", "1").replace("{version}", "1").replace("{member}", "*")
        answer = await client.request(
            method, address.lstrip("/"), **_sent(document, operation), params=_needed(operation)
        )
        none = "no address" in answer.text or "no operation" in answer.text
        if answer.status_code in (405, 415, 501) or answer.status_code >= 500 or none:
            broken.append((method, path, answer.status_code, answer.text))
    assert not broken


def _sent(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """A body of each media type in turn would be the same: it is empty where that is allowed."""
    if "requestBody" not in operation:
        return {}
    name = operation["requestBody"]["$ref"].rpartition("/")[2]
    media = next(iter(document["components"]["requestBodies"][name]["content"]))
    return {"content": b"" if "form" in media else b"{}", "headers": {"content-type": media}}


def _needed(operation: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: "1" for one in operation.get("parameters", ()) if one.get("required")}


def test_search_parameters_are_those_of_the_capability_statement(
    document: dict[str, Any], statement: dict[str, Any]
) -> None:
    components = document["components"]["parameters"]
    for resource in statement["rest"][0]["resource"]:
        name = resource["type"]
        listed = {
            components[one["$ref"].rpartition("/")[2]]["name"]
            for one in document["paths"][f"/{name}"]["get"]["parameters"]
        }
        form = document["components"]["requestBodies"][f"search-{name}"]["content"]
        (schema,) = (one["schema"] for one in form.values())
        promised = {one["name"] for one in resource["searchParam"]}
        assert promised <= listed, name
        assert promised == schema["properties"].keys(), name


@pytest.fixture
async def statement(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("metadata")).json()
    return found


def test_bounds_are_those_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    monkeypatch.setenv("KEYWORKING_MAX_COUNT", "77")
    monkeypatch.setenv("KEYWORKING_MAX_ENTRIES", "7")
    changed = json.loads(CliRunner().invoke(main, ["openapi"]).stdout)
    for described, count, entries in ((document, 1000, 1000), (changed, 77, 7)):
        components = described["components"]
        assert components["parameters"]["_count"]["schema"]["maximum"] == count
        bundle = components["schemas"]["Bundle"]["properties"]
        assert bundle["entry"]["maxItems"] == entries


def test_settings_that_do_not_fit_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYWORKING_OPERATIONS", "nope")
    ran = CliRunner().invoke(main, ["openapi"])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "There is no package 'nope'" in ran.stderr
