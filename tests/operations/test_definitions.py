"""The definitions of our operations, and the code lists that operations write by."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.operations.messages import JSON
from tests.operations.parameters import OPERATIONS, definition, problems
from tests.support import REPOSITORY

DEFINITIONS: Final = sorted(path.name for path in OPERATIONS.glob("*.json"))
SOURCES: Final = "\n".join(path.read_text(encoding="utf-8") for path in OPERATIONS.rglob("*.py"))


def code_system(name: str) -> JSON:
    path = REPOSITORY / "terminology" / f"CodeSystem-{name}.json"
    found: JSON = json.loads(path.read_text(encoding="utf-8"))
    return found


def codes(name: str) -> set[str]:
    return {concept["code"] for concept in code_system(name)["concept"]}


@pytest.mark.parametrize("file", DEFINITIONS)
def test_each_definition_is_named_after_its_file_and_explains_every_parameter(file: str) -> None:
    defined = definition(file)
    assert defined["url"] == f"{canonicals.KW}/OperationDefinition/{defined['code']}"
    assert defined["code"] == Path(file).stem.replace("_", "-")
    waiting = [*defined["parameter"]]
    while waiting:
        parameter = waiting.pop()
        assert parameter["documentation"].endswith("."), parameter["name"]
        assert ("type" in parameter) != ("part" in parameter), parameter["name"]
        waiting += parameter.get("part", [])


def test_the_checker_of_answers_finds_what_is_wrong() -> None:
    defined = definition("admission_risk.json")
    answer = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "rating", "valueString": "red"},
            {"name": "colour", "valueCode": "red"},
            {"name": "registered", "part": [{"name": "rating", "valueCode": "red"}]},
            {"name": "rule", "valueCode": "R-RED-FOUR"},
        ],
    }
    assert sorted(problems(answer, defined)) == [
        "colour is not defined",
        "rating is {'valueString'}, not code",
        "registered.flag is there 0 times",
        "rule has {'valueCode'}, not parts",
        "rule.code is there 0 times",
        "rule.text is there 0 times",
    ]


def test_the_checklist_is_the_code_system_of_its_items() -> None:
    published = [
        (
            concept["code"],
            concept["display"],
            {
                property_["code"]: next(v for k, v in property_.items() if k != "code")
                for property_ in concept["property"]
            },
        )
        for concept in code_system("discharge-item")["concept"]
    ]
    assert published == [
        (
            item.code,
            item.text,
            {
                "mandatory": True,
                "due-relative-to": "admission" if item.days >= 0 else "planned-discharge",
                "due-days": item.days,
            },
        )
        for item in DISCHARGE_ITEMS
    ]
    assert len(published) == 14


def test_every_timer_that_operations_name_is_in_its_code_system() -> None:
    named = set(re.findall(r'"(T-[A-Z0-9-]+)"', SOURCES))
    assert named >= {"T-CETR-POSTADM", "T-OVERSIGHT-VISIT", "T-FU-48", "T-RED-HOLD"}
    assert named <= codes("timer")


def test_every_rule_that_operations_name_is_in_its_code_system() -> None:
    named = set(re.findall(r'"(R-[A-Z0-9-]+)"', SOURCES))
    assert named == codes("rating-rule")


def test_every_task_that_operations_open_is_in_its_code_system() -> None:
    named = set(re.findall(r'Work\(\s*"([^"]+)"', SOURCES))
    assert {code for code in named if not code.startswith("T-")} == {
        *("bereavement", "contact-hospital", "obtain-consent", "root-cause-analysis"),
        *("review-consent", "planning-visit"),
    }
    assert named <= codes("task") | codes("timer")
    assert "exit" in codes("task")


def test_every_timer_is_opened_and_has_tests_named_after_it() -> None:
    folder = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.glob("test_*.py"))
    names = re.findall(r"^async def (test_\w+)\(", tests, re.MULTILINE)
    assert len(codes("timer")) == 22
    for code in codes("timer"):
        assert f'"{code}"' in SOURCES, code
        of_it = [name for name in names if code.lower().replace("-", "_") in name]
        assert of_it, code


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("dsr-rating", {"red", "amber", "green", "blue"}),
        ("flag-category", {canonicals.DSR_ADMISSION_RISK}),
        ("rating-end-reason", {"superseded", "deceased", "consent-withdrawn", "aged-out"}),
        ("care-plan-category", {"discharge-plan", "keyworking-plan", "step-down-plan"}),
        ("consent-category", {"register", "keyworking"}),
        ("episode-type", {"keyworking"}),
        (
            "pathway-state",
            {
                *("information-gathering", "planning", "plan-active", "in-hospital"),
                *("discharge-planning", "step-down"),
            },
        ),
    ],
)
def test_every_other_code_that_operations_write_is_in_its_code_system(
    name: str, used: set[str]
) -> None:
    assert used <= codes(name)
    for code in used - {canonicals.DSR_ADMISSION_RISK, *codes("dsr-rating")}:
        assert f'"{code}"' in SOURCES


@pytest.mark.parametrize("system", ["rating-rule", "timer", "pathway-state", "discharge-item"])
def test_every_rule_timer_state_and_item_has_a_test_named_after_its_code(system: str) -> None:
    folder = Path(__file__).parent
    sources = (path.read_text() for path in folder.glob("test_*.py"))
    names = [name for text in sources for name in re.findall(r"def (test_\w+)", text)]
    untested = {
        code
        for code in codes(system)
        if not any(code.lower().replace("-", "_") in name for name in names)
    }
    assert untested == set()
