"""POST /auth/token: https://hl7.org/fhir/smart-app-launch/backend-services.html.

Class 26 of the known attacks: what is wrong with an assertion gets nobody in.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from jose import jwt

from fhir_server.access.issued import is_revoked
from fhir_server.access.ledger import Ledger
from fhir_server.access.tokens.keys import ALGORITHMS
from fhir_server.authorisation import clients
from fhir_server.authorisation.authority import Authority
from fhir_server.authorisation.pairs import public
from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Store
from tests.access.issuing import raw_token, signer_for
from tests.authorisation.machines import BASE, DROPPED, TOKEN_URL, Machine, assert_refused, pair
from tests.support import client_of

NOW: Final = int(time.time())
FHIR: Final = f"{BASE}/fhir"


async def claims_of(client: httpx.AsyncClient, token: str) -> dict[str, Any]:
    """What a token says, verified by python-jose as a resource server does it."""
    keys = (await client.get(f"{BASE}/auth/jwks")).json()
    found: dict[str, Any] = jwt.decode(
        token, keys, algorithms=["ES384"], audience=FHIR, issuer=f"{BASE}/auth"
    )
    return found


async def test_a_machine_gets_a_token_that_says_what_it_is_registered_for(
    client: httpx.AsyncClient, ward: Machine, store: Store
) -> None:
    answer = await client.post(TOKEN_URL, data=ward.form(scope="system/*.read"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (told["token_type"], told["expires_in"]) == ("bearer", 300)
    assert told["scope"] == "system/CarePlan.rs"
    assert jwt.get_unverified_header(told["access_token"])["typ"] == "at+jwt"
    claims = await claims_of(client, told["access_token"])
    assert claims["client_id"] == claims["sub"] == "ward"
    assert claims["exp"] - claims["iat"] == 300
    assert abs(claims["nbf"] - time.time()) < 60
    assert claims["scope"] == "system/CarePlan.rs"
    assert (claims["ods_code"], claims["role"]) == ("RXX01", ["auditor"])
    assert claims["purpose_of_use"] == "TREAT"
    assert not {"fhirUser", "patient"} & claims.keys()
    assert not await is_revoked(store, claims["jti"])


async def test_a_client_of_one_user_and_patient_gets_both_as_claims(
    client: httpx.AsyncClient, ledger: Ledger
) -> None:
    machine = Machine()
    await machine.register(
        ledger, scopes="user/Task.rs patient/*.rs", user="Practitioner/12", patient="p1"
    )
    claims = await claims_of(client, await machine.token(client, scope="patient/*.rs user/*.rs"))
    assert (claims["fhirUser"], claims["patient"]) == ("Practitioner/12", "p1")
    assert claims["scope"] == "patient/*.rs user/Task.rs"


async def test_a_purpose_is_one_of_those_that_are_registered(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    token = await ward.token(client, purpose_of_use="ETREAT")
    assert (await claims_of(client, token))["purpose_of_use"] == "ETREAT"
    answer = await client.post(TOKEN_URL, data=ward.form(purpose_of_use="HMARKT"))
    assert_refused(answer, "invalid_request", "registered for: TREAT, ETREAT")


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_the_algorithms_that_smart_asks_for_are_taken(
    client: httpx.AsyncClient, ledger: Ledger, algorithm: str
) -> None:
    machine = Machine(key=pair(f"of-{algorithm}", algorithm))
    await machine.register(ledger)
    assert await machine.token(client)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm_that_is_named_is_taken_of_its_own_key(
    client: httpx.AsyncClient, ledger: Ledger, algorithm: str
) -> None:
    machine, signer = Machine(), signer_for(algorithm)
    await machine.register(ledger, keys=(signer.jwk(),))
    claims = jwt.get_unverified_claims(machine.assertion())
    header = {"alg": algorithm, "kid": signer.kid, "typ": "JWT"}
    assert await machine.token(client, client_assertion=raw_token(header, claims, signer))


WRONG: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("aud of another", {"aud": "https://other.example.nhs.uk/auth/token"}, "its aud is"),
    ("aud that is our issuer", {"aud": f"{BASE}/auth"}, "its aud is"),
    ("aud with a slash more", {"aud": f"{TOKEN_URL}/"}, "its aud is"),
    ("aud among others", {"aud": [TOKEN_URL, "https://other.example.nhs.uk"]}, "its aud is"),
    ("no aud", {"aud": DROPPED}, "its aud is"),
    ("no exp", {"exp": DROPPED}, "its exp is missing"),
    ("exp past", {"exp": NOW - 60}, "its exp is missing or in the past"),
    ("exp far ahead", {"exp": NOW + 3600}, "more than 300 seconds ahead"),
    ("exp as true", {"exp": True}, "not a number of seconds"),
    ("exp as infinity", {"exp": float("inf")}, "claims is not JSON"),
    ("exp as huge", {"exp": 10**30}, "not a number of seconds"),
    ("exp as text", {"exp": str(NOW + 60)}, "not a number of seconds"),
    ("nbf ahead", {"nbf": NOW + 600}, "its nbf is in the future"),
    ("iat ahead", {"iat": NOW + 600}, "its iat is in the future"),
    ("no jti", {"jti": DROPPED}, "its jti is a text"),
    ("empty jti", {"jti": ""}, "its jti is a text"),
    ("long jti", {"jti": "j" * 256}, "its jti is a text"),
    ("jti as list", {"jti": ["a"]}, "its jti is a text"),
    ("iss of another", {"iss": "other"}, "its iss and sub"),
    ("no iss", {"iss": DROPPED}, "its iss and sub"),
    ("sub as list", {"iss": ["ward"], "sub": ["ward"]}, "its iss and sub"),
    ("a client that is not there", {"iss": "other", "sub": "other"}, "no client of that id"),
    ("an id that is none", {"iss": "../ward", "sub": "../ward"}, "its iss and sub"),
]


@pytest.mark.parametrize(
    ("changes", "problem"), [one[1:] for one in WRONG], ids=[w[0] for w in WRONG]
)
async def test_attack_26_claims_of_an_assertion_are_checked(
    client: httpx.AsyncClient, ward: Machine, changes: dict[str, Any], problem: str
) -> None:
    form = ward.form(client_assertion=ward.assertion(**changes))
    assert_refused(await client.post(TOKEN_URL, data=form), "invalid_client", problem, 401)


def _part(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _with_header(assertion: str, **changes: Any) -> str:
    """The assertion with another header, over which its signature is no longer good."""
    return ".".join(
        [_part({**jwt.get_unverified_header(assertion), **changes}), *assertion.split(".")[1:]]
    )


def _unsigned(ward: Machine) -> str:
    return _with_header(ward.assertion(), alg="none").rpartition(".")[0] + "."


def _hmac_by_public_key(ward: Machine) -> str:
    """HS256 with the public key, as text, for a secret."""
    claims = jwt.get_unverified_claims(ward.assertion())
    return str(jwt.encode(claims, json.dumps(public(dict(ward.key))), "HS256", {"kid": "one"}))


def _by_another_key(_: Machine) -> str:
    return Machine(key={**pair("other"), "kid": "one"}).assertion()


def _by_another_sort_of_key(_: Machine) -> str:
    return Machine(key={**pair("rsa", "RS384"), "kid": "one"}).assertion()


def _with_own_key_in_header(_: Machine) -> str:
    thief = {**pair("other"), "kid": "one"}
    return Machine(key=thief).assertion(
        {
            "jwk": public(thief),
            "jku": "https://thief.example/jwks",
            "x5u": "https://thief.example/x",
        }
    )


def _changed(ward: Machine) -> str:
    header, _, signature = ward.assertion().split(".")
    claims = jwt.get_unverified_claims(ward.assertion())
    return ".".join([header, _part({**claims, "jti": "another"}), signature])


FORGED: Final[dict[str, tuple[Callable[[Machine], str], str]]] = {
    "alg none": (_unsigned, "not a signed JSON Web Token"),
    "alg none with a signature": (
        lambda ward: _with_header(ward.assertion(), alg="none"),
        "alg is not one of RS256",
    ),
    "HS with the public key": (_hmac_by_public_key, "alg is not one of RS256"),
    "another alg of its sort": (
        lambda ward: _with_header(ward.assertion(), alg="ES256"),
        "no client of that id",
    ),
    "another key under its kid": (_by_another_key, "no client of that id"),
    "another sort of key under its kid": (_by_another_sort_of_key, "no client of that id"),
    "a key in the header": (_with_own_key_in_header, "no client of that id"),
    "claims changed after signing": (_changed, "no client of that id"),
    "a kid that is not known": (
        lambda ward: Machine(key={**ward.key, "kid": "two"}).assertion(),
        "no client of that id",
    ),
    "a kid that is no text": (lambda ward: _with_header(ward.assertion(), kid=1), "its kid"),
    "crit": (lambda ward: ward.assertion({"crit": ["b64"], "b64": False}), "header has crit"),
    "b64": (lambda ward: ward.assertion({"b64": False}), "header has crit or b64"),
    "an access token's typ": (lambda ward: ward.assertion({"typ": "at+jwt"}), "its typ is JWT"),
    "two parts": (lambda ward: ward.assertion().rpartition(".")[0], "not a signed JSON Web Token"),
    "what is no base64": (lambda _: "Y.Y.Y", "not base64url"),
    "what is no JSON": (lambda _: "YQ.YQ.YQ", "its header is not JSON"),
    "a list": (lambda _: "W10.W10.YQ", "its header is not a JSON object"),
    "a header that names alg twice": (
        lambda ward: ".".join(
            [
                base64.urlsafe_b64encode(b'{"alg":"ES384","alg":"none","kid":"one"}')
                .decode()
                .rstrip("="),
                *ward.assertion().split(".")[1:],
            ]
        ),
        "its header is not JSON",
    ),
    "nesting": (
        lambda _: base64.urlsafe_b64encode(b"[" * 6000).decode() + ".YQ.YQ",
        "its header is not JSON",
    ),
    "too long": (lambda ward: ward.assertion(x="y" * 20_000), "not a signed JSON Web Token"),
}


@pytest.mark.parametrize("forge", FORGED)
async def test_attack_26_a_forged_assertion_gets_nobody_in(
    client: httpx.AsyncClient, ward: Machine, forge: str
) -> None:
    make, problem = FORGED[forge]
    answer = await client.post(TOKEN_URL, data=ward.form(client_assertion=make(ward)))
    assert_refused(answer, "invalid_client", problem, 401)


async def test_attack_26_an_assertion_is_good_once(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    form = ward.form()
    assert (await client.post(TOKEN_URL, data=form)).status_code == 200
    again = await client.post(TOKEN_URL, data=form)
    assert_refused(again, "invalid_client", "its jti was used before", 401)


async def test_an_assertion_is_used_up_also_where_its_scopes_are_refused(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    form = ward.form(scope="system/Patient.rs")
    answer = await client.post(TOKEN_URL, data=form)
    assert_refused(answer, "invalid_scope", "registered for nothing of what it asks for")
    again = await client.post(TOKEN_URL, data={**form, "scope": "system/CarePlan.rs"})
    assert_refused(again, "invalid_client", "its jti was used before", 401)


async def test_two_clients_may_use_the_same_jti(client: httpx.AsyncClient, ledger: Ledger) -> None:
    for name in ("ward", "ward2"):
        machine = Machine(name)
        await machine.register(ledger)
        assert await machine.token(client, client_assertion=machine.assertion(jti="same"))


@pytest.mark.parametrize(
    ("changes", "error", "problem", "status"),
    [
        ({"grant_type": DROPPED}, "invalid_request", "grant_type is missing", 400),
        ({"grant_type": ""}, "invalid_request", "grant_type is missing", 400),
        ({"grant_type": "password"}, "unsupported_grant_type", "client_credentials", 400),
        ({"scope": DROPPED}, "invalid_scope", "scope is missing", 400),
        ({"scope": "launch"}, "invalid_scope", "'launch' is no scope that is known", 400),
        ({"scope": "user/CarePlan.rs"}, "invalid_scope", "registered for nothing", 400),
        ({"client_assertion_type": DROPPED}, "invalid_client", "client_assertion_type and", 401),
        ({"client_assertion_type": "x"}, "invalid_client", "client_assertion_type is urn", 401),
        ({"client_id": "other"}, "invalid_client", "client_id is not the sub", 401),
        ({"client_secret": "x"}, "invalid_request", "there are no secrets", 400),
    ],
)
async def test_a_form_that_does_not_fit_is_refused(
    client: httpx.AsyncClient,
    ward: Machine,
    changes: dict[str, Any],
    error: str,
    problem: str,
    status: int,
) -> None:
    answer = await client.post(TOKEN_URL, data=ward.form(**changes))
    assert_refused(answer, error, problem, status)


@pytest.mark.parametrize("name", ["grant_type", "scope", "client_assertion", "beside"])
async def test_a_parameter_that_stands_twice_is_refused(
    client: httpx.AsyncClient, ward: Machine, name: str
) -> None:
    form = httpx.QueryParams([*ward.form().items(), (name, "a"), (name, "b")])
    answer = await client.post(
        TOKEN_URL,
        content=str(form),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert_refused(answer, "invalid_request", f"{name} stands twice")


async def test_what_is_no_form_of_a_bearable_size_is_refused(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"json": ward.form()}, "the body is application/x-www-form-urlencoded", 400),
        ({"content": b""}, "the body is application/x-www-form-urlencoded", 400),
        ({"content": b"", "headers": form}, "grant_type is missing", 400),
        ({"content": b"a&b", "headers": form}, "no form", 400),
        ({"content": b"a=\xff", "headers": form}, "no form", 400),
        ({"content": b"a=%ff", "headers": form}, "no form", 400),
        ({"content": b"&".join(b"a%d=1" % n for n in range(21)), "headers": form}, "no form", 400),
        ({"content": b"a=" + b"b" * 70_000, "headers": form}, "more than 65536 bytes", 413),
        ({"data": ward.form(), "params": {"scope": "system/*.rs"}}, "never in the address", 400),
    ]
    for request, problem, status in cases:
        answer = await client.post(TOKEN_URL, **request)
        assert_refused(answer, "invalid_request", problem, status)


async def test_another_way_to_say_who_one_is_is_refused(
    client: httpx.AsyncClient, ward: Machine
) -> None:
    answer = await client.post(TOKEN_URL, data=ward.form(), auth=("ward", "secret"))
    assert_refused(answer, "invalid_client", "not by an Authorization header", 401)


async def test_a_disabled_client_gets_no_token_until_it_is_enabled(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    await clients.set_disabled(ledger, "ward", disabled=True)
    answer = await client.post(TOKEN_URL, data=ward.form())
    assert_refused(answer, "invalid_client", "no client of that id that is enabled", 401)
    await clients.set_disabled(ledger, "ward", disabled=False)
    assert await ward.token(client)


async def test_a_client_that_is_registered_anew_has_the_new_keys_alone(
    client: httpx.AsyncClient, ward: Machine, ledger: Ledger
) -> None:
    newer = Machine(key=pair("newer"))
    await clients.add(ledger, newer.client(), replace=True)
    answer = await client.post(TOKEN_URL, data=ward.form())
    assert_refused(answer, "invalid_client", "no client of that id", 401)
    assert await newer.token(client)


async def test_what_is_no_post_is_refused(client: httpx.AsyncClient) -> None:
    for name in ("token", "revoke", "introspect"):
        answer = await client.get(f"{BASE}/auth/{name}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.get(f"{BASE}/auth/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("settings", "status"), [({}, 200), ({"authorisation_server": False}, 404)]
)
async def test_the_authorisation_server_can_be_taken_away(
    tmp_path: Path, settings: dict[str, Any], status: int
) -> None:
    async with client_of(tmp_path, **settings) as client:
        assert (await client.get(f"{BASE}/auth/jwks")).status_code == status


@pytest.mark.parametrize(
    ("settings", "issuer"),
    [
        ({"public_base": "https://fhir.example.nhs.uk/fhir"}, "https://fhir.example.nhs.uk/auth"),
        ({"public_base": "https://nhs.uk/kw/fhir/"}, "https://nhs.uk/kw/auth"),
        ({"public_base": "https://nhs.uk/r4"}, "https://nhs.uk/r4/auth"),
        ({"authorisation_base": "https://auth.nhs.uk/"}, "https://auth.nhs.uk"),
    ],
)
async def test_addresses_are_those_of_the_settings(
    tmp_path: Path, settings: dict[str, Any], issuer: str
) -> None:
    async with client_of(tmp_path, **settings, token_lifetime=60) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        await Machine().register(Ledger(app.state.store))
        machine = Machine(token_url=f"{issuer}/token")
        answer = await client.post(
            TOKEN_URL,
            data=machine.form(),
            headers={"host": "evil.example", "x-forwarded-host": "e"},
        )
        assert answer.status_code == 200, answer.text
        claims = jwt.get_unverified_claims(answer.json()["access_token"])
        assert (claims["iss"], claims["exp"] - claims["iat"]) == (issuer, 60)
        assert claims["aud"] == str(client.base_url).rstrip("/")


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        ("another key under its kid", "the signature is not that of the key"),
        ("a kid that is not known", "its kid is none of the client's"),
    ],
)
async def test_why_nobody_is_let_in_is_in_the_log_alone(
    client: httpx.AsyncClient,
    ward: Machine,
    caplog: pytest.LogCaptureFixture,
    forge: str,
    reason: str,
) -> None:
    assertion = FORGED[forge][0](ward)
    answer = await client.post(TOKEN_URL, data=ward.form(client_assertion=assertion))
    assert reason not in answer.text
    assert f"in the name of ward is refused: {reason}" in caplog.text
    assert assertion.rpartition(".")[2] not in caplog.text


async def test_while_the_store_cannot_be_written_there_is_no_token(
    client: httpx.AsyncClient, ward: Machine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise FhirError(Kind.UNAVAILABLE, "The store cannot be written")

    monkeypatch.setattr(store, "commit", away)
    answer = await client.post(TOKEN_URL, data=ward.form())
    assert_refused(answer, "temporarily_unavailable", "The store cannot be written", 503)


async def test_what_was_not_foreseen_tells_nothing_of_the_inside(
    client: httpx.AsyncClient, ward: Machine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(store, "commit", failing)
    answer = await client.post(TOKEN_URL, data=ward.form())
    assert_refused(answer, "server_error", "The server failed", 500)
    assert "inside" not in answer.text


async def test_where_and_how_it_is_asked_is_told(
    client: httpx.AsyncClient, authority: Authority
) -> None:
    """https://www.rfc-editor.org/rfc/rfc8414#section-3"""
    answer = await client.get(f"{BASE}/.well-known/oauth-authorization-server/auth")
    assert answer.status_code == 200
    found = answer.json()
    assert found == authority.described()
    assert found["issuer"] == f"{BASE}/auth"
    assert (await client.get(found["jwks_uri"])).status_code == 200
    for name in ("token", "revocation", "introspection"):
        refused = await client.post(found[f"{name}_endpoint"], data={"grant_type": "x"})
        assert refused.status_code in (400, 401)
        assert "ES384" in found[f"{name}_endpoint_auth_signing_alg_values_supported"]
        assert found[f"{name}_endpoint_auth_methods_supported"] == ["private_key_jwt"]
