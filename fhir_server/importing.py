"""`keyworking import`: files of ndjson, each sent whole to the `$import` of a running server.

The server stores the lines in the background; this waits for it and tells what was refused.
https://hl7.org/fhir/R4/nd-json.html, docs/api/operations/import.md
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.loading import CannotLoad, bearer

_HEADERS: Final = {"Content-Type": "application/fhir+ndjson", "Prefer": "respond-async"}
_COUNTS: Final = "https://keyworking.example/fhir/import-counts"
_PATIENCE: Final = httpx.Timeout(60.0)
_PIECE: Final = 64 * 1024
_WAIT: Final = 0.2
"""Seconds between two looks at the beginning; what takes long is looked at less often."""


@dataclass(slots=True)
class Imported:
    """What came of all files."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Of lines that are stored."""

    def lines(self) -> Iterator[str]:
        """For people."""
        for name in ("created", "updated", "unchanged", "refused"):
            yield f"{name.capitalize()}: {self.counts[name]}"
        yield from (f"  {refusal}" for refusal in self.refusals)
        if self.warnings:
            yield f"Warnings of what is stored: {len(self.warnings)}"
            yield from (f"  {warning}" for warning in self.warnings)


def import_files(paths: Sequence[Path], server: str, token: str = "") -> Imported:
    """Send the files one after the other, and wait for each.

    Raises:
        CannotLoad: when the server does not answer, or refuses a file.
    """
    imported = Imported()
    base = server.rstrip("/")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with (
        httpx.Client(auth=bearer(token, base), timeout=_PATIENCE) as client,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        for path in paths:
            task = progress.add_task(path.name, total=None, said="sending")
            try:
                _import(client, base, path, imported, _Shown(progress, task))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise CannotLoad(f"{server} cannot be reached: {error}") from None
    return imported


@dataclass(frozen=True, slots=True)
class _Shown:
    """One file's line on the screen."""

    progress: Progress
    task: TaskID

    def say(self, text: str) -> None:
        """`64 of 500 lines` also moves the bar."""
        words = text.split()
        if len(words) > 2 and words[0].isdigit() and words[2].isdigit():
            self.progress.update(self.task, completed=int(words[0]), total=int(words[2]))
        self.progress.update(self.task, said=text)


def _import(client: httpx.Client, base: str, path: Path, imported: Imported, shown: _Shown) -> None:
    coding = {"Content-Encoding": "gzip"} if path.suffix == ".gz" else {}
    accepted = client.post(f"{base}/$import", content=_pieces(path), headers={**_HEADERS, **coding})
    if accepted.status_code != 202:
        raise CannotLoad(f"{path}: {_why(accepted)}")
    address = accepted.headers["content-location"]
    try:
        manifest = _waited(client, address, path, shown)
    except KeyboardInterrupt:
        client.delete(address)
        raise
    imported.counts.update(manifest.get("extension", {}).get(_COUNTS, {}))
    for file in manifest.get("error", ()):
        for outcome in client.get(file["url"]).iter_lines():
            told = imported.warnings if _is_stored(outcome) else imported.refusals
            told += [f"{path}: {text}" for text in _texts(outcome)]


def _is_stored(outcome: str) -> bool:
    """Whether it only warns."""
    try:
        issues = json.decode(outcome.encode()).get("issue", ())
    except (FhirError, AttributeError):
        return False
    return all(issue.get("severity") == "warning" for issue in issues)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _waited(client: httpx.Client, address: str, path: Path, shown: _Shown) -> Any:
    """The manifest, once there is one."""
    wait = _WAIT
    while True:
        answer = client.get(address)
        if answer.status_code == 200:
            shown.say("done")
            return answer.json()
        if answer.status_code not in (202, 503):
            raise CannotLoad(f"{path}: {_why(answer)}")
        shown.say(answer.headers.get("x-progress", ""))
        time.sleep(wait)
        wait = min(wait * 1.2, float(answer.headers.get("retry-after", "1")))


def _why(answer: httpx.Response) -> str:
    return f"{answer.status_code}: {'; '.join(_texts(answer.text)) or 'the server says no more'}"


def _texts(outcome: str) -> list[str]:
    """The issues of an OperationOutcome, each as a sentence with its place."""
    try:
        issues = json.decode(outcome.encode()).get("issue", ())
    except (FhirError, AttributeError):
        return []
    return [
        ": ".join([*issue.get("expression", ()), str(issue.get("diagnostics", issue["code"]))])
        for issue in issues
    ]
