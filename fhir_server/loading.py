"""`keyworking load`: files of FHIR JSON, sent to a running server as their senders would.

A resource with an id is put, one without is posted. Bundles go by their type
(https://hl7.org/fhir/R4/bundle.html): transactions and batches to the base, messages to
`$process-message`, collections and searchsets entry by entry, any other is stored as a Bundle.
What is refused is reported, and loading goes on.
"""

import asyncio
import codecs
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_JSON: Final = "application/fhir+json"
_HEADERS: Final = {"Content-Type": _JSON, "Accept": _JSON, "Prefer": "return=minimal"}
_LINES: Final = (".ndjson", ".jsonl")
_ENDINGS: Final = (".json", *_LINES)
_NOTHING: Final = "There is nothing in it to load"
_TRIES: Final = 5
"""For what the server cannot take just now (503)."""
_PATIENCE: Final = 60.0
"""Seconds for one answer."""


class CannotLoad(Exception):
    """There is nothing to load, or no server to load it into; the text says why."""


class Bearer(httpx.Auth):
    """Shows a token to the server that it is for, wherever that server's answers lead."""

    def __init__(self, token: str, server: str) -> None:
        self._token = token
        self._origin = _origin(httpx.URL(server))

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._token and _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """https://www.rfc-editor.org/rfc/rfc6454#section-4"""
    return url.scheme, url.host, url.port


@dataclass(frozen=True, slots=True)
class Item:
    """One request. `place` is the file, with the line or entry where there are several."""

    place: str
    method: str
    address: str
    """Relative to the server's base."""
    body: bytes
    kind: str
    """The resource type; of a Bundle that the server takes apart, its Bundle type."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not stored; `status` is None where it did not get as far as the server."""

    place: str
    status: int | None
    reasons: Sequence[str]


@dataclass(slots=True)
class Report:
    """What came of it."""

    stored: Counter[str] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people: what was stored by type, and each refusal with its reasons."""
        yield f"Stored: {self.stored.total()}"
        for name, number in sorted(self.stored.items()):
            yield f"  {name}: {number}"
        if self.refusals:
            yield f"Refused: {len(self.refusals)}"
        for refusal in sorted(self.refusals, key=lambda refusal: refusal.place):
            yield f"  {refusal.place}" + (f": {refusal.status}" if refusal.status else "")
            yield from (f"    {reason}" for reason in refusal.reasons)


def load(paths: Sequence[Path], server: str, concurrency: int, token: str = "") -> Report:
    """Load the files, and those in the folders.

    Args:
        token: shown to the server; none where it is empty.

    Raises:
        CannotLoad: when no file is found, or no FHIR server answers.
    """
    found = files(paths)
    if not found:
        raise CannotLoad(f"No {', '.join(_ENDINGS)} file in {', '.join(map(str, paths))}")
    return asyncio.run(_load(found, server.rstrip("/"), concurrency, token))


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and those of FHIR JSON below folders, each once and in order."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if file == path or (file.suffix.lower() in _ENDINGS and _is_input(file)):
                found[file] = None
    return list(found)


def _is_input(file: Path) -> bool:
    """A link that leads nowhere is one, too: somebody misses what it should lead to."""
    return file.is_file() or (file.is_symlink() and not file.exists())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # which reading it will tell
        return 0


async def _load(found: Sequence[Path], server: str, concurrency: int, token: str) -> Report:
    report = Report()
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(
        auth=bearer(token, server), headers=_HEADERS, limits=limits, timeout=_PATIENCE
    ) as client:
        await _require_server(client, server)
        with _progress() as progress:
            task = progress.add_task("Loading", total=sum(map(_size, found)))
            reader = Reader(report, lambda size: progress.advance(task, size))
            # All draw from the one iterator, so a file is read only as it is sent.
            items = reader.items(found)
            senders = [_send_all(client, server, items, report) for _ in range(concurrency)]
            await asyncio.gather(*senders)
    return report


def bearer(token: str, server: str) -> Bearer:
    """Raises:
    CannotLoad: for what is no address.
    """
    try:
        return Bearer(token, server)
    except httpx.InvalidURL as error:
        raise CannotLoad(f"{server} cannot be reached: {error}") from None


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


async def _require_server(client: httpx.AsyncClient, server: str) -> None:
    try:
        answer = await client.get(f"{server}/metadata")
        described = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise CannotLoad(f"{server} cannot be reached: {error}") from None
    if not isinstance(described, dict) or described.get("resourceType") != "CapabilityStatement":
        raise CannotLoad(f"{server} is not the base of a FHIR server: it has no metadata")


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes requests of files; notes in the report what cannot be read."""

    report: Report
    advance: Callable[[int], object]
    """Told of the bytes that are read, for the progress bar."""

    def items(self, found: Sequence[Path]) -> Iterator[Item]:
        for file in found:
            try:
                yield from self._of_file(file)
            except OSError as error:
                self._refuse(str(file), str(error))

    def _of_file(self, file: Path) -> Iterator[Item]:
        if file.suffix.lower() not in _LINES:
            raw = file.read_bytes()
            yield from self._of_text(raw, str(file))
            self.advance(len(raw))
            return
        empty = True
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    empty = False
                    yield from self._of_text(line.rstrip(), f"{file} line {number}")
                self.advance(len(line))
        if empty:
            self._refuse(str(file), _NOTHING)

    def _of_text(self, raw: bytes, place: str) -> Iterator[Item]:
        # Editors put a byte order mark in front, which only a body over HTTP may not have.
        try:
            resource = json.decode_resource(raw.removeprefix(codecs.BOM_UTF8))
        except FhirError as error:
            self._refuse(place, str(error).replace("The body", "The text"))
        else:
            yield from self._of_resource(resource, place)

    def _of_resource(self, resource: Resource, place: str) -> Iterator[Item]:
        match resource.get("resourceType"), resource.get("type"):
            case "Bundle", ("transaction" | "batch") as kind:
                yield Item(place, "POST", "", json.encode(resource), kind)
            case "Bundle", "message":
                yield Item(place, "POST", "$process-message", json.encode(resource), "message")
            case "Bundle", ("collection" | "searchset"):
                yield from self._of_entries(resource.get("entry"), place)
            case "Bundle", _:
                yield Item(place, "POST", "Bundle", json.encode(resource), "Bundle")
            case str(name), _:
                yield _item(resource, name, place)
            case _:
                self._refuse(place, "It has no resourceType; a FHIR resource is expected")

    def _of_entries(self, entries: Any, place: str) -> Iterator[Item]:
        if not isinstance(entries, list | None):
            self._refuse(place, "Bundle.entry: It is not an array of entries")
            return
        inputs = [*filter(_is_no_outcome, enumerate(entries or ()))]
        if not inputs:
            self._refuse(place, _NOTHING)
        for index, entry in inputs:
            within = f"{place} entry[{index}]"
            if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
                self._refuse(within, "It has no resource")
            else:
                yield from self._of_resource(entry["resource"], within)

    def _refuse(self, place: str, reason: str) -> None:
        self.report.refusals.append(Refusal(place, None, [reason]))


def _is_no_outcome(numbered: tuple[int, Any]) -> bool:
    """What a search says of itself (https://hl7.org/fhir/R4/search.html#entry) is no record."""
    entry = numbered[1]
    return not isinstance(entry, dict) or entry.get("search") != {"mode": "outcome"}


def _item(resource: Resource, name: str, place: str) -> Item:
    address, body = quote(name, safe=""), json.encode(resource)
    if "id" not in resource:
        return Item(place, "POST", address, body, name)
    resource_id = quote(str(resource["id"]), safe="")
    return Item(place, "PUT", f"{address}/{resource_id}", body, name)


async def _send_all(
    client: httpx.AsyncClient, server: str, items: Iterator[Item], report: Report
) -> None:
    for item in items:
        address = f"{server}/{item.address}" if item.address else server
        try:
            answer = await _answer(client, item, address)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"No answer: {type(error).__name__} {error}".rstrip()
            report.refusals.append(Refusal(item.place, None, [reason]))
        else:
            _note(report, item, answer)


async def _answer(client: httpx.AsyncClient, item: Item, address: str) -> httpx.Response:
    for _ in range(_TRIES - 1):
        answer = await _sent(client, item, address)
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(1)
    return await _sent(client, item, address)


async def _sent(client: httpx.AsyncClient, item: Item, address: str) -> httpx.Response:
    answer = await client.request(item.method, address, content=item.body)
    if item.method != "PUT" or answer.status_code != 412:
        return answer
    # Of some types nothing is changed without If-Match; whoever loads means to write over it.
    there = await client.head(address)
    headers = {"If-Match": there.headers.get("etag", "")}
    return await client.request(item.method, address, content=item.body, headers=headers)


def _note(report: Report, item: Item, answer: httpx.Response) -> None:
    if not answer.is_success:
        reasons = _reasons(_content(answer))
        report.refusals.append(Refusal(item.place, answer.status_code, reasons))
    elif item.kind in ("transaction", "batch"):
        _note_entries(report, item, _content(answer))
    else:
        report.stored[item.kind] += 1


def _note_entries(report: Report, item: Item, bundle: Any) -> None:
    """Each entry of a batch has an outcome of its own; those of a transaction are all well."""
    asked = json.decode(item.body).get("entry", [])
    answered = bundle.get("entry", []) if isinstance(bundle, dict) else []
    if not asked:
        report.refusals.append(Refusal(item.place, None, [_NOTHING]))
    nothing: Resource = {}
    pairs = zip_longest(asked, answered[: len(asked)], fillvalue=nothing)
    for index, (entry, told) in enumerate(pairs):
        response = told.get("response", {})
        status = _status(response)
        if status is None or status >= 400:
            reasons = _reasons(response.get("outcome"))
            report.refusals.append(Refusal(f"{item.place} entry[{index}]", status, reasons))
        else:
            report.stored[_kind(entry)] += 1


def _status(response: Resource) -> int | None:
    """Three digits (https://hl7.org/fhir/R4/bundle.html: Bundle.entry.response.status)."""
    digits = str(response.get("status", ""))[:3]
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _kind(entry: Resource) -> str:
    """The type of what was stored; for a request that stores nothing, its method."""
    method = entry["request"]["method"]
    stores = method in ("POST", "PUT") and "resource" in entry
    return str(entry["resource"]["resourceType"]) if stores else f"({method})"


def _content(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _reasons(outcome: Any) -> list[str]:
    """Each issue of an OperationOutcome in a line: its place and what is wrong there."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    reasons = [
        ": ".join([*issue.get("expression", []), _text(issue)])
        for issue in (issues if isinstance(issues, list) else ())
        if issue.get("severity") in ("error", "fatal")
    ]
    return reasons or ["The server does not say why"]


def _text(issue: Resource) -> str:
    details = issue.get("details", {}).get("text")
    return str(issue.get("diagnostics") or details or issue.get("code"))
