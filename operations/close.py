"""EpisodeOfCare/$close: keyworking ends, for a reason; what is open is ended with it where asked.

Without being asked to, nothing is ended that somebody may still want to see through: each open
task and goal is told.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records
from operations._person import Person, person_named
from operations.pathway.guards import is_over_goal, of_keyworking
from operations.pathway.moving import because, move, moved
from operations.pathway.states import CLOSE_REASONS, CLOSED
from operations.pathway.tasks import cancel

SCOPES: Final = ("EpisodeOfCare.ru", "Task.rus", "Goal.rus")


async def run(call: Call) -> Resource:
    reason = said(call.parameters.one("reason"))
    if reason not in CLOSE_REASONS:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            "Parameters.parameter.where(name = 'reason')",
            f"'{reason}' is no reason to close; allowed: {', '.join(CLOSE_REASONS)}",
        )
    comment = said(call.parameters.one("comment"))

    async def prepare(records: Records, before: Resource) -> Resource:
        person = await person_named(records, before, call.now)
        if person is not None:
            await _end(call, records, person, comment or f"Keyworking has ended: {reason}")
        return because(moved(before, CLOSED, comment, call.now), reason)

    return await move(call, call.session, prepare)


async def _end(call: Call, records: Records, person: Person, why: str) -> None:
    if call.parameters.one("end-tasks"):
        tasks = of_keyworking(await person.tasks())
        await cancel(records, person, tasks, why)
    if call.parameters.one("end-goals"):
        await _end_goals(records, person, why)


async def _end_goals(records: Records, person: Person, why: str) -> None:
    for goal in await person.goals():
        if not is_over_goal(goal):
            ended = {"lifecycleStatus": "cancelled", "statusReason": why}
            await records.save({**goal, **ended})
