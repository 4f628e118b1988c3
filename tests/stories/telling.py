"""What a story is told with: one server that wants tokens, whoever takes part, and its clock.

The server is the whole application, with the profiles, the rules and the built-in authorisation
server; each person is a client that is registered there and asks it for tokens.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from fhir_server.access.facts import kept
from fhir_server.access.ledger import Ledger
from fhir_server.app import Application, create_app
from fhir_server.fhir import json
from fhir_server.jobs.scheduler import Scheduler
from fhir_server.settings import Settings
from fhir_server.timing import scheduler
from tests.access.people import organisation, role
from tests.authorisation.machines import Machine, pair
from tests.jobs import until
from tests.stores import SQLITE, store_at
from tests.stories import papers
from tests.stories.clock import Clock
from tests.stories.papers import Child, Entry
from tests.stories.people import Person
from tests.support import stored_versions

MONDAY: Final = "2026-03-02 09:00"
_STAFF: Final = {
    "keyworker": papers.SERVICE,
    "colleague": papers.SERVICE,
    "manager": papers.SERVICE,
    "strategic-keyworker": papers.SERVICE,
    "nurse": papers.CAMHS,
    "paediatrician": papers.CHILDRENS,
    "social-worker": papers.COUNCIL,
    "stranger": papers.ELSEWHERE,
}
"""Practitioners by name, and for whom they work."""
_SIGNATORIES: Final = (
    *(f"{code}=health" for code in (papers.CAMHS, papers.CHILDRENS)),
    f"{papers.COUNCIL}=social-care",
)
"""Of the register."""


@dataclass
class Telling:
    """A server in a region, with those who work there."""

    app: Application
    client: httpx.AsyncClient
    clock: Clock
    timers: Scheduler
    people: dict[str, Person] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Person:
        """By name: `telling.social_worker`."""
        try:
            return self.people[name.replace("_", "-")]
        except KeyError:
            raise AttributeError(name) from None

    async def it_is(self, moment: str) -> None:
        """Time goes on; what it alone brings about has come."""
        self.clock.move_to(moment)
        while await self.timers.work():
            pass

    async def comes(self, name: str, reference: str = "", **registered: Any) -> Person:
        """Somebody is registered as a client, and takes part from now on."""
        scopes = "user/*.cruds" if reference else "system/*.cruds"
        machine = Machine(name, pair("story"))
        given = {"scopes": scopes, "user": reference, "purposes": ("TREAT",), **registered}
        client = await machine.register(Ledger(self.app.state.store), **given)
        found = Person(self.client, self.clock, machine, reference, client.scopes)
        self.people[name] = found
        return found

    async def joins(self, name: str, code: str, **registered: Any) -> Person:
        """Somebody begins to work at one of the organisations."""
        shared = Entry()
        _employ(shared, name, code)
        await self.administrator.sends(shared.bundle)
        return await self.comes(name, f"Practitioner/{name}", ods_code=code, **registered)

    async def is_known_from_the_hospital(self, child: Child) -> None:
        """By its message alone: whoever runs the server looks up who that is, for a token."""
        for version in await stored_versions(self.app.state.store):
            resource = json.decode_resource(version.body)
            if resource.get("identifier", [{}])[0].get("value") == child.nhs_number:
                child.id = resource["id"]
        await self._has_a_token(child)

    async def _has_a_token(self, child: Child) -> None:
        registered = {"patient": child.id, "scopes": "patient/*.cruds"}
        await self.comes(child.name.lower(), child.reference, **registered)

    async def is_on_the_register(self, child: Child) -> None:
        """Told by the area's own register; from then on child and parents have tokens."""
        day = self.clock.now.date().isoformat()
        answer = await self.administrator.sends(papers.from_the_register(child, day))
        places = [entry["response"]["location"].split("/")[-4:] for entry in answer["entry"]]
        found = ["/".join(place[:2]) for place in places]
        child.id = found[0].partition("/")[2]
        child.mother, child.father, child.need = found[1:4]
        await self._have_tokens(child)

    async def is_brought(self, child: Child) -> None:
        """By the parents, to whoever keeps the register: nobody has agreed to anything yet."""
        writes = self.register.writes
        child.id = (await writes(papers.patient_of(child)))["id"]
        parents = [await writes(papers.parent(child.reference)) for _ in ("mother", "father")]
        child.mother, child.father = [f"RelatedPerson/{one['id']}" for one in parents]
        need = await writes(papers.diagnosis(child.reference))
        child.need = f"Condition/{need['id']}"
        if child.harms_himself:
            await writes(papers.self_harm(child.reference))
        await self._have_tokens(child)

    async def _have_tokens(self, child: Child) -> None:
        await self._has_a_token(child)
        await self.comes(f"{child.name.lower()}s-mother", child.mother)
        await self.comes(f"{child.name.lower()}s-father", child.father)


@asynccontextmanager
async def told(folder: Path, begins: str = MONDAY, **more: Any) -> AsyncIterator[Telling]:
    """A server on which a story begins, with those who work in the region.

    On SQLite, whichever store is asked for: a story is about what the service does, and long.
    """
    clock = Clock(folder / "clock", begins)
    settings = Settings(
        auth="token",
        store=store_at(folder / "story.db", SQLITE),
        scheduler=False,
        inpatient_units=(papers.HOSPITAL,),
        register_signatories=_SIGNATORIES,
        register_organisation=papers.SERVICE,
        **more,
    )
    # A clock that can be moved is not for tokens: here no token outlives its story.
    settings = settings.model_copy(update={"movable_clock": clock.path})
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await until(lambda: _is_ready(app))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            telling = Telling(app, client, clock, scheduler(app.state.store, app.state.server))
            await _staffed(telling)
            yield telling


async def _is_ready(app: Application) -> bool:
    return (await kept.state(app.state.store)).usable


async def _staffed(telling: Telling) -> None:
    await telling.comes("administrator", roles=("administrator",))
    shared = Entry()
    for code in papers.ORGANISATIONS:
        shared.add(organisation(f"org-{code}", code, name=code, active=True), "PUT")
    for name, code in _STAFF.items():
        _employ(shared, name, code)
    await telling.administrator.sends(shared.bundle)
    for name, code in _STAFF.items():
        await telling.comes(name, f"Practitioner/{name}", ods_code=code)
    await telling.comes("register", ods_code=papers.SERVICE, roles=("administrator",))
    await telling.comes("hospital", ods_code=papers.HOSPITAL)
    await telling.comes("commissioner", ods_code=papers.BOARD, roles=("commissioner",))


def _employ(shared: Entry, name: str, code: str) -> None:
    shared.add({"resourceType": "Practitioner", "id": name, "active": True}, "PUT")
    post = role(f"post-{name}", f"Practitioner/{name}", f"Organization/org-{code}")
    shared.add({**post, "active": True}, "PUT")
