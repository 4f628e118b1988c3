"""What a caller may see and write: a rule is a term of every query.

There are three: the open one of `--auth none`, the closed one that stands wherever nobody chose,
and the one by consent (`consent_policy`). Each is asked anew for every question, with the reader
that the question is put to: inside a commit it decides by what the commit sees.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final, Protocol, cast, runtime_checkable

from fhir_server.access.caller import Caller
from fhir_server.access.decision import Sight
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.search.ast import Everything, Node, Nothing, Search
from fhir_server.search.match import match
from fhir_server.search.rewrite import Targets, Used, guarded
from fhir_server.storage.interface import Reader

__all__ = [
    "Caller",
    "ClosedPolicy",
    "OpenPolicy",
    "Policy",
    "Rule",
    "TermRule",
    "Terms",
    "refusal",
    "rule_of",
]


class Policy(Protocol):
    """Decides by resource type, before anything is read; it is the same at every moment."""

    def readable(self, resource_type: str) -> Node:
        """The resources of the type that may be seen, searched, counted and included."""

    def writable(self, resource_type: str) -> Node:
        """The resources of the type that may be written, as they were and as they will be."""


class Terms(Protocol):
    """What may be read at one moment."""

    def readable(self, resource_type: str, used: Used, targets: Targets, /) -> Node:
        """The resources of the type that may be found by such values, among such."""

    def narrowed(self, search: Search) -> Search:
        """The search among what may be found."""

    def as_before(self, search: Search) -> Search | None:
        """The same of what was asked before, whatever else has to be looked up for it."""

    def masks(self, resource_type: str) -> bool:
        """Whether of some of them only a part may be seen."""

    def masks_all(self, resource_type: str) -> bool:
        """Whether of all of them, so that none needs to be looked at."""

    def sight(self, resource: Mapping[str, Any]) -> Sight:
        """How much of one that was found, of a type that is masked."""


@runtime_checkable
class Rule(Protocol):
    """What a session asks of whatever decides. Whoever cannot decide raises, or denies."""

    async def terms(self, reader: Reader) -> Terms:
        """What may be found."""

    async def sight(self, reader: Reader, resource: Mapping[str, Any]) -> Sight:
        """How much of one resource may be seen."""

    async def sight_as_stored(self, reader: Reader, resource_type: str, body: bytes) -> Sight:
        """The same of one as it is stored, of which no more is decoded than decides."""

    async def require_write(
        self,
        reader: Reader,
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any] | None,
        fresh: Collection[str] = (),
    ) -> None:
        """Raise unless the caller may make the one of the other; None is what is not there.

        Args:
            fresh: ids of patients whom the same commit has made.

        Raises:
            FhirError: FORBIDDEN.
        """

    async def require_outcome(self, reader: Reader, about: Collection[str]) -> None:
        """Raise where a commit may not end so; `about` are the patients of what it wrote.

        Raises:
            FhirError: FORBIDDEN.
        """

    def creates_by_update(self, resource_type: str) -> bool:
        """Whether an update of what the caller does not see creates it.

        Where there may be what is hidden, the difference would tell that it is there.
        """


class ClosedPolicy:
    """Nothing may be seen or written."""

    def readable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()

    def writable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()


AUDITED: Final = "AuditEvent"
"""The type that nobody writes: its resources are made of the audit's rows when they are read
(`Session.audited`). What of it lies among the resources, from before, is as if it were not."""


class OpenPolicy:
    """Everything may be seen and written: for trying things out, on loopback only."""

    def readable(self, resource_type: str) -> Node:
        return Nothing() if resource_type == AUDITED else Everything()

    def writable(self, resource_type: str) -> Node:
        return Nothing() if resource_type == AUDITED else Everything()


def rule_of(policy: "Policy | Rule | None") -> Rule | None:
    """What a session asks; None where everything is allowed, so that it asks nothing."""
    if type(policy) is OpenPolicy:  # whatever is made of it may allow less
        return None
    if policy is not None and _is_rule(type(policy)):
        return cast(Rule, policy)
    return TermRule(cast(Policy, policy or ClosedPolicy()))


@cache
def _is_rule(kind: type) -> bool:
    """Looked at once for each class: for every request it would be as much as reading."""
    return issubclass(kind, Rule)


class TermRule:
    """The rule that a policy of fixed terms makes."""

    def __init__(self, policy: Policy) -> None:
        self._policy: Final = policy

    async def terms(self, reader: Reader) -> Terms:  # noqa: ARG002
        return _FixedTerms(self._policy)

    async def sight_as_stored(self, reader: Reader, resource_type: str, body: bytes) -> Sight:  # noqa: ARG002
        return await self.sight(reader, json.decode_own(body))

    async def sight(self, reader: Reader, resource: Mapping[str, Any]) -> Sight:
        allowed = self._policy.readable(resource["resourceType"])
        return Sight.ALL if await covers(reader, allowed, resource) else Sight.NONE

    async def require_write(
        self,
        reader: Reader,
        old: Mapping[str, Any] | None,
        new: Mapping[str, Any] | None,
        fresh: Collection[str] = (),  # noqa: ARG002
    ) -> None:
        for side in (old, new):
            if side is not None:
                allowed = self._policy.writable(side["resourceType"])
                if not await covers(reader, allowed, side):
                    raise refusal()

    async def require_outcome(self, reader: Reader, about: Collection[str]) -> None:
        """Each write was decided by itself."""

    def creates_by_update(self, resource_type: str) -> bool:  # noqa: ARG002
        return True


class _FixedTerms:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def readable(self, resource_type: str, used: Used, targets: Targets, /) -> Node:  # noqa: ARG002
        return self._policy.readable(resource_type)

    def narrowed(self, search: Search) -> Search:
        return guarded(search, self.readable)

    def as_before(self, search: Search) -> Search | None:  # noqa: ARG002
        return None

    def masks(self, resource_type: str) -> bool:  # noqa: ARG002
        return False

    def masks_all(self, resource_type: str) -> bool:  # noqa: ARG002
        return False

    def sight(self, resource: Mapping[str, Any]) -> Sight:  # noqa: ARG002
        return Sight.ALL


async def covers(reader: Reader, allowed: Node, resource: Mapping[str, Any]) -> bool:
    """Whether a term holds for one resource, by the search parameters that there are now.

    A term that hangs on other resources is never taken for granted: then it does not hold.
    """
    if isinstance(allowed, Everything | Nothing):
        return isinstance(allowed, Everything)
    try:
        return match(allowed, resource, known=await reader.parameters())
    except LookupError:
        return False


def refusal(text: str = "This is not allowed for the caller") -> FhirError:
    return FhirError(Kind.FORBIDDEN, text)
