"""Classes 19 to 25: what is sent, of a shape that breaks servers."""

import asyncio
import time
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from tests.access import issuing
from tests.attacks.conftest import (
    FHIR,
    HIDDEN,
    JSON_PATCH,
    KEYWORKER,
    MINE,
    STRANGER,
    World,
    hidden,
    of,
    plan,
)

A: Final = f"CarePlan/{MINE.key}-a"
XML: Final = "application/fhir+xml"
_SOON: Final = 20.0
"""Seconds, on a busy machine, that none of these takes."""


def is_refused(answer: httpx.Response, *also: int) -> bool:
    told = answer.json() if answer.content else {}
    clean = told.get("resourceType") == "OperationOutcome"
    return clean and answer.status_code in (400, 403, 404, 413, 422, *also)


@pytest.mark.parametrize(
    "query",
    [
        *("name[$ne]=x", "$where=1", "name.$gt=", "_id[$regex]=.*", "__proto__[x]=1"),
        *("patient.$ne.name=x", "_filter=$where%20eq%20x"),
    ],
)
async def test_19_operators_are_no_parameters(world: World, query: str) -> None:
    found = await world.get(STRANGER, f"Patient?{query}")
    assert is_refused(found), found.text
    assert HIDDEN.surname not in found.text


async def test_19_operators_are_no_values_members_or_claims(world: World) -> None:
    for value in ('{"$ne":""}', "$ne", "[$gt]", ".*", "'; drop table versions; --", "%"):
        assert await world.ids(KEYWORKER, "Patient?" + str(httpx.QueryParams(name=value))) == set()
    for member in ("$where", "$gt", "a.b", "__proto__"):
        told = plan(MINE, **{member: {"$ne": ""}})
        assert is_refused(await world.ask(KEYWORKER, "POST", "CarePlan", told)), member
    now = int(time.time())
    times = {"exp": now + 60, "iat": now, "nbf": now}
    claims: dict[str, Any] = {**times, "fhirUser": {"$ne": ""}}
    sent = issuing.token(**claims, scope="system/*.cruds")
    answer = await world.get(None, A, authorization=f"Bearer {sent}")
    assert answer.status_code == 401
    assert await world.ids(KEYWORKER, f"Patient?name={MINE.surname}") == {MINE.key}


async def test_19_no_expression_takes_for_ever(world: World) -> None:
    bomb = "(a+)+" * 20 + "$"
    sent = time.monotonic()
    for query in ("name:contains", "name:exact", "_text", "_content"):
        address = "Patient?" + str(httpx.QueryParams({query: bomb}))
        assert (await world.get(KEYWORKER, address)).status_code in (200, 400)
    path = {"name": "path", "valueString": f"CarePlan.where(title.matches('{bomb}'))"}
    parts = [{"name": "type", "valueCode": "delete"}, path]
    told = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    matched = {"if-match": 'W/"1"'}
    assert is_refused(await world.ask(KEYWORKER, "PATCH", A, told, headers=matched))
    assert time.monotonic() - sent < _SOON


_LAUGHS: Final = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {x} "{f"&{y};" * 10}">' for y, x in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + ']><CarePlan xmlns="http://hl7.org/fhir"><title value="&i;"/></CarePlan>'
)
_OUTSIDE: Final = (
    '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<CarePlan xmlns="http://hl7.org/fhir"><title value="&x;"/></CarePlan>'
)


@pytest.mark.parametrize("sent", [_LAUGHS, _OUTSIDE, "<CarePlan", "<!DOCTYPE a><a/>", "\x00"])
async def test_20_xml_that_is_a_trap_is_refused(world: World, sent: str) -> None:
    found = await world.ask(KEYWORKER, "POST", "CarePlan", sent, XML)
    assert is_refused(found), found.text
    assert "root:" not in found.text


@pytest.mark.parametrize(
    "sent",
    [
        *(b'{"resourceType":"CarePlan","status":"a","status":"b"}', b'{"a":NaN}', b'{"a":1e400}'),
        *(b'{"a":Infinity}', b'{"a":"\\ud800"}', b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe{}"),
        *(b'{"resourceType":"CarePlan","title":"\\u0000"}', b"null", b"", b"\xef\xbb\xbf{}"),
    ],
    ids=range(12),
)
async def test_20_json_that_is_a_trap_is_refused(world: World, sent: bytes) -> None:
    found = await world.ask(KEYWORKER, "POST", "CarePlan", sent)
    assert is_refused(found, 415), found.text


async def test_20_decimals_keep_their_digits(world: World) -> None:
    told = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    subject = {"reference": f"Patient/{MINE.key}"}
    sent = json.encode({**told, "subject": subject, "valueQuantity": {"value": 1}})
    sent = sent.replace(b'"value":1', b'"value":0.10000000000000000000')
    made = await world.ask(KEYWORKER, "POST", "Observation", sent)
    assert made.status_code == 201, made.text
    assert "0.10000000000000000000" in made.text


@pytest.mark.parametrize(
    "day", ["2026-02-30", "0000", "2026-13", "2026-01-01T25:00:00Z", "yesterday", "2026-1-1", "eq"]
)
async def test_21_bad_dates_are_refused_and_match_nothing(world: World, day: str) -> None:
    for name in ("_lastUpdated", "birthdate"):
        for prefix in ("", "ge", "sa", "ap"):
            found = await world.get(KEYWORKER, f"Patient?{name}={prefix}{day}")
            assert is_refused(found), found.text


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "2024-02-29", "2026-03-29T01:30:00Z"])
async def test_21_dates_at_the_edges_are_dates(world: World, day: str) -> None:
    born = of(MINE, "Patient", MINE.key)["birthDate"]
    for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"):
        found = await world.get(KEYWORKER, f"Patient?birthdate={prefix}{day}")
        assert found.status_code in (200, 400), found.text
    assert MINE.key in await world.ids(KEYWORKER, f"Patient?birthdate={born}")
    assert MINE.key not in await world.ids(KEYWORKER, f"Patient?birthdate=sa{born}")


def _by_path(path: str) -> dict[str, Any]:
    parts = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": path}]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


@pytest.mark.parametrize(
    "path",
    [
        "CarePlan" + ".descendants()" * 30,
        "CarePlan.repeat(children())" * 3,
        "CarePlan.id",
        "(" * 2000 + "1" + ")" * 2000,
        "CarePlan" + ".where(true)" * 5000,
    ],
    ids=["descendants", "repeat", "id", "nested", "long"],
)
async def test_22_patches_by_path_are_bounded(world: World, path: str) -> None:
    sent = time.monotonic()
    matched = {"if-match": 'W/"1"'}
    found = await world.ask(KEYWORKER, "PATCH", A, _by_path(path), headers=matched)
    assert is_refused(found), found.text
    assert time.monotonic() - sent < _SOON
    assert await world.version("CarePlan", f"{MINE.key}-a") == 1


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/id", "value": "other"},
        {"op": "replace", "path": "/resourceType", "value": "Task"},
        {"op": "remove", "path": ""},
        {"op": "add", "path": "/note/99", "value": {}},
        {"op": "copy", "from": "/~2", "path": "/x"},
        {"op": "move", "from": "/note", "path": "/note/0"},
        {"op": "replace", "path": "/activity/-1", "value": 1},
        {"op": "replace", "path": "/note/00/text", "value": "x"},
    ],
    ids=lambda one: one["path"] or "whole",
)
async def test_22_pointers_at_what_is_not_changed_are_refused(
    world: World, operation: dict[str, str]
) -> None:
    matched = {"if-match": 'W/"1"'}
    found = await world.ask(KEYWORKER, "PATCH", A, [operation], JSON_PATCH, matched)
    assert is_refused(found), found.text
    assert await world.version("CarePlan", f"{MINE.key}-a") == 1


async def test_23_what_is_too_much_is_refused(world: World) -> None:
    wide = ",".join(f"a{n}" for n in range(20_000))
    chain = ".".join(["based-on:CarePlan"] * 40)
    entries = [{"request": {"method": "GET", "url": A}}] * 2000
    told = [
        await world.ask(KEYWORKER, "POST", "Patient/_search", f"_id={wide}", _FORM),
        await world.get(KEYWORKER, f"CarePlan?{chain}.title=x"),
        await world.ask(
            *(KEYWORKER, "POST", ""),
            {"resourceType": "Bundle", "type": "batch", "entry": entries},
        ),
        await world.ask(KEYWORKER, "POST", "CarePlan", plan(MINE, title="x" * 300_000)),
        await world.get(KEYWORKER, "CarePlan?" + "&".join(f"_id={n}" for n in range(5000))),
    ]
    assert all(is_refused(one, 414, 431) for one in told), [one.status_code for one in told]
    none = await world.get(KEYWORKER, "CarePlan?_count=0")
    assert none.status_code == 200
    assert "entry" not in none.json()
    assert await world.ids(KEYWORKER, "CarePlan?_count=10000") >= {f"{MINE.key}-a"}


_FORM: Final = "application/x-www-form-urlencoded"


async def test_24_nothing_is_fetched_because_a_resource_names_it(world: World) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    told = plan(
        MINE,
        meta={"profile": [f"{place}/profile"]},
        instantiatesUri=[f"{place}/a"],
        supportingInfo=[{"reference": f"{place}/fhir/Flag/1"}],
    )
    await world.ask(KEYWORKER, "POST", "CarePlan", told)
    document = {**of(MINE, "DocumentReference", "d")}
    document["content"] = [{"attachment": {"url": f"{place}/secret"}}]
    await world.ask(KEYWORKER, "PUT", f"DocumentReference/{MINE.key}-d", document, headers=_FIRST)
    inputs = [{"name": "input", "part": [{"name": "url", "valueUri": f"{place}/x.ndjson"}]}]
    imported = {"resourceType": "Parameters", "parameter": inputs}
    refused = await world.ask(
        KEYWORKER, "POST", "$import", imported, headers={"prefer": "respond-async"}
    )
    assert is_refused(refused), refused.text
    await world.get(KEYWORKER, f"CarePlan?_include=*&supporting-info={place}/fhir/Flag/1")
    subscription = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "x",
        "criteria": "CarePlan?status=active",
        "channel": {"type": "rest-hook", "endpoint": place},
    }
    assert is_refused(await world.ask(KEYWORKER, "POST", "Subscription", subscription))
    header = {"alg": "RS256", "kid": "rsa-1", "jku": f"{place}/keys", "x5u": f"{place}/keys"}
    now = int(time.time())
    claims = issuing.claims(exp=now + 60, iat=now, nbf=now)
    foreign = issuing.raw_token(header, claims, issuing.rsa_signer("another"))
    assert (await world.get(None, A, authorization=f"Bearer {foreign}")).status_code == 401
    await asyncio.sleep(0.05)
    server.close()
    assert asked == []


_FIRST: Final = {"if-match": 'W/"1"'}


async def test_25_headers_and_paths_do_not_lead_elsewhere(world: World) -> None:
    spoofed = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil"}
    found = await world.get(KEYWORKER, "CarePlan?_count=1", **spoofed)
    assert found.status_code == 200
    assert "evil" not in found.text + str(found.headers)
    override = await world.get(KEYWORKER, A, **{"x-http-method-override": "DELETE"})
    assert override.status_code == 200
    assert await world.version("CarePlan", f"{MINE.key}-a") == 1
    for path in (
        *(f"Patient/../CarePlan/{HIDDEN.key}-a", f"CarePlan%2f{HIDDEN.key}-a", "CarePlan/%2e%2e"),
        *(
            f"careplan/{MINE.key}-a",
            f"CarePlan/{MINE.key}-a%00",
            f"CarePlan/{MINE.key}-a%0d%0aX: y",
        ),
        *(f"CarePlan/{HIDDEN.key}%252da", f"CarePlan//{HIDDEN.key}-a", "_jobs/..%2f..%2fetc/x/1"),
    ):
        told = await world.get(KEYWORKER, path)
        assert told.status_code in (400, 404), path
        assert f"x{HIDDEN.key[1:]}" not in told.text
        assert "x" not in told.headers
    made = await world.ask(KEYWORKER, "POST", "CarePlan", plan(MINE), headers=_SPLIT)
    assert made.status_code in (201, 400)
    assert "injected" not in made.headers
    there = await world.get(KEYWORKER, hidden(A), **{"if-none-match": 'W/"1"'})
    assert there.status_code == 404
    assert (await world.get(KEYWORKER, A, **{"if-none-match": 'W/"1"'})).status_code == 304


_SPLIT: Final = {"x-request-id": "a injected: b", "accept": FHIR}
