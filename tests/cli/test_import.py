"""`keyworking import`: whole files to `$import`, what was refused, how it exits."""

import gzip
from pathlib import Path
from uuid import uuid4

import httpx
from click.testing import CliRunner, Result

from fhir_server.cli import main
from fhir_server.fhir import json
from tests.support import ServerProcess, free_port

PROFILES = Path(__file__).parents[2] / "profiles"


def _import(base: str, *paths: Path) -> Result:
    arguments = ["import", *map(str, paths), "--server", base]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def _patients(*ids: str) -> bytes:
    return b"".join(b'{"resourceType":"Patient","id":"%s"}\n' % one.encode() for one in ids)


def test_files_are_stored_gzipped_or_not(server: ServerProcess, tmp_path: Path) -> None:
    mark = uuid4().hex
    plain, packed = tmp_path / "a.ndjson", tmp_path / "b.ndjson.gz"
    plain.write_bytes(_patients(f"{mark}1", f"{mark}2"))
    packed.write_bytes(gzip.compress(_patients(f"{mark}2", f"{mark}3")))
    result = _import(server.base, plain, packed)
    assert result.exit_code == 0, result.output
    assert "Created: 3\nUpdated: 0\nUnchanged: 1\nRefused: 0\n" in result.output
    for number in (1, 2, 3):
        assert httpx.get(f"{server.base}/Patient/{mark}{number}").status_code == 200


def test_refused_lines_are_listed_with_their_file_and_number(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_bytes(_patients(uuid4().hex) + b'{"resourceType":"Patient","gendr":"x"}\n')
    result = _import(server.base, path)
    assert result.exit_code == 1
    assert "Created: 1" in result.output
    assert "Refused: 1" in result.output
    assert f"{path}: Patient.gendr: Line 2: " in result.output


def test_warnings_of_what_is_stored_are_listed_and_are_no_failure(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "limited.ndjson"
    example = PROFILES / "kw-consent/examples/invalid-kw-consent-17.json"
    resource = json.decode_resource(example.read_bytes()) | {"id": uuid4().hex}
    path.write_bytes(_patients(uuid4().hex) + json.encode(resource))
    result = _import(server.base, path)
    assert result.exit_code == 0, result.output
    assert "Refused: 0\nWarnings of what is stored: 1\n" in result.output
    assert f"{path}: Consent.provision: Line 2: " in result.output


def test_a_file_that_is_refused_ends_it(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "empty.ndjson"
    path.write_bytes(b"")
    result = _import(server.base, path)
    assert result.exit_code == 2
    assert "400: The body is empty" in result.output


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(_patients("a"))
    result = _import(f"http://127.0.0.1:{free_port()}/fhir", path)
    assert result.exit_code == 2
    assert "cannot be reached" in result.output
