"""Class 26 of what the server must withstand: a token is good in every respect, or it is none.

Each token that is refused differs in one thing from one that is taken.
"""

import hmac
import json
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.tokens.authentication import Authenticator
from fhir_server.access.tokens.keys import ALGORITHMS
from fhir_server.errors import FhirError, Kind
from tests.access.issuing import (
    BASE,
    ISSUER,
    NOW,
    Clock,
    Loading,
    authenticator,
    base64url,
    claims,
    ec_signer,
    key_document,
    raw_token,
    rsa_signer,
    token,
)

INVALID: Final = 'Bearer realm="fhir", error="invalid_token"'
HEADER: Final = {"alg": "RS256", "typ": "JWT", "kid": "rsa-1"}


async def refused(asked: Authenticator, sent: str) -> str:
    """The refusal, which is the same whatever the reason; the reason, as the log is told it."""
    with pytest.raises(FhirError) as caught:
        await asked.caller(f"Bearer {sent}")
    assert caught.value.kind is Kind.UNAUTHENTICATED
    assert caught.value.challenge == INVALID
    assert "malformed, expired, revoked or not meant for us" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_class_26_a_good_token_is_taken_whatever_its_algorithm(algorithm: str) -> None:
    caller = await authenticator().caller(f"Bearer {token(algorithm=algorithm)}")
    assert caller.client == "camhs-app"
    assert [grant.resource_type for grant in caller.grants] == ["*"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_the_name_of_the_scheme_is_in_any_case(scheme: str) -> None:
    assert (await authenticator().caller(f"{scheme} {token()}")).client == "camhs-app"


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_the_type_is_one_of_an_access_token(kind: str) -> None:
    sent = raw_token({**HEADER, "typ": kind}, claims())
    assert (await authenticator().caller(f"Bearer {sent}")).client == "camhs-app"


@pytest.mark.parametrize("sent", [None, ""])
async def test_without_a_token_no_error_is_named(sent: str | None) -> None:
    with pytest.raises(FhirError) as caught:
        await authenticator().caller(sent)
    assert caught.value.kind is Kind.UNAUTHENTICATED
    assert caught.value.challenge == 'Bearer realm="fhir"'


def _unsigned() -> str:
    head = base64url(json.dumps({**HEADER, "alg": "none"}).encode())
    return f"{head}.{base64url(json.dumps(claims()).encode())}."


def _with_public_key_as_secret(algorithm: str = "HS256") -> str:
    """What RS/HS confusion would take: the public key as the secret that all know."""
    head = base64url(json.dumps({**HEADER, "alg": algorithm}).encode())
    signing = f"{head}.{base64url(json.dumps(claims()).encode())}"
    secret = rsa_signer().public_pem
    return f"{signing}.{base64url(hmac.new(secret, signing.encode(), sha256).digest())}"


def _own_key(header: dict[str, Any]) -> Callable[[], str]:
    """Signed by a key that the token itself brings along."""
    return lambda: raw_token({**HEADER, **header}, claims(), rsa_signer("of-the-attacker"))


def _under(header: dict[str, Any]) -> str:
    """A good token with that header in place of its own."""
    return ".".join((base64url(json.dumps(header).encode()), *token().split(".")[1:]))


def _changed_after_signing() -> str:
    head, _, signature = token().split(".")
    widened = base64url(json.dumps(claims(scope="system/*.cruds")).encode())
    return f"{head}.{widened}.{signature}"


ATTACKS: Final[dict[str, Callable[[], str]]] = {
    "alg none": _unsigned,
    "alg none with a signature": lambda: raw_token({**HEADER, "alg": "none"}, claims()),
    "alg None": lambda: raw_token({**HEADER, "alg": "None"}, claims()),
    "no alg": lambda: raw_token({"typ": "JWT", "kid": "rsa-1"}, claims()),
    "alg a list": lambda: raw_token({**HEADER, "alg": ["RS256"]}, claims()),
    "the public key as secret": _with_public_key_as_secret,
    "the public key as secret, told as RS256": lambda: _with_public_key_as_secret("RS256"),
    "another alg than was signed with": lambda: _under({**HEADER, "alg": "RS512"}),
    "no kid": lambda: raw_token({"alg": "RS256", "typ": "JWT"}, claims()),
    "kid empty": lambda: raw_token({**HEADER, "kid": ""}, claims()),
    "kid unknown": lambda: raw_token({**HEADER, "kid": "another"}, claims()),
    "kid an object": lambda: raw_token({**HEADER, "kid": {"$ne": ""}}, claims()),
    "kid too long": lambda: raw_token({**HEADER, "kid": "k" * 600}, claims()),
    "kid of a key of another type": lambda: raw_token({**HEADER, "kid": "ec-P-256"}, claims()),
    "kid of a key of another curve": lambda: raw_token(
        {"alg": "ES256", "typ": "JWT", "kid": "ec-P-384"}, claims(), ec_signer("P-256")
    ),
    "another key": lambda: raw_token(HEADER, claims(), rsa_signer("of-the-attacker")),
    "jku": _own_key({"jku": "https://attacker.example/keys"}),
    "x5u": _own_key({"x5u": "https://attacker.example/chain"}),
    "jwk": _own_key({"jwk": {"kty": "RSA"}}),
    "x5c": _own_key({"x5c": ["MIIC"]}),
    "crit": lambda: raw_token({**HEADER, "crit": ["exp"]}, claims()),
    "crit empty": lambda: raw_token({**HEADER, "crit": []}, claims()),
    "b64": lambda: raw_token({**HEADER, "b64": False}, claims()),
    "typ of an ID token's logout": lambda: raw_token({**HEADER, "typ": "logout+jwt"}, claims()),
    "no typ": lambda: raw_token({"alg": "RS256", "kid": "rsa-1"}, claims()),
    "typ a number": lambda: raw_token({**HEADER, "typ": 1}, claims()),
    "changed after it was signed": _changed_after_signing,
    "signature cut": lambda: token()[:-6],
    "four segments": lambda: token() + ".e30",
    "two segments": lambda: token().rpartition(".")[0],
    "five segments, as if encrypted": lambda: "e30.e30.e30.e30.e30",
    "header no JSON": lambda: raw_token(b"{", claims()),
    "header a list": lambda: raw_token(b"[]", claims()),
    "alg twice": lambda: raw_token(
        b'{"alg":"none","alg":"RS256","typ":"JWT","kid":"rsa-1"}', claims()
    ),
    "claims no JSON": lambda: raw_token(HEADER, b"not JSON"),
    "claims a list": lambda: raw_token(HEADER, b"[1]"),
    "claims too deep": lambda: raw_token(HEADER, claims(deep=_nested(20))),
    "a claim twice": lambda: raw_token(HEADER, _with_a_second('"scope":"system/*.cruds"')),
    "NaN": lambda: raw_token(HEADER, _with_a_second('"x":NaN')),
    "exp 1e400": lambda: raw_token(HEADER, _with_a_second('"exp":1e400', without="exp")),
    "iss another": lambda: token(iss="https://attacker.example"),
    "iss that begins the same": lambda: token(iss=ISSUER + "/"),
    "no iss": lambda: token(iss=...),
    "iss a list": lambda: raw_token(HEADER, claims(iss=[ISSUER])),
    "iss an object": lambda: raw_token(HEADER, claims(iss={"$ne": ""})),
    "aud another": lambda: token(aud="https://elsewhere.example/fhir"),
    "aud that begins the same": lambda: token(aud=BASE + "/"),
    "no aud": lambda: token(aud=...),
    "aud an empty list": lambda: token(aud=[]),
    "aud a list of others": lambda: token(aud=["a", "b"]),
    "aud an object": lambda: raw_token(HEADER, claims(aud={BASE: True})),
    "aud a list with a number": lambda: raw_token(HEADER, claims(aud=[BASE, 1])),
    "aud null": lambda: raw_token(HEADER, claims(aud=None)),
    "no exp": lambda: token(exp=...),
    "exp null": lambda: raw_token(HEADER, claims(exp=None)),
    "exp long ago": lambda: token(exp=NOW - 31),
    "exp at the end of the leeway": lambda: token(exp=NOW - 30),
    "exp text": lambda: raw_token(HEADER, claims(exp=str(NOW + 300))),
    "exp a fraction": lambda: raw_token(HEADER, claims(exp=NOW + 300.5)),
    "exp true": lambda: raw_token(HEADER, claims(exp=True)),
    "exp huge": lambda: raw_token(HEADER, claims(exp=10**40)),
    "exp beyond all years": lambda: raw_token(HEADER, claims(exp=253_402_300_800)),
    "exp negative": lambda: raw_token(HEADER, claims(exp=-1)),
    "exp a list": lambda: raw_token(HEADER, claims(exp=[NOW + 300])),
    "nbf in the future": lambda: token(nbf=NOW + 31),
    "nbf text": lambda: raw_token(HEADER, claims(nbf="0")),
    "iat in the future": lambda: token(iat=NOW + 31),
    "iat false": lambda: raw_token(HEADER, claims(iat=False)),
    "no jti": lambda: token(jti=...),
    "jti empty": lambda: raw_token(HEADER, claims(jti="")),
    "jti a number": lambda: raw_token(HEADER, claims(jti=7)),
    "no client and no subject": lambda: token(client_id=..., sub=...),
    "opaque": lambda: "s3cret-0paque",
    "too long": lambda: token(more="x" * 20_000),
}


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def _with_a_second(member: str, without: str = "") -> bytes:
    told = json.dumps({name: value for name, value in claims().items() if name != without})
    return f"{told[:-1]},{member}}}".encode()


@pytest.mark.parametrize("name", ATTACKS)
async def test_class_26_a_token_that_is_wrong_in_one_thing_is_refused(name: str) -> None:
    await refused(authenticator(), ATTACKS[name]())


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": [BASE, "https://elsewhere.example"]},
        {"exp": NOW - 29},
        {"nbf": NOW + 29, "iat": NOW + 29},
        {"nbf": ..., "iat": ...},
        {"client_id": ...},
    ],
)
async def test_class_26_what_is_unusual_but_right_is_taken(changed: dict[str, Any]) -> None:
    assert (await authenticator().caller(f"Bearer {token(**changed)}")).client == "camhs-app"


@pytest.mark.parametrize(
    "header",
    [
        "Basic Y2FtaHM6c2VjcmV0",
        "Bearer",
        "Bearer ",
        "{}",
        "Bearer {} {}",
        "Bearer {}, Bearer {}",
        "Bearer\t{}",
        "Bearer {}\x00",
        "Bearer é",
    ],
)
async def test_what_is_not_one_bearer_token_is_refused(header: str) -> None:
    with pytest.raises(FhirError) as caught:
        await authenticator().caller(header.replace("{}", token()))
    assert caught.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_algorithm_that_is_not_on_the_list_is_refused(algorithm: str) -> None:
    others = [one for one in ALGORITHMS if one != algorithm]
    await refused(authenticator(algorithms=others), token(algorithm=algorithm))
    alone = authenticator(algorithms=[algorithm])
    assert (await alone.caller(f"Bearer {token(algorithm=algorithm)}")).client == "camhs-app"


@pytest.mark.parametrize(
    ("jwk", "algorithm"),
    [
        ({"alg": "RS512"}, "RS256"),
        ({"alg": "RS256"}, "PS256"),
        ({"use": "enc"}, "RS256"),
        ({"key_ops": ["sign"]}, "RS256"),
        ({"key_ops": "verify"}, "RS256"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "RS256"),
        ({"d": "AQAB"}, "RS256"),
        ({"n": 7}, "RS256"),
        ({"e": "not base64!"}, "RS256"),
        ({"kid": ["rsa-1"]}, "RS256"),
    ],
)
async def test_class_26_a_key_verifies_only_what_it_is_for(
    jwk: dict[str, Any], algorithm: str
) -> None:
    raw = key_document(rsa_signer().jwk(**jwk))
    await refused(authenticator(Loading(raw)), token(algorithm=algorithm))


@pytest.mark.parametrize("jwk", [{"alg": "RS256"}, {"key_ops": ["verify"]}, {"x5t": "abc"}])
async def test_a_key_that_is_for_it_verifies(jwk: dict[str, Any]) -> None:
    raw = key_document({"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"}, rsa_signer().jwk(**jwk))
    asked = authenticator(Loading(raw))
    assert (await asked.caller(f"Bearer {token()}")).client == "camhs-app"


async def test_a_short_key_verifies_nothing() -> None:
    short = rsa_signer("short", 1024)
    await refused(authenticator(Loading(key_document(short.jwk()))), token(short))


async def test_two_keys_of_one_id_verify_nothing() -> None:
    """Which of them was meant, only the attacker may know."""
    twice = key_document(rsa_signer().jwk(), {**rsa_signer("other").jwk(), "kid": "rsa-1"})
    await refused(authenticator(Loading(twice)), token())


@given(st.binary(max_size=300).map(base64url), st.binary(max_size=300).map(base64url), st.text())
async def test_class_27_whatever_is_sent_ends_in_a_refusal(head: str, body: str, tail: str) -> None:
    for sent in (f"Bearer {head}.{body}.{tail}", f"Bearer {tail}", tail + head):
        with pytest.raises(FhirError) as caught:
            await authenticator(Loading(b'{"keys": []}')).caller(sent)
        assert caught.value.kind is Kind.UNAUTHENTICATED


class _Breaks:
    async def find(self, kid: str) -> Any:
        raise LookupError(kid)

    async def revoked(self, issuer: str, jti: str) -> bool:
        raise RuntimeError(issuer, jti)


async def test_class_27_an_exception_in_the_keys_or_the_revocations_denies() -> None:
    broken = authenticator(revocations=_Breaks())
    await refused(broken, token())
    trusting = authenticator()
    issuer = trusting._trust.issuers[ISSUER]
    object.__setattr__(issuer, "keys", _Breaks())
    await refused(trusting, token())


async def test_a_token_is_never_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await refused(authenticator(revocations=_Breaks()), token())
    for make in ATTACKS.values():
        sent = make()
        await refused(authenticator(), sent)
        parts = [part for part in sent.split(".") if len(part) > 8]
        assert not any(part in caplog.text for part in parts)
    assert "the token is refused: it is expired" in caplog.text


async def test_class_26_a_token_that_expires_is_refused_though_it_was_taken_before() -> None:
    clock, sent = Clock(), token()
    asked = authenticator(clock=clock, cache=3600)
    await asked.caller(f"Bearer {sent}")
    clock.seconds = NOW + 300 + 29
    await asked.caller(f"Bearer {sent}")
    clock.seconds = NOW + 300 + 30
    await refused(asked, sent)


class _Taken:
    """Tokens that are taken back."""

    def __init__(self) -> None:
        self.ids: set[tuple[str, str]] = set()

    async def revoked(self, issuer: str, jti: str) -> bool:
        return (issuer, jti) in self.ids


async def test_class_12_a_revoked_token_is_refused_though_it_is_remembered() -> None:
    taken = _Taken()
    asked = authenticator(revocations=taken)
    sent, other = token(), token(jti="token-2")
    await asked.caller(f"Bearer {sent}")
    taken.ids.add((ISSUER, "token-1"))
    await refused(asked, sent)
    await refused(asked, sent)
    assert (await asked.caller(f"Bearer {other}")).client == "camhs-app"


async def test_class_12_tokens_that_are_remembered_are_told_apart() -> None:
    asked = authenticator()
    for _ in range(2):
        assert (await asked.caller(f"Bearer {token(client_id='a')}")).client == "a"
        assert (await asked.caller(f"Bearer {token(client_id='b')}")).client == "b"


async def test_class_12_a_key_that_is_withdrawn_takes_the_tokens_along() -> None:
    clock, loading = Clock(), Loading()
    asked = authenticator(loading, clock, cache=120)
    sent = token(exp=NOW + 90_000)
    await asked.caller(f"Bearer {sent}")
    loading.raw = key_document(rsa_signer("next").jwk())
    clock.seconds += 119
    await asked.caller(f"Bearer {sent}")
    clock.seconds += 3600
    await refused(asked, sent)


async def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.access.tokens.authentication._KEPT", 3)
    asked = authenticator()
    for number in range(6):
        await asked.caller(f"Bearer {token(jti=str(number))}")
    assert len(asked._known) == 3
