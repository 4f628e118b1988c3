"""A Provenance names what its reader may know of, and carries the labels of what it is about."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.search.ast import Query
from fhir_server.storage.interface import Store
from tests.access.conftest import As, ByTable, stored
from tests.access.deciding import CARE_TEAM, KEYWORKER, NURSE, Decided, about, session
from tests.access.people import SEVENTEEN, child, ref
from tests.access.test_break_glass import broken
from tests.storage.questions import patient, put
from tests.support import found_ids

NOT_FOR_FAMILY: Final = {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}
TOLD: Final[dict[str, Any]] = {
    "resourceType": "Provenance",
    "id": "w",
    "target": [
        *(ref("CarePlan/c/_history/1"), ref("Goal/g/_history/1"), ref("Goal/none")),
        *(ref("Patient/p1"), ref("Organization/o")),
    ],
    "recorded": "2026-11-01T00:00:00Z",
    "agent": [{"who": ref("Organization/o")}],
    "entity": [{"role": "source", "what": ref("Goal/g")}],
}
SHORTER: Final = [ref("CarePlan/c/_history/1"), ref("Patient/p1"), ref("Organization/o")]


@pytest.fixture
async def decided(app: Application, signed_in: As) -> Decided:
    plan = about("CarePlan", "c", "p1", status="active", intent="plan")
    await put(app.state.store, patient("p1"), plan, about("Goal", "g", "p1"), TOLD)
    made = Decided({"p1": replace(CARE_TEAM, without_types=frozenset({"Goal"}))})
    signed_in(made)
    return made


@pytest.mark.parametrize(
    "address",
    ["Provenance/w", "Provenance/w/_history/1", "Provenance", "Provenance/w/_history"],
)
async def test_class_8_targets_that_are_hidden_are_left_out(
    client: httpx.AsyncClient, decided: Decided, address: str
) -> None:
    found = (await client.get(address)).json()
    shown = found["entry"][0]["resource"] if "entry" in found else found
    assert shown["target"] == SHORTER
    assert "entity" not in shown
    assert [tag["code"] for tag in shown["meta"]["tag"]] == ["SUBSETTED"]
    decided.by_patient["p1"] = KEYWORKER
    found = (await client.get(address)).json()
    shown = found["entry"][0]["resource"] if "entry" in found else found
    # What was never there cannot be told from what is hidden, to anybody.
    assert shown["target"] == [one for one in TOLD["target"] if one != ref("Goal/none")]
    assert "entity" in shown


async def test_class_8_what_a_commit_wrote_under_a_label_is_told_of_under_it(
    store: Store,
) -> None:
    """And what it wrote about another young person is told of by itself."""
    await put(store, patient("p1"), patient("p2"))
    writer = session(store, Decided({"p1": KEYWORKER, "p2": KEYWORKER}), NURSE)

    async def work(unit: Any) -> None:
        await unit.put(about("CarePlan", "open", "p1"), "POST")
        await unit.put(about("Task", "secret", "p1", meta=NOT_FOR_FAMILY), "POST")
        await unit.put(about("Task", "other", "p2"), "POST")

    await writer.commit("try", work)
    page = await writer.search(Query("Provenance"), 10)
    told = [json.decode_own(one.body) for one in page.matches]
    named = {
        tuple(sorted(target["reference"] for target in one["target"])): one["meta"].get("security")
        for one in told
    }
    assert named == {
        ("CarePlan/open/_history/1", "Patient/p1"): None,
        ("Patient/p1", "Task/secret/_history/1"): NOT_FOR_FAMILY["security"],
        ("Patient/p2", "Task/other/_history/1"): None,
    }


async def test_class_28_that_the_glass_was_broken_is_not_told_to_the_family(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": "9990000018"}
    await stored(app, child("1", SEVENTEEN, identifier=[number]))
    by_table(Caller("doctor", user="Practitioner/doctor", organisation="A11"))
    assert (await broken(client)).status_code == 200
    assert len(await found_ids(client, "Provenance")) == 1
    by_table(Caller("child", user="Patient/1"))
    assert await found_ids(client, "Patient") == ["1"]
    assert await found_ids(client, "Provenance") == []


@pytest.mark.parametrize(
    "asked",
    [
        "Provenance?target={}",
        "Provenance?target={}/_history/1",
        "Provenance?entity={}",
        "Provenance?patient=p1&target={}",
        "Provenance?target=Goal/other,{}",
        "Patient?_has:Provenance:target:target={}",
        "CarePlan?_has:Provenance:target:entity={}",
    ],
)
async def test_class_3_nothing_is_found_by_a_target_that_is_hidden(
    client: httpx.AsyncClient, decided: Decided, asked: str
) -> None:
    """As by one that was never there, in the list as in the count."""
    for more, of_hidden in (("", 0), ("&_summary=count", 0)):
        hidden = (await client.get(asked.format("Goal/g") + more)).json()
        absent = (await client.get(asked.format("Goal/x") + more)).json()
        assert hidden.get("total", of_hidden) == 0
        assert len(hidden.get("entry", ())) == len(absent.get("entry", ())) == of_hidden
    decided.by_patient["p1"] = KEYWORKER
    assert (await client.get(asked.format("Goal/g"))).json()["entry"]


async def test_by_what_is_shown_a_provenance_is_found(
    client: httpx.AsyncClient, decided: Decided
) -> None:
    assert decided.by_patient["p1"].row == CARE_TEAM.row
    for target in ("CarePlan/c", "Patient/p1", "Organization/o", "CarePlan/c,Goal/g"):
        assert await found_ids(client, f"Provenance?target={target}") == ["w"], target


@pytest.mark.parametrize(
    "asked", ["target:identifier=urn:s|n1", "target:identifier=n1,n2", "_content=Zebrafinch"]
)
async def test_class_3_nothing_is_found_by_the_number_or_the_words_of_a_target(
    client: httpx.AsyncClient, app: Application, decided: Decided, asked: str
) -> None:
    number = {"identifier": {"system": "urn:s", "value": "n1"}, "display": "Zebrafinch"}
    await put(app.state.store, {**TOLD, "target": [ref("Patient/p1"), {**ref("Goal/g"), **number}]})
    assert decided.by_patient["p1"].row == CARE_TEAM.row
    assert await found_ids(client, "Provenance") == ["w"]
    assert await found_ids(client, f"Provenance?{asked}") == []
