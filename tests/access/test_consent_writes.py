"""Who gives, records and withdraws a consent: never whoever profits, and never for another."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FIFTEEN,
    FOURTEEN,
    NOW,
    SEVENTEEN,
    TWELVE,
    carer,
    child,
    competence,
    consent,
    episode,
    member,
    organisation,
    parental,
    ref,
    role,
    rule,
    team,
)
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")
CHILD: Final = Caller("child", user="Patient/1")
MOTHER: Final = Caller("mum", user="RelatedPerson/mum")
TEACHER: Final = Caller("teacher", user="Practitioner/teacher", organisation="S11")
CHECKED: Final[list[dict[str, Any]]] = [
    {
        "verified": True,
        "verifiedWith": ref("Patient/1"),
        "verificationDate": "2026-11-20",
    }
]
TODAY: Final[dict[str, Any]] = {
    "dateTime": "2026-11-20",
    "organization": [ref("Organization/x")],
    "provision": rule(period={"start": "2026-11-20", "end": "2027-11-01"}),
}
WITHDRAWN: Final = {
    "url": canonicals.CONSENT_STATUS_REASON_EXTENSION,
    "valueCodeableConcept": {
        "coding": [
            {
                "system": canonicals.CONSENT_STATUS_REASON,
                "code": "ROLE_DEACTIVATED_PATIENT_REQUEST",
            }
        ]
    },
}


def own(**rest: Any) -> Resource:
    """The young person's own, from 16 on."""
    return {**consent(basis="consent", outcome=None, **TODAY), **rest}


@pytest.fixture
async def region(app: Application) -> None:
    await stored(
        app,
        child("1", SEVENTEEN),
        child("2", SEVENTEEN),
        episode("Practitioner/kw"),
        carer(),
        organisation("x", "X99"),
        organisation("s", "S11"),
        role("kw", "Practitioner/kw", "Organization/x"),
    )


async def aged(app: Application, born: str, *also: Resource) -> None:
    await stored(app, child("1", born), *also)


async def gives(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    given = {name: value for name, value in resource.items() if name != "id"}
    return await client.post("Consent", content=json.encode(given), headers=FHIR_JSON)


async def given(client: httpx.AsyncClient, resource: Resource) -> None:
    answer = await gives(client, resource)
    assert answer.status_code == 201, answer.text


async def refused(client: httpx.AsyncClient, resource: Resource, text: str = "") -> None:
    assert_outcome(await gives(client, resource), 403, "forbidden", text)


@pytest.mark.usefixtures("region")
async def test_a_young_person_of_16_gives_their_own(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(CHILD, NOW)
    await given(client, own())
    await given(client, own(provision=rule("permit", "Organization/s", **_period())))
    await refused(client, own(patient=ref("Patient/2")))
    await refused(client, own(performer=[ref("RelatedPerson/mum")]), "its giver")
    await refused(client, own(performer=[ref("Patient/1"), ref("RelatedPerson/mum")]))
    incapable = own(extension=[competence("lacks-capacity", "2026-11-01")])
    await refused(client, incapable)


def _period() -> dict[str, Any]:
    return {"period": {"start": "2026-11-20", "end": "2027-11-01"}}


@pytest.mark.usefixtures("region")
async def test_a_child_gives_their_own_once_found_competent(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await aged(app, FIFTEEN)
    by_table(CHILD, NOW)
    mine = consent(**TODAY)  # with an assessment that the child itself tells of
    await refused(client, mine, "may not give")
    await stored(app, consent("register", id="found"))
    await given(client, mine)


@pytest.mark.usefixtures("region")
async def test_a_parent_gives_it_below_13_and_never_from_16_on(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_parent = parental(**TODAY, outcome=None)
    by_table(MOTHER, NOW)
    await refused(client, by_parent)
    await aged(app, FOURTEEN)
    await refused(client, by_parent)
    await aged(app, TWELVE)
    await given(client, by_parent)
    await refused(client, {**by_parent, "performer": [ref("RelatedPerson/dad")]})
    # Whom the records do not show as a parent who decides gives nothing.
    await stored(app, carer(holds=False))
    await refused(client, by_parent)


@pytest.mark.usefixtures("region")
async def test_the_keyworker_records_what_was_checked_with_who_decides(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEYWORKER, NOW)
    await refused(client, own(), "checked")
    await given(client, own(verification=CHECKED))
    await refused(client, own(verification=CHECKED, performer=[ref("Practitioner/kw")]))
    await refused(client, parental(**TODAY, verification=CHECKED, outcome=None))
    await aged(app, TWELVE)
    await given(client, parental(**TODAY, verification=CHECKED, outcome=None))
    await refused(client, own(verification=CHECKED), "may not give")
    await aged(app, FOURTEEN)
    await refused(client, parental(**TODAY, verification=CHECKED, outcome=None))
    await given(client, parental(**TODAY, verification=CHECKED))
    await given(client, consent(**TODAY, verification=CHECKED))


@pytest.mark.usefixtures("region")
async def test_a_best_interest_decision_is_never_one_persons_own(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEYWORKER, NOW)
    decided = {**TODAY, "verification": CHECKED, "outcome": ("lacks-capacity", "2026-11-01")}
    for alone in ("Practitioner/kw", "PractitionerRole/kw"):
        await refused(client, consent("keyworking", "best-interest", alone, **decided), "alone")
    both = [ref("Practitioner/kw"), ref("Practitioner/doctor")]
    made = consent("keyworking", "best-interest", "x", **decided)
    await given(client, {**made, "performer": both})
    able = consent("keyworking", "best-interest", "x", **{**decided, "outcome": None})
    await refused(client, {**able, "performer": both})


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [TEACHER, Caller("system", organisation="S11")])
async def test_nobody_grants_to_themselves(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    """ATTACKS 13."""
    to_self = own(verification=CHECKED, provision=rule("permit", "Organization/s", **_period()))
    by_table(who, NOW)
    await refused(client, to_self)
    # Nor when in the care team, with consent.
    await stored(app, own(id="first"), team(member("Practitioner/teacher")))
    await refused(client, to_self)
    if who is TEACHER:
        there = (await client.get("Consent/first")).json()
        widened = {**there, "provision": to_self["provision"]}
        answer = await client.put(
            "Consent/first",
            content=json.encode(widened),
            headers={**FHIR_JSON, "if-match": 'W/"1"'},
        )
        assert_outcome(answer, 403, "forbidden", "its giver")


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("told", ["2026-09-01", "2025", "2026-12-01", "2027-01-01T00:00:00Z"])
async def test_no_decision_is_dated_back_or_ahead(
    client: httpx.AsyncClient, by_table: ByTable, told: str
) -> None:
    by_table(CHILD, NOW)
    await refused(client, own(dateTime=told), told)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [CHILD, KEYWORKER, MOTHER, TEACHER], ids=lambda one: one.name)
async def test_it_is_withdrawn_by_giver_patient_or_keyworker(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    first = own(id="first", provision=rule("permit", "RelatedPerson/mum", **_period()))
    if who is TEACHER:
        first = own(id="first")
    await stored(app, first, team(member("Practitioner/teacher")))
    by_table(who, NOW)
    there = (await client.get("Consent/first")).json()
    headers = {**FHIR_JSON, "if-match": 'W/"1"'}
    ended = {**there, "status": "inactive", "extension": [WITHDRAWN]}
    more = {**ended, "performer": [ref("RelatedPerson/mum")]}
    other = await client.put("Consent/first", content=json.encode(more), headers=headers)
    assert_outcome(other, 403, "forbidden", "")
    answer = await client.put("Consent/first", content=json.encode(ended), headers=headers)
    if who in (CHILD, KEYWORKER):
        assert answer.status_code == 200, answer.text
    else:
        assert_outcome(answer, 403, "forbidden", "withdrawn by its giver")
    gone = await client.delete(
        "Consent/first", headers={"if-match": answer.headers.get("etag", headers["if-match"])}
    )
    assert gone.status_code in (403, 204)
    assert (await app.state.store.read("Consent", "first")).deleted is False


@pytest.mark.usefixtures("region")
async def test_a_withdrawal_closes_every_route_with_its_commit(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    plan = {
        "resourceType": "CarePlan",
        "id": "plan",
        "status": "active",
        "intent": "plan",
        "subject": ref("Patient/1"),
    }
    await stored(app, own(id="first"), team(member("Practitioner/teacher")), plan)
    by_table(TEACHER, NOW)
    assert (await client.get("CarePlan/plan")).status_code == 200
    assert (await client.get("CarePlan?patient=1&_summary=count")).json()["total"] == 1
    by_table(CHILD, NOW)
    there = (await client.get("Consent/first")).json()
    ended = json.encode({**there, "status": "inactive", "extension": [WITHDRAWN]})
    headers = {**FHIR_JSON, "if-match": 'W/"1"'}
    assert (await client.put("Consent/first", content=ended, headers=headers)).status_code == 200
    by_table(TEACHER, NOW)
    assert (await client.get("CarePlan/plan")).status_code == 404
    assert (await client.get("CarePlan/plan/_history/1")).status_code == 404
    assert (await client.get("CarePlan?patient=1&_summary=count")).json()["total"] == 0
    assert (await client.get("Patient/1/$everything")).status_code == 404


@pytest.mark.usefixtures("region")
async def test_a_consent_stays_with_its_patient(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, own(id="first"), {**episode("Practitioner/kw", "Patient/2"), "id": "e2"})
    by_table(replace(KEYWORKER), NOW)
    there = (await client.get("Consent/first")).json()
    moved = {**there, "patient": ref("Patient/2"), "performer": [ref("Patient/2")]}
    headers = {**FHIR_JSON, "if-match": 'W/"1"'}
    answer = await client.put("Consent/first", content=json.encode(moved), headers=headers)
    assert answer.status_code == 403
