"""How the numbers of a report are told: as they are but for small ones, or rounded.

Who sees nobody could take two reports of numbers as they are, of an area and of its parts or of
this week and the last, and find by difference whom neither of them would tell of. A deployment may
have them told numbers of which no difference is small:
docs/decisions/0055-numbers-that-stand-differencing.md.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Protocol

from operations._suppression import is_share_small, is_small, kept_back, would_tell
from operations._tally import Sum

Parts = Mapping[str, int]


class Telling(Protocol):
    """None stands for a number that is kept back."""

    none_is_few: bool
    """Whether none is kept back like few: then each measure is in the report."""

    @property
    def staff(self) -> "Telling":
        """How keyworkers are counted."""
        ...

    def count(self, number: int) -> int | None: ...

    def parts(self, parts: Parts) -> dict[str, int | None]:
        """Those that are listed."""
        ...

    def share(self, part: int, whole: int, wider: int | None, /) -> tuple[int, int] | None:
        """`wider` is what another share of the same whole has, of which this one is a part."""
        ...

    def mean(self, found: Sum) -> float: ...


class AsTheyAre:
    """But for small numbers, and what would give these away within the report."""

    none_is_few = False

    def __init__(self, least: int) -> None:
        self._least = least

    @property
    def staff(self) -> "Telling":
        """Their numbers are no secret to whoever may see the records."""
        return AsTheyAre(0)

    def count(self, number: int) -> int | None:
        return None if is_small(number, self._least) else number

    def parts(self, parts: Parts) -> dict[str, int | None]:
        back = kept_back(parts, self._least)
        if would_tell([parts[name] for name in back], self._least):
            return {}
        return {name: None if name in back else number for name, number in parts.items()}

    def share(self, part: int, whole: int, wider: int | None) -> tuple[int, int] | None:
        by_difference = wider is not None and is_small(wider - part, self._least)
        hidden = by_difference or is_share_small(part, whole, self._least)
        return None if hidden else (part, whole)

    def mean(self, found: Sum) -> float:
        return round(found.total / found.count, 1)


class Rounded:
    """To the nearest multiple of the smallest number that is told; less is as none."""

    none_is_few = True

    def __init__(self, least: int) -> None:
        self._least = least

    @property
    def staff(self) -> "Telling":
        """One keyworker in an area tells that somebody there has one."""
        return self

    def count(self, number: int) -> int | None:
        return None if number < self._least else self._rounded(number)

    def parts(self, parts: Parts) -> dict[str, int | None]:
        """A part that is listed without a number would tell that it is not empty."""
        told = {name: self.count(number) for name, number in parts.items()}
        return {name: number for name, number in told.items() if number is not None}

    def share(self, part: int, whole: int, _wider: int | None) -> tuple[int, int] | None:
        if whole < self._least:
            return None
        return self._rounded(part), self._rounded(whole)

    def mean(self, found: Sum) -> float:
        """In steps so wide that nobody moves it by more than one."""
        step = next(size for size in _steps() if size >= found.longest / found.count)
        return float(round(found.total / found.count / step) * step)

    def _rounded(self, number: int) -> int:
        return (number + self._least // 2) // self._least * self._least


def _steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    for power in count():
        yield from (size * 10**power for size in (1, 2, 5))
