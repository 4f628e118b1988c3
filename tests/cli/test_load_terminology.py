"""`keyworking load-terminology`: https://hl7.org/fhir/R4/codesystem.html. All codes are made up."""

from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner, Result
from fhir.resources.R4B.codesystem import CodeSystem

from fhir_server import terminology_files
from fhir_server.cli import main
from fhir_server.fhir import json
from fhir_server.loading import CannotLoad
from fhir_server.terminology_files import Concept, Named, Part, parts, read_csv, read_rf2
from fhir_server.validation.structure import check_resource
from tests.support import ServerProcess

CSV = """\
code,display,parent
plant,Plants,
oak,"Oak, the tree",plant
bush,Bushes,plant
thorn,Thorn,oak
thorn,Thorn,bush
"""
RF2 = {
    "sct2_Concept_Snapshot_INT_20260101.txt": (
        "id\teffectiveTime\tactive\tmoduleId\tdefinitionStatusId\n"
        "1000\t20260101\t1\tm\td\n2000\t20260101\t1\tm\td\n3000\t20260101\t0\tm\td\n"
    ),
    "sct2_Description_Snapshot-en_INT_20260101.txt": (
        "id\teffectiveTime\tactive\tmoduleId\tconceptId\tlanguageCode\ttypeId\tterm"
        "\tcaseSignificanceId\n"
        "1\t20260101\t1\tm\t1000\ten\t900000000000013009\tTop\tc\n"
        '2\t20260101\t1\tm\t1000\ten\t900000000000003001\tTop "thing" (made up)\tc\n'
        "3\t20260101\t1\tm\t2000\ten\t900000000000003001\tBelow (made up)\tc\n"
        "4\t20260101\t0\tm\t2000\ten\t900000000000013009\tGone\tc\n"
    ),
    "sct2_Relationship_Snapshot_INT_20260101.txt": (
        "id\teffectiveTime\tactive\tmoduleId\tsourceId\tdestinationId\trelationshipGroup\ttypeId"
        "\tcharacteristicTypeId\tmodifierId\n"
        "1\t20260101\t1\tm\t2000\t1000\t0\t116680003\tc\tm\n"
        "2\t20260101\t1\tm\t1000\t2000\t0\t99\tc\tm\n"
        "3\t20260101\t0\tm\t1000\t2000\t0\t116680003\tc\tm\n"
    ),
}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def rf2(folder: Path) -> Path:
    for name, content in RF2.items():
        write(folder / "Snapshot" / "Terminology" / name, content)
    return folder


def run(server: str, path: Path, system: str, *options: str) -> Result:
    named = ["--system", system, "--version", "2026/01", "--id", uuid4().hex[:8]]
    return CliRunner().invoke(
        main,
        ["load-terminology", str(path), *named, "--server", server, *options],
        catch_exceptions=False,
    )


def outcome(server: ServerProcess, operation: str) -> Any:
    answer = httpx.get(f"{server.base}/CodeSystem/{operation}")
    return answer.status_code, answer.json().get("parameter", [{}])[0]


def test_a_table_is_a_part_of_a_system(server: ServerProcess, tmp_path: Path) -> None:
    system = f"http://example.org/{uuid4()}"
    result = run(server.base, write(tmp_path / "a.csv", CSV), system)
    assert result.exit_code == 0, result.output
    assert "Stored: 1" in result.output
    told = outcome(server, f"$lookup?system={system}&code=oak")
    assert told[0] == 200
    status, _ = outcome(server, f"$validate-code?url={system}&code=weed")
    assert status == 422, "what is not in a fragment may be a code all the same"
    status, _ = outcome(server, f"$subsumes?system={system}&codeA=plant&codeB=oak")
    assert status == 400


def test_a_complete_table_answers_everything(server: ServerProcess, tmp_path: Path) -> None:
    system = f"http://example.org/{uuid4()}"
    assert run(server.base, write(tmp_path / "a.csv", CSV), system, "--complete").exit_code == 0
    told = outcome(server, f"$subsumes?system={system}&codeA=bush&codeB=thorn")
    assert told == (200, {"name": "outcome", "valueCode": "subsumes"})
    told = outcome(server, f"$validate-code?url={system}&code=weed")
    assert told == (200, {"name": "result", "valueBoolean": False})


def test_a_system_in_several_parts_is_one(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminology_files, "_PART", 20)
    system = f"http://example.org/{uuid4()}"
    result = run(server.base, write(tmp_path / "a.csv", CSV), system, "--complete")
    assert "Stored: 4" in result.output
    told = outcome(server, f"$subsumes?system={system}&codeA=plant&codeB=thorn")
    assert told == (200, {"name": "outcome", "valueCode": "subsumes"})
    search = f"{server.base}/Observation?code:below={system}|plant"
    assert httpx.get(search).status_code == 200


def test_a_snapshot_is_read(tmp_path: Path) -> None:
    found = read_rf2(rf2(tmp_path))
    assert found == {
        "1000": Concept('Top "thing" (made up)', ["Top"], []),
        "2000": Concept("Below (made up)", [], ["1000"]),
    }


def test_a_snapshot_is_a_complete_system(server: ServerProcess, tmp_path: Path) -> None:
    system = f"http://example.org/{uuid4()}"
    assert run(server.base, rf2(tmp_path), system).exit_code == 0
    told = outcome(server, f"$subsumes?system={system}&codeA=2000&codeB=1000")
    assert told == (200, {"name": "outcome", "valueCode": "subsumed-by"})


def release(folder: Path, *is_a: str, refset: str = "") -> Path:
    """A release of made-up concepts; `b a` says that b is a kind of a. `*c` is in the refset 99."""
    codes = dict.fromkeys(one for pair in is_a for one in pair.split())
    rows = {
        "sct2_Concept_Snapshot_X.txt": ["id\tactive", *(f"{code}\t1" for code in codes)],
        "sct2_Description_Snapshot-en_X.txt": [
            "conceptId\ttypeId\tterm\tactive",
            *(f"{code}\t900000000000003001\tThe {code}\t1" for code in codes),
        ],
        "sct2_Relationship_Snapshot_X.txt": [
            "sourceId\tdestinationId\ttypeId\tactive",
            *(pair.replace(" ", "\t") + "\t116680003\t1" for pair in is_a if " " in pair),
        ],
        "der2_Refset_SimpleSnapshot_X.txt": [
            "refsetId\treferencedComponentId\tactive",
            "98\ta\t1",
            "99\ta\t0",
            "99\tsomething-else\t1",
            *(f"99\t{code}\t1" for code in refset.split()),
        ],
    }
    for name, lines in rows.items():
        write(folder / "Snapshot" / name, "\n".join(lines) + "\n")
    return folder


WOOD: Final = ("b a", "c b", "d c", "d b", "e a", "d e", "f a")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part(below=("b",)), {"b": [], "c": ["b"], "d": ["c", "b"]}),
        (Part(below=("c", "f")), {"c": [], "d": ["c"], "f": []}),
        (Part(refsets=("99",)), {"a": [], "d": ["a"]}),
        (Part(below=("e",), refsets=("99",)), {"a": [], "e": ["a"], "d": ["a", "e"]}),
    ],
)
def test_a_part_of_a_release_keeps_its_hierarchy(
    tmp_path: Path, part: Part, expected: dict[str, list[str]]
) -> None:
    found = read_rf2(release(tmp_path, *WOOD, refset="a d"), part)
    assert {code: {*one.parents} for code, one in found.items()} == {
        code: {*parents} for code, parents in expected.items()
    }
    assert {one.display for one in found.values()} == {f"The {code}" for code in expected}


def test_what_is_a_kind_of_itself_is_read(tmp_path: Path) -> None:
    found = read_rf2(release(tmp_path, "b a", "a b", "c a", refset="b c"), Part(refsets=("99",)))
    assert found["b"].parents == []
    assert found["c"].parents == ["b"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--below", "zz"], "zz is no active concept of the release"),
        (["--refset", "97"], "has concepts of the refset 97"),
    ],
)
def test_a_part_that_is_not_there_is_told(tmp_path: Path, options: list[str], says: str) -> None:
    result = run("http://127.0.0.1:9", release(tmp_path, *WOOD), "http://s", *options)
    assert result.exit_code == 2
    assert says in result.output


def test_only_of_a_release_a_part_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", CSV)
    result = run("http://127.0.0.1:9", path, "http://s", "--below", "oak")
    assert result.exit_code == 2
    assert "only of a folder of RF2" in result.output


def test_a_part_is_not_all_of_the_system(server: ServerProcess, tmp_path: Path) -> None:
    system = f"http://example.org/{uuid4()}"
    result = run(server.base, release(tmp_path, *WOOD), system, "--below", "b")
    assert result.exit_code == 0
    assert "KEYWORKING_TERMINOLOGY_MEMORY is " in result.output
    told = outcome(server, f"$validate-code?url={system}&code=d")
    assert told == (200, {"name": "result", "valueBoolean": True})
    status, _ = outcome(server, f"$validate-code?url={system}&code=f")
    assert status == 422, "it may be a code all the same"
    system = f"http://example.org/{uuid4()}"
    run(server.base, tmp_path, system, "--below", "b", "--complete")
    told = outcome(server, f"$subsumes?system={system}&codeA=b&codeB=d")
    assert told == (200, {"name": "outcome", "valueCode": "subsumes"})


def test_a_part_of_a_release_that_is_too_large_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminology_files, "_MOST", 3)
    folder = release(tmp_path, *WOOD)
    with pytest.raises(CannotLoad, match="--below CODE or --refset CODE"):
        read_rf2(folder)
    assert len(read_rf2(folder, Part(below=("b",)))) == 3


def test_parts_are_as_r4_defines_them(tmp_path: Path) -> None:
    concepts = read_csv(write(tmp_path / "a.csv", CSV))
    for part in parts(concepts, Named("http://s", "http://v/2026", "x"), complete=True):
        CodeSystem.model_validate_json(json.encode(part))
        assert check_resource(part) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has the columns none"),
        ("code,colour\na,b\n", "has the columns code, colour"),
        ("code,display\n,x\n", ":2 has no code"),
        ("code,display\na,b,c\n", ":2 has no code, or more cells"),
        ("code,display\na,b\na,c\n", ":3 calls a 'c', and not 'b' as before"),
        ("code,display,parent\na,b,c\n", "a stands below c, which is not there"),
        ("code,display,parent\na,b,a\n", "stand below themselves, or below one that does: a\n"),
        ("code,display,parent\na,A,b\nb,B,a\nc,C,\nd,D,c\n", "below one that does: a, b\n"),
        ("code,display\n", "There is no code in it"),
        ('code,display\n"a,b\n', "cannot be read as CSV"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: str, says: str) -> None:
    result = run("http://127.0.0.1:9", write(tmp_path / "a.csv", content), "http://s")
    assert result.exit_code == 2
    assert says in result.output


def test_more_codes_than_a_server_can_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminology_files, "_MOST", 2)
    result = run("http://127.0.0.1:9", write(tmp_path / "a.csv", CSV), "http://s")
    assert result.exit_code == 2
    assert "Choose a part" in result.output
    result = run("http://127.0.0.1:9", tmp_path, "http://s")
    assert "has no file sct2_Concept_" in result.output
