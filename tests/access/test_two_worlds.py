"""What is hidden changes no answer: two servers that differ in it alone answer word by word alike.

Classes 1 to 4, 11, 15 and 16 of the attacks, on both sides: reads, writes, conditions, batches,
operations and messages. Whatever the rules and operations look up with the service's own rights
must not come through either.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from tests.access.cast import Cast
from tests.access.region import SHARED, Child, day, replaced
from tests.access.served import served, store_all
from tests.operations.messages import Spell
from tests.support import FHIR_JSON

OWN: Final = Child("zq11", "competent", "active")
HIDDEN: Final = Child("zq12", "young-adult", "never")
SEEN: Final = Child("zq13", "young-adult", "register-only")
UNIT: Final = Cast("unit", "", "W11")
CALLERS: Final = (
    Cast("keyworker", "Practitioner/kw", "X26"),
    UNIT,
    Cast("keeper", "", "M11", "administrator", scopes="system/*.cruds"),
    Cast("administrator", "Practitioner/adm", "X26", "administrator"),
    Cast("stranger", "Practitioner/stranger", "Z11"),
)
ELSE: Final = "Practitioner/member2"
_ELSEWHERE: Final = {
    "M11": "M99",
    "W11": "W99",
    "Practitioner/kw": "Practitioner/kw2",
    "Practitioner/member": ELSE,
}
_KINDS: Final = ("Patient", "Flag", "CarePlan", "Encounter")
_CHANGING: Final = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
    r"|_page=[\w%-]+"
)
_TOLD: Final = ("etag", "location", "allow", "content-type", "retry-after", "content-location")


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Worlds:
    """Two servers that are asked the same."""

    def __init__(self, *clients: httpx.AsyncClient) -> None:
        self._clients: Final = clients

    async def ask(self, caller: Cast, ask: Ask) -> int:
        """The status, which is the same of both, as is the rest of the answer."""
        told = [await self._told(one, caller, ask) for one in self._clients]
        assert told[0] == told[1], (caller.kind, ask)
        return int(told[0][0])

    async def _told(self, client: httpx.AsyncClient, caller: Cast, ask: Ask) -> tuple[Any, ...]:
        content = None if ask.body is None else json.encode(ask.body)
        media = {} if ask.body is None else FHIR_JSON
        headers = {**media, **caller.headers(), **dict(ask.headers)}
        found = await client.request(ask.method, ask.path, content=content, headers=headers)
        shown = {name: found.headers.get(name) for name in _TOLD}
        return found.status_code, *(_CHANGING.sub("X", one) for one in (str(shown), found.text))


@asynccontextmanager
async def _worlds(
    folder: Path, one: Sequence[Resource], other: Sequence[Resource]
) -> AsyncIterator[Worlds]:
    folders = [folder / name for name in ("one", "other")]
    for each in folders:
        each.mkdir()
    async with served(folders[0]) as (app, client), served(folders[1]) as (app2, client2):
        await store_all(app, [*SHARED, *OWN.stored, *one])
        await store_all(app2, [*SHARED, *OWN.stored, *other])
        yield Worlds(client, client2)


def _papers(child: Child) -> list[Resource]:
    """Of somebody in whose care none of the callers has a part."""
    found: list[Resource] = [replaced(one, _ELSEWHERE) for one in child.stored]
    return found


def _bundle(kind: str, method: str, url: str, resource: Resource, **rest: Any) -> Ask:
    request = {"method": method, "url": url, **rest}
    entry = {"request": request, **({"resource": resource} if method in ("PUT", "POST") else {})}
    return Ask("POST", "", {"resourceType": "Bundle", "type": kind, "entry": [entry]})


def _parameters(**told: Any) -> Resource:
    given = [{"name": name, kind: value} for name, (kind, value) in told.items()]
    return {"resourceType": "Parameters", "parameter": given}


def _about(paper: Resource) -> Iterator[Ask]:
    """What a stranger tries who knows or guesses the name of a resource."""
    kind, name = paper["resourceType"], paper["id"]
    url, body = f"{kind}/{name}", {key: value for key, value in paper.items() if key != "id"}
    for path in (url, f"{url}/_history", f"{url}/_history/1", f"{url}/$meta", f"{url}?_format=xml"):
        yield Ask("GET", path)
    yield Ask("GET", url, headers=(("if-none-match", 'W/"1"'),))
    yield Ask("GET", f"{kind}?_id={name}&_total=accurate&_include=*&_revinclude=*")
    yield Ask("GET", f"Task?focus:{kind}._id={name}&_total=accurate")
    yield Ask("GET", f"Provenance?target={url}&_total=accurate")
    yield Ask("POST", f"{url}/$validate", _parameters(mode=("valueCode", "delete")))
    yield Ask("PUT", url, paper)
    yield Ask("PUT", url, paper, (("if-match", 'W/"1"'),))
    yield Ask("PUT", f"{kind}?_id={name}", body)
    yield Ask("POST", kind, body, (("if-none-exist", f"_id={name}"),))
    yield Ask("DELETE", url)
    yield Ask("DELETE", f"{kind}?_id={name}")
    yield _bundle("batch", "PUT", url, paper)
    yield _bundle("transaction", "DELETE", url, paper)
    yield _bundle("transaction", "POST", kind, body, ifNoneExist=f"_id={name}")
    yield from _pointing(url)


def _pointing(url: str) -> Iterator[Ask]:
    """From the record of somebody else to it."""
    own = {"reference": f"Patient/{OWN.key}"}
    task = {"status": "requested", "intent": "order", "for": own, "focus": {"reference": url}}
    yield Ask("POST", "Task", {"resourceType": "Task", **task})
    by_criteria = {**task, "focus": {"reference": url.replace("/", "?_id=")}}
    yield _bundle("transaction", "POST", "Task", {"resourceType": "Task", **by_criteria})
    goal = {"lifecycleStatus": "active", "description": {"text": "x"}, "subject": own}
    addressed = {"resourceType": "Goal", **goal, "addresses": [{"reference": url}]}
    yield Ask("POST", "Goal", addressed)
    rating = _parameters(
        rating=("valueCode", "red"),
        reason=("valueString", "x"),
        evidence=("valueReference", {"reference": url}),
    )
    yield Ask("POST", f"Patient/{OWN.key}/$set-rating", rating)


def _of_everybody() -> Iterator[Ask]:
    number = f"https://fhir.nhs.uk/Id/nhs-number|{HIDDEN.number}"
    for path in (
        f"Patient?identifier={number}&_total=accurate",
        f"Flag?patient.identifier={number}",
        f"Patient?name={HIDDEN.surname}",
        f"Patient/{HIDDEN.key}/$everything",
        f"Patient/{HIDDEN.key}/$timeline",
        f"Patient/{HIDDEN.key}/$explain-access",
        "Flag?_summary=count",
        "Patient?_has:Flag:patient:status=active&_summary=count",
        "Organization?_has:Encounter:service-provider:status=in-progress&_summary=count",
        "Practitioner?_has:EpisodeOfCare:care-manager:status=active",
    ):
        yield Ask("GET", path)


async def test_what_is_hidden_changes_no_answer(tmp_path: Path) -> None:
    papers = _papers(HIDDEN)
    chosen = {one["resourceType"]: one for one in reversed(papers)}
    done: set[int] = set()
    async with _worlds(tmp_path, papers, []) as worlds:
        for caller in CALLERS:
            for kind in _KINDS:
                for ask in _about(chosen[kind]):
                    done.add(await worlds.ask(caller, ask))
            for ask in _of_everybody():
                await worlds.ask(caller, ask)
    assert {200, 201, 403, 404, 412, 422} <= done


def _messages(number: str, born: str) -> Iterator[Resource]:
    start = datetime.now(UTC) - timedelta(days=3)
    over = start + timedelta(days=1)
    for told in (born, "1999-01-01", None):
        spell = Spell(number, start, value=f"spell-{told}", birth_date=told)
        yield spell.admit()
        yield spell.discharge(over)
        yield Spell(number, start, value=f"other-{told}", birth_date=told).discharge(over)
    # A death, and earlier word that comes late: in one world it ends and begins a good deal anew.
    last = Spell(number, start, value="died", birth_date=born)
    yield last.discharge(over, to="79", method="4")
    yield last.transfer() | {"timestamp": "2026-05-31T09:00:00Z"}


async def test_nor_that_of_a_message(tmp_path: Path) -> None:
    papers = _papers(HIDDEN)
    async with _worlds(tmp_path, papers, []) as worlds:
        for message in _messages(HIDDEN.number, papers[0]["birthDate"]):
            sent = replaced(message, {"ZZK03": "W11"})
            for _ in range(2):
                assert await worlds.ask(UNIT, Ask("POST", "$process-message", sent)) == 200
            for kind in ("Patient", "Encounter", "Flag", "Task", "Provenance", "Organization"):
                await worlds.ask(UNIT, Ask("GET", f"{kind}?_summary=count"))


def _masked_otherwise() -> list[Resource]:
    """What a signatory sees of the child is the same, and all else is other or not there."""
    found = []
    for one in _papers(SEEN):
        if one["resourceType"] == "Patient":
            other = {"gender": "male", "managingOrganization": {"display": "z"}, "address": []}
            found.append({key: value for key, value in {**one, **other}.items() if value})
        elif one["id"] == f"{SEEN.key}-f":
            code = {**one["code"], "text": "z"}
            period = {"start": day(-90)}
            found.append({**one, "code": code, "author": {"reference": ELSE}, "period": period})
            del found[-1]["text"]
        elif one["resourceType"] == "Consent":
            found.append(one)
    return found


def _of_the_masked() -> Iterator[Ask]:
    for kind, name in (("Patient", SEEN.key), ("Flag", f"{SEEN.key}-f")):
        url = f"{kind}/{name}"
        for path in (url, f"{url}/_history", f"{url}?_format=xml", f"{url}?_summary=text"):
            yield Ask("GET", path)
        for query in (
            "gender=male",
            "author:missing=false",
            "date=gt2020",
            "_text=z",
            "_content=z",
        ):
            yield Ask("GET", f"{kind}?{query}&_total=accurate")
        yield Ask("GET", f"{kind}?_sort=gender,date,organization&_total=accurate")
        yield Ask("GET", f"{kind}?_filter=gender%20eq%20male")
        yield Ask("PUT", url, {"resourceType": kind, "id": name})
    for rating in ("red", "blue", "amber", "green", "green"):
        told = _parameters(rating=("valueCode", rating), reason=("valueString", "x"))
        yield Ask("POST", f"Patient/{SEEN.key}/$set-rating", told)
    yield Ask("GET", f"Patient/{SEEN.key}/$admission-risk")


async def test_what_is_masked_changes_no_answer(tmp_path: Path) -> None:
    """In one world the child is in hospital, in the other at home."""
    signatory = Cast("signatory", "Practitioner/nurse", "H11")
    async with _worlds(tmp_path, _papers(SEEN), _masked_otherwise()) as worlds:
        done = [await worlds.ask(signatory, ask) for ask in _of_the_masked()]
    assert {200, 403, 422} <= {*done}
