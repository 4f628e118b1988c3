"""Facts by which access is decided, made by somebody who may not make them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FOURTEEN,
    NINETEEN,
    NOW,
    SENDS,
    carer,
    child,
    consent,
    episode,
    member,
    numbered,
    organisation,
    ref,
    role,
    team,
)
from tests.operations.messages import Spell
from tests.storage.questions import delete
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

NUMBER: Final = "9990000018"
HTEST: Final = {"tag": [{"system": canonicals.ACT_REASON, "code": "HTEST"}]}
LOAD: Final = Caller("load", organisation="Y11", roles=frozenset({Role.LOAD_TEST}))
FRIEND: Final = Caller("friend", user="Practitioner/friend", organisation="Y11")
KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")
WARD: Final = Caller("ward", organisation="ZZK03", grants=SENDS)


async def puts(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    address = f"{resource['resourceType']}/{resource['id']}"
    return await client.put(address, content=json.encode(resource), headers=FHIR_JSON)


BY_NUMBER: Final[dict[str, Any]] = {
    "identifier": {"system": canonicals.NHS_NUMBER, "value": NUMBER}
}
BY_CONTAINED: Final[dict[str, Any]] = {"reference": "#p"}
CONTAINED: Final = [{"resourceType": "Patient", "id": "p", "identifier": numbered(NUMBER)}]


@pytest.mark.parametrize("whose", [BY_NUMBER, BY_CONTAINED], ids=["number", "contained"])
async def test_a_load_test_tells_nothing_of_real_people_by_their_number(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, whose: dict[str, Any]
) -> None:
    """ATTACKS 13, 14: what it marks as test data would decide about a real record."""
    await stored(
        app, child("1", FOURTEEN, identifier=numbered(NUMBER)), consent(), organisation("y", "Y11")
    )
    by_table(LOAD, NOW)
    more = {"contained": CONTAINED} if "reference" in whose else {}
    made = {**episode("Practitioner/friend"), "patient": whose, "meta": HTEST, **more}
    made["managingOrganization"] = ref("Organization/y")
    assert_outcome(await puts(client, made), 403, "forbidden", "Test data")
    by_table(FRIEND, NOW)
    assert (await client.get("Patient/1")).status_code == 404


async def test_a_load_test_takes_no_place_of_what_was_real(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """The care team still names the post that was deleted."""
    await stored(
        app,
        child("1", FOURTEEN),
        consent(),
        organisation("y", "Y11"),
        role("post", "Practitioner/gone"),
        team(member("PractitionerRole/post")),
    )
    await delete(app.state.store, "PractitionerRole", "post")
    by_table(LOAD, NOW)
    mine = {**role("post", "Practitioner/friend"), "meta": HTEST}
    assert_outcome(await puts(client, mine), 403, "forbidden", "")
    assert (await puts(client, {**mine, "id": "free"})).status_code == 201
    assert (await client.delete("PractitionerRole/free")).status_code == 204
    assert (await puts(client, {**mine, "id": "free"})).status_code == 201
    by_table(FRIEND, NOW)
    assert (await client.get("Patient/1")).status_code == 404


async def test_a_message_gives_nobody_parental_responsibility(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """ATTACKS 13: a unit tells of a stay, and not who decides for the child."""
    await stored(app, child("1", FOURTEEN, identifier=numbered(NUMBER)), organisation("w", "ZZK03"))
    by_table(WARD)
    message = Spell(NUMBER, datetime(2026, 5, 30, 8, tzinfo=UTC)).admit()
    related = {name: value for name, value in carer().items() if name != "id"}
    related["patient"] = message["entry"][1]["resource"]["subject"]
    message["entry"].append({"fullUrl": "urn:uuid:" + "1" * 8, "resource": related})
    answer = await client.post("$process-message", content=json.encode(message), headers=FHIR_JSON)
    assert_outcome(answer, 422, "business-rule", "parental responsibility")
    del related["extension"]
    answer = await client.post("$process-message", content=json.encode(message), headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text


async def test_a_message_marks_nothing_real_as_test_data(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """ATTACKS 14: load tests would see it."""
    await stored(app, child("1", FOURTEEN, identifier=numbered(NUMBER)), organisation("w", "ZZK03"))
    by_table(WARD)
    message = Spell(NUMBER, datetime(2026, 5, 30, 8, tzinfo=UTC)).admit(meta=HTEST)
    await client.post("$process-message", content=json.encode(message), headers=FHIR_JSON)
    by_table(LOAD)
    assert (await client.get("Encounter?_summary=count")).json()["total"] == 0


async def test_provenance_is_written_once(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Where a version came from is not told anew by whoever may write the plan."""
    told = {
        "resourceType": "Provenance",
        "id": "p",
        "target": [ref("Patient/1")],
        "recorded": "2026-11-01T00:00:00Z",
        "agent": [{"who": ref("Organization/x")}],
    }
    await stored(app, child("1", FOURTEEN), consent(), episode("Practitioner/kw"), told)
    by_table(KEYWORKER, NOW)
    other = {**told, "agent": [{"who": ref("Organization/other")}]}
    assert_outcome(await puts(client, other), 403, "forbidden", "")
    assert (await client.delete("Provenance/p")).status_code == 403
    assert (await client.get("Provenance/p/_history")).json()["entry"][0]["response"][
        "etag"
    ] == 'W/"1"'


async def test_nobody_gives_themselves_a_post(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """An administrator keeps posts; who is the keyworker hangs on one."""
    await stored(
        app,
        child("1", NINETEEN),
        consent(),
        organisation("x", "X99"),
        role("kw", "Practitioner/kw", "Organization/x"),
        episode("PractitionerRole/kw"),
    )
    admin = Caller(
        "admin",
        user="Practitioner/admin",
        organisation="X99",
        roles=frozenset({Role.ADMINISTRATOR}),
    )
    by_table(admin, NOW)
    mine = role("kw", "Practitioner/admin", "Organization/x")
    assert_outcome(await puts(client, mine), 403, "forbidden", "themselves")
    assert (await client.get("Patient/1")).status_code == 404
    # Nor does another for them: a post that records may name stays with whom it was given to.
    other = role("kw", "Practitioner/other", "Organization/x")
    assert_outcome(await puts(client, other), 403, "forbidden", "stays with whom")
    by_table(replace(admin, user="Practitioner/kw"), NOW)
    kept = role("kw", "Practitioner/kw", "Organization/x", active=False)
    assert_outcome(await puts(client, kept), 403, "forbidden", "themselves")
