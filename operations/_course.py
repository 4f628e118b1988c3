"""Which rating was when: a pure function of when each began, of stays and of a death.

It looks at what happened, and not at what messages happened to leave: so it comes to the same in
whichever order they came. Decision 0061.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from operations._person import begun, extension, since
from operations._rating_flag import (
    end_reason,
    end_text,
    ended,
    going_on,
    redated,
)

_SECOND: Final = 1_000_000
_TURNED: Final = (None, "superseded", "deceased")
"""Why a rating ends, or not, by what follows it; any other end is somebody's decision."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A rating from its beginning on."""

    flag: Resource
    at: int
    over: int | None = None
    """Of the blue of a stay, when that was over; never is late."""
    claims: int = 0
    """Of what was not known yet, until when it goes before what people gave meanwhile."""
    is_decided: bool = False
    """Whether it has ended, or not, for a reason of its own, and stays as it is."""

    @property
    def place(self) -> tuple[int, int, str]:
        """Of those that begin at once, what somebody gave comes first, and a red after a blue."""
        is_red = extension(self.flag, canonicals.MINIMUM_UNTIL_EXTENSION) is not None
        return self.at, 1 if self.over is not None else 2 * is_red, str(self.flag["id"])

    def holds(self, other: "Mark") -> bool:
        """Whether the other, which began later, is the blue of a stay within the stay of this."""
        return self.over is not None and other.over is not None and other.over < self.over


def course(marks: Iterable[Mark], death: int | None) -> Iterator[Resource]:
    """Each rating with its end: the next, or the death; the last of somebody who lives goes on.

    Of a stay within another the blue ends with it, and the other's goes on.
    """
    placed = sorted(marks, key=lambda mark: mark.place)
    for index, mark in enumerate(placed):
        later = placed[index + 1 :]
        held = max((count for count, one in enumerate(later, 1) if mark.holds(one)), default=0)
        ends = [begun(one.flag) for one in later[held:][:1]]
        if mark.over is not None and any(one.holds(mark) for one in placed[:index]):
            ends.append(mark.over)
        if mark.is_decided:
            continue
        if ends:
            yield _until(mark.flag, min(ends), "superseded")
        else:
            yield going_on(mark.flag) if death is None else _until(mark.flag, death, "deceased")


def _until(flag: Resource, at: int, reason: str) -> Resource:
    """The rating with its end; as it stands, with what was said of why, where that is its end."""
    over, told = ended(flag, at, reason), flag.get("period", {}).get("end")
    is_so = end_reason(flag) == reason and since(told) == since(over["period"]["end"])
    return flag if is_so else over


def is_turned(flag: Resource) -> bool:
    """Whether it ends by what follows it, or goes on."""
    return end_reason(flag) in _TURNED and not end_text(flag)


def brought(
    new: Mark, known: Resource | None, *, again: bool, turns: Collection[int] | None = None
) -> Mark:
    """The rating that a stay brings, where it is stored already: what was added to it since stays.

    One that the service took back is right again; what somebody has decided stands.

    Args:
        again: there is consent again for the rating of this stay.
        turns: as of `given`, where people may have ended it as superseded.
    """
    if known is None:
        return new
    is_theirs = turns is not None and _is_superseded(known) and not _is_followed(known, turns)
    if is_turned(known) and not is_theirs:
        return replace(new, flag=redated(known, new.flag), claims=0)
    right_again = ("added-in-error", "consent-withdrawn") if again else ("added-in-error",)
    if end_reason(known) in right_again and not end_text(known):
        return replace(new, flag=redated(known, new.flag))
    return Mark(known, begun(known), is_decided=True)


def given(flag: Resource, turns: Collection[int]) -> Mark | None:
    """The rating that somebody gave; None for one that never counted.

    Args:
        turns: seconds in which something may have followed; another end is somebody's decision.
    """
    if _is_superseded(flag) and _end(flag) <= begun(flag):
        return None  # it gave way at once
    if end_reason(flag) == "added-in-error":
        return None
    goes_on = _is_followed(flag, turns) if _is_superseded(flag) else is_turned(flag)
    return Mark(flag, _place(flag), is_decided=not goes_on)


def _is_superseded(flag: Resource) -> bool:
    return end_reason(flag) == "superseded"


def _is_followed(flag: Resource, turns: Collection[int]) -> bool:
    return in_seconds(_end(flag)) in turns


def in_seconds(at: int) -> int:
    """What is told by somebody may be more exact than the end of what it followed."""
    return at // _SECOND


def _end(flag: Resource) -> int:
    return since(flag.get("period", {}).get("end"))


def _place(flag: Resource) -> int:
    """When it began: one that is told by its day alone, at the end of it, where it was not over."""
    period = flag.get("period", {})
    if "start" not in period:
        return begun(flag)
    latest = interval(period["start"]).high - _SECOND
    return min(latest, since(period["end"])) if end_reason(flag) == "superseded" else latest
