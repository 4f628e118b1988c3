"""Links to further pages, of whatever answers in pages: sealed, and good for one caller alone.

https://hl7.org/fhir/R4/http.html#paging
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote, unquote

import httpx
import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from fhir_server.access.policy import OpenPolicy
from fhir_server.app import ANONYMOUS, Application, create_app
from fhir_server.operation.seal import Seal
from fhir_server.settings import Settings
from tests.conftest import Restrict
from tests.http.test_includes import next_of
from tests.stores import store_at
from tests.support import FHIR_JSON, assert_outcome, outcome_issues, put

PAGED: Final = (
    "Patient?_count=1",
    "?_type=Patient,Flag&_count=1",
    "Patient/p0/Flag?_count=1",
    "Patient/p0/*?_count=1",
    "Patient?_id=p0&_revinclude=Flag:subject",
    "Patient/p0/_history?_count=1",
    "Patient/_history?_count=1",
    "_history?_count=1",
    "Patient/p0/$everything?_count=1",
    "Patient/$everything?_count=1",
)
GONE: Final = "search again"


async def chart(client: httpx.AsyncClient, app: Application) -> None:
    assert app.fhir is not None
    app.fhir.server = replace(app.fhir.server, max_includes=1)
    for _ in range(2):
        for number in range(3):
            patient = {"resourceType": "Patient", "id": f"p{number}"}
            await put(client, patient | {"active": True})
            await put(client, patient)
            flag = {"resourceType": "Flag", "id": f"f{number}", "status": "active"}
            await put(
                client, flag | {"code": {"text": "x"}, "subject": {"reference": "Patient/p0"}}
            )


async def link(client: httpx.AsyncClient, search: str) -> str:
    response = await client.get(search)
    assert response.status_code == 200, response.text
    following = next_of(response.json())
    assert following is not None
    return following


@pytest.fixture(params=PAGED)
async def following(
    request: pytest.FixtureRequest, client: httpx.AsyncClient, app: Application
) -> str:
    """A link to a further page, of each kind that there is."""
    await chart(client, app)
    return await link(client, request.param)


async def test_is_good_for_the_caller_to_whom_it_was_given(
    client: httpx.AsyncClient, restrict: Restrict, following: str
) -> None:
    expected = (await client.get(following)).json()
    restrict(OpenPolicy(), "somebody-else")
    refused = await client.get(following)
    assert_outcome(refused, 400, "invalid", "was given to another caller", "http._page")
    assert ANONYMOUS not in refused.text
    restrict(OpenPolicy())
    again = (await client.get(following)).json()
    assert again.get("entry") == expected.get("entry")


async def test_is_gone_after_its_time(
    client: httpx.AsyncClient, app: Application, following: str
) -> None:
    assert app.fhir is not None
    server = app.fhir.server
    lifetime = server.page_lifetime * 1_000_000
    app.fhir.server = replace(server, clock=lambda: server.clock() + lifetime - 5_000_000)
    assert (await client.get(following)).status_code == 200
    app.fhir.server = replace(server, clock=lambda: server.clock() + lifetime + 2_000_000)
    assert_outcome(await client.get(following), 410, "deleted", GONE, "http._page")


async def test_of_another_release_is_gone(
    client: httpx.AsyncClient, app: Application, following: str
) -> None:
    """Its state may mean something else there, or nothing."""
    assert app.fhir is not None
    server = app.fhir.server
    address, _, token = following.partition("?_page=")
    state = json.loads(server.pages.opened(unquote(token))[0])
    others: list[Any] = [["Patient", [[], None]], [1, *state[1:]], [None], [[], {}]]
    for other in others:
        sealed = server.pages.sealed(json.dumps(other).encode(), server.clock() // 1_000_000)
        response = await client.get(f"{address}?_page={quote(sealed)}")
        assert_outcome(response, 410, "deleted", "of another release", "http._page")


async def test_under_the_seal_of_another_release_is_gone(
    client: httpx.AsyncClient, following: str
) -> None:
    address = following.partition("?_page=")[0]
    sealed = Fernet(Fernet.generate_key()).encrypt(b'[2,"anonymous","Patient",[[],[null]]]')
    response = await client.get(f"{address}?_page={quote(sealed.decode())}")
    assert_outcome(response, 410, "deleted", "of another release", "http._page")


async def test_under_another_key_is_refused(client: httpx.AsyncClient, following: str) -> None:
    address = following.partition("?_page=")[0]
    now = int(time.time())
    sealed = Seal(bytes(32)).sealed(b'[2,"anonymous","Patient",[[],[null]]]', now)
    response = await client.get(f"{address}?_page={quote(sealed)}")
    assert_outcome(response, 400, "invalid", "not one that the server gave", "http._page")


async def test_at_another_address_is_refused(client: httpx.AsyncClient, following: str) -> None:
    address, _, token = following.partition("?_page=")
    base = str(client.base_url).rstrip("/")
    others = ("Patient", "Flag", "", "Patient/p1/Flag", "Patient/p1/_history", "Flag/_history")
    for place in (*others, "Patient/p1/$everything"):
        there = f"{base}/{place}".rstrip("/")
        if there != address:
            response = await client.get(f"{there}?_page={token}")
            assert_outcome(response, 400, "invalid", "was given for", "http._page")


async def test_takes_no_other_parameters(client: httpx.AsyncClient, following: str) -> None:
    token = following.partition("?_page=")[2]
    for more in ("&_count=1", f"&_page={token}", "&_since=2020", "&name=x"):
        response = await client.get(following + more)
        assert response.status_code == 400, (more, response.text)
    pretty = await client.get(f"{following}&_format=json&_pretty=true")
    assert pretty.status_code == 200


@st.composite
def edits(draw: st.DrawFn) -> Callable[[str], str]:
    """Something changed, cut, added or turned round: in the token, or in its bytes."""
    begin, end = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    filler = draw(st.sampled_from(("", "A", "=", "-_", "\n", "%", "A" * 300)) | st.text(max_size=9))
    kind = draw(st.sampled_from(("cut", "keep", "turn", "fill", "bit", "case")))

    def edited(token: str) -> str:
        at, upto = int(begin * len(token)), int(end * len(token))
        if kind == "bit":
            raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            raw[int(begin * (len(raw) - 1))] ^= 1 << int(end * 7)
            return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
        return {
            "cut": token[:at] + token[upto:],
            "keep": token[at:upto] + filler,
            "turn": token[:at] + token[at:upto][::-1] + token[upto:],
            "fill": token[:at] + filler + token[upto:],
            "case": token[:at] + token[at:upto].swapcase() + token[upto:],
        }[kind]

    return edited


@settings_of(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(edited=edits())
async def test_edited_in_any_way_is_refused(
    client: httpx.AsyncClient, following: str, edited: Callable[[str], str]
) -> None:
    address, _, quoted = following.partition("?_page=")
    token = unquote(quoted)
    other = edited(token)
    assume(other != token)
    response = await client.get(f"{address}?_page={quote(other, safe='')}")
    assert response.status_code == 400, (other, response.text)
    assert outcome_issues(response)


@pytest.fixture
async def elsewhere(settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A server of the same address on another store."""
    other = settings.model_copy(update={"store": store_at(tmp_path / "elsewhere.db")})
    app = create_app(other)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        yield client


async def test_of_another_store_is_refused(elsewhere: httpx.AsyncClient, following: str) -> None:
    response = await elsewhere.get(following)
    assert_outcome(response, 400, "invalid", "not one that the server gave", "http._page")


async def test_in_a_batch_is_good_for_whoever_posts_it(
    client: httpx.AsyncClient, restrict: Restrict, following: str
) -> None:
    async def asked() -> dict[str, Any]:
        entry = {"request": {"method": "GET", "url": following}}
        batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
        response = await client.post("", content=json.dumps(batch), headers=FHIR_JSON)
        answered: dict[str, Any] = response.json()["entry"][0]["response"]
        return answered

    assert (await asked())["status"].startswith("200")
    restrict(OpenPolicy(), "somebody-else")
    assert (await asked())["status"].startswith("400")


async def test_of_a_long_search_by_post_fits_into_an_address(client: httpx.AsyncClient) -> None:
    ids = [f"{number:04}-{'a' * 30}" for number in range(900)]
    for resource_id in ids[:3]:
        await put(client, {"resourceType": "Patient", "id": resource_id})
    form = {"_id": ",".join(ids), "_count": "1"}
    bundle = (await client.post("Patient/_search", data=form)).json()
    found = [entry["resource"]["id"] for entry in bundle["entry"]]
    while following := next_of(bundle):
        assert len(following) < 8_000
        bundle = (await client.get(following)).json()
        found += [entry["resource"]["id"] for entry in bundle["entry"]]
    assert found == ids[:3]


async def test_that_no_address_could_hold_is_not_promised(client: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await put(client, {"resourceType": "Patient", "id": name})
    noise = ",".join(f"urn:uuid|{token_hex(100)}" for _ in range(900))
    form = {"identifier:not": noise, "_count": "1"}
    response = await client.post("Patient/_search", data=form)
    assert_outcome(response, 403, "too-costly", "too long to be repeated in a link")
    whole = await client.post("Patient/_search", data=form | {"_count": "2"})
    assert len(whole.json()["entry"]) == 2
