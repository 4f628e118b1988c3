"""From the parameters of a search to its meaning.

Source: https://hl7.org/fhir/R4/search.html. What is not known is an error that says what is
allowed; with `Prefer: handling=lenient` it is left out and reported
(https://hl7.org/fhir/R4/search.html#errors).
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import SearchParameter, is_resource_type, resource_types
from fhir_server.fhir.references import is_id
from fhir_server.search import operands
from fhir_server.search.ast import (
    Everything,
    IdIn,
    Include,
    Missing,
    Node,
    Not,
    Nothing,
    Query,
    SortKey,
    conjunction,
    disjunction,
)
from fhir_server.search.extract import indexed_parameters

Parameters = Sequence[tuple[str, str]]
"""Names and values of a query string, decoded, in order."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one search; beyond them it is refused or, for the page size, cut."""

    default_count: int = 50
    max_count: int = 1000
    max_values: int = 1000
    max_parameters: int = 100


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A parsed search: what matches, and how it is to be answered."""

    query: Query
    count: int
    """Matches on a page; 0 asks for the total alone."""
    total: bool = False
    includes: tuple[Include, ...] = ()
    used: Parameters = ()
    """The parameters that were understood, for the self link."""
    ignored: tuple[Issue, ...] = ()
    """What was left out under lenient handling."""


RESULT_PARAMETERS: Final = (
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_include",
    "_revinclude",
)
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
) -> SearchRequest:
    """The meaning of a search of one resource type.

    Args:
        base: the server's address without a slash at its end: references below it are local.
        now: microseconds since the epoch, for the `ap` prefix of dates.

    Raises:
        FhirError: INVALID or UNSUPPORTED, with an issue for each parameter that is wrong.
    """
    parser = _Parser(resource_type, base, now, limits or Limits())
    parser.read(parameters, lenient=lenient)
    return parser.request()


def parse_criteria(resource_type: str, parameters: Parameters, *, base: str, now: int) -> Node:
    """What a conditional interaction must match: criteria only, at least one.

    Raises:
        FhirError: INVALID, as `parse`, and for result parameters.
    """
    for name, _ in parameters:
        if name in RESULT_PARAMETERS:
            raise _at(name, f"'{name}' has no meaning in the criteria of a condition")
    where = parse(resource_type, parameters, base=base, now=now).query.where
    if isinstance(where, Everything):
        raise FhirError(Kind.INVALID, "The condition has no search criteria; give at least one")
    return where


@dataclass(slots=True)
class _Parser:
    resource_type: str
    base: str
    now: int
    limits: Limits
    nodes: list[Node] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    sort: tuple[SortKey, ...] = ()
    count: int | None = None
    total: bool = False
    used: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Issue] = field(default_factory=list)
    values: int = 0

    def read(self, parameters: Parameters, *, lenient: bool) -> None:
        if len(parameters) > self.limits.max_parameters:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"{len(parameters)} search parameters; {self.limits.max_parameters} are allowed",
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

    def request(self) -> SearchRequest:
        query = Query(self.resource_type, conjunction(*self.nodes), self.sort)
        count = self.limits.default_count if self.count is None else self.count
        return SearchRequest(
            query=query,
            count=min(count, self.limits.max_count),
            total=self.total or count == 0,
            includes=tuple(self.includes),
            used=tuple(self.used),
            ignored=tuple(
                Issue(f"Ignored: {issue.text}", issue.expression, issue.code, "warning")
                for issue in self.problems
            ),
        )

    def _read_one(self, name: str, value: str) -> None:
        if name in _NEGOTIATION:
            return
        if not value:
            raise _at(name, f"'{name}' has no value")
        read = _RESULT_READERS.get(name)
        if read is not None:
            read(self, value)
        else:
            self.nodes.append(self._criterion(name, value))

    def _criterion(self, name: str, value: str) -> Node:
        code, colon, modifier = name.partition(":")
        parameter = self._parameter(code, name)
        if colon and not modifier:
            raise _at(name, f"'{name}' ends before its modifier; leave the colon out or name one")
        texts = operands.split(value, ",")
        self.values += len(texts)
        if self.values > self.limits.max_values:
            raise FhirError.at(
                Kind.TOO_COSTLY,
                f"http.{name}",
                f"More than {self.limits.max_values} values; {self.limits.max_values} are allowed "
                "in one search",
            )
        if _fan_out(parameter, modifier, texts) > _MAX_TARGETS:
            raise FhirError.at(
                Kind.TOO_COSTLY,
                f"http.{name}",
                f"{len(texts)} ids of many possible types; give each as Type/id",
            )
        try:
            return self._node(parameter, modifier, texts)
        except operands.BadOperand as error:
            raise _at(name, f"{error}") from None

    def _node(self, parameter: SearchParameter, modifier: str, texts: list[str]) -> Node:
        if modifier == "missing":
            return _missing(parameter, texts)
        if parameter.code == "_id":
            return _ids(modifier, texts)
        operand = operands.reader(parameter, modifier, base=self.base, now=self.now)
        found = disjunction(*(operand(text) for text in texts))
        return Not(found) if modifier == "not" else found

    def _parameter(self, code: str, name: str) -> SearchParameter:
        known = indexed_parameters(self.resource_type)
        if "." in name or code == "_has":
            raise _unsupported(name, "Chained parameters are not supported yet")
        if code in RESULT_PARAMETERS:
            raise _unsupported(name, f"'{code}' takes no modifier; '{name}' is not supported")
        if code == "_id":
            return _ID
        if code not in known:
            every = ["_id", *known, *RESULT_PARAMETERS]
            raise _at(name, _unknown(code, self.resource_type, every))
        return known[code]

    def _sort(self, value: str) -> None:
        self.sort = tuple(self._sort_key(part) for part in value.split(","))

    def _sort_key(self, part: str) -> SortKey:
        code, descending = part.removeprefix("-"), part.startswith("-")
        if code == "_id":
            return SortKey(code, "token", descending)
        parameter = indexed_parameters(self.resource_type).get(code)
        if parameter is None:
            known = indexed_parameters(self.resource_type)
            raise _at("_sort", _unknown(code, self.resource_type, known))
        return SortKey(code, parameter.type, descending)

    def _count(self, value: str) -> None:
        if not (value.isascii() and value.isdigit()) or len(value) > 9:
            raise _at("_count", f"'{value}' is not a page size; a whole number from 0 is expected")
        self.count = int(value)

    def _total(self, value: str) -> None:
        if value not in ("none", "estimate", "accurate"):
            raise _at("_total", f"'{value}' is not allowed; none, estimate or accurate is")
        self.total = value != "none"

    def _summary(self, value: str) -> None:
        if value not in ("count", "false"):
            raise _unsupported(
                "_summary", f"'_summary={value}' is not supported yet; count and false are"
            )
        if value == "count":
            self.count = 0

    def _include(self, value: str) -> None:
        self.includes.append(_include("_include", value, reverse=False))

    def _revinclude(self, value: str) -> None:
        self.includes.append(_include("_revinclude", value, reverse=True))


_RESULT_READERS: Final[Mapping[str, Callable[[_Parser, str], None]]] = {
    "_sort": _Parser._sort,
    "_count": _Parser._count,
    "_total": _Parser._total,
    "_summary": _Parser._summary,
    "_include": _Parser._include,
    "_revinclude": _Parser._revinclude,
}

_ID: Final = SearchParameter("_id", "token", "", "", (), ())


_MAX_TARGETS: Final = 20_000
"""Resources that the ids of one parameter may stand for."""


def _fan_out(parameter: SearchParameter, modifier: str, texts: Sequence[str]) -> int:
    """How many resources bare ids stand for: one for each type that may be meant."""
    if parameter.type != "reference" or modifier:
        return 0
    types = len(parameter.targets) or len(resource_types())
    return types * sum(map(is_id, texts))


def _ids(modifier: str, texts: list[str]) -> Node:
    if modifier not in ("", "not"):
        raise operands.BadOperand(f"':{modifier}' is not allowed on _id; :not and :missing are")
    for text in texts:
        if not is_id(text):
            raise operands.BadOperand(f"'{text}' is not an id: 1 to 64 of A-Z a-z 0-9 - .")
    found = IdIn(tuple(texts))
    return Not(found) if modifier else found


def _missing(parameter: SearchParameter, texts: list[str]) -> Node:
    if texts not in (["true"], ["false"]):
        raise operands.BadOperand("':missing' takes true or false")
    absent = texts == ["true"]
    if parameter.code == "_id":
        return Nothing() if absent else Everything()
    missing = Missing(parameter.code, parameter.type)
    return missing if absent else Not(missing)


def _include(name: str, value: str, *, reverse: bool) -> Include:
    parts = value.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise _at(name, f"'{value}' is not of the form Source:parameter or Source:parameter:Target")
    source, code, target = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    for type_name in (source, target):
        if type_name is not None and not is_resource_type(type_name):
            raise _at(name, f"'{type_name}' is not a resource type of R4")
    known = indexed_parameters(source)
    if code not in known or known[code].type != "reference":
        references = sorted(c for c, parameter in known.items() if parameter.type == "reference")
        raise _at(
            name,
            f"'{code}' is not a reference parameter of {source}; {', '.join(references)} are",
        )
    return Include(source, code, target, reverse)


def _unknown(code: str, resource_type: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(code, list(known), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
    return f"'{code}' is not a search parameter of {resource_type}; {hint}"


def _at(name: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, f"http.{name}", text)


def _unsupported(name: str, text: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, Issue(text, f"http.{name}", "not-supported"))
