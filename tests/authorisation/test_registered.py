"""What is left of a caller of the built-in issuer once its token has expired."""

from dataclasses import replace
from typing import Final
from urllib.parse import quote

import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients
from fhir_server.authorisation.registered import Elsewhere, Registered
from tests.authorisation.machines import Machine

ISSUER: Final = "https://fhir.example/auth"
NOW: Final = 1_790_000_000
ELSEWHERE: Final = Elsewhere(lambda: NOW * 1_000_000, 3600)
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
    assert await Registered(ledger, ISSUER, ELSEWHERE).caller(caller) == caller


async def test_scopes_that_were_taken_away_are_gone(ledger: Ledger, caller: Caller) -> None:
    await changed(ledger, caller.client, scopes="system/Flag.rs")
    left = await Registered(ledger, ISSUER, ELSEWHERE).caller(caller)
    assert left == replace(caller, grants=GRANTS[1:])
    await changed(ledger, caller.client, scopes="system/Patient.r")
    assert await Registered(ledger, ISSUER, ELSEWHERE).caller(caller) is None


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
    assert await Registered(ledger, ISSUER, ELSEWHERE).caller(caller) is None


async def test_callers_of_other_issuers_are_as_their_tokens_said(
    ledger: Ledger, caller: Caller
) -> None:
    await clients.remove(ledger, caller.client)
    for issuer in ("", "https://other.example"):
        assert await Registered(ledger, issuer, ELSEWHERE).caller(caller) == caller


@pytest.mark.parametrize(("expires", "goes_on"), [(NOW - 3599, True), (NOW - 3600, False)])
async def test_class_26_what_another_issuers_token_began_ends_some_time_after_it(
    ledger: Ledger, caller: Caller, expires: int, goes_on: bool
) -> None:
    of_another = replace(caller, expires=expires)
    left = await Registered(ledger, "https://other.example", ELSEWHERE).caller(of_another)
    assert left == (of_another if goes_on else None)


async def test_class_26_what_another_issuers_token_began_ends_where_the_issuer_says_no(
    ledger: Ledger, caller: Caller
) -> None:
    async def stands(token: str) -> bool:
        return token == "good"

    registered = Registered(ledger, "", replace(ELSEWHERE, stands=stands))
    good, bad = (replace(caller, token=name) for name in ("good", "bad"))
    assert [await registered.caller(one) for one in (good, bad, caller)] == [good, None, caller]
