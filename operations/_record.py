"""What the records say of one young person at one moment, for functions that ask nothing more.

A `Record` is read once; what ought to be done is made from it alone, so that it does not matter
which event came first, or how often.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.pathway import Numbers
from fhir_server.operation.records import Records, reference_to
from fhir_server.search.ast import And, Node, ReferenceTo, TokenIs, disjunction
from operations._calendar import MICROSECONDS, birthday
from operations._leaving import death_of, died, left_for_hospital
from operations._person import (
    CLOCKS_DIFFER,
    OPEN_STAY,
    OPEN_TASK,
    Person,
    any_of,
    begun,
    code_in,
    colour_of,
    covers,
    extension,
    has_code,
    is_inpatient,
    local_day,
    local_name,
    since,
    status_of,
)
from operations._rating_flag import death_noted

_EARLIEST: Final = interval("1900").low
_LATEST: Final = interval("2200").low
"""Due dates that are reckoned from beyond these could leave the calendar."""
_INVOLVED: Final = ("planned", "waitlist", "active", "onhold")
_OF_THE_SERVICE: Final = disjunction(
    TokenIs("code", canonicals.TIMER, None), TokenIs("code", canonicals.TASK, None)
)
_MOST_TASKS: Final = 300
"""Of one young person that are looked at, when all that are open are among them."""
SELF_HARM: Final = (canonicals.SNOMED_CT, "401206008")
_OF_SELF_HARM: Final = TokenIs("code", *SELF_HARM)
_REVIEWS: Final = ("T-CETR-COMMUNITY", "T-CETR-POSTADM", "T-CETR-REPEAT")
_DECISIVE: Final = any_of(
    "code",
    *(*_REVIEWS, "T-OVERSIGHT-VISIT", "T-CONSENT-RECHECK", "T-RETENTION", "bereavement"),
    *("T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN"),
)
"""Tasks of which it matters later that they were completed, and when."""


@dataclass(frozen=True)
class Record:
    """Current resources about one young person, of which those are left out that cannot matter."""

    patient: Resource
    now: int
    """Microseconds since the epoch."""
    numbers: Numbers
    flags: Collection[Resource] = ()
    encounters: Collection[Resource] = ()
    consents: Collection[Resource] = ()
    episodes: Collection[Resource] = ()
    requests: Collection[Resource] = ()
    plans: Collection[Resource] = ()
    has_plan: bool = False
    """Whether a keyworking plan is open; looked for where somebody has come home from a stay."""
    tasks: Collection[Resource] = ()
    conditions: Collection[Resource] = ()
    teams: Collection[Resource] = ()
    answers: Resource | None = None
    """The newest to the risk questions."""
    news: Mapping[str, int] = field(default_factory=dict)
    """Ids of stays that somebody tells of just now, and when what they tell of happened."""

    @property
    def reference(self) -> str:
        return reference_to(self.patient)

    @cached_property
    def today(self) -> date:
        return local_day(self.now)

    # Who ------------------------------------------------------------------------------------

    @cached_property
    def died_at(self) -> int | None:
        """When, by whoever tells of it first, however long ago; None of those who live."""
        noted = death_noted(self.flags, self.now)
        stays = filter(self._is_stay, self.encounters)
        return death_of(self.patient, stays, self.now, noted)

    @property
    def dead(self) -> bool:
        return self.died_at is not None

    def birthday(self, months: int) -> date | None:
        """None where the date of birth is not known to the day; one that is to come is none."""
        text = str(self.patient.get("birthDate", ""))
        born = date.fromisoformat(text) if len(text) == len("2010-05-14") else date.max
        return birthday(born, months) if born <= self.today else None

    def is_adult(self, on: date) -> bool:
        reached = self.birthday(18 * 12)
        return reached is not None and reached <= on

    @cached_property
    def episode(self) -> Resource | None:
        """The keyworking involvement that is going on, the newest if there are several."""
        going = [one for one in self.involvements if status_of(one) in _INVOLVED]
        return max(going, key=begun, default=None)

    @property
    def involvements(self) -> list[Resource]:
        return [
            one
            for one in self.episodes
            if has_code(one.get("type"), canonicals.EPISODE_TYPE, "keyworking")
        ]

    @cached_property
    def state(self) -> str:
        """Of the pathway; '' where there is no involvement."""
        found = extension(self.episode or {}, canonicals.PATHWAY_STATE_EXTENSION) or {}
        return str(found.get("valueCode", ""))

    @cached_property
    def rating(self) -> Resource | None:
        active = [flag for flag in self.flags if status_of(flag) == "active"]
        return max(active, key=begun, default=None)

    @property
    def colour(self) -> str | None:
        return None if self.rating is None else colour_of(self.rating)

    def consents_to(self, category: str) -> list[Resource]:
        return [
            one
            for one in self.consents
            if has_code(one.get("category"), canonicals.CONSENT_CATEGORY, category)
        ]

    def consented(self, category: str) -> bool:
        """Whether active consents permit at this moment, and none denies."""
        types = {
            one.get("provision", {}).get("type", "permit")
            for one in self.consents_to(category)
            if status_of(one) == "active"
            and covers(one.get("provision", {}).get("period"), self.now)
        }
        return types == {"permit"}

    def is_after_death(self, stay: Resource) -> bool:
        """Whether it would have begun after a death: one of the two was told in error."""
        return self.died_at is not None and self.admitted(stay) > self.died_at

    # In hospital ----------------------------------------------------------------------------

    @cached_property
    def stays(self) -> list[Resource]:
        """Stays in hospital that have begun: by class, by news, or because something hangs on one.

        Those of long ago are left out where nothing was made of them: they are records.
        """
        return [one for one in self.encounters if self._is_stay(one) and self._counts(one)]

    def _is_stay(self, encounter: Resource) -> bool:
        return (
            is_inpatient(encounter)
            or encounter["id"] in self.news
            or reference_to(encounter) in self._planned_for
        )

    def _counts(self, stay: Resource) -> bool:
        if status_of(stay) in OPEN_STAY:
            return _EARLIEST <= self.admitted(stay) <= self.now + CLOCKS_DIFFER
        if status_of(stay) != "finished":
            return False
        left = self.left(stay)
        if not _EARLIEST <= left <= self.now + CLOCKS_DIFFER:
            return False
        held = timedelta(days=self.numbers.red_hold_days) // MICROSECONDS
        return left >= self.now - held or stay["id"] in self.news or self._is_followed(stay)

    def _is_followed(self, stay: Resource) -> bool:
        """Whether something was made of it when it was news."""
        return reference_to(stay) in self._planned_for | self._worked_at

    @cached_property
    def _planned_for(self) -> set[str]:
        return {local_name(plan.get("encounter")) for plan in self.plans}

    @cached_property
    def _worked_at(self) -> set[str]:
        return {local_name(task.get("focus")) for task in self.tasks}

    def admitted(self, stay: Resource) -> int:
        """When; as it was told or now, where the stay does not say."""
        start = stay.get("period", {}).get("start")
        return since(start) if start else self.news.get(stay["id"], self.now)

    def left(self, stay: Resource) -> int:
        """When a stay that is over ended, never before it began."""
        period = stay.get("period", {})
        end = period.get("end")
        at = since(end) if end else self.news.get(stay["id"], self.now)
        return max(at, since(period.get("start")))

    @cached_property
    def open_stays(self) -> list[Resource]:
        return [stay for stay in self.stays if status_of(stay) in OPEN_STAY]

    @cached_property
    def home_since(self) -> int:
        """When somebody last came home from hospital; long ago where that never was."""
        return max(
            (self.left(stay) for stay in self.stays if self.went_home(stay)), default=-(2**62)
        )

    def went_home(self, stay: Resource) -> bool:
        """Whether no stay that began meanwhile has the young person in hospital after this one.

        One that began before, and whose end nobody told, does not: somebody saw them come home.
        """
        if not is_over(stay) or left_for_hospital(stay) or died(stay):
            return False
        others = (other for other in self.stays if other["id"] != stay["id"])
        return not any(self._goes_on_from(stay, other) for other in others)

    def _goes_on_from(self, stay: Resource, other: Resource) -> bool:
        end = self.left(stay)
        if is_over(other):
            return self.admitted(other) < end < self.left(other)
        return self.admitted(stay) <= self.admitted(other) < end

    @cached_property
    def in_hospital(self) -> bool:
        """In one now, or on the way from one to another."""
        if self.open_stays:
            return True
        moved = [
            self.left(stay) for stay in self.stays if left_for_hospital(stay) and is_over(stay)
        ]
        return max(moved, default=-(2**62)) > self.home_since

    @cached_property
    def current_stays(self) -> list[Resource]:
        """Those that the young person has not come home from."""
        if not self.in_hospital:
            return []
        home = self.home_since
        return [stay for stay in self.stays if not is_over(stay) or self.left(stay) > home]

    # Tasks ----------------------------------------------------------------------------------

    def task(self, task_id: str) -> Resource | None:
        return self._tasks_by_id.get(task_id)

    @cached_property
    def _tasks_by_id(self) -> dict[str, Resource]:
        return {task["id"]: task for task in self.tasks}

    def tasks_of(self, code: str) -> Sequence[Resource]:
        """Whatever has become of them."""
        return self._tasks_by_code.get(code, ())

    @cached_property
    def _tasks_by_code(self) -> dict[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for task in self.tasks:
            found.setdefault(task_code(task) or "", []).append(task)
        return found

    def done(self, *codes: str) -> list[tuple[int, Resource]]:
        """Completed tasks of these codes and when they were, the last one at the end."""
        found = [
            (since(when), task)
            for code in codes
            for task in self.tasks_of(code)
            if status_of(task) == "completed"
            and (when := task.get("executionPeriod", {}).get("end") or task.get("lastModified"))
        ]
        return sorted(found, key=lambda one: (one[0], one[1]["id"]))

    def last_review(self, low: int, high: int, *codes: str) -> tuple[int, Resource] | None:
        """The last completed review in `[low, high)`.

        A meeting under the local area emergency protocol is none, and has a code of its own.
        """
        found = [one for one in self.done(*(codes or _REVIEWS)) if low <= one[0] < high]
        return found[-1] if found else None


def is_over(stay: Resource) -> bool:
    return status_of(stay) == "finished"


def day_of(text: str | None) -> date | None:
    """The day on which it begins; None where none is told that one can reckon from."""
    if not text:
        return None
    low = since(text)
    return local_day(low) if _EARLIEST <= low <= _LATEST else None


def end_of(text: str) -> int:
    """When a due date is over: a day ends at midnight."""
    return interval(text).high


def due_of(task: Resource) -> str | None:
    found: str | None = task.get("restriction", {}).get("period", {}).get("end")
    return found


def task_code(task: Resource) -> str | None:
    concept = task.get("code")
    return code_in(concept, canonicals.TIMER) or code_in(concept, canonicals.TASK)


def is_open(task: Resource) -> bool:
    return status_of(task) in OPEN_TASK


async def record_of(
    records: Records, patient_id: str, now: int, numbers: Numbers, news: Mapping[str, int]
) -> Record | None:
    """As the commit has it by now, and as much of it as can matter; None without such a patient."""
    patient = await records.get("Patient", patient_id)
    if patient is None:
        return None
    person, name = Person(records, patient, now), reference_to(patient)
    plans, tasks = await person.latest_discharge_plans(), await _tasks(records, person)
    encounters = await _encounters(person, [*plans, *tasks], news)
    came_home = any(map(is_over, encounters))
    return Record(
        patient,
        now,
        numbers,
        flags=await person.ratings(),
        encounters=encounters,
        consents=await records.about("Consent", name),
        episodes=await records.about("EpisodeOfCare", name),
        requests=await records.about("ServiceRequest", name, any_of("status", "active")),
        plans=plans,
        has_plan=came_home and await person.has_keyworking_plan(),
        tasks=tasks,
        conditions=await records.about("Condition", name, _OF_SELF_HARM),
        teams=await records.about("CareTeam", name, any_of("status", "active")),
        answers=await person.answers(),
        news=news,
    )


def with_tasks(record: Record, written: Collection[Resource]) -> Record:
    """The record once these Tasks were written, and nothing else."""
    if not written:
        return record
    tasks = {task["id"]: task for task in (*record.tasks, *written)}
    return replace(record, tasks=[*tasks.values()])


async def _tasks(records: Records, person: Person) -> list[Resource]:
    """All that are open, and of the others those that were written last or that decide more."""
    asked = ("Task", person.reference, _OF_THE_SERVICE)
    found = await records.about(*asked, latest=_MOST_TASKS)
    if len(found) < _MOST_TASKS:
        return found
    still = await records.about(*asked, any_of("status", *OPEN_TASK))
    decided = await records.about(*asked, await _decides(person), latest=_MOST_TASKS)
    return [*{task["id"]: task for task in (*found, *decided, *still)}.values()]


async def _decides(person: Person) -> Node:
    """Whether a Task that is over may be asked for: of reviews, or about what goes on now."""
    going_on = [*await person.latest_inpatient(), *await person.active_ratings()]
    focus = ReferenceTo("focus", tuple(map(reference_to, going_on)))
    return disjunction(And((_DECISIVE, any_of("status", "completed"))), focus)


async def _encounters(
    person: Person, others: Collection[Resource], news: Collection[str]
) -> list[Resource]:
    """Those of an inpatient class, and whatever else plans, tasks that are open and news name."""
    found = await person.latest_inpatient()
    known = set(map(reference_to, found))
    named = [f"Encounter/{one}" for one in news]
    for one in others:
        is_task = one["resourceType"] == "Task"
        if not is_task or is_open(one):
            named.append(local_name(one.get("focus" if is_task else "encounter")))
    for name in dict.fromkeys(named):
        if name.startswith("Encounter/") and name not in known:
            found += await person.encounter_named(name)
    return found


def patient_in(resource: Resource) -> str:
    """The id of the young person whom it is about; '' where it is nobody's who is known."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    element = resource.get("subject") or resource.get("patient") or resource.get("for") or {}
    local = parse_relative(element.get("reference", ""))
    return local.id if local is not None and local.type == "Patient" else ""
