"""Who asks: what a verified token says, and nothing that it does not say."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote


class Role(Enum):
    """Roles that a token can give its caller, beside what the records say of them.

    That somebody is a child's keyworker, in the care team or a parent is never a claim: the
    records say so.
    """

    AUDITOR = "auditor"
    """May read the audit, which nobody else may."""
    ADMINISTRATOR = "administrator"
    """Keeps what is about nobody: organisations, definitions, terminology."""
    COMMISSIONER = "commissioner"
    """Sees aggregates alone (row 13 of the decision table)."""
    CETR_PANEL = "cetr-panel"
    """Reads where there is consent to a C(E)TR (row 13)."""
    LOAD_TEST = "load-test"
    """A system that works with test data alone (row 14)."""

    __hash__ = object.__hash__  # a member is one object; Enum hashes its name anew each time


@dataclass(frozen=True, slots=True)
class Grant:
    """One SMART scope, as it was granted.

    https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
    """

    level: str
    """patient, user or system."""
    resource_type: str
    """`*` for any."""
    letters: frozenset[str]
    """Among c, r, u, d and s."""
    criteria: tuple[tuple[str, str], ...] = ()
    """Search parameters and their values that narrow it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which request.

    `name` is unique to the client and its user: what the server keeps for a caller (jobs, answers
    to repeat) is found by it alone.
    """

    name: str
    request_id: str = ""
    client: str = ""
    user: str = ""
    """Reference to whoever uses the client, such as `Practitioner/12`, `RelatedPerson/3` or
    `Patient/7`; empty for a system by itself."""
    organisation: str = ""
    """ODS code of the organisation that they act for."""
    roles: frozenset[Role] = frozenset()
    purpose: str = ""
    """A code of http://terminology.hl7.org/CodeSystem/v3-ActReason, such as TREAT."""
    patient: str = ""
    """Id of the patient in the launch context, to whom `patient/` scopes are narrowed."""
    grants: tuple[Grant, ...] = field(default=())
    break_glass: str = ""
    """Why the glass is broken; empty when it is not."""
    token: str = ""
    """The `jti` of the token by which they came, for work that ends with its revocation."""
    expires: int = 0
    """When that token ends, in seconds since the epoch, where nobody knows whether it is revoked
    before; 0 of the built-in issuer, who does."""

    def asking(self, request_id: str) -> "Caller":
        """The same caller with that request."""
        return self if self.request_id == request_id else self._with(request_id, self.break_glass)

    def breaking(self, reason: str) -> "Caller":
        """The same caller with the glass broken for that reason, whole where it is empty."""
        return self if self.break_glass == reason else self._with(self.request_id, reason)

    def _with(self, request_id: str, break_glass: str) -> "Caller":
        """For every request, and so by hand: `dataclasses.replace` takes ten times as long."""
        return Caller(
            self.name,
            request_id,
            self.client,
            self.user,
            self.organisation,
            self.roles,
            self.purpose,
            self.patient,
            self.grants,
            break_glass,
            self.token,
            self.expires,
        )


def is_system(caller: Caller) -> bool:
    """Whether a client acts by itself, and for nobody who has signed in."""
    return not caller.user and all(grant.level == "system" for grant in caller.grants)


def keeps_records(caller: Caller) -> bool:
    """Whether it is the administrators' own client of an organisation, with nobody signed in."""
    return Role.ADMINISTRATOR in caller.roles and caller.organisation != "" and is_system(caller)


def prefix_of(name: str) -> str:
    """How the keys of the memos begin of a caller of that name, if there is one."""
    return quote(name, safe="") + "/"


@lru_cache(maxsize=4096)
def own_prefix(name: str) -> str:
    """The same of somebody who is known: whoever is not would fill the memory with names."""
    return prefix_of(name)


Stands = Callable[[Caller], Awaitable[Caller | None]]
"""What is left of a caller by now; None for one who may do nothing any more."""


async def unchanged(caller: Caller) -> Caller | None:
    """Where nobody knows more of callers than their tokens said."""
    return caller


ANONYMOUS: Final = Caller("anonymous")
"""Of `--auth none`."""


def caller_to_json(caller: Caller) -> dict[str, Any]:
    """The whole caller, as jobs keep it: `caller_from_json` makes an equal one of it."""
    told = asdict(caller)
    told["roles"] = sorted(role.value for role in caller.roles)
    told["grants"] = [_grant_to_json(grant) for grant in caller.grants]
    return told


def caller_from_json(told: Mapping[str, Any]) -> Caller:
    """The caller that was kept.

    Raises:
        KeyError, TypeError, ValueError: for what `caller_to_json` did not write.
    """
    kept = dict(told)
    roles = frozenset(map(Role, kept.pop("roles")))
    grants = tuple(map(_grant_from_json, kept.pop("grants")))
    return Caller(**kept, roles=roles, grants=grants)


def _grant_to_json(grant: Grant) -> list[Any]:
    criteria = [list(pair) for pair in grant.criteria]
    return [grant.level, grant.resource_type, "".join(sorted(grant.letters)), criteria]


def _grant_from_json(told: Any) -> Grant:
    level, resource_type, letters, criteria = told
    pairs = tuple((name, value) for name, value in criteria)
    return Grant(level, resource_type, frozenset(letters), pairs)
