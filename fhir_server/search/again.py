"""Searches that were read before: a list on a screen is asked for in the same words each time.

What a search means hangs on its words, the server's address and limits and the parameters that
there are; on the moment only where it has the prefix `ap`, so those are read each time.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.search.ast import KeptQuery, Query
from fhir_server.search.limits import Limits
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import SearchRequest, parse

_MOST: Final = 1000
"""Searches that are remembered."""
_LONG: Final = 1000
"""Characters of the values of one that is not."""
_ABOUT: Final = "ap"
"""https://hl7.org/fhir/R4/search.html#prefix"""
_Key = tuple[str, tuple[tuple[str, str], ...], str, bool]
_Kept = tuple[Limits, SearchRequest]


class Read:
    """Those of one process."""

    def __init__(self) -> None:
        self._known: dict[_Key, _Kept] = {}

    def parse(
        self,
        resource_type: str,
        parameters: Sequence[tuple[str, str]],
        *,
        base: str,
        now: int,
        limits: Limits,
        lenient: bool,
        known: ParameterSet,
    ) -> SearchRequest:
        """As `parse.parse`; raises what it does."""
        key = (resource_type, tuple(parameters), base, lenient)
        kept = self._known.get(key)
        if kept is not None and kept[0] is limits and kept[1].known is known:
            return self._again(key, kept)
        read = parse(
            resource_type,
            parameters,
            base=base,
            now=now,
            limits=limits,
            lenient=lenient,
            known=known,
        )
        if is_kept(parameters):
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = (limits, read)
        return read

    def _again(self, key: _Key, kept: _Kept) -> SearchRequest:
        """From the second time on, a store may keep what it makes of it."""
        limits, read = kept
        if type(read.query) is Query and not read.further:
            query = KeptQuery(read.query.resource_type, read.query.where, read.query.sort)
            read = replace(read, query=query)
            self._known[key] = (limits, read)
        return read


def is_kept(parameters: Sequence[tuple[str, str]]) -> bool:
    """Whether what they mean may be remembered: it is the same at each moment, and short."""
    values = [value for _, value in parameters]
    return sum(map(len, values)) <= _LONG and not any(_ABOUT in value for value in values)
