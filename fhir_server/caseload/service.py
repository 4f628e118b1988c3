"""The service around the young people: organisations, wards and staff of an invented area.

ODS codes begin with ZZ and are given to nobody; staff have `Synthetic-` family names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.identifier import Identifier
from fhir.resources.R4B.location import Location
from fhir.resources.R4B.organization import Organization
from fhir.resources.R4B.practitioner import Practitioner
from fhir.resources.R4B.practitionerrole import PractitionerRole

from fhir_server.caseload.elements import TEST_DATA, coded, reference, synthetic_name
from fhir_server.fhir import canonicals

HOST: Final = "Organization/kw-org-keyworking"
ICB: Final = "Organization/kw-org-icb"
TRUST_NORTH: Final = "Organization/kw-org-trust-north"
TRUST_SOUTH: Final = "Organization/kw-org-trust-south"
COUNCIL: Final = "Organization/kw-org-council"
CAMHS: Final = "Organization/kw-org-camhs"
SURGERY: Final = "Organization/kw-org-surgery"
ADVOCACY: Final = "Organization/kw-org-advocacy"
ADULT_TEAM: Final = "Organization/kw-org-adult-team"
PRIMARY_SCHOOL: Final = "Organization/kw-org-school-beech-lane"
SECONDARY_SCHOOL: Final = "Organization/kw-org-school-millbrook"
COLLEGE: Final = "Organization/kw-org-college"


@dataclass(frozen=True, slots=True)
class Body:
    """An organisation."""

    reference: str
    ods: str
    name: str
    kind: str
    """A code of the HL7 organization-type."""
    part_of: str | None = None


_BODIES: Final = (
    Body(ICB, "ZZK02", "Hollin Vale Integrated Care Board", "govt"),
    Body(HOST, "ZZK01", "Hollin Vale Keyworking, a community charity", "prov"),
    Body(TRUST_NORTH, "ZZK03", "Northmoor Mental Health NHS Trust", "prov"),
    Body(TRUST_SOUTH, "ZZK04", "Southwater Mental Health NHS Trust", "prov"),
    Body(COUNCIL, "ZZK05", "Hollin Vale Council", "govt"),
    Body(CAMHS, "ZZK06", "Hollin Vale CAMHS", "dept", TRUST_NORTH),
    Body(PRIMARY_SCHOOL, "ZZK07", "Beech Lane School", "edu"),
    Body(SECONDARY_SCHOOL, "ZZK08", "Millbrook Academy", "edu"),
    Body(COLLEGE, "ZZK09", "Hollin Vale College", "edu"),
    Body(SURGERY, "ZZK10", "The Orchard Surgery", "prov"),
    Body(ADVOCACY, "ZZK11", "Speak With Me Advocacy", "other"),
    Body(ADULT_TEAM, "ZZK12", "Hollin Vale Learning Disability and Autism Team", "prov"),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """An inpatient unit: its trust, its ward, its responsible clinician."""

    trust: str
    ward: str
    name: str
    site: str
    clinician: str
    spell_system: str


UNITS: Final = (
    Unit(
        TRUST_NORTH,
        "Location/kw-ward-curlew",
        "Curlew House, adolescent ward",
        "ZZK03C",
        "PractitionerRole/kw-role-rc-north",
        "https://northmoor.example/fhir/Id/spell",
    ),
    Unit(
        TRUST_SOUTH,
        "Location/kw-ward-heron",
        "Heron Lodge, adolescent ward",
        "ZZK04H",
        "PractitionerRole/kw-role-rc-south",
        "https://southwater.example/fhir/Id/spell",
    ),
)


@dataclass(frozen=True, slots=True)
class Post:
    """A member of staff and the role that the resources refer to."""

    name: str
    given: str
    family: str
    role: str
    """A code of our care-team-role."""
    organization: str
    specialty: tuple[str, str] | None = None


CHILD_PSYCHIATRY: Final = ("310117003", "Child and adolescent psychiatry service")
ADOLESCENT_PSYCHIATRY: Final = ("828821000000105", "Adolescent psychiatry service")
SOCIAL_SERVICES: Final = ("310134006", "Social services")
DISABILITY_TEAM: Final = ("408451000", "Community learning disabilities team")
_KEYWORKER: Final = "keyworker"
_POSTS: Final = (
    Post("keyworker-1", "Amina", "Lark", _KEYWORKER, HOST),
    Post("keyworker-2", "Joe", "Wren", _KEYWORKER, HOST),
    Post("keyworker-3", "Siân", "Finch", _KEYWORKER, HOST),
    Post("strategic-keyworker", "Ruth", "Heron", "strategic-keyworker", HOST),
    Post("family-support", "Lorraine", "Dove", "family-support-worker", HOST),
    Post("camhs-1", "Daniel", "Teal", "camhs", CAMHS, CHILD_PSYCHIATRY),
    Post("camhs-2", "Nadia", "Swift", "camhs", CAMHS, CHILD_PSYCHIATRY),
    Post("adult-team", "Bola", "Siskin", "lead-professional", ADULT_TEAM, DISABILITY_TEAM),
    Post("social-worker-1", "Kwame", "Robin", "social-worker", COUNCIL, SOCIAL_SERVICES),
    Post("social-worker-2", "Jenny", "Martin", "social-worker", COUNCIL, SOCIAL_SERVICES),
    Post("rc-north", "Farah", "Curlew", "inpatient-rc", TRUST_NORTH, ADOLESCENT_PSYCHIATRY),
    Post("rc-south", "Peter", "Egret", "inpatient-rc", TRUST_SOUTH, ADOLESCENT_PSYCHIATRY),
    Post("school-beech-lane", "Gill", "Linnet", "education", PRIMARY_SCHOOL),
    Post("school-millbrook", "Marcus", "Rook", "education", SECONDARY_SCHOOL),
    Post("college", "Helen", "Jay", "education", COLLEGE),
    Post("gp", "Anjali", "Thrush", "gp", SURGERY),
    Post("advocate", "Chris", "Plover", "advocate", ADVOCACY),
)

STRATEGIC_KEYWORKER: Final = "PractitionerRole/kw-role-strategic-keyworker"
FAMILY_SUPPORT: Final = "PractitionerRole/kw-role-family-support"
ADULT_TEAM_LEAD: Final = "PractitionerRole/kw-role-adult-team"
GP: Final = "PractitionerRole/kw-role-gp"
ADVOCATE: Final = "PractitionerRole/kw-role-advocate"


def keyworker(serial: int) -> str:
    return f"PractitionerRole/kw-role-keyworker-{serial % 3 + 1}"


def camhs_clinician(serial: int) -> str:
    return f"PractitionerRole/kw-role-camhs-{serial % 2 + 1}"


def social_worker(serial: int) -> str:
    return f"PractitionerRole/kw-role-social-worker-{serial // 2 % 2 + 1}"


def unit(serial: int) -> Unit:
    return UNITS[serial % 2]


def school(age: int) -> str:
    """The school or college for an age."""
    if age < 11:
        return PRIMARY_SCHOOL
    return SECONDARY_SCHOOL if age < 16 else COLLEGE


def school_contact(age: int) -> str:
    return school(age).replace("Organization/kw-org-", "PractitionerRole/kw-role-")


def the_service() -> Iterator[DomainResource]:
    """Everything that the young people's resources refer to."""
    yield from map(organization, _BODIES)
    yield from map(ward, UNITS)
    for post in _POSTS:
        yield practitioner(post)
        yield practitioner_role(post)


def _id(target: str) -> str:
    return target.partition("/")[2]


def organization(body: Body) -> Organization:
    return Organization(
        id=_id(body.reference),
        meta=TEST_DATA,
        identifier=[Identifier(system=canonicals.ODS_ORGANIZATION, value=body.ods)],
        active=True,
        type=[coded(canonicals.ORGANIZATION_TYPE, body.kind)],
        name=body.name,
        partOf=reference(body.part_of) if body.part_of else None,
    )


def ward(unit: Unit) -> Location:
    return Location(
        id=_id(unit.ward),
        meta=TEST_DATA,
        identifier=[Identifier(system=canonicals.ODS_SITE, value=unit.site)],
        status="active",
        name=unit.name,
        mode="instance",
        physicalType=coded(canonicals.LOCATION_PHYSICAL_TYPE, "wa"),
        managingOrganization=reference(unit.trust),
    )


def practitioner(post: Post) -> Practitioner:
    return Practitioner(
        id=f"kw-practitioner-{post.name}",
        meta=TEST_DATA,
        active=True,
        name=[synthetic_name(post.given, post.family)],
    )


def practitioner_role(post: Post) -> PractitionerRole:
    return PractitionerRole(
        id=f"kw-role-{post.name}",
        meta=TEST_DATA,
        active=True,
        practitioner=reference(
            f"Practitioner/kw-practitioner-{post.name}", f"{post.given} Synthetic-{post.family}"
        ),
        organization=reference(post.organization),
        code=[coded(canonicals.CARE_TEAM_ROLE, post.role)],
        specialty=[_specialty(*post.specialty)] if post.specialty else None,
    )


def _specialty(code: str, display: str) -> CodeableConcept:
    return CodeableConcept(coding=[Coding(system=canonicals.SNOMED_CT, code=code, display=display)])
