"""Where a synthetic region goes: files, a store, or a server; told of by a bar, then in numbers.

Whatever the size, one record at a time is in memory. A young person is one transaction, and who is
there already is left alone, so that what was interrupted goes on where it stopped.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.access.caller import Caller
from fhir_server.access.facts import remaking
from fhir_server.access.session import Session
from fhir_server.answering import fhir_server
from fhir_server.deciding import session
from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.interactions.exchange import Request, Server
from fhir_server.interactions.routing import run
from fhir_server.interactions.table import BUNDLE
from fhir_server.keeping import open_store
from fhir_server.loading import CannotLoad, bearer
from fhir_server.operation.registry import Operations
from fhir_server.region import Asked, generate
from fhir_server.region.tally import Tally
from fhir_server.settings import read_settings

STATISTICS: Final = "statistics.txt"
"""The file beside the others: what was asked and what was made."""
_A_BATCH: Final = 400
"""Entries of a transaction: a board's own resources are more than a server may take at once."""
_TRIES: Final = 6
_PATIENCE: Final = 120.0
"""Seconds for one answer."""
_JSON: Final = "application/fhir+json"
_OWN_BOUNDS: Final = {"auth": "none", "max_entries": 100_000}
"""What is set for requests is not for who has the store itself."""


class CannotMake(Exception):
    """The region cannot be put there; the text says why."""


@dataclass(slots=True)
class Made:
    """What came of it."""

    tally: Tally
    refused: list[str] = field(default_factory=list)
    """The first reason of each transaction that was refused, with whose it is."""
    skipped: int = 0
    """Transactions whose resources were there already."""


def to_folder(asked: Asked, folder: Path) -> Made:
    """A file of NDJSON to each type, and the statistics.

    Raises:
        CannotMake: when there are such files already, or they cannot be written.
    """
    tally = Tally(asked)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("*.ndjson")):
            raise CannotMake(f"{folder} has files of a region already")
        with ExitStack() as opened:
            files: dict[str, BinaryIO] = {}
            for resource, text in _each(asked, tally):
                name = resource["resourceType"]
                if name not in files:
                    files[name] = opened.enter_context((folder / f"{name}.ndjson").open("wb"))
                files[name].write(text.encode() + b"\n")
        (folder / STATISTICS).write_text("\n".join([*tally.lines(), ""]), "utf-8")
    except OSError as error:
        raise CannotMake(f"{error.filename}: {error.strerror}") from None
    return Made(tally)


def _each(asked: Asked, tally: Tally) -> Iterator[tuple[Resource, str]]:
    for texts in _shown(asked):
        for text in texts:
            yield _counted(text, tally), text


def _counted(text: str, tally: Tally) -> Resource:
    resource = json.decode_resource(text.encode())
    tally.add(resource, len(text.encode()))
    return resource


def _shown(asked: Asked) -> Iterator[list[str]]:
    """All of it, with a bar that counts the young people and not the boards before them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # What is no terminal gets no bar: a log would hold a line for each step of it.
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("Young people", total=asked.young_people)
        for number, texts in enumerate(generate(asked), 1):
            yield texts
            progress.update(task, completed=max(0, number - asked.boards))


def _transactions(asked: Asked, tally: Tally) -> Iterator[Resource]:
    for texts in _shown(asked):
        for first in range(0, len(texts), _A_BATCH):
            yield _transaction([_counted(text, tally) for text in texts[first : first + _A_BATCH]])


def _transaction(resources: Sequence[Resource]) -> Resource:
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _first(bundle: Resource) -> str:
    """The address of its first resource, by which it is known whether all of it is there."""
    return str(bundle["entry"][0]["request"]["url"])


def to_store(asked: Asked, store: str | None) -> Made:
    """Straight into the store, by the server's own transactions with all their rules.

    Raises:
        CannotMake: when there is no such store.
    """
    try:
        settings = read_settings(
            {**_OWN_BOUNDS, **({} if store is None else {"store": store})}
        ).model_copy(update=_OWN_BOUNDS)
        return asyncio.run(_to_store(asked, settings))
    except (ValueError, OSError, FhirError) as error:
        raise CannotMake(f"The store cannot be used: {error}") from None


async def _to_store(asked: Asked, settings: Any) -> Made:
    store = await open_store(settings)
    made = Made(Tally(asked))
    try:
        # What decides about access is kept from the first record on, not worked out at a start.
        await remaking.ensure(store)
        server = await fhir_server(settings, store, Operations())
        caller = Caller("anonymous", "synthetic-region")
        data = session(settings, store, caller, rules=server.rules)
        for bundle in _transactions(asked, made.tally):
            await _keep(data, server, bundle, made)
    finally:
        await store.close()
    return made


async def _keep(data: Session, server: Server, bundle: Resource, made: Made) -> None:
    kind, _, name = _first(bundle).partition("/")
    if await data.read(kind, name) is not None:
        made.skipped += 1
        return
    try:
        await run(data, BUNDLE, Request(server, method="POST", resource=bundle))
    except FhirError as error:
        made.refused.append(f"{_first(bundle)}: {error}")


def to_server(asked: Asked, server: str, token: str, concurrency: int) -> Made:
    """By transactions over HTTP.

    Args:
        token: shown to the server; none where it is empty.
        concurrency: transactions under way at a time.

    Raises:
        CannotMake: when there is no server.
    """
    try:
        return asyncio.run(_to_server(asked, server.rstrip("/"), token, concurrency))
    except (httpx.HTTPError, httpx.InvalidURL, CannotLoad) as error:
        raise CannotMake(f"{server} cannot be reached: {error}") from None


async def _to_server(asked: Asked, server: str, token: str, concurrency: int) -> Made:
    made = Made(Tally(asked))
    bundles = _transactions(asked, made.tally)
    headers = {"Content-Type": _JSON, "Accept": _JSON, "Prefer": "return=minimal"}
    async with httpx.AsyncClient(
        auth=bearer(token, server), headers=headers, timeout=_PATIENCE
    ) as client:

        async def send_all() -> None:
            for bundle in bundles:
                await _send(client, server, bundle, made)

        # What records refer to is there before the first of them.
        for bundle in bundles:
            await _send(client, server, bundle, made)
            if made.tally.types["PractitionerRole"] and made.tally.types["Patient"]:
                break
        await asyncio.gather(*(send_all() for _ in range(concurrency)))
    return made


async def _send(client: httpx.AsyncClient, server: str, bundle: Resource, made: Made) -> None:
    address = _first(bundle)
    if (await client.get(f"{server}/{address}")).status_code == 200:
        made.skipped += 1
        return
    body = json.encode(bundle)
    for attempt in range(_TRIES):
        answer = await client.post(server, content=body)
        if answer.status_code not in (429, 503) or attempt == _TRIES - 1:
            break
        await asyncio.sleep(_wait(answer))
    if not answer.is_success:
        made.refused.append(f"{address}: {answer.status_code} {_reason(answer)}")


def _wait(answer: httpx.Response) -> float:
    told = answer.headers.get("retry-after", "")
    return min(float(told), 30.0) if told.isdigit() else 1.0


def _reason(answer: httpx.Response) -> str:
    try:
        issue = answer.json()["issue"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return f"{issue.get('diagnostics') or issue.get('details', {}).get('text', '')}"
