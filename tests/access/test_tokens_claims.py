"""From claims to a caller. Class 19: a claim is text, a list or a number as it should be."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.caller import Caller, Grant, Role, caller_from_json, caller_to_json
from fhir_server.access.tokens.claims import ClaimNames, caller_of
from fhir_server.access.tokens.problems import BadToken
from fhir_server.fhir import json
from tests.access.issuing import BASE, ISSUER

NAMES: Final = ClaimNames()
OBJECTS: Final[tuple[Any, ...]] = ({"$ne": ""}, {"$gt": ""}, {}, [], [{"$ne": ""}], 7, 0, True, 1.5)


def caller(**claims: Any) -> Caller:
    return under(NAMES, **claims)


def under(names: ClaimNames, **claims: Any) -> Caller:
    return caller_of({"client_id": "app", **claims}, names, ISSUER, BASE)


def test_a_caller_has_all_that_the_claims_say() -> None:
    found = caller(
        sub="7f3a",
        fhirUser="Practitioner/keyworker-1",
        ods_code="RX4",
        role=["auditor", "offline_access"],
        purpose_of_use="TREAT",
        patient="kw-synthetic-006",
        scope="user/CarePlan.rs openid",
    )
    assert found == Caller(
        name=found.name,
        client="app",
        user="Practitioner/keyworker-1",
        organisation="RX4",
        roles=frozenset({Role.AUDITOR}),
        purpose="TREAT",
        patient="kw-synthetic-006",
        grants=(Grant("user", "CarePlan", frozenset("rs")),),
    )


def test_what_no_claim_says_is_empty() -> None:
    found = caller()
    assert found == Caller(name=found.name, client="app")


@pytest.mark.parametrize("name", ["client_id", "sub", "fhirUser", "ods_code", "patient"])
@pytest.mark.parametrize("value", [*OBJECTS, "", "a\x00b", "a\nb", "x" * 513])
def test_class_19_what_is_no_text_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadToken):
        caller(**{name: value})


@pytest.mark.parametrize("value", [{"$ne": ""}, [{"$ne": ""}], 7, True, [["auditor"]], [None]])
def test_class_19_roles_and_scopes_are_texts(value: Any) -> None:
    for name in ("role", "scope"):
        with pytest.raises(BadToken):
            caller(**{name: value})


@pytest.mark.parametrize("name", ["ods_code", "purpose_of_use"])
@pytest.mark.parametrize("value", ["r", "rx4", "RX4 ", "RX4;DROP", "RX4\u00e9", "A" * 30, "$ne"])
def test_class_19_codes_are_codes(name: str, value: str) -> None:
    with pytest.raises(BadToken):
        caller(**{name: value})


@pytest.mark.parametrize(
    "told", ["Practitioner/p1", f"{BASE}/Practitioner/p1"], ids=["relative", "absolute"]
)
def test_a_user_of_this_server_is_known(told: str) -> None:
    assert caller(fhirUser=told).user == "Practitioner/p1"


@pytest.mark.parametrize(
    "told",
    [
        "https://elsewhere.example/fhir/Practitioner/p1",
        f"{BASE}x/Practitioner/p1",
        f"{BASE}/../Practitioner/p1",
        "Practitioner/p1/_history/2",
        "Practitioner/",
        "practitioner/p1",
        "Organization/o1",
        "Group/all",
        "Practitioner/p1?x=y",
        "#p1",
    ],
)
def test_a_user_of_elsewhere_is_nobody_here(told: str) -> None:
    with pytest.raises(BadToken):
        caller(fhirUser=told)


@pytest.mark.parametrize("told", ["p1", "Patient/p1", f"{BASE}/Patient/p1"])
def test_a_patient_is_told_by_id_or_reference(told: str) -> None:
    assert caller(patient=told).patient == "p1"


@pytest.mark.parametrize(
    "told", ["*", "p1,p2", "Practitioner/p1", "https://elsewhere.example/Patient/p1", "p 1"]
)
def test_what_names_no_patient_here_is_refused(told: str) -> None:
    with pytest.raises(BadToken):
        caller(patient=told)


def test_unknown_roles_give_nothing() -> None:
    assert caller(role=["Auditor", "auditor ", "admin", ""]).roles == frozenset()
    assert caller(role="auditor").roles == {Role.AUDITOR}


def test_claims_may_have_other_names() -> None:
    names = ClaimNames(
        client=("azp",),
        scope="scp",
        organisation="https://idp.example/ods",
        role="realm_access.roles",
        patient="launch.patient",
    )
    found = caller_of(
        {
            "azp": "portal",
            "scp": ["patient/Patient.r"],
            "https://idp.example/ods": "RX4",
            "realm_access": {"roles": ["commissioner"]},
            "launch": {"patient": "p1"},
            "client_id": "not looked at",
        },
        names,
        ISSUER,
        BASE,
    )
    assert (found.client, found.organisation, found.patient) == ("portal", "RX4", "p1")
    assert found.roles == {Role.COMMISSIONER}
    assert found.grants == (Grant("patient", "Patient", frozenset("r")),)


def test_a_claim_within_what_is_no_object_is_not_there() -> None:
    names = ClaimNames(role="realm_access.roles")
    for told in ("auditor", ["auditor"], 7, None):
        assert under(names, realm_access=told).roles == frozenset()


PART = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(PART, PART), min_size=2, max_size=2, unique=True))
def test_two_callers_never_have_one_name(pairs: list[tuple[str, str]]) -> None:
    """Jobs and answers to repeat are found by it alone."""
    names = {caller(client_id=client, sub=subject).name for client, subject in pairs}
    assert len(names) == 2


def test_the_same_client_and_subject_of_two_issuers_are_two_callers() -> None:
    told = {"client_id": "app", "sub": "1"}
    names = {caller_of(told, NAMES, issuer, BASE).name for issuer in ("https://a", "https://b")}
    assert len(names) == 2


def test_two_users_of_one_client_are_two_callers() -> None:
    told = [{"sub": "1"}, {"sub": "2"}, {"sub": "1", "fhirUser": "Patient/1"}, {"sub": "1/2"}]
    assert len({caller(**one).name for one in told}) == 4


def test_what_a_token_says_beside_who_it_is_makes_no_other_caller() -> None:
    assert caller(scope="user/*.rs", patient="1").name == caller(ods_code="RX4").name


GRANTS = st.builds(
    Grant,
    st.sampled_from(["patient", "user", "system"]),
    st.sampled_from(["*", "CarePlan", "Patient"]),
    st.frozensets(st.sampled_from("cruds"), min_size=1),
    st.lists(st.tuples(PART, PART), max_size=2).map(tuple),
)
CALLERS = st.builds(
    Caller,
    name=PART,
    request_id=PART,
    client=PART,
    user=PART,
    organisation=PART,
    roles=st.frozensets(st.sampled_from(Role)),
    purpose=PART,
    patient=PART,
    grants=st.lists(GRANTS, max_size=4).map(tuple),
    break_glass=PART,
)


@given(CALLERS)
def test_a_caller_who_is_kept_is_the_same_caller(found: Caller) -> None:
    assert caller_from_json(json.decode(json.encode(caller_to_json(found)))) == found
