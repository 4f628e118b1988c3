"""Who works where, and under which code: class 13 of the attacks, by way of what is shared.

An Organization's ODS code and a post's practitioner decide who is in a care team. So they are bound
to whoever the records took them for.
"""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    NINETEEN,
    NOW,
    SENDS,
    child,
    consent,
    episode,
    member,
    ods,
    organisation,
    ref,
    role,
    team,
)
from tests.access.test_review_writers import puts
from tests.storage.questions import delete
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

ADMIN: Final = Caller(
    "admin",
    user="Practitioner/admin",
    organisation="Y11",
    roles=frozenset({Role.ADMINISTRATOR}),
)
FEED: Final = replace(ADMIN, name="feed", user="")
OPERATOR: Final = replace(FEED, name="operator", organisation="")
"""A client of those who run the server, for all organisations."""
FRIEND: Final = Caller("friend", user="Practitioner/friend", organisation="Y11")


@pytest.fixture
async def region(app: Application) -> None:
    """A child whose care team names an organisation, a post, and a post that is not there yet."""
    await stored(
        app,
        child("1", NINETEEN),
        consent(),
        organisation("x", "X99"),
        organisation("y", "Y11"),
        role("post", "Practitioner/kw", "Organization/x"),
        role("ours", "Practitioner/friend", "Organization/y"),
        episode("Practitioner/kw"),
        team(
            member("Organization/x"),
            member("Organization/coming"),
            member("PractitionerRole/post"),
            member("PractitionerRole/coming"),
        ),
    )


async def posts(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    told = {name: value for name, value in resource.items() if name != "id"}
    return await client.post(resource["resourceType"], content=json.encode(told), headers=FHIR_JSON)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "taken",
    [
        organisation("x", "Y11"),
        {"resourceType": "Organization", "id": "x", "name": "none"},
        organisation("x", "X99", active=False),
        organisation("coming", "Y11"),
    ],
    ids=["another's", "none", "not in use", "one that a record names already"],
)
async def test_class_13_an_organisations_code_is_not_changed_by_somebody_signed_in(
    client: httpx.AsyncClient, by_table: ByTable, taken: dict[str, Any]
) -> None:
    by_table(ADMIN, NOW)
    assert_outcome(await puts(client, taken), 403, "forbidden", "ODS code")
    by_table(FRIEND, NOW)
    assert (await client.get("Patient/1")).status_code == 404
    by_table(OPERATOR, NOW)
    assert (await puts(client, taken)).status_code in (200, 201)


@pytest.mark.usefixtures("region")
async def test_class_13_no_organisation_is_deleted_to_be_made_anew_with_another_code(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(ADMIN, NOW)
    assert (await client.delete("Organization/x")).status_code == 403
    await delete(app.state.store, "Organization", "x")
    assert_outcome(await puts(client, organisation("x", "Y11")), 403, "forbidden", "ODS code")


@pytest.mark.usefixtures("region")
async def test_an_administrator_keeps_all_else_of_organisations(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(ADMIN, NOW)
    assert (await puts(client, organisation("x", "X99", name="Trust"))).status_code == 200
    assert (await posts(client, organisation("", "Z01"))).status_code == 201
    assert_outcome(await posts(client, organisation("", "Z01")), 403, "forbidden", "Another")
    assert (await puts(client, organisation("free", "Z02"))).status_code == 201


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    ("taken", "why"),
    [
        (role("post", "Practitioner/friend", "Organization/x"), "their own organisation"),
        (role("post", "Practitioner/kw", "Organization/y"), "their own organisation"),
        (role("post", "Practitioner/kw"), "their own organisation"),
        (role("ours", "Practitioner/colleague", "Organization/y"), "stays with whom"),
        (role("coming", "Practitioner/friend", "Organization/y"), "by this id already"),
        (role("new", "Practitioner/friend"), "their own organisation"),
        (role("new", "Practitioner/friend", "Organization/x"), "their own organisation"),
        (role("new", "Practitioner/admin", "Organization/y"), "themselves"),
    ],
)
async def test_class_13_no_administrator_gives_a_post_that_records_rely_on(
    client: httpx.AsyncClient, by_table: ByTable, taken: dict[str, Any], why: str
) -> None:
    by_table(ADMIN, NOW)
    assert_outcome(await puts(client, taken), 403, "forbidden", why)
    by_table(FRIEND, NOW)
    assert (await client.get("Patient/1")).status_code == 404
    by_table(FEED, NOW)
    assert (await puts(client, taken)).status_code in (200, 201)


@pytest.mark.usefixtures("region")
async def test_an_administrator_keeps_the_posts_of_their_own_organisation(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(ADMIN, NOW)
    made = role("new", "Practitioner/friend", "Organization/y")
    assert (await puts(client, made)).status_code == 201
    assert (await puts(client, {**made, "active": False})).status_code == 200
    assert (await client.delete("PractitionerRole/new")).status_code in (200, 204)
    logical = {**role("", "Practitioner/friend"), "organization": ods("Y11")}
    assert (await posts(client, logical)).status_code == 201
    assert (await client.delete("PractitionerRole/post")).status_code == 403


@pytest.mark.usefixtures("region")
async def test_a_client_that_somebody_uses_is_no_feed(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """A token for somebody without a record here has no user, and says so by its scopes."""
    grants = (Grant("user", "*", frozenset("cruds")),)
    by_table(replace(FEED, grants=grants), NOW)
    assert (await puts(client, organisation("x", "Y11"))).status_code == 403


async def test_class_23_no_crowd_of_organisations_or_posts_hides_what_is_ones_own(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """More of them than a page holds, before the one that counts."""
    crowd = [organisation(f"a{number:03}", "ZZK03") for number in range(120)]
    posts_of = [role(f"a{number:03}", "Practitioner/friend") for number in range(120)]
    task = {
        "resourceType": "Task",
        "id": "t1",
        "status": "requested",
        "intent": "order",
        "for": ref("Patient/1"),
        "owner": ref("PractitionerRole/zz"),
    }
    await stored(
        app,
        *crowd,
        *posts_of,
        organisation("zz", "ZZK03"),
        role("zz", "Practitioner/friend"),
        child("1", NINETEEN),
        consent(),
        team(member("Practitioner/friend")),
        task,
    )
    by_table(Caller("ward", organisation="ZZK03", grants=SENDS), NOW)
    told = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": ref("Patient/1"),
        "serviceProvider": ref("Organization/zz"),
    }
    assert (await posts(client, told)).status_code == 201
    by_table(FRIEND, NOW)
    answer = await puts(client, {**task, "status": "completed"})
    assert answer.status_code == 200, answer.text
