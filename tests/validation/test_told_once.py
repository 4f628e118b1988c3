"""A problem is told once, and none is lost by that.

Each valid example of the profiles is changed at one place: exactly one error comes of it. Changed
at two places that have nothing to do with each other, both are told. What is refused is the same
as if every rule told all it finds. The nightly form tries every change of every example.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from random import Random
from typing import Any, Final
from zlib import crc32

import pytest

from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation import checker as checking
from fhir_server.validation import containing
from fhir_server.validation.checker import Checker
from fhir_server.validation.profiles.rules import rules_of, table
from fhir_server.validation.report import Report
from tests.support import official_examples
from tests.validation.faults import faults
from tests.validation.mutating import Json, Mutation
from tests.validation.test_official import FULL

PART: Final = 1 if FULL else 4
"""One of so many changes is tried."""
PAIRS: Final = 300 if FULL else 20
"""Of each example."""
UK_CORE: Final = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-"
EXAMPLES: Final = sorted(PROFILES.glob("*/examples/valid-*.json"))
CHECKER: Final = Checker()

TOLD_TWICE: Final[dict[frozenset[str], str]] = {
    frozenset({"bdl-7", "max"}): "an entry that stands twice is one too many, and has a fullUrl "
    "that is another's: with a fullUrl of its own it is still one too many",
    frozenset({"bdl-2", "bdl-3"}): "a searchset that is called a batch says how its entries were "
    "found, and not what is asked of each: two things that a batch is not",
    frozenset({"bdl-12", "kw-event-message-1"}): "without its header a message has neither a "
    "first entry that is one, nor anything that leads to the stay",
    frozenset({"not-found", "min"}): "an entry that is left out is missed by the profile and by "
    "what refers to it: another stay would do for the one and not for the other",
    frozenset({"dom-3", "kw-rating-flag-7"}): "a Provenance that is contained twice is one too "
    "many, and has an id that is another's: with an id of its own it is still one too many",
}
"""Rules that one fault breaks, both of which are told -> why that is right."""


def resources() -> Iterator[tuple[str, Json]]:
    """The examples, and those of types that UK Core has with its profile claimed besides."""
    official = [each.values[0] for each in official_examples("UKCore-*.json")]
    for path in [*EXAMPLES, *(each for each in official if each is not None)]:
        resource: Json = json.decode_resource(path.read_bytes())
        yield path.stem, resource
        profile = UK_CORE + resource["resourceType"]
        if CHECKER.library.is_known(profile):
            meta = resource.get("meta", {})
            claims = [*meta.get("profile", []), profile]
            yield path.stem, {**resource, "meta": {**meta, "profile": claims}}


@cache
def accepted() -> tuple[Json, ...]:
    return tuple(each for _, each in resources() if not CHECKER.check(each).errors)


def rule(issue: Issue) -> str:
    """The rule, and that of R4's own which the text alone names."""
    named = re.search(r"\((\w+-\d+)\)$", issue.text)
    if "another contained resource" in issue.text:
        return "dom-3"
    return issue.rule or (named[1] if named else str(issue.code))


def test_the_examples_are_accepted_also_with_the_profile_of_uk_core() -> None:
    found = [each for each in accepted() if "meta" in each]
    claims = [url for each in found for url in each["meta"].get("profile", ())]
    assert len(accepted()) >= len(EXAMPLES)
    assert sum(url.startswith(UK_CORE) for url in claims) >= 20


def test_a_fault_is_told_once() -> None:
    tried, wrong, used = 0, [], set()
    for number, resource in enumerate(accepted()):
        for each in faults(resource):
            if crc32(f"{number} {each.kind} {each.path}".encode()) % PART:
                continue
            tried += 1
            found = CHECKER.check(each.apply(resource)).errors
            rules = frozenset(map(rule, found))
            if len(found) > 1 and rules in TOLD_TWICE:
                used.add(rules)
            elif len(found) > 1:
                wrong.append((each, found))
    assert not wrong, wrong[:3]
    assert tried > 1000
    assert used == set(TOLD_TWICE) or not FULL


# Two faults ------------------------------------------------------------------------------------


@cache
def expressions() -> dict[str, str]:
    """Those of all invariants, by key."""
    rules = (each for path in table("rules") for each in rules_of(path).constraint)
    found = {each.key: each.expression for each in rules}
    for file in PROFILES.glob("*/profile.json"):
        for element in json.decode(file.read_bytes())["differential"]["element"]:
            for one in element.get("constraint", ()):
                found[one["key"]] = one["expression"]
    return found


def are_apart(one: Mutation, other: Mutation) -> bool:
    """Neither in the object that the other is in, nor of the claims that say what is checked."""
    first, second = one.path[:-1], other.path[:-1]
    is_inside = first and second and (_begins(first, second) or _begins(second, first))
    is_within = _begins(one.path, other.path) or _begins(other.path, one.path)
    of_claims = {"meta", "resourceType"} & {*one.path, *other.path}
    return not (is_inside or is_within or of_claims)


def _begins(path: tuple[Any, ...], with_: tuple[Any, ...]) -> bool:
    return path[: len(with_)] == with_


def looks_at(issue: Issue, other: Issue) -> bool:
    """Whether an invariant names the element at which the other problem is."""
    expression = expressions().get(rule(issue), "")
    name = re.sub(r"\[\d+\]", "", str(other.expression)).rpartition(".")[2]
    return bool(re.search(rf"\b{re.escape(name)}\b", expression))


def key(issue: Issue) -> tuple[str, str]:
    """Without the indexes, which another change may shift."""
    return rule(issue), re.sub(r"\[\d+\]", "", str(issue.expression))


def pairs(number: int, resource: Json) -> Iterator[tuple[Mutation, Mutation]]:
    chosen = Random(number)  # noqa: S311 - the same ones in each run
    every = list(faults(resource))
    for _ in range(PAIRS):
        one, other = chosen.sample(every, 2)
        if are_apart(one, other):
            yield one, other


def test_two_faults_that_have_nothing_to_do_with_each_other_are_both_told() -> None:
    tried, lost = 0, []
    for number, resource in enumerate(accepted()):
        for one, other in pairs(number, resource):
            alone = [CHECKER.check(each.apply(resource)).errors for each in (one, other)]
            if not all(alone):
                continue
            tried += 1
            both = {key(each) for each in CHECKER.check(other.apply(one.apply(resource))).errors}
            for mine, others in (alone, reversed(alone)):
                for issue in mine:
                    if key(issue) in both or any(looks_at(issue, each) for each in others):
                        continue
                    lost.append((one, other, issue, both))
    assert not lost, lost[:3]
    assert tried > 100


# Nothing gets in -------------------------------------------------------------------------------


def _all_told(issues: list[Issue], *_: object) -> list[Issue]:
    return list(issues)


@contextmanager
def telling_all() -> Iterator[None]:
    """No rule waits for another: the oracle of what is refused."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checking, "told_once", _all_told)
        patched.setattr(Report, "has_wrong", lambda *_: False)
        patched.setattr(Report, "has_wrong_in", lambda *_: False)
        patched.setattr(containing, "_unread_references", lambda *_: 0)
        yield


def told(resource: Json) -> set[tuple[str | None, str]]:
    return {(each.expression, each.text) for each in CHECKER.check(resource).errors}


def test_what_is_refused_is_the_same_as_if_every_rule_told_all_it_finds() -> None:
    more = 0
    for number, resource in enumerate(accepted()):
        for one, other in pairs(number, resource):
            for changed in (one.apply(resource), other.apply(one.apply(resource))):
                with telling_all():
                    everything = told(changed)
                assert bool(told(changed)) == bool(everything), (one, other)
                more += len(everything) > len(told(changed))
    assert more > 100, "the oracle waits as well"
