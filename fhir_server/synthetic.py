"""The synthetic caseload in the store, and what to try with it: what `make run` shows.

Each young person is one transaction, and a marker comes last: an interrupted load goes on where
it stopped, and a finished one is known by one look.
"""

import asyncio
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.answering import fhir_server
from fhir_server.deciding import session
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.json import Resource
from fhir_server.interactions.exchange import Request, Server
from fhir_server.interactions.routing import run
from fhir_server.interactions.table import BUNDLE
from fhir_server.keeping import open_store
from fhir_server.operation.records import Lookup
from fhir_server.operation.registry import Operations
from fhir_server.settings import Settings, sqlite_path
from fhir_server.storage.clock import system_clock
from fhir_server.storage.mongo.address import database_name, is_mongo
from fhir_server.story import (
    DEFAULT_SERVER,
    SPELL_SYSTEM,
    TRUST,
    Stay,
    goes_to_hospital,
    is_of_the_story,
    stay,
)

MARKER: Final = ("Provenance", "kw-synthetic-caseload")
_SEED: Final = 1
_YOUNG_PEOPLE: Final = 30
_OWN_BOUNDS: Final = {
    "auth": "none",  # who starts the server loads it, and shows no token for that
    **{name: Settings.model_fields[name].default for name in ("max_entries", "search_patience")},
}
"""What is set for requests is not for the caseload, which is as large as it is."""
_PLAN: Final = f"category={canonicals.CARE_PLAN_CATEGORY}|keyworking-plan&status=active"
_IN_HOSPITAL: Final = "class=IMP,ACUTE,NONAC"
_ENDED: Final = ("finished", "cancelled", "entered-in-error")
_SECOND: Final = timedelta(seconds=1)
_COMMAND: Final = ".venv/bin/keyworking"
_SHOWN: Final = '-H "Authorization: Bearer $TOKEN" '
_SCOPES: Final = ("system/*.rs", "system/MessageHeader.c", "system/Encounter.cu")
"""What a ward asks for that tells of stays."""


@dataclass(frozen=True, slots=True)
class _Try:
    """Whom the printed lines admit and discharge."""

    young_person: str
    """The id of the Patient."""
    stay: Stay


def ensure_loaded(
    settings: Settings, as_of: date | None = None, young_people: int = _YOUNG_PEOPLE
) -> list[str]:
    """Load the caseload unless it is there; lines for a terminal on what to try next.

    Args:
        as_of: the day as of which its young people are where they are; today by default.
    """
    own = settings.model_copy(update=_OWN_BOUNDS)
    tokens = settings.auth == "token"
    return asyncio.run(_ensure_loaded(own, tokens=tokens, as_of=as_of, young_people=young_people))


async def _ensure_loaded(
    settings: Settings,
    *,
    tokens: bool,
    as_of: date | None = None,
    young_people: int = _YOUNG_PEOPLE,
) -> list[str]:
    store = await open_store(settings)
    try:
        data = session(settings, store, Caller("anonymous", "synthetic-caseload"))
        if await data.read(*MARKER) is not None:
            click.echo("The synthetic caseload is there already.")
        else:
            server = await fhir_server(settings, store, Operations())
            await _load(data, server, as_of or _now().date(), young_people)
        tried = await _whom_to_try(Lookup(data, base=settings.base, now=system_clock()))
        return _what_a_ward_tries(settings, tried) if tokens else _what_to_try(settings, tried)
    finally:
        await store.close()


def _now() -> datetime:
    return datetime.now(UTC).astimezone(LOCAL).replace(microsecond=0)


async def _load(data: Session, server: Server, as_of: date, young_people: int) -> None:
    # Here, because building the models takes half a second that a second start does not need.
    from fhir_server.caseload import generate

    loaded = 0
    for bundle in generate(_SEED, as_of, young_people):
        if not await _is_there(data, bundle):
            await run(data, BUNDLE, Request(server, method="POST", resource=bundle))
        loaded += len(bundle["entry"])
    click.echo(f"Loaded a synthetic caseload of {young_people} young people: {loaded} resources.")


async def _is_there(data: Session, bundle: dict[str, Any]) -> bool:
    """A transaction is there as a whole or not at all: its first resource tells."""
    first = bundle["entry"][0]["resource"]
    return await data.read(first["resourceType"], first["id"]) is not None


async def _whom_to_try(records: Lookup) -> _Try | None:
    """Somebody with a plan who is at home, or in hospital since an earlier try broke off."""
    others = (f"kw-synthetic-{serial:03d}" for serial in range(1, _YOUNG_PEOPLE + 1))
    for young_person in (goes_to_hospital(), *others):
        patient = await records.get("Patient", young_person)
        found = await _stay_of(records, patient) if patient else None
        if found:
            return _Try(young_person, found)
    return None


async def _stay_of(records: Lookup, patient: Resource) -> Stay | None:
    """The stay that the messages are to be about; None for who had better be left alone."""
    number = _identifier(patient, canonicals.NHS_NUMBER)
    about = f"patient={patient['id']}"
    plans = await records.find("CarePlan", f"{about}&{_PLAN}")
    if not number or not any(plan.get("goal") for plan in plans):
        return None
    stays = await records.find("Encounter", f"{about}&{_IN_HOSPITAL}")
    match [encounter for encounter in stays if encounter["status"] not in _ENDED]:
        case []:
            return stay(number, _after(stays))
        case [encounter]:
            return _broken_off(number, encounter)
    return None


def _after(stays: Sequence[Resource]) -> datetime:
    """Now, or when the lines of an earlier start have had the young person leave hospital."""
    own = (encounter for encounter in stays if is_of_the_story(_spell(encounter)))
    ends = [end for encounter in own if (end := _moment(encounter, "end"))]
    return max([_now(), *(end.astimezone(LOCAL) + _SECOND for end in ends)])


def _moment(encounter: Resource, which: str) -> datetime | None:
    """The start or end as the story's messages tell it, None where it is told otherwise."""
    try:
        found = datetime.fromisoformat(encounter.get("period", {}).get(which, ""))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _spell(encounter: Resource) -> str:
    return _identifier(encounter, SPELL_SYSTEM)


def _broken_off(number: str, encounter: Resource) -> Stay | None:
    """The stay as an earlier start's admission told of it, None for one of somebody else."""
    spell, start = _spell(encounter), _moment(encounter, "start")
    return Stay(number, spell, start) if start and is_of_the_story(spell) else None


def _identifier(resource: Resource, system: str) -> str:
    return next(
        (
            str(identifier["value"])
            for identifier in resource.get("identifier", ())
            if identifier.get("system") == system and identifier.get("value")
        ),
        "",
    )


def _what_to_try(settings: Settings, tried: _Try | None) -> list[str]:
    base = settings.base
    steps = [("Who is supported?", _get(f"{base}/Patient?_count=3&"))]
    if tried:
        steps += _story(base, tried, _write_down(settings, tried.stay))
    option = "" if base == DEFAULT_SERVER else f" --server {base}"
    return [
        *_lines(base, [*steps, _metadata(base)]),
        f"  or the whole story, step by step:   {_COMMAND} demo --admission{option}",
        "",
    ]


def _metadata(base: str) -> tuple[str, str]:
    return "What can this server do?", _get(f"{base}/metadata?")


def _what_a_ward_tries(settings: Settings, tried: _Try | None) -> list[str]:
    """Where tokens are asked for: a ward gets one, and sees whom it has admitted."""
    base = settings.base
    if tried is None or not settings.authorisation_server:
        return _lines(base, [_metadata(base)])
    if TRUST not in settings.inpatient_units:
        command = f"KEYWORKING_INPATIENT_UNITS={TRUST} {_COMMAND} serve --auth token"
        again = ("To try it as a ward, serve like this", f"{command} --synthetic-caseload")
        return _lines(base, [again, _metadata(base)])
    folder = _write_down(settings, tried.stay)
    plans = _get(f"{base}/CarePlan?patient={tried.young_person}&", _SHOWN)
    steps = [
        ("A ward's system makes a pair of keys", f"{_COMMAND} key generate ward"),
        ("and is registered, by whoever runs the server", _registration(settings)),
        ("It asks for a token, which is good for some minutes", _token(base)),
        ("Nobody's plan is for it to see", plans),
        ("until it tells of an admission", _post(base, folder / "admission.json", _SHOWN)),
        ("Now it sees the plans of the young person in its care", plans),
        ("It tells of the discharge", _post(base, folder / "discharge.json", _SHOWN)),
        ("and from then on they are not for it any more", plans),
    ]
    return _lines(base, [*steps, _metadata(base)])


def _registration(settings: Settings) -> str:
    scopes = " ".join(f"--scope '{scope}'" for scope in _SCOPES)
    # An address of MongoDB may hold a password.
    store = '"$KEYWORKING_STORE"' if is_mongo(settings.store) else shlex.quote(settings.store)
    option = "" if settings.store == Settings.model_fields["store"].default else f" --store {store}"
    # The purpose is what the consents permit.
    acts_for = f"--jwks ward.jwks.json --ods {TRUST} --purpose TREAT"
    return f"{_COMMAND} client add ward {acts_for} {scopes}{option}"


def _token(base: str) -> str:
    asked = f"--key ward.private.json --scope '{' '.join(_SCOPES)}' --server {base}"
    return f"TOKEN=$({_COMMAND} token ward {asked})"


def _write_down(settings: Settings, stay: Stay) -> Path:
    """The folder with the messages: beside the store's file, as they are about what it holds.

    For a store elsewhere, where its file would usually be.
    """
    usual = sqlite_path(Settings.model_fields["store"].default)
    if is_mongo(settings.store):
        store = usual.with_name(database_name(settings.store))
    else:
        store = sqlite_path(settings.store)
    folder = store.with_name("try" if store.name == usual.name else f"{store.name}-try")
    folder.mkdir(parents=True, exist_ok=True)
    # No later than that: a message is about what has happened, and may be posted at once.
    end = max(_now(), stay.start + _SECOND)
    messages = {"admission": stay.admission(), "discharge": stay.discharge(end)}
    for name, message in messages.items():
        (folder / f"{name}.json").write_text(json.dumps(message, indent=2) + "\n")
    return folder


def _story(base: str, tried: _Try, folder: Path) -> list[tuple[str, str]]:
    young_person = tried.young_person
    patient = f"{base}/Patient/{young_person}"
    category = f"{canonicals.CARE_PLAN_CATEGORY}%7Cdischarge-plan"
    return [
        (
            "One young person's plan, with its goals",
            _get(f"{base}/CarePlan?patient={young_person}&_include=CarePlan:goal&"),
        ),
        ("How likely is an admission?", _get(f"{patient}/$admission-risk?")),
        ("The ward tells of an admission", _post(base, folder / "admission.json")),
        ("Now the rating is blue", _get(f"{patient}/$admission-risk?")),
        ("and a discharge plan is open", _get(f"{patient}/$discharge-plan?")),
        (
            "CAMHS looks for discharge plans",
            _get(f"{base}/CarePlan?category={category}&_sort=-_lastUpdated&"),
        ),
        ("The ward tells of the discharge", _post(base, folder / "discharge.json")),
        (
            "What must be done by when?",
            _get(f"{base}/Task?patient={young_person}&status=requested&"),
        ),
    ]


def _get(address: str, header: str = "") -> str:
    return f"curl -s {header}'{address}_pretty=true'"


def _post(base: str, file: Path, header: str = "") -> str:
    return (
        f"curl -s {header}-H 'Content-Type: application/fhir+json'"
        f" '{base}/$process-message?_pretty=true' -d {shlex.quote(f'@{file}')}"
    )


def _lines(base: str, steps: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["", f"  The FHIR base is {base}. Try, in another terminal in this folder:", ""]
    for what, command in steps:
        lines += [f"  # {what}", f"  {command}", ""]
    return lines
