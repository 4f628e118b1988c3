"""Bulk export, as a warehouse does it at night: ask, wait, fetch every file, clear away.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

import json
from typing import Any, Final

from loadtests.scenarios.acting import Actor, Answer, Check, Scenario, Wrong

_TYPES: Final = ("CarePlan", "Goal", "CareTeam")
_LINES: Final = {"Accept": "application/fhir+ndjson"}
_LOOKS: Final = 120
_EACH: Final = 0.5
"""Seconds between two looks."""


def play(actor: Actor) -> None:
    path = f"$export?_type={','.join(_TYPES)}"
    headers = {"Prefer": "respond-async"}
    begun = actor.ask("export: begin", "GET", path, headers=headers, expect=(202,))
    job = begun.headers.get("content-location", "")
    if not job:
        raise Wrong("no Content-Location")
    try:
        manifest = _waited(actor, job)
        for file in manifest["output"]:
            actor.ask("export: file", "GET", file["url"], headers=_LINES, check=_holds(file))
    finally:
        actor.ask("export: clear away", "DELETE", job, expect=(200, 202, 204))


def _waited(actor: Actor, job: str) -> dict[str, Any]:
    for _ in range(_LOOKS):
        looked = actor.ask("export: look", "GET", job, expect=(200, 202))
        if looked.status == 200:
            return looked.json()
        actor.sleep(_EACH)
    raise Wrong("an export that does not end")


def _holds(file: dict[str, Any]) -> Check:
    def check(answer: Answer) -> None:
        lines = [json.loads(line) for line in answer.content.splitlines() if line]
        if "count" in file and len(lines) != file["count"]:
            raise Wrong(f"{len(lines)} lines and not {file['count']}")
        if any(line["resourceType"] != file["type"] for line in lines):
            raise Wrong("a line of another type")

    return check


SCENARIO: Final = Scenario("night_export", "exporter", 0, 0.0025, 0.0, play, ("export",), own=False)
