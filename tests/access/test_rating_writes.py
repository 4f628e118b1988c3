"""Who may rate, and end a stay, under tokens: the keyworker, in a role that the records give."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.deciding import rating
from tests.access.people import (
    YOUNG,
    agreed,
    child,
    coded,
    episode,
    member,
    ref,
    role,
    stay,
    team,
)
from tests.support import FHIR_JSON, assert_outcome

KEYWORKER: Final = Caller("k", user="Practitioner/keyworker", organisation="X99")
CAMHS: Final = Caller("c", user="Practitioner/camhs", organisation="X99")
STRANGER: Final = Caller("s", user="Practitioner/stranger", organisation="X99")
PATIENT: Final = Caller("p", user="Patient/1")
RATED: Final[dict[str, Any]] = {
    "category": [coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)],
    "period": {"start": "2026-03-02"},
    "author": ref("Practitioner/keyworker"),
}

BROKEN: Final = {**rating("f1", "1"), "category": RATED["category"]}
"""A rating that breaks its profile: nobody gave it, at no time."""


@pytest.fixture
async def region(app: Application, by_table: ByTable) -> None:
    await stored(
        app,
        child("1", YOUNG),
        role("post", "Practitioner/keyworker"),
        episode("PractitionerRole/post"),
        team(member("PractitionerRole/post", "lead-professional"), member("Practitioner/camhs")),
        agreed(),
        agreed("register", id="r"),
        {**rating("f1", "1"), **RATED},
        stay({"display": "Ward"}),
    )
    by_table(KEYWORKER)


async def rate(client: httpx.AsyncClient, **given: Any) -> httpx.Response:
    kinds = {"override": "valueBoolean", "avoided": "valueBoolean", "reason": "valueString"}
    told = {"rating": "amber", "reason": "Home for good", "override": True, **given}
    made: list[Resource] = [
        {"name": name, kinds.get(name, "valueCode"): one} for name, one in told.items()
    ]
    sent = json.encode({"resourceType": "Parameters", "parameter": made})
    return await client.post("Patient/1/$set-rating", content=sent, headers=FHIR_JSON)


@pytest.mark.usefixtures("region")
async def test_the_role_and_the_author_are_the_callers(client: httpx.AsyncClient) -> None:
    answer = await rate(client)
    assert answer.status_code == 200, answer.text
    flag = answer.json()
    assert flag["author"] == ref("Practitioner/keyworker")
    notes = [one["valueAnnotation"] for one in flag["extension"] if "valueAnnotation" in one]
    assert [note["authorString"] for note in notes] == ["keyworker"]
    before = (await client.get("Flag/f1")).json()
    assert before["status"] == "inactive"


@pytest.mark.usefixtures("region")
async def test_a_role_that_the_records_do_not_give_is_refused(client: httpx.AsyncClient) -> None:
    answer = await rate(client, role="inpatient-rc")
    assert_outcome(answer, 403, "forbidden", "do not say that the caller is 'inpatient-rc'")
    assert (await rate(client, role="lead-professional")).status_code == 200


@pytest.mark.usefixtures("region")
async def test_nobody_rates_who_may_not_write_ratings(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    theirs = "professionals of the young person's care team"
    by_table(PATIENT)
    assert_outcome(await rate(client), 403, "forbidden", theirs)
    by_table(replace(CAMHS, grants=(Grant("user", "Flag", frozenset("rs")),)))
    assert_outcome(await rate(client), 403, "forbidden", "do not grant to write a Flag")
    by_table(replace(STRANGER, break_glass="x"))
    by_table(STRANGER)
    assert_outcome(await rate(client), 404, "not-found", "Patient/1 is not known")
    found = await app.state.store.read("Flag", "f1")
    assert found.version == 1


@pytest.mark.usefixtures("region")
async def test_a_clinician_of_the_care_team_rates_and_removes(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """The decision table has them write no Flag: the service writes what they decide."""
    by_table(CAMHS)
    answer = await rate(client)
    assert answer.status_code == 200, answer.text
    assert answer.json()["author"] == ref("Practitioner/camhs")
    made: list[Resource] = [
        {"name": "reason", "valueCode": "step-down"},
        {"name": "text", "valueString": "Home for good"},
        {"name": "override", "valueBoolean": True},
    ]
    sent = json.encode({"resourceType": "Parameters", "parameter": made})
    removed = await client.post("Patient/1/$remove-rating", content=sent, headers=FHIR_JSON)
    assert removed.status_code == 200, removed.text
    assert removed.json()["status"] == "inactive"


@pytest.mark.usefixtures("region")
async def test_a_keyworker_rates_no_more_once_consent_to_keyworking_has_ended(
    app: Application, client: httpx.AsyncClient
) -> None:
    ended = agreed(status="inactive")
    await stored(app, ended)
    assert_outcome(await rate(client), 403, "forbidden", "may not read in full")
    assert (await app.state.store.read("Flag", "f1")).version == 1


def _discharge_plan() -> Resource:
    return {
        "resourceType": "CarePlan",
        "id": "d",
        "status": "draft",
        "intent": "plan",
        "category": [coded(canonicals.CARE_PLAN_CATEGORY, "discharge-plan")],
        "subject": ref("Patient/1"),
        "period": {"start": "2026-11-01"},
        "encounter": ref("Encounter/s"),
        "careTeam": [ref("CareTeam/t")],
    }


@pytest.mark.usefixtures("region")
async def test_the_readiness_of_a_plan_is_for_those_who_read_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, _discharge_plan())
    address = "CarePlan/d/$discharge-readiness"
    assert (await client.get(address)).status_code == 200
    by_table(CAMHS)
    assert (await client.get(address)).status_code == 200
    by_table(STRANGER)
    assert_outcome(await client.get(address), 404, "not-found", "CarePlan/d is not known")


@pytest.mark.usefixtures("region")
async def test_a_plan_is_opened_by_who_may_write_it(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(CAMHS)
    address = "Patient/1/$discharge-plan"
    refused = await client.post(address)
    assert_outcome(refused, 403, "forbidden", "may not write")
    by_table(KEYWORKER)
    opened = await client.post(address)
    assert opened.status_code == 200, opened.text
    by_table(CAMHS)
    assert (await client.get(address)).status_code == 200


@pytest.mark.usefixtures("region")
async def test_a_discharge_is_confirmed_by_who_may_write_the_plan(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """The keyworker may write the plan; the stay is ended with the service's own rights."""
    assert (await client.post("Patient/1/$discharge-plan")).status_code == 200
    plans = (await client.get("CarePlan?subject=Patient/1")).json()["entry"]
    address = f"CarePlan/{plans[0]['resource']['id']}/$confirm-discharge"
    made = [
        {"name": "destination", "valueCode": "19"},
        {"name": "override", "valueBoolean": True},
        {"name": "reason", "valueString": "A tribunal has decided it"},
    ]
    sent = json.encode({"resourceType": "Parameters", "parameter": made})
    by_table(CAMHS)
    refused = await client.post(address, content=sent, headers=FHIR_JSON)
    assert_outcome(refused, 403, "forbidden", "may not write")
    assert (await app.state.store.read("Encounter", "s")).version == 1
    by_table(STRANGER)
    unseen = await client.post(address, content=sent, headers=FHIR_JSON)
    assert_outcome(unseen, 404, "not-found", "is not known")


NURSE: Final = Caller("n", user="Practitioner/nurse", organisation="S11")


@pytest.fixture
async def registered(app: Application, by_table: ByTable) -> None:
    """On the register by consent, with nobody who keyworks."""
    await stored(
        app,
        child("1", YOUNG),
        agreed("register", id="r"),
        episode(None, status="planned"),
        team(member("Practitioner/camhs")),
    )
    by_table(NURSE)


@pytest.mark.usefixtures("registered")
async def test_a_signatory_gives_the_first_rating_by_consent_to_the_register(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    answer = await rate(client, override=False)
    assert answer.status_code == 200, answer.text
    assert "author" not in answer.json(), "the colour alone"
    assert "extension" not in answer.json()
    flag = json.decode_resource((await app.state.store.read("Flag", answer.json()["id"])).body)
    assert flag["author"] == ref("Practitioner/nurse")
    assert flag["code"]["coding"][0]["code"] == "amber"
    for other in (
        replace(NURSE, user=""),
        replace(NURSE, roles=frozenset({Role.COMMISSIONER})),
        replace(NURSE, organisation="Y11"),
        CAMHS,
    ):
        by_table(other)
        assert (await rate(client, override=False)).status_code in (403, 404)


@pytest.mark.usefixtures("registered")
async def test_a_signatory_takes_nobody_off_and_sets_nothing_lower_that_is_held(
    app: Application, client: httpx.AsyncClient
) -> None:
    held = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": "2999-01-01"}
    red = {**rating("f1", "1"), **RATED, "extension": [held]}
    red["code"] = coded(canonicals.DSR_RATING, "red")
    await stored(app, red)
    for override in (False, True):
        answer = await rate(client, override=override)
        assert_outcome(answer, 422, "business-rule", "set it lower")
        assert "2999" not in answer.text
    made: list[Resource] = [
        {"name": "reason", "valueCode": "step-down"},
        {"name": "text", "valueString": "Home for good"},
    ]
    sent = json.encode({"resourceType": "Parameters", "parameter": made})
    removed = await client.post("Patient/1/$remove-rating", content=sent, headers=FHIR_JSON)
    assert_outcome(removed, 403, "forbidden", "care team")


@pytest.mark.usefixtures("registered")
async def test_consent_ends_whatever_is_wrong_with_the_rating(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, BROKEN)
    by_table(PATIENT)
    sent = b'{"resourceType": "Parameters"}'
    answer = await client.post("Consent/$withdraw", content=sent, headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
    assert json.decode_resource((await app.state.store.read("Flag", "f1")).body)["status"] == (
        "inactive"
    )


@pytest.mark.usefixtures("registered")
async def test_class_11_a_signatory_is_not_told_what_is_wrong_with_the_rating_before(
    app: Application, client: httpx.AsyncClient
) -> None:
    """Which came from elsewhere, say, and breaks its profile: a new one takes its place."""
    await stored(app, BROKEN)
    answer = await rate(client, override=False, rating="red")
    assert answer.status_code == 200, answer.text
    before = json.decode_resource((await app.state.store.read("Flag", "f1")).body)
    assert before["status"] == "inactive"


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("given", [{"rating": "blue"}, {"avoided": True}], ids=["blue", "avoided"])
async def test_a_signatory_is_not_told_whether_a_stay_is_going_on(
    app: Application, client: httpx.AsyncClient, given: dict[str, Any]
) -> None:
    """Nor do they change a blue that somebody else gave."""
    without = await rate(client, override=False, **given)
    blue = {**rating("f1", "1"), **RATED, "encounter": ref("Encounter/s")}
    blue["code"] = coded(canonicals.DSR_RATING, "blue")
    await stored(app, stay({"display": "Ward"}), blue)
    within = await rate(client, override=False, **given)
    for answer in (without, within):
        assert answer.status_code == 403, answer.text
    assert within.json()["issue"] == without.json()["issue"]
    assert (await app.state.store.read("Flag", "f1")).version == 1


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("colour", "given"), [(None, "green"), ("amber", "green"), ("red", "amber"), ("blue", "red")]
)
@pytest.mark.parametrize("days", [2, 20])
async def test_nor_by_whether_a_rating_is_held(
    app: Application, client: httpx.AsyncClient, colour: str | None, given: str, days: int
) -> None:
    """Whatever the rating came of: a stay that is told changes no answer."""
    start = datetime.now(UTC) - timedelta(days=days)
    period = {"start": start.date().isoformat()}
    answers = []
    for told in ([], [stay({"display": "Ward"}, period=period)], [_left(period)]):
        await stored(app, *told)
        if colour:
            flag = {**rating("f1", "1", colour), **RATED, "period": period}
            await stored(app, flag)
        answers.append(await rate(client, override=False, rating=given))
        if answers[-1].status_code == 200:
            made = await app.state.store.read("Flag", answers[-1].json()["id"])
            gone = json.decode_resource(made.body) | {"status": "entered-in-error"}
            await stored(app, gone)
    assert len({one.status_code for one in answers}) == 1, [one.text for one in answers]
    refused = colour == "blue" or (colour == "red" and days == 2)
    assert answers[0].status_code == (422 if refused else 200)
    if refused:
        assert len({str(one.json()["issue"]) for one in answers}) == 1


def _left(period: dict[str, Any]) -> Resource:
    """That stay, over on the day on which it began."""
    over = {"start": period["start"], "end": period["start"]}
    return stay({"display": "Ward"}, status="finished", period=over)


@pytest.mark.usefixtures("registered")
async def test_a_signatory_rates_no_more_where_a_keyworker_does(
    app: Application, client: httpx.AsyncClient
) -> None:
    await stored(app, agreed(), episode("Practitioner/keyworker"))
    answer = await rate(client, override=False)
    assert_outcome(answer, 403, "forbidden", "care team")
    # Nobody is to be without anybody who rates: withdrawn, it is the register's again.
    await stored(app, agreed(status="inactive"))
    assert (await rate(client, override=False)).status_code == 200


@pytest.mark.usefixtures("registered")
async def test_what_is_suggested_to_a_signatory_says_what_it_rests_on(
    client: httpx.AsyncClient,
) -> None:
    told = (await client.get("Patient/1/$admission-risk")).json()["parameter"]
    (missing,) = [one["valueString"] for one in told if one["name"] == "missing"]
    assert "the colour alone" in missing
