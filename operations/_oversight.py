"""What one young person's record adds to the measures of oversight: pure, and as at a moment.

What carries its own time counts by that time, however late it was told: ratings, stays and
involvements by their periods, Tasks by when they were done. What does not counts as the server had
it when the period ended: who somebody is and where, the pathway state, the keyworker, Consents,
Goals, due dates. So a report about a period that is over says the same later, unless something that
happened in it is told.
"""

from collections.abc import Iterator
from datetime import date
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from operations._calendar import midnight
from operations._chronicle import status_or_lifecycle
from operations._leaving import left_for_hospital
from operations._person import (
    UNDONE_STAY,
    code_in,
    colour_of,
    extension,
    has_code,
    is_inpatient,
    is_rating,
    local_day,
    since,
    status_of,
)
from operations._record import is_open, task_code
from operations._tally import DAY, Period, Record, Tally, Told

AS_AT: Final = ("EpisodeOfCare", "Task", "Goal", "Consent", "CarePlan", "Condition")
"""Types of which it matters how they were when the period ended; Patients are read as then too."""
TYPES: Final = (*AS_AT, "Flag", "Encounter", "ServiceRequest")
IN_TIME: Final = (
    *("T-CETR-POSTADM", "T-CETR-REPEAT", "T-OVERSIGHT-VISIT", "T-CAREPLAN-SHARE"),
    *("T-FU-48", "T-FU-72", "T-FU-7D"),
)
WAYS: Final = (
    *("referral-to-consent", "referral-to-allocation", "referral-to-first-visit"),
    *("referral-to-plan", "consent-to-allocation", "allocation-to-first-visit"),
    "first-visit-to-plan",
)
AGE_BANDS: Final = ((11, "0-10"), (14, "11-13"), (18, "14-17"), (26, "18-25"))
"""The first age that is beyond each."""
_ETHNICITY: Final = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory"
_ERROR: Final = "entered-in-error"
_DROPPED: Final = ("cancelled", "rejected", _ERROR)


def add(tally: Tally, patient: Resource, record: Record, period: Period, bounds: Pathway) -> None:
    """What this young person's record adds; the patient is given as when the period ended."""
    _episodes(tally, patient, record, period)
    _avoided(tally, record, period)
    _admissions(tally, record, period, bounds)
    _in_time(tally, record, period)
    _overdue(tally, record, period)
    _ready(tally, record, period)
    _ways(tally, record, period)
    _goals(tally, record, period)
    _consents(tally, record, period)


# Involvements and ratings -----------------------------------------------------------------------


def _episodes(tally: Tally, patient: Resource, record: Record, period: Period) -> None:
    for told in record["EpisodeOfCare"]:
        if not _is_open_at_end(told.now, period):
            continue
        state = extension(told.then, canonicals.PATHWAY_STATE_EXTENSION) or {}
        tally.count(
            "episodes",
            state=str(state.get("valueCode", "unknown")),
            rating=_colour(record, period),
            age_band=_band(patient, period),
            sex=str(patient.get("gender", "unknown")),
            ethnicity=_ethnicity(patient),
            need=_need(record, period),
            area=str(patient.get("managingOrganization", {}).get("reference", "unknown")),
        )
        if manager := told.then.get("careManager", {}).get("reference"):
            tally.held(manager)


def _is_open_at_end(episode: Resource, period: Period) -> bool:
    return (
        has_code(episode.get("type"), canonicals.EPISODE_TYPE, "keyworking")
        and status_of(episode) not in ("cancelled", _ERROR)
        and _runs_at_end(episode, period)
    )


def _runs_at_end(resource: Resource, period: Period) -> bool:
    ran = resource.get("period", {})
    ended = "end" in ran and interval(ran["end"]).low < period.high
    return since(ran.get("start")) < period.high and not ended


def _ratings(record: Record) -> list[Resource]:
    """Those that were meant."""
    return [one.now for one in record["Flag"] if is_rating(one.now) and not _is_mistake(one.now)]


def _is_mistake(flag: Resource) -> bool:
    ended = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
    reason = code_in(ended.get("valueCodeableConcept"), canonicals.RATING_END_REASON)
    return status_of(flag) == _ERROR or reason == "added-in-error"


def _colour(record: Record, period: Period) -> str:
    """Of the rating that held when the period ended."""
    held = [flag for flag in _ratings(record) if _runs_at_end(flag, period)]
    newest = max(held, key=lambda flag: since(flag.get("period", {}).get("start")), default=None)
    return str(colour_of(newest)) if newest else "none"


def _avoided(tally: Tally, record: Record, period: Period) -> None:
    """Admissions that did not come about, as who gave a lower rating or ended one has declared."""
    for flag in _ratings(record):
        ended = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
        for said, end in ((flag, "start"), (ended.get("valueCodeableConcept", {}), "end")):
            declared = extension(said, canonicals.ADMISSION_AVOIDED_EXTENSION) or {}
            if declared.get("valueBoolean") and period.holds(since(flag["period"].get(end))):
                tally.count("admissions-avoided")


def _band(patient: Resource, period: Period) -> str:
    """Of the age on the last day."""
    born = patient.get("birthDate")
    if not born:
        return "unknown"
    birthday, day = local_day(interval(born).low), local_day(period.high - 1)
    years = day.year - birthday.year - (_place(day) < _place(birthday))
    return next((name for limit, name in AGE_BANDS if years < limit), "26-and-above")


def _place(day: date) -> tuple[int, int]:
    return day.month, day.day


def _ethnicity(patient: Resource) -> str:
    coding = (extension(patient, _ETHNICITY) or {}).get("valueCodeableConcept", {}).get("coding")
    return str(coding[0].get("code", "unknown")) if coding else "unknown"


def _need(record: Record, period: Period) -> str:
    """Parts that do not overlap, so that they add up."""
    told = (one for one in record["Condition"] if _is_recorded(one, period))
    texts = " ".join(str(one.then.get("code", {})).lower() for one in told)
    autism, disability = "autis" in texts, "learning disab" in texts
    if autism and disability:
        return "both"
    return "autism" if autism else "learning-disability" if disability else "not-recorded"


def _is_recorded(told: Told, period: Period) -> bool:
    """Whether the condition says so itself; else whether it was told before the period ended."""
    now, then = told.now, told.then
    at = then.get("recordedDate") or then.get("onsetDateTime") or then["meta"]["lastUpdated"]
    refuted = has_code(then.get("verificationStatus"), canonicals.CONDITION_VERIFICATION, "refuted")
    mistake = has_code(now.get("verificationStatus"), canonicals.CONDITION_VERIFICATION, _ERROR)
    return since(at) < period.high and not refuted and not mistake


# Stays ------------------------------------------------------------------------------------------


def _stays(record: Record) -> list[Resource]:
    return [
        one.now
        for one in record["Encounter"]
        if is_inpatient(one.now)
        and status_of(one.now) not in (*UNDONE_STAY, "planned")
        and "start" in one.now.get("period", {})
    ]


def _admissions(tally: Tally, record: Record, period: Period, bounds: Pathway) -> None:
    stays = _stays(record)
    for stay in stays:
        began, ended = interval(stay["period"]["start"]).low, _left(stay)
        if ended is not None and period.holds(ended):
            tally.took("length-of-stay", began, ended)
        if not period.holds(began):
            continue
        tally.count("admissions")
        for days in (30, 90):
            again = any(0 <= began - one <= days * DAY for one in _homecomings(stays, stay))
            tally.share(f"readmissions-{days}", holds=again)
        reviewed = _is_reviewed(record, began, bounds.community_cetr_days)
        tally.share("admissions-without-cetr", holds=not reviewed)


def _left(stay: Resource) -> int | None:
    end = stay["period"].get("end")
    return interval(end).low if end else None


def _homecomings(stays: list[Resource], stay: Resource) -> Iterator[int]:
    """When other stays ended, but for those that another hospital went on from."""
    for other in stays:
        left = None if other is stay or left_for_hospital(other) else _left(other)
        if left is not None:
            yield left


def _is_reviewed(record: Record, began: int, days: int) -> bool:
    """Whether there was a review in the community so many days before, or on the day itself."""
    reviews = (one for one in record["Task"] if task_code(one.now) == "T-CETR-COMMUNITY")
    done = (at for one in reviews if (at := _done(one.now)) is not None)
    return any(0 <= (local_day(began) - local_day(at)).days <= days for at in done)


# Tasks ------------------------------------------------------------------------------------------


def _in_time(tally: Tally, record: Record, period: Period) -> None:
    """Of the Tasks that fell due: one that was dropped before that is not asked for any more."""
    for told in record["Task"]:
        code, due = task_code(told.then), _due(told.then)
        if code not in IN_TIME or due is None or not period.holds(due - 1):
            continue
        done = _done(told.now)
        if done is None and _is_dropped(told, due):
            continue
        tally.share(f"in-time-{code}", holds=done is not None and done < due)


def _is_dropped(told: Told, at: int) -> bool:
    if status_of(told.now) == _ERROR:
        return True
    return status_of(told.then) in _DROPPED and since(told.then.get("lastModified")) < at


def _overdue(tally: Tally, record: Record, period: Period) -> None:
    for told in record["Task"]:
        due = _due(told.then)
        asked = since(told.then.get("authoredOn")) < period.high
        if asked and due is not None and due <= period.high and _stood(told, period.high):
            tally.count("tasks-overdue", task=task_code(told.then) or "other")


def _stood(told: Told, at: int) -> bool:
    """Whether the Task was still to be done at that moment."""
    done = _done(told.now)
    if done is not None or status_of(told.now) == _ERROR:
        return done is not None and done >= at
    return is_open(told.then) or since(told.then.get("lastModified")) >= at


def _due(task: Resource) -> int | None:
    due = task.get("restriction", {}).get("period", {}).get("end")
    return interval(due).high if due else None


def _done(task: Resource) -> int | None:
    end = task.get("executionPeriod", {}).get("end") or task.get("lastModified")
    return interval(end).low if end and status_of(task) == "completed" else None


# Plans, Goals, Consents -------------------------------------------------------------------------


def _ready(tally: Tally, record: Record, period: Period) -> None:
    """Of those whose day was told only later, the reason is what is told now."""
    for told in record["CarePlan"]:
        plan = told.then if _ready_since(told.then) else told.now
        day = _ready_since(told.now)
        if not day or status_of(plan) in ("revoked", _ERROR) or status_of(told.now) == _ERROR:
            continue
        began, end = interval(day).low, told.now.get("period", {}).get("end")
        until = min(interval(end).low if end else period.high, period.high)
        if began < period.high and until > period.low:
            why = extension(plan, canonicals.DELAY_REASON_EXTENSION) or {}
            reason = code_in(why.get("valueCodeableConcept"), canonicals.DELAY_REASON)
            known = reason or "not-recorded"
            tally.count("clinically-ready", delay_reason=known)
            low = max(began, period.low)
            tally.took("days-clinically-ready", low, until, delay_reason=known)


def _ready_since(plan: Resource) -> str:
    found = extension(plan, canonicals.CLINICALLY_READY_EXTENSION) or {}
    return str(found.get("valueDate", ""))


def _goals(tally: Tally, record: Record, period: Period) -> None:
    for told in record["Goal"]:
        if since(told.now.get("startDate")) >= period.high:
            continue
        if status_or_lifecycle(told.now) != _ERROR:
            goal = told.now if _is_dated_before(told.now, period) else told.then
            achieved = code_in(goal.get("achievementStatus"), canonicals.GOAL_ACHIEVEMENT)
            tally.count("goals", achievement=achieved or "not-recorded")


def _is_dated_before(goal: Resource, period: Period) -> bool:
    """Whether the goal itself says that it has stood so since before the period ended."""
    return "statusDate" in goal and interval(goal["statusDate"]).low < period.high


def _consents(tally: Tally, record: Record, period: Period) -> None:
    for told in record["Consent"]:
        if since(told.now.get("dateTime")) < period.high and status_of(told.now) != _ERROR:
            tally.count("consents", status=status_of(told.then))


# The way from the referral to the plan ----------------------------------------------------------


def _ways(tally: Tally, record: Record, period: Period) -> None:
    """Days to each step that was reached in the period: from the referral, and from the one before.

    Both only where they were reached in this order.
    """
    referred = [since(one.now.get("authoredOn")) for one in record["ServiceRequest"]]
    first = min((at for at in referred if at > 0), default=None)
    if first is None:
        return
    # A step is often told by its day alone: it may be the day of the referral.
    day = midnight(local_day(first))
    before: tuple[str, int | None] = ("referral", None)
    for step, times in (
        ("consent", _consented(record)),
        ("allocation", _allocated(record)),
        ("first-visit", _visited(record)),
        ("plan", _planned(record)),
    ):
        reached = min((max(at, first) for at in times if at >= day), default=None)
        if reached is not None and period.holds(reached):
            tally.took(f"referral-to-{step}", first, reached)
            name, at = before
            if at is not None and at <= reached:
                tally.took(f"{name}-to-{step}", at, reached)
        before = step, reached


def _consented(record: Record) -> Iterator[int]:
    for one in record["Consent"]:
        keyworking = has_code(one.now.get("category"), canonicals.CONSENT_CATEGORY, "keyworking")
        if keyworking and status_of(one.now) in ("active", "inactive"):
            yield since(one.now.get("dateTime"))


def _allocated(record: Record) -> Iterator[int]:
    for one in record["EpisodeOfCare"]:
        for step in one.now.get("statusHistory", ()):
            if step.get("status") == "active":
                yield since(step.get("period", {}).get("start"))


def _visited(record: Record) -> Iterator[int]:
    for one in record["Task"]:
        if task_code(one.now) == "first-visit" and (done := _done(one.now)) is not None:
            yield done


def _planned(record: Record) -> Iterator[int]:
    for one in record["CarePlan"]:
        plan = one.now
        is_own = has_code(plan.get("category"), canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")
        if is_own and status_of(plan) not in ("draft", _ERROR):
            yield since(plan.get("period", {}).get("start"))
