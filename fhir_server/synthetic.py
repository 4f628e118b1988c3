"""The synthetic caseload in the store, and what to try with it: what `make run` shows.

Each young person is one transaction, and a marker comes last: an interrupted load goes on where
it stopped, and a finished one is known by one look.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import click

from fhir_server.access.session import Session
from fhir_server.app import fhir_server, open_store, session
from fhir_server.fhir.dates import LOCAL
from fhir_server.interactions.exchange import Request, Server
from fhir_server.interactions.routing import run
from fhir_server.interactions.table import BUNDLE
from fhir_server.operation.registry import Operations
from fhir_server.settings import Settings
from fhir_server.story import DEFAULT_SERVER, admission, discharge, goes_to_hospital

MARKER: Final = ("Provenance", "kw-synthetic-caseload")
_SEED: Final = 1


def ensure_loaded(settings: Settings) -> list[str]:
    """Load the caseload unless it is there; lines for a terminal on what to try next."""
    asyncio.run(_ensure_loaded(settings))
    return _what_to_try(settings)


async def _ensure_loaded(settings: Settings) -> None:
    store = open_store(settings)
    try:
        data = session(settings, store, "synthetic-caseload")
        if await data.read(*MARKER) is not None:
            click.echo("The synthetic caseload is there already.")
            return
        server = await fhir_server(settings, store, Operations())
        await _load(data, server, _today())
    finally:
        await store.close()


def _today() -> date:
    return datetime.now(UTC).astimezone(LOCAL).date()


async def _load(data: Session, server: Server, as_of: date) -> None:
    # Here, because building the models takes half a second that a second start does not need.
    from fhir_server.caseload import generate

    loaded = 0
    for bundle in generate(_SEED, as_of):
        if not await _is_there(data, bundle):
            await run(data, BUNDLE, Request(server, method="POST", resource=bundle))
        loaded += len(bundle["entry"])
    click.echo(f"Loaded a synthetic caseload of 30 young people: {loaded} resources.")


async def _is_there(data: Session, bundle: dict[str, Any]) -> bool:
    """A transaction is there as a whole or not at all: its first resource tells."""
    first = bundle["entry"][0]["resource"]
    return await data.read(first["resourceType"], first["id"]) is not None


def _what_to_try(settings: Settings) -> list[str]:
    base, young_person = settings.base, goes_to_hospital()
    folder = Path("var") / "try"
    sent = datetime.now(UTC).astimezone(LOCAL).replace(microsecond=0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, message in (("admission", admission(sent)), ("discharge", discharge(sent))):
        (folder / f"{name}.json").write_text(json.dumps(message, indent=2) + "\n")
    patient = f"{base}/Patient/{young_person}"
    category = "https://keyworking.example/fhir/CodeSystem/care-plan-category%7Cdischarge-plan"
    post = (
        f"curl -s -H 'Content-Type: application/fhir+json' '{base}/$process-message?_pretty=true'"
    )
    return _lines(
        base,
        [
            ("Who is supported?", f"curl -s '{base}/Patient?_count=3&_pretty=true'"),
            (
                "One young person's plan, with its goals",
                f"curl -s '{base}/CarePlan?patient={young_person}&_include=CarePlan:goal"
                "&_pretty=true'",
            ),
            ("How likely is an admission?", f"curl -s '{patient}/$admission-risk?_pretty=true'"),
            ("The ward tells of an admission", f"{post} -d @{folder}/admission.json"),
            ("Now the rating is blue", f"curl -s '{patient}/$admission-risk?_pretty=true'"),
            ("and a discharge plan is open", f"curl -s '{patient}/$discharge-plan?_pretty=true'"),
            (
                "CAMHS looks for discharge plans",
                f"curl -s '{base}/CarePlan?category={category}&_sort=-_lastUpdated&_pretty=true'",
            ),
            ("The ward tells of the discharge", f"{post} -d @{folder}/discharge.json"),
            (
                "What must be done by when?",
                f"curl -s '{base}/Task?patient={young_person}&status=requested&_pretty=true'",
            ),
            ("What can this server do?", f"curl -s '{base}/metadata?_pretty=true'"),
        ],
    )


def _lines(base: str, steps: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["", f"  The FHIR base is {base}. Try, in another terminal in this folder:", ""]
    for what, command in steps:
        lines += [f"  # {what}", f"  {command}", ""]
    option = "" if base == DEFAULT_SERVER else f" --server {base}"
    return [*lines, f"  or the whole story, step by step:   .venv/bin/keyworking demo{option}", ""]
