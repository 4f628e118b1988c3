"""Which codes a value set has: https://hl7.org/fhir/R4/valueset.html#compositions."""

import asyncio
import json as stdlib_json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.canonicals import code_system
from fhir_server.fhir.definitions import required_codes
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import And, Queries, Search, UriIs
from fhir_server.storage.interface import Page, Position, StoredVersion
from fhir_server.terminology.codes import CodeSet, Members
from fhir_server.terminology.expansion import expansion, nested
from fhir_server.terminology.held import Held, digest
from fhir_server.terminology.library import Catalogue, Library
from fhir_server.terminology.membership import Verdict, is_member
from fhir_server.terminology.service import Terminology
from tests.search.shelf import Shelf
from tests.support import PACKAGE, needs_package

TREE: Final[Resource] = {
    "resourceType": "CodeSystem",
    "url": "http://tree",
    "content": "complete",
    "property": [{"code": "kind", "type": "code"}],
    "concept": [
        {
            "code": "a",
            "display": "The first",
            "property": [{"code": "kind", "valueCode": "k"}],
            "concept": [{"code": "b"}, {"code": "c", "concept": [{"code": "d"}]}],
        },
        {"code": "e", "property": [{"code": "kind", "valueCode": "other"}]},
    ],
}


def value_set(url: str, *include: Any, **rest: Any) -> Resource:
    return {"resourceType": "ValueSet", "url": url, "compose": {"include": [*include]}, **rest}


def filtered(*filters: tuple[str, str, str], system: str = "http://tree") -> dict[str, Any]:
    named = [{"property": name, "op": op, "value": value} for name, op, value in filters]
    return {"system": system, "filter": named}


def codes(*names: str, system: str = "http://tree") -> dict[str, Any]:
    return {"system": system, "concept": [{"code": name} for name in names]}


def service(*resources: Resource, max_codes: int = 10_000) -> Terminology:
    return Terminology(Library(Shelf(resources)), max_codes)


async def expanded(*resources: Resource) -> dict[str, set[str]]:
    """The codes of the last of the value sets."""
    found = await service(TREE, *resources).expand(resources[-1]["url"])
    return spelt_out(found)


def spelt_out(found: CodeSet) -> dict[str, set[str]]:
    assert not any(members.every for members in found.systems.values())
    return {system: set(members.codes) for system, members in found.systems.items()}


async def refused(terminology: Terminology, url: str) -> FhirError:
    with pytest.raises(FhirError) as caught:
        await terminology.expand(url)
    return caught.value


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("concept", "is-a", "a")], "abcd"),
        ([("concept", "is-a", "c")], "cd"),
        ([("concept", "descendent-of", "a")], "bcd"),
        ([("concept", "is-not-a", "c")], "abe"),
        ([("concept", "generalizes", "d")], "acd"),
        ([("kind", "=", "k")], "a"),
        ([("kind", "in", "k, other")], "ae"),
        ([("kind", "not-in", "k,other")], "bcd"),
        ([("kind", "exists", "true")], "ae"),
        ([("kind", "exists", "false")], "bcd"),
        ([("display", "=", "The first")], "a"),
        ([("code", "=", "d")], "d"),
        ([("concept", "is-a", "a"), ("kind", "exists", "false")], "bcd"),
        ([("concept", "is-a", "b"), ("concept", "is-a", "c")], ""),
    ],
)
async def test_a_filter_selects(filters: list[tuple[str, str, str]], expected: str) -> None:
    found = await expanded(value_set("http://vs", filtered(*filters)))
    assert found == {"http://tree": set(expected)}


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (("display", "regex", ".*"), "'regex' on http://tree is not one of is-a"),
        (("kind", "is-a", "a"), "is about 'concept', not 'kind'"),
        (("colour", "=", "red"), "'colour', which http://tree does not define"),
        (("concept", "is-a", "z"), "'z' is not a code of http://tree"),
        (("", "", ""), "is not one of"),
    ],
)
async def test_a_filter_that_is_not_known_is_refused(one: tuple[str, str, str], says: str) -> None:
    error = await refused(service(TREE, value_set("http://vs", filtered(one))), "http://vs")
    assert says in str(error)
    assert error.kind.status == 400


async def test_a_parent_and_a_child_may_be_properties_and_go_round_in_circles() -> None:
    def concept(code: str, **links: str) -> dict[str, Any]:
        linked = [{"code": name, "valueCode": value} for name, value in links.items()]
        return {"code": code, "property": linked}

    circle = [concept("x", parent="z"), concept("y", parent="x"), concept("z", parent="y")]
    tree = {**TREE, "concept": [*circle, concept("p", child="q"), concept("q")]}
    terminology = service(tree)
    around = await terminology.subsumed("http://tree", "x", below=True)
    assert spelt_out(around) == {"http://tree": {"x", "y", "z"}}
    below = await terminology.subsumed("http://tree", "p", below=True)
    assert spelt_out(below) == {"http://tree": {"p", "q"}}
    above = await terminology.subsumed("http://tree", "q", below=False)
    assert spelt_out(above) == {"http://tree": {"p", "q"}}


@pytest.mark.parametrize("content", ["fragment", "example", "not-present", "supplement"])
async def test_what_is_below_is_not_guessed_from_some_of_the_codes(content: str) -> None:
    with pytest.raises(FhirError, match=f"known as '{content}', not completely") as caught:
        await service({**TREE, "content": content}).subsumed("http://tree", "a", below=True)
    assert caught.value.kind is Kind.UNSUPPORTED


async def test_a_hierarchy_of_parts_does_not_subsume() -> None:
    with pytest.raises(FhirError, match="means 'part-of'; only is-a"):
        await service({**TREE, "hierarchyMeaning": "part-of"}).subsumed(
            "http://tree", "a", below=True
        )


async def test_what_is_not_known_is_named() -> None:
    terminology = service(
        TREE,
        value_set("http://vs/1", {"valueSet": ["http://vs/2"]}),
        value_set("http://vs/3", filtered(("concept", "is-a", "a"), system="http://no")),
        value_set(
            "http://vs/4", {"system": "http://tree", "version": "9"} | filtered(("a", "", ""))
        ),
    )
    for url, says in (
        ("http://vs/2", "value set 'http://vs/2' is not known"),
        ("http://vs/1", "value set 'http://vs/2' is not known"),
        ("http://vs/1|2", "value set 'http://vs/1' is not known here in version '2'"),
        ("http://vs/3", "code system 'http://no' is not known"),
        ("http://vs/4", "code system 'http://tree' is not known here in version '9'"),
        ("http://hl7.org/fhir/ValueSet/no-such", "is not known"),
        ("http://hl7.org/fhir/ValueSet/administrative-gender|3.0.2", "is not known"),
    ):
        error = await refused(terminology, url)
        assert (error.kind, error.issues[0].code) == (Kind.INVALID, "not-found")
        assert says in str(error)


async def test_a_value_set_that_includes_itself_is_refused() -> None:
    terminology = service(
        value_set("http://vs/1", {"valueSet": ["http://vs/2"]}),
        value_set("http://vs/2", {"valueSet": ["http://vs/1"]}),
    )
    error = await refused(terminology, "http://vs/1")
    assert "http://vs/1 -> http://vs/2 -> http://vs/1" in str(error)


async def test_value_sets_that_are_imported_again_and_again_are_put_together_once() -> None:
    """Fifteen steps of two imports each would else be thirty thousand."""
    levels = [
        value_set(f"http://vs/{n}", *[{"valueSet": [f"http://vs/{n + 1}"]}] * 2) for n in range(15)
    ]
    last = value_set("http://vs/15", codes("a"))
    assert await expanded(last, *reversed(levels)) == {"http://tree": {"a"}}


async def test_imports_go_only_so_deep() -> None:
    levels = [value_set(f"http://vs/{n}", {"valueSet": [f"http://vs/{n + 1}"]}) for n in range(40)]
    error = await refused(service(*levels), "http://vs/0")
    assert error.kind is Kind.TOO_COSTLY


async def test_too_many_codes_are_refused() -> None:
    terminology = service(value_set("http://vs", codes(*map(str, range(11)))), max_codes=10)
    error = await refused(terminology, "http://vs")
    assert error.kind is Kind.TOO_COSTLY
    assert "more than 10 codes" in str(error)


async def test_all_that_one_search_asks_for_counts_together() -> None:
    resources = [value_set(f"http://vs/{n}", codes(*map(str, range(6)))) for n in range(2)]
    terminology = service(*resources, max_codes=10)
    await terminology.expand("http://vs/0")
    await terminology.expand("http://vs/0")
    assert (await refused(terminology, "http://vs/1")).kind is Kind.TOO_COSTLY


async def test_work_without_end_is_refused() -> None:
    parts = [codes(f"c{number}") for number in range(3000)]
    error = await refused(service(value_set("http://vs", *parts)), "http://vs")
    assert error.kind is Kind.TOO_COSTLY


@pytest.mark.parametrize(
    ("expansion", "complete"),
    [
        ({}, True),
        ({"total": 2}, True),
        ({"total": 3}, False),
        ({"offset": 1}, False),
        ({"parameter": [{"name": "filter", "valueString": "x"}]}, False),
        ({"parameter": [{"name": "count", "valueInteger": 2}]}, False),
        ({"parameter": [{"name": "excludeNested", "valueBoolean": True}]}, True),
    ],
)
async def test_an_expansion_counts_when_it_is_complete(
    expansion: dict[str, Any], complete: bool
) -> None:
    contains = [{"system": "http://s", "code": "x"}, {"system": "http://s", "code": "y"}]
    expansion = {"timestamp": "2026-01-01", "contains": contains, **expansion}
    found = await expanded(value_set("http://vs", codes("a"), expansion=expansion))
    assert found == ({"http://s": {"x", "y"}} if complete else {"http://tree": {"a"}})
    alone = {"resourceType": "ValueSet", "url": "http://vs", "expansion": expansion}
    if not complete:
        error = await refused(service(alone), "http://vs")
        assert "no compose and no complete expansion" in str(error)


@pytest.mark.parametrize(
    ("compose", "says"),
    [
        (
            {"inactive": False, "include": [codes("a", system="http://no")]},
            "'http://no' is not known",
        ),
        ({"include": [{"version": "1"}]}, "neither a system nor a value set"),
        ({"include": [{"valueSet": ["#contained"]}]}, "'#contained' is not known"),
    ],
)
async def test_what_cannot_be_said_is_refused(compose: Any, says: str) -> None:
    resource = {"resourceType": "ValueSet", "url": "http://vs", "compose": compose}
    error = await refused(service(resource), "http://vs")
    assert says in str(error)
    assert error.kind.status == 400


async def test_the_codes_of_the_project_are_known() -> None:
    found = await service().subsumed(code_system("dsr-rating"), "red", below=True)
    assert spelt_out(found) == {code_system("dsr-rating"): {"red"}}


async def test_a_value_set_on_the_server_comes_before_that_of_the_tables() -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    gender = "http://hl7.org/fhir/administrative-gender"
    everyone = await service().expand(url)
    assert everyone.systems == {gender: Members(frozenset(), every=True)}
    assert spelt_out(await service(value_set(url, codes("x"))).expand(url)) == {
        "http://tree": {"x"}
    }


# Whatever is stored

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *(
                        "include",
                        "exclude",
                        "system",
                        "concept",
                        "code",
                        "filter",
                        "property",
                        "op",
                    ),
                    *(
                        "value",
                        "valueSet",
                        "version",
                        "expansion",
                        "contains",
                        "total",
                        "parameter",
                    ),
                    *("name", "abstract", "inactive", "valueCode"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(anything, anything, anything)
def test_whatever_is_stored_the_answer_is_codes_or_a_refusal(
    compose: Any, expanded: Any, concept: Any
) -> None:
    tree = {**TREE, "concept": concept, "property": concept}
    stored = {"resourceType": "ValueSet", "url": "http://vs"}
    stored |= {"compose": compose, "expansion": expanded}
    for asked in (
        service(tree, stored).expand("http://vs"),
        service(tree).subsumed("http://tree", "a", below=True),
    ):
        with suppress(FhirError):
            assert isinstance(asyncio.run(asked), CodeSet)
    known = Catalogue()
    for kind, held in (("CodeSystem", tree), ("ValueSet", stored)):
        known.put(kind, held["url"], Held(digest(json.encode(held)), held))
    with suppress(FhirError):
        rows = expansion(known, "http://vs").concepts
        assert nested(known, rows, "cy", designations=True) is not None
    with suppress(FhirError):
        assert isinstance(is_member(known, "http://vs", "http://tree", "a"), Verdict)


# The official definitions


class Official:
    """HL7's own value sets and code systems, by their address."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        raise AssertionError((resource_type, resource_id))

    async def search(self, query: Search, count: int, after: Position | None = None) -> Page:
        assert (count, after) == (100, None)
        assert not isinstance(query, Queries)
        where = query.where.nodes[0] if isinstance(query.where, And) else query.where
        assert isinstance(where, UriIs)
        found = official().get((query.resource_type, where.uri))
        body = json.encode(found) if found else b""
        return Page([StoredVersion("", "", 1, 0, "PUT", body)] if found else [], None)


@cache
def official() -> Mapping[tuple[str, str], Resource]:
    found = {}
    with tarfile.open(PACKAGE) as archive:
        for member in archive:
            if member.name.startswith(("package/ValueSet-", "package/CodeSystem-")):
                file = archive.extractfile(member)
                assert file is not None
                resource = stdlib_json.load(file)
                found[resource["resourceType"], resource["url"]] = resource
    return found


@needs_package
async def test_the_value_sets_of_r4_have_the_codes_that_its_tables_say() -> None:
    """The tables are put together by a tool that shares nothing with the service."""
    compared = 0
    for kind, url in official():
        expected = required_codes(url) if kind == "ValueSet" else None
        if expected is None:
            continue
        found = await Terminology(Library(Official())).expand(url)
        for system, members in found.systems.items():
            if members.every:
                known = official()["CodeSystem", system]
                everything = await everything_of(known)
                assert everything - members.codes == expected[system], url
            else:
                assert members.codes == expected.get(system, frozenset()), url
        compared += 1
    assert compared > 150


async def everything_of(resource: Resource) -> frozenset[str]:
    selects_all = value_set(
        "http://all", filtered(("code", "exists", "true"), system=resource["url"])
    )
    known = {**resource, "hierarchyMeaning": "is-a"}
    found = await service(known, selects_all).expand("http://all")
    return found.of(resource["url"]).codes


@needs_package
@pytest.mark.parametrize(("name", "grown"), [("inactive", True), ("yesnodontknow", False)])
async def test_a_value_set_is_composed_as_its_authors_expanded_it(name: str, grown: bool) -> None:
    """Since one of the expansions was made, its code system has got more codes."""
    whole = next(one for (_, url), one in official().items() if url.endswith(f"ValueSet/{name}"))
    composed = {key: value for key, value in whole.items() if key != "expansion"}
    expanded = {key: value for key, value in whole.items() if key != "compose"}
    others = [
        one
        for (kind, url), one in official().items()
        if kind == "CodeSystem" and url.endswith(("v3-ActMood", "v2-0136"))
    ]
    imported = [one for (_, url), one in official().items() if url.endswith("ValueSet/v2-0136")]
    url = whole["url"]
    by_composing = await service(composed, *others, *imported).expand(url)
    known = spelt_out(await service(expanded).expand(url))
    every = {system: await members_of(system, others, by_composing) for system in known}
    assert every == known or (grown and all(known[one] < every[one] for one in known))


async def members_of(system: str, others: list[Resource], found: CodeSet) -> set[str]:
    members = found.of(system)
    if not members.every:
        return set(members.codes)
    resource = next(one for one in others if one["url"] == system)
    return set(await everything_of(resource) - members.codes)
