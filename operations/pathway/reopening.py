"""An involvement that was closed in error: what ended with it goes on.

That is what its closing wrote (`operations.pathway.effects`), and nobody has written since.
"""

from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations._person import Person, extension, has_code, since, status_of
from operations._tasks import DIED
from operations.pathway.effects import ENDED, OF_KEYWORKING

_SECOND: Final = 1_000_000
"""In microseconds."""


async def reopen(records: Records, person: Person, closed: Resource) -> list[str]:
    """Take back what the closing of the involvement has ended; what was done, in words."""
    at = _closed_at(closed)
    plans = [one for kind in OF_KEYWORKING for one in await person.plans(kind)]
    consents = await records.find("Consent", f"patient={person.reference}")
    going = [
        *(_plan(one) for one in plans if _ended_with(one, at) and "end" in one.get("period", {})),
        *(_consent(one) for one in consents if _ended_with(one, at) and _was_keyworking(one)),
        *(_task(one) for one in await person.tasks() if _ended_with(one, at) and _was_died(one)),
    ]
    # Never refused: what was stored before may fit no profile of today.
    return [f"It goes on: {reference_to(await records.amend(one))}" for one in going]


def _closed_at(episode: Resource) -> int:
    """In microseconds since the epoch; never, where the history does not say.

    The history tells it to the second, and may be asked for the time just after the commit was.
    """
    times = [
        since(one.get("period", {}).get("start"))
        for one in episode.get("statusHistory", ())
        if status_of(one) == "finished"
    ]
    return max(times, default=2**62) - _SECOND


def _ended_with(resource: Resource, at: int) -> bool:
    """Whether it was over by that commit: nothing was written to it before."""
    over = status_of(resource) in ("completed", "revoked", "inactive", "cancelled")
    return over and since(resource.get("meta", {}).get("lastUpdated")) >= at


def _plan(plan: Resource) -> Resource:
    period = {name: value for name, value in plan["period"].items() if name != "end"}
    status = "active" if status_of(plan) == "completed" else "draft"
    return {**plan, "status": status, "period": period}


def _was_keyworking(consent: Resource) -> bool:
    reason = (extension(consent, canonicals.CONSENT_STATUS_REASON_EXTENSION) or {}).get(
        "valueCodeableConcept", {}
    )
    of_it = has_code(consent.get("category"), canonicals.CONSENT_CATEGORY, "keyworking")
    return of_it and reason.get("text") == ENDED


def _consent(consent: Resource) -> Resource:
    url = canonicals.CONSENT_STATUS_REASON_EXTENSION
    kept = [one for one in consent["extension"] if one["url"] != url]
    rest = {name: value for name, value in consent.items() if name != "extension"}
    return {**rest, "status": "active"} | ({"extension": kept} if kept else {})


def _was_died(task: Resource) -> bool:
    return bool(task.get("statusReason", {}).get("text") == DIED)


def _task(task: Resource) -> Resource:
    """To be done again; the timers end theirs anew where the record asks for them no more."""
    rest = {name: value for name, value in task.items() if name != "statusReason"}
    return {**rest, "status": "requested"}
