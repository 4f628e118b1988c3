"""Tokens at the edge: who is refused, when, and how; and that scopes hold on every way in.

The policy is that of the scopes alone: what is refused here, no consent can give.
"""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import openapi_spec_validator
import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from fhir_server.access.caller import Caller
from fhir_server.access.decision import Decisions
from fhir_server.access.policy import Policy
from fhir_server.app import Application, create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.table import ROUTER
from fhir_server.operation.registry import load
from fhir_server.settings import Settings
from tests.access import issuing
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.test_tokens_terms import OnlyScopes
from tests.jobs import finished
from tests.stores import store_at
from tests.support import FHIR_JSON, assert_outcome, body, outcome_issues

INVALID: Final = 'Bearer realm="fhir", error="invalid_token"'
INSUFFICIENT: Final = 'Bearer realm="fhir", error="insufficient_scope"'
PATIENT: Final = {"resourceType": "Patient", "id": "p1", "gender": "female"}
BASIC: Final = {"resourceType": "Basic", "code": {"text": "a note"}}


def bearing(scopes: str = "system/*.cruds", **changed: Any) -> dict[str, str]:
    """Headers with a token that is good now."""
    now = int(time.time())
    times = {"exp": now + 300, "iat": now, "nbf": now}
    told = {**times, "scope": scopes, **changed}
    return {"authorization": f"Bearer {issuing.token(**told)}"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    return Settings(
        auth="token",
        issuer=ISSUER,
        jwks=str(keys),
        token_endpoint=f"{ISSUER}/token",
        authorize_endpoint=f"{ISSUER}/auth",
        store=store_at(tmp_path / "test.db"),
        max_entries=50,
    )


@pytest.fixture
async def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    def of_scopes(settings: Settings, caller: Caller, decisions: Decisions | None) -> Policy:
        del settings, decisions
        return OnlyScopes(caller)

    monkeypatch.setattr("fhir_server.app.policy_of", of_scopes)
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def client(app: Application, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
        for resource in (PATIENT, BASIC | {"id": "b1"}):
            address = f"{resource['resourceType']}/{resource['id']}"
            headers = {**FHIR_JSON, **bearing()}
            stored = await client.put(address, json=resource, headers=headers)
            assert stored.status_code == 201, stored.text
        yield client


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


# Scopes


GRANTED: Final[list[tuple[str, str, Any, str]]] = [
    ("GET", "Patient/p1", None, "system/Patient.r"),
    ("GET", "Patient/p1/_history/1", None, "system/Patient.r"),
    ("GET", "Patient/p1/_history", None, "system/Patient.r"),
    ("GET", "Patient/_history", None, "system/Patient.rs"),
    ("GET", "_history", None, "system/*.rs"),
    ("GET", "Patient?_id=p1", None, "system/Patient.s"),
    ("POST", "Patient/_search", {"_id": "p1"}, "system/Patient.s"),
    ("GET", "Patient/p1/CarePlan", None, "system/CarePlan.s"),
    ("GET", "Patient/p1/*?_type=CarePlan,Goal", None, "system/CarePlan.s system/Goal.s"),
    ("GET", "Patient/p1/*", None, "system/*.s"),
    ("GET", "?_type=Patient", None, "system/Patient.s"),
    ("GET", "?_id=p1", None, "system/*.s"),
    ("POST", "_search", {"_type": "Patient"}, "system/Patient.s"),
    ("POST", "_search", {"_id": "p1"}, "system/*.s"),
    ("POST", "Basic", BASIC, "system/Basic.c"),
    ("PUT", "Basic/b2", BASIC | {"id": "b2"}, "system/Basic.u"),
    ("PUT", "Basic?_id=b1", BASIC, "system/Basic.us"),
    ("PATCH", "Basic/b1", [], "system/Basic.ru"),
    ("PATCH", "Basic?_id=b1", [], "system/Basic.rus"),
    ("DELETE", "Basic/b1", None, "system/Basic.d"),
    ("DELETE", "Basic?_id=b1", None, "system/Basic.ds"),
    ("GET", "Patient/p1/$everything", None, "system/Patient.rs"),
    ("GET", "Patient/$everything", None, "system/Patient.rs"),
    ("GET", "Patient/p1/$meta", None, "system/Patient.rs"),
    ("GET", "$meta", None, "system/*.rs"),
    ("POST", "Basic/b1/$meta-add", {"tag": True}, "system/Basic.ru"),
    ("GET", "$export", None, "system/*.rs"),
    ("GET", "$export?_type=Patient,Basic", None, "system/Patient.rs system/Basic.rs"),
    ("GET", "Patient/$export?_type=CarePlan", None, "system/Patient.rs system/CarePlan.rs"),
    ("GET", "CodeSystem/$lookup?system=x&code=y", None, "system/CodeSystem.rs"),
]
"""Method, address, body and the least scopes that are enough."""


async def ask(
    client: httpx.AsyncClient, method: str, address: str, sent: Any, scopes: str, **told: Any
) -> httpx.Response:
    headers = bearing(scopes, **told)
    if "$export" in address:
        headers["prefer"] = "respond-async"
    if "_search" in address:
        return await client.request(method, address, data=sent, headers=headers)
    if method == "PATCH":
        headers["content-type"] = "application/json-patch+json"
    elif sent is not None:
        headers |= FHIR_JSON
    if isinstance(sent, dict) and "tag" in sent:
        tags = {"tag": [{"system": "http://t", "code": "x"}]}
        sent = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": tags}]}
    return await client.request(method, address, json=sent, headers=headers)


def _named(case: tuple[str, str, Any, str]) -> str:
    return f"{case[0]} {case[1]}"


@pytest.mark.parametrize("case", GRANTED, ids=_named)
async def test_class_26_the_least_scopes_are_enough_and_no_letter_less(
    client: httpx.AsyncClient, case: tuple[str, str, Any, str]
) -> None:
    method, address, sent, scopes = case
    for fewer in _with_a_letter_less(scopes):
        found = await ask(client, method, address, sent, fewer)
        assert_outcome(found, 403, "forbidden", "scopes of the token do not grant")
        assert found.headers["www-authenticate"] == INSUFFICIENT
    enough = await ask(client, method, address, sent, scopes)
    assert enough.status_code != 403 or "scopes" not in enough.text, enough.text
    assert enough.status_code != 401


def _with_a_letter_less(scopes: str) -> list[str]:
    """The scopes in all ways with one letter less, and with another type or none."""
    all_of_them = scopes.split(" ")
    found = ["", "system/Slot.cruds", "patient/*.cruds", "user/*.cruds"]
    for place, scope in enumerate(all_of_them):
        head, _, letters = scope.partition(".")
        for letter in letters:
            rest = "".join(one for one in "cruds" if one != letter)
            changed = f"{head}.{rest}"
            found.append(" ".join([*all_of_them[:place], changed, *all_of_them[place + 1 :]]))
    return found


async def test_an_interaction_that_was_added_is_among_those_that_are_tried() -> None:
    """A route that nobody gave a letter needs all of them."""
    from fhir_server.interactions.permission import _A_TOKEN_ALONE, _LETTERS

    codes = {route.interaction.code for route in ROUTER.routes}
    assert codes == {*_LETTERS, *_A_TOKEN_ALONE, "operation"}


async def test_if_none_exist_needs_search_as_it_tells_what_is_there(
    client: httpx.AsyncClient,
) -> None:
    headers = {**FHIR_JSON, "if-none-exist": "_id=b1"}
    refused = await client.post("Basic", json=BASIC, headers=headers | bearing("system/Basic.c"))
    assert_outcome(refused, 403, "forbidden", "Basic.s")
    found = await client.post("Basic", json=BASIC, headers=headers | bearing("system/Basic.cs"))
    assert found.status_code != 403


@pytest.mark.parametrize("scopes", ["patient/*.cruds", "patient/Patient.rs"])
async def test_class_26_launch_scopes_without_a_patient_grant_nothing(
    client: httpx.AsyncClient, scopes: str
) -> None:
    for address in ("Patient/p1", "Patient", "Patient/p1/$everything"):
        found = await client.get(address, headers=bearing(scopes))
        assert_outcome(found, 403, "forbidden", "do not grant")
    named = bearing(scopes, patient="p1")
    assert (await client.get("Patient/p1", headers=named)).status_code == 200
    another = bearing(scopes, patient="p2")
    assert (await client.get("Patient/p1", headers=another)).status_code == 404


async def test_scopes_with_criteria_narrow_what_is_found(client: httpx.AsyncClient) -> None:
    for criteria, found in (("gender=female", 200), ("gender=male", 404)):
        headers = bearing(f"system/Patient.rs?{criteria}")
        assert (await client.get("Patient/p1", headers=headers)).status_code == found
        total = (await client.get("Patient?_total=accurate", headers=headers)).json()["total"]
        assert total == (1 if found == 200 else 0)


def bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {
                "request": {"method": method, "url": url},
                **({} if resource is None else {"resource": resource}),
            }
            for method, url, resource in entries
        ],
    }


async def test_class_16_entries_of_a_batch_are_granted_one_by_one(
    client: httpx.AsyncClient,
) -> None:
    sent = bundle(
        "batch",
        ("GET", "Patient/p1", None),
        ("GET", "Patient", None),
        ("POST", "Basic", BASIC),
        ("GET", "Basic/b1", None),
        ("DELETE", "Basic/b1", None),
        ("GET", "Patient/p1/$everything", None),
        ("POST", "$process-message", None),
    )
    headers = {**FHIR_JSON, **bearing("system/Patient.r system/Basic.c")}
    found = await client.post("", json=sent, headers=headers)
    statuses = [one["response"]["status"][:3] for one in found.json()["entry"]]
    assert statuses == ["200", "403", "201", "403", "403", "403", "403"]
    accepted = await client.post("", json=sent, headers={**headers, "prefer": "respond-async"})
    async with _as(client, "system/Slot.c") as same:
        done = await finished(same, accepted.headers["content-location"])
    statuses = [one["response"]["status"][:3] for one in done.json()["entry"]]
    assert statuses == ["200", "403", "201", "403", "403", "403", "403"]


def _as(client: httpx.AsyncClient, scopes: str, **told: Any) -> httpx.AsyncClient:
    """The same server, whose client always shows that token."""
    return httpx.AsyncClient(
        transport=client._transport, base_url=client.base_url, headers=bearing(scopes, **told)
    )


async def test_class_16_a_transaction_is_refused_for_each_entry_that_is_not_granted(
    client: httpx.AsyncClient,
) -> None:
    sent = bundle(
        "transaction",
        ("POST", "Basic", BASIC),
        ("GET", "Patient?gender=female", None),
        ("DELETE", "Basic/b1", None),
    )
    headers = {**FHIR_JSON, **bearing("system/Basic.c")}
    found = await client.post("", json=sent, headers=headers)
    assert_outcome(found, 403, "forbidden", "Patient.s", "Bundle.entry[1]")
    assert_outcome(found, 403, "forbidden", "Basic.d", "Bundle.entry[2]")
    assert len(outcome_issues(found)) == 2
    assert found.headers["www-authenticate"] == INSUFFICIENT
    kept = await client.get("Basic?_summary=count", headers=bearing("system/Basic.s"))
    assert kept.json()["total"] == 1


async def test_class_16_a_reference_by_criteria_needs_search_as_it_tells_what_is_there(
    client: httpx.AsyncClient,
) -> None:
    about = {**BASIC, "subject": {"reference": "Patient?_id=p1"}}
    sent = bundle("transaction", ("POST", "Basic", about))
    headers = {**FHIR_JSON, **bearing("system/Basic.c system/Patient.r")}
    refused = await client.post("", json=sent, headers=headers)
    assert_outcome(refused, 403, "forbidden", "Patient.s", "Bundle.entry[0]")
    headers = {**FHIR_JSON, **bearing("system/Basic.c system/Patient.s")}
    assert (await client.post("", json=sent, headers=headers)).status_code == 200


def test_an_operation_that_writes_needs_no_less_than_it_declares() -> None:
    declared = {
        operation.code: operation.scopes
        for operation in load(("operations", "fhir_operations"))
        if operation.affects_state
    }
    assert declared == {
        "break-glass": (("Patient", "r"),),
        "closure": (("ConceptMap", "rs"),),
        "import": (("*", "cu"),),
        "meta-add": (("{type}", "ru"),),
        "meta-delete": (("{type}", "ru"),),
        "process-message": (("MessageHeader", "c"), ("Encounter", "cu")),
        "withdraw": (("Consent", "u"),),
    }


# Jobs


async def test_class_6_a_job_is_its_callers_own_and_runs_with_what_they_may(
    client: httpx.AsyncClient,
) -> None:
    async with _as(client, "system/Patient.rs") as one:
        accepted = await one.get("Patient?_id=p1", headers={"prefer": "respond-async"})
        address = accepted.headers["content-location"]
        done = await finished(one, address)
        answered = done.json()["entry"][0]["resource"]
        assert [entry["resource"]["id"] for entry in answered["entry"]] == ["p1"]
    others = [
        {"client_id": "another"},
        {"sub": "another"},
        {"fhirUser": "Practitioner/another"},
    ]
    for told in others:
        async with _as(client, "system/*.cruds", **told) as other:
            assert_outcome(await other.get(address), 404, "not-found", "no such job")
            assert (await other.delete(address)).status_code == 404
    assert (await client.get(address)).status_code == 401


async def test_class_6_what_a_job_found_is_shown_as_far_as_the_token_of_now_grants(
    client: httpx.AsyncClient,
) -> None:
    async with _as(client, "system/Patient.rs") as one:
        accepted = await one.get("Patient/$export", headers={"prefer": "respond-async"})
    assert accepted.status_code == 403
    async with _as(client, "system/*.rs") as one:
        accepted = await one.get("Patient/$export", headers={"prefer": "respond-async"})
        manifest = (await finished(one, accepted.headers["content-location"])).json()
        assert manifest["requiresAccessToken"] is True
        (file,) = (told["url"] for told in manifest["output"] if told["type"] == "Patient")
        assert '"id":"p1"' in (await one.get(file)).text
    async with _as(client, "system/Basic.rs") as narrower:
        assert (await narrower.get(file)).text == ""
    assert (await client.get(file)).status_code == 401


async def test_class_6_links_to_pages_are_their_callers_own(client: httpx.AsyncClient) -> None:
    for number in range(3):
        headers = {**FHIR_JSON, **bearing()}
        await client.put(f"Basic/n{number}", json=BASIC | {"id": f"n{number}"}, headers=headers)
    first = await client.get("Basic?_count=1", headers=bearing())
    (following,) = (one["url"] for one in first.json()["link"] if one["relation"] == "next")
    assert (await client.get(following, headers=bearing())).status_code == 200
    other = await client.get(following, headers=bearing(client_id="another"))
    assert other.status_code in (400, 404, 410)
    assert (await client.get(following)).status_code == 401
    fewer = await client.get(following, headers=bearing("system/Patient.s"))
    assert_outcome(fewer, 403, "forbidden", "Basic.s")


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
