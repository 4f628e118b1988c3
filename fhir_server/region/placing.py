"""Moves a record of the synthetic caseload to where in the region its young person lives.

The caseload knows one small service. Its references, addresses of spells and the name of its town
are replaced by those around the young person, in the JSON: they occur nowhere else.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from fhir_server.caseload import service
from fhir_server.region.members import Member

_TOWN: Final = "Hollin Vale (synthetic)"
_NAMED: Final = re.compile(
    r"(?:Organization/kw-org|PractitionerRole/kw-role|Location/kw-ward)-[a-z0-9-]+"
    r"|https://(?:northmoor|southwater)\.example/fhir/Id/spell"
    r"|Hollin Vale \(synthetic\)"
)


def placed(text: str, member: Member) -> str:
    """The JSON of a resource, with the services of the member's own area."""
    there = dict(_replacements(member))
    return _NAMED.sub(lambda found: there[found[0]], text)


def _replacements(member: Member) -> Iterator[tuple[str, str]]:
    board, around = member.board, member.around
    yield _TOWN, f"{board.place} (synthetic)"
    yield from _organisations(member)
    unit = board.unit(around["trust"])
    for own in service.UNITS:
        yield own.trust, unit.trust
        yield own.ward, unit.ward
        yield own.clinician, unit.clinician
        yield own.spell_system, unit.spell_system
    for number in range(1, 4):
        yield _role(f"keyworker-{number}"), board.role("keyworker", around["keyworker"])
        yield _role(f"camhs-{number}"), board.role("camhs", around["camhs-staff"])
        yield _role(f"social-worker-{number}"), board.role("council", around["social-worker"])
    yield service.STRATEGIC_KEYWORKER, board.role("strategic-keyworker")
    yield service.FAMILY_SUPPORT, board.role("family-support")
    for own_role, slug in _ROLES.items():
        yield own_role, board.role(slug, around[slug])


def _organisations(member: Member) -> Iterator[tuple[str, str]]:
    board, around = member.board, member.around
    yield service.ICB, board.organisation("icb")
    yield service.HOST, board.organisation("keyworking")
    for own, slug in _KINDS.items():
        yield own, board.organisation(slug, around[slug])


def _role(name: str) -> str:
    return f"PractitionerRole/kw-role-{name}"


_KINDS: Final[Mapping[str, str]] = {
    service.COUNCIL: "council",
    service.CAMHS: "camhs",
    service.SURGERY: "surgery",
    service.ADVOCACY: "advocacy",
    service.ADULT_TEAM: "adult-team",
    service.PRIMARY_SCHOOL: "primary",
    service.SECONDARY_SCHOOL: "secondary",
    service.COLLEGE: "college",
}
_ROLES: Final[Mapping[str, str]] = {
    service.ADULT_TEAM_LEAD: "adult-team",
    service.GP: "surgery",
    service.ADVOCATE: "advocacy",
    _role("school-beech-lane"): "primary",
    _role("school-millbrook"): "secondary",
    _role("college"): "college",
}
