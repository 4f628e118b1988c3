"""What is left of a request that was refused, and of XML that was read."""

import gc
from typing import Final

import httpx
import pytest

from fhir_server.errors import FhirError
from fhir_server.fhir import xml
from fhir_server.http.messages import HttpRequest
from tests.stores import sqlite_alone
from tests.support import FHIR_JSON

pytestmark = sqlite_alone
_BROKEN: Final = b'{"resourceType":"Patient","nothing":1}'
_STALE: Final = b'{"resourceType":"Patient","id":"a"}'
_LARGE: Final = 100_000
"""Bytes of a patch that is worked out in a thread, whose errors come from there."""
_PATCH: Final = b'[{"op":"test","path":"/active","value":"%b"}]' % (b"x" * _LARGE)
_ENTRIES: Final = b"""{"resourceType":"Bundle","type":"%b","entry":[
    {"resource":%b,"request":{"method":"POST","url":"Patient"}},
    {"resource":%b,"request":{"method":"PUT","url":"Patient/a","ifMatch":"W/\\"7\\""}}]}"""
_XML: Final = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'


async def _refused(client: httpx.AsyncClient) -> None:
    stale = {**FHIR_JSON, "if-match": 'W/"7"'}
    patch = {"content-type": "application/json-patch+json"}
    answers = (
        await client.get("Nothing/1"),
        await client.get("Patient?nothing=1"),
        await client.post("Patient", content=_BROKEN, headers=FHIR_JSON),
        await client.put("Patient/a", content=_STALE, headers=stale),
        await client.post(
            "", content=_ENTRIES % (b"transaction", _BROKEN, _STALE), headers=FHIR_JSON
        ),
        await client.patch("Patient/b", content=_PATCH, headers=patch),
    )
    assert [each.status_code for each in answers] == [404, 400, 400, 412, 400, 422]
    batch = await client.post("", content=_ENTRIES % (b"batch", _BROKEN, _STALE), headers=FHIR_JSON)
    statuses = [each["response"]["status"][:3] for each in batch.json()["entry"]]
    assert statuses == ["400", "412"]


async def test_it_is_not_kept_until_somebody_collects_garbage(client: httpx.AsyncClient) -> None:
    def kept() -> int:
        return sum(issubclass(type(each), (HttpRequest, Exception)) for each in gc.get_objects())

    there = b'{"resourceType":"Patient","id":"b"}'
    assert (await client.put("Patient/b", content=there, headers=FHIR_JSON)).is_success
    await _refused(client)
    gc.collect()
    gc.disable()
    try:
        before = kept()
        await _refused(client)
        assert kept() <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("raw", [_XML, _XML[:-1], b"\x00<"], ids=["sound", "cut-off", "no-text"])
def test_of_xml_that_was_read_nothing_is_kept(raw: bytes) -> None:
    def kept() -> int:
        return sum(type(each) is xml._Reader for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = kept()
        try:
            xml._Reader(raw).root()
        except FhirError as error:
            error.__traceback__ = None
        assert kept() == before
    finally:
        gc.enable()
