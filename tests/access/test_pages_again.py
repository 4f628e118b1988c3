"""Pages that are given again are never those of another state, whoever writes between them.

What they should be is worked out each time by a store and a policy that have just been opened.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.glass import memo
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application
from fhir_server.deciding import scopes_of, session
from fhir_server.http.pages import Page, Pages
from fhir_server.http.query import parameters_of
from fhir_server.interactions.exchange import Request
from fhir_server.interactions.table import SEARCH
from fhir_server.setting_groups.consent import terms_of
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite import within
from fhir_server.storage.sqlite.reader import ConnectionReader
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.deciding import about, chances, rating
from tests.access.following import delete, write
from tests.access.people import child, consent, episode, member, ods, ref, stay, team
from tests.access.served import served, settings_of
from tests.access.test_direct import token
from tests.http.comparing import comparable
from tests.http.wired import Told, Wired, get

pytestmark = pytest.mark.sqlite_alone
NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
STEPS: Final = 600 if NIGHTLY else 24
ASKED: Final = 5
"""Pages that are asked for after each step."""
CHILDREN: Final = ("1", "2")
SEARCHES: Final = (
    "Goal?subject=Patient/1&_count=2",
    "Goal?_count=3&_sort=-_lastUpdated&_total=accurate",
    "Goal?subject:Patient.name=Anna&_include=Goal:subject",
    "Patient?_has:Goal:subject:lifecycle-status=active",
    "Patient?_summary=count",
    "CarePlan?_include=CarePlan:subject&_include:iterate=*:*",
    "Flag?_count=20",
    "Task?_count=0&_total=accurate",
    "Patient?name=Anna&_revinclude=Flag:subject&_count=5",
)
WHO: Final[dict[str, dict[str, Any]]] = {
    "keyworker": {},
    "nurse": {"fhirUser": "Practitioner/nurse"},
    "stranger": {"fhirUser": "Practitioner/stranger"},
    "unit": {"fhirUser": None, "ods_code": "W11"},
    "signatory": {"fhirUser": None, "ods_code": "H11"},
    "plans": {"scope": "system/CarePlan.rs system/Goal.rs?subject=Patient/1"},
}
TEAM: Final = ("Practitioner/nurse", "Practitioner/another")
STAYS: Final = ("in-progress", "finished")
_numbers: Final = count()


class World:
    """A server, another process's store, and what is done to both."""

    def __init__(self, app: Application, other: Store, folder: Path, auth: str) -> None:
        self.app: Final = app
        self.other: Final = other
        self.wired: Final = Wired(app)
        self.given = 0
        """Pages that were given again."""
        self.told: list[Any] = []
        """Those that were told of rows that were kept of what somebody may see."""
        self._settings: Final = settings_of(folder, auth)
        self._path: Final = folder / "region.db"

    async def asked(self, search: str, *headers: tuple[str, str]) -> None:
        """The page is what it would be for whoever has never asked before."""
        told = await self.wired.usually(get(search, *headers))
        head, _, body = told.answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 "):
            caller = await self.caller_of(*headers)
            assert self._opened(body) == self._opened(await self._anew(caller, search)), search

    async def caller_of(self, *headers: tuple[str, str]) -> Caller:
        assert self.app.fhir is not None
        authenticate = self.app.fhir._authenticate
        return ANONYMOUS if authenticate is None else await authenticate(headers[0][1], "")

    async def _anew(self, caller: Caller, search: str) -> bytes:
        assert self.app.fhir is not None
        server, settings = self.app.fhir.server, self._settings
        store = SqliteStore(self._path)
        try:
            decisions = TableDecisions(terms_of(settings))
            found = session(settings, store, caller, decisions, scopes=scopes_of(settings))
            name, _, query = search.partition("?")
            parameters = parameters_of(query, self.app.limits)
            request = Request(server, name, parameters=parameters)
            return (await SEARCH.perform(found.answering(), request)).body
        finally:
            await store.close()

    def _opened(self, body: bytes) -> bytes:
        """With what its links hold."""
        return comparable(self.app, Told(b"\r\n\r\n" + body, (), closed=False)).answer


async def change(random: Random, store: Store, breaker: Caller | None) -> None:
    """Something that may change what somebody finds, or nothing."""
    one, number = random.choice(CHILDREN), random.choice("abc")
    if random.random() < 0.15:
        await gone(store, "Goal", number)
    elif breaker is not None and random.random() < 0.15:
        await broken(store, one, breaker)
    else:
        await write(store, *random.choice(writes(random, one, number)))


def writes(random: Random, one: str, number: str) -> list[list[dict[str, Any]]]:
    words = {"description": {"text": f"Written {next(_numbers)}"}}
    state = random.choice(("active", "completed"))
    goal = about("Goal", number, one, lifecycleStatus=state, **words)
    plan = about("CarePlan", number, one, status="active", intent="plan", title=str(words))
    named = child(one, name=[{"given": [random.choice(("Anna", "Bea"))]}])
    flag = rating(number, one, random.choice(("red", "amber")))
    return [
        [goal],
        [plan],
        [named],
        [flag],
        [about("Task", number, one, status="ready", intent="order", **words)],
        [goal, plan, named, flag],
        [consent_of(one, status=random.choice(("active", "inactive")))],
        [team(*map(member, random.sample(TEAM, 1)), id=f"t{one}", patient=f"Patient/{one}")],
        [worked(one, random.choice(("Practitioner/kw", "Practitioner/other")))],
        [stay(ods("W11"), f"Patient/{one}", id=f"s{one}", status=random.choice(STAYS))],
    ]


def consent_of(patient: str, **rest: Any) -> dict[str, Any]:
    given = {"id": f"c{patient}", "patient": ref(f"Patient/{patient}"), **rest}
    return consent(performer=f"Patient/{patient}", **given)


def worked(patient: str, manager: str) -> dict[str, Any]:
    cared = [{"reference": f"CareTeam/t{patient}"}]
    return episode(manager, f"Patient/{patient}", id=f"e{patient}", team=cared)


async def gone(store: Store, resource_type: str, resource_id: str) -> None:
    current = await store.read(resource_type, resource_id)
    if current is not None and not current.deleted:
        await delete(store, resource_type, resource_id)


async def broken(store: Store, patient: str, caller: Caller) -> None:
    """The glass, for an hour."""
    until = system_clock() + 3_600_000_000

    async def work(unit: SessionUnit) -> None:
        await unit.keep(memo(caller, patient, "Heard", until))

    await Session(store, caller, OpenPolicy()).commit("break-glass", work)


@asynccontextmanager
async def world_of(
    folder: Path, auth: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    find = Pages.find

    async def counted(self: Pages, *told: Any) -> Page | None:
        found = await find(self, *told)
        world.given += found is not None
        return found

    monkeypatch.setattr(Pages, "find", counted)
    page_among = ConnectionReader._page_among
    told: list[Any] = []

    def noted(self: ConnectionReader, *asked: Any) -> Any:
        page = page_among(self, *asked)
        told.extend([page] if page else [])
        return page

    monkeypatch.setattr(ConnectionReader, "_page_among", noted)
    monkeypatch.setattr(within, "_TIMES", 1)
    async with served(folder, auth) as (app, _):
        other = SqliteStore(folder / "region.db")
        world = World(app, other, folder, auth)
        world.told = told
        for one in CHILDREN:
            named = child(one, name=[{"given": ["Anna"]}])
            await write(other, named, consent_of(one), worked(one, "Practitioner/kw"))
            await write(other, about("Goal", one, one), team(member(TEAM[0]), id=f"t{one}"))
        yield world
        await other.close()


@pytest.mark.parametrize("auth", ["token", "none"])
async def test_whatever_is_written_a_page_is_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: str
) -> None:
    random = chances(int(os.environ.get("SEED", "7")))
    async with world_of(tmp_path, auth, monkeypatch) as world:
        tokens = {who: token(jti=who, **told) for who, told in WHO.items() if auth == "token"}
        pairs = [(one, who) for one in SEARCHES for who in [*tokens] or [""]]
        often = random.sample(pairs, min(len(pairs), 2 * ASKED))
        breaker = await world.caller_of(tokens["stranger"]) if tokens else None
        for _ in range(STEPS):
            store = random.choice((world.app.state.store, world.other))
            await change(random, store, breaker)
            for search, who in random.choices(often, k=ASKED):
                words = random.choice(("", "", f"&_id:not=x{next(_numbers)}"))
                await world.asked(search + words, *([tokens[who]] if who else []))
        assert world.given, "else nothing here is tried"
        assert world.told or not tokens, "nor this"
