"""Each rule of each profile has an example that keeps it and one that breaks it and nothing else.

fhirpathpy judges the rules (`tests.profiles.rules`), fhir.resources the structure. An invalid
example is named after the rule: `invalid-period-start-min.json`, `invalid-kw-consent-1.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.operationoutcome import OperationOutcome

from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.structure import check_resource
from tests.profiles.rules import (
    FOLDERS,
    Rule,
    broken,
    definition,
    holds,
    is_extension,
    load,
    rules,
    undecided,
)

_KEPT = {"resourceType", "status", "lifecycleStatus", "code", "description"}
"""What R4 itself requires, and without which nothing else is checked."""
NAMES = [folder.name for folder in FOLDERS]
VALID = sorted(PROFILES.glob("*/examples/valid-*.json"))
OUTCOMES = sorted(PROFILES.glob("*/examples/invalid-*.outcome.json"))
INVALID = [path.with_name(path.name.replace(".outcome", "")) for path in OUTCOMES]
CODES = {
    "min": "required",
    "max": "structure",
    "type": "structure",
    "target": "value",
    "pattern": "value",
    "slice": "required",
    "binding": "code-invalid",
    "profile": "required",
}
"""Issue types by what the rule is about: https://hl7.org/fhir/R4/valueset-issue-type.html"""
TOLD = {"target": "targetProfile", "slice": "min", "profile": "min"}
"""What the rule is called in an outcome, where not as here."""


def _name(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.stem}"


def profile_of(path: Path) -> str:
    return path.parent.parent.name


def rule_of(path: Path) -> Rule:
    """The rule that an invalid example is named after."""
    slug = path.stem.removeprefix("invalid-")
    (found,) = [rule for rule in rules(profile_of(path)) if rule.slug == slug]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_an_example_that_breaks_it(name: str) -> None:
    found = {path.stem.removeprefix("invalid-") for path in INVALID if profile_of(path) == name}
    assert found == {rule.slug for rule in rules(name)}


def test_every_invalid_example_has_its_outcome() -> None:
    files = {path for path in PROFILES.glob("*/examples/*.json") if ".outcome." not in path.name}
    assert files == {*VALID, *INVALID}
    assert {profile_of(path) for path in VALID} == set(NAMES)
    assert len(INVALID) > 250


@pytest.mark.parametrize("path", VALID, ids=_name)
def test_a_valid_example_keeps_every_rule(path: Path) -> None:
    resource = load(path)
    assert broken(profile_of(path), resource) == []
    assert resource["id"] == f"{profile_of(path)}-{path.stem.removeprefix('valid-')}"


@pytest.mark.parametrize("path", VALID, ids=_name)
def test_an_invariant_is_true_or_false_whatever_is_missing(path: Path) -> None:
    """Of an empty result, engines make what they like."""
    resource = load(path)
    for key in resource.keys() - _KEPT:
        less = {name: value for name, value in resource.items() if name != key}
        assert undecided(profile_of(path), less) == [], key


@pytest.mark.parametrize("path", [*VALID, *INVALID], ids=_name)
def test_an_example_is_of_r4_and_of_nobody(path: Path) -> None:
    resource = load(path)
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    assert check_resource(resource) == []
    for tagged in _resources(resource):
        tags = tagged.get("meta", {}).get("tag", [])
        assert [tag["code"] for tag in tags] == ["HTEST"] or path in INVALID


@pytest.mark.parametrize("path", VALID, ids=_name)
def test_an_example_names_only_synthetic_people(path: Path) -> None:
    for node in _objects(load(path)):
        if node.get("system") == canonicals.NHS_NUMBER:
            assert node["value"].startswith("999")
            assert nhs_number.is_valid(node["value"])
        if "family" in node:
            assert node["family"].startswith("Synthetic-")


@pytest.mark.parametrize("path", VALID, ids=_name)
def test_an_example_of_a_profile_claims_it(path: Path) -> None:
    name = profile_of(path)
    claimed = load(path)["meta"].get("profile", [])
    expected = [] if is_extension(name) else [definition(name)["url"]]
    assert claimed == expected


@pytest.mark.parametrize("path", INVALID, ids=_name)
def test_an_invalid_example_breaks_its_rule_and_no_other(path: Path) -> None:
    name, resource = profile_of(path), load(path)
    assert broken(name, resource) == [rule_of(path).name]


@pytest.mark.parametrize("path", INVALID, ids=_name)
def test_an_invalid_example_differs_in_one_place_from_one_that_keeps_the_rule(path: Path) -> None:
    folder, invalid, rule = path.parent, load(path), rule_of(path)
    valid = [load(one) for one in sorted(folder.glob("valid-*.json"))]
    (base,) = [one for one in valid if one["id"] == invalid["id"]]
    assert len(list(_differences(base, invalid))) == 1
    assert holds(rule, base)


@pytest.mark.parametrize("path", OUTCOMES, ids=_name)
def test_an_outcome_says_which_rule_is_broken_and_where(path: Path) -> None:
    outcome = load(path)
    OperationOutcome.model_validate(outcome)
    (issue,) = outcome["issue"]
    rule = rule_of(path.with_name(path.name.replace(".outcome", "")))
    assert issue["severity"] == rule.severity
    kind = rule.name.rpartition(" ")[2]
    assert issue["code"] == CODES.get(kind, "invariant")
    (told,) = issue["details"]["coding"]
    assert told["code"] == TOLD.get(kind, kind)
    assert told["system"] == definition(rule.profile or profile_of(path))["url"]
    (place,) = issue["expression"]
    resource = load(path.with_name(path.name.replace(".outcome", "")))
    assert place.partition(".")[0] == resource["resourceType"]
    _assert_is_there(resource, place, missing=issue["code"] == "required")


def _assert_is_there(resource: dict[str, Any], place: str, *, missing: bool) -> None:
    """The place leads to something, or to where something that is missing should be."""
    node: Any = resource
    *before, last = place.replace("[", ".[").split(".")[1:] or [""]
    for step in before:
        node = _within(node, step)
    if last and not missing:
        assert _within(node, last) is not None


def _within(node: Any, step: str) -> Any:
    if step.startswith("["):
        return node[int(step[1:-1])]
    named = [key for key in node if key == step or _is_choice(step, key)]
    return node[named[0]]


def _is_choice(step: str, key: str) -> bool:
    """`value` is written `valueString` in JSON."""
    return key.startswith(step) and key[len(step) :][:1].isupper()


def _differences(left: Any, right: Any) -> Iterator[tuple[Any, Any]]:
    """Members and items in which the two differ, each as far down as both still have it.

    Elements of a choice count as one, as does one value that takes the place of another.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        if left.get("resourceType") != right.get("resourceType"):
            yield left, right
            return
        gone, come = left.keys() - right.keys(), right.keys() - left.keys()
        yield from [(gone, come)] if gone or come else []
        for key in left.keys() & right.keys():
            yield from _differences(left[key], right[key])
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for one, other in zip(left, right, strict=True):
            yield from _differences(one, other)
    elif left != right:
        yield left, right


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for item in node:
            yield from _objects(item)


def _resources(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """A Bundle's entries too; what is contained belongs to its container."""
    entries = [entry["resource"] for entry in resource.get("entry", ())]
    return [resource, *entries]


def test_the_risk_questions_are_those_that_the_code_asks() -> None:
    asked = load(PROFILES / "kw-questionnaire" / "dsr-risk.json")
    assert asked["url"] == canonicals.DSR_RISK_QUESTIONNAIRE
    assert {item["linkId"]: item["text"] for item in asked["item"]} == canonicals.RISK_QUESTIONS
    assert broken("kw-questionnaire", asked) == []
    assert check_resource(asked) == []


def test_examples_refer_to_one_another() -> None:
    """As far as the profiles have them: together they are one story."""
    known = {f"{load(path)['resourceType']}/{load(path)['id']}" for path in VALID}
    named = {
        node["reference"]
        for path in VALID
        for node in _objects(load(path))
        if isinstance(node.get("reference"), str) and "/kw-" in node["reference"]
    }
    types = {reference.partition("/")[0] for reference in known}
    missing = {one for one in named - known if one.partition("/")[0] in types}
    assert missing == set()


def test_json_is_written_alike() -> None:
    for path in PROFILES.glob("*/**/*.json"):
        if path.parent.name != "search-parameters":
            text = path.read_text("utf-8")
            assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
