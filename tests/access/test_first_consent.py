"""How consent begins: while nobody has a part in the record, and nobody can have one without it."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FOURTEEN,
    NOW,
    TWELVE,
    carer,
    child,
    coded,
    consent,
    episode,
    ods,
    organisation,
    parental,
    ref,
    role,
    rule,
    stay,
)
from tests.access.test_consent_writes import CHECKED, TODAY, given, gives, refused
from tests.support import FHIR_JSON, assert_outcome

PROFILED: Final = False

MOTHER: Final = Caller("mum", user="RelatedPerson/mum")
FATHER: Final = Caller("dad", user="RelatedPerson/dad")
KEEPER: Final = Caller(
    "keeper",
    organisation="X99",
    roles=frozenset({Role.ADMINISTRATOR}),
    grants=(Grant("system", "*", frozenset("cruds")),),
)
HOST: Final = Caller("host", user="Practitioner/manager", organisation="H11")
SOCIAL: Final = Caller("social", user="Practitioner/social", organisation="S11")
MUMS: Final = parental(**TODAY, outcome=None)
RECORDED: Final = {**MUMS, "verification": CHECKED}
REFERRED: Final = episode(None, status="planned", managingOrganization=ods("H11"))


@pytest.fixture
async def region(app: Application) -> None:
    """A child of 12, whose parents both show parental responsibility, and nothing else."""
    await stored(
        app,
        organisation("x", "X99"),
        organisation("h", "H11"),
        child("1", TWELVE, managingOrganization=ref("Organization/x")),
        carer(),
        carer("dad"),
    )


def by(related: str, consent: Resource, **rest: Any) -> Resource:
    return {**consent, "performer": [ref(related)], **rest}


@pytest.mark.usefixtures("region")
async def test_a_parent_gives_the_first_consent_and_sees_by_it(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(MOTHER, NOW)
    assert (await client.get("Patient/1")).status_code == 404
    await refused(client, by("RelatedPerson/dad", MUMS), "its giver")
    await refused(
        client, {**MUMS, "policyRule": coded(canonicals.NHS_PROXY_LEGAL_BASIS, "consent")}
    )
    await given(client, MUMS)
    assert (await client.get("Patient/1")).status_code == 200
    # The other parent decides from then on too, as ever; who is no parent does not.
    by_table(FATHER, NOW)
    await given(client, by("RelatedPerson/dad", MUMS))
    by_table(Caller("aunt", user="RelatedPerson/aunt"), NOW)
    await refused(client, by("RelatedPerson/aunt", parental("cetr", **TODAY, outcome=None)))


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "before",
    [
        [child("1", FOURTEEN)],
        [child("1", None)],
        [child("1", TWELVE, deceasedBoolean=True)],
        [carer(holds=False)],
        [carer(active=False)],
        [carer(period={"end": "2026-01-01"})],
        [by("RelatedPerson/dad", RECORDED, status="rejected", dateTime="2026-03-02")],
        [by("RelatedPerson/dad", RECORDED, status="inactive", dateTime="2026-03-02")],
        [{**MUMS, "status": "inactive", "dateTime": "2026-03-02"}],
        [parental("cetr", provision=rule("permit", provision=[rule("deny", MOTHER.user)]))],
    ],
    ids=[
        *("is 14", "no birth date", "has died", "not held", "inactive", "over"),
        *("refused", "withdrawn by the other", "withdrawn by herself", "denied by name"),
    ],
)
async def test_what_is_in_the_way_of_a_first_consent(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, before: list[Resource]
) -> None:
    await stored(app, *before)
    by_table(MOTHER, NOW)
    await refused(client, MUMS)


@pytest.mark.usefixtures("region")
async def test_a_consent_of_another_kind_is_first_by_itself(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, {**MUMS, "status": "inactive", "dateTime": "2026-03-02"})
    by_table(MOTHER, NOW)
    both = [*MUMS["category"], coded(canonicals.CONSENT_CATEGORY, "register")]
    await refused(client, {**MUMS, "category": both})
    await given(client, parental("register", **TODAY, outcome=None))


@pytest.mark.usefixtures("region")
async def test_who_keeps_the_record_writes_down_what_was_decided_and_sees_none_of_it(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(KEEPER, NOW)
    await refused(client, MUMS, "checked")
    answer = await gives(client, RECORDED)
    assert answer.status_code == 201, answer.text
    assert (await client.get(f"Consent/{answer.json()['id']}")).status_code == 404
    by_table(replace(KEEPER, organisation="Y11"), NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    by_table(replace(KEEPER, user="Practitioner/admin"), NOW)
    await refused(client, RECORDED, "recorded by the keyworker")


@pytest.mark.usefixtures("region")
async def test_a_ward_that_keeps_the_record_does_not_open_it_to_itself(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, stay(ref("Organization/x")))
    by_table(KEEPER, NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    await stored(app, stay(ods("Y11")))
    by_table(KEEPER, NOW, units=("X99",))
    await refused(client, RECORDED, "recorded by the keyworker")  # and then it tells of a stay
    by_table(KEEPER, NOW, units=("Y11",))
    await given(client, RECORDED)


@pytest.mark.usefixtures("region")
async def test_who_hosts_the_referral_or_is_asked_to_obtain_it_records_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(HOST, NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    await stored(app, REFERRED)
    for judged in (Role.COMMISSIONER, Role.CETR_PANEL):
        by_table(replace(HOST, roles=frozenset({judged})), NOW)
        await refused(client, RECORDED)
    by_table(replace(HOST, user=""), NOW)
    await refused(client, RECORDED)
    by_table(HOST, NOW)
    assert (await client.get("Patient/1")).status_code == 404
    await given(client, RECORDED)
    by_table(SOCIAL, NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    await stored(app, _asked("completed"))
    await refused(client, RECORDED, "recorded by the keyworker")
    await stored(app, _asked("requested"))
    await given(client, RECORDED)


@pytest.mark.usefixtures("region")
async def test_who_refers_does_not_record_that_it_is_agreed_to(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    asked = {**_asked("requested"), "owner": ref(HOST.user)}
    await stored(app, *_referral(HOST.user), asked)
    by_table(HOST, NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    by_table(Caller("colleague", user="Practitioner/other", organisation="H11"), NOW)
    await given(client, RECORDED)


POSTS: Final = ["PractitionerRole/r", "PractitionerRole/other"]


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("referred_as", [HOST.user, "Practitioner/manager/_history/1", *POSTS])
@pytest.mark.parametrize("signed_in_as", [HOST.user, *POSTS])
async def test_who_refers_is_the_same_person_in_each_of_their_posts(
    app: Application,
    client: httpx.AsyncClient,
    by_table: ByTable,
    referred_as: str,
    signed_in_as: str,
) -> None:
    posts = [role(one.partition("/")[2], HOST.user, "Organization/h") for one in POSTS]
    colleague = role("colleague", "Practitioner/colleague", "Organization/h")
    await stored(app, *posts, colleague, *_referral(referred_as))
    by_table(replace(HOST, user=signed_in_as), NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    by_table(replace(HOST, user="PractitionerRole/colleague"), NOW)
    await given(client, RECORDED)


def _referral(requester: str) -> list[Resource]:
    referral: Resource = {
        "resourceType": "ServiceRequest",
        "id": "referral",
        "status": "active",
        "intent": "order",
        "subject": ref("Patient/1"),
        "requester": ref(requester),
    }
    return [referral, {**REFERRED, "referralRequest": [ref("ServiceRequest/referral")]}]


def _asked(status: str) -> Resource:
    return {
        "resourceType": "Task",
        "id": "asked",
        "status": status,
        "intent": "order",
        "code": coded(canonicals.TASK, "obtain-consent"),
        "for": ref("Patient/1"),
        "owner": ref("Practitioner/social"),
    }


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [KEEPER, HOST], ids=lambda one: one.name)
async def test_once_there_is_a_keyworker_it_is_theirs(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    managed = episode("Practitioner/kw", managingOrganization=ods("H11"))
    await stored(app, managed)
    by_table(who, NOW)
    await refused(client, RECORDED, "recorded by the keyworker")
    by_table(Caller("kw", user="Practitioner/kw", organisation="H11"), NOW)
    await given(client, RECORDED)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [KEEPER, HOST], ids=lambda one: one.name)
async def test_a_refusal_is_taken_back_by_whoever_refused(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    no = by("RelatedPerson/dad", RECORDED, status="rejected", id="no", dateTime="2026-03-02")
    await stored(app, REFERRED, no)
    by_table(who, NOW)
    await refused(client, RECORDED, "Somebody else has refused")
    await given(client, parental("register", **TODAY, outcome=None, verification=CHECKED))
    await given(client, by("RelatedPerson/dad", RECORDED))
    # Who decides for themselves is bound by neither parent.
    own = consent(**TODAY, verification=CHECKED)
    await given(client, own)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("who", [KEEPER, HOST], ids=lambda one: one.name)
async def test_they_write_a_new_one_and_change_none(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, who: Caller
) -> None:
    await stored(app, REFERRED, {**RECORDED, "id": "first"})
    by_table(who, NOW)
    ended = {**RECORDED, "id": "first", "status": "inactive"}
    answer = await client.put(
        "Consent/first",
        content=json.encode(ended),
        headers={**FHIR_JSON, "if-match": 'W/"1"'},
    )
    assert_outcome(answer, 412, "conflict", "is not there")


@pytest.mark.usefixtures("region")
async def test_below_16_it_takes_an_assessment_from_13_on(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("1", FOURTEEN, managingOrganization=ref("Organization/x")))
    by_table(KEEPER, NOW)
    await refused(client, RECORDED, "may not give")
    await given(client, parental(**TODAY, verification=CHECKED))


@pytest.mark.usefixtures("region")
async def test_who_keeps_the_record_adds_a_diagnosis_and_reads_none(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    need: Resource = {
        "resourceType": "Condition",
        "subject": ref("Patient/1"),
        "code": {"text": "Autism"},
    }
    by_table(replace(KEEPER, organisation="Y11"), NOW)
    assert (await _posts(client, need)).status_code == 403
    by_table(KEEPER, NOW)
    labelled = {**need, "meta": {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}}
    assert (await _posts(client, labelled)).status_code == 403
    answer = await _posts(client, need)
    assert answer.status_code == 201, answer.text
    assert (await client.get(f"Condition/{answer.json()['id']}")).status_code == 404


async def _posts(client: httpx.AsyncClient, resource: Resource) -> httpx.Response:
    address = str(resource["resourceType"])
    return await client.post(address, content=json.encode(resource), headers=FHIR_JSON)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("caller", [SOCIAL, MOTHER], ids=["a stranger", "who says they give it"])
async def test_a_child_who_is_hidden_is_refused_as_one_who_is_not_there(
    client: httpx.AsyncClient, app: Application, by_table: ByTable, caller: Caller
) -> None:
    await stored(app, child("hidden", TWELVE))
    by_table(caller, NOW)
    told = []
    for name in ("hidden", "absent"):
        asked = {**RECORDED, "patient": ref(f"Patient/{name}")}
        answer = await client.post("Consent", content=json.encode(asked), headers=FHIR_JSON)
        assert answer.status_code == 403
        told.append(answer.text.replace(name, "somebody"))
    assert told[0] == told[1]


@pytest.mark.parametrize("begins", ["as it is", "without its code", "deleted"])
async def test_a_record_is_not_moved_by_the_name_of_its_organisation(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, begins: str
) -> None:
    other, own = organisation("h", "H11"), organisation("h", "X99")
    await stored(app, other, child("2", FOURTEEN, managingOrganization=ref("Organization/h")))
    by_table(KEEPER)
    if begins == "deleted":
        assert (await client.delete("Organization/h")).status_code == 204
    elif begins == "without its code":
        bare = {"resourceType": "Organization", "id": "h", "name": "Of nobody"}
        answer = await client.put("Organization/h", content=json.encode(bare), headers=FHIR_JSON)
        assert answer.status_code == 200, answer.text
    answer = await client.put("Organization/h", content=json.encode(own), headers=FHIR_JSON)
    assert_outcome(answer, 403, "forbidden", "not made one's own")
    assert (await client.get("Patient/2")).status_code == 404
