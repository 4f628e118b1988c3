"""Keys of an issuer: read anew when they change, and no keys at all when they are too old.

Class 12 (caches) and class 24 (calls to elsewhere) of what the server must withstand.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.access.tokens.fetching import MOST_BYTES, Outgoing
from fhir_server.access.tokens.keys import key_set
from fhir_server.access.tokens.problems import CannotVerify
from fhir_server.access.tokens.sources import LoadedKeys, from_file, from_url
from fhir_server.errors import FhirError, Kind
from tests.access.issuing import (
    Clock,
    IssuerProcess,
    Loading,
    all_keys,
    authenticator,
    ec_signer,
    key_document,
    rsa_signer,
    token,
)

INTERVAL: Final = 60
MAX_AGE: Final = 3600


def kept(loading: Loading, clock: Clock) -> LoadedKeys:
    return LoadedKeys(loading, INTERVAL, MAX_AGE, clock)


async def test_keys_are_loaded_once_for_many_tokens() -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    for _ in range(5):
        assert len(await keys.find("rsa-1")) == 1
    assert loading.times == 1


async def test_requests_that_come_together_load_them_once() -> None:
    loading = Loading()
    keys = kept(loading, Clock())
    found = await asyncio.gather(*(keys.find("rsa-1") for _ in range(20)))
    assert loading.times == 1
    assert all(len(one) == 1 for one in found)


async def test_class_12_a_new_key_is_found_once_an_interval_has_passed() -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    assert await keys.find("next") == ()
    loading.raw = key_document(rsa_signer("next").jwk())
    assert await keys.find("next") == ()
    clock.seconds += INTERVAL
    assert len(await keys.find("next")) == 1
    assert await keys.find("rsa-1") == ()


async def test_class_12_unknown_ids_load_the_keys_once_an_interval() -> None:
    """Else anybody could have the issuer asked as often as they like."""
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    for number in range(100):
        clock.seconds += 1
        assert await keys.find(f"made-up-{number}") == ()
    assert loading.times == 2


async def test_class_12_keys_that_are_too_old_are_no_keys() -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    await keys.find("rsa-1")
    loading.fails = CannotVerify("away")
    clock.seconds += MAX_AGE - 1
    assert len(await keys.find("rsa-1")) == 1
    clock.seconds += 1
    with pytest.raises(CannotVerify):
        await keys.find("rsa-1")
    loading.fails = None
    clock.seconds += INTERVAL
    assert len(await keys.find("rsa-1")) == 1


async def test_while_there_are_no_keys_they_are_asked_for_more_often_but_not_each_time() -> None:
    loading, clock = Loading(fails=CannotVerify("away")), Clock()
    keys = kept(loading, clock)
    for _ in range(12):
        with pytest.raises(CannotVerify):
            await keys.find("rsa-1")
        clock.seconds += 1
    assert loading.times == 3
    loading.fails = None
    clock.seconds += 5
    assert len(await keys.find("rsa-1")) == 1


async def test_class_23_who_waited_for_an_issuer_that_hangs_does_not_have_it_asked_again() -> None:
    """Else each of them would wait for all before: minutes, and the server's turns with them."""
    clock, times = Clock(), 0

    async def hanging() -> bytes:
        nonlocal times
        times += 1
        await asyncio.sleep(0)
        clock.seconds += 5
        raise CannotVerify("TimeoutError")

    keys = LoadedKeys(hanging, INTERVAL, MAX_AGE, clock)
    found = await asyncio.gather(*(keys.find("rsa-1") for _ in range(40)), return_exceptions=True)
    assert [type(one) for one in found] == [CannotVerify] * 40
    assert times == 1


async def test_class_12_a_withdrawn_key_is_none_once_half_the_time_has_passed() -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    await keys.find("rsa-1")
    loading.raw = key_document()
    clock.seconds += MAX_AGE // 2
    assert len(await keys.find("rsa-1")) == 1
    clock.seconds += 1
    assert await keys.find("rsa-1") == ()


async def test_keys_from_before_the_clock_was_set_back_are_none() -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    await keys.find("rsa-1")
    loading.fails = CannotVerify("away")
    clock.seconds -= 10
    with pytest.raises(CannotVerify):
        await keys.find("rsa-1")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b'{"keys": [' * 20])
async def test_what_is_no_key_set_leaves_the_keys_as_they_were(raw: bytes) -> None:
    loading, clock = Loading(), Clock()
    keys = kept(loading, clock)
    await keys.find("rsa-1")
    loading.raw = raw
    clock.seconds += INTERVAL
    assert await keys.find("another") == ()
    assert len(await keys.find("rsa-1")) == 1


async def test_without_keys_from_the_start_nothing_is_verified() -> None:
    asked = authenticator(Loading(fails=CannotVerify("away")))
    with pytest.raises(FhirError) as caught:
        await asked.caller(f"Bearer {token()}")
    assert caught.value.kind is Kind.UNAVAILABLE
    assert "cannot be checked at the moment" in str(caught.value)


def test_keys_that_share_an_id_are_both_kept_and_odd_members_are_left_out() -> None:
    rsa, ec = rsa_signer("a").jwk(), {**ec_signer().jwk(), "kid": "a"}
    found = key_set(key_document(rsa, ec, {"kty": "RSA"}, {"kid": "b", "kty": "OKP"}))
    assert [key.jwk["kty"] for key in found["a"]] == ["RSA", "EC"]
    assert found.keys() == {"a"}
    with_strangers = json.dumps({"keys": [1, None, "key", [], rsa]}).encode()
    assert key_set(with_strangers).keys() == {"a"}
    with pytest.raises(ValueError, match="100 keys"):
        key_set(key_document(*[rsa] * 101))


async def test_a_file_of_keys_may_be_replaced(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    path.write_bytes(all_keys())
    keys = LoadedKeys(from_file(path), INTERVAL, MAX_AGE, clock)
    assert len(await keys.find("rsa-1")) == 1
    path.write_bytes(key_document(rsa_signer("next").jwk()))
    clock.seconds += INTERVAL
    assert len(await keys.find("next")) == 1
    path.unlink()
    clock.seconds += MAX_AGE
    with pytest.raises(CannotVerify):
        await keys.find("next")


async def test_a_file_that_is_too_large_is_no_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(CannotVerify, match="more than"):
        await from_file(path)()


# Over the network


@pytest.fixture
def issuer() -> Iterator[IssuerProcess]:
    with IssuerProcess().running() as process:
        yield process


async def fetched(url: str, **more: Any) -> bytes:
    return await from_url(url, Outgoing(**more))()


async def test_keys_are_fetched(issuer: IssuerProcess) -> None:
    loading = from_url(issuer.url, Outgoing())
    keys = LoadedKeys(loading, INTERVAL, MAX_AGE, Clock())
    assert len(await keys.find("rsa-1")) == 1
    method, path, _, headers = issuer.asked[0]
    assert (method, path) == ("GET", "/keys")
    assert "authorization" not in headers


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 500])
async def test_class_24_anything_but_a_200_is_no_answer_and_is_not_followed(
    issuer: IssuerProcess, status: int
) -> None:
    with IssuerProcess().running() as other:
        issuer.status = status
        issuer.headers["location"] = other.url
        with pytest.raises(CannotVerify, match=str(status)):
            await fetched(issuer.url)
        assert other.asked == []


async def test_class_24_an_answer_is_bounded_in_size_and_time(issuer: IssuerProcess) -> None:
    issuer.answer = b" " * (MOST_BYTES + 1)
    with pytest.raises(CannotVerify, match="more than"):
        await fetched(issuer.url)
    issuer.answer, issuer.delay = all_keys(), 1.0
    with pytest.raises(CannotVerify, match="Timeout"):
        await fetched(issuer.url, patience=0.1)


async def test_class_20_an_answer_that_is_compressed_is_refused(issuer: IssuerProcess) -> None:
    issuer.headers["content-encoding"] = "gzip"
    with pytest.raises(CannotVerify, match="compressed"):
        await fetched(issuer.url)
    assert issuer.asked[0][3]["accept-encoding"] == "identity"


async def test_class_24_proxies_of_the_environment_are_not_used(
    issuer: IssuerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert await fetched(issuer.url) == all_keys()


async def test_class_24_a_name_with_a_private_address_is_not_asked(
    issuer: IssuerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loopback(host: str, port: int) -> list[str]:  # noqa: ARG001
        return ["127.0.0.1"]

    monkeypatch.setattr("fhir_server.outgoing.system_resolver", loopback)
    named = issuer.url.replace("127.0.0.1", "idp.example")
    with pytest.raises(CannotVerify, match="private address"):
        await fetched(named)
    assert issuer.asked == []
    assert await fetched(named, private_hosts=("idp.example",)) == all_keys()


async def test_class_24_no_address_in_a_token_is_asked(issuer: IssuerProcess) -> None:
    from tests.access.issuing import claims, raw_token

    header = {"alg": "RS256", "typ": "JWT", "kid": "of-the-attacker"}
    told = {"jku": issuer.url, "x5u": issuer.url, "iss": issuer.url}
    for more in told:
        sent = raw_token({**header, more: told[more]}, claims(), rsa_signer("of-the-attacker"))
        with pytest.raises(FhirError) as caught:
            await authenticator().caller(f"Bearer {sent}")
        assert caught.value.kind is Kind.UNAUTHENTICATED
    assert issuer.asked == []


async def test_nobody_listens() -> None:
    with IssuerProcess().running() as process:
        pass
    with pytest.raises(CannotVerify, match="ConnectError"):
        await fetched(process.url)
