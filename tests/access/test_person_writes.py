"""Who corrects a Patient that is there, and who adds and corrects those who are related."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.access.decision import Area, Decision, Right, Sight
from fhir_server.app import Application
from fhir_server.errors import Kind
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Store
from tests.access.conftest import ByTable, stored
from tests.access.deciding import KEYWORKER as KEYWORKS
from tests.access.deciding import Decided, session
from tests.access.people import (
    FIFTEEN,
    NOW,
    TWELVE,
    carer,
    child,
    consent,
    episode,
    member,
    numbered,
    ods,
    organisation,
    ref,
    somebody,
    team,
)
from tests.access.rows import WORKED, row
from tests.access.test_review_writers import puts
from tests.access.test_writes import refused, write
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

KEYWORKER: Final = Caller("kw", user="Practitioner/kw", organisation="X99")
KEEPER: Final = Caller(
    "keeper",
    organisation="X99",
    roles=frozenset({Role.ADMINISTRATOR}),
    grants=(Grant("system", "*", frozenset("cruds")),),
)
ELSEWHERE: Final = replace(KEEPER, name="elsewhere", organisation="Y11")
SIGNED_IN: Final = replace(KEEPER, name="signed in", user="Practitioner/admin")
NO_ROLE: Final = replace(KEEPER, name="no role", roles=frozenset())
READER: Final = Caller("reader", user="Practitioner/reader", organisation="C11")
SIGNATORY: Final = Caller("signatory", user="Practitioner/any", organisation="S11")
MUM: Final = Caller("mum", user="RelatedPerson/mum")
OTHERS: Final = (READER, MUM, SIGNATORY, NO_ROLE, SIGNED_IN, ELSEWHERE)
NUMBER: Final = "9990000018"
WHO_MAY: Final = "administrators' client"
DEMOGRAPHIC: Final[dict[str, Any]] = {
    "name": [{"family": "Example", "given": ["Sam"]}],
    "telecom": [{"system": "phone", "value": "020 7946 0000"}],
    "address": [{"city": "Leeds"}],
    "contact": [{"name": {"text": "An aunt"}}],
    "communication": [{"language": {"text": "Makaton"}}],
    "gender": "female",
    "generalPractitioner": [ods("A81001")],
    "deceasedDateTime": "2026-11-20",
    "extension": [
        {
            "url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory",
            "valueCodeableConcept": {"text": "Not stated"},
        }
    ],
}
DECIDING: Final[dict[str, Any]] = {
    "identifier": numbered("9990000026"),
    "birthDate": "2011-05-05",
    "managingOrganization": ref("Organization/other"),
    "active": False,
    "link": [{"other": ref("Patient/2"), "type": "seealso"}],
    "extension": [{"url": "https://keyworking.example/fhir/any", "valueBoolean": True}],
    "meta": {"security": [{"system": canonicals.ACT_CODE, "code": "R"}]},
}


def known(**more: Any) -> Resource:
    managed = {"managingOrganization": ref("Organization/x"), "identifier": numbered(NUMBER)}
    return child("1", FIFTEEN, **managed, **more)


@pytest.fixture
async def region(app: Application) -> None:
    """A child whom a keyworker, a reader, a signatory and a parent see, and one who is hidden."""
    await stored(
        app,
        organisation("x", "X99"),
        organisation("other", "Y11"),
        known(),
        carer("mum"),
        consent(),
        consent("register", id="r"),
        episode("Practitioner/kw"),
        team(member("Practitioner/reader")),
        child("2", FIFTEEN, managingOrganization=ods("Y11")),
    )


async def posts(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    told = {name: value for name, value in resource.items() if name != "id"}
    return await client.post(resource["resourceType"], content=json.encode(told), headers=FHIR_JSON)


@pytest.mark.usefixtures("region")
async def test_the_keyworker_corrects_how_somebody_is_called_and_reached(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEYWORKER, NOW)
    for element, value in DEMOGRAPHIC.items():
        if element != "deceasedDateTime":
            assert (await puts(client, known(**{element: value}))).status_code == 200, element
    found = (await client.get("Patient/1")).json()
    assert "extension" in found
    assert "name" not in found
    patched = [{"op": "add", "path": "/gender", "value": "other"}]
    headers = {"content-type": "application/json-patch+json"}
    told = await client.patch("Patient/1", content=json.encode(patched), headers=headers)
    assert told.status_code == 200, told.text
    # A death closes the involvement: this is the last that is written so.
    dead = known(deceasedDateTime="2026-11-20")
    assert (await puts(client, dead)).status_code == 200
    assert (await puts(client, known())).status_code == 404


@pytest.mark.usefixtures("region")
async def test_what_decides_is_not_the_keyworkers_to_change(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEYWORKER, NOW)
    for element, value in DECIDING.items():
        told = await puts(client, {**known(), element: value})
        assert_outcome(told, 403, "forbidden", WHO_MAY, f"Patient.{element}")
    assert_outcome(await client.delete("Patient/1"), 403, "forbidden", "not deleted")
    assert (await client.get("Patient/1")).json()["meta"]["versionId"] == "1"


@pytest.mark.usefixtures("region")
async def test_the_managing_organisations_client_corrects_who_somebody_is(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEEPER, NOW)
    some = {name: DECIDING[name] for name in ("identifier", "birthDate", "active", "meta")}
    for element, value in {**DEMOGRAPHIC, **some}.items():
        told = await puts(client, {**known(), element: value})
        assert told.status_code == 200, (element, told.text)
    same = {**known(), "managingOrganization": ods("X99")}
    assert (await puts(client, same)).status_code == 200
    found = (await client.get(f"Patient?identifier={canonicals.NHS_NUMBER}|{NUMBER}")).json()
    assert [one["resource"]["id"] for one in found["entry"]] == ["1"]
    assert (await client.get("EpisodeOfCare/e")).status_code == 404


@pytest.mark.usefixtures("region")
async def test_class_14_no_record_is_moved_to_where_its_keeper_has_no_right(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEEPER, NOW)
    for away in (ref("Organization/other"), ods("Y11"), {"display": "Trust"}, None):
        moved = {**known(), "managingOrganization": away}
        place = "Patient.managingOrganization"
        told = await puts(client, {name: one for name, one in moved.items() if one})
        assert_outcome(told, 403, "forbidden", "stays with", place)
    for hidden in ("Patient/2", "Patient/absent", "RelatedPerson/mum"):
        linked = known(link=[{"other": ref(hidden), "type": "seealso"}])
        told = await puts(client, linked)
        assert_outcome(told, 403, "forbidden", "same organisation", "Patient.link[0].other")
    assert_outcome(await client.delete("Patient/1"), 403, "forbidden", "not deleted")


@pytest.mark.usefixtures("region")
async def test_two_records_of_one_organisation_are_linked(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("3", FIFTEEN, managingOrganization=ods("X99")))
    by_table(KEEPER, NOW)
    linked = known(link=[{"other": ref("Patient/3"), "type": "replaces"}])
    assert (await puts(client, linked)).status_code == 200


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", OTHERS, ids=lambda one: str(one.name))
async def test_nobody_else_corrects_anybody_and_hidden_is_as_absent(
    client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    by_table(who, NOW)
    seen = who in (READER, SIGNATORY)
    for kind, one, other in (
        ("Patient", known(gender="male"), {**known(gender="male"), "id": "absent"}),
        ("RelatedPerson", carer("mum", gender="male"), carer("absent", gender="male")),
    ):
        absent = await puts(client, other)
        assert absent.status_code == 404
        told = await puts(client, one)
        if seen and (kind == "Patient" or who is not SIGNATORY):
            assert_outcome(told, 403, "forbidden", WHO_MAY, kind)
        else:
            assert told.text.replace(f"{kind}/{one['id']}", f"{kind}/absent") == absent.text
    added = [
        await posts(client, {**carer("new"), "patient": ref(f"Patient/{one}")}) for one in "129"
    ]
    assert [one.status_code for one in added] == [403, 403 if who is not ELSEWHERE else 201, 403]
    assert added[0].text == added[2].text


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [KEYWORKER, KEEPER], ids=lambda one: str(one.name))
async def test_a_relation_is_added_and_corrected_and_stays_with_the_child(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    await stored(app, child("4", FIFTEEN, managingOrganization=ods("X99")))
    by_table(who, NOW)
    added = await posts(client, carer("new"))
    assert added.status_code == 201, added.text
    aunt = added.json()
    assert (await puts(client, {**aunt, "gender": "female"})).status_code == 200
    told = await puts(client, {**aunt, "patient": ref("Patient/4")})
    assert_outcome(told, 403, "forbidden", "add another", "RelatedPerson.patient")
    address = f"RelatedPerson/{aunt['id']}"
    assert_outcome(await client.delete(address), 403, "forbidden", "not active any more")
    assert (await puts(client, {**aunt, "active": False})).status_code == 200


def without_evidence(**more: Any) -> Resource:
    told = carer("mum", **more)
    told["extension"] = [
        {**one, "extension": [part for part in one["extension"] if part["url"] == "held"]}
        for one in told["extension"]
    ]
    return told


KEEPS: Final = Decision(16, ((Area.PERSON, Sight.ALL),), rights=frozenset({Right.IDENTITY}))


@pytest.mark.parametrize("decision", [KEYWORKS, KEEPS], ids=["keyworker", "keeper"])
async def test_class_13_parental_responsibility_is_recorded_with_what_shows_it(
    store: Store, decision: Decision
) -> None:
    """A profile says so too; whoever has none of them is refused here."""
    asked = session(store, Decided({"1": decision}))
    twice = {**carer("mum"), "extension": carer("mum")["extension"] * 2}
    elsewhere = carer("mum")
    coding = elsewhere["extension"][0]["extension"][1]["valueCodeableConcept"]["coding"]
    coding[0]["system"] = "https://elsewhere.example"
    for wrong in (without_evidence(), twice, elsewhere):
        assert await refused(asked, wrong) is Kind.FORBIDDEN
    not_held = without_evidence()
    not_held["extension"][0]["extension"][0]["valueBoolean"] = False
    await write(asked, not_held)


async def test_a_parent_who_is_added_has_what_the_table_says(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Row 8: by consent on parental responsibility, whichever parent gave it."""
    given = consent("keyworking", "parental-responsibility", "RelatedPerson/mum", None)
    young = child("1", TWELVE)
    await stored(app, young, carer("mum"), given, episode("Practitioner/kw"))
    by_table(KEYWORKER, NOW)
    added = (await posts(client, carer("dad"))).json()
    friend = (await posts(client, carer("friend", holds=False))).json()
    for one, status in ((added, 200), (friend, 404)):
        by_table(Caller("parent", user=f"RelatedPerson/{one['id']}"), NOW)
        assert (await client.get("Patient/1")).status_code == status
    by_table(Caller("parent", user=f"RelatedPerson/{added['id']}"), NOW)
    assert_outcome(await puts(client, {**added, "gender": "male"}), 403, "forbidden", WHO_MAY)


@pytest.mark.usefixtures("region")
async def test_class_1_a_number_that_a_hidden_child_has_is_taken_as_any_other(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """The keyworker hears of it; who brings it cannot tell it from a number that nobody has."""
    by_table(ELSEWHERE, NOW)
    told = []
    for number in (NUMBER, "9990000034"):
        own = child("", FIFTEEN, identifier=numbered(number), managingOrganization=ods("Y11"))
        answer = await posts(client, own)
        made = answer.json()
        told.append(
            (answer.status_code, sorted(answer.headers), sorted(made), made["meta"]["versionId"])
        )
    assert told[0] == told[1]
    assert "entry" not in (await client.get("Task")).json()
    by_table(KEYWORKER, NOW)
    [asked] = (await client.get("Task?code=check-identity")).json()["entry"]
    assert asked["resource"]["for"] == ref("Patient/1")


@pytest.mark.parametrize(
    "managed",
    [{"reference": "#o"}, {"display": "Trust"}, {"reference": "Patient/1"}, ods("Y11")],
    ids=["not readable", "no name", "no organisation", "another"],
)
def test_who_manages_a_record_cannot_be_told_and_all_else_counts(managed: dict[str, Any]) -> None:
    patient = child(managingOrganization=managed, contained=[{"id": "o", "identifier": "x"}])
    assert row(replace(KEEPER, organisation="X99"), patient) == 0
    assert row(somebody("Practitioner/kw"), patient, *WORKED) == 2
    assert row(KEEPER, child(managingOrganization=ods("x99"))) == 16
    for other in (NO_ROLE, SIGNED_IN):
        assert row(other, child(managingOrganization=ods("X99"))) == 0
