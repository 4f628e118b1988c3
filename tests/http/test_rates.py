"""How often one client may ask: 429 with Retry-After, https://www.rfc-editor.org/rfc/rfc6585#section-4"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.http.headers import read
from fhir_server.http.limits import HttpLimits
from fhir_server.http.messages import HttpAnswer, HttpRequest
from fhir_server.http.middleware import wrapped
from fhir_server.http.proxies import Proxies
from fhir_server.http.rates import Buckets, Rates, rates
from fhir_server.settings import Settings
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.http.serving import served
from tests.support import assert_outcome

PROXY: Final = "10.1.2.3"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_fills_at_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 3, clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") == 0.5
    assert buckets.wait("a") == 0.5
    assert buckets.take("b") == 0.0, "another's is another"
    clock.now += 0.25
    assert buckets.take("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert buckets.wait("a") == 0.0, "to ask takes nothing"
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    clock.now += 3600
    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") > 0, "no more than a burst is saved up"


def test_who_is_refused_does_not_wait_longer_for_it() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 1, clock)
    assert buckets.take("a") == 0.0
    for _ in range(50):
        assert buckets.take("a") > 0
    clock.now += 1
    assert buckets.take("a") == 0.0


def test_no_more_clients_are_remembered_than_fit() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 2, clock, most=100)
    for number in range(100_000):
        buckets.take(f"{number}")
    assert len(buckets._left) == 100
    busy = [buckets.take("99999"), buckets.take("99998")]
    assert busy == [0.0, 0.0]
    assert buckets.take("99999") > 0, "who asked last is remembered"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unix", "10.0.0.1", False),
    ],
)
def test_whoever_has_a_network_has_one_bucket(one: str, other: str, same: bool) -> None:
    limited = Rates(Buckets(0.001, 1))
    limited.admit("", one)
    if same:
        with pytest.raises(FhirError, match="Too many requests"):
            limited.admit("", other)
    else:
        limited.admit("", other)


def test_a_client_with_a_token_is_one_wherever_it_asks_from() -> None:
    limited = Rates(Buckets(0.001, 1))
    limited.admit("app", "10.0.0.1")
    limited.admit("", "10.0.0.1")
    limited.admit("other", "10.0.0.1")
    with pytest.raises(FhirError) as caught:
        limited.admit("app", "10.0.0.2")
    assert caught.value.kind is Kind.THROTTLED
    assert caught.value.retry_after == 1000
    with pytest.raises(FhirError, match="Too many requests"):
        limited.admit("", "10.0.0.1")
    named_like_an_address = Rates(Buckets(0.001, 1))
    named_like_an_address.admit("", "app")
    named_like_an_address.admit("app", "10.0.0.1")


async def test_too_many_requests_are_told_when_to_come_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhir_server.http.rates.Buckets", partial(Buckets, clock=Clock()))
    async with served(settings, max_rate=0.5, max_burst=3) as client:
        for _ in range(3):
            assert (await client.get("Patient/nobody")).status_code == 404
        refused = await client.get("metadata")
        assert_outcome(refused, 429, "throttled", "Too many requests; try again in 2 s")
        assert refused.headers["retry-after"] == "2"
        as_xml = await client.get("metadata", headers={"accept": "application/fhir+xml"})
        assert as_xml.status_code == 429
        assert as_xml.content.startswith(b"<?xml") or b"<OperationOutcome" in as_xml.content
        health = await client.get(str(client.base_url).replace("/fhir/", "/health/ready"))
        assert health.status_code == 200, "who watches over the server is not counted"


async def test_the_wait_is_over_when_it_was_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("fhir_server.http.rates.Buckets", partial(Buckets, clock=clock))
    async with served(settings, max_rate=1.0, max_burst=1) as client:
        assert (await client.get("Patient/nobody")).status_code == 404
        assert (await client.get("Patient/nobody")).headers["retry-after"] == "1"
        clock.now += 0.9
        assert (await client.get("Patient/nobody")).status_code == 429
        clock.now += 0.125
        assert (await client.get("Patient/nobody")).status_code == 404


async def test_by_default_no_client_asks_too_much(settings: Settings) -> None:
    async with served(settings, turn_patience=60.0) as client:
        answers = await asyncio.gather(*(client.get("Patient?_count=0") for _ in range(500)))
    assert {answer.status_code for answer in answers} == {200}


async def test_behind_a_proxy_each_client_has_its_own(settings: Settings) -> None:
    bound = {"max_rate": 0.001, "max_burst": 1, "trusted_proxies": (PROXY,)}
    async with served(settings, peer=PROXY, **bound) as client:
        for address in ("198.51.100.1", "198.51.100.2"):
            told = {"x-forwarded-for": address}
            assert (await client.get("metadata", headers=told)).status_code == 200
            assert (await client.get("metadata", headers=told)).status_code == 429
            forged = {"x-forwarded-for": f"203.0.113.9, {address}"}
            assert (await client.get("metadata", headers=forged)).status_code == 429


async def test_nobody_else_s_word_makes_another_client(settings: Settings) -> None:
    bound = {"max_rate": 0.001, "max_burst": 1, "trusted_proxies": (PROXY,)}
    async with served(settings, peer="198.51.100.7", **bound) as client:
        for number, status in ((1, 200), (2, 429), (3, 429)):
            told = {"x-forwarded-for": f"203.0.113.{number}"}
            assert (await client.get("metadata", headers=told)).status_code == status


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, PROXY),
        ({"x-forwarded-for": "198.51.100.1"}, "198.51.100.1"),
        ({"x-forwarded-for": "198.51.100.1:4711"}, "198.51.100.1"),
        ({"x-forwarded-for": "[2001:db8::1]:4711"}, "2001:db8::1"),
        ({"x-forwarded-for": "2001:db8::1"}, "2001:db8::1"),
        ({"x-forwarded-for": "203.0.113.9, 198.51.100.1"}, "198.51.100.1"),
        ({"x-forwarded-for": "198.51.100.1, 10.1.9.9"}, "198.51.100.1"),
        ({"x-forwarded-for": "198.51.100.1, nonsense"}, PROXY),
        ({"x-forwarded-for": "nonsense, 10.1.9.9"}, "10.1.9.9"),
        ({"forwarded": 'for="[2001:db8::1]:9";proto=https'}, "2001:db8::1"),
        ({"forwarded": "for=203.0.113.9, for=198.51.100.1;proto=https"}, "198.51.100.1"),
        ({"forwarded": "for=_hidden"}, PROXY),
        ({"forwarded": "nonsense"}, PROXY),
        ({"forwarded": "for=198.51.100.1", "x-forwarded-for": "198.51.100.1"}, "198.51.100.1"),
        ({"forwarded": "for=198.51.100.1", "x-forwarded-for": "203.0.113.9"}, PROXY),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_is(
    headers: dict[str, str], address: str
) -> None:
    proxies = Proxies(["10.1.0.0/16"])
    assert proxies.client(PROXY, headers) == address
    assert proxies.client("198.51.100.7", headers) == "198.51.100.7"


# Failed authentications


def _asked(limited: Rates, address: str, *, fails: bool) -> int:
    """The status of one request that passes all middleware."""

    async def handle(request: HttpRequest) -> HttpAnswer:  # noqa: ARG001
        if fails:
            raise FhirError(Kind.UNAUTHENTICATED, "This token is not known")
        return HttpAnswer(200)

    received = read([])
    request = HttpRequest(
        *("GET", "/Patient", "", received, received.values, _nothing, HttpLimits()),
        address=address,
        rates=limited,
    )

    async def ask() -> int:
        return (await wrapped(handle)(request)).status

    return asyncio.run(ask())


async def _nothing() -> dict[str, object]:
    return {"type": "http.request"}


def test_failed_authentications_of_an_address_are_bounded() -> None:
    limited = rates(0, 200, 0.001, 2)
    assert [_asked(limited, "10.0.0.1", fails=True) for _ in range(4)] == [401, 401, 429, 429]
    assert _asked(limited, "10.0.0.2", fails=True) == 401
    assert _asked(limited, "10.0.0.1", fails=False) == 200, "who shares its address gets through"
    with pytest.raises(FhirError, match="Too many failed authentications"):
        limited.require_patience("10.0.0.1")
    limited.require_patience("10.0.0.3")


def test_other_refusals_are_no_failed_authentications() -> None:
    limited = rates(0, 200, 0.001, 1)
    for _ in range(3):
        assert _asked(limited, "10.0.0.1", fails=False) == 200
    limited.require_patience("10.0.0.1")


def test_a_rate_of_nothing_is_no_bound() -> None:
    unbounded = rates(0, 1, 0, 1)
    for _ in range(10):
        unbounded.admit("", "10.0.0.1")
        unbounded.failed("10.0.0.1")
        unbounded.require_patience("10.0.0.1")


async def test_tokens_that_are_not_good_are_bounded_and_what_is_open_stays_open(
    settings: Settings, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    changed: dict[str, Any] = {"auth": "token", "issuer": ISSUER, "jwks": str(keys)}
    changed |= {"max_failure_rate": 0.001, "max_failure_burst": 2}
    async with served(settings, **changed) as client:
        wrong = {"authorization": "Bearer not-a-token"}
        asked = [await client.get("Patient", headers=wrong) for _ in range(3)]
        assert [answer.status_code for answer in asked] == [401, 401, 429]
        assert_outcome(asked[2], 429, "throttled", "Too many failed authentications")
        assert asked[2].headers["retry-after"] == "1000"
        assert (await client.get("metadata")).status_code == 200
