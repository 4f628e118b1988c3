"""Two children with random papers and consents: every route tells what the slow reading allows.

Nothing else shows anywhere, and all that is allowed can be read.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fhir_server.access.caller import Caller, Role
from fhir_server.access.case import Terms
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.session import Session
from fhir_server.app import Application
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import microseconds
from fhir_server.fhir.json import Resource
from fhir_server.http.messages import HttpRequest
from tests.access import oracle
from tests.access.cast import shown_of
from tests.access.people import coded, organisation, ref
from tests.access.region import replaced
from tests.access.served import facts_complete, served, store_all
from tests.access.worlds import (
    CODES,
    SIGNATORIES,
    asker,
    likely_callers,
    likely_moments,
    likely_worlds,
)
from tests.jobs import LATER, finished

SHARE: Final = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1
KEYS: Final = ("zq11", "zq12")
LABELS: Final = (None, None, None, "R", "V", "TBOO")
PLANS: Final = ("keyworking-plan", "discharge-plan", "step-down-plan")
_WORD: Final = re.compile(r"xq\d\d[a-z]+\d*[a-z]*")


@st.composite
def works(draw: st.DrawFn) -> list[Resource]:
    """What is in a record beside the papers that decide."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(
            st.sampled_from(("CarePlan", "CarePlan", "Flag", "Goal", "Task", "Observation"))
        )
        told: Resource = {"resourceType": kind, "id": f"w{number}"}
        told["for" if kind == "Task" else "subject"] = ref("Patient/1")
        label = draw(st.sampled_from(LABELS))
        if label:
            told["meta"] = {"security": [{"system": canonicals.ACT_CODE, "code": label}]}
        if kind == "CarePlan":
            told["category"] = [coded(canonicals.CARE_PLAN_CATEGORY, draw(st.sampled_from(PLANS)))]
        if kind == "Flag":
            told["status"] = draw(st.sampled_from(("active", "active", "inactive")))
            told["code"] = coded(canonicals.DSR_RATING, "red")
        found.append(told)
    return found


@dataclass(frozen=True)
class Region:
    """One child's papers by their short names, and as they are stored."""

    key: str
    papers: Sequence[Resource]

    def word(self, one: Mapping[str, Any]) -> str:
        return f"x{self.key[1:]}{one['resourceType'].lower()}{one['id']}"

    def address(self, one: Mapping[str, Any]) -> str:
        kind = one["resourceType"]
        return f"Patient/{self.key}" if kind == "Patient" else f"{kind}/{self.key}-{one['id']}"

    def stored(self) -> Iterator[Resource]:
        own = {f"{one['resourceType']}/{one['id']}": self.address(one) for one in self.papers} | {
            "Patient/1": f"Patient/{self.key}",
            **{f"RelatedPerson/{n}": f"RelatedPerson/{self.key}-{n}" for n in ("mum", "dad")},
            "CareTeam/t": f"CareTeam/{self.key}-t",
        }
        for one in self.papers:
            told: Resource = replaced(one, own)
            text = f'<div xmlns="http://www.w3.org/1999/xhtml">{self.word(one)}</div>'
            told["text"] = {"status": "generated", "div": text}
            yield {**told, "id": self.address(one).partition("/")[2]}

    def verdict(self, caller: Caller, now: datetime) -> oracle.Verdict:
        own = asker(caller)
        if self.key != KEYS[0] and own.kind in ("patient", "related"):
            stranger = "Patient/2" if own.kind == "patient" else "RelatedPerson/somebody"
            own = replace(own, names=frozenset({stranger}))
        return oracle.decide(self.papers, own, now, SIGNATORIES)

    def seen(self, caller: Caller, now: datetime) -> dict[str, str]:
        """all, colour or nothing, by word."""
        verdict, family = self.verdict(caller, now), caller.user.startswith("RelatedPerson/")
        return {self.word(one): shown_of(verdict, one, for_family=family) for one in self.papers}


def as_stored(caller: Caller) -> Caller:
    """The caller by the name that the first child's papers have when they are stored."""
    kind, _, name = caller.user.partition("/")
    user = {"Patient": f"Patient/{KEYS[0]}", "RelatedPerson": f"RelatedPerson/{KEYS[0]}-{name}"}
    return replace(caller, user=user.get(kind, caller.user), break_glass="")


def sign_in(app: Application, caller: Caller, now: datetime) -> None:
    terms = Terms(SIGNATORIES, frozenset(CODES))  # type: ignore[arg-type]
    decisions, moment = TableDecisions(terms), microseconds(now)

    def session(who: Caller) -> Session:
        return Session(app.state.store, who, ConsentPolicy(decisions, who, lambda: moment))

    def open_session(request: HttpRequest) -> Session:
        return session(replace(caller, request_id=request.request_id))

    assert app.fhir is not None
    app.fhir._open_session = open_session
    app.state.jobs._open_session = session


def lists(types: Sequence[str]) -> Iterator[str]:
    yield from (f"{name}?_count=500" for name in types)
    yield f"?_type={','.join(types)}&_count=500"


WIDE: Final = (
    *("CarePlan?_include=*", "Patient?_revinclude=*", "Flag?patient.gender=female"),
    *("Patient?_has:Flag:patient:status=active", "Patient?_has:Task:patient:status=x"),
    *("CarePlan?patient._id=zq11,zq12", "_history?_count=500", "CarePlan/_history", "$meta"),
    *(f"Patient/{key}/$everything" for key in KEYS),
    *(f"Patient/{key}/*?_count=500" for key in KEYS),
)


async def told(client: httpx.AsyncClient, address: str) -> set[str]:
    found = await client.get(address)
    assert found.status_code in (200, 404, 410), (address, found.text)
    return set(_WORD.findall(found.text))


async def exported(client: httpx.AsyncClient) -> set[str]:
    sent = await client.get("Patient/$export", headers=LATER)
    done = await finished(client, sent.headers["content-location"])
    several = [await told(client, one["url"]) for one in done.json()["output"]]
    return set().union(*several)


async def _agree(regions: Sequence[Region], caller: Caller, now: datetime) -> None:
    seen = {word: sight for one in regions for word, sight in one.seen(caller, now).items()}
    may = {word for word, sight in seen.items() if sight == "all"}
    # Of what is labelled a denial may hide more than it has to: that is no leak.
    labelled = {
        region.word(one)
        for region in regions
        for one in region.papers
        if one.get("meta", {}).get("security", [{}])[0].get("code") in ("R", "V")
    }
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder), "none") as (app, client):
            await facts_complete(app)
            stored = [one for region in regions for one in region.stored()]
            await store_all(app, [*stored, organisation("h1", "H1")])
            sign_in(app, as_stored(caller), now)
            types = sorted({one["resourceType"] for one in stored} - {"Organization"})
            everything: set[str] = set()
            for address in lists(types):
                everything |= await told(client, address)
            assert everything <= may
            assert may - labelled <= everything
            for address in WIDE:
                assert await told(client, address) <= may, address
            assert await exported(client) <= may
            await _read_each(client, regions, seen, labelled)
            sign_in(app, Caller("auditor", roles=frozenset({Role.AUDITOR})), now)
            for region in regions:
                await _explained(client, region, caller, now)


async def _explained(
    client: httpx.AsyncClient, region: Region, caller: Caller, now: datetime
) -> None:
    """What an auditor is told of the caller is what is decided for them."""
    verdict, asked = region.verdict(caller, now), as_stored(caller)
    told = {"caller": asked.user, "organisation": asked.organisation, "purpose": asked.purpose}
    pairs = [*told.items(), *(("role", role.value) for role in asked.roles)]
    query = urlencode([pair for pair in pairs if pair[1]])
    answer = await client.get(f"Patient/{region.key}/$explain-access?{query}")
    assert answer.status_code == 200, answer.text
    found = answer.json()["parameter"]
    sights = [
        {part["name"]: part["valueCode"] for part in one["part"]}
        for one in found
        if one["name"] == "sees"
    ]
    assert {one["area"]: one["sight"] for one in sights} == verdict.sees
    assert found[0] == {"name": "row", "valueInteger": verdict.row}
    writes = {one["valueCode"] for one in found if one["name"] == "writes"}
    assert writes == verdict.writes | verdict.rights


async def _read_each(
    client: httpx.AsyncClient,
    regions: Sequence[Region],
    seen: Mapping[str, str],
    labelled: set[str],
) -> None:
    for region in regions:
        for one in region.papers:
            word, address = region.word(one), region.address(one)
            for end in ("", "/_history/1", "/_history"):
                found = await client.get(address + end)
                words = set(_WORD.findall(found.text))
                assert words <= ({word} if seen[word] == "all" else set()), address + end
                if word not in labelled:
                    assert (found.status_code == 200) == bool(seen[word]), address + end


@settings(
    max_examples=25 * SHARE,
    suppress_health_check=[*HealthCheck],
)
@given(
    *(st.tuples(likely_worlds(), works()) for _ in KEYS),
    likely_callers,
    likely_moments,
)
def test_every_route_tells_what_the_slow_reading_allows(
    first: tuple[list[Resource], list[Resource]],
    second: tuple[list[Resource], list[Resource]],
    caller: Caller,
    now: datetime,
) -> None:
    regions = [
        Region(key, [*papers, *work])
        for key, (papers, work) in zip(KEYS, (first, second), strict=True)
    ]
    asking = replace(caller, break_glass="")
    # Whoever sees nothing of either is tried by the matrix.
    assume(any(sight for one in regions for sight in one.seen(asking, now).values()))
    asyncio.run(_agree(regions, asking, now))
