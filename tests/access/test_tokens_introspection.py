"""Opaque tokens: the issuer is asked, over a real socket, and only a plain yes is one."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs

import pytest

from fhir_server.access.tokens.authentication import Authenticator, Trust
from fhir_server.access.tokens.claims import Expected
from fhir_server.access.tokens.fetching import Outgoing
from fhir_server.access.tokens.introspection import Introspection
from fhir_server.access.tokens.jwt import Issuer
from fhir_server.access.tokens.keys import ALGORITHMS
from fhir_server.access.tokens.sources import LoadedKeys
from fhir_server.errors import FhirError, Kind
from tests.access.issuing import (
    BASE,
    ISSUER,
    NOW,
    Clock,
    IssuerProcess,
    Loading,
    claims,
    token,
)

OPAQUE: Final = "2YotnFZFEjr1zCsicMWpAA"


@pytest.fixture
def issuer() -> Iterator[IssuerProcess]:
    with IssuerProcess().running() as process:
        tell(process)
        yield process


def tell(process: IssuerProcess, **changed: Any) -> None:
    process.answer = json.dumps(claims(**{"active": True, **changed})).encode()


def asking(process: IssuerProcess, clock: Clock, **more: Any) -> Authenticator:
    expected = Expected(ISSUER, BASE)
    introspection = Introspection(
        process.url, "fhir:server", "s%cret", expected, Outgoing(more.pop("patience", 2.0))
    )
    trust = Trust(BASE, more.pop("issuers", {}), introspection, **more)
    return Authenticator(trust, clock.microseconds)


async def refused(asked: Authenticator, sent: str = OPAQUE) -> Kind:
    with pytest.raises(FhirError) as caught:
        await asked.caller(f"Bearer {sent}")
    assert sent not in str(caught.value)
    return caught.value.kind


async def test_the_issuer_is_asked_as_the_standard_says(issuer: IssuerProcess) -> None:
    found = await asking(issuer, Clock()).caller(f"Bearer {OPAQUE}")
    assert found.client == "camhs-app"
    method, _, body, headers = issuer.asked[0]
    assert method == "POST"
    assert parse_qs(body.decode()) == {"token": [OPAQUE], "token_type_hint": ["access_token"]}
    user = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert user == "fhir%3Aserver:s%25cret"


@pytest.mark.parametrize(
    "changed",
    [
        {"active": False},
        {"active": "true"},
        {"active": 1},
        {"active": None},
        {"active": ...},
        {"iss": "https://attacker.example"},
        {"aud": "https://elsewhere.example"},
        {"aud": ...},
        {"exp": ...},
        {"exp": NOW - 60},
        {"exp": "tomorrow"},
        {"nbf": NOW + 600},
        {"token_type": "DPoP"},
        {"token_type": 1},
        {"sub": {"$ne": ""}},
        {"jti": 1},
    ],
)
async def test_class_26_what_is_no_plain_yes_is_a_no(
    issuer: IssuerProcess, changed: dict[str, Any]
) -> None:
    tell(issuer, **changed)
    assert await refused(asking(issuer, Clock())) is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("changed", [{"iss": ...}, {"jti": ...}, {"token_type": "bearer"}])
async def test_what_the_standard_leaves_out_may_be_missing(
    issuer: IssuerProcess, changed: dict[str, Any]
) -> None:
    tell(issuer, **changed)
    found = await asking(issuer, Clock()).caller(f"Bearer {OPAQUE}")
    assert found.name.startswith("https%3A%2F%2Fidp.example.nhs.uk")


@pytest.mark.parametrize("raw", [b"", b"true", b"[]", b"<html>", b'{"active":false,"active":true}'])
async def test_class_27_an_answer_that_cannot_be_read_denies(
    issuer: IssuerProcess, raw: bytes
) -> None:
    issuer.answer = raw
    assert await refused(asking(issuer, Clock())) is Kind.UNAVAILABLE


@pytest.mark.parametrize("status", [302, 401, 403, 500, 503])
async def test_class_27_an_issuer_that_does_not_answer_denies(
    issuer: IssuerProcess, status: int
) -> None:
    issuer.status = status
    assert await refused(asking(issuer, Clock())) is Kind.UNAVAILABLE


async def test_class_27_an_issuer_that_is_slow_denies(issuer: IssuerProcess) -> None:
    issuer.delay = 1.0
    assert await refused(asking(issuer, Clock(), patience=0.1)) is Kind.UNAVAILABLE


async def test_class_12_the_issuer_is_asked_again_after_a_while(issuer: IssuerProcess) -> None:
    clock = Clock()
    asked = asking(issuer, clock, introspection_cache=30)
    for _ in range(3):
        await asked.caller(f"Bearer {OPAQUE}")
    assert len(issuer.asked) == 1
    tell(issuer, active=False)
    clock.seconds += 29
    await asked.caller(f"Bearer {OPAQUE}")
    clock.seconds += 1
    assert await refused(asked) is Kind.UNAUTHENTICATED


async def test_class_12_an_answer_is_not_kept_beyond_the_end_of_the_token(
    issuer: IssuerProcess,
) -> None:
    clock = Clock()
    tell(issuer, exp=NOW + 5)
    asked = asking(issuer, clock, introspection_cache=3600)
    await asked.caller(f"Bearer {OPAQUE}")
    clock.seconds += 35
    assert await refused(asked) is Kind.UNAUTHENTICATED


async def test_class_12_a_no_is_not_kept(issuer: IssuerProcess) -> None:
    asked = asking(issuer, Clock())
    tell(issuer, active=False)
    assert await refused(asked) is Kind.UNAUTHENTICATED
    tell(issuer)
    assert (await asked.caller(f"Bearer {OPAQUE}")).client == "camhs-app"


async def test_a_jwt_is_verified_by_keys_where_there_are_keys_and_never_asked_about(
    issuer: IssuerProcess,
) -> None:
    clock = Clock()
    keys = LoadedKeys(Loading(), clock=clock)
    issuers = {ISSUER: Issuer(Expected(ISSUER, BASE), keys, frozenset(ALGORITHMS))}
    both = asking(issuer, clock, issuers=issuers)
    assert (await both.caller(f"Bearer {token(client_id='by-keys')}")).client == "by-keys"
    assert await refused(both, token(aud="another")) is Kind.UNAUTHENTICATED
    assert issuer.asked == []
    assert (await both.caller(f"Bearer {OPAQUE}")).client == "camhs-app"


async def test_a_jwt_is_asked_about_where_there_are_no_keys(issuer: IssuerProcess) -> None:
    found = await asking(issuer, Clock()).caller(f"Bearer {token(client_id='by-keys')}")
    assert found.client == "camhs-app"


@pytest.mark.parametrize("jti", ["token-1", ...])
async def test_class_26_the_issuer_is_asked_again_for_what_goes_on(
    issuer: IssuerProcess, jti: Any
) -> None:
    """At most so often, also without an id of the token, until it has expired."""
    clock = Clock()
    tell(issuer, jti=jti)
    asked = asking(issuer, clock, introspection_cache=30)
    shown = (await asked.caller(f"Bearer {OPAQUE}")).token
    assert OPAQUE not in shown
    clock.seconds += 29
    assert await asked.stands(shown)
    assert len(issuer.asked) == 1
    clock.seconds += 1
    assert [await asked.stands(shown) for _ in range(3)] == [True] * 3
    assert len(issuer.asked) == 2
    issuer.status = 500
    clock.seconds += 30
    with pytest.raises(FhirError) as caught:
        await asked.stands(shown)
    assert caught.value.kind is Kind.UNAVAILABLE
    issuer.status = 200
    tell(issuer, active=False)
    assert [await asked.stands(shown) for _ in range(3)] == [False] * 3
    assert len(issuer.asked) == 4
    assert OPAQUE not in repr(asked._shown)


@pytest.mark.parametrize(
    ("changed", "stands"),
    [
        ({"exp": NOW + 900}, True),
        ({"scope": "system/Goal.rs system/*.rs system/Goal.rs"}, True),
        ({"scope": "system/Goal.rs"}, False),
        ({"sub": "somebody-else"}, False),
        ({"ods_code": "Y11"}, False),
        ({"role": "auditor"}, False),
    ],
)
async def test_class_26_what_goes_on_ends_where_the_issuer_answers_otherwise_than_before(
    issuer: IssuerProcess, changed: dict[str, Any], stands: bool
) -> None:
    clock = Clock()
    tell(issuer, scope="system/*.rs system/Goal.rs")
    asked = asking(issuer, clock, introspection_cache=30)
    shown = (await asked.caller(f"Bearer {OPAQUE}")).token
    tell(issuer, **{"scope": "system/*.rs system/Goal.rs", **changed})
    clock.seconds += 30
    assert await asked.stands(shown) is stands


async def test_nobody_is_asked_about_what_has_expired_or_was_not_shown_here(
    issuer: IssuerProcess,
) -> None:
    clock = Clock()
    asked = asking(issuer, clock, introspection_cache=30)
    shown = (await asked.caller(f"Bearer {OPAQUE}")).token
    tell(issuer, active=False)
    clock.seconds += 300
    assert [await asked.stands(one) for one in (shown, "another", "")] == [True] * 3
    assert len(issuer.asked) == 1


def test_the_secret_is_in_no_representation() -> None:
    told = Introspection("https://idp.example", "c", "s3cret", Expected("i", "a"), Outgoing())
    assert "s3cret" not in repr(told)
    assert "s3cret" not in repr(Trust(BASE, introspection=told))
