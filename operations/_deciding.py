"""Who decides: the author of what an operation writes, and in which role.

Under tokens the records say which roles somebody has for this young person, never the request.
Without tokens nobody is known: the role is the one that is named.
"""

from dataclasses import dataclass
from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.tokens.terms import granted
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, reference_to
from operations._host import is_professional
from operations._person import Person, codes, covers

RATES: Final = "a professional of the young person's care rates"
"""The decision table has nobody write ratings: an operation does, for who sees them in full."""
KEYWORKER: Final = "keyworker"
_OF_FAMILY: Final = frozenset({"parent-carer", "advocate"})
_PROFESSIONALS: Final = ("Practitioner", "PractitionerRole")
ROLES: Final = (
    *(KEYWORKER, "family-support-worker", "strategic-keyworker", "lead-professional", "camhs"),
    *("social-worker", "education", "gp", "inpatient-rc", "advocate", "parent-carer"),
)
"""Codes of the code system `care-team-role`."""
_BY_COLOUR: Final = 4
"""The row of the decision table by which a signatory of the register sees the colour."""
_PLACE: Final = "Parameters.parameter.where(name='role')"
_NOT_THEIRS: Final = "This is decided by professionals of the young person's care team"
_UNKNOWN: Final[Resource] = {"display": "Not told"}


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decides."""

    author: Resource
    """A Reference."""
    role: str
    """A code of `care-team-role`, '' where none is known."""
    by_register: bool = False
    """Whether it is a signatory of the register, who sees the colour alone."""

    @property
    def may_override(self) -> bool:
        """Whether it is a professional's role."""
        return self.role != "" and self.role not in _OF_FAMILY


async def decider(call: Call, person: Person, *, rates: bool = False) -> Decider:
    """Who decides in this call.

    Args:
        rates: whether it is a rating that is given, which signatories of the register do too.

    Raises:
        FhirError: INVALID for a role that is none; FORBIDDEN for whoever is no professional, and
            for a role that the records do not give to the caller.
    """
    named = _named(call)
    if call.session.is_open:
        return Decider(await _responsible(person), named)
    caller = call.session.caller
    if caller.user and caller.user.partition("/")[0] not in _PROFESSIONALS:
        raise FhirError(Kind.FORBIDDEN, _NOT_THEIRS)
    _require_scope(caller)
    held = await _held(call, person)
    if rates and not held and not named and await _rates_by_register(call, person):
        return Decider(_author(caller), "", by_register=True)
    if not any(role not in _OF_FAMILY for role in held):
        raise FhirError(Kind.FORBIDDEN, _NOT_THEIRS)
    if named and named not in held:
        raise FhirError.at(
            Kind.FORBIDDEN, _PLACE, f"The records do not say that the caller is '{named}' here"
        )
    return Decider(_author(caller), named or next(iter(held), ""))


async def _rates_by_register(call: Call, person: Person) -> bool:
    """Whether the caller rates with consent to the register alone.

    It is a professional of a health or social care body that has signed the register, in person,
    while no keyworker does so: an entry takes the consent to the register, and nobody is in a care
    team before keyworking.
    """
    if not (is_professional(call.session.caller) and await sees_colour_alone(call, person)):
        return False
    known = Person(
        Lookup(call.as_service(), base=call.base, now=call.now), person.patient, call.now
    )
    episode = await known.episode() or {}
    return not ("careManager" in episode and await known.consented("keyworking"))


async def sees_colour_alone(call: Call, person: Person) -> bool:
    """Whether it is as a signatory of the register that the caller sees the young person."""
    found = await call.session.explain(person.patient["id"])
    return found is not None and found.held.decision.row == _BY_COLOUR


def _require_scope(caller: Caller) -> None:
    """Raise for a token that does not grant to write ratings; one without scopes asks nothing."""
    if caller.grants and not all(granted(caller, "Flag", letter) for letter in "cu"):
        raise FhirError(Kind.FORBIDDEN, "The scopes do not grant to write a Flag")


def _named(call: Call) -> str:
    role = str(call.parameters.one("role") or "")
    if role and role not in ROLES:
        text = f"'{role}' is no role; {', '.join(ROLES)} are allowed"
        raise FhirError.at(Kind.INVALID, _PLACE, text)
    return role


async def _responsible(person: Person) -> Resource:
    """Who is responsible, where it is not known who asks: the keyworker, else their service."""
    episode = await person.episode() or {}
    found: Resource = episode.get("careManager") or episode.get("managingOrganization") or _UNKNOWN
    return found


def _author(caller: Caller) -> Resource:
    if caller.user:
        return {"reference": caller.user}
    identifier = {"system": canonicals.ODS_ORGANIZATION, "value": caller.organisation}
    return {"identifier": identifier} if caller.organisation else _UNKNOWN


async def _held(call: Call, person: Person) -> list[str]:
    """The roles of the caller for this young person, as the records say now."""
    names = await _names(call)
    episode, team = await person.episode() or {}, await person.care_team() or {}
    held = [KEYWORKER] if episode.get("careManager", {}).get("reference") in names else []
    for participant in team.get("participant", ()):
        is_own = participant.get("member", {}).get("reference") in names
        if is_own and covers(participant.get("period"), person.now):
            told = codes(participant.get("role", []))
            held += [code for system, code in told if system == canonicals.CARE_TEAM_ROLE]
    return [role for role in ROLES if role in held]


async def _names(call: Call) -> set[str]:
    """By which references the records mean the caller, who need not see their own posts."""
    user = call.session.caller.user
    if not user.startswith("Practitioner/"):
        return {user} - {""}
    lookup = Lookup(call.as_service(), base=call.base, now=call.now)
    posts = await lookup.find("PractitionerRole", f"practitioner={user}")
    return {user, *map(reference_to, posts)}
