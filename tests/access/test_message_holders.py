"""Whose record somebody is of whom a ward's message alone tells, and what that lets be done."""

from typing import Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.app import Application
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.settings import Settings
from tests.access.conftest import ByTable, stored
from tests.access.people import carer, child, numbered, ods, organisation, ref
from tests.access.test_message_senders import NUMBER, WARD, spell, stay_told
from tests.access.test_messages import all_of
from tests.operations.messages import JSON, changed
from tests.support import FHIR_JSON

HOLDER: Final = Caller(
    "holder",
    organisation="R11",
    roles=frozenset({Role.ADMINISTRATOR}),
    grants=(Grant("system", "*", frozenset("cruds")),),
)


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    code = getattr(request, "param", "")
    return settings.model_copy(update={"keyworking_profiles": False, "register_organisation": code})


def of(organisation: Resource | None) -> JSON:
    """An admission, of somebody whose record is that organisation's."""
    told = spell().admit()
    return changed(told, 2, managingOrganization=organisation) if organisation else told


async def _holder(app: Application) -> Resource:
    (patient,) = await all_of(app, "Patient")
    found: Resource = patient["managingOrganization"]
    return found


@pytest.mark.parametrize("settings", ["R11"], indirect=True)
async def test_the_register_holds_it_and_goes_on_from_there(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, organisation("o", "Y11"))
    by_table(WARD)
    await stay_told(client, of(ods("Y11")))
    assert await _holder(app) == ods("R11")
    by_table(HOLDER)
    (patient,) = await all_of(app, "Patient")
    assert (await client.get(f"Patient/{patient['id']}")).status_code == 200
    related = carer(patient=ref(f"Patient/{patient['id']}"))
    answer = await client.post("RelatedPerson", content=json.encode(related), headers=FHIR_JSON)
    assert answer.status_code == 201, answer.text


async def test_else_whom_the_message_names_if_that_is_known_here(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, organisation("o", "Y11"))
    by_table(WARD)
    await stay_told(client, of(ods("Y11")))
    assert await _holder(app) == ods("Y11")


@pytest.mark.parametrize("named", [None, ods("Y11"), ref("Organization/o"), {"display": "We"}])
async def test_else_the_sender(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, named: Resource | None
) -> None:
    await stored(app, organisation("o", "Y11", active=False))
    by_table(WARD)
    await stay_told(client, of(named))
    assert await _holder(app) == ods("ZZK03")


@pytest.mark.parametrize("settings", ["", "R11"], indirect=True)
@pytest.mark.parametrize("before", [{}, {"managingOrganization": ods("K11")}])
async def test_nobody_takes_a_record_over_by_a_message(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, before: Resource
) -> None:
    await stored(app, organisation("o", "Y11"))
    await stored(app, child("1", "2010-05-14", identifier=numbered(NUMBER), **before))
    by_table(WARD)
    await stay_told(client, of(ods("Y11")))
    (patient,) = await all_of(app, "Patient")
    assert patient.get("managingOrganization") == before.get("managingOrganization")
