"""EpisodeOfCare/$transition: the involvement moves to another state of the pathway.

What it lacks for that is told, each thing as an issue of its own, and nothing is written.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records
from operations._host import session_for
from operations.pathway.guards import STATE_PLACE
from operations.pathway.moving import because, move, moved
from operations.pathway.states import CLOSE_REASONS, OVER, SUCCESSORS, is_paused, state_of

SCOPES = ("EpisodeOfCare.ru",)
AS_SERVICE: Final = "the host moves a referral on"
"""Until a keyworker is allocated, nobody has a part in the record who could."""
_LONGEST: Final = 1000


async def run(call: Call) -> Resource:
    to, reason = str(call.parameters.one("to")), said(call.parameters.one("reason"))
    pause = bool(call.parameters.one("pause"))
    _require_known(to, reason)

    async def prepare(records: Records, before: Resource) -> Resource:  # noqa: ARG001
        if state_of(before) == to and is_paused(before) == pause:
            raise FhirError.at(Kind.BUSINESS_RULE, STATE_PLACE, f"The involvement is {to} already")
        after = moved(before, to, reason, call.now, pause=pause)
        return because(after, reason) if to in OVER and reason in CLOSE_REASONS else after

    return await move(call, await session_for(call), prepare)


def _require_known(to: str, reason: str) -> None:
    if to not in SUCCESSORS:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            "Parameters.parameter.where(name = 'to')",
            f"'{to}' is no state of the pathway; allowed: {', '.join(SUCCESSORS)}",
        )
    if len(reason) > _LONGEST:
        raise FhirError.at(
            Kind.INVALID,
            "Parameters.parameter.where(name = 'reason')",
            f"The reason has {len(reason)} characters; at most {_LONGEST} are allowed",
        )
