"""Which rating was when, derived from all that is known of somebody's stays and of their death.

It looks at what happened, and not at what messages happened to leave: so it comes to the same in
whichever order they came. Ratings that people gave stay where they gave them. Decision 0061.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from operations import _plan
from operations._event import Event
from operations._known_stays import NEVER, KnownStay
from operations._person import begun, extension, since
from operations._rating import blue_given
from operations._rating_flag import (
    blue_of,
    end_reason,
    ended,
    flag_id,
    going_on,
    is_sound,
    mistaken,
    red_of,
    redated,
)
from operations._stay import had_effects

_SECOND: Final = 1_000_000
_TURNED: Final = (None, "superseded", "deceased")
"""Why a rating ends, or not, by what follows it; any other end is somebody's decision."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A rating from its beginning on."""

    flag: Resource
    at: int
    over: int | None = None
    """Of the blue of a stay, when the young person came home from it; never is late."""
    claims: int = 0
    """Of what was not known yet, until when it goes before what people gave meanwhile."""

    def holds(self, other: "Mark") -> bool:
        """Whether the other, which began later, is the blue of a stay within the stay of this."""
        return self.over is not None and other.over is not None and other.over < self.over


def course(marks: Iterable[Mark], death: int | None) -> Iterator[Resource]:
    """Each rating with its end: the next, or the death; the last of somebody who lives goes on.

    Of a stay within another the blue ends with it, and the other's goes on.
    """
    placed = sorted(marks, key=lambda mark: (mark.at, mark.over is not None, mark.flag["id"]))
    for index, mark in enumerate(placed):
        later = placed[index + 1 :]
        last_held = max((count for count, one in enumerate(later, 1) if mark.holds(one)), default=0)
        ends = [one.at for one in later[last_held:][:1]]
        if mark.over is not None and any(one.holds(mark) for one in placed[:index]):
            ends.append(mark.over)
        if ends:
            yield _until(mark.flag, min(ends), "superseded")
        else:
            yield going_on(mark.flag) if death is None else _until(mark.flag, death, "deceased")


def _until(flag: Resource, at: int, reason: str) -> Resource:
    """The rating with its end; as it stands, with what was said of why, where that is its end."""
    over = ended(flag, at, reason)
    is_so = over["period"] == flag.get("period") and end_reason(flag) == reason
    return flag if is_so else over


async def fit_ratings(event: Event, stays: Sequence[KnownStay], death: int | None) -> None:
    """Have the ratings be what they would be, had all been told in time.

    Args:
        stays: those that began by the death.
    """
    if not event.consented:
        return
    known = {flag["id"]: flag for flag in await event.person.ratings()}
    brought = [mark for stay in stays for mark in await _brought(stay, stays)]
    kept = {mark.flag["id"] for mark in brought}
    ours = {
        flag_id(colour, stay)
        for stay in await event.person.stays()
        for colour in (canonicals.BLUE, canonicals.RED)
    }
    for name in sorted(known.keys() & ours - kept):
        if end_reason(known[name]) in _TURNED:
            await event.records.amend(mistaken(known[name], event.person.now))
    given = [flag for name, flag in known.items() if name not in ours | kept]
    marks = [*brought, *await _given(event, given, brought)]
    for flag in course([mark for mark in marks if death is None or mark.at <= death], death):
        if flag["id"] in known:
            await event.records.amend(flag)
        else:
            await event.records.save(flag, is_sound=is_sound(flag))


async def _brought(stay: KnownStay, stays: Sequence[KnownStay]) -> list[Mark]:
    """What the stay brings: blue from its beginning, red from its end where that led home."""
    found, event = [], stay.event
    blue = await blue_given(event)
    if blue is not None or await _plan.plan_of(event.person, stay.resource) is not None:
        over = stay.left if stay.leads_home else NEVER
        found.append(_mark(blue, Mark(blue_of(event), stay.began, over, claims=stay.left)))
    if stay.leads_home and not any(one.outlasts(stay) for one in stays if one is not stay):
        end = replace(event, at=stay.left)
        red = await event.records.get("Flag", flag_id(canonicals.RED, stay.resource))
        if red is not None or await had_effects(end):
            new = red_of(end)
            found.append(_mark(red, Mark(new, stay.left, claims=_held_until(new))))
    return [one for one in found if end_reason(one.flag) in (*_TURNED, "added-in-error")]


def _mark(known: Resource | None, new: Mark) -> Mark:
    """Of what is stored already: what somebody has added to it since stays."""
    return new if known is None else replace(new, flag=redated(known, new.flag), claims=0)


def _held_until(red: Resource) -> int:
    floor = extension(red, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
    return since(floor.get("valueDate"))


async def _given(event: Event, flags: Sequence[Resource], brought: Sequence[Mark]) -> list[Mark]:
    """Those of the ratings that people gave which end by what follows them.

    Where nobody knew of a stay yet, what was given meanwhile gives way to what the stay brings.
    """
    turns = {begun(flag) for flag in await event.person.ratings()}
    for stay in await event.person.stays():
        turns |= {begun(stay), since(stay.get("period", {}).get("end"))}
    found = [Mark(flag, _place(flag)) for flag in flags if _is_turned(flag, turns)]
    for mark in found:
        if _gives_way(mark, brought):
            await event.records.amend(ended(mark.flag, begun(mark.flag), "superseded"))
    return [mark for mark in found if not _gives_way(mark, brought)]


def _is_turned(flag: Resource, turns: set[int]) -> bool:
    """Whether it ends by what follows, if it does; one that gave way at once was never followed."""
    if end_reason(flag) != "superseded":
        return end_reason(flag) in _TURNED
    over = since(flag.get("period", {}).get("end"))
    return over in turns and over > begun(flag)


def _place(flag: Resource) -> int:
    """When it began: one that is told by its day alone, at the end of it, where it was not over."""
    period = flag.get("period", {})
    if "start" not in period:
        return begun(flag)
    latest = interval(period["start"]).high - _SECOND
    return min(latest, since(period["end"])) if end_reason(flag) == "superseded" else latest


def _gives_way(mark: Mark, brought: Sequence[Mark]) -> bool:
    return any(one.at <= mark.at < one.claims for one in brought)
