"""What the service writes for messages and withdrawals fits the service's own profiles."""

from typing import Any, Final

import httpx

from fhir_server.app import Application
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import FOURTEEN, NOW, carer, child, episode, numbered, parental, ref
from tests.access.test_message_senders import NUMBER, WARD, spell, stay_told
from tests.access.test_messages import all_of
from tests.access.test_withdraw import MOTHER, withdrawn

FOLLOWING: Final = (
    *("contact-hospital", "obtain-consent", "root-cause-analysis", "T-DPLAN-START"),
    *("T-CETR-POSTADM", "T-CETR-REPEAT", "T-OVERSIGHT-VISIT"),
)


async def wrong(client: httpx.AsyncClient, resource: Resource, profile: str) -> list[str]:
    """Where it does not fit."""
    parameters: list[Any] = [
        {"name": "resource", "resource": resource},
        {"name": "profile", "valueUri": canonicals.structure_definition(profile)},
    ]
    told = {"resourceType": "Parameters", "parameter": parameters}
    answer = await client.post(f"{resource['resourceType']}/$validate", json=told)
    found = answer.json()["issue"]
    return [one["expression"][0] for one in found if one["severity"] in ("error", "fatal")]


async def test_a_child_who_is_stored_apart_and_the_task_about_them_fit_their_profiles(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    known = child("1", "1999-01-01", identifier=numbered(NUMBER))
    await stored(app, known, episode("Practitioner/kw"))
    by_table(WARD)
    await stay_told(client, spell(born="2010-02-03").admit())
    tasks = await all_of(app, "Task")
    # What follows from the stay is asked for in the record that it is stored in.
    assert {
        task["code"]["coding"][0]["code"]: task["for"] == ref("Patient/1") for task in tasks
    } == {
        "check-identity": True,
        "exit": True,
        **dict.fromkeys(FOLLOWING, False),
    }
    assert [found for task in tasks for found in await wrong(client, task, "kw-task")] == []


async def test_a_consent_is_withdrawn_though_it_never_fitted_its_profile(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    profile = {"profile": [canonicals.structure_definition("kw-consent")]}
    given = {**parental(outcome=None, dateTime="2025-03-02"), "meta": profile}
    await stored(app, child("1", FOURTEEN), carer(), given)
    by_table(MOTHER, NOW)
    assert await withdrawn(client) == 1
    (consent,) = await all_of(app, "Consent")
    assert await wrong(client, consent, "kw-consent") == [
        "Consent.organization"
    ]  # which it lacked before
