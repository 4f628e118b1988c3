"""A death: the involvement closes with care, and goes on where it was told in error.

Whoever tells of it and however: a stay that ends so, or the Patient itself.
"""

from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations import _rating
from operations._person import Person, ended_period, status_of, with_extension, without_end
from operations.pathway.reopening import reopen

_STATE: Final = canonicals.PATHWAY_STATE_EXTENSION


async def closed_by_death(records: Records, person: Person, at: int) -> list[str]:
    """End the rating and close the involvement; what was done, in words.

    `at` is when it was, in microseconds since the epoch.
    """
    await _rating.end_ratings(records, person, at, "deceased")
    said = ["The young person has died: the rating has ended, nothing is to be followed up"]
    episode = await person.episode()
    if episode is None:
        for closed in (await person.closed_episodes("deceased"))[:1]:
            await records.amend({**closed, "period": ended_period(closed, at)})
        return said
    await records.amend(_closed(episode, at))
    return [*said, f"The involvement is closed: {reference_to(episode)}"]


def _closed(episode: Resource, at: int) -> Resource:
    reason = {"system": canonicals.EPISODE_CLOSE_REASON, "code": "deceased"}
    why = {"url": canonicals.CLOSE_REASON_EXTENSION, "valueCodeableConcept": {"coding": [reason]}}
    state = {"url": _STATE, "valueCode": "closed"}
    closed = with_extension(with_extension(episode, why), state)
    return {**closed, "status": "finished", "period": ended_period(episode, at)}


async def reinvolved(records: Records, person: Person, *, in_hospital: bool = False) -> list[str]:
    """Open the involvement that a death closed which was told in error."""
    if await person.episode() is not None:
        return []
    for episode in await person.closed_episodes("deceased"):
        kept = [
            one
            for one in episode["extension"]
            if one["url"] not in (canonicals.CLOSE_REASON_EXTENSION, _STATE)
        ]
        said = await reopen(records, person, episode)
        state = "in-hospital" if in_hospital else await state_at_home(person)
        told = {"url": _STATE, "valueCode": state}
        opened = {**without_end(episode), "status": "active", "extension": [*kept, told]}
        await records.amend(opened)
        return [*said, f"The involvement goes on: {reference_to(episode)}"]
    return []


async def state_at_home(person: Person) -> str:
    """The pathway state that the plans speak for; the one before is recorded nowhere else."""
    if await person.has_active_plan("step-down-plan"):
        return "step-down"
    plan = await person.keyworking_plan()
    if plan is None:
        return "information-gathering"
    return "planning" if status_of(plan) == "draft" else "plan-active"
