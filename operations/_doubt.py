"""A Task that asks the keyworker who somebody is, where records or senders do not agree.

It is not for the young person and those related: it may tell of somebody else's record.
"""

from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.operation.records import Records, stable_id
from operations._calendar import working_days_after
from operations._person import Person, local_day
from operations._work import Work, task_of

CODE: Final = "check-identity"
_NOT_FOR_FAMILY: Final = {"system": canonicals.ACT_CODE, "code": "TBOO"}


async def ask_who(
    records: Records, person: Person, focus: str, text: str, description: str, *key: str
) -> str:
    """Open the Task, unless it was opened before; what was done, in words.

    Args:
        focus: what the doubt is about, as `Type/id`.
        text: what is to be done.
        description: what the doubt comes from.
        key: what else tells it from others about the same.
    """
    own_id = stable_id("task", CODE, person.reference, focus, *key)
    if await records.get("Task", own_id) is not None:
        return ""
    episode = await person.episode() or {}
    owner = episode.get("careManager") or episode.get("managingOrganization")
    due = working_days_after(local_day(person.now), 1)
    work = Work(CODE, text, due, focus, "urgent")
    task = task_of(work, person.reference, person.now, owner, own_id)
    hidden = {"meta": {"security": [_NOT_FOR_FAMILY]}, "description": description}
    await records.save({**task, **hidden})
    return f"{text}: Task/{own_id}"
