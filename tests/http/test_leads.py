"""Where includes lead is the same, whatever was asked before of the same resources."""

from collections.abc import Mapping, Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.access.session import StoredVersion
from fhir_server.fhir import json
from fhir_server.fhir.definitions import SearchParameter
from fhir_server.interactions import leads as module
from fhir_server.interactions.leads import Around, Leads, leads
from fhir_server.search.ast import Include
from fhir_server.search.parameters import BUILT_IN, ParameterSet
from tests.search import generate
from tests.search.comparing import SEEDS, random_of
from tests.storage.questions import BASE

INCLUDES: Final = (
    Include("*", "*"),
    Include("CarePlan", "subject"),
    Include("CarePlan", "subject", "Patient"),
    Include("CarePlan", "*", "Group"),
    Include("CarePlan", "instantiates-canonical"),
    Include("Task", "*"),
    Include("CarePlan", "subject", reverse=True),
)


def stored(kind: str, number: int, seed: int) -> StoredVersion:
    resource = generate.linked(kind, str(number), random_of(seed), 3)
    return StoredVersion(kind, str(number), 1, seed, "PUT", json.encode(resource))


def afresh(page: Sequence[StoredVersion], asked: Sequence[Include], around: Around) -> Leads:
    kept, module._before._known = module._before._known, {}
    try:
        return leads(page, asked, around, ())
    finally:
        module._before._known = kept


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(generate.WORLD), min_size=6, max_size=6),
    seed=SEEDS,
    asked=st.lists(
        st.lists(st.sampled_from(INCLUDES), min_size=1, max_size=2, unique=True), max_size=3
    ),
    base=st.sampled_from((BASE, "https://elsewhere.example/fhir")),
)
def test_what_is_remembered_leads_where_it_led(
    kinds: list[str], seed: int, asked: list[list[Include]], base: str
) -> None:
    versions = [stored(kind, number, seed + number) for number, kind in enumerate(kinds)]
    for known in (BUILT_IN, ParameterSet()):
        around = Around(base, known)
        for includes in asked:
            for page in (versions, versions[::-1], versions[::2], versions[1::2], versions):
                assert leads(page, includes, around, ()) == afresh(page, includes, around)


class Bare(ParameterSet):
    """Where nothing refers to anything, as before a parameter was added."""

    def indexed(self, resource_type: str) -> Mapping[str, SearchParameter]:
        del resource_type
        return {}


def test_a_parameter_that_is_added_is_followed() -> None:
    body = json.encode({"resourceType": "Flag", "subject": {"reference": "Patient/1"}})
    page, asked = [StoredVersion("Flag", "1", 1, 1, "PUT", body)], [Include("Flag", "subject")]
    for _ in range(2):
        assert not leads(page, asked, Around(BASE, Bare()), ()).names
        assert leads(page, asked, Around(BASE, BUILT_IN), ()).names == {("Patient", "1")}


@pytest.mark.parametrize(("most", "asked"), [(5, 100), (1000, 3)])
def test_what_is_remembered_is_bounded(
    monkeypatch: pytest.MonkeyPatch, most: int, asked: int
) -> None:
    monkeypatch.setattr(module, "_MOST", most)
    monkeypatch.setattr(module, "_MOST_ASKED", asked)
    monkeypatch.setattr(module, "_before", before := module._Before())
    for number in range(20):
        around = Around(f"{BASE}/{number}", BUILT_IN)
        page = [stored("Flag", one, one) for one in range(4)]
        leads(page, [Include("Flag", "subject")], around, ())
        assert sum(len(led) for _, led in before._known.values()) <= most
        assert len(before._known) <= asked
