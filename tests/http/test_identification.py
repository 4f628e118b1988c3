"""Ids of requests: https://hl7.org/fhir/R4/http.html#custom"""

import logging
import re

import httpx
import pytest

from fhir_server.settings import Settings

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def test_mirrors_the_ids_that_were_sent(client: httpx.AsyncClient) -> None:
    sent = {"X-Request-ID": "Req-1:a/b", "X-Correlation-ID": "11C46F5F-CDEF-4865-94B2-0EE0EDCC26DA"}
    for address in ("metadata", "Patient/nobody", "Dragon", "Patient?colour=blue"):
        response = await client.get(address, headers=sent)
        assert response.headers["x-request-id"] == sent["X-Request-ID"]
        assert response.headers["x-correlation-id"] == sent["X-Correlation-ID"]


async def test_gives_a_request_an_id_and_makes_up_no_correlation(client: httpx.AsyncClient) -> None:
    response = await client.get("metadata")
    assert UUID.fullmatch(response.headers["x-request-id"])
    assert "x-correlation-id" not in response.headers


@pytest.mark.parametrize(
    "sent", [b"a b", b"a\tb", b"x" * 129, b"", b"a\xe9", b"a\r\nSet-Cookie: b=c", b"a\x00b"]
)
async def test_does_not_mirror_what_could_mean_something_else(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with caplog.at_level(logging.DEBUG, logger="fhir_server"):
        response = await client.get(
            "metadata", headers=[(b"X-Request-ID", sent), (b"X-Correlation-ID", sent)]
        )
    assert response.status_code == 200
    assert UUID.fullmatch(response.headers["x-request-id"])
    assert "x-correlation-id" not in response.headers
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "forged", ["Host", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-HTTP-Method-Override"]
)
async def test_links_and_methods_do_not_follow_what_a_header_claims(
    client: httpx.AsyncClient, settings: Settings, forged: str
) -> None:
    response = await client.get("Patient", headers={forged: "evil.example"})
    assert response.json()["link"][0]["url"] == f"{settings.base}/Patient"
    overridden = await client.get("Patient/nobody", headers={forged: "DELETE"})
    assert overridden.status_code == 404
