"""A board's area: its sixty organisations, their wards and staff.

ODS codes begin with ZZ and a digit, and are given to nobody; places are invented.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from fhir.resources.R4B.domainresource import DomainResource

from fhir_server.caseload import service
from fhir_server.caseload.service import Body, Post, Unit
from fhir_server.region.asked import CASELOAD, Asked

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BEGINNINGS: Final = ("Ash", "Birk", "Cald", "Elder", "Oak", "Thorn", "Wenn")
_ENDINGS: Final = ("combe", "dale", "field", "mere", "stead", "wick")


@dataclass(frozen=True, slots=True)
class _Kind:
    """So many organisations of a kind, and whom each employs."""

    slug: str
    count: int
    name: str
    """With the place and the number to be filled in."""
    type: str
    """A code of the HL7 organization-type."""
    role: str = ""
    """A code of our care-team-role, for those who work there."""
    staff: int = 0
    specialty: tuple[str, str] | None = None


KINDS: Final = (
    _Kind("icb", 1, "{place} Integrated Care Board", "govt"),
    _Kind("keyworking", 1, "{place} Keyworking, a community charity", "prov"),
    _Kind(
        *("trust", 4, "{place} Mental Health NHS Trust {n}", "prov", "inpatient-rc", 1),
        service.ADOLESCENT_PSYCHIATRY,
    ),
    _Kind("camhs", 6, "{place} CAMHS {n}", "dept", "camhs", 2, service.CHILD_PSYCHIATRY),
    _Kind(
        *("council", 3, "{place} Council {n}", "govt", "social-worker", 3), service.SOCIAL_SERVICES
    ),
    _Kind(
        *("adult-team", 2, "{place} Learning Disability and Autism Team {n}", "prov"),
        *("lead-professional", 1, service.DISABILITY_TEAM),
    ),
    _Kind("advocacy", 2, "{place} Speak With Me Advocacy {n}", "other", "advocate", 1),
    _Kind("surgery", 14, "{place} Surgery {n}", "prov", "gp", 1),
    _Kind("primary", 9, "{place} Primary School {n}", "edu", "education", 1),
    _Kind("secondary", 12, "{place} Academy {n}", "edu", "education", 1),
    _Kind("college", 6, "{place} College {n}", "edu", "education", 1),
)
ORGANISATIONS: Final = sum(kind.count for kind in KINDS)
_GIVEN: Final = ("Alex", "Bea", "Cal", "Dee", "Eve", "Fin", "Gus", "Hal", "Isa", "Jo", "Kit", "Lee")
_FAMILY: Final = ("Auk", "Coot", "Crane", "Diver", "Grebe", "Ibis", "Kite", "Knot", "Ruff", "Tern")


@dataclass(frozen=True, slots=True)
class Board:
    """One integrated care board and the services of its area."""

    number: int
    """From 1 to 42."""
    keyworkers: int

    @property
    def place(self) -> str:
        beginning, ending = divmod(self.number - 1, len(_ENDINGS))
        return _BEGINNINGS[beginning] + _ENDINGS[ending]

    def organisation(self, slug: str, number: int = 1) -> str:
        return f"Organization/kw-b{self.number:02d}-{slug}-{number}"

    def role(self, slug: str, number: int = 1) -> str:
        return f"PractitionerRole/kw-role-{self._post(slug, number)}"

    def practitioner(self, slug: str, number: int = 1) -> str:
        """Whose role that is."""
        return f"Practitioner/kw-practitioner-{self._post(slug, number)}"

    def _post(self, slug: str, number: int) -> str:
        return f"b{self.number:02d}-{slug}-{number}"

    def ods(self, slug: str, number: int = 1) -> str:
        """The ODS code of an organisation."""
        before = 0
        for kind in KINDS:
            if kind.slug == slug:
                return _ods(self.number, before + number - 1)
            before += kind.count
        raise LookupError(f"A board has no {slug}")

    def unit(self, number: int) -> Unit:
        """The inpatient unit of that trust."""
        return Unit(
            self.organisation("trust", number),
            f"Location/kw-b{self.number:02d}-ward-{number}",
            f"{self.place}, adolescent ward {number}",
            f"{self.ods('trust', number)}W",
            self.role("trust", number),
            f"https://trust-{number}.b{self.number:02d}.example/fhir/Id/spell",
        )

    def resources(self) -> Iterator[DomainResource]:
        """Everything that the young people's records refer to."""
        yield from map(service.organization, self._bodies())
        yield from (service.ward(self.unit(number)) for number in range(1, count_of("trust") + 1))
        for post in self._posts():
            yield service.practitioner(post)
            yield service.practitioner_role(post)

    def _bodies(self) -> Iterator[Body]:
        for kind in KINDS:
            for number in range(1, kind.count + 1):
                part_of = number % count_of("trust") + 1 if kind.slug == "camhs" else 0
                yield Body(
                    self.organisation(kind.slug, number),
                    self.ods(kind.slug, number),
                    kind.name.format(place=self.place, n=number),
                    kind.type,
                    self.organisation("trust", part_of) if part_of else None,
                )

    def _posts(self) -> Iterator[Post]:
        host = self.organisation("keyworking")
        for number in range(1, self.keyworkers + 1):
            yield self._person("keyworker", number, "keyworker", host)
        yield self._person("strategic-keyworker", 1, "strategic-keyworker", host)
        yield self._person("family-support", 1, "family-support-worker", host)
        for kind in KINDS:
            for number in range(1, kind.count * kind.staff + 1):
                at = self.organisation(kind.slug, (number - 1) // kind.staff + 1)
                yield self._person(kind.slug, number, kind.role, at, kind.specialty)

    def _person(
        self, slug: str, number: int, role: str, at: str, specialty: tuple[str, str] | None = None
    ) -> Post:
        given = _GIVEN[number % len(_GIVEN)]
        family = _FAMILY[number // len(_GIVEN) % len(_FAMILY)]
        return Post(self._post(slug, number), given, family, role, at, specialty)


def _ods(board: int, place: int) -> str:
    number = (board - 1) * ORGANISATIONS + place
    first, rest = divmod(number, len(_DIGITS) ** 2)
    second, third = divmod(rest, len(_DIGITS))
    return f"ZZ{_DIGITS[first]}{_DIGITS[second]}{_DIGITS[third]}"


@cache
def count_of(slug: str) -> int:
    """How many organisations of a kind each board has."""
    return next(kind.count for kind in KINDS if kind.slug == slug)


@cache
def staff_of(slug: str) -> int:
    """How many people work in each of a kind."""
    return next(kind.staff for kind in KINDS if kind.slug == slug)


def board_of(asked: Asked, number: int) -> Board:
    return Board(number, -(-asked.register // CASELOAD))
