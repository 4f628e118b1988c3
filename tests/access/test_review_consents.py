"""Consents by somebody who wants more than they have: found by looking as an attacker does."""

from typing import Any, Final

import httpx

from fhir_server.access.caller import Caller
from fhir_server.app import Application
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FOURTEEN,
    NINETEEN,
    NOW,
    SENDS,
    TWELVE,
    carer,
    child,
    competence,
    consent,
    episode,
    organisation,
    parental,
    ref,
    rule,
    stay,
)
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

CHILD: Final = Caller("child", user="Patient/1")
MOTHER: Final = Caller("mum", user="RelatedPerson/mum")
KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")
STRANGER: Final = Caller("stranger", user="Practitioner/stranger", organisation="Y11", grants=SENDS)
PERIOD: Final[dict[str, Any]] = {"period": {"start": "2026-11-20", "end": "2027-11-01"}}
TODAY: Final[dict[str, Any]] = {
    "dateTime": "2026-11-21",
    "organization": [ref("Organization/x")],
    "provision": rule(**PERIOD),
}
IF_FIRST: Final = {**FHIR_JSON, "if-match": 'W/"1"'}
NAMES_MOTHER: Final = rule("permit", "RelatedPerson/mum", **PERIOD)


async def gives(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    given = {name: value for name, value in resource.items() if name != "id"}
    return await client.post("Consent", content=json.encode(given), headers=FHIR_JSON)


async def updates(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    address = f"Consent/{resource['id']}"
    return await client.put(address, content=json.encode(resource), headers=IF_FIRST)


async def test_no_professional_decides_alone_what_is_best(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """ATTACKS 13: with a stay that they tell of, everything would be theirs to read."""
    await stored(app, child("1", NINETEEN), stay(ref("Organization/y")), organisation("y", "Y11"))
    by_table(STRANGER, NOW)
    told = {**TODAY, "outcome": ("lacks-capacity", "2026-11-01")}
    alone = consent("keyworking", "best-interest", "Practitioner/stranger", **told)
    assert_outcome(await gives(client, alone), 403, "forbidden", "may not give")
    assert (await client.get("Patient/1")).status_code == 404


async def test_a_parent_whom_the_child_names_does_not_find_the_child_incompetent(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """ATTACKS 13: the newest assessment decides; no giver makes one of their own."""
    named = consent(**{**TODAY, "provision": NAMES_MOTHER, "id": "first"})
    await stored(app, child("1", FOURTEEN), carer(), named)
    by_table(MOTHER, NOW)
    assert (await client.get("Patient/1")).status_code == 200
    own = parental(**TODAY, outcome=("not-competent", "2026-11-21"))
    assert_outcome(await gives(client, own), 403, "forbidden", "assess")
    by_table(CHILD, NOW)
    assert (await client.get("Patient/1")).status_code == 200


async def test_a_parent_does_not_tell_of_an_assessment_to_come(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """At 13 it would have kept their access open."""
    await stored(app, child("1", TWELVE), carer(), parental(id="first", outcome=None))
    by_table(MOTHER, NOW)
    own = parental(**TODAY, outcome=("not-competent", "2027-06-01"))
    assert_outcome(await gives(client, own), 403, "forbidden", "assess")
    assert (await gives(client, parental(**TODAY, outcome=None))).status_code == 201


async def test_an_assessment_that_is_dated_ahead_reviews_nothing(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    ahead = parental(id="first", outcome=("not-competent", "2027-06-01"))
    await stored(app, child("1", FOURTEEN), carer(), ahead, episode("Practitioner/kw"))
    by_table(KEYWORKER, NOW)
    assert (await client.get("Flag?patient=1&_summary=count")).json()["total"] == 0
    assert (await client.get("Patient/1")).status_code == 404


async def test_a_parent_does_not_write_over_the_childs_consent(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """ATTACKS 13: what another has given or refused is theirs."""
    first = consent(**{**TODAY, "provision": NAMES_MOTHER, "id": "first"})
    await stored(app, child("1", FOURTEEN), carer(), first)
    by_table(MOTHER, NOW)
    there = (await client.get("Consent/first")).json()
    taken = {**there, "performer": [ref("RelatedPerson/mum")]}
    taken["policyRule"] = parental()["policyRule"]
    assert_outcome(await updates(client, taken), 403, "forbidden", "")
    assert (await app.state.store.read("Consent", "first")).version == 1


async def test_a_withdrawal_changes_no_assessment(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    named = consent(**{**TODAY, "provision": NAMES_MOTHER, "id": "first"})
    earlier = parental("cetr", id="mine", dateTime="2026-01-01", outcome=None)
    await stored(app, child("1", FOURTEEN), carer(), named, earlier)
    by_table(MOTHER, NOW)
    there = (await client.get("Consent/mine")).json()
    ended = {**there, "status": "inactive"}
    found = {**ended, "extension": [competence("not-competent", "2026-11-21")]}
    assert_outcome(await updates(client, found), 403, "forbidden", "assess")
    assert (await updates(client, ended)).status_code == 200
    by_table(CHILD, NOW)
    assert (await client.get("Patient/1")).status_code == 200


async def test_nobody_takes_back_a_refusal_as_an_error(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """What was refused would be open again; that takes a check with who refused it."""
    refusal = consent(**{**TODAY, "id": "no"}, status="rejected")
    before = consent(id="first")
    await stored(app, child("1", FOURTEEN), episode("Practitioner/kw"), before, refusal)
    by_table(KEYWORKER, NOW)
    there = (await client.get("Consent/no")).json()
    assert_outcome(
        await updates(client, {**there, "status": "entered-in-error"}), 403, "forbidden", "checked"
    )
    assert (await client.get("Flag?patient=1&_summary=count")).json()["total"] == 0
