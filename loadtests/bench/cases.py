"""The table of the bench: what is asked for, and what share of the bare server is wanted.

Each case makes its requests from the data and a server's address, so that the same work is done
on ours, on a peer and at any size. Targets are shares of the bare server's rate with the same
HTTP server and bytes, one worker, 16 connections.
"""

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.story import admission
from loadtests.bench.asking import Target, raw, tried
from loadtests.bench.data import MANY, Data
from loadtests.client import Make

_UPDATED: Final = 128
"""Plans that are updated in turn: more than there are connections, so that none meets itself."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    prepare: Callable[[Data, Target], Make]
    """Makes its requests; what they need is created before."""
    target: float | None = None
    """The share of the bare server that is wanted; None where nobody has set one."""
    with_token: float | None = None
    """The same of a server that asks for tokens."""
    entries: int = 1
    """Resources that an answer has at the least."""
    writes: bool = False
    ours_alone: bool = False
    """Whether it is an operation of this service, which others do not have or do less for."""


def _of_each(paths: Callable[[Data], Sequence[str]]) -> Callable[[Data, Target], Make]:
    """GETs of those addresses in turn."""

    def prepare(data: Data, target: Target) -> Make:
        made = [raw("GET", target, path) for path in paths(data)]
        return lambda number: made[number % len(made)]

    return prepare


def _reads(data: Data) -> list[str]:
    return [f"CarePlan/{plan['id']}" for plan in data.plans]


def _vreads(data: Data) -> list[str]:
    return [f"{path}/_history/1" for path in _reads(data)]


def _pages(data: Data) -> list[str]:
    return [f"CarePlan?patient={one}&status=active&_count=20" for one in data.with_many]


def _chains(data: Data) -> list[str]:
    system = canonicals.NHS_NUMBER
    return [f"CarePlan?patient.identifier={system}|{number}&_count=20" for number in _of_many(data)]


def _of_many(data: Data) -> list[str]:
    """NHS numbers of young people who have a page of plans."""
    by_patient = dict(zip(data.patients, data.numbers, strict=True))
    return [by_patient[patient] for patient in data.with_many]


def _includes(data: Data) -> list[str]:
    return [
        f"{page}&_include=CarePlan:subject&_include=CarePlan:care-team" for page in _pages(data)
    ]


def anew(paths: Callable[[Data], Sequence[str]]) -> Callable[[Data, Target], Make]:
    """The same in other words each time, so that nothing helps that is remembered of searches: a
    criterion that all satisfy, without one of the resources that there are."""

    def prepare(data: Data, target: Target) -> Make:
        asked, numbers = paths(data), itertools.count()

        def make(number: int) -> bytes:
            return raw("GET", target, f"{asked[number % len(asked)]}&_id:not=x{next(numbers)}")

        return make

    return prepare


def _everything(data: Data) -> list[str]:
    return [f"Patient/{one}/$everything?_count=50" for one in data.patients[:1000]]


def _risks(data: Data) -> list[str]:
    return [f"Patient/{one}/$admission-risk" for one in data.patients[:1000]]


def _new(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan as a client sends a new one; it stays marked as synthetic."""
    return {name: value for name, value in plan.items() if name != "id"}


def _creates(data: Data, target: Target) -> Make:
    """Each about another young person than the one before."""
    sent = [raw("POST", target, "CarePlan", _bytes(_new(plan))) for plan in data.plans]
    return lambda number: sent[number % len(sent)]


def _bytes(resource: Mapping[str, Any]) -> bytes:
    return json.dumps(resource).encode()


def _updates(data: Data, target: Target) -> Make:
    """Each of another plan than those before, whose next version is known by that."""
    own = [_created(target, data.plans[number % len(data.plans)]) for number in range(_UPDATED)]
    numbers = itertools.count()

    def make(_: int) -> bytes:
        version, which = divmod(next(numbers), _UPDATED)
        plan = {**own[which], "title": f"As agreed for the {version + 1}th time"}
        condition = f'If-Match: W/"{version + 1}"'
        return raw("PUT", target, f"CarePlan/{plan['id']}", _bytes(plan), [condition])

    return make


def _created(target: Target, plan: Mapping[str, Any]) -> dict[str, Any]:
    """A new plan, with the id that the server gave it.

    Raises:
        Refused: the server does not take it.
    """
    reply = tried(raw("POST", target, "CarePlan", _bytes(_new(plan))), target.base)
    place = reply.headers.get("location", "").partition("/CarePlan/")[2]
    return {**_new(plan), "id": place.partition("/")[0]}


def _transactions(size: int) -> Callable[[Data, Target], Make]:
    """Creates of so many plans, of as many young people where there are."""

    def prepare(data: Data, target: Target) -> Make:
        plans = [json.dumps(_new(plan)) for plan in data.plans]

        def make(number: int) -> bytes:
            first = number * size
            entries = (_entry(place, plans[(first + place) % len(plans)]) for place in range(size))
            start = '{"resourceType":"Bundle","type":"transaction","entry":['
            return raw("POST", target, "", f"{start}{','.join(entries)}]}}".encode())

        return make

    return prepare


def _entry(place: int, resource: str) -> str:
    return (
        f'{{"fullUrl":"urn:uuid:{place:032x}","resource":{resource},'
        '"request":{"method":"POST","url":"CarePlan"}}'
    )


def _messages(data: Data, target: Target) -> Make:  # noqa: ARG001 - about people of their own
    """Each about a person and a stay of its own."""
    message = admission(datetime.now(UTC))
    text = json.dumps(message)
    spell = message["entry"][1]["resource"]["identifier"][0]["value"]
    nhs = message["entry"][2]["resource"]["identifier"][0]["value"]

    def make(number: int) -> bytes:
        unique = f"{time.time_ns()}-{number}"
        own = text.replace(spell, f"SPELL-{unique}").replace(nhs, f"bench-{unique}")
        return raw("POST", target, "$process-message", own.encode())

    return make


CASES: Final = (
    Case("read", _of_each(_reads), 0.50, 0.40),
    Case("vread", _of_each(_vreads)),
    Case("search page of 20", _of_each(_pages), 0.25, entries=MANY),
    Case("chained search", _of_each(_chains), 0.10, entries=MANY),
    Case("include", _of_each(_includes), 0.10, entries=MANY + 1),
    Case("search page of 20, anew", anew(_pages), entries=MANY),
    Case("chained search, anew", anew(_chains), entries=MANY),
    Case("include, anew", anew(_includes), entries=MANY + 1),
    Case("create", _creates, 0.10, entries=0, writes=True),
    Case("update with If-Match", _updates, 0.08, entries=0, writes=True),
    Case("transaction of 10", _transactions(10), 0.015, entries=10, writes=True),
    Case("transaction of 100", _transactions(100), entries=100, writes=True),
    Case("admission message", _messages, 0.02, writes=True, ours_alone=True),
    Case("$admission-risk", _of_each(_risks), ours_alone=True),
    Case("$everything", _of_each(_everything), entries=2),
)
"""Export and load are measured otherwise: `bulk`."""
