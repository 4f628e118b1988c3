"""The ten states of the pathway, and `cancelled`: which may follow which, and the status of each.

The state is the extension `pathway-state` of the EpisodeOfCare; R4's own status is coarser:
https://hl7.org/fhir/R4/valueset-episode-of-care-status.html. Nothing here asks the records.
"""

from collections.abc import Mapping
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from operations._person import code_in, extension, has_code, status_of

REFERRED: Final = "referred"
CONSENT_PENDING: Final = "consent-pending"
AWAITING_ALLOCATION: Final = "awaiting-allocation"
INFORMATION_GATHERING: Final = "information-gathering"
PLANNING: Final = "planning"
PLAN_ACTIVE: Final = "plan-active"
IN_HOSPITAL: Final = "in-hospital"
DISCHARGE_PLANNING: Final = "discharge-planning"
STEP_DOWN: Final = "step-down"
CLOSED: Final = "closed"
CANCELLED: Final = "cancelled"

SUCCESSORS: Final[Mapping[str, tuple[str, ...]]] = {
    REFERRED: (CONSENT_PENDING, CANCELLED),
    CONSENT_PENDING: (AWAITING_ALLOCATION, CANCELLED),
    AWAITING_ALLOCATION: (INFORMATION_GATHERING, CANCELLED),
    INFORMATION_GATHERING: (PLANNING, IN_HOSPITAL),
    PLANNING: (PLAN_ACTIVE, IN_HOSPITAL),
    PLAN_ACTIVE: (IN_HOSPITAL, STEP_DOWN),
    IN_HOSPITAL: (DISCHARGE_PLANNING,),
    DISCHARGE_PLANNING: (PLAN_ACTIVE, STEP_DOWN),
    STEP_DOWN: (PLAN_ACTIVE, IN_HOSPITAL, CLOSED),
    CLOSED: (),
    CANCELLED: (),
}
STATUS: Final[Mapping[str, str]] = {
    REFERRED: "planned",
    CONSENT_PENDING: "planned",
    AWAITING_ALLOCATION: "waitlist",
    **dict.fromkeys(
        (INFORMATION_GATHERING, PLANNING, PLAN_ACTIVE, IN_HOSPITAL, DISCHARGE_PLANNING, STEP_DOWN),
        "active",
    ),
    CLOSED: "finished",
    CANCELLED: "cancelled",
}
BEFORE_KEYWORKING: Final = (REFERRED, CONSENT_PENDING, AWAITING_ALLOCATION)
UNDER_WAY: Final = tuple(state for state, status in STATUS.items() if status == "active")
OVER: Final = (CLOSED, CANCELLED)
MAY_PAUSE: Final = (INFORMATION_GATHERING, PLANNING, PLAN_ACTIVE, STEP_DOWN)
"""Nobody pauses while a young person is in hospital."""
PAUSED: Final = "onhold"
CLOSE_REASONS: Final = (
    *("stepped-down", "moved-away", "aged-out", "deceased", "declined"),
    "out-of-scope",
)
STEPPED_DOWN: Final = "stepped-down"
"""The one reason to close that is the end of the pathway; each other may come at any time."""


def may_follow(current: str, reason: str | None) -> tuple[str, ...]:
    """The states to which an involvement may move, given why it would be closed."""
    found = SUCCESSORS.get(current, ())
    ends_early = current in UNDER_WAY and CLOSED not in found
    gone = reason in CLOSE_REASONS and reason != STEPPED_DOWN
    return (*found, CLOSED) if ends_early and gone else found


def statuses(state: str) -> tuple[str, ...]:
    """Those that fit the state, the usual one first."""
    usual = STATUS.get(state)
    if usual is None:
        return ()
    return (usual, PAUSED) if state in MAY_PAUSE else (usual,)


def is_keyworking(episode: Resource) -> bool:
    return has_code(episode.get("type"), canonicals.EPISODE_TYPE, "keyworking")


def state_of(episode: Resource) -> str:
    """The code; '' where there is none."""
    found = extension(episode, canonicals.PATHWAY_STATE_EXTENSION) or {}
    return str(found.get("valueCode", ""))


def close_reason(episode: Resource) -> str | None:
    """The code, None where there is none of the project's."""
    found = extension(episode, canonicals.CLOSE_REASON_EXTENSION) or {}
    return code_in(found.get("valueCodeableConcept"), canonicals.EPISODE_CLOSE_REASON)


def reason_given(episode: Resource) -> str:
    """Why it was paused or moved, in words; '' where nobody said."""
    found = extension(episode, canonicals.STATUS_REASON_EXTENSION) or {}
    return said(str(found.get("valueString", "")))


def is_paused(episode: Resource) -> bool:
    return status_of(episode) == PAUSED
