"""The search parameters that hold in a store: R4's and the project's, and those added at run time.

An added parameter is `NEW` until its index is made, `BUILDING` while it is, and can be searched
when it is `READY`: then every current resource has its entries. Its values stand in the index
under a code with its number, which no other definition ever gets: an index that an earlier
definition left behind is never taken for its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from fhir_server.fhir.definitions import SearchParameter, lineage
from fhir_server.search.extract import (
    Extractors,
    extracted,
    extractors,
    indexed_parameters,
)
from fhir_server.search.values import IndexValue

_MARK: Final = "~"


class State(Enum):
    NEW = "new"
    """It is known, and nothing more."""
    BUILDING = "building"
    """Every version that is written has its entries; older ones are gone through."""
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a SearchParameter resource asks for (https://hl7.org/fhir/R4/searchparameter.html).

    `bases` are resource types, `Resource` or `DomainResource`; `targets` () for any type.
    """

    url: str
    code: str
    type: str
    expression: str
    bases: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def is_of(self, resource_type: str) -> bool:
        return not set(self.bases).isdisjoint(lineage(resource_type))

    def parameter(self, number: int = 0) -> SearchParameter:
        return SearchParameter(
            self.code, self.type, self.url, self.expression, self.targets, (), number
        )


@dataclass(frozen=True, slots=True)
class Added:
    """A parameter that was added at run time; `id` is that of its SearchParameter resource."""

    id: str
    number: int
    definition: Definition
    state: State = State.NEW


@dataclass(frozen=True, slots=True)
class Remaking:
    """The index is being made anew: all of it, or the entries of the parameters being built."""

    number: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Account:
    """What a store keeps: its added parameters, and whether its index is being remade."""

    added: tuple[Added, ...] = ()
    numbers: int = 0
    """How many have been given, to parameters and remakings alike."""
    remaking: Remaking | None = None


class ParameterSet:
    """The search parameters at one moment. It never changes: another takes its place."""

    def __init__(self, account: Account | None = None) -> None:
        self.account: Final = account or Account()
        self._indexed: dict[str, Mapping[str, SearchParameter]] = {}
        self._extractors: dict[tuple[str, bool], Extractors] = {}

    def indexed(self, resource_type: str) -> Mapping[str, SearchParameter]:
        """The parameters by which resources of the type can be searched, by code."""
        if not self.account.added:
            return indexed_parameters(resource_type)
        found = self._indexed.get(resource_type)
        if found is None:
            # Where a release brings a parameter of the same name, that one holds.
            found = {
                **self._of(resource_type, State.READY),
                **indexed_parameters(resource_type),
            }
            self._indexed[resource_type] = found
        return found

    def unready(self, resource_type: str, code: str) -> str | None:
        """Why a parameter that was added cannot be searched yet; None where there is none."""
        if code in indexed_parameters(resource_type) or code not in self._of(
            resource_type, State.NEW, State.BUILDING
        ):
            return None
        return (
            f"'{code}' of {resource_type} is not indexed yet, so it cannot be searched; "
            "run keyworking reindex"
        )

    def is_searchable(self, index: str) -> bool:
        """Whether entries under the code are whole: false where an added parameter is gone."""
        return not is_added(index) or any(
            one.state is State.READY and one.number == _number(index) for one in self.account.added
        )

    def values(
        self, resource: Mapping[str, Any], *, building_only: bool = False
    ) -> Sequence[tuple[str, IndexValue]]:
        """Index values of a resource by the added parameters, pairs of index code and value."""
        if not self.account.added:
            return ()
        key = resource["resourceType"], building_only
        found = self._extractors.get(key)
        if found is None:
            states = (State.BUILDING,) if building_only else (State.BUILDING, State.READY)
            found = extractors(self._of(key[0], *states).values(), key[0])
            self._extractors[key] = found
        return tuple(extracted(resource, found))

    def building(self, resource_type: str) -> tuple[SearchParameter, ...]:
        """The parameters of the type whose index is being made."""
        return tuple(self._of(resource_type, State.BUILDING).values())

    def _of(self, resource_type: str, *states: State) -> dict[str, SearchParameter]:
        return {
            one.definition.code: one.definition.parameter(one.number)
            for one in self.account.added
            if one.state in states and one.definition.is_of(resource_type)
        }

    def defined(self, resource_id: str, definition: Definition | None) -> "ParameterSet":
        """With what a SearchParameter resource says by now; None: nothing any more.

        The same set where that is no change, so that another description costs no new index.
        """
        old = next((one for one in self.account.added if one.id == resource_id), None)
        if (old.definition if old else None) == definition:
            return self
        others = tuple(one for one in self.account.added if one is not old)
        if definition is None:
            return self._with(added=others)
        number = self.account.numbers + 1
        return self._with(added=(*others, Added(resource_id, number, definition)), numbers=number)

    @property
    def has_new(self) -> bool:
        return any(one.state is State.NEW for one in self.account.added)

    def begun(self, *, whole: bool) -> "ParameterSet":
        """A remaking begins: from this set on, every write has the entries of what was new."""
        number = self.account.numbers + 1
        return self._with(
            added=tuple(_moved(self.account.added, State.NEW, State.BUILDING)),
            numbers=number,
            remaking=Remaking(number, whole),
        )

    def finished(self) -> "ParameterSet":
        """Every current resource has been gone through: what was built can be searched."""
        built = tuple(_moved(self.account.added, State.BUILDING, State.READY))
        return self._with(added=built, remaking=None)

    def _with(self, **changes: Any) -> "ParameterSet":
        return ParameterSet(replace(self.account, **changes))


def _moved(added: Iterable[Added], old: State, new: State) -> Iterator[Added]:
    for one in added:
        yield replace(one, state=new) if one.state is old else one


BUILT_IN: Final = ParameterSet()
"""R4's and the project's alone."""


def is_added(index: str) -> bool:
    """Whether entries under the code belong to a parameter that was added at run time."""
    return _MARK in index


def _number(index: str) -> int:
    """Of an index code such as `risk~3` or `risk~3:text`."""
    return int(index.partition(_MARK)[2].partition(":")[0])
