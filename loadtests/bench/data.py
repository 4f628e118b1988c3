"""The data of the bench: a synthetic region, and some of its young people with a page of plans.

The same resources, with the same ids, whichever server they are loaded into.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any, Final

from fhir_server.access.facts import remaking
from fhir_server.caseload import generate
from fhir_server.fhir import canonicals, json
from fhir_server.keeping import open_store
from fhir_server.settings import Settings
from fhir_server.storage.interface import Draft, Unit
from loadtests.bench.asking import Target, ask, raw

_AS_OF: Final = date(2026, 6, 1)
_A_COMMIT: Final = 500
_LEAST_EACH: Final = 20
"""Fewer resources than any caseload has for each young person."""
WITH_MANY: Final = 20
"""Young people with a page of plans."""
MANY: Final = 20
"""Plans that they have besides their own."""

Bundle = dict[str, Any]
Resource = dict[str, Any]


@dataclass(slots=True)
class Data:
    """What the cases ask for; each list in the order in which it was made."""

    resources: int = 0
    patients: list[str] = field(default_factory=list)
    with_many: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    """NHS numbers of the patients."""
    plans: list[Resource] = field(default_factory=list)
    """Active keyworking plans, each of another young person, as they were sent."""

    def note(self, resource: Resource) -> None:
        self.resources += 1
        if resource["resourceType"] == "Patient":
            self.patients.append(resource["id"])
            self.numbers += [
                one["value"]
                for one in resource["identifier"]
                if one["system"] == canonicals.NHS_NUMBER
            ]
        elif _is_own_plan(resource) and len(self.plans) < 1000:
            self.plans.append(resource)


def bundles(resources: int, data: Data) -> Iterator[Bundle]:
    """Transactions with about so many resources, whole young people; `data` is told of each."""
    for bundle in generate(1, _AS_OF, max(2, resources // _LEAST_EACH)):
        for entry in [*bundle["entry"]]:
            data.note(entry["resource"])
            if _is_own_plan(entry["resource"]) and len(data.with_many) < WITH_MANY:
                bundle["entry"] += _copies(entry["resource"])
                data.resources += MANY
                data.with_many.append(_whose(entry["resource"]))
        yield bundle
        if data.resources >= resources:
            return


def _is_own_plan(resource: Resource) -> bool:
    return bool(
        resource["resourceType"] == "CarePlan"
        and resource["status"] == "active"
        and resource["category"][0]["coding"][0]["code"] == "keyworking-plan"
    )


def _whose(plan: Resource) -> str:
    return str(plan["subject"]["reference"]).partition("/")[2]


def _copies(plan: Resource) -> list[dict[str, Any]]:
    made = [{**plan, "id": f"{plan['id']}-{number}"} for number in range(MANY)]
    return [
        {"resource": copy, "request": {"method": "PUT", "url": f"CarePlan/{copy['id']}"}}
        for copy in made
    ]


async def build(settings: Settings, resources: int) -> Data:
    """Fill a new store, through its own contract."""
    data, store = Data(), await open_store(settings)
    try:
        found = (
            entry["resource"] for bundle in bundles(resources, data) for entry in bundle["entry"]
        )
        while chosen := [*islice(found, _A_COMMIT)]:
            await store.commit(_put([Draft(resource) for resource in chosen]))
        await remaking.ensure(store)
    finally:
        await store.close()
    return data


def _put(drafts: Sequence[Draft]) -> Callable[[Unit], Awaitable[None]]:
    async def work(unit: Unit) -> None:
        for draft in drafts:
            await unit.put(draft, "PUT")

    return work


def built(store: str, resources: int) -> Data:
    """As `build`, in the store at that address."""
    return asyncio.run(build(Settings(store=store, auth="none"), resources))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading by transactions."""

    resources: int
    refused: Sequence[str]
    """What the server said of each that it did not take."""


def load(target: Target, resources: int) -> Loaded:
    """Send the same to a server, a transaction for each young person; one by one where that is
    refused."""
    taken, refused = 0, []
    for bundle in bundles(resources, Data()):
        sent = raw("POST", target, "", json.encode(bundle))
        if ask(sent, target.base).succeeded:
            taken += len(bundle["entry"])
            continue
        answers = [_put_alone(target, entry["resource"]) for entry in bundle["entry"]]
        refused += [answer for answer in answers if answer]
        taken += answers.count("")
    return Loaded(taken, refused)


def _put_alone(target: Target, resource: Resource) -> str:
    """What the server says against it; nothing where it takes it."""
    name = f"{resource['resourceType']}/{resource['id']}"
    reply = ask(raw("PUT", target, name, json.encode(resource)), target.base)
    return "" if reply.succeeded else f"{name}: {reply.why}"
