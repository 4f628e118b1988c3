"""The service's rules: what follows from what was written, whoever wrote it and however.

A rule is a module in the sub-package `rules` of a package with operations. Its `ON` names the
resource types whose changes it looks at, such as `ON = ("Encounter",)`. It has some of these:

`async def guard(change: Change) -> None` refuses what may not be: it raises a FhirError
BUSINESS_RULE with an issue for each thing that is missing. It is asked about what somebody wrote,
never about what a rule did.

`async def follow(change: Change) -> list[str]` writes what follows with `change.records`, and says
in words what that was. What it writes is looked at in turn, until nothing more follows.

`async def ahead(changes: Sequence[Change]) -> None` is asked before, where several changes of its
types are looked at together: it may ask once, with `change.records.about_each`, for what guard and
follow would ask of each. It decides nothing.

`async def due(change: Change) -> list[str]` writes what time alone brings about: it is given the
patient for whom a rule has asked for that moment, with `change.records.remind`.

`async def taken(change: Change) -> None` is asked, and nothing else is, where records come from
elsewhere and are taken as they are: it may ask for a moment.

Rules run at the end of the commit, when everything is in place that a transaction holds, in the
order of the packages and of their names. They may find their own work done already, and then leave
it as it is.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Final, TypeVar

from fhir_server.access.caller import Caller
from fhir_server.access.following import Rules, Written
from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Records
from fhir_server.operation.registry import BadOperation
from fhir_server.validation.checker import Checker

F = TypeVar("F")
_MOST_TURNS: Final = 20
"""A follow that answers a follow is rare; more of them than this never come to rest."""
_FOLDER: Final = "rules"
_LATER: Final = 3_600_000_000
"""Microseconds after which a patient is looked at again whose moment has passed already."""


@dataclass(frozen=True, slots=True)
class Change:
    """A resource that a commit wrote, as a rule sees it."""

    type: str
    id: str
    before: Resource | None
    """As the rules last saw it; None where there was none."""
    after: Resource | None
    """As it was when this turn began; None after a deletion."""
    records: Records
    """What there is now, and the way to write, with the service's own rights."""
    now: int
    """Microseconds since the epoch."""
    pathway: Pathway
    caller: Caller
    """Who wrote it, or wrote what it follows from."""
    by_rule: bool = False
    """Whether a rule wrote it."""
    told: object = None
    """What the operation that wrote it knows beside it, such as who told of it."""

    @property
    def resource(self) -> Resource:
        """As it is, or was before its deletion."""
        found = self.after if self.after is not None else self.before
        assert found is not None  # noqa: S101 - else nothing would have changed
        return found


Guard = Callable[[Change], Awaitable[None]]
Follow = Callable[[Change], Awaitable[list[str]]]
Ahead = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A module with its functions."""

    name: str
    on: tuple[str, ...]
    guard: Guard | None = None
    follow: Follow | None = None
    due: Follow | None = None
    taken: Guard | None = None
    ahead: Ahead | None = None


class ServiceRules:
    """The rules that were found; `fhir_server.access.following.Rules` for sessions."""

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        base: str,
        clock: Callable[[], int],
        checker: Checker,
        pathway: Pathway,
    ) -> None:
        self._rules: Final = tuple(rules)
        self.types: Final = frozenset(name for rule in self._rules for name in rule.on)
        self._guards = [(rule.on, rule.guard) for rule in self._rules if rule.guard]
        self._follows = [(rule.on, rule.follow) for rule in self._rules if rule.follow]
        self._takes = [(rule.on, rule.taken) for rule in self._rules if rule.taken]
        self._aheads = [(rule.on, rule.ahead) for rule in self._rules if rule.ahead]
        self._base = base
        self._clock = clock
        self._checker = checker
        self._pathway = pathway

    async def look(self, unit: SessionUnit, told: object) -> list[str]:
        """See `fhir_server.access.following.Rules.look`."""
        return await self._settle(unit, self._records(unit), told, range(_MOST_TURNS))

    async def come(self, unit: SessionUnit, patient_id: str, at: int) -> list[str]:
        """See `fhir_server.access.following.Rules.come`."""
        records = self._records(unit)
        if at > records.now:
            return []
        await unit.remind(patient_id, None)
        patient = await records.get("Patient", patient_id)
        if patient is None:
            return []
        sides = ("Patient", patient_id, patient, patient)
        change = Change(*sides, records, records.now, self._pathway, unit.caller, by_rule=True)
        said = [text for rule in self._rules if rule.due for text in await rule.due(change)]
        said += await self._settle(unit, records, None, range(1, _MOST_TURNS))
        await unit.postpone(patient_id, records.now + _LATER)
        return said

    def as_it_is(self) -> Rules:
        """See `fhir_server.access.following.Rules.as_it_is`."""
        return _AsItIs(self)

    async def take(self, unit: SessionUnit) -> None:
        """Ask the rules about what was taken as it is."""
        records = self._records(unit)
        service = records.unit
        found = [await _read(service, one, None, records) for one in unit.taken()]
        changes = [
            Change(*sides, records, records.now, self._pathway, unit.caller)
            for sides in found
            if sides is not None
        ]
        for taken, change in _asked(self._takes, changes):
            await taken(change)

    def _records(self, unit: SessionUnit) -> Records:
        service, now = unit.for_rules(), self._clock()
        return Records(service, base=self._base, now=now, checker=self._checker)

    async def _settle(
        self, unit: SessionUnit, records: Records, told: object, turns: range
    ) -> list[str]:
        """Ask the rules until nothing more follows; turn 0 has what was written by no rule."""
        service, now = records.unit, records.now
        said: list[str] = []
        for turn in turns:
            found = [await _read(service, one, told, records) for one in unit.taken()]
            changes = [
                Change(*sides, records, now, self._pathway, unit.caller, turn > 0, told)
                for sides in found
                if sides is not None
            ]
            if not changes:
                return said
            await self._look_ahead(changes)
            if turn == 0:
                await self._guard(changes)
            said += await self._follow(changes)
        names = ", ".join(f"{change.type}/{change.id}" for change in changes)
        raise FhirError(Kind.TOO_COSTLY, f"What follows does not come to an end: {names}")

    async def _look_ahead(self, changes: Sequence[Change]) -> None:
        for on, ahead in self._aheads:
            concerned = [change for change in changes if change.type in on]
            if len(concerned) > 1:
                await ahead(concerned)

    async def _guard(self, changes: Sequence[Change]) -> None:
        """Raise with everything that any rule misses."""
        missing: list[Issue] = []
        for guard, change in _asked(self._guards, changes):
            try:
                await guard(change)
            except FhirError as error:
                if error.kind is not Kind.BUSINESS_RULE:
                    raise
                missing += _told_of(change, error) if len(changes) > 1 else error.issues
        if missing:
            raise FhirError.of(Kind.BUSINESS_RULE, missing)

    async def _follow(self, changes: Sequence[Change]) -> list[str]:
        said: list[str] = []
        for follow, change in _asked(self._follows, changes):
            said += await follow(change)
        return said


def _asked(
    functions: Iterable[tuple[Sequence[str], F]], changes: Sequence[Change]
) -> list[tuple[F, Change]]:
    """Each function with each change that it looks at."""
    return [
        (function, change) for on, function in functions for change in changes if change.type in on
    ]


class _AsItIs:
    """The rules as records meet them that come from elsewhere."""

    def __init__(self, rules: ServiceRules) -> None:
        self._rules = rules
        self.types: Final = rules.types

    async def look(self, unit: SessionUnit, told: object) -> list[str]:  # noqa: ARG002
        await self._rules.take(unit)
        return []

    async def come(self, unit: SessionUnit, patient_id: str, at: int) -> list[str]:
        return await self._rules.come(unit, patient_id, at)

    def as_it_is(self) -> Rules:
        return self


async def _read(
    unit: SessionUnit, written: Written, told: object, records: Records
) -> tuple[str, str, Resource | None, Resource | None] | None:
    """Both sides of a change; None where nothing came of it, and nothing more is told."""
    before, after = written.before, written.after
    if after is None or not unit.is_open:
        after = await unit.read(written.type, written.id)
    if told is None and (after and after.version) == (before and before.version):
        return None
    sides = records.decoded(before), records.decoded(after)
    return None if sides == (None, None) else (written.type, written.id, *sides)


def _told_of(change: Change, error: FhirError) -> Iterator[Issue]:
    """Where a commit holds several resources, it is said which is meant."""
    return (
        replace(issue, text=f"{change.type}/{change.id}: {issue.text}") for issue in error.issues
    )


def load_rules(packages: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of these packages; one without a sub-package `rules` has none.

    Raises:
        BadOperation: for a module that is no rule.
    """
    return tuple(rule for package in packages for rule in _in_package(package))


def _in_package(package: str) -> Iterator[Rule]:
    parent = importlib.import_module(package)
    names = {found.name for found in pkgutil.iter_modules(parent.__path__) if found.ispkg}
    if _FOLDER not in names:
        return
    folder = importlib.import_module(f"{package}.{_FOLDER}")
    for found in sorted(pkgutil.iter_modules(folder.__path__), key=lambda one: one.name):
        if not found.name.startswith("_"):
            name = f"{folder.__name__}.{found.name}"
            yield _rule(name, importlib.import_module(name))


def _rule(name: str, module: ModuleType) -> Rule:
    on = getattr(module, "ON", None)
    if not (isinstance(on, tuple) and on and all(map(_is_type, on))):
        raise BadOperation(f'{name} has no ON, a tuple of resource types such as ("Encounter",)')
    guard, follow = (getattr(module, one, None) for one in ("guard", "follow"))
    due, taken, ahead = (getattr(module, one, None) for one in ("due", "taken", "ahead"))
    functions = [one for one in (guard, follow, due, taken) if one is not None]
    known = functions if ahead is None else [*functions, ahead]
    if not functions or not all(map(inspect.iscoroutinefunction, known)):
        raise BadOperation(
            f"{name} is no rule: it has an 'async def guard(change)', an 'async def "
            "follow(change)', an 'async def due(change)'; the name of a module that is no rule "
            "begins with '_'"
        )
    return Rule(name, on, guard, follow, due, taken, ahead)


def _is_type(name: object) -> bool:
    return isinstance(name, str) and is_resource_type(name)
