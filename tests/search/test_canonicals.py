"""Canonical references in chains: https://hl7.org/fhir/R4/references.html#canonical."""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.match import match, others
from fhir_server.storage.interface import Store
from tests.storage.questions import delete, found, put, query

SURVEY: Final = "https://keyworking.example/Questionnaire/survey"


def questionnaire(resource_id: str, url: str, version: str | None, title: str) -> Resource:
    named = {} if version is None else {"version": version}
    return {
        "resourceType": "Questionnaire",
        "id": resource_id,
        "url": url,
        "status": "active",
        "title": title,
        **named,
    }


def answers(resource_id: str, canonical: str) -> Resource:
    status = {"status": "completed", "questionnaire": canonical}
    return {"resourceType": "QuestionnaireResponse", "id": resource_id, **status}


async def surveys(store: Store) -> None:
    await put(
        store,
        questionnaire("one", SURVEY, "1.0", "First"),
        questionnaire("two", SURVEY, "2.0", "Second"),
        questionnaire("bare", f"{SURVEY}-bare", None, "Bare"),
        questionnaire("gone", f"{SURVEY}-gone", "1.0", "Gone"),
        answers("any", SURVEY),
        answers("old", f"{SURVEY}|1.0"),
        answers("new", f"{SURVEY}|2.0"),
        answers("never", f"{SURVEY}|3.0"),
        answers("to-bare", f"{SURVEY}-bare"),
        answers("to-bare-1", f"{SURVEY}-bare|1.0"),
        answers("to-gone", f"{SURVEY}-gone|1.0"),
    )
    await delete(store, "Questionnaire", "gone")


ASKED: Final = {
    "QuestionnaireResponse?questionnaire.title=First": {"any", "old"},
    "QuestionnaireResponse?questionnaire:Questionnaire.title=second": {"any", "new"},
    "QuestionnaireResponse?questionnaire.title=Bare": {"to-bare"},
    "QuestionnaireResponse?questionnaire.title=Gone": set[str](),
    "QuestionnaireResponse?questionnaire.version=1.0&status=completed": {"any", "old"},
    "QuestionnaireResponse?questionnaire.title:missing=false": {"any", "old", "new", "to-bare"},
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:_id=old": {"one"},
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:_id=any": {"one", "two"},
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:_id=to-bare-1": set[str](),
    "Questionnaire?_has:QuestionnaireResponse:questionnaire:status=completed": {
        *("one", "two", "bare"),
    },
    "Questionnaire?title:contains=s&_has:QuestionnaireResponse:questionnaire:status=completed": {
        *("one", "two"),
    },
}


@pytest.mark.parametrize("search", ASKED)
async def test_a_canonical_leads_by_url_and_version(store: Store, search: str) -> None:
    await surveys(store)
    assert set(await found(store, search)) == ASKED[search]


def world(random: Random) -> Iterator[Resource]:
    urls, versions = (SURVEY, f"{SURVEY}/2", f"{SURVEY}|x"), ("1.0", "2.0", "é")
    for number in range(4):
        version = random.choice((None, *versions))
        yield questionnaire(f"q{number}", random.choice(urls), version, random.choice("ab"))
    for number in range(4):
        definition = questionnaire(f"d{number}", random.choice(urls), random.choice(versions), "a")
        related = {"type": "depends-on", "resource": _canonical(random, urls, versions)}
        more: dict[str, Any] = {"resourceType": "PlanDefinition", "relatedArtifact": [related]}
        yield definition | more
    for number in range(8):
        yield answers(f"r{number}", _canonical(random, urls, versions))
        plan = {"resourceType": "CarePlan", "id": f"c{number}", "status": "active"}
        canonicals = [_canonical(random, urls, versions) for _ in range(2)]
        yield plan | {"intent": "plan", "instantiatesCanonical": canonicals}


def _canonical(random: Random, urls: tuple[str, ...], versions: tuple[str, ...]) -> str:
    return random.choice(urls) + random.choice(("", *(f"|{version}" for version in versions)))


SEARCHES: Final = (
    *("QuestionnaireResponse?questionnaire.title=a", "CarePlan?instantiates-canonical.title=a"),
    *("CarePlan?instantiates-canonical:PlanDefinition.title=a",),
    *("CarePlan?instantiates-canonical:PlanDefinition.depends-on:Questionnaire.title=a",),
    *("Questionnaire?_has:CarePlan:instantiates-canonical:status=active",),
    *("PlanDefinition?_has:CarePlan:instantiates-canonical:_id=c0,c1&title=a",),
    *("PlanDefinition?_has:PlanDefinition:depends-on:title=a",),
    *("Questionnaire?_has:PlanDefinition:depends-on:_has:CarePlan:instantiates-canonical:_id=c3",),
    *("PlanDefinition?depends-on:Questionnaire.title:missing=true",),
)


async def test_the_store_finds_by_canonicals_what_they_mean(store: Store) -> None:
    hits = 0
    for seed in range(6):
        resources = list(world(Random(seed)))  # noqa: S311
        stored = await put(store, *resources)
        bodies = [json.decode_resource(version.body) for version in stored]
        known = others(bodies)
        for search, narrow in product(SEARCHES, ("", "&_id=q0,q1,d0,d1,r0,r1,c0,c1")):
            asked = query(search + narrow)
            of_type = [one for one in bodies if one["resourceType"] == asked.resource_type]
            expected = {one["id"] for one in of_type if match(asked.where, one, known)}
            assert set(await found(store, search + narrow, 3)) == expected, search
            hits += len(expected)
    assert hits > 50
