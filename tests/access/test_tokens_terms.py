"""What scopes come to as terms of a query: decided by `match`, on real stores, and never wider."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.access.tokens.scopes import LETTERS, grants
from fhir_server.access.tokens.terms import ABOUT_NOBODY, granted, terms
from fhir_server.fhir.definitions import is_resource_type, resource_types
from fhir_server.search.ast import Everything, Node, Nothing, disjunction
from fhir_server.search.match import match
from fhir_server.storage.interface import Store
from tests.storage.questions import patient, put, query

BASE: Final = "http://127.0.0.1:8080/fhir"


def caller(scopes: str, patient: str = "1", user: str = "Practitioner/p") -> Caller:
    return Caller("a caller", user=user, patient=patient, grants=grants(scopes))


def term(scopes: str, resource_type: str, letter: str = "r", **about: str) -> Node:
    return terms(caller(scopes, **about), resource_type, letter, BASE)


def of(resource_type: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": resource_type, "id": "x", **elements}


def reference(text: str) -> dict[str, str]:
    return {"reference": text}


@pytest.mark.parametrize("level", ["user", "system"])
def test_a_grant_of_a_type_is_all_of_that_type_and_nothing_else(level: str) -> None:
    scopes = f"{level}/CarePlan.rs"
    assert isinstance(term(scopes, "CarePlan", "s"), Everything)
    assert isinstance(term(scopes, "CarePlan", "u"), Nothing)
    assert isinstance(term(scopes, "Goal"), Nothing)
    assert isinstance(term(f"{level}/*.r", "Goal"), Everything)


def test_class_26_a_level_without_what_it_is_about_grants_nothing() -> None:
    for scopes, about in (("patient/*.cruds", {"patient": ""}), ("user/*.cruds", {"user": ""})):
        for name in ("Patient", "CarePlan", "Organization"):
            assert isinstance(term(scopes, name, **about), Nothing)
            assert not granted(caller(scopes, **about), name, "r")
        assert not granted(caller(scopes, **about), "*", "r")
        assert granted(caller(scopes), "*", "r")


def test_every_type_is_asked_for_by_a_wildcard_alone() -> None:
    assert granted(caller("system/*.rs"), "*", "r")
    assert not granted(caller("system/*.rs"), "*", "u")
    assert not granted(caller("system/Patient.rs system/CarePlan.rs"), "*", "r")


def test_letters_of_several_scopes_are_gathered_and_none_is_lent() -> None:
    asked = caller("user/CarePlan.r user/Goal.s")
    assert [letter for letter in LETTERS if granted(asked, "CarePlan", letter)] == ["r"]
    assert [letter for letter in LETTERS if granted(asked, "Goal", letter)] == ["s"]


ABOUT_PATIENT_1: Final = [
    of("Patient") | {"id": "1"},
    of("CarePlan", subject=reference("Patient/1")),
    of("CareTeam", subject=reference("Patient/1")),
    of("Task", **{"for": reference("Patient/1")}),
    of("Consent", patient=reference("Patient/1")),
    of("Flag", subject=reference(f"{BASE}/Patient/1")),
    of("RelatedPerson", patient=reference("Patient/1")),
    of("EpisodeOfCare", patient=reference("Patient/1")),
    of("QuestionnaireResponse", subject=reference("Patient/1")),
]
ABOUT_ANOTHER: Final = [
    of("Patient") | {"id": "2"},
    of("CarePlan", subject=reference("Patient/2")),
    # Class 10: who wrote, sent or does something is not whom it is about.
    of("CarePlan", subject=reference("Patient/2"), author=reference("Patient/1")),
    of(
        "CareTeam",
        subject=reference("Patient/2"),
        participant=[{"member": reference("Patient/1")}],
    ),
    of(
        "Observation",
        subject=reference("Patient/2"),
        focus=[reference("Patient/1")],
        performer=[reference("Patient/1")],
    ),
    of(
        "Communication",
        subject=reference("Patient/2"),
        sender=reference("Patient/1"),
        recipient=[reference("Patient/1")],
    ),
    of("Task", **{"for": reference("Patient/2"), "owner": reference("Patient/1")}),
    of("DocumentReference", subject=reference("Patient/2"), author=[reference("Patient/1")]),
    of("Flag", subject=reference("https://elsewhere.example/fhir/Patient/1")),
    of("Flag", subject=reference("Patient/10")),
    of("CarePlan"),
]


@pytest.mark.parametrize("letter", LETTERS)
def test_the_scopes_of_a_patient_reach_what_is_about_them(letter: str) -> None:
    for resource in ABOUT_PATIENT_1:
        assert match(term("patient/*.cruds", resource["resourceType"], letter), resource)
    for resource in ABOUT_ANOTHER:
        assert not match(term("patient/*.cruds", resource["resourceType"], letter), resource)


def test_what_is_about_nobody_may_be_read_with_the_scopes_of_a_patient_and_not_written() -> None:
    assert all(map(is_resource_type, ABOUT_NOBODY))
    for name in ABOUT_NOBODY:
        assert isinstance(term("patient/*.cruds", name, "r"), Everything)
        assert isinstance(term("patient/*.cruds", name, "u"), Nothing)


def test_class_9_with_the_scopes_of_a_patient_no_type_is_all_there_but_what_is_about_nobody() -> (
    None
):
    for name in resource_types():
        found = term("patient/*.cruds", name)
        assert isinstance(found, Everything) == (name in ABOUT_NOBODY), name


@pytest.mark.parametrize("name", ["Binary", "Bundle", "MessageHeader", "Linkage", "Parameters"])
def test_what_says_of_nobody_whom_it_is_about_is_out_of_reach(name: str) -> None:
    assert isinstance(term("patient/*.cruds", name), Nothing)


def plan(category: str) -> dict[str, Any]:
    coding = {"system": "http://c", "code": category}
    return of("CarePlan", subject=reference("Patient/1"), category=[{"coding": [coding]}])


@pytest.mark.parametrize("level", ["patient", "user", "system"])
def test_criteria_narrow_what_is_granted(level: str) -> None:
    found = term(f"{level}/CarePlan.rs?category=http://c|discharge", "CarePlan")
    assert match(found, plan("discharge"))
    assert not match(found, plan("keyworking"))


def test_several_criteria_all_hold_and_several_scopes_are_alternatives() -> None:
    both = term("user/CarePlan.rs?category=discharge&status=active", "CarePlan")
    assert not match(both, plan("discharge"))
    assert match(both, plan("discharge") | {"status": "active"})
    either = term("user/CarePlan.r?category=discharge user/CarePlan.r?category=x", "CarePlan")
    assert match(either, plan("discharge"))
    assert match(either, plan("x"))
    assert not match(either, plan("y"))
    wider = term("user/CarePlan.r?category=discharge user/CarePlan.r", "CarePlan")
    assert isinstance(wider, Everything)


@pytest.mark.parametrize(
    "criteria",
    [
        "colour=red",
        "category:unheard=x",
        "_count=5",
        "_include=CarePlan:subject",
        "_sort=date",
        "date=yesterday",
        "date=ap2026-01-01",
        "subject:Patient.name=a",
        "_has:Flag:subject:status=active",
        "category:in=http://vs",
        "_text=x",
        "_content=x",
        "_list=1",
    ],
)
def test_criteria_that_cannot_be_decided_by_one_resource_grant_nothing(criteria: str) -> None:
    scopes = f"user/CarePlan.rs?{criteria}"
    assert isinstance(term(scopes, "CarePlan"), Nothing)
    assert not granted(caller(scopes), "CarePlan", "r")


def test_criteria_of_a_wildcard_grant_what_has_such_a_parameter() -> None:
    scopes = "user/*.rs?category=discharge"
    assert match(term(scopes, "CarePlan"), plan("discharge"))
    assert isinstance(term(scopes, "Patient"), Nothing)


def test_what_is_no_type_is_granted_to_nobody() -> None:
    for scopes in ("patient/*.cruds", "user/*.rs?category=x"):
        assert isinstance(term(scopes, "Unicorn"), Nothing)


class OnlyScopes:
    """A policy of scopes alone."""

    def __init__(self, asking: Caller) -> None:
        self._caller = asking

    def readable(self, resource_type: str) -> Node:
        return self._any_of("rs", resource_type)

    def writable(self, resource_type: str) -> Node:
        return self._any_of("cud", resource_type)

    def _any_of(self, letters: str, resource_type: str) -> Node:
        found = [terms(self._caller, resource_type, letter, BASE) for letter in letters]
        everything = any(isinstance(node, Everything) for node in found)
        return Everything() if everything else disjunction(*found)


SCOPES: Final = st.lists(
    st.builds(
        lambda level, name, letters, query: f"{level}/{name}.{letters}{query}",
        st.sampled_from(["patient", "user", "system"]),
        st.sampled_from(["*", "CarePlan", "Patient", "Task"]),
        st.sampled_from(["r", "rs", "cruds"]),
        st.sampled_from(["", "?status=active", "?category=http://c|a", "?_id=x", "?gender=male"]),
    ),
    min_size=1,
    max_size=3,
)


@given(SCOPES, st.sampled_from(["CarePlan", "Patient", "Task"]))
def test_what_is_granted_grows_with_every_scope(scopes: list[str], resource_type: str) -> None:
    of_type = [
        one for one in [*ABOUT_PATIENT_1, *ABOUT_ANOTHER] if one["resourceType"] == resource_type
    ]
    for resource in of_type:
        alone = [match(term(scope, resource_type), resource) for scope in scopes]
        assert match(term(" ".join(scopes), resource_type), resource) == any(alone)


@pytest.mark.parametrize(
    ("scopes", "found"),
    [
        ("patient/CarePlan.rs", {"c1", "c2"}),
        ("patient/CarePlan.rs?category=http://c|a", {"c1"}),
        ("user/CarePlan.rs?category=http://c|a", {"c1", "c3"}),
        ("system/CarePlan.rs", {"c1", "c2", "c3"}),
        ("system/CarePlan.rs?category=nothing", set()),
        ("system/Goal.rs", set()),
        ("patient/CarePlan.rs?category=http://c|b user/CarePlan.r?_id=c3", {"c2", "c3"}),
    ],
)
async def test_a_store_finds_what_the_terms_mean(
    store: Store, scopes: str, found: set[str]
) -> None:
    plans = [
        plan("a") | {"id": "c1"},
        plan("b") | {"id": "c2"},
        plan("a") | {"id": "c3", "subject": reference("Patient/2")},
    ]
    await put(store, patient("1"), patient("2"), *plans)
    asking = caller(scopes)
    page = await Session(store, asking, OnlyScopes(asking)).search(query("CarePlan"), 10)
    assert {one.id for one in page.matches} == found
