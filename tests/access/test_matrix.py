"""Every route that reads, every kind of caller, every state of consent.

Each answer is searched, with its headers, for words that stand in one paper of one child alone.
What may be read, a second and slow reading of the decision table says (`oracle.py`); what would be
answered to somebody who sees everything, the server says by itself under `--auth none`. So nothing
of what is hidden may show, and all of the rest has to.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.fhir.nhs_number import synthetic
from fhir_server.operation.registry import load
from fhir_server.settings import Settings
from tests.access import asks, cast
from tests.access.asks import AUDIT, AUDIT_WRITES, CHIEF, EVERY, READS, WRITES, Ask
from tests.access.cast import GLASS, SERVICES, Cast
from tests.access.region import AGES, CHILDREN, GONE, Child, everything
from tests.access.served import break_glass, copied, copy_all, served, store_all
from tests.http.comparing import comparable
from tests.http.wired import Wired, get
from tests.jobs import finished

_CHANGING: Final = ("date", "x-request-id", "last-modified", "content-length")
_ABSENT: Final = ("zz99", synthetic(899_999))
_JOB: Final = re.compile(r"_jobs/([^/]+)$")
_LINK: Final = re.compile(r'"url":"[^"]*[?][^"]*"')


@dataclass(frozen=True)
class Told:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @cached_property
    def whole(self) -> str:
        return f"{self.status} {self.headers} {self.text}"

    @cached_property
    def words(self) -> frozenset[str]:
        """But for those that links repeat: they were asked for by them."""
        return frozenset(re.findall(r"xq\d\d[a-z]+", _LINK.sub("", self.whole)))

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(re.findall(r"[xz]q\d\d", self.whole.replace("xq", "zq")))


@dataclass(frozen=True)
class Prepared:
    """A store with the region in it, and what everybody would be told who sees everything."""

    folder: Path
    told: Mapping[Ask, frozenset[str]]
    """The ends of the words (`flagf`), the same for each child."""
    job: str
    """A job of somebody else."""


async def _answer(client: httpx.AsyncClient, ask: Ask, headers: Mapping[str, str]) -> Told:
    sent = {**headers, **({"content-type": ask.media} if ask.media else {})}
    if ask.job:
        sent["prefer"] = "respond-async"
    found = await client.request(ask.method, ask.path, headers=sent, content=ask.body)
    text = found.text
    if found.status_code == 202:
        client.headers.update(headers)
        text += await _files(client, str(found.headers["content-location"]))
    kept = {name: value for name, value in found.headers.items() if name not in _CHANGING}
    return Told(found.status_code, kept, text)


async def _files(client: httpx.AsyncClient, address: str) -> str:
    """All that a job of ours has made."""
    done = await finished(client, address)
    assert done.status_code == 200, done.text
    files = [await client.get(one["url"]) for one in done.json()["output"]]
    assert all(one.status_code == 200 for one in files)
    return "".join(one.text for one in files)


async def _somebodys_job(client: httpx.AsyncClient) -> str:
    sent = {**SERVICES[0].headers(), "prefer": "respond-async"}
    started = await client.get("Patient/$export?_type=Patient", headers=sent)
    address = str(started.headers["content-location"])
    client.headers.update(SERVICES[0].headers())
    assert (await finished(client, address)).status_code == 200
    found = _JOB.search(address)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("region")

    async def prepare() -> Prepared:
        async with served(folder) as (app, _):
            await store_all(app, everything(), GONE)
        told = {}
        async with served(folder, "none") as (_, client):
            for ask in {*EVERY, *OF_ALL}:
                told[ask] = await _told_openly(client, ask)
        async with served(folder) as (_, client):
            for caller in SERVICES:
                await break_glass(client, caller)
            return Prepared(folder, told, await _somebodys_job(client))

    return asyncio.run(prepare())


async def _told_openly(client: httpx.AsyncClient, ask: Ask) -> frozenset[str]:
    first = CHILDREN[0]
    found = await _answer(client, ask.of(first.key, first.number), {})
    start = f"x{first.key[1:]}"
    return frozenset(word.removeprefix(start) for word in found.words if word.startswith(start))


def test_every_route_and_operation_that_reads_has_a_row(prepared: Prepared) -> None:
    wired = asks.wired(load(Settings(auth="none").operations))
    assert wired == READS.keys() | WRITES | AUDIT.keys() | AUDIT_WRITES
    assert not READS.keys() & WRITES
    silent = {ask.id for ask in EVERY if not prepared.told[ask]}
    assert silent == {ask.id for ask in EVERY if _has_no_words(ask)}


def _has_no_words(ask: Ask) -> bool:
    """Those that answer with numbers, states and terminology."""
    if ask.counts or ask.method == "HEAD" or ask.path in ("Appointment", "Patient/$meta"):
        return True
    return any(name in ask.path for name in _WORDLESS)


_WORDLESS: Final = (
    *("metadata", "_jobs", "$closure", "$validate", "$expand", "$lookup", "$subsumes"),
    *("$translate", "$admission-risk", "$discharge-plan", "$explain-access", "Binary?"),
    *("$discharge-readiness", "$oversight-report", "Organization/w/$register"),
    "Patient/{p}/$meta",
)


@dataclass
class Inspection:
    """One caller's answers, against what they may see."""

    caller: Cast | None
    client: httpx.AsyncClient
    prepared: Prepared
    absent: dict[Ask, Told] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.headers = {} if self.caller is None else self.caller.headers()
        self.words = {
            child.key: self.caller.words(child) if self.caller else frozenset[str]()
            for child in CHILDREN
        }
        self.may_read = frozenset[str]().union(*self.words.values())
        # Asked of every answer, and of all children: told once, as the slow reading is slow.
        self.seen = {
            (child.key, id(one))
            for child in CHILDREN
            for one in child.papers
            if self.caller is not None and self.caller.sees(child, one)
        }
        self.known = {key for key, _ in self.seen}

    async def ask(self, ask: Ask, child: Child | None = None) -> None:
        asked = ask if child is None else ask.of(child.key, child.number)
        told = await self._told(asked)
        if told.status >= 500:
            self._fault(asked, f"it fails: {told.text[:300]}")
        if told.words - self.may_read:
            self._fault(asked, f"it tells {sorted(told.words - self.may_read)[:5]}")
        if "xqboth" in told.whole and not (self.caller and self.caller.sees_visit()):
            self._fault(asked, "it tells of what two children share")
        unknown = {one for one in CHILDREN if one is not child and not self._knows(one)}
        if shown := sorted(told.keys & {one.key for one in unknown}):
            self._fault(asked, f"it names {shown[:5]}")
        if child is None:
            self._require_all(ask, asked, told, CHILDREN)
        elif self._seen(ask, child):
            self._require_all(ask, asked, told, [child])
        else:
            await self._require_as_absent(ask, asked, told, child)

    async def _told(self, ask: Ask) -> Told:
        path = ask.path.replace("{job}", self.prepared.job)
        return await _answer(self.client, replace(ask, path=path), self.headers)

    def _knows(self, child: Child) -> bool:
        return child.key in self.known

    def _sees(self, child: Child, paper: Any) -> bool:
        return (child.key, id(paper)) in self.seen

    def _seen(self, ask: Ask, child: Child) -> bool:
        """Whether anything of the child is to be in the answer."""
        if ask.tells is not None:
            return bool(self._counted(ask.tells, child))
        if ask.computed:
            return self._knows(child)
        wanted = self._wanted(ask, child)
        ids = self._shown_by_id(ask, child)
        return bool(wanted or ids)

    def _shown_by_id(self, ask: Ask, child: Child) -> bool:
        """Whether something is in the answer that is seen in part, so that no words of it are."""
        if self.caller is None or not self._found(ask, child):
            return False
        told = {f"x{child.key[1:]}{end}" for end in self.prepared.told[ask]}
        return any(word in told and self._sees(child, one) for word, one in _of(child))

    def _wanted(self, ask: Ask, child: Child) -> frozenset[str]:
        """The words that have to be there."""
        if not self._found(ask, child):
            return frozenset()
        if "$caseload" in ask.path and self.caller is not None and self.caller.is_test:
            return frozenset()  # the practitioner is no test data, and so not known
        told = {f"x{child.key[1:]}{end}" for end in self.prepared.told[ask]}
        if "$everything" in ask.path and not self._in_full(("CarePlan",), child):
            told.discard(f"x{child.key[1:]}taskk")  # it is found through a plan alone
        return self.words[child.key] & told

    def _found(self, ask: Ask, child: Child) -> bool:
        via = not ask.via or bool(self._counted(ask.via, child))
        return via and (not ask.full or self._in_full(ask.full, child))

    def _in_full(self, types: tuple[str, ...], child: Child) -> bool:
        told = [word for word, one in _of(child) if one["resourceType"] in types]
        return {*told} <= self.words[child.key]

    def _counted(self, types: Iterable[str], child: Child) -> int:
        if self.caller is None:
            return 0
        papers = [one for one in child.papers if one["resourceType"] in types]
        seen = [one for one in papers if one["id"] != "gone" and self._sees(child, one)]
        # The Task for the keyworker, written for the organisation that broke it, has one besides;
        # and another one what the record, stored without rules, asked for by then.
        of_glass = child.key in GLASS and any(one["resourceType"] == "Provenance" for one in seen)
        return len(seen) + 2 * of_glass

    def _require_all(self, ask: Ask, asked: Ask, told: Told, children: Iterable[Child]) -> None:
        if ask.counts and ask.tells is not None:
            right = sum(self._counted(ask.tells, one) for one in children)
            found = json.decode(told.text.encode()).get("total") if told.status == 200 else None
            if found != (right if self._is_let_in else None):
                self._fault(asked, f"it counts {found}, not {right}")
            return
        for child in children:
            if missing := self._wanted(ask, child) - told.words:
                self._fault(asked, f"it lacks {sorted(missing)[:5]}: {told.status}")
        if ask.tells is not None and told.status != 200:
            self._fault(asked, f"it is {told.status}")

    @property
    def _is_let_in(self) -> bool:
        return self.caller is not None and bool(self.caller.scopes)

    async def _require_as_absent(self, ask: Ask, asked: Ask, told: Told, child: Child) -> None:
        key, number = _ABSENT
        if ask not in self.absent:
            self.absent[ask] = await self._told(ask.of(key, number))
        if _plain(told, child.key, child.number) != _plain(self.absent[ask], key, number):
            other = self.absent[ask]
            self._fault(asked, f"{told.whole[:700]} is not {other.whole[:700]}, as of one absent")

    def _fault(self, asked: Ask, text: str) -> None:
        self.faults.append(f"{asked.id}: {text}")


def _of(child: Child) -> Iterable[tuple[str, Any]]:
    return child.words.items()


def _plain(told: Told, key: str, number: str) -> tuple[int, str]:
    """The answer without the name that was asked for, and without what each answer has anew."""
    whole = f"{sorted(told.headers.items())} {told.text}"
    for text in (key, f"x{key[1:]}", number):
        whole = whole.replace(text, "~")
    whole = re.sub(r'"(timestamp|lastUpdated|id)":"[^"]*"', "", whole)
    return told.status, re.sub(r"page=[\w=-]+", "", whole)


SOME: Final = tuple(one for one in CHILDREN if one.age == "competent")
"""To a service the age makes no difference, but for lists, which are of all."""
AT_LENGTH: Final = tuple(one for one in SOME if one.state in ("active", "withdrawn", "narrowed"))
"""Of whom several questions are asked on one route."""


@pytest.mark.sqlite_alone
@pytest.mark.parametrize("caller", [None, *SERVICES], ids=lambda one: one.kind if one else "none")
async def test_services_see_what_the_table_allows(
    prepared: Prepared, tmp_path: Path, caller: Cast | None
) -> None:
    async with copied(prepared.folder, tmp_path) as client:
        inspection = Inspection(caller, client, prepared)
        for ask in EVERY:
            children = SOME if ask in CHIEF else AT_LENGTH
            for child in children if ask.per_child else [None]:
                await inspection.ask(ask, child)
    assert inspection.faults == []


@pytest.mark.sqlite_alone
async def test_the_audit_is_shown_to_auditors_alone(prepared: Prepared, tmp_path: Path) -> None:
    """Whatever is asked for, and whether it is there: what it tells is of everybody."""
    several = [*SERVICES, *(who(AT_LENGTH[0]) for who in (cast.patient, cast.parent))]
    async with copied(prepared.folder, tmp_path) as client:
        for ask in AUDIT.values():
            assert (await _answer(client, ask, {})).status == 401
            for caller in several:
                told = await _answer(client, ask, caller.headers())
                assert (told.status == 200) == (caller.role == "auditor"), (caller.kind, ask.id)
                absent = replace(ask, path=ask.path.replace("/1", "/99999", 1))
                other = await _answer(client, absent, caller.headers())
                assert other.text == told.text or told.status == 200, (caller.kind, ask.id)


OF_ALL: Final = (Ask("Patient?_count=5000"), Ask("CarePlan/{p}-a"), Ask("Patient/{p}"))


@pytest.mark.sqlite_alone
@pytest.mark.parametrize("who", [cast.patient, cast.parent], ids=["patient", "parent"])
@pytest.mark.parametrize("age", AGES)
async def test_families_see_what_the_table_allows(
    prepared: Prepared, tmp_path: Path, age: str, who: Callable[[Child], Cast]
) -> None:
    """Each child, or its mother, asks for the child by every route; and for another child."""
    several = [one for one in CHILDREN if one.age == age]
    async with copied(prepared.folder, tmp_path) as client:
        for child, other in zip(several, [*several[1:], several[0]], strict=True):
            inspection = Inspection(who(child), client, prepared)
            for ask in CHIEF:
                if ask.per_child or child.state in ("active", "denied"):
                    await inspection.ask(ask, child if ask.per_child else None)
            for ask in OF_ALL:
                await inspection.ask(ask, child if ask.per_child else None)
            for ask in EVERY:
                if ask.path in OF_ANOTHER:
                    await inspection.ask(ask, other)
            assert inspection.faults == [], child


OF_ANOTHER: Final = ("Patient/{p}", "Patient/{p}/$everything", "Flag?patient={p}", "CarePlan/{p}-a")


@pytest.mark.sqlite_alone
async def test_the_short_way_of_reads_shows_what_the_general_one_does(
    prepared: Prepared, tmp_path: Path
) -> None:
    copy_all(prepared.folder, tmp_path)
    async with served(tmp_path) as (app, _):
        wired = Wired(app)
        for caller in (*SERVICES, *(who(AT_LENGTH[0]) for who in (cast.patient, cast.parent))):
            headers, short = tuple(caller.headers().items()), wired.short
            shown = 0
            for child in AT_LENGTH:
                for name in map(child.name, child.papers):
                    raw = get(name, *headers)
                    general = await wired.generally(raw)
                    assert await wired.usually(raw) == general, (caller.kind, name)
                    if not name.startswith("Binary"):
                        shown += general.answer[9:12] in (b"200", b"404", b"410")
            # Whoever broke the glass has reasons in the audit, which the general way gathers.
            assert wired.short - short == shown or caller.breaks, caller.kind


@pytest.mark.sqlite_alone
async def test_the_short_way_of_searches_shows_what_the_general_one_does(
    prepared: Prepared, tmp_path: Path
) -> None:
    copy_all(prepared.folder, tmp_path)
    async with served(tmp_path) as (app, _):
        wired = Wired(app)
        for caller in (*SERVICES, *(who(AT_LENGTH[0]) for who in (cast.patient, cast.parent))):
            headers, short = tuple(caller.headers().items()), wired.short
            for question in SEARCHED:
                raw = get(question.format(p=AT_LENGTH[0].key), *headers)
                general = comparable(app, await wired.generally(raw))
                told = comparable(app, await wired.usually(raw))
                assert told == general, (caller.kind, question)
            assert wired.short > short or caller.breaks or not caller.scopes, caller.kind


SEARCHED: Final = (
    *("CarePlan?_count=20", "CarePlan?_count=3&_total=accurate", "Flag?_count=50&_summary=true"),
    *("Patient?_count=5&_revinclude=Flag:subject", "Patient?_elements=id&_sort=_id&_count=100"),
    *("CarePlan?subject=Patient/{p}&_include=CarePlan:subject", "Task?patient={p}&_count=5"),
    *("CarePlan?subject:Patient.gender=female&_count=5", "Goal?patient=Patient/{p}&_include=*"),
)


def test_each_row_of_the_table_shows_something_to_somebody() -> None:
    """The region is large enough that the rest of these tests can fail."""
    family = [who(child) for child in CHILDREN for who in (cast.patient, cast.parent)]
    rows = {
        child.verdict(caller.asker(child.key)).row
        for caller in (*SERVICES, *family)
        for child in CHILDREN
    }
    assert rows == set(range(17))


def test_each_kind_of_sight_is_there() -> None:
    """All, the colour and nothing; and things hidden by plan, label, type and area."""
    seen = {caller.kind: {one: caller.words(one) for one in CHILDREN} for caller in SERVICES}
    active, narrowed = (next(one for one in SOME if one.state == s) for s in ("active", "narrowed"))
    assert f"x{active.key[1:]}careplana" in seen["keyworker"][active]
    assert f"x{narrowed.key[1:]}careplana" not in seen["keyworker"][narrowed]
    assert f"x{active.key[1:]}careplans" not in seen["inpatient unit with a stay"][active]
    assert seen["signatory of health"][active] == {active.surname}
    assert not any(seen["stranger"].values())
    assert f"x{active.key[1:]}careplanh" not in cast.patient(active).words(active)
