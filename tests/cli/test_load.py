"""`keyworking load`: what it sends, what it reports, how it exits."""

import json
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.cli import main
from fhir_server.loading import load
from tests.support import ServerProcess, free_port


@pytest.fixture
def mark() -> str:
    """A prefix for the ids of one test: the server is the same for all."""
    return uuid4().hex


def _load(server: ServerProcess, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["load", *map(str, arguments), "--server", server.base], catch_exceptions=False
    )


def _patient(resource_id: str = "", **more: Any) -> dict[str, Any]:
    named = {"id": resource_id} if resource_id else {}
    return {"resourceType": "Patient", **named, **more}


def _bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def _entry(method: str, url: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"resource": resource, "request": {"method": method, "url": url}}


def _there(server: ServerProcess, *addresses: str) -> bool:
    return all(httpx.get(f"{server.base}/{one}").status_code == 200 for one in addresses)


def test_puts_a_resource_with_an_id(server: ServerProcess, tmp_path: Path, mark: str) -> None:
    result = _load(server, _write(tmp_path / "one.json", _patient(mark)))
    assert result.exit_code == 0, result.output
    assert "Stored: 1\n  Patient: 1" in result.output
    assert _there(server, f"Patient/{mark}")


def test_loading_again_writes_the_same_resource_and_no_version(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    path = _write(tmp_path / "one.json", _patient(mark))
    assert [_load(server, path).exit_code for _ in range(2)] == [0, 0]
    assert _there(server, f"Patient/{mark}")
    assert not _there(server, f"Patient/{mark}/_history/2")
    _write(path, _patient(mark, active=False))
    assert _load(server, path).exit_code == 0
    assert _there(server, f"Patient/{mark}/_history/2")


def test_writes_over_what_is_changed_with_if_match_alone(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    flag = {"resourceType": "Flag", "id": mark, "status": "active", "code": {"text": "x"}}
    for status in ("active", "inactive"):
        one = {**flag, "status": status, "subject": {"reference": "Patient/x"}}
        result = _load(server, _write(tmp_path / "one.json", one))
        assert result.exit_code == 0, result.output
    assert httpx.get(f"{server.base}/Flag/{mark}").json()["status"] == "inactive"


def test_posts_a_resource_without_an_id(server: ServerProcess, tmp_path: Path, mark: str) -> None:
    resource = _patient(identifier=[{"system": "http://example.org/load", "value": mark}])
    assert _load(server, _write(tmp_path / "one.json", resource)).exit_code == 0
    found = httpx.get(f"{server.base}/Patient?identifier={mark}&_total=accurate")
    assert found.json()["total"] == 1


def test_takes_folders_with_all_below_them_and_leaves_other_files(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    _write(tmp_path / "a.json", _patient(f"{mark}-1"))
    _write(tmp_path / "deep" / "er" / "B.JSON", _patient(f"{mark}-2"))
    _write(tmp_path / "deep" / "readme.txt", "not FHIR")
    lines = [json.dumps(_patient(f"{mark}-{number}")) for number in range(3, 30)]
    _write(tmp_path / "many.ndjson", "\n\n".join(lines))
    result = _load(server, tmp_path, "--concurrency", 4)
    assert result.exit_code == 0, result.output
    assert "Patient: 29" in result.output
    assert _there(server, *(f"Patient/{mark}-{number}" for number in range(1, 30)))


def test_keeps_decimals_and_takes_a_byte_order_mark(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    text = (
        f'\ufeff{{"resourceType":"Observation","id":"{mark}","status":"final",'
        '"code":{"text":"x"},"valueQuantity":{"value":1.10}}'
    )
    assert _load(server, _write(tmp_path / "one.json", text)).exit_code == 0
    assert '"value":1.10' in httpx.get(f"{server.base}/Observation/{mark}").text


def test_posts_transactions_and_counts_what_they_store(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    flag = {
        "resourceType": "Flag",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": "urn:uuid:3fa1c9d2-0000-4000-8000-000000000001"},
    }
    child = _entry("PUT", f"Patient/{mark}", _patient(mark))
    child["fullUrl"] = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000001"
    result = _load(
        server,
        _write(tmp_path / "t.json", _bundle("transaction", child, _entry("POST", "Flag", flag))),
    )
    assert result.exit_code == 0, result.output
    assert "Stored: 2\n  Flag: 1\n  Patient: 1" in result.output
    assert httpx.get(f"{server.base}/Flag?patient={mark}").json()["entry"]


def test_reports_the_entries_of_a_batch_that_were_refused(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    bundle = _bundle(
        "batch",
        _entry("PUT", f"Patient/{mark}", _patient(mark)),
        _entry("POST", "Patient", _patient(gender="blue")),
    )
    result = _load(server, _write(tmp_path / "b.json", bundle))
    assert result.exit_code == 1
    assert "Stored: 1\n" in result.output
    assert f"{tmp_path}/b.json entry[1]: 400\n    Patient.gender: " in result.output


@pytest.mark.parametrize("kind", ["collection", "searchset"])
def test_loads_the_entries_of_collections_one_by_one(
    server: ServerProcess, tmp_path: Path, mark: str, kind: str
) -> None:
    outcome: dict[str, Any] = {
        "resource": {"resourceType": "OperationOutcome", "issue": []},
        "search": {"mode": "outcome"},
    }
    entries: list[dict[str, Any]] = [{"resource": _patient(f"{mark}-1")}, {"fullUrl": "urn:x"}]
    bundle = _bundle(kind, *entries, *([outcome] if kind == "searchset" else []))
    result = _load(server, _write(tmp_path / "c.json", bundle))
    assert result.exit_code == 1
    assert "Stored: 1\n  Patient: 1\nRefused: 1" in result.output
    assert "c.json entry[1]\n    It has no resource" in result.output
    assert _there(server, f"Patient/{mark}-1")


@pytest.mark.parametrize("kind", ["document", "history", "transaction-response"])
def test_stores_other_bundles_as_they_are(
    server: ServerProcess, tmp_path: Path, mark: str, kind: str
) -> None:
    composition = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"text": "A letter"},
        "date": "2026-06-01",
        "author": [{"display": "The keyworker"}],
        "title": "A letter",
    }
    entry = {"fullUrl": "urn:uuid:6f1c3c1e-0d5a-4a3e-9d3f-0a8f3c1b2d4e", "resource": composition}
    bundle = {
        "resourceType": "Bundle",
        "type": kind,
        "identifier": {"system": "http://example.org/Id/d", "value": mark},
        "timestamp": "2026-06-01T00:00:00Z",
        **({"entry": [entry]} if kind == "document" else {}),
    }
    result = _load(server, _write(tmp_path / "d.json", bundle))
    assert "Bundle: 1" in result.output, result.output
    found = httpx.get(f"{server.base}/Bundle?identifier={mark}").json()
    assert found["entry"][0]["resource"]["type"] == kind


def test_sends_messages_to_be_processed(server: ServerProcess, tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "type": "message"}
    result = _load(server, _write(tmp_path / "m.json", bundle))
    assert result.exit_code == 1
    # A message without its header: whoever processes messages refuses it, and it is not stored.
    assert "Stored: 0\nRefused: 1" in result.output


def test_goes_on_after_refusals_and_tells_each_with_its_place_and_reason(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    _write(tmp_path / "1.json", "{broken")
    _write(tmp_path / "2.json", _patient(f"{mark}-2", gender="blue", birthDate="never"))
    _write(tmp_path / "3.json", {"name": "package"})
    _write(tmp_path / "4.json", "[]")
    _write(tmp_path / "5.json", _patient("not an id"))
    _write(tmp_path / "6.json", {"resourceType": "Dragon"})
    good, bad = json.dumps(_patient(f"{mark}-7")), json.dumps(_patient(f"{mark}-8", colour=1))
    _write(tmp_path / "7.ndjson", f"{good}\n{bad}\n{{\n")
    result = _load(server, tmp_path)
    assert result.exit_code == 1
    assert "Stored: 1\n  Patient: 1\nRefused: 8\n" in result.output
    for line in (
        "1.json\n    The text is not valid JSON",
        "2.json: 400\n    Patient.gender: ",
        "    Patient.birthDate: birthDate must be a date",
        "3.json\n    It has no resourceType",
        "4.json\n    The text is a JSON array",
        "5.json: 400\n    'not an id' is not an id",
        "6.json: 404\n    'Dragon' is not a resource type",
        "7.ndjson line 2: 400\n    Patient.colour: ",
        "7.ndjson line 3\n    The text is not valid JSON",
    ):
        assert line in result.output, line
    assert _there(server, f"Patient/{mark}-7")


@pytest.mark.parametrize("kind", ["collection", "searchset"])
@pytest.mark.parametrize("entry", [{"resource": {"resourceType": "Patient"}}, "x", 1, True, {}])
def test_refuses_a_bundle_whose_entries_are_no_array(
    server: ServerProcess, tmp_path: Path, kind: str, entry: Any
) -> None:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entry}
    result = _load(server, _write(tmp_path / "c.json", bundle))
    assert result.exit_code == 1
    assert "Stored: 0\nRefused: 1\n" in result.output
    assert "c.json\n    Bundle.entry: It is not an array of entries" in result.output


@pytest.mark.parametrize(
    "content",
    [
        {"resourceType": "Bundle", "type": "collection"},
        {"resourceType": "Bundle", "type": "collection", "entry": []},
        {"resourceType": "Bundle", "type": "collection", "entry": None},
        {"resourceType": "Bundle", "type": "searchset", "entry": [{"search": {"mode": "outcome"}}]},
        {"resourceType": "Bundle", "type": "transaction"},
        {"resourceType": "Bundle", "type": "batch"},
    ],
)
def test_tells_of_a_bundle_with_nothing_in_it(
    server: ServerProcess, tmp_path: Path, content: Any
) -> None:
    result = _load(server, _write(tmp_path / "b.json", content))
    assert result.exit_code == 1
    assert "Refused: 1\n" in result.output
    assert "b.json\n    There is nothing in it to load" in result.output


def test_tells_of_files_with_nothing_in_them_and_of_links_that_lead_nowhere(
    server: ServerProcess, tmp_path: Path
) -> None:
    _write(tmp_path / "1.ndjson", "\n \n")
    _write(tmp_path / "2.json", "")
    (tmp_path / "3.json").symlink_to(tmp_path / "gone.json")
    result = _load(server, tmp_path)
    assert result.exit_code == 1
    assert "Stored: 0\nRefused: 3\n" in result.output
    assert "1.ndjson\n    There is nothing in it to load" in result.output
    assert "2.json\n    The text is empty" in result.output
    assert "3.json\n    [Errno 2]" in result.output


def test_refuses_what_makes_no_address(server: ServerProcess, tmp_path: Path, mark: str) -> None:
    _write(tmp_path / "1.json", _patient("x" * 70_000))
    _write(tmp_path / "2.json", {"resourceType": "y" * 70_000})
    _write(tmp_path / "3.json", _patient(mark))
    result = _load(server, tmp_path)
    assert result.exit_code == 1
    assert "Stored: 1\n  Patient: 1\nRefused: 2\n" in result.output


def test_a_resource_that_comes_twice_is_stored_twice(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    path = _write(tmp_path / "one.ndjson", "\n".join([json.dumps(_patient(mark))] * 2))
    result = _load(server, path, path, tmp_path)
    assert "Stored: 2\n  Patient: 2" in result.output
    assert result.exit_code == 0


def test_refuses_json_with_a_name_twice(server: ServerProcess, tmp_path: Path) -> None:
    text = '{"resourceType": "Patient", "gender": "male", "gender": "female"}'
    result = _load(server, _write(tmp_path / "one.json", text))
    assert result.exit_code == 1
    assert "Stored: 0\nRefused: 1\n" in result.output


def test_counts_the_entries_of_a_batch_that_store_nothing(
    server: ServerProcess, tmp_path: Path, mark: str
) -> None:
    delete = {"request": {"method": "DELETE", "url": f"Patient/{mark}"}}
    read = {"request": {"method": "GET", "url": "Patient?_count=1"}}
    put = _entry("PUT", f"Patient/{mark}-1", _patient(f"{mark}-1"))
    result = _load(server, _write(tmp_path / "b.json", _bundle("batch", delete, read, put)))
    assert result.exit_code == 0, result.output
    assert "Stored: 3\n  (DELETE): 1\n  (GET): 1\n  Patient: 1\n" in result.output


_ANY: Final = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
_TYPES: Final = st.sampled_from(["Patient", "Basic", "", "..", "$meta", "Dragon"]) | _ANY
_RESOURCES: Final = st.fixed_dictionaries(
    {}, optional={"resourceType": _TYPES, "id": st.just("odd") | _ANY, "gender": _ANY}
)
_ENTRIES: Final = st.fixed_dictionaries(
    {},
    optional={
        "resource": _RESOURCES | _ANY,
        "request": _ANY
        | st.fixed_dictionaries(
            {}, optional={"method": st.just("POST") | _ANY, "url": st.just("Patient") | _ANY}
        ),
        "search": st.just({"mode": "outcome"}) | _ANY,
    },
)
_BUNDLES: Final = st.fixed_dictionaries(
    {"resourceType": st.just("Bundle")},
    optional={
        "type": st.sampled_from(
            ["transaction", "batch", "collection", "searchset", "message", "document", "history"]
        )
        | _ANY,
        "entry": st.lists(_ENTRIES | _ANY, max_size=3) | _ENTRIES | _ANY,
    },
)


def _inputs(resource: Any) -> set[int]:
    """How many there may be of them: a batch may be refused as a whole."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "Bundle":
        return {1}
    entries = resource.get("entry")
    if resource.get("type") in ("transaction", "batch"):
        return {1, len(entries) or 1} if isinstance(entries, list) else {1}
    if resource.get("type") not in ("collection", "searchset") or not isinstance(entries, list):
        return {1}
    outcome = {"mode": "outcome"}
    kept = [e for e in entries if not isinstance(e, dict) or e.get("search") != outcome]
    return {len(kept) or 1}


@settings(max_examples=60, deadline=None)
@given(content=_BUNDLES | _RESOURCES | _ANY)
def test_every_input_is_either_stored_or_refused(server: ServerProcess, content: Any) -> None:
    with TemporaryDirectory() as folder:
        report = load([_write(Path(folder) / "odd.json", content)], server.base, 2)
    assert report.stored.total() + len(report.refusals) in _inputs(content), report
    assert all(refusal.reasons for refusal in report.refusals)


def test_exits_with_2_when_nothing_is_found(server: ServerProcess, tmp_path: Path) -> None:
    result = _load(server, tmp_path)
    assert result.exit_code == 2
    assert "No .json, .ndjson, .jsonl file in" in result.output
    assert _load(server, tmp_path / "absent").exit_code == 2


def test_exits_with_2_when_the_server_cannot_be_reached(tmp_path: Path) -> None:
    path = _write(tmp_path / "one.json", _patient("p1"))
    server = f"http://127.0.0.1:{free_port()}/fhir"
    result = CliRunner().invoke(main, ["load", str(path), "--server", server])
    assert result.exit_code == 2
    assert "cannot be reached" in result.output


def test_exits_with_2_when_there_is_something_else(server: ServerProcess, tmp_path: Path) -> None:
    path = _write(tmp_path / "one.json", _patient("p1"))
    result = CliRunner().invoke(main, ["load", str(path), "--server", server.base + "/nowhere"])
    assert result.exit_code == 2
    assert "is not the base of a FHIR server" in result.output


def test_a_server_that_goes_away_is_told_for_each_file(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "store.db", tmp_path / "server.log")
    process.start()
    try:
        lines = (json.dumps(_patient(f"p{number}")) for number in range(3000))
        path = _write(tmp_path / "many.ndjson", "\n".join(lines))
        killer = threading.Thread(target=_kill_when_there, args=(process, "Patient/p50"))
        killer.start()
        result = _load(process, path)
        killer.join()
    finally:
        process.stop()
    assert result.exit_code == 1
    assert "many.ndjson line 3000\n    No answer: ConnectError" in result.output


def _kill_when_there(process: ServerProcess, address: str) -> None:
    while not _there(process, address):
        pass
    process.kill()
