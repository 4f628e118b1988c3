"""What the resources of a compartment refer to, in order and within a bounded memory."""

import re
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fhir_operations._asked import Asked
from fhir_server.access.session import Data, StoredVersion
from fhir_server.fhir.references import parse_local
from fhir_server.search.ast import IdIn, Node, Query, conjunction

_MOST: Final = 100_000
"""Resources whose references are followed for one page."""
_KEPT: Final = 5000
"""References that are looked up after one walk."""
_MEMBER: Final = re.compile(rb'"(reference|url)":"([A-Za-z][^"\\]*)"')


class TooMany(Exception):
    """There are more resources than anyone should wait for."""


@dataclass(frozen=True, slots=True)
class Referred:
    """References in order, each with whether something refers to it that is new itself."""

    targets: Sequence[tuple[str, bool]]
    more: bool
    """There are others behind them."""


async def referred(
    members: AsyncIterable[StoredVersion], base: str, wanted: Asked, after: str
) -> Referred:
    """The first references behind `after`, of all the members.

    Raises:
        TooMany.
    """
    nearest = _Nearest(after)
    walked_by = 0
    async for version in members:
        walked_by += 1
        if walked_by > _MOST:
            raise TooMany
        is_new = wanted.since is None or version.last_updated >= wanted.since
        for target in targets(version.body, base):
            if wanted.wants(target.partition("/")[0]):
                nearest.add(target, is_new=is_new)
    return nearest.found()


class _Nearest:
    """The first few references behind one, however many are added."""

    def __init__(self, after: str) -> None:
        self._after = after
        self._new: dict[str, bool] = {}
        self._bound: str | None = None
        """Behind it, nothing is kept any more."""

    def add(self, target: str, *, is_new: bool) -> None:
        if target <= self._after or (self._bound is not None and target > self._bound):
            return
        self._new[target] = is_new or self._new.get(target, False)
        if len(self._new) > 2 * _KEPT:
            self._cut()

    def found(self) -> Referred:
        self._cut()
        return Referred(sorted(self._new.items()), self._bound is not None)

    def _cut(self) -> None:
        if len(self._new) > _KEPT:
            self._new = dict(sorted(self._new.items())[:_KEPT])
            self._bound = next(reversed(self._new))


def targets(body: bytes, base: str) -> set[str]:
    """`Type/id` of the references to this server, and of attachments that it keeps as Binary.

    They are looked for in the text as it is stored, JSON without spaces: within a string, a
    quotation mark has a backslash before it, so what looks like a member is one.
    """
    found = set(_MEMBER.findall(body))
    return {target for name, text in found if (target := _target(name, text, base)) is not None}


@lru_cache(maxsize=16_384)
def _target(name: bytes, text: bytes, base: str) -> str | None:
    local = parse_local(text.decode(), base)
    if local is None or (name == b"url" and local.type != "Binary"):
        return None
    return str(local)


async def looked_up(
    data: Data, names: Sequence[str], condition: Callable[[str], Node]
) -> dict[str, StoredVersion]:
    """Those of the names that are there and satisfy their type's condition."""
    ids: dict[str, list[str]] = {}
    for name in names:
        resource_type, _, resource_id = name.partition("/")
        ids.setdefault(resource_type, []).append(resource_id)
    found: dict[str, StoredVersion] = {}
    for resource_type, some in ids.items():
        where = conjunction(IdIn(tuple(some)), condition(resource_type))
        page = await data.search(Query(resource_type, where), len(some))
        found |= {f"{version.type}/{version.id}": version for version in page.matches}
    return found
