"""Who is in the region, who acts in it, and who may see whom: what answers are held against.

All of it follows from the seed, so every process that makes load works it out for itself. Whether
somebody may see a record is told here in a few lines from what the region says of each young
person, and not by the server's own code: a server that shows too much or too little is found out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from fhir_server.caseload import pathway
from fhir_server.region import Asked, Member, members
from fhir_server.region.area import Board, board_of, count_of

_SUPPORTED: Final = (
    *(pathway.INFORMATION_GATHERING, pathway.PLANNING, pathway.PLAN_ACTIVE),
    *(pathway.IN_HOSPITAL, pathway.DISCHARGE_PLANNING, pathway.STEP_DOWN),
)
"""States in which consent to keyworking stands and a team is there."""
_PLANNED: Final = frozenset({*_SUPPORTED} - {pathway.INFORMATION_GATHERING})
_HOME: Final = (pathway.PLAN_ACTIVE, pathway.STEP_DOWN)


@dataclass(frozen=True, slots=True)
class Person:
    """A young person as a load test knows them."""

    id: str
    nhs_number: str
    state: str
    spell_system: str
    """Of the spells of the trust that would take them in."""
    trust: str
    """Its ODS code."""
    readers: frozenset[str]
    """ODS codes of those in the care team that consent names."""
    keyworker: str
    """Practitioner/…; empty where there is none yet."""

    @property
    def has_plan(self) -> bool:
        return self.state in _PLANNED

    @property
    def at_home(self) -> bool:
        """With a plan, and somebody whom a ward may admit."""
        return self.state in _HOME

    @property
    def in_hospital(self) -> bool:
        return self.state in (pathway.IN_HOSPITAL, pathway.DISCHARGE_PLANNING)


@dataclass(frozen=True, slots=True)
class Identity:
    """A client of the authorisation server, and for whom it acts."""

    name: str
    kind: str
    ods: str
    scopes: tuple[str, ...]
    user: str = ""
    roles: tuple[str, ...] = ()
    area: str = ""
    """The ODS code of the board, for who looks at all of it."""

    def sees(self, person: Person) -> bool:
        """Whether the record is for it to see, as the decision table has it."""
        match self.kind:
            case "partner" | "subscriber":
                return self.ods in person.readers
            case "keyworker":
                return self.user == person.keyworker
            case "unit":
                return person.in_hospital and self.ods == person.trust
            case "exporter" | "anyone":
                return True
        return False


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody: `concerned` and `hidden` are worked out once for each identity."""

    people: Sequence[Person]
    _seen: dict[str, tuple[list[Person], list[Person]]] = field(default_factory=dict)

    def concerned(self, identity: Identity) -> list[Person]:
        """Whose records it may see; of a unit, whom it may admit."""
        return self._split(identity)[0]

    def hidden(self, identity: Identity) -> list[Person]:
        """Who has a plan that it must not see, whatever comes in or goes out meanwhile."""
        return self._split(identity)[1]

    def _split(self, identity: Identity) -> tuple[list[Person], list[Person]]:
        if identity.name not in self._seen:
            self._seen[identity.name] = (
                [one for one in self.people if _concerns(identity, one)],
                [one for one in self.people if one.has_plan and _never_sees(identity, one)],
            )
        return self._seen[identity.name]


def _concerns(identity: Identity, person: Person) -> bool:
    if identity.kind == "unit":
        return person.at_home and person.trust == identity.ods
    return identity.sees(person)


def _never_sees(identity: Identity, person: Person) -> bool:
    if identity.kind == "unit":
        return person.trust != identity.ods
    return not identity.sees(person)


@cache
def people_of(asked: Asked) -> tuple[Person, ...]:
    return tuple(map(_person, members(asked)))


def _person(member: Member) -> Person:
    board, around, person = member.board, member.around, member.person
    supported = person.slot.state in _SUPPORTED
    community = ("camhs", "camhs") if person.age < 18 else ("adult-team", "adult-team")
    seeing = (community, ("council", "council"), ("surgery", "surgery"))
    readers = {board.ods(slug, around[key]) for slug, key in seeing} if supported else set()
    return Person(
        person.id,
        member.nhs_number,
        person.slot.state,
        board.unit(around["trust"]).spell_system,
        board.ods("trust", around["trust"]),
        frozenset(readers),
        board.practitioner("keyworker", around["keyworker"]) if supported else "",
    )


READS: Final = "system/*.rs"
_COUNTS: Final[Mapping[str, int]] = {"partner": 4, "keyworker": 8, "unit": 4}
"""Identities of a kind, the boards in turn; one of each other kind."""


def identities(asked: Asked) -> list[Identity]:
    """Those that act, each a client of its own."""
    boards = [board_of(asked, number) for number in range(1, asked.boards + 1)]
    found: list[Identity] = []
    for kind, make in _MAKERS.items():
        for number in range(_COUNTS.get(kind, 1)):
            board = boards[number % len(boards)]
            found.append(make(board, number // len(boards) + 1))
    return found


def inpatient_units(asked: Asked) -> Iterator[str]:
    """The ODS codes for KEYWORKING_INPATIENT_UNITS."""
    for number in range(1, asked.boards + 1):
        board = board_of(asked, number)
        yield from (board.ods("trust", trust) for trust in range(1, count_of("trust") + 1))


def _partner(board: Board, number: int) -> Identity:
    """CAMHS and social care in turn."""
    slug = ("camhs", "council")[number % 2]
    at = (number - 1) // 2 % count_of(slug) + 1
    return Identity(f"{slug}-{board.number}-{at}", "partner", board.ods(slug, at), (READS,))


def _keyworker(board: Board, number: int) -> Identity:
    at = (number - 1) % board.keyworkers + 1
    user = board.practitioner("keyworker", at)
    own = f"keyworker-{board.number}-{number}"
    return Identity(own, "keyworker", board.ods("keyworking"), ("user/*.cruds",), user)


def _unit(board: Board, number: int) -> Identity:
    ods = board.ods("trust", (number - 1) % count_of("trust") + 1)
    scopes = (READS, "system/MessageHeader.c", "system/Encounter.cu")
    return Identity(f"unit-{board.number}-{number}", "unit", ods, scopes)


def _commissioner(board: Board, number: int) -> Identity:
    del number
    ods = board.ods("icb")
    return Identity(
        "commissioner", "commissioner", ods, (READS,), roles=("commissioner",), area=ods
    )


def _exporter(board: Board, number: int) -> Identity:
    del number
    return Identity("exporter", "exporter", board.ods("icb"), (READS,), roles=("load-test",))


def _subscriber(board: Board, number: int) -> Identity:
    del number
    scopes = (READS, "system/Subscription.cruds")
    return Identity("subscriber", "subscriber", board.ods("camhs"), scopes)


def _wild(board: Board, number: int) -> Identity:
    del number
    scopes = (READS, "system/MessageHeader.c", "system/Encounter.cu", "system/Task.cu")
    return Identity("wild", "wild", board.ods("college"), scopes)


_MAKERS: Final[Mapping[str, Any]] = {
    "partner": _partner,
    "keyworker": _keyworker,
    "unit": _unit,
    "commissioner": _commissioner,
    "exporter": _exporter,
    "subscriber": _subscriber,
    "wild": _wild,
}
