"""What a scenario is, who acts in it, and what an answer is held against.

A right status is not enough: each request says what its answer has to hold. What must be refused is
asked for too, and an answer to it is a failure.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from loadtests.people import Identity, Person

Json = dict[str, Any]
FHIR_JSON: Final = "application/fhir+json"


class Wrong(Exception):
    """An answer is not as it has to be; the text says in what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its body read; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Json:
        """Raises Wrong for what is no JSON object."""
        try:
            found = json.loads(self.content)
        except ValueError:
            raise Wrong("the body is no JSON") from None
        if not isinstance(found, dict):
            raise Wrong("the body is no JSON object")
        return found


GOALS_WITH_PLANS: Final = "goals with plans"
CONFLICTS: Final = "conflicts"
COUNTING: Final = "counting"
"""What a server may lack: `_include` of goals, 412 for an old version in If-Match, and versions
counted for each resource (https://hl7.org/fhir/R4/resource.html#Meta asks for no numbers)."""

Check = Callable[[Answer], None]
"""Raises Wrong."""


class Ask(Protocol):
    """Sends a request below the FHIR base, with the token of who asks.

    Raises:
        Wrong: an answer of another status than those expected, or that the check does not take. It
            is counted already.
    """

    def __call__(
        self,
        name: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: Sequence[int] = (200,),
        check: Check | None = None,
    ) -> Answer:
        """`name` is what the request is counted as; `path` may be a whole address."""


@dataclass(slots=True)
class Pool:
    """Young people of whom each is in one hand at a time, so that nobody's write is a surprise."""

    free: list[Person]

    @contextmanager
    def taken(
        self, chance: random.Random, count: int = 1, *, whole: bool = False
    ) -> Iterator[list[Person]]:
        """At most so many of them, perhaps none.

        Args:
            whole: what is begun with them has to be ended: where it breaks off, they do not come
                back, as nobody knows how it stands with them.
        """
        some = [self._pick(chance) for _ in range(min(count, len(self.free)))]
        back = some
        try:
            yield some
        except BaseException:
            back = [] if whole else some
            raise
        finally:
            self.free.extend(back)

    def _pick(self, chance: random.Random) -> Person:
        return self.free.pop(chance.randrange(len(self.free)))


@dataclass(slots=True)
class Actor:
    """Who plays a scenario.

    Args:
        mine: young people whose records this identity may see.
        hidden: some whose records it must not see; none where nobody knows what a server hides.
        pools: shared by all in this process that act for the same person or organisation, which
            in a small region may be known as several clients.
        receivers: where notices may be sent, by what becomes of them there.
        part: which part of so many this process has: two never take the same young person.
        lacks: what the server cannot, and is not asked for.
    """

    ask: Ask
    identity: Identity
    mine: Sequence[Person]
    hidden: Sequence[Person]
    sleep: Callable[[float], object]
    chance: random.Random = field(default_factory=random.Random)
    pools: dict[str, Pool] = field(default_factory=dict)
    receivers: Mapping[str, str] = field(default_factory=dict)
    part: tuple[int, int] = (0, 1)
    lacks: Sequence[str] = ()

    def pool(self, what: str, wanted: Callable[[Person], bool]) -> Pool:
        """Those of mine who are wanted, under one name for all to whom they are the same."""
        own = self.identity
        name = f"{own.kind} {own.user or own.ods} {what}"
        if name not in self.pools:
            which, count = self.part
            self.pools[name] = Pool([one for one in self.mine if wanted(one)][which::count])
        return self.pools[name]

    def one_in(self, count: int) -> bool:
        return self.chance.randrange(count) == 0

    def ask_for_what_is_hidden(self) -> None:
        """Somebody else's plan: it has to be as if it were not there."""
        if not self.hidden:
            return
        other = self.chance.choice(self.hidden)
        if self.one_in(2):
            path = f"CarePlan/{other.id}-plan"
            self.ask("hidden: read", "GET", path, expect=(404,))
        else:
            path = f"CarePlan?patient={other.id}"
            self.ask("hidden: search", "GET", path, check=is_empty)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one sort of system does.

    Args:
        name: as the file.
        kind: of the identities that play it.
        weight: share of the users of a run; 0 is one user for what is rare, so that it is seen.
        a_day: actions for each young person on the register on a working day.
        peak: share of them in the busiest hour.
        play: one action; raises Wrong.
        operations: those that it needs; without them it is left out.
        own: whether it needs identities as this project's server knows them.
        interactions: those that it needs, as a CapabilityStatement names them, by type.
    """

    name: str
    kind: str
    weight: int
    a_day: float
    peak: float
    play: Callable[[Actor], None]
    operations: tuple[str, ...] = ()
    own: bool = True
    interactions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def at_peak(self, register: int) -> float:
        """Actions a second in the busiest hour of a register of that size."""
        return self.a_day * self.peak * register / 3600


def resources(answer: Answer, kind: str = "") -> list[Json]:
    """Those of a searchset, of one type or of all, outcomes left out."""
    bundle = answer.json()
    if bundle.get("resourceType") != "Bundle":
        raise Wrong(f"a {bundle.get('resourceType')} and no Bundle")
    found = [
        entry["resource"]
        for entry in bundle.get("entry", ())
        if entry.get("search", {}).get("mode") != "outcome"
    ]
    return [one for one in found if not kind or one["resourceType"] == kind]


def subject(resource: Json) -> str:
    """The id of the patient whom it is about; empty for one that names nobody."""
    for name in ("subject", "patient", "for"):
        if name in resource:
            return str(resource[name].get("reference", "")).rpartition("/")[2]
    return ""


def all_about(person: Person, *, least: int = 0) -> Check:
    """Everything found is about that one, and there is at least so much of it."""

    def check(answer: Answer) -> None:
        found = resources(answer)
        wrong = [one["id"] for one in found if subject(one) != person.id]
        if wrong:
            raise Wrong("the record of another young person")
        if len(found) < least:
            raise Wrong(f"{len(found)} resources and not at least {least}")

    return check


def all_among(people: Sequence[Person]) -> Check:
    """Everything found is about one of those."""
    known = {one.id for one in people}

    def check(answer: Answer) -> None:
        if any(subject(one) not in known for one in resources(answer)):
            raise Wrong("a record that is not for this caller")

    return check


def is_empty(answer: Answer) -> None:
    if resources(answer):
        raise Wrong("answered what must be refused")


def is_about(person: Person, kind: str) -> Check:
    def check(answer: Answer) -> None:
        found = answer.json()
        if found.get("resourceType") != kind or subject(found) != person.id:
            raise Wrong("the record of another young person")

    return check


def version(answer: Answer) -> str:
    """What the ETag says, by https://hl7.org/fhir/R4/http.html#versioning."""
    told = answer.headers.get("etag", "").removeprefix("W/").strip('"')
    if not told:
        raise Wrong("no ETag with a version")
    return told


def is_first(actor: Actor) -> Check:
    """The resource is new, and in the answer."""

    def check(answer: Answer) -> None:
        _require_same(answer)
        if COUNTING not in actor.lacks and version(answer) != "1":
            raise Wrong("a new resource with an old version")

    return check


def moved_on_from(before: str, actor: Actor) -> Check:
    """The version is the next one, in the header as in the body."""

    def check(answer: Answer) -> None:
        now = version(answer)
        if now == before or (COUNTING not in actor.lacks and int(now) != int(before) + 1):
            raise Wrong(f"version {now} after {before}")
        _require_same(answer)

    return check


def _require_same(answer: Answer) -> None:
    if version(answer) != answer.json()["meta"]["versionId"]:
        raise Wrong("ETag and versionId differ")


def says_what_is_wrong(answer: Answer) -> None:
    """An OperationOutcome with an issue and words in it."""
    outcome = answer.json()
    issues = outcome.get("issue") or [{}]
    if outcome.get("resourceType") != "OperationOutcome" or not _words(issues[0]):
        raise Wrong("a refusal that does not say why")


def _words(issue: Json) -> Any:
    return issue.get("diagnostics") or issue.get("details", {}).get("text")


WHOLE: Final = {"Prefer": "return=representation"}
"""https://hl7.org/fhir/R4/http.html#ops: without it a server may answer without the resource."""


def if_match(told: str) -> dict[str, str]:
    return {"If-Match": f'W/"{told}"', **WHOLE}
