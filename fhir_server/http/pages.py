"""Pages that are asked for again, in the same words by the same caller: given as they were.

Each is looked at first: whether anything that it hangs on has changed (`access.again`). So none is
older than the moment at which it is asked for, and whoever has written reads what they wrote.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.access.audit.record import Row
from fhir_server.access.session import Basis
from fhir_server.http.asking import Kept, Words
from fhir_server.interactions.exchange import Server
from fhir_server.search.again import is_kept

MOST: Final = 2 * 1024 * 1024
"""Bytes of the pages that are remembered, of all callers."""
_AROUND: Final = 1024
"""Bytes that one takes besides, or so, and each name that its row of the audit has."""
_NAME: Final = 100
_LARGE: Final = 256 * 1024
"""Bytes of one that is not: few of those would leave no room for others."""
_OF_LIFETIME: Final = 60
"""A page is given again for this part of the time for which links are good."""
_MICROSECONDS: Final = 1_000_000
_MOST_MET: Final = 2000
"""Searches that were asked for once, of which none is remembered yet."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, but for the headers that are another one's each time."""

    kept: Kept
    basis: Basis
    until: int
    """When the links on it would be too old to be given, in microseconds since the epoch."""
    body: bytes
    encoded: bool
    row: Row | None
    """What the audit says of it, but for the id of the request and the address."""

    @property
    def size(self) -> int:
        names = 0 if self.row is None else len(self.row.targets) + len(self.row.patients)
        return len(self.body) + _AROUND + names * _NAME


class Pages:
    """Those of one process. Whichever was not asked for longest makes room."""

    def __init__(self, most: int = MOST) -> None:
        self._most: Final = most
        self._size = 0
        self._pages: Final[OrderedDict[Words, Page]] = OrderedDict()
        self._met: Final[set[int]] = set()

    async def find(self, words: Words, kept: Kept, now: int) -> Page | None:
        """The page, if it would be the same if it was made now."""
        found = self._pages.get(words)
        if found is None:
            return None
        if found.kept is kept and now < found.until and await found.basis.holds():
            self._pages.move_to_end(words)
            return found
        self._drop(words)
        return None

    def takes(self, words: Words, parameters: Sequence[tuple[str, str]]) -> bool:
        """Whether the page may be remembered, once it is known what it hangs on.

        What is asked for once does not take another's room, nor what is followed by a link, which
        is for one moment.
        """
        if not is_kept(parameters) or any(name == "_page" for name, _ in parameters):
            return False
        search = hash(words)
        if search in self._met:
            return True
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        self._met.add(search)
        return False

    @staticmethod
    def until(server: Server) -> int:
        """When a page that is made now is too old: the links on it count from now."""
        return server.clock() + server.page_lifetime * _MICROSECONDS // _OF_LIFETIME

    def keep(self, words: Words, page: Page) -> None:
        if page.size > _LARGE:
            return
        if words in self._pages:
            self._drop(words)
        self._pages[words] = page
        self._size += page.size
        while self._size > self._most:
            self._drop(next(iter(self._pages)))

    def _drop(self, words: Words) -> None:
        self._size -= self._pages.pop(words).size
