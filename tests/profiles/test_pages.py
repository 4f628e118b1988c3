"""docs/profiles is written from the profiles and is up to date."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.fhir import canonicals
from fhir_server.validation.structure import check_resource
from tests.profiles.rules import FOLDERS, definition, load, rules
from tests.support import REPOSITORY
from tools.profile_docs import PAGES, pages

OURS = [one for one in FOLDERS if definition(one.name)["url"].startswith(canonicals.KW)]
ADDING = REPOSITORY / "docs" / "adding-a-profile.md"
_LINK = re.compile(r"\]\((?!http)([^)#]+)(?:#([^)]+))?\)")
_BLOCK = re.compile(r"^```json\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def test_pages_are_as_make_profile_docs_writes_them() -> None:
    assert {path.name: path.read_text("utf-8") for path in PAGES.glob("*.md")} == pages()


@pytest.mark.parametrize("path", [*sorted(PAGES.glob("*.md")), ADDING], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target, heading in _LINK.findall(path.read_text("utf-8")):
        found = path.parent / target
        assert found.exists(), target
        if heading:
            assert f"\n## {heading}\n" in found.read_text("utf-8")


def test_every_profile_has_a_page_with_each_of_its_rules() -> None:
    extensions = (PAGES / "extensions.md").read_text("utf-8")
    for folder in OURS:
        own = folder.name.startswith("kw-")
        page = (PAGES / f"{folder.name}.md").read_text("utf-8") if own else extensions
        for rule in rules(folder.name):
            assert " " in rule.name or f"| `{rule.name}` |" in page


def test_every_page_says_what_the_service_checks_beyond() -> None:
    for folder in OURS:
        if folder.name.startswith("kw-"):
            page = (PAGES / f"{folder.name}.md").read_text("utf-8")
            assert "\n## Checked by the service\n" in page
            assert all(line.startswith("- ") for line in _beyond(folder))


def _beyond(folder: Path) -> list[str]:
    return (folder / "beyond.md").read_text("utf-8").splitlines()


def test_the_page_on_adding_one_shows_what_is_valid() -> None:
    shown = [json.loads(block) for block in _BLOCK.findall(ADDING.read_text("utf-8"))]
    kinds = [resource["resourceType"] for resource in shown]
    assert kinds == ["StructureDefinition", "CarePlan", "OperationOutcome"]
    for resource in shown:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        assert check_resource(resource) == []
    definition, invalid, outcome = shown
    assert definition["url"] in invalid["meta"]["profile"]
    assert outcome["issue"][0]["details"]["coding"][0]["system"] == definition["url"]


def test_the_commands_of_the_page_on_adding_one_work(tmp_path: Path) -> None:
    """With what it shows as files, they say what it says of the example."""
    text = ADDING.read_text("utf-8")
    definition, invalid, outcome = _BLOCK.findall(text)
    (commands,) = re.findall(r"^```sh\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "examples").mkdir()
    (tmp_path / "profile.json").write_text(definition)
    (tmp_path / "examples" / "invalid-title.json").write_text(invalid)
    validate = f"{sys.executable} -m fhir_server.cli validate"
    script = commands.replace("keyworking validate", validate)
    told = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1, told.stderr
    (line,) = [one for one in told.stdout.splitlines() if "error: " in one]
    assert json.loads(outcome)["issue"][0]["expression"][0] in line


def test_outcomes_are_told_like_those_of_the_profiles() -> None:
    shown = json.loads(_BLOCK.findall(ADDING.read_text("utf-8"))[2])
    ours = load(FOLDERS[0] / "examples" / "invalid-value-x-min.outcome.json")
    assert shown["issue"][0].keys() == ours["issue"][0].keys()
