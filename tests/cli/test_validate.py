"""`keyworking validate`: what it reads, what it says, how it exits."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from fhir.resources.R4B.operationoutcome import OperationOutcome

from fhir_server.cli import main
from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.support import official_examples
from tests.validation.profiles import URL, profile
from tests.validation.test_profile_data import MANIFEST, packed

TEXT: Final = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">He</div>'}
PATIENT: Final = {"resourceType": "Patient", "text": TEXT, "active": True}
BMI: Final = "http://hl7.org/fhir/StructureDefinition/bmi"


def checked(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, arguments)], catch_exceptions=False)


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_a_sound_file_exits_with_0(tmp_path: Path) -> None:
    result = checked(written(tmp_path / "p.json", PATIENT))
    assert result.exit_code == 0
    assert "p.json: Patient: no problems" in result.output
    assert "Checked 1: 0 with errors, 0 with warnings only, 1 sound" in result.output


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    result = checked(written(tmp_path / "p.json", {**PATIENT, "gender": "f", "colour": "red"}))
    assert result.exit_code == 1
    assert "error: Patient.gender: " in result.output
    assert "error: Patient.colour: " in result.output


def test_a_warning_is_an_error_where_that_is_asked_for(tmp_path: Path) -> None:
    """dom-6: a resource should have a narrative."""
    file = written(tmp_path / "p.json", {"resourceType": "Patient", "active": True})
    assert checked(file).exit_code == 0
    assert checked("--strict", file).exit_code == 1


def test_each_line_of_ndjson_is_a_resource(tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, [PATIENT, {**PATIENT, "active": "yes"}])) + "\n\n"
    result = checked(written(tmp_path / "all.ndjson", lines))
    assert result.exit_code == 1
    assert "all.ndjson line 2: Patient: error" in result.output
    assert "Checked 2: 1 with errors" in result.output


def test_xml_is_read_by_what_it_is(tmp_path: Path) -> None:
    text = '<Patient xmlns="http://hl7.org/fhir"><gender value="f"/></Patient>'
    result = checked(written(tmp_path / "p.xml", text))
    assert result.exit_code == 1
    assert "error: Patient.gender" in result.output


def test_a_folder_means_the_files_of_fhir_in_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path / "deep" / "p.json", PATIENT)
    written(tmp_path / "notes.txt", "no FHIR")
    assert "Checked 1:" in checked(tmp_path).output


@pytest.mark.parametrize("content", ["", "{", "[]", "<Patient", '{"resourceType": "Patientt"}'])
def test_what_is_no_resource_is_a_problem_and_not_a_traceback(tmp_path: Path, content: str) -> None:
    result = checked(written(tmp_path / "x.json", content))
    assert result.exit_code == 1
    assert "error" in result.output


def test_a_profile_may_be_named(tmp_path: Path) -> None:
    codings = [{"system": "http://loinc.org", "code": "39156-5"}]
    observation = {"resourceType": "Observation", "status": "final", "code": {"coding": codings}}
    file = written(tmp_path / "o.json", observation)
    assert checked(file).exit_code == 0
    result = checked("--profile", BMI, file)
    assert result.exit_code == 1
    assert "error: Observation.subject" in result.output


def test_an_unknown_profile_is_told_before_anything_is_checked(tmp_path: Path) -> None:
    file = written(tmp_path / "p.json", PATIENT)
    result = checked("--profile", "https://example.org/unknown", file)
    assert result.exit_code == 2
    assert "https://example.org/unknown is not known" in result.output


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    result = checked(tmp_path)
    assert result.exit_code == 2
    assert "No .json" in result.output


def test_for_programs_there_is_an_operation_outcome_a_line(tmp_path: Path) -> None:
    written(tmp_path / "a.json", PATIENT)
    written(tmp_path / "b.json", {**PATIENT, "gender": "f"})
    result = checked("--json", tmp_path)
    assert result.exit_code == 1
    first, second = (
        OperationOutcome.model_validate_json(line) for line in result.stdout.splitlines()
    )
    assert (first.extension or [])[0].valueString == str(tmp_path / "a.json")
    assert [issue.severity for issue in first.issue] == ["information"]
    assert [issue.expression for issue in second.issue] == [["Patient.gender"]]


@pytest.mark.parametrize("file", official_examples())
def test_the_official_examples_have_no_errors(file: Path) -> None:
    """Real inputs of NHS England and HL7."""
    result = checked(file)
    assert result.exit_code == 0, result.output


def test_codes_that_nobody_here_knows_are_told(tmp_path: Path) -> None:
    """And not when the package has their value set, or the terminology server is asked."""
    binding = {"strength": "required", "valueSet": "http://example.org/trees"}
    rule = profile("Patient", {"id": "Patient.maritalStatus", "binding": binding})
    coding = {"system": TREE, "code": "stone"}
    claiming = {**PATIENT, "meta": {"profile": [URL]}, "maritalStatus": {"coding": [coding]}}
    file = written(tmp_path / "p.json", claiming)

    def told(*resources: dict[str, Any]) -> Result:
        (folder := tmp_path / f"with-{len(resources)}").mkdir()
        package = packed(folder / "a.tgz", MANIFEST, rule, *resources)
        given = {"KEYWORKING_PACKAGES": str(package)}
        return CliRunner().invoke(main, ["validate", str(file)], env=given, catch_exceptions=False)

    unknown = told()
    assert "warning: Patient.maritalStatus: whether 'stone'" in unknown.output
    assert unknown.exit_code == 0
    known = told(SYSTEM, value_set("trees", below("oak")))
    assert "error: Patient.maritalStatus: needs a code of http://example.org/trees" in known.output
    assert known.exit_code == 1
