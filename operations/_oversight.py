"""What one young person's record adds to the measures of oversight: pure, by event time.

Shapes: a record is the resources about one young person, by type. A period is half open, in
microseconds since the epoch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from operations._calendar import midnight
from operations._chronicle import status_or_lifecycle
from operations._person import (
    INPATIENT_CLASSES,
    UNDONE_STAY,
    code_in,
    colour_of,
    extension,
    has_code,
    is_rating,
    local_day,
    since,
    status_of,
)
from operations._record import is_open, task_code

TYPES: Final = (
    *("EpisodeOfCare", "Flag", "Encounter", "Task", "Goal", "Consent", "CarePlan"),
    *("Condition", "ServiceRequest"),
)
IN_TIME: Final = (
    *("T-CETR-POSTADM", "T-CETR-REPEAT", "T-OVERSIGHT-VISIT", "T-CAREPLAN-SHARE"),
    *("T-FU-48", "T-FU-72", "T-FU-7D"),
)
DAY: Final = 86_400_000_000
_ETHNICITY: Final = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory"
Record = Mapping[str, Sequence[Resource]]


@dataclass(frozen=True, slots=True)
class Period:
    low: int
    high: int

    def holds(self, at: int) -> bool:
        return self.low <= at < self.high


@dataclass(slots=True)
class Tally:
    """Counts of people and events, never who they are."""

    counts: dict[str, int] = field(default_factory=dict)
    parts: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """Of a measure, by one of its stratifiers: how many in each stratum."""
    shares: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Those for whom it holds, and all."""
    days: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Days together, and of how many."""
    keyworkers: dict[str, int] = field(default_factory=dict)

    def count(self, measure: str, **strata: str) -> None:
        self.counts[measure] = self.counts.get(measure, 0) + 1
        for name, stratum in strata.items():
            found = self.parts.setdefault((measure, name.replace("_", "-")), {})
            found[stratum] = found.get(stratum, 0) + 1

    def share(self, measure: str, *, holds: bool) -> None:
        part, whole = self.shares.get(measure, (0, 0))
        self.shares[measure] = (part + holds, whole + 1)

    def took(self, measure: str, low: int, high: int) -> None:
        total, count = self.days.get(measure, (0.0, 0))
        self.days[measure] = (total + (high - low) / DAY, count + 1)


def add(tally: Tally, patient: Resource, record: Record, period: Period, bounds: Pathway) -> None:
    """What this young person's record adds."""
    _episodes(tally, patient, record, period)
    _admissions(tally, record, period, bounds)
    _in_time(tally, record, period)
    _ready(tally, record, period)
    _ways(tally, record, period)
    for goal in record["Goal"]:
        if since(goal.get("startDate")) < period.high and status_or_lifecycle(goal) != _ERROR:
            achieved = code_in(goal.get("achievementStatus"), canonicals.GOAL_ACHIEVEMENT)
            tally.count("goals", achievement=achieved or "not-recorded")
    for consent in record["Consent"]:
        if since(consent.get("dateTime")) < period.high and status_of(consent) != _ERROR:
            tally.count("consents", status=status_of(consent))
    for task in record["Task"]:
        due = _due(task)
        if is_open(task) and due is not None and due <= period.high:
            tally.count("tasks-overdue", task=task_code(task) or "other")


_ERROR: Final = "entered-in-error"


def _episodes(tally: Tally, patient: Resource, record: Record, period: Period) -> None:
    for episode in record["EpisodeOfCare"]:
        if not _is_open_at_end(episode, period):
            continue
        state = extension(episode, canonicals.PATHWAY_STATE_EXTENSION) or {}
        tally.count(
            "episodes",
            state=str(state.get("valueCode", "unknown")),
            rating=_colour(record, period),
            age_band=_band(patient, period),
            sex=str(patient.get("gender", "unknown")),
            ethnicity=_ethnicity(patient),
            need=_need(record),
            area=str(patient.get("managingOrganization", {}).get("reference", "unknown")),
        )
        if manager := episode.get("careManager", {}).get("reference"):
            tally.keyworkers[manager] = tally.keyworkers.get(manager, 0) + 1


def _is_open_at_end(episode: Resource, period: Period) -> bool:
    ran = episode.get("period", {})
    return (
        has_code(episode.get("type"), canonicals.EPISODE_TYPE, "keyworking")
        and status_of(episode) not in ("cancelled", _ERROR)
        and since(ran.get("start")) < period.high
        and ("end" not in ran or interval(ran["end"]).low >= period.high)
    )


def _colour(record: Record, period: Period) -> str:
    """Of the rating that held when the period ended."""
    held = [
        flag
        for flag in record["Flag"]
        if is_rating(flag)
        and status_of(flag) != _ERROR
        and since(flag.get("period", {}).get("start")) < period.high
        and (
            "end" not in flag.get("period", {})
            or interval(flag["period"]["end"]).low >= period.high
        )
    ]
    newest = max(held, key=lambda flag: since(flag.get("period", {}).get("start")), default=None)
    return str(colour_of(newest)) if newest else "none"


def _band(patient: Resource, period: Period) -> str:
    born = patient.get("birthDate")
    if not born:
        return "unknown"
    years = (period.high - interval(born).low) / DAY / 365.2425
    for limit, name in ((11, "0-10"), (14, "11-13"), (18, "14-17"), (26, "18-25")):
        if years < limit:
            return name
    return "26-and-above"


def _ethnicity(patient: Resource) -> str:
    coding = (extension(patient, _ETHNICITY) or {}).get("valueCodeableConcept", {}).get("coding")
    return str(coding[0].get("code", "unknown")) if coding else "unknown"


def _need(record: Record) -> str:
    """Parts that do not overlap, so that they add up."""
    texts = " ".join(str(one.get("code", {})).lower() for one in record["Condition"])
    autism, disability = "autis" in texts, "learning disab" in texts
    if autism and disability:
        return "both"
    return "autism" if autism else "learning-disability" if disability else "not-recorded"


def _stays(record: Record) -> list[Resource]:
    found = (
        one
        for one in record["Encounter"]
        if one.get("class", {}).get("code") in INPATIENT_CLASSES
        and status_of(one) not in (*UNDONE_STAY, "planned")
        and "start" in one.get("period", {})
    )
    return sorted(found, key=lambda one: interval(one["period"]["start"]).low)


def _admissions(tally: Tally, record: Record, period: Period, bounds: Pathway) -> None:
    stays = _stays(record)
    for stay in stays:
        began = interval(stay["period"]["start"]).low
        ended = stay["period"].get("end")
        if ended and period.holds(interval(ended).low):
            tally.took("length-of-stay", began, interval(ended).low)
        if not period.holds(began):
            continue
        tally.count("admissions")
        left = [interval(one["period"]["end"]).low for one in stays if "end" in one["period"]]
        for days in (30, 90):
            again = any(0 <= began - one <= days * DAY for one in left)
            tally.share(f"readmissions-{days}", holds=again)
        reviewed = any(
            0 <= began - done <= bounds.community_cetr_days * DAY
            for task in record["Task"]
            if task_code(task) == "T-CETR-COMMUNITY" and (done := _done(task)) is not None
        )
        tally.share("admissions-without-cetr", holds=not reviewed)


def _in_time(tally: Tally, record: Record, period: Period) -> None:
    for task in record["Task"]:
        code, due = task_code(task), _due(task)
        if code not in IN_TIME or due is None or not period.holds(due - 1):
            continue
        if status_of(task) in ("cancelled", _ERROR, "rejected"):
            continue
        done = _done(task)
        tally.share(f"in-time-{code}", holds=done is not None and done < due)


def _ready(tally: Tally, record: Record, period: Period) -> None:
    for plan in record["CarePlan"]:
        day = (extension(plan, canonicals.CLINICALLY_READY_EXTENSION) or {}).get("valueDate")
        if not day or status_of(plan) in ("revoked", _ERROR):
            continue
        began, end = interval(day).low, plan.get("period", {}).get("end")
        until = min(interval(end).low if end else period.high, period.high)
        if began < period.high and until > period.low:
            why = (extension(plan, canonicals.DELAY_REASON_EXTENSION) or {}).get(
                "valueCodeableConcept"
            )
            reason = code_in(why, canonicals.DELAY_REASON) or "not-recorded"
            tally.count("clinically-ready", delay_reason=reason)
            tally.took("days-clinically-ready", max(began, period.low), until)


def _ways(tally: Tally, record: Record, period: Period) -> None:
    """Days from the referral to each step that was reached in the period."""
    referred = [since(one.get("authoredOn")) for one in record["ServiceRequest"]]
    first = min((at for at in referred if at > 0), default=None)
    if first is None:
        return
    # A step is often told by its day alone: it may be the day of the referral.
    day = midnight(local_day(first))
    for measure, steps in (
        ("referral-to-consent", _consents(record)),
        ("referral-to-allocation", _allocations(record)),
        ("referral-to-first-visit", _visits(record)),
        ("referral-to-plan", _plans(record)),
    ):
        reached = min((max(at, first) for at in steps if at >= day), default=None)
        if reached is not None and period.holds(reached):
            tally.took(measure, first, reached)


def _consents(record: Record) -> Iterator[int]:
    for one in record["Consent"]:
        keyworking = has_code(one.get("category"), canonicals.CONSENT_CATEGORY, "keyworking")
        if keyworking and status_of(one) in ("active", "inactive"):
            yield since(one.get("dateTime"))


def _allocations(record: Record) -> Iterator[int]:
    for one in record["EpisodeOfCare"]:
        for step in one.get("statusHistory", ()):
            if step.get("status") == "active":
                yield since(step.get("period", {}).get("start"))


def _visits(record: Record) -> Iterator[int]:
    for task in record["Task"]:
        if task_code(task) == "first-visit" and (done := _done(task)) is not None:
            yield done


def _plans(record: Record) -> Iterator[int]:
    for plan in record["CarePlan"]:
        if has_code(plan.get("category"), canonicals.CARE_PLAN_CATEGORY, "keyworking-plan"):
            yield since(plan.get("period", {}).get("start"))


def _due(task: Resource) -> int | None:
    due = task.get("restriction", {}).get("period", {}).get("end")
    return interval(due).high if due else None


def _done(task: Resource) -> int | None:
    end = task.get("executionPeriod", {}).get("end") or task.get("lastModified")
    return interval(end).low if end and status_of(task) == "completed" else None
