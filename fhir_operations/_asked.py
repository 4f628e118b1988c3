"""What $everything is asked for, from its parameters or from the link to a further page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.dates import interval
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.operation.parameters import Inputs
from fhir_server.search.limits import Limits

_NAMES: Final = ("start", "end", "_since", "_type", "_count")

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Times are in microseconds since the epoch, None where there is no bound."""

    count: int
    types: frozenset[str] = frozenset()
    """None: all."""
    since: int | None = None
    start: int | None = None
    end: int | None = None
    used: tuple[tuple[str, str], ...] = ()
    """The parameters, as they stand in an address."""

    @property
    def narrows(self) -> bool:
        """Whether fewer are shown than there are members."""
        return bool(self.types) or (self.since, self.start, self.end) != (None, None, None)

    def wants(self, resource_type: str) -> bool:
        return not self.types or resource_type in self.types


def pairs_of(inputs: Inputs) -> list[tuple[str, str]]:
    """The parameters as they stand in an address."""
    return [(name, str(value)) for name in _NAMES for value in inputs.all(name)]


def asked(pairs: Pairs, limits: Limits) -> Asked:
    """What is asked for.

    Raises:
        FhirError: INVALID.
    """
    named: dict[str, Any] = dict(pairs)
    start = interval(named["start"]).low if "start" in named else None
    end = interval(named["end"]).high if "end" in named else None
    if start is not None and end is not None and start >= end:
        raise _invalid("end", f"'{named['end']}' is before the start, {named['start']}")
    return Asked(
        count=_count(named.get("_count"), limits),
        types=_types([value for name, value in pairs if name == "_type"]),
        since=interval(named["_since"]).low if "_since" in named else None,
        start=start,
        end=end,
        used=tuple(pairs),
    )


def _count(text: str | None, limits: Limits) -> int:
    count = limits.default_count if text is None else int(text)
    if count < 1:
        raise _invalid("_count", f"'{count}' is not a page size; a whole number from 1 is expected")
    return min(count, limits.max_count)


def _types(values: Sequence[str]) -> frozenset[str]:
    names = [name.strip() for value in values for name in value.split(",")]
    issues = [
        Issue(f"'{name}' is not a resource type of R4", "http._type")
        for name in names
        if not is_resource_type(name)
    ]
    if issues:
        raise FhirError.of(Kind.INVALID, issues)
    return frozenset(names)


def _invalid(name: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, f"http.{name}", text)
