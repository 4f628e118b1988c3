"""The code systems of the project: https://hl7.org/fhir/R4/codesystem.html."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.codesystem import CodeSystem

from fhir_server.fhir import canonicals

FOLDER = Path(__file__).parents[2] / "terminology"
FILES = sorted(FOLDER.glob("CodeSystem-*.json"))
EXPECTED = {
    "dsr-rating": {"red", "amber", "green", "blue"},
    "flag-category": {"dsr-admission-risk"},
    "pathway-state": {
        *("referred", "consent-pending", "awaiting-allocation", "information-gathering"),
        *("planning", "plan-active", "in-hospital", "discharge-planning", "step-down"),
        *("closed", "cancelled"),
    },
    "episode-type": {"keyworking"},
    "consent-category": {"register", "keyworking", "cetr"},
    "care-plan-category": {
        *("keyworking-plan", "discharge-plan", "step-down-plan", "transition-plan"),
    },
    "care-team-role": {
        *("keyworker", "family-support-worker", "strategic-keyworker", "lead-professional"),
        *("camhs", "social-worker", "education", "gp", "inpatient-rc", "advocate"),
        "parent-carer",
    },
    "rating-end-reason": {
        *("superseded", "step-down", "consent-withdrawn", "aged-out", "deceased"),
        "added-in-error",
    },
    "episode-close-reason": {
        *("stepped-down", "moved-away", "aged-out", "deceased", "declined", "out-of-scope"),
    },
    "task": {
        *("contact-hospital", "obtain-consent", "contact-family", "contact-mdt", "first-visit"),
        *("planning-visit", "root-cause-analysis", "review-consent"),
        *("review-break-glass", "check-identity", "escalation", "delay-reason", "exit"),
        "bereavement",
    },
    "business-status": {"overdue"},
}


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def named(name: str) -> dict[str, Any]:
    return load(FOLDER / f"CodeSystem-{name}.json")


def codes(name: str) -> set[str]:
    return {concept["code"] for concept in named(name)["concept"]}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def code_system(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_every_code_system_is_a_complete_active_one(code_system: dict[str, Any]) -> None:
    CodeSystem.model_validate(code_system)
    assert code_system["url"] == f"{canonicals.KW}/CodeSystem/{code_system['id']}"
    assert (code_system["status"], code_system["content"]) == ("active", "complete")
    assert code_system["caseSensitive"] is True
    assert code_system["count"] == len(code_system["concept"])


def test_every_code_is_unique_and_has_a_display_and_a_definition(
    code_system: dict[str, Any],
) -> None:
    concepts = code_system["concept"]
    assert len({concept["code"] for concept in concepts}) == len(concepts)
    assert len({concept["display"] for concept in concepts}) == len(concepts)
    assert all(concept["definition"].endswith(".") for concept in concepts)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_fixed_code_system_has_exactly_the_codes_that_clients_are_written_against(
    name: str,
) -> None:
    assert codes(name) == EXPECTED[name]


def test_timers_and_rating_rules_carry_their_prefix() -> None:
    assert all(code.startswith("T-") for code in codes("timer"))
    assert all(code.startswith("R-") for code in codes("rating-rule"))
    assert (len(codes("timer")), len(codes("rating-rule"))) == (22, 13)


def test_the_discharge_plan_has_fourteen_items_that_say_when_they_are_due() -> None:
    items = named("discharge-item")["concept"]
    assert len(items) == 14
    for item in items:
        values = {p["code"]: next(v for k, v in p.items() if k != "code") for p in item["property"]}
        assert values.keys() == {"mandatory", "due-relative-to", "due-days"}
        before = values["due-relative-to"] == "planned-discharge"
        assert (values["due-days"] < 0) == before


def test_every_code_system_that_the_canonicals_name_is_there() -> None:
    prefix = f"{canonicals.KW}/CodeSystem/"
    assert set(_canonical_names(prefix)) == {path.stem[11:] for path in FILES}


def _canonical_names(prefix: str) -> Iterator[str]:
    for value in vars(canonicals).values():
        if isinstance(value, str) and value.startswith(prefix):
            yield value.removeprefix(prefix)


def test_every_code_system_has_its_source_and_licence_recorded() -> None:
    sources = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    assert [path.stem for path in FILES if f"| `{path.stem[11:]}` |" not in sources] == []
