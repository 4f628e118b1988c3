"""The year as it is played: who asks, what time it is, and what the server did by itself."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from fhir_server.demo import readings
from fhir_server.demo.conversation import CannotPlay, Conversation, Exchange, NotAsTold
from fhir_server.demo.year.cast import KEYWORKER, PROMPTER, Person
from fhir_server.demo.year.receiver import Notice, Receiver
from fhir_server.demo.year.record import SUBSCRIBED, Family, subscription
from fhir_server.demo.year.telling import Teller
from fhir_server.demo.year.theatre import House
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.json import Resource

_OPEN: Final = ("requested", "accepted", "ready", "in-progress", "received")
_PATIENCE: Final = 60.0
"""Seconds in which the server has to do what time brings about."""
_RENEWED: Final = timedelta(days=30)
"""A subscription that is not written again ends after 90 days."""
BY_HAND: Final = frozenset(
    {
        *("obtain-consent", "contact-family", "contact-mdt", "first-visit", "planning-visit"),
        *("T-LAEP", "T-CETR-COMMUNITY", "T-DPLAN-START", "T-CAREPLAN-SHARE", "T-FU-48"),
        *("T-FU-72", "T-FU-7D", "T-RED-HOLD", "T-PROXY-16", "review-consent", "escalation"),
        *("T-RETENTION", "delay-reason", "T-CONTACT"),
    }
)
"""Tasks that the story is about; the others are done by the way on the day they are due."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands in the record at a moment, as far as it is told."""

    tasks: Mapping[str, Resource]
    colour: str
    """Of the rating; '' for none."""
    state: str
    """Of the pathway."""


@dataclass
class Year:
    """What the chapters know of one another, and what they do."""

    house: House
    teller: Teller
    family: Family
    receiver: Receiver
    pace: Callable[[], None]
    """What comes after each step."""
    episode: str = ""
    plan: str = ""
    """The keyworking plan."""
    goals: list[str] = field(default_factory=list)
    spell: str = ""
    """The ward's number of the stay."""
    admitted: datetime | None = None
    colours: list[str] = field(default_factory=list)
    """Of the ratings, one after another."""
    told: list[Notice] = field(default_factory=list)
    steps: int = 0
    refusals: int = 0
    by_the_way: int = 0
    """Tasks that were done on their day without a word."""
    _lines: dict[Person, Conversation] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)
    """Tasks that somebody has done in this step: not the server."""
    _seen: Standing = field(default_factory=lambda: Standing({}, "", ""))
    _subscriptions: list[tuple[Person, Resource]] = field(default_factory=list)
    _renewed: datetime | None = None
    _since: int = 0
    """How many notices had come when the clock was last moved."""

    # Who asks --------------------------------------------------------------------------------

    def ask(self, who: Person) -> Conversation:
        if who not in self._lines:
            tokens, base = self.house.tokens, self.house.base
            if tokens is None or who == PROMPTER:
                self._lines[who] = Conversation(self.house.stage_door)
            else:
                self._lines[who] = Conversation(base, token=lambda: tokens.of(who))
        return self._lines[who]

    @property
    def requests(self) -> int:
        return sum(line.requests for line in self._lines.values())

    def close(self) -> None:
        """Nobody is told any more, and nobody asks."""
        with suppress(CannotPlay):
            for who, resource in self._subscriptions:
                self.ask(who).put({**resource, "status": "off"})
        for line in self._lines.values():
            line.close()

    # What time it is -------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """By the server's clock, in England's time, to the second."""
        seconds = self.house.clock() // 1_000_000
        return datetime.fromtimestamp(seconds, UTC).astimezone(LOCAL)

    @property
    def today(self) -> date:
        return self.now.date()

    def day(self, number: int) -> date:
        """So many days after the referral; the Monday after, where that is a weekend."""
        found = self.family.start + timedelta(days=number)
        return found + timedelta(days=(7 - found.weekday()) * (found.weekday() > 4))

    def go_on(self, number: int, hour: int = 10, *, weekends: bool = False) -> None:
        """Let time pass until that hour of that day; what falls due before is done in time."""
        day = self.family.start + timedelta(days=number) if weekends else self.day(number)
        target = datetime(day.year, day.month, day.day, hour, tzinfo=LOCAL)
        done: list[str] = []
        while (task := self._next_due(target)) is not None:
            done.append(self._do_by_the_way(*task))
        self._move(target)
        if done:
            self.by_the_way += len(done)
            self._seen = self._look()
            self.teller.meanwhile(done)

    def start(self) -> None:
        """The morning of the first day."""
        day = self.family.start
        self._move(datetime(day.year, day.month, day.day, 10, tzinfo=LOCAL))

    def _next_due(self, target: datetime) -> tuple[datetime, Resource] | None:
        """The Task that falls due first until then, and when it is worked at."""
        found = [
            (_worked_at(task), task)
            for task in self._tasks().values()
            if task["status"] in _OPEN and code(task) not in BY_HAND and due_of(task)
        ]
        due = [one for one in found if one[0] <= target]
        return min(due, key=lambda one: one[0], default=None)

    def _do_by_the_way(self, at: datetime, task: Resource) -> str:
        self._move(at)
        self.complete(task, PROMPTER)
        return _words(task)

    def _move(self, target: datetime) -> None:
        self._since = len(self.receiver.got)
        if target > self.now:
            self.house.clock.move_to(target)
            self._renew()

    def _renew(self) -> None:
        if self._renewed is None or self.now < self._renewed + _RENEWED:
            return
        subscriptions, self._subscriptions = self._subscriptions, []
        for who, resource in subscriptions:
            asked = {name: value for name, value in resource.items() if name != "end"}
            self._subscribe(who, {**asked, "status": "requested"})
        self._renewed = self.now

    # What is done ----------------------------------------------------------------------------

    def deed(self, who: Person, words: str, answer: Exchange, status: int = 200) -> Exchange:
        """Something that has to come out as told, and what the server did because of it."""
        answer.require(status)
        self.event(who, words, f"{said(answer)} -> {answer.summary}")
        return answer

    def event(self, who: Person, words: str, answered: str) -> None:
        """Something that came out as told, by whatever it was asked."""
        self.steps += 1
        self.teller.deed(self.now, who.label, words, answered)
        self._what_followed()
        self.pace()

    def note(self, who: Person, words: str) -> None:
        """Something of which the record holds nothing."""
        self.teller.deed(self.now, who.label, words, "")

    def refused(
        self, who: Person, words: str, answer: Exchange, status: int, because: str
    ) -> Exchange:
        """Something that must not come through, and what the server says to it."""
        answer.require(status)
        self.refusals += 1
        problems = answer.problems
        require(any(because in one for one in problems), f"Not refused by '{because}': {problems}")
        self.teller.deed(self.now, who.label, words, f"{said(answer)} -> {answer.summary}")
        first = [one for one in problems if because in one] if len(problems) > 4 else problems
        self.teller.refused(first)
        if rest := len(problems) - len(first):
            self.teller.refused([f"and {rest} more of that kind"])
        now = self._look()
        left = (now.colour, now.state) != (self._seen.colour, self._seen.state)
        require(not left, "What was refused has left a trace")
        self.pace()
        return answer

    def complete(self, task: Resource, who: Person = KEYWORKER, **elements: Any) -> Exchange:
        """The Task is done now."""
        at = self.now.isoformat()
        done = {**task, "status": "completed", "executionPeriod": {"start": at, "end": at}}
        answer = self.ask(who).put({**done, "lastModified": at, **elements}, held(task))
        answer.require(200)
        self._own.add(task["id"])
        return answer

    def done(self, name: str, words: str, who: Person = KEYWORKER) -> None:
        """The open Task with that code is done, and that is a step of the story."""
        self.deed(who, words, self.complete(self.task(name), who))

    def operate(self, who: Person, address: str, **values: Any) -> Exchange:
        """An operation, with its parameters: a code, words, a reference or a yes."""
        given = [_parameter(name.rstrip("_"), value) for name, value in values.items()]
        return self.ask(who).post(address, {"resourceType": "Parameters", "parameter": given})

    def transition(self, who: Person, to: str, words: str) -> None:
        answer = self.operate(who, f"{self.episode}/$transition", to=Code(to))
        self.deed(who, words, answer)
        require(self._seen.state == to, f"The pathway is at {self._seen.state}, not {to}")

    # What stands in the record ---------------------------------------------------------------

    def task(self, name: str) -> Resource:
        """The open Task with that code."""
        found = [one for one in self._tasks().values() if code(one) == name and is_open(one)]
        require(len(found) == 1, f"{len(found)} Tasks {name} are open, not one")
        return found[0]

    def find(self, resource_type: str, *criteria: tuple[str, str]) -> list[Resource]:
        """Resources about the young person, as they stand."""
        about = ("patient", self.family.id)
        answer = self.ask(PROMPTER).get(resource_type, about, ("_count", "500"), *criteria)
        return answer.entries("match", resource_type)

    def read(self, reference: str) -> Resource:
        answer = self.ask(PROMPTER).get(reference)
        answer.require(200)
        return answer.resource

    def rated(self, colour: str) -> None:
        require(self._seen.colour == colour, f"The rating is {self._seen.colour}, not {colour}")

    def is_at(self, state: str) -> None:
        require(self._seen.state == state, f"The pathway is at {self._seen.state}, not {state}")

    def _tasks(self) -> dict[str, Resource]:
        return {task["id"]: task for task in self.find("Task")}

    def _look(self) -> Standing:
        flags = self.find("Flag")
        ratings = [
            readings.code_of(flag["code"], canonicals.DSR_RATING)
            for flag in flags
            if flag["status"] == "active"
        ]
        episodes = self.find("EpisodeOfCare")
        return Standing(
            self._tasks(), next(filter(None, ratings), ""), _state(episodes[0]) if episodes else ""
        )

    def begin(self) -> None:
        """From here on, what changes is told."""
        self._seen = self._look()
        self.colours.append(self._seen.colour)

    def _what_followed(self) -> None:
        before, now = self._seen, self._look()
        self._seen = now
        if now.colour != before.colour:
            self.colours.append(now.colour)
            self.teller.server([f"rating: {before.colour.upper()} -> {now.colour.upper()}"])
        if now.state != before.state:
            came = f"{before.state} -> " if before.state else ""
            self.teller.server([f"pathway: {came}{now.state}"])
        others = {key: task for key, task in now.tasks.items() if key not in self._own}
        self._own.clear()
        self.teller.server(changes(before.tasks, others))
        if now.colour != before.colour and self._subscriptions:
            self.await_notice("rating-changed")
        self.show_notices()

    # What time brings about, and who is told -------------------------------------------------

    def until(self, words: str, holds: Callable[["Standing"], bool]) -> None:
        """Wait until the server has done by itself what time asks for, and tell it."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if holds(self._look()):
                self.teller.deed(self.now, "Time passes", words, "")
                self._what_followed()
                self.pace()
                return
            time.sleep(0.2)
        raise NotAsTold(f"The server has not done by itself: {words}")

    def subscribe(self) -> None:
        for who, topic in SUBSCRIBED:
            resource = subscription(self.family, topic, who.name.lower(), self.receiver.origin)
            self._subscribe(who, resource)
        self._renewed = self.now

    def _subscribe(self, who: Person, resource: Resource) -> None:
        line = self.ask(who)
        answer = line.put(resource) if "id" in resource else line.post("Subscription", resource)
        require(answer.status in (200, 201), f"No subscription: {answer.problems}")
        self._subscriptions.append((who, answer.resource))

    def await_notice(self, topic: str) -> None:
        came = self.receiver.wait_for(self._since, lambda notice: notice.topic == topic)
        require(came, f"Nobody was told: {topic}")
        self.show_notices()

    def show_notices(self) -> None:
        fresh = self.receiver.fresh()
        self.told += fresh
        self.teller.told(_told(notice) for notice in fresh)


@dataclass(frozen=True, slots=True)
class Code:
    """A parameter of type code."""

    value: str


def _parameter(name: str, value: Any) -> Resource:
    name = name.replace("_", "-")
    match value:
        case Code():
            return {"name": name, "valueCode": value.value}
        case bool():
            return {"name": name, "valueBoolean": value}
        case dict():
            return {"name": name, "valueReference": value}
    return {"name": name, "valueString": value}


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsTold(otherwise)


def held(resource: Resource) -> str:
    return f'W/"{resource["meta"]["versionId"]}"'


def said(answer: Exchange) -> str:
    """The request below the server's base."""
    return f"{answer.method} {readings.shortened(answer.url.partition('/fhir/')[2])}"


def code(task: Resource) -> str:
    found = task["code"]
    return readings.code_of(found, canonicals.TIMER) or readings.code_of(found, canonicals.TASK)


def is_open(task: Resource) -> bool:
    return task["status"] in _OPEN


def due_of(task: Resource) -> str:
    return str(task.get("restriction", {}).get("period", {}).get("end", ""))


def _worked_at(task: Resource) -> datetime:
    """Early in the afternoon of the day, or two hours before the moment."""
    due = due_of(task)
    if "T" in due:
        return datetime.fromisoformat(due).astimezone(LOCAL) - timedelta(hours=2)
    day = date.fromisoformat(due)
    return datetime(day.year, day.month, day.day, 13, tzinfo=LOCAL)


def _words(task: Resource) -> str:
    return str(task.get("description") or code(task))


def _state(episode: Resource) -> str:
    return next(
        str(one["valueCode"])
        for one in episode["extension"]
        if one["url"] == canonicals.PATHWAY_STATE_EXTENSION
    )


def changes(before: Mapping[str, Resource], now: Mapping[str, Resource]) -> Iterator[str]:
    """What became of the Tasks, in words."""
    for key, task in now.items():
        was, status = before.get(key), task["status"]
        when = _when(due_of(task))
        if was is None:
            verb = "opened" if is_open(task) else status
            yield f"{verb}: {_words(task)}{when}"
        elif was["status"] != status:
            yield f"{status}: {_words(task)}"
        elif due_of(was) != due_of(task):
            yield f"dated anew: {_words(task)}{when}"
        elif "businessStatus" in task and "businessStatus" not in was:
            yield f"marked overdue: {_words(task)}"


def _when(due: str) -> str:
    if not due:
        return ""
    day = date.fromisoformat(due[: len("2026-01-01")])
    return f" (due {day.day} {day:%b %Y})"


def _told(notice: Notice) -> str:
    about = ", ".join(filter(None, map(_about, notice.resources)))
    return f"{notice.system.capitalize()}'s system, at once: {notice.topic}" + (
        f" ({about})" if about else ""
    )


def _about(resource: Resource) -> str:
    kind = resource["resourceType"]
    if kind == "Flag":
        colour = readings.code_of(resource["code"], canonicals.DSR_RATING).upper()
        return colour if resource["status"] == "active" else ""
    return _words(resource) if kind == "Task" else ""


def first(resources: Iterable[Resource], otherwise: str) -> Resource:
    for resource in resources:
        return resource
    raise NotAsTold(otherwise)
