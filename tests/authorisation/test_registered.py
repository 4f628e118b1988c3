"""What is left of a caller of the built-in issuer once its token has expired."""

from dataclasses import replace
from typing import Final
from urllib.parse import quote

import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients
from fhir_server.authorisation.registered import Registered
from tests.authorisation.machines import Machine

ISSUER: Final = "https://fhir.example/auth"
GRANTS: Final = (
    Grant("system", "CarePlan", frozenset("rs")),
    Grant("system", "Flag", frozenset("r")),
)


@pytest.fixture
async def caller(ledger: Ledger) -> Caller:
    machine = Machine()
    scopes = "system/CarePlan.rs system/Flag.r"
    known = await machine.register(ledger, scopes=scopes, ods_code="RXX01", roles=("auditor",))
    return Caller(
        f"{quote(ISSUER, safe='')}/{known.id}/{known.id}/",
        client=known.id,
        organisation="RXX01",
        roles=frozenset({Role.AUDITOR}),
        grants=GRANTS,
    )


async def changed(ledger: Ledger, client_id: str, **more: object) -> None:
    known = await clients.find(ledger, client_id)
    assert known is not None
    told = {name: getattr(known, name) for name in known.__struct_fields__} | more
    await clients.add(ledger, clients.Client(**told), replace=True)


async def test_a_client_that_is_still_registered_goes_on(ledger: Ledger, caller: Caller) -> None:
    assert await Registered(ledger, ISSUER).caller(caller) == caller


async def test_scopes_that_were_taken_away_are_gone(ledger: Ledger, caller: Caller) -> None:
    await changed(ledger, caller.client, scopes="system/Flag.rs")
    left = await Registered(ledger, ISSUER).caller(caller)
    assert left == replace(caller, grants=GRANTS[1:])
    await changed(ledger, caller.client, scopes="system/Patient.r")
    assert await Registered(ledger, ISSUER).caller(caller) is None


@pytest.mark.parametrize("how", ["disabled", "removed", "organisation", "role"])
async def test_whoever_would_get_no_such_token_does_nothing(
    ledger: Ledger, caller: Caller, how: str
) -> None:
    match how:
        case "disabled":
            await clients.set_disabled(ledger, caller.client, True)
        case "removed":
            await clients.remove(ledger, caller.client)
        case "organisation":
            await changed(ledger, caller.client, ods_code="Y11")
        case "role":
            await changed(ledger, caller.client, roles=())
    assert await Registered(ledger, ISSUER).caller(caller) is None


async def test_callers_of_other_issuers_are_as_their_tokens_said(
    ledger: Ledger, caller: Caller
) -> None:
    await clients.remove(ledger, caller.client)
    assert await Registered(ledger, "").caller(caller) == caller
    assert await Registered(ledger, "https://other.example").caller(caller) == caller
