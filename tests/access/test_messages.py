"""Messages under a token: a unit tells of its own stays, and learns nothing by it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query
from tests.access.conftest import ByTable, stored
from tests.access.people import SENDS, child, organisation
from tests.operations.messages import Spell
from tests.operations.test_adt import ADMITTED, ER7, adt
from tests.support import FHIR_JSON, assert_outcome, found_ids

PROFILED: Final = False

NUMBER: Final = "9990000018"
WARD: Final = Caller("ward", organisation="ZZK03", grants=SENDS)
OTHER: Final = Caller("other", organisation="Y11", grants=SENDS)
HTEST: Final = {"system": canonicals.ACT_REASON, "code": "HTEST"}


@pytest.fixture
def spell() -> Spell:
    return Spell(NUMBER, datetime(2026, 5, 30, 8, tzinfo=UTC))


async def told(client: httpx.AsyncClient, message: Any) -> httpx.Response:
    return await client.post("$process-message", content=json.encode(message), headers=FHIR_JSON)


async def all_of(app: Application, resource_type: str) -> list[Resource]:
    page = await app.state.store.search(Query(resource_type), 100)
    return [json.decode(one.body) for one in page.matches]


async def test_a_unit_tells_of_its_stay_and_is_told_no_effect_of_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": NUMBER}
    await stored(app, child("1", identifier=[number]), organisation("w", "ZZK03"))
    by_table(WARD)
    answer = await told(client, spell.admit())
    assert answer.status_code == 200, answer.text
    (issue,) = answer.json()["issue"]
    assert issue["diagnostics"].startswith("The event is stored: Encounter/")
    # What follows from it is there, by the service's own rights ...
    assert await all_of(app, "Task")
    assert await all_of(app, "CarePlan")
    # ... and nothing of it is the unit's to see: there is no consent.
    for name in ("Patient", "Encounter", "Task", "CarePlan", "Flag", "Communication"):
        assert await found_ids(client, name) == []
    assert (await client.get("Patient/1")).status_code == 404


async def test_what_follows_from_a_plain_stay_is_there_beyond_the_rights_of_who_writes_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    await stored(app, child("1"), organisation("w", "ZZK03"))
    by_table(WARD)
    stay = spell.encounter(
        subject={"reference": "Patient/1"},
        serviceProvider={"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "ZZK03"}},
    )
    answer = await client.post("Encounter", content=json.encode(stay), headers=FHIR_JSON)
    assert answer.status_code == 201, answer.text
    assert await all_of(app, "Task")
    assert await all_of(app, "CarePlan")
    for name in ("Task", "CarePlan", "Flag"):
        assert await found_ids(client, name) == []


async def test_the_same_message_again_tells_no_more(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    by_table(WARD)
    message = spell.admit()
    first, second = await told(client, message), await told(client, message)
    assert second.status_code == 200
    assert second.json()["issue"] == first.json()["issue"]
    assert len(await all_of(app, "Encounter")) == 1


@pytest.mark.parametrize("caller", [OTHER, Caller("nobody"), Caller("none", user="Practitioner/1")])
async def test_nobody_tells_in_anothers_name(
    app: Application,
    client: httpx.AsyncClient,
    by_table: ByTable,
    spell: Spell,
    caller: Caller,
) -> None:
    by_table(caller)
    assert_outcome(await told(client, spell.admit()), 403, "forbidden", "sender of a message")
    for name in ("Encounter", "Patient", "Task", "Provenance", "OperationOutcome"):
        assert await all_of(app, name) == []


async def test_nobody_ends_anothers_stay(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    by_table(WARD)
    assert (await told(client, spell.admit())).status_code == 200
    by_table(OTHER)
    ended = spell.discharge(datetime(2026, 5, 31, 8, tzinfo=UTC), serviceProvider=None)
    ods = {"system": canonicals.ODS_ORGANIZATION, "value": "Y11"}
    ended["entry"][0]["resource"]["sender"] = {"identifier": ods}
    assert (await told(client, ended)).status_code == 200
    # It has told of a stay of its own, under the same identifier.
    stays = await all_of(app, "Encounter")
    assert {one["status"] for one in stays if "serviceProvider" in one} == {"in-progress"}
    assert len(stays) == 2


async def adt_told(client: httpx.AsyncClient) -> str:
    """The acknowledgement of an admission that ZZK03 is said to tell of."""
    sent = adt("A01", NUMBER, ADMITTED)
    answer = await client.post("$process-adt", content=sent, headers={"Content-Type": ER7})
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_hl7_v2_tells_of_a_units_own_stay_and_answers_with_no_effect_of_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": NUMBER}
    await stored(app, child("1", identifier=[number]), organisation("w", "ZZK03"))
    by_table(WARD)
    first = await adt_told(client)
    assert "MSA|AA|" in first
    assert len(await all_of(app, "Encounter")) == 1
    assert await all_of(app, "Task")
    for name in ("Patient", "Encounter", "Task", "CarePlan", "Flag", "Communication"):
        assert await found_ids(client, name) == []
    assert "MSA|AA|" in await adt_told(client)
    assert len(await all_of(app, "Encounter")) == 1


@pytest.mark.parametrize("caller", [OTHER, Caller("nobody"), Caller("none", user="Practitioner/1")])
async def test_nobody_tells_by_hl7_v2_in_anothers_name(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, caller: Caller
) -> None:
    await stored(app, organisation("w", "ZZK03"))
    by_table(caller)
    answer = await adt_told(client)
    assert "MSA|AR|" in answer
    assert "sender of a message" in answer
    for name in ("Encounter", "Patient", "Task", "Provenance"):
        assert await all_of(app, name) == []


async def test_what_a_load_test_sets_off_is_test_data_throughout(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": NUMBER}
    await stored(app, child("real", identifier=[number]))
    by_table(replace(OTHER, roles=frozenset({Role.LOAD_TEST})))
    answer = await told(client, spell.admit())
    assert answer.status_code == 200, answer.text
    made = [
        one
        for name in ("Patient", "Encounter", "Task", "CarePlan", "Provenance", "Communication")
        for one in await all_of(app, name)
        if one["id"] != "real"
    ]
    assert len(made) > 3
    for one in made:
        assert HTEST in one["meta"]["tag"], one
        assert "Patient/real" not in json.encode(one).decode()


async def test_what_rules_write_about_test_data_is_test_data_whoever_set_it_off(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, spell: Spell
) -> None:
    """Else the load test could not end what the stay has brought: it knows test data alone."""
    await stored(app, child("t", meta={"tag": [HTEST]}))
    stay = spell.encounter(id="s", subject={"reference": "Patient/t"}, meta={"tag": [HTEST]})
    found = await client.put("Encounter/s", content=json.encode(stay), headers=FHIR_JSON)
    assert found.status_code == 201, found.text
    made = [one for name in ("Task", "CarePlan") for one in await all_of(app, name)]
    assert len(made) > 3
    assert [one["id"] for one in made if HTEST not in one.get("meta", {}).get("tag", ())] == []
    by_table(replace(OTHER, roles=frozenset({Role.LOAD_TEST})))
    period = {**stay["period"], "end": datetime.now(UTC).isoformat(timespec="seconds")}
    ended = {**stay, "status": "finished", "period": period}
    answer = await client.put("Encounter/s", content=json.encode(ended), headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
    (plan,) = await all_of(app, "CarePlan")
    assert plan["period"].get("end")
