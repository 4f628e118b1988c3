"""From the parameters of a search to its meaning.

Source: https://hl7.org/fhir/R4/search.html. What is not known is an error that says what is
allowed; with `Prefer: handling=lenient` it is left out and reported
(https://hl7.org/fhir/R4/search.html#errors).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import summary
from fhir_server.fhir.definitions import SearchParameter, is_resource_type
from fhir_server.fhir.summary import Subset
from fhir_server.search.ast import (
    Everything,
    Include,
    Node,
    Queries,
    Query,
    Search,
    SortKey,
    conjunction,
)
from fhir_server.search.contained import SORTED_BY, Contained, asks_added, queries
from fhir_server.search.criteria import RESULT_PARAMETERS as RESULT_PARAMETERS
from fhir_server.search.criteria import TEXTS, Criteria, at, not_known, unsupported
from fhir_server.search.filtering import FILTER, Filtering
from fhir_server.search.limits import Limits as Limits
from fhir_server.search.parameters import BUILT_IN, ParameterSet

Parameters = Sequence[tuple[str, str]]
"""Names and values of a query string, decoded, in order."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A parsed search: what matches, and how it is to be answered."""

    query: Query
    """The search of the type, of the first where there are several."""
    count: int
    """Matches on a page; 0 asks for the total alone."""
    total: bool = False
    includes: tuple[Include, ...] = ()
    used: Parameters = ()
    """The parameters that were understood, for the self link."""
    ignored: tuple[Issue, ...] = ()
    """What was left out under lenient handling."""
    subset: Subset | None = None
    """The part of each resource that is asked for, None for all of it."""
    further: tuple[Query, ...] = ()
    """The same of the other types."""
    contained: Contained | None = None
    """Whether it is a search among contained resources."""
    known: ParameterSet = BUILT_IN
    """The parameters with which it was read."""

    @property
    def asked(self) -> Search:
        """The whole search."""
        if not self.further:
            return self.query
        return Queries((self.query, *self.further), self.query.sort)


class Reading(NamedTuple):
    """How a search is read, whatever it says."""

    base: str
    now: int
    limits: Limits
    lenient: bool
    known: ParameterSet


_NEGOTIATION: Final = frozenset({"_format", "_pretty"})
"""Read where the answer is rendered."""


def parse(
    resource_type: str,
    parameters: Parameters,
    *,
    base: str,
    now: int,
    limits: Limits | None = None,
    lenient: bool = False,
    known: ParameterSet = BUILT_IN,
) -> SearchRequest:
    """The meaning of a search of one resource type.

    Args:
        base: the server's address without a slash at its end: references below it are local.
        now: microseconds since the epoch, for the `ap` prefix of dates.
        known: the search parameters of the store that is asked.

    Raises:
        FhirError: INVALID or UNSUPPORTED, with an issue for each parameter that is wrong.
    """
    parser = _Parser((resource_type,), Reading(base, now, limits or Limits(), lenient, known))
    parser.read(parameters)
    return parser.request(Everything())


def parse_several(
    types: Sequence[str],
    parameters: Parameters,
    *,
    base: str,
    now: int,
    limits: Limits | None = None,
    lenient: bool = False,
    known: ParameterSet = BUILT_IN,
    within: Node | None = None,
) -> SearchRequest:
    """The meaning of a search of several types, or of those among them that `_type` names.

    Args:
        within: what every match satisfies besides, whatever its type.

    Raises:
        FhirError: as `parse`, also for a parameter that one of the types has not.
    """
    named = [value for name, value in parameters if name == "_type"]
    reading = Reading(base, now, limits or Limits(), lenient, known)
    parser = _Parser(_types(named, types), reading, several=True)
    parser.read(parameters)
    return parser.request(within or Everything())


def parse_criteria(
    resource_type: str,
    parameters: Parameters,
    *,
    base: str,
    now: int,
    limits: Limits | None = None,
    known: ParameterSet = BUILT_IN,
) -> Node:
    """What a conditional interaction must match: criteria only, at least one.

    Raises:
        FhirError: INVALID, as `parse`, and for result parameters.
    """
    for name, _ in parameters:
        if name.partition(":")[0] in RESULT_PARAMETERS:
            raise at(name, f"'{name}' has no meaning in the criteria of a condition")
    read = parse(resource_type, parameters, base=base, now=now, limits=limits, known=known)
    where = read.query.where
    if isinstance(where, Everything):
        raise FhirError(Kind.INVALID, "The condition has no search criteria; give at least one")
    return where


@dataclass(slots=True)
class _Parser:
    types: tuple[str, ...]
    reading: Reading
    criteria: dict[str, Criteria] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    includes: list[Include] = field(default_factory=list)
    sort: tuple[SortKey, ...] = ()
    count: int | None = None
    total: bool = False
    summary: str | None = None
    elements: tuple[str, ...] = ()
    used: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Issue] = field(default_factory=list)
    several: bool = False
    contained: str = "false"
    contained_type: str = "container"

    def read(self, parameters: Parameters) -> None:
        base, now, limits, lenient, known = self.reading
        most = limits.max_parameters
        # Each type has its own account of what its criteria cost.
        self.criteria = {name: Criteria(base, now, limits, known) for name in self.types}
        if len(parameters) > most:
            raise FhirError(
                Kind.TOO_COSTLY, f"{len(parameters)} search parameters; {most} are allowed"
            )
        for name, value in parameters:
            try:
                self._read_one(name, value)
            except FhirError as error:
                if error.kind is Kind.TOO_COSTLY:
                    raise
                self.problems.extend(error.issues)
            else:
                if name not in _NEGOTIATION:
                    self.used.append((name, value))
        if self.problems and not lenient:
            raise FhirError.of(Kind.INVALID, self.problems)

    def _query(self, resource_type: str, within: Node) -> Query:
        where = conjunction(within, *self.nodes.get(resource_type, ()))
        return Query(resource_type, where, self.sort)

    def _sought(self) -> Contained | None:
        """What is looked for among contained resources.

        Raises:
            FhirError: for what has no meaning there.
        """
        if self.contained == "false":
            return None
        if len(self.types) > 1:
            raise at("_contained", "'_contained' takes false where several types are searched")
        if any(name.partition(":")[0] in TEXTS for name, _ in self.used):
            raise unsupported("_contained", f"{' and '.join(TEXTS)} look at whole resources only")
        for key in self.sort:
            if key.code not in SORTED_BY:
                raise at("_sort", f"With '_contained', {' and '.join(SORTED_BY)} can be sorted by")
        resource_type, alone = self.types[0], self.contained_type == "contained"
        if alone and (self.total or self.count == 0):
            raise unsupported(
                "_containedType", "What is contained is not counted; leave out the total"
            )
        if self.criteria[resource_type].links > self.reading.limits.max_contained_links:
            raise FhirError.at(
                Kind.TOO_COSTLY,
                "http._contained",
                "Chains of so many possible types are not followed from contained resources; "
                "name the types, as in subject:Patient.name",
            )
        own = conjunction(*self.nodes.get(resource_type, ()))
        if asks_added(own):
            text = "Parameters that were added are not searched among contained resources"
            raise unsupported("_contained", text)
        return Contained(resource_type, own, self.contained == "both", alone)

    def _queries(self, contained: Contained | None, within: Node) -> Sequence[Query]:
        if contained is None:
            return [self._query(name, within) for name in self.types]
        return queries(contained, within, self.sort)

    def request(self, within: Node) -> SearchRequest:
        contained = self._sought()
        first, *further = self._queries(contained, within)
        limits = self.reading.limits
        count = limits.default_count if self.count is None else self.count
        return SearchRequest(
            query=first,
            further=tuple(further),
            contained=contained,
            count=min(count, limits.max_count),
            total=self.total or count == 0,
            includes=tuple(self.includes),
            subset=self._subset(),
            used=tuple(self.used),
            known=self.reading.known,
            ignored=tuple(
                Issue(f"Ignored: {issue.text}", issue.expression, issue.code, "warning")
                for issue in self.problems
            ),
        )

    def _read_one(self, name: str, value: str) -> None:
        if name in _NEGOTIATION or (name == "_type" and self.several):
            return
        if not value:
            raise at(name, f"'{name}' has no value")
        read = _RESULT_READERS.get(name)
        if read is not None:
            self._require_first(name)
            read(self, value)
        else:
            for resource_type, criteria in self.criteria.items():
                if name == FILTER:
                    node = Filtering(criteria).read(resource_type, value)
                else:
                    node = criteria.read(resource_type, name, value)
                self.nodes.setdefault(resource_type, []).append(node)
                self._require_affordable(name)

    def _require_first(self, name: str) -> None:
        """Of two that cannot both hold, neither is quietly dropped."""
        if name in _ONCE and any(name == before for before, _ in self.used):
            raise at(name, f"'{name}' stands twice; it may stand once")

    def _require_affordable(self, name: str) -> None:
        """Each type has its own account, and where there are many, all of them a common one.

        Raises:
            FhirError: TOO_COSTLY.
        """
        if len(self.types) == 1 or name.partition(":")[0] not in (FILTER, *TEXTS):
            return
        most = self.reading.limits.max_tests
        if sum(criteria.spent for criteria in self.criteria.values()) > most:
            raise FhirError.at(
                Kind.TOO_COSTLY,
                f"http.{name}",
                f"More than {most} tests and words, one for each type that is searched; {most} are "
                "allowed: name fewer types in _type",
            )

    def _sort(self, value: str) -> None:
        most = self.reading.limits.max_sort
        if value.count(",") >= most:
            text = f"More than {most} keys; {most} are allowed"
            raise FhirError.at(Kind.TOO_COSTLY, "http._sort", text)
        self.sort = tuple(self._sort_key(part) for part in value.split(","))

    def _sort_key(self, part: str) -> SortKey:
        code, descending = part.removeprefix("-"), part.startswith("-")
        if code == "_id":
            return SortKey(code, "token", descending)
        found = [self._sorted_by(resource_type, code) for resource_type in self.types]
        if len({(one.type, one.index) for one in found}) > 1:
            raise at("_sort", f"'{code}' is not of the same kind in all types")
        parameter = found[0]
        if parameter.type == "composite":
            raise at("_sort", f"'{code}' is a composite parameter; sort by one of its components")
        if parameter.type == "special":
            raise at("_sort", f"'{code}' has no order; sort by another parameter")
        return SortKey(parameter.index, parameter.type, descending)

    def _sorted_by(self, resource_type: str, code: str) -> SearchParameter:
        known = self.reading.known
        if unready := known.unready(resource_type, code):
            raise at("_sort", unready)
        indexed = known.indexed(resource_type)
        if code not in indexed:
            raise at("_sort", not_known(code, resource_type, indexed))
        return indexed[code]

    def _count(self, value: str) -> None:
        if not (value.isascii() and value.isdigit()) or len(value) > 9:
            raise at("_count", f"'{value}' is not a page size; a whole number from 0 is expected")
        self.count = int(value)

    def _total(self, value: str) -> None:
        if value not in ("none", "estimate", "accurate"):
            raise at("_total", f"'{value}' is not allowed; none, estimate or accurate is")
        self.total = value != "none"

    def _summary(self, value: str) -> None:
        self.summary = summary.summary_form(value)
        if value == "count":
            self.count = 0

    def _elements(self, value: str) -> None:
        self.elements += _elements(value, self.types)

    def _subset(self) -> Subset | None:
        if self.summary == "text" and self.includes:
            raise at("_summary", "'_summary=text' does not go with _include and _revinclude")
        return summary.combined(self.summary, self.elements)

    def _contained(self, value: str) -> None:
        if value not in ("false", "true", "both"):
            raise at("_contained", f"'{value}' is not allowed; false, true or both is")
        self.contained = value

    def _contained_type(self, value: str) -> None:
        if value not in ("container", "contained"):
            raise at("_containedType", f"'{value}' is not allowed; container or contained is")
        self.contained_type = value

    def _include(self, value: str) -> None:
        self.includes.append(_include("_include", value, self.reading.known))

    def _include_iterate(self, value: str) -> None:
        include = _include("_include:iterate", value, self.reading.known)
        self.includes.append(replace(include, iterate=True))

    def _revinclude(self, value: str) -> None:
        self.includes.append(_revinclude("_revinclude", value, self.reading.known))

    def _revinclude_iterate(self, value: str) -> None:
        include = _revinclude("_revinclude:iterate", value, self.reading.known)
        self.includes.append(replace(include, iterate=True))


_ONCE: Final = frozenset({"_sort", "_count", "_total", "_summary", "_contained", "_containedType"})

_RESULT_READERS: Final[Mapping[str, Callable[[_Parser, str], None]]] = {
    "_sort": _Parser._sort,
    "_count": _Parser._count,
    "_total": _Parser._total,
    "_summary": _Parser._summary,
    "_elements": _Parser._elements,
    "_include": _Parser._include,
    "_include:iterate": _Parser._include_iterate,
    "_revinclude": _Parser._revinclude,
    "_revinclude:iterate": _Parser._revinclude_iterate,
    "_contained": _Parser._contained,
    "_containedType": _Parser._contained_type,
}


def _types(named: Sequence[str], searched: Sequence[str]) -> tuple[str, ...]:
    """https://hl7.org/fhir/R4/http.html#vsearch"""
    if not named:
        return tuple(searched)
    if len(named) > 1:
        raise at("_type", "'_type' stands twice; it may stand once, with commas between types")
    wanted = dict.fromkeys(named[0].split(","))
    for name in wanted:
        if not is_resource_type(name):
            raise at("_type", f"'{name}' is not a resource type of R4")
        if name not in searched:
            raise at("_type", f"No {name} can be in what is searched")
    return tuple(wanted)


def _elements(value: str, types: Sequence[str]) -> tuple[str, ...]:
    """Names that at least one of the types has."""
    found: dict[str, None] = {}
    refusal: FhirError | None = None
    for name in dict.fromkeys(value.split(",")):
        known = False
        for resource_type in types:
            try:
                found.update(dict.fromkeys(summary.element_names(name, resource_type)))
                known = True
            except FhirError as error:
                refusal = refusal or error
        if not known and refusal is not None:
            raise refusal
    return tuple(found)


def _include(name: str, value: str, parameters: ParameterSet) -> Include:
    """https://hl7.org/fhir/R4/search.html#include"""
    if value == "*":
        return Include("*", "*")
    parts = value.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise at(
            name,
            f"'{value}' is not of the form Source:parameter, Source:parameter:Target or Source:*",
        )
    source, code, target = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    for type_name in (source, target):
        if type_name is not None and not is_resource_type(type_name):
            raise at(name, f"'{type_name}' is not a resource type of R4")
    known = parameters.indexed(source)
    if unready := parameters.unready(source, code):
        raise at(name, unready)
    if code != "*" and (code not in known or known[code].type != "reference"):
        references = sorted(c for c, parameter in known.items() if parameter.type == "reference")
        raise at(
            name,
            f"'{code}' is not a reference parameter of {source}; {', '.join(references)} are",
        )
    return Include(source, code, target)


def _revinclude(name: str, value: str, parameters: ParameterSet) -> Include:
    return replace(_include(name, value, parameters), reverse=True)
