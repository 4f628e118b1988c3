"""What is to be done because of consents: asked for, looked at again, talked about.

A parent's consent is one whose legal basis is parental responsibility; it ends at 16 (NHS England
DAPB3051, use case 7.2).
"""

from collections.abc import Iterator
from datetime import date
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._calendar import days_after, working_days_after
from operations._person import code_in, codes, ended_at_16, local_day, since, status_of
from operations._record import Record, day_of, end_of
from operations._work import Work, task_id

WITHDRAWN: Final = "withdrawn"
"""Which of its Tasks `Consent/$withdraw` asks for, whatever state of the pathway asks for one."""
_CATEGORIES: Final = ("register", "keyworking")
_ASKING: Final = ("referred", "consent-pending")
_KEYWORKED: Final = frozenset(
    {
        *("awaiting-allocation", "information-gathering", "planning", "plan-active"),
        *("in-hospital", "discharge-planning", "step-down"),
    }
)
"""States that need a consent to keyworking; without one it is talked about."""


def works_of_consent(record: Record) -> Iterator[Work]:
    yield from _to_obtain(record)
    withdrawn = _withdrawn(record)
    for consent in record.consents:
        if task := withdrawn.get(consent["id"]):
            yield _talk(record, consent, task)
    for category in _CATEGORIES:
        for consent in record.consents_to(category):
            has_ended = status_of(consent) in ("inactive", "rejected")
            if status_of(consent) == "active" and not has_run_out(consent, record.now):
                yield from _recheck(record, consent)
            elif has_run_out(consent, record.now) or (has_ended and consent["id"] not in withdrawn):
                yield from _review(record, consent, category)


def _withdrawn(record: Record) -> dict[str, Resource]:
    """The Task that `Consent/$withdraw` asked for, by the id of the consent."""
    known = {task["id"]: task for task in record.tasks}
    asked = {
        one["id"]: task_id("review-consent", reference_to(one), WITHDRAWN)
        for one in record.consents
    }
    return {consent: known[task] for consent, task in asked.items() if task in known}


def _to_obtain(record: Record) -> Iterator[Work]:
    """Of somebody in a stay, it is asked about that (`operations._staying`)."""
    episode, asked = record.episode, record.numbers.consent_request_days
    if episode is None or record.current_stays or not _is_to_be_asked(record):
        return
    begun = day_of(episode.get("period", {}).get("start"))
    # One that comes from elsewhere is asked about from now: it may have begun long ago.
    day = begun if begun and record.state in _ASKING else record.today
    yield Work(
        "obtain-consent",
        "Explain keyworking and ask for consent",
        working_days_after(day, asked),
        reference_to(episode),
        fixed=True,
        met=record.consented("keyworking"),
    )


def _is_to_be_asked(record: Record) -> bool:
    """Before keyworking, and of an involvement that came from elsewhere without any consent."""
    if record.state in _KEYWORKED:
        return record.consented("keyworking") or not record.consents_to("keyworking")
    return record.state in _ASKING


def _recheck(record: Record, consent: Resource) -> Iterator[Work]:
    """T-CONSENT-RECHECK: after a year, and before the consent runs out."""
    given, focus = day_of(consent.get("dateTime")), reference_to(consent)
    if given is None:
        return
    last = [
        (at, task)
        for at, task in record.done("T-CONSENT-RECHECK")
        if task.get("focus", {}).get("reference") == focus and local_day(at) >= given
    ][-1:]
    since_then = local_day(last[0][0]) if last else given
    due = days_after(since_then, record.numbers.consent_recheck_days)
    ends = day_of(consent.get("provision", {}).get("period", {}).get("end"))
    yield Work(
        "T-CONSENT-RECHECK",
        "Ask whether the consent still stands",
        min(due, ends) if ends else due,
        focus,
        key=last[0][1]["id"] if last else "",
    )


def _talk(record: Record, consent: Resource, task: Resource) -> Work:
    """What `Consent/$withdraw` asked for: a consent of the same kind since then settles it."""
    asked = since(task.get("authoredOn"))
    kinds = _categories(consent)
    met = [record.consented(kind) and _given_since(record, kind, asked) for kind in kinds]
    text = str(task.get("description", ""))
    focus = reference_to(consent)
    is_met = bool(met) and all(met)
    return Work("review-consent", text, record.today, focus, key=WITHDRAWN, fixed=True, met=is_met)


def _given_since(record: Record, category: str, at: int) -> bool:
    return any(
        status_of(one) == "active" and one.get("dateTime") and end_of(one["dateTime"]) > at
        for one in record.consents_to(category)
    )


def _review(record: Record, consent: Resource, category: str) -> Iterator[Work]:
    """review-consent, where somebody goes without what they had."""
    ended_by_age = ended_at_16(consent)
    if record.state not in _KEYWORKED or ended_by_age:
        return
    yield Work(
        "review-consent",
        f"Talk about the consent to {'the register' if category == 'register' else 'keyworking'}",
        working_days_after(record.today, record.numbers.consent_review_days),
        reference_to(consent),
        fixed=True,
        met=record.consented(category),
    )


def has_run_out(consent: Resource, now: int) -> bool:
    """Whether its period is over, whatever its status says."""
    end = consent.get("provision", {}).get("period", {}).get("end")
    return bool(end) and status_of(consent) == "active" and end_of(end) <= now


def parents(record: Record, before: date) -> list[Resource]:
    """Consents by a parent from before that day, which stand or were ended by the 16th birthday."""
    return [
        one
        for one in record.consents
        if is_parents(one)
        and (status_of(one) == "active" or ended_at_16(one))
        and ((given := day_of(one.get("dateTime"))) is None or given < before)
    ]


def is_parents(consent: Resource) -> bool:
    basis = code_in(consent.get("policyRule"), canonicals.NHS_PROXY_LEGAL_BASIS)
    return basis == "parental-responsibility"


_DECIDED: Final = frozenset({"active", "rejected", "inactive"})


def own_since(record: Record, day: date) -> bool:
    """Whether there is an active consent from then on that is no parent's."""
    return any(status_of(one) == "active" for one in _own_since(record, day))


def decided_since(record: Record, day: date, birthday: date) -> bool:
    """Whether the young person has agreed or refused since then, of all that parents agreed to.

    `birthday` is that before which parents did so.
    """
    own = {code for one in _own_since(record, day) for code in _categories(one)}
    asked = {code for one in parents(record, birthday) for code in _categories(one)}
    return bool(own) and asked <= own


def _own_since(record: Record, day: date) -> Iterator[Resource]:
    """What was agreed to or refused from then on, by no parent; it may have ended since."""
    for one in record.consents:
        given = day_of(one.get("dateTime"))
        counts = status_of(one) in _DECIDED and not is_parents(one)
        if counts and given is not None and given >= day:
            yield one


def _categories(consent: Resource) -> list[str]:
    told = codes(consent.get("category"))
    return [code for system, code in told if system == canonicals.CONSENT_CATEGORY]
