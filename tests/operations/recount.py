"""The measures of oversight counted again: slowly, from the raw histories, by plain reading.

It shares nothing with the operation. A resource is the list of its versions, the oldest first.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.fhir import canonicals
from tests.operations.messages import JSON

LONDON: Final = ZoneInfo("Europe/London")
UK_CORE: Final = "https://fhir.hl7.org.uk"
Versions = Sequence[JSON]
Raw = Mapping[str, Sequence[Versions]]
Strata = dict[str, Counter[str]]
KEYWORKING: Final = (canonicals.EPISODE_TYPE, "keyworking")
_TRANSFERS: Final = ("49", "50", "53", "84", "87")
_TIMERS: Final = (
    *("T-CETR-POSTADM", "T-CETR-REPEAT", "T-OVERSIGHT-VISIT", "T-CAREPLAN-SHARE"),
    *("T-FU-48", "T-FU-72", "T-FU-7D"),
)
_BANDS: Final = {"0-10": range(11), "11-13": range(11, 14), "14-17": range(14, 18)}


def begin(text: str) -> datetime:
    if "T" in text:
        return datetime.fromisoformat(text)
    return datetime.combine(datetime.fromisoformat(text), time(), LONDON)


def over(text: str) -> datetime:
    """When what is due then is overdue."""
    return begin(text) if "T" in text else begin(text[:10]) + timedelta(days=1)


def coded(concepts: Any, system: str) -> list[str]:
    found = concepts if isinstance(concepts, list) else [concepts or {}]
    return [
        one["code"] for each in found for one in each.get("coding", ()) if one["system"] == system
    ]


def extended(resource: JSON, url: str) -> Any:
    found = [one for one in resource.get("extension", ()) if one["url"] == url]
    return next((value for one in found for name, value in one.items() if name != "url"), None)


class Recount:
    """Of what happened from `low` until before `high`."""

    def __init__(self, raw: Raw, low: datetime, high: datetime) -> None:
        self.raw, self.low, self.high = raw, low, high

    def all(self, kind: str) -> list[JSON]:
        return [versions[-1] for versions in self.raw[kind]]

    def pairs(self, kind: str) -> list[tuple[JSON, JSON]]:
        """Each as it is now, and as it was when the period ended."""
        return [(versions[-1], self._then(versions)) for versions in self.raw[kind]]

    def _then(self, versions: Versions) -> JSON:
        held = [one for one in versions if begin(one["meta"]["lastUpdated"]) < self.high]
        return (held or versions[:1])[-1]

    def within(self, moment: datetime) -> bool:
        return self.low <= moment < self.high

    # Counts -------------------------------------------------------------------------------------

    def episodes(self) -> Strata:
        found = [
            (self._patient(now["patient"]), then)
            for now, then in self.pairs("EpisodeOfCare")
            if now["status"] not in ("cancelled", "entered-in-error") and self._runs(now)
        ]
        state = canonicals.PATHWAY_STATE_EXTENSION
        return {
            "state": Counter(extended(then, state) for _, then in found),
            "rating": Counter(self._colour(patient) for patient, _ in found),
            "sex": Counter(patient.get("gender", "unknown") for patient, _ in found),
            "age-band": Counter(self._band(patient) for patient, _ in found),
            "need": Counter(self._need(patient) for patient, _ in found),
            "area": Counter(
                patient.get("managingOrganization", {}).get("reference", "unknown")
                for patient, _ in found
            ),
            "ethnicity": Counter(self._ethnicity(patient) for patient, _ in found),
        }

    def caseloads(self) -> Strata:
        managers = Counter(
            then["careManager"]["reference"]
            for now, then in self.pairs("EpisodeOfCare")
            if self._runs(now) and "careManager" in then
        )
        loads = Counter(
            "red" if n > 15 else "amber" if n > 12 else "green" for n in managers.values()
        )
        return {"load": loads}

    def goals(self) -> Strata:
        found = []
        for now, then in self.pairs("Goal"):
            dated = "statusDate" in now and begin(now["statusDate"]) < self.high
            if "startDate" not in now or begin(now["startDate"]) < self.high:
                concept = (now if dated else then).get("achievementStatus")
                found += coded(concept, canonicals.GOAL_ACHIEVEMENT)[:1] or ["not-recorded"]
        return {"achievement": Counter(found)}

    def consents(self) -> Strata:
        told = [
            then
            for now, then in self.pairs("Consent")
            if now["status"] != "entered-in-error" and begin(now["dateTime"]) < self.high
        ]
        return {"status": Counter(one["status"] for one in told)}

    def tasks_overdue(self) -> Strata:
        found = []
        for now, then in self.pairs("Task"):
            due = then.get("restriction", {}).get("period", {}).get("end")
            if due and begin(then["authoredOn"]) < self.high and over(due) <= self.high:
                done = self._done(now)
                closed = then["status"] in ("cancelled", "rejected", "completed", "failed")
                stands = not closed or begin(then.get("lastModified", "1900-01-01")) >= self.high
                if done >= self.high if done else stands:
                    found.append(self._code(then))
        return {"task": Counter(found)}

    def clinically_ready(self) -> Strata:
        return {"delay-reason": Counter(reason for reason, _ in self._ready())}

    def admissions(self) -> int:
        return len(self._admissions())

    def admissions_avoided(self) -> int:
        url = canonicals.ADMISSION_AVOIDED_EXTENSION
        given = [one for one in self.all("Flag") if extended(one, url) is True]
        ended = [
            one
            for one in self.all("Flag")
            if extended(extended(one, canonicals.RATING_END_REASON_EXTENSION) or {}, url) is True
        ]
        starts = [begin(flag["period"]["start"]) for flag in given]
        return sum(map(self.within, (*starts, *(begin(one["period"]["end"]) for one in ended))))

    # Shares: those for whom it holds, and all ---------------------------------------------------

    def readmissions(self, days: int) -> tuple[int, int]:
        again = []
        for stay in self._admissions():
            began = begin(stay["period"]["start"])
            ends = [
                begin(other["period"]["end"])
                for other in self._stays()
                if other["subject"] == stay["subject"]
                and other["id"] != stay["id"]
                and "end" in other["period"]
                and not self._moved_on(other)
            ]
            again.append(any(timedelta() <= began - end <= timedelta(days) for end in ends))
        return sum(again), len(again)

    def without_cetr(self) -> tuple[int, int]:
        missing = []
        for stay in self._admissions():
            day = begin(stay["period"]["start"]).astimezone(LONDON).date()
            reviews = [
                done.astimezone(LONDON).date()
                for task in self.all("Task")
                if self._code(task) == "T-CETR-COMMUNITY" and task["for"] == stay["subject"]
                if (done := self._done(task))
            ]
            missing.append(not any(0 <= (day - one).days <= 90 for one in reviews))
        return sum(missing), len(missing)

    def in_time(self, code: str) -> tuple[int, int]:
        found = []
        for now, then in self.pairs("Task"):
            if self._code(then) != code:
                continue
            due = over(then["restriction"]["period"]["end"])
            done = self._done(now)
            dropped = then["status"] == "cancelled" and (
                "lastModified" not in then or begin(then["lastModified"]) < due
            )
            if self.low < due <= self.high and (done or not dropped):
                found.append(done is not None and done < due)
        return sum(found), len(found)

    # Days ---------------------------------------------------------------------------------------

    def lengths_of_stay(self) -> list[timedelta]:
        periods = [stay["period"] for stay in self._stays() if "end" in stay["period"]]
        return [
            begin(one["end"]) - begin(one["start"])
            for one in periods
            if self.within(begin(one["end"]))
        ]

    def days_ready(self) -> list[timedelta]:
        return [days for _, days in self._ready()]

    def days_to(self, before: str, step: str) -> list[timedelta]:
        found = []
        for patient in self.all("Patient"):
            times = self._steps(patient)
            if "referral" in times and before in times and step in times:
                reached = times[step]
                if self.within(reached) and times[before] <= reached:
                    found.append(reached - times[before])
        return found

    # What is counted ----------------------------------------------------------------------------

    def _patient(self, reference: JSON) -> JSON:
        """As when the period ended."""
        return next(
            then
            for _, then in self.pairs("Patient")
            if reference["reference"] == f"Patient/{then['id']}"
        )

    def _ethnicity(self, patient: JSON) -> str:
        told = extended(patient, f"{UK_CORE}/StructureDefinition/Extension-UKCore-EthnicCategory")
        return [*coded(told, f"{UK_CORE}/CodeSystem/UKCore-EthnicCategoryEngland"), "unknown"][0]

    def _runs(self, resource: JSON) -> bool:
        period = resource["period"]
        return begin(period["start"]) < self.high and not (
            "end" in period and begin(period["end"]) < self.high
        )

    def _colour(self, patient: JSON) -> str:
        held = [
            flag
            for flag in self._of(patient, "Flag", "subject")
            if coded(flag["code"], canonicals.DSR_RATING) and self._runs(flag)
        ]
        newest = sorted(held, key=lambda flag: begin(flag["period"]["start"]))[-1:]
        return next((coded(one["code"], canonicals.DSR_RATING)[0] for one in newest), "none")

    def _band(self, patient: JSON) -> str:
        born = begin(patient["birthDate"]).date()
        day = (self.high - timedelta(microseconds=1)).astimezone(LONDON).date()
        age = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
        return next((name for name, ages in _BANDS.items() if age in ages), "18-25")

    def _need(self, patient: JSON) -> str:
        reference = {"reference": f"Patient/{patient['id']}"}
        told = str(
            [
                then["code"]
                for now, then in self.pairs("Condition")
                if then["subject"] == reference and self._is_known(now, then)
            ]
        ).lower()
        return {
            (True, True): "both",
            (True, False): "autism",
            (False, True): "learning-disability",
            (False, False): "not-recorded",
        }["autis" in told, "learning disab" in told]

    def _is_known(self, now: JSON, then: JSON) -> bool:
        verified = canonicals.CONDITION_VERIFICATION
        wrong = "refuted" in coded(then.get("verificationStatus"), verified)
        meant = "entered-in-error" not in coded(now.get("verificationStatus"), verified)
        return begin(then["recordedDate"]) < self.high and meant and not wrong

    def _of(self, patient: JSON, kind: str, element: str) -> list[JSON]:
        reference = f"Patient/{patient['id']}"
        return [one for one in self.all(kind) if one.get(element, {}).get("reference") == reference]

    def _stays(self) -> list[JSON]:
        done = ("in-progress", "finished", "onleave", "arrived")
        inpatient = [one for one in self.all("Encounter") if one["class"]["code"] == "IMP"]
        return [one for one in inpatient if one["status"] in done]

    def _admissions(self) -> list[JSON]:
        return [stay for stay in self._stays() if self.within(begin(stay["period"]["start"]))]

    def _moved_on(self, stay: JSON) -> bool:
        where = stay.get("hospitalization", {}).get("dischargeDisposition")
        return any(code in _TRANSFERS for code in coded(where, canonicals.DISCHARGE_DESTINATION))

    def _code(self, task: JSON) -> str:
        told = task.get("code")
        return [*coded(told, canonicals.TIMER), *coded(told, canonicals.TASK), "other"][0]

    def _done(self, task: JSON) -> datetime | None:
        when = task.get("executionPeriod", {}).get("end") or task.get("lastModified")
        return begin(when) if when and task["status"] == "completed" else None

    def _ready(self) -> Iterator[tuple[str, timedelta]]:
        url = canonicals.CLINICALLY_READY_EXTENSION
        for now, then in self.pairs("CarePlan"):
            plan, day = then if extended(then, url) else now, extended(now, url)
            if not day or plan["status"] == "revoked":
                continue
            end = begin(now["period"]["end"]) if "end" in now["period"] else self.high
            low, high = max(begin(day), self.low), min(end, self.high)
            if begin(day) < self.high and high > self.low:
                why = extended(plan, canonicals.DELAY_REASON_EXTENSION)
                yield [*coded(why, canonicals.DELAY_REASON), "not-recorded"][0], high - low

    def _steps(self, patient: JSON) -> dict[str, datetime]:
        """When each was first reached after the first referral."""
        times: dict[str, list[str]] = {
            "referral": [x["authoredOn"] for x in self._of(patient, "ServiceRequest", "subject")],
            "consent": [
                one["dateTime"]
                for one in self._of(patient, "Consent", "patient")
                if "keyworking" in coded(one["category"], canonicals.CONSENT_CATEGORY)
                and one["status"] in ("active", "inactive")
            ],
            "allocation": [
                past["period"]["start"]
                for one in self._of(patient, "EpisodeOfCare", "patient")
                for past in one.get("statusHistory", ())
                if past["status"] == "active"
            ],
            "plan": [
                one["period"]["start"]
                for one in self._of(patient, "CarePlan", "subject")
                if "keyworking-plan" in coded(one["category"], canonicals.CARE_PLAN_CATEGORY)
                and one["status"] not in ("draft", "entered-in-error")
            ],
        }
        found = {name: [*map(begin, told)] for name, told in times.items()}
        visits = [t for t in self._of(patient, "Task", "for") if self._code(t) == "first-visit"]
        found["first-visit"] = [done for one in visits if (done := self._done(one))]
        first = min(found["referral"], default=None)
        if first is None:
            return {}
        day = datetime.combine(first.astimezone(LONDON), time(), LONDON)
        return {
            name: min(later)
            for name, told in found.items()
            if (later := [max(one, first) for one in told if one >= day])
        }


def recounted(recount: Recount) -> dict[str, Any]:
    """Each measure by its code: strata, a number, a share or days."""
    return {
        "episodes": recount.episodes(),
        "caseloads": recount.caseloads(),
        "goals": recount.goals(),
        "consents": recount.consents(),
        "tasks-overdue": recount.tasks_overdue(),
        "clinically-ready": recount.clinically_ready(),
        "admissions": recount.admissions(),
        "admissions-avoided": recount.admissions_avoided(),
        "readmissions-30": recount.readmissions(30),
        "readmissions-90": recount.readmissions(90),
        "admissions-without-cetr": recount.without_cetr(),
        **{f"in-time-{code}": recount.in_time(code) for code in _TIMERS},
        "length-of-stay": recount.lengths_of_stay(),
        "days-clinically-ready": recount.days_ready(),
        **{f"{before}-to-{step}": recount.days_to(before, step) for before, step in _WAYS},
    }


_WAYS: Final = (
    *(("referral", "consent"), ("referral", "allocation"), ("referral", "first-visit")),
    *(("referral", "plan"), ("consent", "allocation"), ("allocation", "first-visit")),
    ("first-visit", "plan"),
)
