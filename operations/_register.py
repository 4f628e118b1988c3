"""The Dynamic Support Register: who is rated how, and when that is looked at again.

Each page asks three questions of the store, however large the register is: for the ratings, for
whose they are, and for the reviews that are due. In an order that no rating has by itself, by name
or by the next review, each page looks through the whole register, which is bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from fhir_server.access.session import HistoryOf, Position, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import instant, interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.records import walked
from fhir_server.search.ast import And, IdIn, Node, Or, Query, TokenIs
from fhir_server.search.parse import parse
from operations._person import code_in, colour_of, extension, since, status_of
from operations._record import task_code

ORDER: Final = (canonicals.RED, canonicals.AMBER, canonicals.GREEN, canonicals.BLUE)
"""The most urgent first; who is in hospital already comes last."""
REVIEWS: Final = ("T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN")
BY_NAME: Final = "name"
BY_REVIEW: Final = "next-review"
_IN_MEMORY: Final = (BY_NAME, BY_REVIEW)
_AT_ONCE: Final = 200
_MOST_SORTED: Final = 2000
_NEVER_MEANT: Final = ("cancelled", "entered-in-error", "rejected")
_DONE: Final = ("completed", "failed")
_LOOKED_THROUGH: Final = 10
"""Pages of ratings behind one page of those that are overdue."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of the register; made of JSON values, as it stands in the links."""

    areas: tuple[str, ...]
    """References to organisations; none for everywhere."""
    ratings: tuple[str, ...]
    at: int
    """Microseconds since the epoch."""
    is_past: bool
    sort: str
    overdue: bool | None
    count: int
    goes_on: bool = False
    """Whether it is a later page of the register as it is: of what was so on the first."""

    def kept(self) -> Any:
        return {**asdict(self), "goes_on": not self.is_past}

    @classmethod
    def of(cls, kept: Any) -> "Asked":
        areas, ratings = tuple(kept["areas"]), tuple(kept["ratings"])
        return cls(**{**kept, "areas": areas, "ratings": ratings})

    @property
    def steps(self) -> list[tuple[str, ...]]:
        """The colours, in the order in which they are asked for."""
        if self.sort in ("since", *_IN_MEMORY):
            return [self.ratings]
        colours: list[tuple[str, ...]] = [(colour,) for colour in ORDER if colour in self.ratings]
        return colours[::-1] if self.sort.startswith("-") else colours


@dataclass(frozen=True, slots=True)
class Entry:
    """One young person on the register. What the caller may not see is None."""

    rating: StoredVersion
    flag: Resource
    patient: StoredVersion | None = None
    review: StoredVersion | None = None
    due: str = ""
    """When the rating is looked at again: a date."""
    overdue: bool = False

    @property
    def colour(self) -> str:
        return str(colour_of(self.flag))

    @property
    def since(self) -> str:
        return str(self.flag.get("period", {}).get("start", ""))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins."""

    step: int = 0
    after: Position | None = None


async def page(call: Call, asked: Asked, place: Place) -> tuple[list[Entry], Place | None]:
    """The entries from there on, and where the next page begins; None after the last.

    Raises:
        FhirError: TOO_COSTLY for more than can be sorted.
    """
    if asked.sort in _IN_MEMORY:
        found, further = await _sorted(call, asked, place)
    else:
        found, further = await _walked(call, asked, place)
    call.session.shows(version for entry in found for version in versions(entry))
    return found, further


async def _sorted(call: Call, asked: Asked, place: Place) -> tuple[list[Entry], Place | None]:
    every: list[Entry] = []
    at: Place | None = Place()
    while at is not None:
        ratings, at = await _ratings(call, asked, at, _AT_ONCE)
        every += await _completed(call, asked, ratings)
        if len(every) > _MOST_SORTED:
            text = f"More than {_MOST_SORTED} ratings cannot be sorted by {asked.sort}"
            raise FhirError.at(Kind.TOO_COSTLY, "http._sort", f"{text}; narrow the area")
    every = [one for one in every if asked.overdue in (None, one.overdue)]
    rows = sorted(((_place(one, asked.sort), one) for one in every), key=lambda row: row[0])
    rest = [row for row in rows if place.after is None or row[0] > tuple(place.after)]
    shown = rest[: asked.count]
    further = Place(0, shown[-1][0]) if len(rest) > asked.count else None
    return [entry for _, entry in shown], further


def _place(entry: Entry, sort: str) -> Position:
    """Where it stands in the order: who has no review to come, or no name to be seen, is last."""
    if sort == BY_REVIEW:
        keys: tuple[Any, ...] = (interval(entry.due).high,) if entry.due else ()
    else:
        keys = _name(entry.patient)
    return (0 if keys else 1, *keys, entry.rating.id)


def _name(patient: StoredVersion | None) -> tuple[str, ...]:
    """Family name and given names as they are sorted."""
    resource = {} if patient is None else json.decode_own(patient.body)
    name: Resource = next(iter(resource.get("name", ())), {})
    found = (str(name.get("family", "")), " ".join(name.get("given", ())))
    return tuple(part.casefold() for part in found) if any(found) else ()


async def _walked(call: Call, asked: Asked, place: Place) -> tuple[list[Entry], Place | None]:
    found: list[Entry] = []
    at: Place | None = place
    looked_through = 0
    while at is not None and len(found) < asked.count and looked_through < _LOOKED_THROUGH:
        ratings, at = await _ratings(call, asked, at, asked.count - len(found))
        entries = await _completed(call, asked, ratings)
        found += [one for one in entries if asked.overdue in (None, one.overdue)]
        looked_through += 1
    return found, at


def versions(entry: Entry) -> Iterator[StoredVersion]:
    yield entry.rating
    yield from (one for one in (entry.patient, entry.review) if one is not None)


async def _ratings(
    call: Call, asked: Asked, place: Place, count: int
) -> tuple[list[Entry], Place | None]:
    query = await _query(call, "Flag", _criteria(asked, asked.steps[place.step]))
    if asked.goes_on:
        query = replace(query, where=And((query.where, await _held_at(call, asked.at))))
    found = await call.session.search(query, count, place.after)
    versions = [await _then(call, asked, one) for one in found.matches]
    entries = [Entry(one, json.decode_own(one.body)) for one in versions if one is not None]
    if found.after is not None:
        further: Place | None = Place(place.step, found.after)
    else:
        further = Place(place.step + 1) if place.step + 1 < len(asked.steps) else None
    return [entry for entry in entries if _held(entry.flag, asked)], further


async def _held_at(call: Call, at: int) -> Node:
    """Ratings that may have been active at that moment: those that are, or ended since."""
    since_then = await _query(call, "Flag", [("_lastUpdated", f"gt{instant(at)}")])
    ended = And((TokenIs("status", None, "inactive"), since_then.where))
    return Or((TokenIs("status", None, "active"), ended))


async def _then(call: Call, asked: Asked, version: StoredVersion) -> StoredVersion | None:
    """The rating as it was on the first page, so that nobody is on two pages or on none."""
    if not asked.goes_on or version.last_updated <= asked.at:
        return version
    scope = HistoryOf(version.type, version.id, at=(asked.at, asked.at + 1))
    held = [one.stored for one in await call.session.history(scope, 1)]
    if not held or held[0].deleted:
        return None
    return held[0] if status_of(json.decode_own(held[0].body)) == "active" else None


def _criteria(asked: Asked, colours: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "category", f"{canonicals.FLAG_CATEGORY}|{canonicals.DSR_ADMISSION_RISK}"
    yield "code", ",".join(f"{canonicals.DSR_RATING}|{colour}" for colour in colours)
    if asked.is_past:
        yield "status", "active,inactive"
        yield "date", f"le{instant(asked.at)}"
        yield "date", f"ge{instant(asked.at)}"
    elif not asked.goes_on:
        yield "status", "active"
    if asked.areas:
        yield "patient:Patient.organization", ",".join(asked.areas)
    if asked.sort == "since":
        yield "_sort", "date"


def _held(flag: Resource, asked: Asked) -> bool:
    """Whether the rating held then: not by mistake, and no longer on the day that it ended.

    That day is the next one's, which begins on it.
    """
    if not asked.is_past:
        return True
    ended = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
    reason = code_in(ended.get("valueCodeableConcept"), canonicals.RATING_END_REASON)
    end = flag.get("period", {}).get("end")
    return reason != "added-in-error" and (end is None or interval(end).low > asked.at)


async def _completed(call: Call, asked: Asked, entries: Sequence[Entry]) -> list[Entry]:
    """With whose they are, and when they are looked at again."""
    named = [_patient_of(entry.flag) for entry in entries]
    ids = frozenset(named) - {""}
    if not ids:
        return list(entries)
    patients = {
        one.id: one
        async for one in walked(call.session, Query("Patient", IdIn(tuple(sorted(ids)))))
    }
    reviews = await _reviews(call, asked, ids)
    return [
        _complete(entry, patients.get(name), reviews.get(name, []), asked.at)
        for entry, name in zip(entries, named, strict=True)
    ]


def _patient_of(flag: Resource) -> str:
    """The id, '' where the rating is about nobody on this server."""
    local = parse_relative(flag.get("subject", {}).get("reference", ""))
    return local.id if local is not None and local.type == "Patient" else ""


_Review = tuple[StoredVersion, Resource]


async def _reviews(call: Call, asked: Asked, ids: frozenset[str]) -> dict[str, list[_Review]]:
    """Tasks to look at a rating again that were open at the time, by the patient."""
    criteria = [
        ("patient", ",".join(f"Patient/{one}" for one in sorted(ids))),
        ("code", ",".join(f"{canonicals.TIMER}|{code}" for code in REVIEWS)),
        ("status:not", ",".join((*_NEVER_MEANT, *(() if asked.is_past else _DONE)))),
    ]
    found: dict[str, list[_Review]] = {}
    async for version in walked(call.session, await _query(call, "Task", criteria)):
        task = json.decode_own(version.body)
        local = parse_relative(task.get("for", {}).get("reference", ""))
        if local is not None and _was_open(task, asked.at):
            found.setdefault(local.id, []).append((version, task))
    return found


def _was_open(task: Resource, at: int) -> bool:
    if since(task.get("authoredOn")) > at:
        return False
    if status_of(task) not in _DONE:
        return True
    ended = task.get("executionPeriod", {}).get("end") or task.get("lastModified")
    return ended is not None and interval(ended).low > at


def _complete(
    entry: Entry, patient: StoredVersion | None, reviews: Sequence[_Review], at: int
) -> Entry:
    """With the next review of this colour, else of whichever is open."""
    own = [one for one in reviews if task_code(one[1]) == f"T-REVIEW-{entry.colour.upper()}"]
    dated = [(due, version) for version, task in own if (due := _due(task))]
    if not dated:
        return Entry(entry.rating, entry.flag, patient)
    due, review = min(dated, key=lambda pair: interval(pair[0]).low)
    overdue = interval(due).high <= at
    return Entry(entry.rating, entry.flag, patient, review, due, overdue)


def _due(task: Resource) -> str:
    return str(task.get("restriction", {}).get("period", {}).get("end", ""))


async def _query(call: Call, resource_type: str, criteria: Any) -> Query:
    known = await call.session.parameters()
    asked = list(criteria)
    return parse(resource_type, asked, base=call.base, now=call.now, known=known).query
