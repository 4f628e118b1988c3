"""Three ways to say what is in a value set agree: codes as sets, code by code, and expanded."""

from collections.abc import Callable
from time import thread_time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.terminology.compose import Composer
from fhir_server.terminology.expansion import expansion
from fhir_server.terminology.held import Held, digest
from fhir_server.terminology.library import Catalogue
from fhir_server.terminology.membership import Verdict, is_member

CODES: Final = "abcdef"
SYSTEMS: Final = ("http://one", "http://two")


def tree(url: str, **rest: Any) -> Resource:
    """a above b and c, c above d; e is not in use any more, f stands alone."""
    inactive = [{"code": "inactive", "valueBoolean": True}]
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "content": "complete",
        "property": [{"code": "inactive", "type": "boolean"}],
        "concept": [
            {"code": "a", "concept": [{"code": "b"}, {"code": "c", "concept": [{"code": "d"}]}]},
            {"code": "e", "property": inactive},
            {"code": "f"},
        ],
        **rest,
    }


def catalogue(*resources: Resource) -> Catalogue:
    found = Catalogue()
    for one in resources:
        held = Held(digest(json.encode(one)), one)
        found.put(one["resourceType"], one["url"], held)
    return found


parts = st.one_of(
    st.builds(lambda system: {"system": system}, st.sampled_from(SYSTEMS)),
    st.builds(
        lambda system, codes: {"system": system, "concept": [{"code": code} for code in codes]},
        st.sampled_from(SYSTEMS),
        st.lists(st.sampled_from(CODES), min_size=1, max_size=4),
    ),
    st.builds(
        lambda system, op, code: {
            "system": system,
            "filter": [{"property": "concept", "op": op, "value": code}],
        },
        st.sampled_from(SYSTEMS),
        st.sampled_from(("is-a", "descendent-of", "is-not-a", "generalizes")),
        st.sampled_from(CODES),
    ),
    st.builds(
        lambda system, op, value: {
            "system": system,
            "filter": [{"property": "inactive", "op": op, "value": value}],
        },
        st.sampled_from(SYSTEMS),
        st.sampled_from(("=", "in", "not-in", "exists")),
        st.sampled_from(("true", "false", "false,true")),
    ),
)


@st.composite
def value_sets(draw: st.DrawFn) -> list[Resource]:
    """Each includes and excludes parts of systems, and those before it."""
    made: list[Resource] = []
    for number in range(draw(st.integers(1, 4))):
        urls = [one["url"] for one in made]
        imports = st.lists(st.sampled_from(urls), max_size=2) if urls else st.just([])
        compose: Resource = {
            side: [
                {**part, **({"valueSet": some} if (some := draw(imports)) else {})}
                for part in draw(st.lists(parts, min_size=least, max_size=3))
            ]
            for side, least in (("include", 1), ("exclude", 0))
        }
        if draw(st.booleans()):
            compose["inactive"] = False
        url = f"http://vs/{number}"
        made.append({"resourceType": "ValueSet", "url": url, "compose": compose})
    return made


@given(value_sets())
def test_sets_and_single_codes_and_expansions_agree(made: list[Resource]) -> None:
    known = catalogue(*map(tree, SYSTEMS), *made)
    url = made[-1]["url"]
    as_sets = Composer(known).codes(url)
    in_order = [(one.system, one.code) for one in expansion(known, url).concepts]
    assert len(in_order) == len({*in_order})
    for code in CODES:
        anywhere = any(is_member(known, url, system, code) is Verdict.YES for system in SYSTEMS)
        assert is_member(known, url, "", code) is Verdict.of(anywhere)
    for system in SYSTEMS:
        members = as_sets.of(system)
        for code in CODES:
            holds = (code in members.codes) is not members.every
            assert is_member(known, url, system, code) is Verdict.of(holds), (system, code)
            assert ((system, code) in in_order) is holds
        assert is_member(known, url, system, "x") is Verdict.NO
    assert is_member(known, url, "http://three", "a") is Verdict.NO


@given(value_sets())
def test_what_is_said_without_knowing_all_stays_true(made: list[Resource]) -> None:
    """A yes or no that is given while the second system is not known is no guess."""
    whole = catalogue(*map(tree, SYSTEMS), *made)
    part = catalogue(tree(SYSTEMS[0]), *made)
    url = made[-1]["url"]
    for system in SYSTEMS:
        for code in CODES:
            told = is_member(part, url, system, code)
            assert told in (Verdict.UNKNOWN, is_member(whole, url, system, code))


@pytest.mark.parametrize(
    "part",
    [
        {"concept": [{"code": "E"}, {"code": "D"}]},
        {"filter": [{"property": "code", "op": "in", "value": "E, D"}]},
    ],
)
def test_case_means_nothing_to_a_system_that_says_so(part: Resource) -> None:
    """https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.caseSensitive"""
    listing = {
        "resourceType": "ValueSet",
        "url": "http://vs",
        "compose": {"include": [{"system": "http://one", **part}]},
    }
    others = {
        "resourceType": "ValueSet",
        "url": "http://others",
        "compose": {
            "include": [{"system": "http://one"}],
            "exclude": [{"system": "http://one", **part}],
        },
    }
    known = catalogue(tree("http://one", caseSensitive=False), listing, others)
    assert {one.code: one.inactive for one in expansion(known, "http://vs").concepts} == {
        "e": True,
        "d": False,
    }
    assert {one.code for one in expansion(known, "http://others").concepts} == {*"abcf"}
    for code, here in (("d", Verdict.YES), ("D", Verdict.YES), ("a", Verdict.NO)):
        assert is_member(known, "http://vs", "http://one", code) is here
        assert is_member(known, "http://others", "http://one", code) is here.negated()
    strict = catalogue(tree("http://one"), listing)
    assert is_member(strict, "http://vs", "http://one", "d") is Verdict.NO


def test_a_fragment_says_yes_and_never_no() -> None:
    everything = {
        "resourceType": "ValueSet",
        "url": "http://vs",
        "compose": {"include": [{"system": "http://one"}]},
    }
    known = catalogue(tree("http://one", content="fragment"), everything)
    assert is_member(known, "http://vs", "http://one", "a") is Verdict.YES
    assert is_member(known, "http://vs", "http://one", "x") is Verdict.UNKNOWN


def test_circles_and_depth_are_refused_here_too() -> None:
    def imports(number: int, other: int) -> Resource:
        include = [{"valueSet": [f"http://vs/{other}"]}]
        compose = {"include": include}
        return {"resourceType": "ValueSet", "url": f"http://vs/{number}", "compose": compose}

    circle = catalogue(imports(1, 2), imports(2, 1))
    with pytest.raises(FhirError, match="includes itself"):
        is_member(circle, "http://vs/1", "http://one", "a")
    deep = catalogue(*(imports(number, number + 1) for number in range(30)))
    with pytest.raises(FhirError) as caught:
        is_member(deep, "http://vs/0", "http://one", "a")
    assert caught.value.kind is Kind.TOO_COSTLY


def seconds(asked: Callable[[], object]) -> float:
    """Of this thread's own work, of the fastest of three times."""
    times = []
    for _ in range(3):
        begun = thread_time()
        asked()
        times.append(thread_time() - begun)
    return min(times)


@pytest.mark.parametrize("listing", ["compose", "expansion"])
def test_a_long_list_costs_no_more_than_a_short_one(listing: str) -> None:
    def of(length: int) -> Callable[[], object]:
        codes = [{"system": "http://one", "code": f"{number}"} for number in range(length)]
        concepts = [{"code": one["code"]} for one in codes]
        include = [{"system": "http://one", "concept": concepts}]
        told = {"compose": {"include": include}, "expansion": {"contains": codes}}[listing]
        known = catalogue({"resourceType": "ValueSet", "url": "vs", listing: told})
        last = str(length - 1)
        assert is_member(known, "vs", "http://one", last) is Verdict.YES
        assert is_member(known, "vs", "http://one", "none") is Verdict.NO
        return lambda: [is_member(known, "vs", "http://one", last) for _ in range(100)]

    assert seconds(of(50_000)) < 20 * seconds(of(10)) + 0.01
