"""Tokens at the edge: who is refused, when and how, and what is told of where tokens come from.

The policy is that of the scopes alone: what is refused here, no consent can give.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import openapi_spec_validator
import pytest
from fastapi.routing import APIRoute
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from starlette.routing import Route, WebSocketRoute

from fhir_server.app import Application, create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.table import ROUTER
from fhir_server.settings import Settings
from tests.access.issuing import ISSUER
from tests.access.tokened import BASIC, INVALID, PATIENT, app, bearing, client, settings
from tests.support import assert_outcome, body, outcome_issues

__all__ = ["app", "client", "settings"]

# Who is refused, and how


async def test_a_good_token_is_let_in(client: httpx.AsyncClient) -> None:
    found = await client.get("Patient/p1", headers=bearing("system/Patient.r"))
    assert found.status_code == 200
    assert "www-authenticate" not in found.headers


async def test_class_26_without_a_token_everything_is_401_on_every_route(
    client: httpx.AsyncClient,
) -> None:
    """Generated from the table of routes: a new one is closed too."""
    named = {"{type}": "Patient", "{id}": "p1", "{version}": "1", "{member}": "CarePlan"}
    for route in ROUTER.routes:
        path = route.pattern.replace("{operation}", "$everything")
        for place, value in named.items():
            path = path.replace(place, value)
        if path == "metadata":
            continue
        for headers in ({}, {"authorization": "Bearer made-up"}):
            found = await client.request(route.method, path, headers=headers)
            assert_outcome(found, 401, "login", "token")
            assert found.headers["www-authenticate"].startswith('Bearer realm="fhir"')


BESIDE: Final = {
    **dict.fromkeys(("GET /health/live", "GET /health/ready", "GET /openapi.json"), 200),
    "GET /fhir/.well-known/smart-configuration": 200,
    **dict.fromkeys(("GET /auth/jwks", "GET /.well-known/oauth-authorization-server/auth"), 200),
    **dict.fromkeys(("POST /auth/token", "POST /auth/revoke", "POST /auth/introspect"), 401),
    "websocket /fhir/ws": 101,
    "websocket /{path:path}": 404,
}
"""What stands beside the FHIR interface, and what it is for whoever comes with nothing. The
websocket tells nothing until it is bound: tests/events/test_withdrawn.py, tests/http/test_edge.py
for the others."""


def _beside(app: Application) -> set[str]:
    found = set()
    for route in app.router.routes:
        assert isinstance(route, Route | WebSocketRoute | APIRoute), "another sort of route"
        methods = ["websocket"] if isinstance(route, WebSocketRoute) else route.methods or ()
        found |= {f"{method} {route.path}" for method in methods if method != "HEAD"}
    return found


async def test_class_26_what_stands_beside_fhir_has_a_row_and_tells_strangers_nothing_of_anybody(
    app: Application, client: httpx.AsyncClient, settings: Settings
) -> None:
    assert _beside(app) == BESIDE.keys()
    root = settings.base.removesuffix("/fhir")
    form = {"grant_type": "client_credentials", "token": "x"}
    for name, status in BESIDE.items():
        method, _, path = name.partition(" ")
        if method == "websocket":
            continue
        sent = form if method == "POST" else None
        found = await client.request(method, root + path, data=sent)
        assert found.status_code == status, (name, found.text)
        assert PATIENT["id"] not in found.text.split('"')


async def test_class_26_what_is_not_there_is_401_too(client: httpx.AsyncClient) -> None:
    for path in ("Unicorn", "Patient/none", "no/such/place/at/all", "Patient/$none"):
        assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic dTpw"}, {"authorization": "Bearer a.b.c"}]
)
async def test_a_refusal_tells_no_reason_in_either_format(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    found = await client.get("Patient/p1", headers=headers)
    challenge = INVALID if headers else 'Bearer realm="fhir"'
    assert found.headers["www-authenticate"] == challenge
    assert len(outcome_issues(found)) == 1
    as_xml = await client.get("Patient/p1", headers={**headers, "accept": "application/fhir+xml"})
    assert as_xml.status_code == 401
    assert as_xml.headers["www-authenticate"] == challenge
    assert '<OperationOutcome xmlns="http://hl7.org/fhir">' in as_xml.text
    by_format = await client.get("Patient/p1?_format=xml", headers=headers)
    assert by_format.content == as_xml.content


async def test_every_reason_is_told_in_the_same_words(client: httpx.AsyncClient) -> None:
    told = [
        bearing(exp=1),
        bearing(aud="another"),
        bearing(iss="https://another.example"),
        bearing(ods_code={"$ne": ""}),
        {"authorization": "Bearer opaque"},
    ]
    answers = {(await client.get("Patient/p1", headers=one)).content for one in told}
    assert len(answers) == 1


async def test_class_26_nothing_of_the_body_is_read_before_the_token_is_good(
    app: Application,
) -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("the body was read")

    for headers in ([], [(b"authorization", b"Bearer made-up")]):
        assert await _status(app, "POST", "/fhir/Patient", headers, never) == 401
    sent = bearing("system/Patient.r")["authorization"].encode()
    for method, path in (("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/p1")):
        assert await _status(app, method, path, [(b"authorization", sent)], never) == 403


async def _status(
    app: Application,
    method: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    receive: Callable[[], Any],
) -> int:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient) -> None:
    sent = bearing()["authorization"]
    headers = httpx.Headers([("authorization", sent), ("authorization", sent)])
    assert_outcome(
        await client.get("Patient/p1", headers=headers),
        400,
        "invalid",
        "Authorization stands twice",
        "http.Authorization",
    )


@pytest.mark.parametrize("name", ["access_token", "access%5Ftoken", "%61ccess_token"])
async def test_a_token_in_the_address_is_refused(client: httpx.AsyncClient, name: str) -> None:
    sent = bearing()["authorization"].removeprefix("Bearer ")
    for headers in ({}, bearing()):
        found = await client.get(f"Patient?_id=p1&{name}={sent}", headers=headers)
        assert_outcome(found, 400, "invalid", "never in the address", "http.access_token")
        assert sent not in found.text


async def test_a_token_in_a_form_is_no_token(client: httpx.AsyncClient) -> None:
    sent = bearing()["authorization"].removeprefix("Bearer ")
    form = {"access_token": sent, "_id": "p1"}
    assert (await client.post("Patient/_search", data=form)).status_code == 401
    found = await client.post("Patient/_search", data=form, headers=bearing())
    assert_outcome(found, 400, "invalid", "access_token")
    assert sent not in found.text


async def test_what_the_server_is_and_whether_it_lives_needs_no_token(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    root = settings.base.removesuffix("/fhir")
    for address in (
        "metadata",
        ".well-known/smart-configuration",
        f"{root}/health/live",
        f"{root}/health/ready",
        f"{root}/openapi.json",
    ):
        assert (await client.get(address)).status_code == 200, address
    assert (await client.options("")).status_code == 200
    assert (await client.options("Patient")).status_code == 204
    assert (await client.post("metadata")).status_code in (401, 405)


async def test_class_27_keys_that_cannot_be_read_deny(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "keys.json").rename(tmp_path / "away.json")
    fresh = create_app(settings.model_copy(update={"store": settings.store + ".2"}))
    async with fresh.router.lifespan_context(fresh):
        transport = httpx.ASGITransport(app=fresh)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as other:
            found = await other.get("Patient/p1", headers=bearing())
    assert_outcome(found, 503, "transient", "cannot be checked", "http.Authorization")
    assert found.headers["retry-after"] == "1"


async def test_without_a_way_to_know_callers_nobody_is_let_in(tmp_path: Path) -> None:
    closed = create_app(Settings(store=f"sqlite:///{tmp_path}/closed.db"))
    async with closed.router.lifespan_context(closed):
        transport = httpx.ASGITransport(app=closed)
        async with httpx.AsyncClient(transport=transport, base_url="http://h/fhir/") as other:
            for headers in ({}, bearing()):
                assert (await other.get("Patient", headers=headers)).status_code == 401


# What is told of where tokens come from


async def test_the_smart_configuration_says_where_tokens_come_from(
    client: httpx.AsyncClient,
) -> None:
    found = await client.get(".well-known/smart-configuration")
    assert found.headers["content-type"] == "application/json"
    told = found.json()
    assert told["issuer"] == ISSUER
    assert told["token_endpoint"] == f"{ISSUER}/token"
    assert told["authorization_endpoint"] == f"{ISSUER}/auth"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert {"permission-v1", "permission-v2", "permission-patient"} <= {*told["capabilities"]}
    assert "jwks_uri" not in told  # a file of ours is nobody's business
    assert not any(value in ("", [], None) for value in told.values())


async def test_the_capability_statement_says_that_tokens_are_needed(
    client: httpx.AsyncClient,
) -> None:
    found = await client.get("metadata")
    CapabilityStatement.model_validate_json(found.content)
    security = found.json()["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    (uris,) = security["extension"]
    assert {one["url"]: one["valueUri"] for one in uris["extension"]} == {
        "token": f"{ISSUER}/token",
        "authorize": f"{ISSUER}/auth",
    }


async def test_the_openapi_description_says_that_tokens_are_needed(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    told = (await client.get(f"{settings.base.removesuffix('/fhir')}/openapi.json")).json()
    openapi_spec_validator.validate(told)
    assert told["security"] == [{"token": []}]
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert told["paths"]["/metadata"]["get"]["security"] == []


async def test_with_auth_none_there_is_no_smart_configuration(tmp_path: Path) -> None:
    application = create_app(Settings(auth="none", store=f"sqlite:///{tmp_path}/open.db"))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://h/fhir/") as client:
            found = await client.get(".well-known/smart-configuration")
            assert_outcome(found, 404, "not-found", "nothing here")


async def test_a_token_with_every_scope_is_still_decided_by_the_table(
    settings: Settings, tmp_path: Path
) -> None:
    application = create_app(settings.model_copy(update={"store": f"sqlite:///{tmp_path}/s.db"}))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(
            transport=transport, base_url=settings.base + "/", headers=bearing()
        ) as client:
            assert "entry" not in (await client.get("Patient")).json()
            refused = await client.post("Basic", **body(BASIC))
            assert_outcome(refused, 403, "forbidden", "Whose record this is cannot be told")
            assert "www-authenticate" not in refused.headers


def test_a_refusal_for_scopes_is_told_from_one_of_the_policy() -> None:
    assert FhirError(Kind.FORBIDDEN, "no").challenge == ""
