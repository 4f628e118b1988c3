"""What one resource contributes to the facts by which access is decided.

Times are in microseconds since the epoch, spans `[low, high)`. Somebody is named as `Type/id`,
an organisation also as `ods:CODE`, a patient also as `nhs:NUMBER`. What names somebody in several
ways is a tuple with the surest name first.
"""

from typing import Final

import msgspec

from fhir_server.fhir.dates import EARLIEST, LATEST

RELEASE: Final = 3
"""Counts up when resources come to contribute something else: facts are then made anew."""

UNKNOWN: Final = "?"
"""Somebody or something that cannot be told: a permit never means them, a denial always does."""

REGISTER: Final = "register"
"""Stands for all who sign the register, among those whom a consent may concern."""

Names = tuple[str, ...]


def keeping(name: str) -> str:
    """Stands for who keeps the records that an organisation manages, as `REGISTER` for others."""
    return f"keeper:{name}"


class Span(msgspec.Struct, frozen=True, array_like=True):
    """`[low, high)`"""

    low: int = EARLIEST
    high: int = LATEST

    def covers(self, now: int) -> bool:
        return self.low <= now < self.high

    def ends(self) -> tuple[int, int]:
        return self.low, self.high


ALWAYS: Final = Span()


class Part(msgspec.Struct, frozen=True, tag_field="of", omit_defaults=True):
    """Of one resource."""


class PatientPart(Part, frozen=True, tag="Patient"):
    """`born`: the first and the last day on which it may have been, as ISO dates."""

    born: tuple[str, str] | None = None
    died: int | None = None
    numbers: Names = ()
    """NHS numbers, as `nhs:NUMBER`."""
    keeper: Names = ()
    """Who manages the record."""


class RelatedPart(Part, frozen=True, tag="RelatedPerson"):
    """Somebody related who is not marked inactive."""

    period: Span = ALWAYS
    responsible: bool = False
    """Holds parental responsibility, with evidence for it."""


class EpisodePart(Part, frozen=True, tag="EpisodeOfCare"):
    """A keyworking episode that has not ended."""

    period: Span = ALWAYS
    manager: Names = ()
    teams: Names = ()


class Member(msgspec.Struct, frozen=True, array_like=True):
    """Somebody in a care team."""

    names: Names
    keyworker: bool = False
    behalf: Names = ()
    period: Span = ALWAYS


class TeamPart(Part, frozen=True, tag="CareTeam"):
    """An active care team."""

    period: Span = ALWAYS
    members: tuple[Member, ...] = ()


class StayPart(Part, frozen=True, tag="Encounter"):
    """An inpatient stay that has begun and not ended."""

    period: Span = ALWAYS
    provider: Names = ()


class Provision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of a consent: https://hl7.org/fhir/R4/consent-definitions.html#Consent.provision

    Empty tuples limit nothing.
    """

    permits: bool
    period: Span = ALWAYS
    actors: tuple[Names, ...] = ()
    purposes: Names = ()
    """Codes of v3-ActReason."""
    types: Names = ()
    labels: tuple[tuple[str, str], ...] = ()
    narrow: bool = False
    """Is about some data, actions or dates only, which a term of a query cannot say."""
    within: tuple["Provision", ...] = ()


class ConsentPart(Part, frozen=True, tag="Consent"):
    """A consent that was given, refused or withdrawn."""

    active: bool
    categories: Names = ()
    """Among register, keyworking and cetr."""
    at: int | None = None
    """When it was decided."""
    basis: str = ""
    """Its legal basis, when that is one code of those that are known."""
    givers: tuple[Names, ...] = ()
    outcome: str = ""
    """What was found about competence or capacity, on the day that ends before `assessed`."""
    assessed: int | None = None
    documented: bool = False
    """Says where the decision is written down."""
    doubtful: bool = False
    """Is not about privacy, or was not verified: it permits nothing."""
    unreadable: bool = False
    """Its rules cannot be read: it permits nothing and denies everything."""
    rule: Provision | None = None


class RolePart(Part, frozen=True, tag="PractitionerRole"):
    """A post that is not marked inactive."""

    practitioner: Names = ()
    organisation: Names = ()
    period: Span = ALWAYS


class OrganisationPart(Part, frozen=True, tag="Organization"):
    """An organisation that is not marked inactive."""


AnyPart = (
    PatientPart
    | RelatedPart
    | EpisodePart
    | TeamPart
    | StayPart
    | ConsentPart
    | RolePart
    | OrganisationPart
)


class Contribution(msgspec.Struct, frozen=True):
    """A part, whose facts it belongs to (`subjects`), and to whom it may open them."""

    ref: str
    subjects: Names
    part: AnyPart
    grantees: Names = ()


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Contribution)


def encoded(contribution: Contribution) -> bytes:
    return _encoder.encode(contribution)


def decoded(value: bytes) -> Contribution:
    """
    Raises:
        msgspec.DecodeError: for what another release has written.
    """
    return _decoder.decode(value)
