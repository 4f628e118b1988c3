"""The address that links stand on: no client decides it, nor a proxy that nobody trusts.

https://hl7.org/fhir/R4/http.html#root, RFC 7239.
"""

from typing import Any

import httpx
import pytest

from fhir_server.http.proxies import Proxies
from fhir_server.settings import Settings
from tests.http.serving import served
from tests.jobs import finished, kicked_off
from tests.support import assert_outcome, body

PROXY = "10.1.2.3"
EVIL = {
    "host": "evil.example",
    "forwarded": "proto=https;host=evil.example",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil.example",
    "x-forwarded-for": PROXY,
    "x-forwarded-port": "444",
    "x-forwarded-server": "evil.example",
    "x-real-ip": PROXY,
}


async def _links(client: httpx.AsyncClient, headers: dict[str, str]) -> list[str]:
    """Every place that an address of the server stands in."""
    found: list[str] = []
    patient = body({"resourceType": "Patient"})
    for _ in range(2):
        made = await client.post(
            "Patient", content=patient["content"], headers={**patient["headers"], **headers}
        )
        assert made.status_code == 201, made.text
        found.append(made.headers["location"])
    for address in ("Patient?_count=1", "_history?_count=1"):
        bundle = (await client.get(address, headers=headers)).json()
        found += [link["url"] for link in bundle["link"]]
        found += [entry["fullUrl"] for entry in bundle["entry"]]
    statement = (await client.get("metadata", headers=headers)).json()
    return [*found, statement["implementation"]["url"]]


def _all_on(links: list[str], base: str) -> bool:
    return len(links) >= 8 and all(link == base or link.startswith(f"{base}/") for link in links)


async def test_without_trusted_proxies_no_header_is_believed(settings: Settings) -> None:
    async with served(settings) as client:
        assert _all_on(await _links(client, EVIL), settings.base)


async def test_who_is_not_the_proxy_is_not_believed(settings: Settings) -> None:
    async with served(settings, peer="10.9.9.9", trusted_proxies=(PROXY,)) as client:
        assert _all_on(await _links(client, EVIL), settings.base)


async def test_a_configured_address_stands_whatever_a_proxy_says(settings: Settings) -> None:
    base = "https://fhir.example.nhs.uk/r4"
    changed = {"trusted_proxies": (PROXY,), "public_base": base}
    async with served(settings, peer=PROXY, **changed) as client:
        assert _all_on(await _links(client, EVIL), base)


@pytest.mark.parametrize(
    "headers",
    [
        {"forwarded": "for=192.0.2.1;proto=https;host=fhir.example:8443"},
        {"forwarded": 'host="FHIR.example:8443" ; proto=HTTPS'},
        {"forwarded": "host=evil.example, proto=https;host=fhir.example:8443"},
        {"forwarded": 'proto=https;host=fhir.example:8443, for="10.1.2.3:99";host=inner.example'},
        {"x-forwarded-proto": "https", "x-forwarded-host": "fhir.example:8443"},
        {"x-forwarded-proto": "http, https", "x-forwarded-host": "evil.example, fhir.example:8443"},
        {
            "forwarded": "proto=https;host=fhir.example:8443",
            "x-forwarded-proto": "https",
            "x-forwarded-host": "fhir.example:8443",
        },
    ],
)
async def test_a_trusted_proxy_tells_the_address(
    settings: Settings, headers: dict[str, str]
) -> None:
    async with served(settings, peer=PROXY, trusted_proxies=("10.1.0.0/16",)) as client:
        links = await _links(client, {"host": "evil.example", **headers})
        assert _all_on(links, "https://fhir.example:8443/fhir")


async def test_what_is_answered_later_stands_on_that_address_too(settings: Settings) -> None:
    """Links of a search, and references that an import makes relative."""
    base = "https://fhir.example/fhir"
    told = {"forwarded": "proto=https;host=fhir.example"}
    async with served(settings, peer=PROXY, trusted_proxies=(PROXY,)) as client:
        client.headers.update(told)

        async def later(method: str, address: str, **more: Any) -> httpx.Response:
            job = await kicked_off(client, method, address, **more)
            assert job.startswith(f"{base}/_jobs/")
            return await finished(client, job.removeprefix(f"{base}/"))

        flag = {
            "resourceType": "Flag",
            "id": "f",
            "status": "active",
            "code": {"text": "x"},
            "subject": {"reference": f"{base}/Patient/p"},
        }
        line, ndjson = body(flag)["content"], {"content-type": "application/fhir+ndjson"}
        assert (await later("POST", "$import", content=line, headers=ndjson)).status_code == 200
        bundle = (await later("GET", "Flag?patient=p")).json()["entry"][0]["resource"]
        assert bundle["link"][0]["url"] == f"{base}/Flag?patient=p"
        (entry,) = bundle["entry"]
        assert entry["fullUrl"] == f"{base}/Flag/f"
        assert entry["resource"]["subject"]["reference"] == "Patient/p"
        asked = {"request": {"method": "GET", "url": f"{base}/Flag"}}
        batch = body({"resourceType": "Bundle", "type": "batch", "entry": [asked]})
        (inner,) = (await later("POST", "", **batch)).json()["entry"]
        assert inner["resource"]["entry"][0]["fullUrl"] == f"{base}/Flag/f"


@pytest.mark.parametrize(
    "headers", [{"x-forwarded-proto": "https"}, {"forwarded": "for=192.0.2.1"}]
)
async def test_a_proxy_that_tells_no_host_changes_nothing(
    settings: Settings, headers: dict[str, str]
) -> None:
    async with served(settings, peer=PROXY, trusted_proxies=(PROXY,)) as client:
        assert _all_on(await _links(client, {"host": "evil.example", **headers}), settings.base)


@pytest.mark.parametrize(
    "headers",
    [
        {"forwarded": "host=evil.example/x"},
        {"forwarded": 'host="evil.example\\"'},
        {"forwarded": "host=a@evil.example"},
        {"forwarded": "nonsense"},
        {"forwarded": "proto=javascript;host=fhir.example"},
        {"x-forwarded-host": "evil.example?x=", "x-forwarded-proto": "https"},
        {"x-forwarded-host": "fhir.example", "forwarded": "host=evil.example"},
    ],
)
async def test_what_is_no_address_is_refused(settings: Settings, headers: dict[str, str]) -> None:
    async with served(settings, peer=PROXY, trusted_proxies=(PROXY,)) as client:
        refused = await client.get("Patient", headers=headers)
        assert_outcome(refused, 400, "invalid", "What the proxy says", "http.Forwarded")
        assert "evil.example/x" not in refused.headers.get("location", "")


async def test_a_link_to_a_further_page_holds_at_the_told_address(settings: Settings) -> None:
    headers = {"forwarded": "proto=https;host=fhir.example"}
    async with served(settings, peer=PROXY, trusted_proxies=(PROXY,)) as client:
        for number in range(3):
            await client.put(
                f"Patient/{number}", **body({"resourceType": "Patient", "id": str(number)})
            )
        page = (await client.get("Patient?_count=2", headers=headers)).json()
        link = next(one["url"] for one in page["link"] if one["relation"] == "next")
        assert link.startswith("https://fhir.example/fhir/Patient?")
        rest = await client.get(f"Patient?{link.partition('?')[2]}", headers=headers)
        assert len(rest.json()["entry"]) == 1


def test_networks_of_both_families_are_understood() -> None:
    proxies = Proxies(("10.0.0.0/8", "2001:db8::/32"))
    assert proxies.trusts("10.255.0.1")
    assert proxies.trusts("::ffff:10.0.0.1")
    assert proxies.trusts("2001:db8::1")
    assert not proxies.trusts("11.0.0.1")
    assert not proxies.trusts("")
    assert not Proxies().trusts("127.0.0.1")
