"""Observation/$lastn: the last observations of each kind about one subject.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from typing import Final

from fhir_operations._bundle import searchset
from fhir_operations._groups import Groups
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.operation.api import Call
from fhir_server.operation.parameters import Inputs
from fhir_server.operation.records import walked
from fhir_server.search.ast import Node, Not, Query, TokenIs, conjunction
from fhir_server.search.parse import parse

_CRITERIA: Final = ("patient", "subject", "category", "code", "date")
_MOST: Final = 20_000
"""Observations that are looked through."""
_REAL: Final[tuple[Node, ...]] = (
    Not(TokenIs("status", None, "entered-in-error")),
    Not(TokenIs("status", None, "cancelled")),
)
"""What was never observed is nobody's last observation."""


async def run(call: Call) -> bytes:
    criteria = _criteria(call.parameters)
    search = parse(
        "Observation",
        [*criteria, ("_sort", "-date")],
        base=call.base,
        now=call.now,
        limits=call.limits,
        known=await call.session.parameters(),
    )
    query = Query("Observation", conjunction(search.query.where, *_REAL), search.query.sort)
    most = call.parameters.one("max")
    groups = Groups(1 if most is None else most)
    looked_at = 0
    async for version in walked(call.session, query):
        looked_at += 1
        groups.add(version)
        _require_bearable(looked_at, groups.kept, call.limits.max_count)
    used = [*criteria, *([] if most is None else [("max", str(most))])]
    return searchset(call, used, groups.all())


def _criteria(parameters: Inputs) -> list[tuple[str, str]]:
    """The search parameters among the parameters.

    Raises:
        FhirError: INVALID, where it is not said whose observations, or which.
    """
    criteria = [(name, value) for name in _CRITERIA for value in parameters.all(name)]
    named = {name for name, _ in criteria}
    missing = [
        Issue(f"'{one}' or '{other}' is required", f"http.{one}", "required")
        for one, other in (("patient", "subject"), ("code", "category"))
        if named.isdisjoint((one, other))
    ]
    if missing:
        raise FhirError.of(Kind.INVALID, missing)
    return criteria


def _require_bearable(looked_at: int, kept: int, max_count: int) -> None:
    if looked_at > _MOST:
        text = (
            f"There are more than {_MOST} observations to look through; narrow it by date or code"
        )
        raise FhirError(Kind.TOO_COSTLY, text)
    if kept > max_count:
        text = f"The answer has more than {max_count} observations; ask for fewer with max"
        raise FhirError(Kind.TOO_COSTLY, text)
