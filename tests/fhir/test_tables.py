"""Tables of definitions that are left in their files."""

from pathlib import Path

import msgspec

from fhir_server.fhir.tables import mapped


def test_entries_are_read_as_they_were_when_another_file_takes_the_place(tmp_path: Path) -> None:
    table, other = tmp_path / "table.json", tmp_path / "other.json"
    table.write_text('{"Patient":{"kind":"resource"},"code":[1,2]}')
    entries = mapped(table)
    other.write_text('{"nothing":null}')
    other.replace(table)
    told = {name: msgspec.json.decode(entry) for name, entry in entries.items()}
    assert told == {"Patient": {"kind": "resource"}, "code": [1, 2]}
