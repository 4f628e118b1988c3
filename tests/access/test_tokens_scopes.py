"""Scopes of SMART 1 and 2 (class 26): what cannot be read exactly grants nothing."""

import string
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.caller import Grant, Role
from fhir_server.access.tokens.scopes import LETTERS, grants, parsed
from fhir_server.fhir.definitions import resource_types
from fhir_server.interactions.permission import _LETTERS
from fhir_server.operation.registry import _READING, _WRITING, load
from fhir_server.setting_groups.tokens import TokenSettings
from tests.support import REPOSITORY

LEVELS: Final = st.sampled_from(["patient", "user", "system"])
TYPES: Final = st.sampled_from(["*", *resource_types()])
SUBSETS: Final = st.sets(st.sampled_from(LETTERS), min_size=1)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(LEVELS, TYPES, SUBSETS)
def test_every_scope_of_version_2_grants_its_letters(
    level: str, resource_type: str, letters: set[str]
) -> None:
    text = "".join(letter for letter in LETTERS if letter in letters)
    assert parsed(f"{level}/{resource_type}.{text}") == Grant(
        level, resource_type, frozenset(letters)
    )


@given(LEVELS, TYPES, st.permutations(LETTERS), st.integers(2, 5))
def test_letters_in_another_order_grant_nothing(
    level: str, resource_type: str, order: list[str], count: int
) -> None:
    text = "".join(order[:count])
    found = parsed(f"{level}/{resource_type}.{text}")
    assert (found is not None) == (list(text) == sorted(text, key=LETTERS.index))


@pytest.mark.parametrize(("word", "letters"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_words_of_version_1_mean_letters(word: str, letters: str) -> None:
    assert parsed(f"patient/Observation.{word}") == Grant(
        "patient", "Observation", frozenset(letters)
    )


@given(LEVELS, TYPES, st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_criteria_come_as_they_were_encoded(
    level: str, resource_type: str, pairs: list[tuple[str, str]]
) -> None:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    found = parsed(f"{level}/{resource_type}.rs?{query}")
    assert found == Grant(level, resource_type, frozenset("rs"), tuple(pairs))


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "openid",
        "fhirUser",
        "launch/patient",
        "offline_access",
        "patient/",
        "patient/*",
        "patient/*.",
        "patient/*.?category=x",
        "patient/.rs",
        "*/Patient.rs",
        "Patient/Patient.rs",
        "patients/Patient.rs",
        "patient/patient.rs",
        "patient/Patients.rs",
        "patient/Resource.rs",
        "patient/DomainResource.rs",
        "patient/Pat*.rs",
        "patient/**.rs",
        "patient/Patient.sr",
        "patient/Patient.rr",
        "patient/Patient.RS",
        "patient/Patient.rsx",
        "patient/Patient.Read",
        "patient/Patient.readwrite",
        "patient/Patient.read.write",
        "patient/Patient.read?category=x",
        "patient/Patient.*?category=x",
        "patient/Patient.rs?",
        "patient/Patient.rs?category",
        "patient/Patient.rs?category=",
        "patient/Patient.rs?=x",
        "patient/Patient.rs?a=b&&c=d",
        "patient/Patient.rs?a=%ff",
        "patient/Patient.rs?a=%00",
        "patient/Patient.rs\n",
        " patient/Patient.rs",
        "system/Pаtient.rs",
        "patient/Patient.rs?" + "&".join(f"a=b{n}" for n in range(21)),
        "patient\\Patient.rs",
        "patient/Patient,CarePlan.rs",
        "-patient/Patient.rs",
    ],
)
def test_class_26_what_is_malformed_or_of_another_sort_grants_nothing(scope: str) -> None:
    assert parsed(scope) is None


@given(st.text(max_size=60))
def test_any_text_grants_nothing_or_what_it_says(text: str) -> None:
    found = parsed(text)
    if found is not None:
        assert text.startswith(f"{found.level}/{found.resource_type}.")
        assert found.letters <= set(LETTERS)


@given(st.lists(st.text(string.printable.strip(), max_size=20), max_size=6))
def test_scopes_that_grant_nothing_take_nothing_from_those_that_do(others: list[str]) -> None:
    both = grants(" ".join([*others, "system/CarePlan.rs", *others]))
    assert Grant("system", "CarePlan", frozenset("rs")) in both


def test_versions_may_be_mixed_and_doubles_count_once() -> None:
    told = "patient/CarePlan.read user/CarePlan.cu patient/CarePlan.read patient/CarePlan.rs"
    assert grants(told) == (
        Grant("patient", "CarePlan", frozenset("rs")),
        Grant("user", "CarePlan", frozenset("cu")),
    )
    assert grants(["patient/CarePlan.rs openid", "user/CarePlan.cu"]) == grants(told)
    assert grants("") == grants([]) == ()


def test_the_page_of_tokens_names_every_setting_claim_interaction_and_role() -> None:
    text = (REPOSITORY / "docs" / "tokens.md").read_text()
    told = ("token_", "jwks", "claim_", "introspection_url", "introspection_cache", "issuer", "aud")
    settings = [name for name in TokenSettings.model_fields if name.startswith(told)]
    named = {f"KEYWORKING_{name.upper()}" for name in settings}
    named |= {role.value for role in Role} | {code for code in _LETTERS if code != "batch"}
    assert {name for name in named if name not in text} == set()
    for code, letters in _LETTERS.items():
        (row,) = (
            line for line in text.splitlines() if line.startswith("| `") and f"`{code}`" in line
        )
        assert f"| `{letters}`" in row, code


def test_the_page_of_tokens_tells_the_scopes_of_operations_that_declare_them() -> None:
    lines = (REPOSITORY / "docs" / "tokens.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    for operation in load(("operations", "fhir_operations")):
        if operation.scopes not in (_READING, _WRITING):
            (row,) = (line for line in rows if f"`${operation.code}`" in line)
            for place, letters in operation.scopes:
                assert letters in row
                assert place[0] == "{" or f"`{place}.{letters}`" in row
