"""The keyworker of an involvement, in the care team and as the owner of what is to be done."""

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import Person, has_code, local_time
from operations._record import is_open, task_code
from operations._work import OF_THE_REGISTER


async def hand_over(
    records: Records,
    person: Person,
    episode: Resource,
    before: Resource | None,
    keeper: Resource | None,
) -> list[str]:
    """Have the care team and the tasks follow a new care manager; what was done, in words.

    Args:
        before: the last keyworker.
        keeper: of the register, whose what ran on without one has been.
    """
    keyworker = episode["careManager"]
    team = await _team(records, person, episode)
    saved = await records.save(_joined(team, keyworker, person.now))
    link = {"reference": reference_to(saved)}
    if not any(_same(one, link) for one in episode.get("team", ())):
        await records.save({**episode, "team": [*episode.get("team", ()), link]})
    owned = await _tasks_of(person, before) if before else []
    owned += await _of_the_register(person, keeper) if keeper else []
    for task in owned:
        await records.save({**task, "owner": keyworker})
    return [f"The keyworker is in the care team: {reference_to(saved)}"]


async def hand_back(
    records: Records, person: Person, episode: Resource, keeper: Resource | None
) -> None:
    """What runs on without keyworking is the register's, and nobody's who sees it no more.

    Args:
        keeper: of the register; None where nobody knows who that is.
    """
    manager = episode.get("careManager")
    for task in await _of_the_register(person, manager) if manager else ():
        kept = {name: value for name, value in task.items() if name != "owner"}
        await records.amend({**kept, "owner": keeper} if keeper else kept)


async def _of_the_register(person: Person, owner: Resource) -> list[Resource]:
    return [one for one in await _tasks_of(person, owner) if task_code(one) in OF_THE_REGISTER]


async def _tasks_of(person: Person, owner: Resource) -> list[Resource]:
    """Those that are open."""
    tasks = await person.tasks()
    return [one for one in tasks if is_open(one) and _same(one.get("owner"), owner)]


async def _team(records: Records, person: Person, episode: Resource) -> Resource:
    """That of the involvement, else the young person's, else a new one."""
    for link in episode.get("team", ()):
        local = parse_relative(link.get("reference", ""))
        found = await records.get(local.type, local.id) if local else None
        if found is not None and found["resourceType"] == "CareTeam":
            return found
    return await person.care_team() or {
        "resourceType": "CareTeam",
        "id": stable_id("care-team", reference_to(episode)),
        "status": "active",
        "subject": {"reference": person.reference},
        "period": {"start": local_time(person.now)},
        "managingOrganization": [episode["managingOrganization"]],
    }


def _joined(team: Resource, keyworker: Resource, now: int) -> Resource:
    """With this keyworker, and each other's time as one ended."""
    others = [
        one if _same(one.get("member"), keyworker) else _left(one, now)
        for one in team.get("participant", ())
    ]
    there = any(_is_keyworker(one) and _same(one.get("member"), keyworker) for one in others)
    role = {"coding": [{"system": canonicals.CARE_TEAM_ROLE, "code": "keyworker"}]}
    joined = {"role": [role], "member": keyworker, "period": {"start": local_time(now)}}
    participants = others if there else [*others, joined]
    return {**team, "status": "active", "participant": participants}


def _left(participant: Resource, now: int) -> Resource:
    if not _is_keyworker(participant):
        return participant
    return {**participant, "period": {**participant.get("period", {}), "end": local_time(now)}}


def _is_keyworker(participant: Resource) -> bool:
    is_role = has_code(participant.get("role"), canonicals.CARE_TEAM_ROLE, "keyworker")
    return is_role and "end" not in participant.get("period", {})


def _same(one: Resource | None, other: Resource) -> bool:
    """Whether two References lead to the same."""
    first = parse_relative((one or {}).get("reference", ""))
    second = parse_relative(other.get("reference", ""))
    return first == second if first and second else one == other
