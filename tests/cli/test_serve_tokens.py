"""`keyworking serve --auth token`: what it needs to know, and that its workers know it too."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner

from fhir_server import serving
from fhir_server.cli import main
from fhir_server.settings import Settings, read_settings
from fhir_server.synthetic import ensure_loaded
from tests.access import issuing
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.cli.test_serve import SERVE, _no_settings_but_the_test_s_own
from tests.support import free_port

__all__ = ["_no_settings_but_the_test_s_own"]
_PATIENCE: Final = 60.0


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(key_document(rsa_signer().jwk()))
    return path


def settings(**given: Any) -> Settings:
    return read_settings({"auth": "token", "issuer": ISSUER, **given})


def refused(**given: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is what is looked at
        settings(**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_choice_it_says_what_there_is_to_choose() -> None:
    ran = CliRunner().invoke(main, ["serve"], catch_exceptions=False)
    assert ran.exit_code == 1
    assert "--auth token" in ran.stderr
    assert "--auth none" in ran.stderr


def test_tokens_need_an_issuer_and_its_keys(keys: Path) -> None:
    assert "needs issuer" in refused(issuer="", jwks=str(keys))
    assert "needs jwks" in refused()
    assert settings(jwks=str(keys)).jwks == str(keys)
    assert settings(jwks="https://idp.example/keys").jwks_max_age == 3600


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("jwks", "http://idp.example/keys", "is http, which is for this machine only"),
        ("jwks", "https://me:secret@idp.example/keys", "has a user in it"),
        ("jwks", "file:///etc/keys", "is not an http or https address"),
        ("jwks", "nowhere.json", "nowhere.json cannot be read"),
        ("introspection_url", "ftp://idp.example", "is not an http or https address"),
        ("token_endpoint", "http://idp.example/token", "is http"),
        ("authorize_endpoint", "idp.example", "is not an http or https address"),
        ("revocation_endpoint", "https://idp.example/a b", "has a character"),
        ("token_algorithms", "HS256", "'HS256' cannot be allowed; RS256"),
        ("token_algorithms", "RS256,none", "'none' cannot be allowed"),
        ("token_algorithms", "rs256", "'rs256' cannot be allowed"),
        ("token_algorithms", "", "cannot be allowed"),
        ("token_leeway", "301", "token_leeway"),
        ("token_leeway", "-1", "token_leeway"),
        ("token_cache", "-1", "token_cache"),
        ("jwks_max_age", "inf", "jwks_max_age"),
        ("jwks_interval", "0", "jwks_interval"),
        ("claim_user", "", "claim_user is blank"),
        ("claim_client", "a,,b", "claim_client is blank"),
    ],
)
def test_a_setting_of_tokens_that_does_not_fit_is_named(
    keys: Path, name: str, value: str, words: str
) -> None:
    told = refused(**{"jwks": str(keys), name: value})
    assert words in told
    assert name in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"{}", "not a JWK Set"),
        (b'{"keys": []}', "no public key"),
        (key_document({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}), "no public key"),
        (b'{"keys": [{"kid": "a", "kid": "b"}]}', "stands twice"),
    ],
)
def test_a_file_without_keys_is_an_error_at_start(keys: Path, content: bytes, words: str) -> None:
    keys.write_bytes(content)
    assert words in refused(jwks=str(keys))


def test_introspection_needs_a_client_and_one_secret(tmp_path: Path) -> None:
    url = {"introspection_url": "https://idp.example/introspect"}
    assert "introspection_client" in refused(**url)
    assert "introspection_secret" in refused(**url, introspection_client="fhir")
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    given = {**url, "introspection_client": "fhir", "introspection_secret_file": str(file)}
    assert settings(**given).token_secret() == "s3cret"
    assert "give one of them" in refused(**given, introspection_secret="another")
    file.unlink()
    assert "introspection_secret_file cannot be read" in refused(**given)


def test_the_secret_is_in_no_representation_and_no_error(keys: Path) -> None:
    given = {"jwks": str(keys), "introspection_secret": "s3cret"}
    assert "s3cret" not in repr(settings(**given))
    assert "s3cret" not in refused(**given, token_leeway="many")


def test_tokens_may_be_asked_for_on_any_host(keys: Path) -> None:
    assert settings(jwks=str(keys), host="0.0.0.0").host == "0.0.0.0"  # noqa: S104


def test_settings_of_tokens_reach_the_workers(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ})
    given = settings(jwks=str(keys), token_algorithms="RS256,ES256", claim_client="azp")
    serving.export(given)
    assert Settings() == given


def test_the_synthetic_caseload_is_loaded_by_whoever_starts_the_server(
    tmp_path: Path, keys: Path
) -> None:
    ensure_loaded(settings(jwks=str(keys), store=f"sqlite:///{tmp_path}/kw.db"))
    assert (tmp_path / "kw.db").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_whoever_shows_a_token_and_nobody_else(
    tmp_path: Path, keys: Path, workers: str
) -> None:
    port = free_port()
    outside = {k: v for k, v in os.environ.items() if not k.startswith("KEYWORKING_")}
    told = {"ISSUER": ISSUER, "JWKS": str(keys), "PUBLISH": "false"}
    if workers == "2":
        told["REGISTER_ORGANISATION"] = "X99"
    process = subprocess.Popen(
        [*SERVE, "--auth", "token", "--port", str(port), "--workers", workers],
        cwd=tmp_path,
        env={**outside, **{f"KEYWORKING_{name}": value for name, value in told.items()}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        root = f"http://127.0.0.1:{port}"
        _await(f"{root}/health/ready")
        now = int(time.time())
        times: dict[str, Any] = {"exp": now + 300, "iat": now, "nbf": now}
        sent = issuing.token(**times, aud=f"{root}/fhir", scope="system/*.rs")
        good, bad = (f"Bearer {one}" for one in (sent, sent[:-8]))
        for _ in range(4):
            assert httpx.get(f"{root}/fhir/Patient").status_code == 401
            found = httpx.get(f"{root}/fhir/Patient", headers={"authorization": good})
            assert found.status_code == 200
            found = httpx.get(f"{root}/fhir/Patient", headers={"authorization": bad})
            assert found.status_code == 401
    finally:
        process.terminate()
        _, said = process.communicate(timeout=_PATIENCE)
    assert b"NO TOKENS" not in said
    assert (b"KEYWORKING_REGISTER_ORGANISATION is not set" in said) == (workers == "1")
    assert b"the token is refused: its signature is wrong" in said
    assert not any(part in said.decode() for part in sent.split("."))


def _await(address: str) -> None:
    """One client asks: each new one reads all certificates of the machine."""
    deadline = time.monotonic() + _PATIENCE
    with httpx.Client(timeout=2) as client:
        while True:
            try:
                client.get(address)
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return
