"""What the records say of one young person, as the rules ask for it."""

from collections.abc import Collection, Iterator
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL, interval, moment
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Lookup, Records, reference_to
from fhir_server.search.ast import Missing, Node, Not, ReferenceTo, SortKey, TokenIs, disjunction

CLOCKS_DIFFER: Final = 3_600_000_000
"""How far ahead what has happened may lie, in microseconds."""
OPEN_STAY: Final = ("arrived", "triaged", "in-progress", "onleave")
UNDONE_STAY: Final = ("cancelled", "entered-in-error")
INPATIENT_CLASSES: Final = ("IMP", "ACUTE", "NONAC")
REACHED_16: Final = "ROLE_DEACTIVATED_END_DATE_REACHED"
"""The status reason of a parent's consent that the 16th birthday ended."""
_OPEN_PLAN: Final = ("draft", "active", "on-hold")
_INVOLVED: Final = ("planned", "waitlist", "active", "onhold")
OPEN_TASK: Final = (
    *("draft", "requested", "received", "accepted", "ready", "in-progress", "on-hold"),
)
COLOURS: Final = (canonicals.RED, canonicals.AMBER, canonicals.GREEN, canonicals.BLUE)


@cache
def any_of(parameter: str, *codes: str) -> Node:
    """The criterion that a token is one of these codes, of whichever system."""
    return disjunction(*(TokenIs(parameter, None, code) for code in codes))


IS_INPATIENT: Final = disjunction(
    any_of("class", *INPATIENT_CLASSES), TokenIs("type", canonicals.STAY_TYPE, "admitted")
)
"""By class, or because a message told of it as a stay (`is_inpatient`)."""
_IS_DISCHARGE_PLAN: Final = TokenIs("category", canonicals.CARE_PLAN_CATEGORY, "discharge-plan")
_MOST_STAYS: Final = 20
"""Of one young person that are looked at, when all that are open are among them."""
_MOST_PLANS: Final = 50
_BEGUN: Final = SortKey("date", "date", descending=True)
_IS_OF_RISK: Final = ReferenceTo("questionnaire", (canonicals.DSR_RISK_QUESTIONNAIRE,))


class Person:
    """Asks the records about one Patient, and for no more than what can matter.

    A long history, or one that somebody fills in error, makes no question dearer than it must.
    """

    def __init__(self, records: Lookup, patient: Resource, now: int) -> None:
        self._records = records
        self.patient = patient
        self.now = now
        self.reference = reference_to(patient)

    def age_at(self, at: int) -> int | None:
        """In whole years; None where no day of birth is known that has been by then."""
        born = self.patient.get("birthDate", "")
        if len(born) != len("2010-05-14"):
            return None
        birthday, day = date.fromisoformat(born), local_day(at)
        if birthday > day:
            return None
        return day.year - birthday.year - ((day.month, day.day) < (birthday.month, birthday.day))

    @property
    def has_died(self) -> bool:
        return bool(self.patient.get("deceasedDateTime") or self.patient.get("deceasedBoolean"))

    async def stays(self) -> list[Resource]:
        """Encounters that are a stay in hospital: by class, or because a plan hangs on them.

        Of very many, those that may decide something.
        """
        found = await self.latest_inpatient()
        known = set(map(reference_to, found))
        for plan in await self.latest_discharge_plans():
            name = local_name(plan.get("encounter"))
            if name.startswith("Encounter/") and name not in known:
                known.add(name)
                found += await self.encounter_named(name)
        return found

    async def latest_inpatient(self) -> list[Resource]:
        """Encounters of patients in bed: all that are open, and of the others the last."""
        asked = ("Encounter", self.reference, IS_INPATIENT)
        found = await self._records.about(*asked, latest=_MOST_STAYS, by=_BEGUN)
        if len(found) < _MOST_STAYS:
            return found
        known, is_open = {one["id"] for one in found}, any_of("status", *OPEN_STAY)
        going_on = await self._records.about(*asked, is_open)
        return [*found, *(one for one in going_on if one["id"] not in known)]

    async def latest_discharge_plans(self) -> list[Resource]:
        """Those that hang on an Encounter; plans of other services do, too, and tell of no stay.

        Of very many, those that were written last, are open, or are of a stay that is looked at.
        """
        asked = (Not(Missing("encounter", "reference")), _IS_DISCHARGE_PLAN)
        found = await self._records.about("CarePlan", self.reference, *asked, latest=_MOST_PLANS)
        if len(found) < _MOST_PLANS:
            return found
        stays = tuple(map(reference_to, await self.latest_inpatient()))
        matters = disjunction(any_of("status", *_OPEN_PLAN), ReferenceTo("encounter", stays))
        known = {one["id"] for one in found}
        others = await self._about("CarePlan", *asked, matters)
        return [*found, *(one for one in others if one["id"] not in known)]

    async def encounter_named(self, name: str) -> list[Resource]:
        """The Encounter with that `Type/id`, if it is this person's."""
        found = await self._records.get(*name.split("/"))
        return [found] if found and local_name(found.get("subject")) == self.reference else []

    async def encounters(self) -> list[Resource]:
        """Stays, visits and all others."""
        return await self._about("Encounter")

    async def open_stays(self) -> list[Resource]:
        """Stays that have begun; one that is to begin has nobody in hospital yet."""
        told = await self._about("Encounter", any_of("status", *OPEN_STAY))
        found = [one for one in told if begun(one) <= self.now + CLOCKS_DIFFER]
        inpatient = [one for one in found if is_inpatient(one)]
        if len(inpatient) == len(found):
            return inpatient
        planned = {local_name(plan.get("encounter")) for plan in await self.discharge_plans()}
        return [one for one in found if one in inpatient or reference_to(one) in planned]

    async def ratings(self) -> list[Resource]:
        """Rating flags, past and present; one of an unknown colour is none."""
        flags = await self._about("Flag")
        return [flag for flag in flags if is_rating(flag)]

    async def active_ratings(self) -> list[Resource]:
        """The newest first; more than one only where somebody has written them so."""
        active = [flag for flag in await self.ratings() if status_of(flag) == "active"]
        return sorted(active, key=begun, reverse=True)

    async def consented(self, category: str) -> bool:
        """Whether active consents of the category permit at this moment, and none denies."""
        types = {
            consent.get("provision", {}).get("type", "permit")
            for consent in await self._counting(category)
        }
        return types == {"permit"}

    async def consents_in_force(self, category: str) -> list[Resource]:
        """Those that permit at this moment; none where one denies."""
        counting = await self._counting(category)
        denied = any(one.get("provision", {}).get("type") == "deny" for one in counting)
        return [] if denied else counting

    async def first_consented(self, category: str) -> int | None:
        """When somebody first did, however long it held; None where nobody has."""
        given = await self._consents(category, "active", "inactive")
        return min((since(one.get("dateTime")) for one in given), default=None)

    async def consent_ended(self, category: str) -> bool:
        """Whether one was withdrawn or refused, and none is in force.

        One that ran out, or that the 16th birthday ended, is asked for again; nobody has said no.
        """
        if await self.consented(category):
            return False
        over = await self._consents(category, "rejected", "inactive")
        return not all(map(ended_at_16, over))

    async def _counting(self, category: str) -> list[Resource]:
        """Those that are active at this moment, whether they permit or deny."""
        return [
            consent
            for consent in await self._consents(category, "active")
            if covers(consent.get("provision", {}).get("period"), self.now)
        ]

    async def _consents(self, category: str, *statuses: str) -> list[Resource]:
        return await self._about("Consent", *_of_consents(category, *statuses))

    async def episode(self) -> Resource | None:
        """The keyworking involvement that is going on, the newest if there are several."""
        episodes = [
            episode
            for episode in await self._about("EpisodeOfCare", any_of("status", *_INVOLVED))
            if has_code(episode.get("type"), canonicals.EPISODE_TYPE, "keyworking")
        ]
        return max(episodes, key=begun, default=None)

    async def closed_episodes(self, reason: str) -> list[Resource]:
        """Keyworking involvements that ended for this reason, the newest first."""
        found = [
            episode
            for episode in await self._about("EpisodeOfCare")
            if status_of(episode) == "finished"
            and has_code(episode.get("type"), canonicals.EPISODE_TYPE, "keyworking")
            and code_in(
                (extension(episode, canonicals.CLOSE_REASON_EXTENSION) or {}).get(
                    "valueCodeableConcept"
                ),
                canonicals.EPISODE_CLOSE_REASON,
            )
            == reason
        ]
        return sorted(found, key=begun, reverse=True)

    async def involvement(self) -> Resource | None:
        """The keyworking involvement that is going on, or that a death has closed."""
        return await self.episode() or next(iter(await self.closed_episodes("deceased")), None)

    async def discharge_plans(self) -> list[Resource]:
        return await self.plans("discharge-plan")

    async def discharge_plans_of(self, stay: Resource) -> list[Resource]:
        return await self.plans("discharge-plan", ReferenceTo("encounter", (reference_to(stay),)))

    async def open_discharge_plan(self) -> Resource | None:
        """The newest that is not over; before all others, that of a stay that is going on."""
        plans = await self.open_plans("discharge-plan")
        stays = await self.open_stays()

        def order(plan: Resource) -> tuple[bool, int]:
            return any(refers(plan.get("encounter"), stay) for stay in stays), begun(plan)

        return max(plans, key=order, default=None)

    async def keyworking_plan(self) -> Resource | None:
        return max(await self.open_plans("keyworking-plan"), key=begun, default=None)

    async def has_keyworking_plan(self) -> bool:
        """Whether one is open, however many there are."""
        kind = TokenIs("category", canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")
        is_open = any_of("status", *_OPEN_PLAN)
        return bool(await self._records.about("CarePlan", self.reference, kind, is_open, latest=1))

    async def keyworking_plan_at(self, at: int) -> Resource | None:
        """That which is open, else the one that was followed at that moment and is over since."""
        there = await self.keyworking_plan()
        if there is not None:
            return there
        completed = await self.plans("keyworking-plan", any_of("status", "completed"))
        over = [plan for plan in completed if covers(plan.get("period"), at)]
        return max(over, key=begun, default=None)

    async def has_active_plan(self, category: str) -> bool:
        return bool(await self.plans(category, any_of("status", "active")))

    async def goals(self) -> list[Resource]:
        return await self._about("Goal")

    async def tasks(self) -> list[Resource]:
        return await self._about("Task")

    async def open_tasks(self) -> list[Resource]:
        return await self._about("Task", any_of("status", *OPEN_TASK))

    async def care_team(self) -> Resource | None:
        teams = await self._about("CareTeam", any_of("status", "active"))
        return next(iter(teams), None)

    async def answers(self) -> Resource | None:
        """The newest answers to the risk questions."""
        responses = [
            response
            for response in await self._about("QuestionnaireResponse", _IS_OF_RISK)
            if status_of(response) in ("completed", "amended")
        ]
        return max(responses, key=lambda response: since(response.get("authored")), default=None)

    async def conditions(self) -> list[Resource]:
        return await self._about("Condition")

    async def plans(self, category: str, *further: Node) -> list[Resource]:
        """Of that kind, whatever has become of them."""
        kind = TokenIs("category", canonicals.CARE_PLAN_CATEGORY, category)
        return await self._about("CarePlan", kind, *further)

    async def open_plans(self, category: str) -> list[Resource]:
        return await self.plans(category, any_of("status", *_OPEN_PLAN))

    async def _about(self, resource_type: str, *further: Node) -> list[Resource]:
        return await self._records.about(resource_type, self.reference, *further)


async def ask_consent_ended(records: Records, patients: Collection[str], category: str) -> None:
    """Ask once for what `consent_ended` asks of each of several patients, by their ids."""
    people = [
        Person(records, {"resourceType": "Patient", "id": one}, records.now) for one in patients
    ]
    names = [person.reference for person in people]
    await records.about_each("Consent", names, *_of_consents(category, "active"))
    others = [person.reference for person in people if not await person.consented(category)]
    if len(others) > 1:
        ended = _of_consents(category, "rejected", "inactive")
        await records.about_each("Consent", others, *ended)


@lru_cache(64)
def _of_consents(category: str, *statuses: str) -> tuple[Node, Node]:
    of_category = TokenIs("category", canonicals.CONSENT_CATEGORY, category)
    return of_category, any_of("status", *statuses)


async def person_named(records: Lookup, resource: Resource | None, now: int) -> Person | None:
    """Whom it is about, by patient, subject or for; None where that is no Patient known here."""
    told = resource or {}
    link: Resource = next(
        (told[name] for name in ("patient", "subject", "for") if name in told), {}
    )
    local = parse_relative(link.get("reference", ""))
    if local is None or local.type != "Patient":
        return None
    patient = await records.get(local.type, local.id)
    return None if patient is None else Person(records, patient, now)


def status_of(resource: Resource) -> str:
    """Its status; '' where there is only an extension that says why it has none."""
    return str(resource.get("status", ""))


def ended_at_16(consent: Resource) -> bool:
    reason = extension(consent, canonicals.CONSENT_STATUS_REASON_EXTENSION) or {}
    code = code_in(reason.get("valueCodeableConcept"), canonicals.CONSENT_STATUS_REASON)
    return status_of(consent) == "inactive" and code == REACHED_16


def is_open_plan(plan: Resource) -> bool:
    return status_of(plan) in _OPEN_PLAN


def is_inpatient(encounter: Resource) -> bool:
    """Whether it is a stay in hospital: by its class, or because a message told of it as one."""
    known = encounter.get("class", {}).get("code") in INPATIENT_CLASSES
    return known or has_code(encounter.get("type"), canonicals.STAY_TYPE, "admitted")


def is_rating(flag: Resource) -> bool:
    """Whether it is a rating on the register, past or present."""
    category = flag.get("category")
    of_register = has_code(category, canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)
    return of_register and colour_of(flag) is not None


def colour_of(flag: Resource) -> str | None:
    """The rating, None where it is none of the four."""
    found = (code for system, code in codes(flag.get("code")) if system == canonicals.DSR_RATING)
    return next((code for code in found if code in COLOURS), None)


def refers(element: Resource | None, resource: Resource) -> bool:
    """Whether a Reference leads to the resource, whichever version of it."""
    return local_name(element) == reference_to(resource)


def local_name(element: Resource | None) -> str:
    """What a Reference leads to, as `Type/id` whichever version of it; '' if that is elsewhere."""
    local = parse_relative((element or {}).get("reference", ""))
    return "" if local is None else str(local)


def begun(resource: Resource) -> int:
    """When its period began, in microseconds since the epoch; long ago where that is not known."""
    return since(resource.get("period", {}).get("start"))


def since(text: str | None) -> int:
    """A date as microseconds since the epoch, long ago where there is none."""
    return interval(text).low if text else -(2**62)


def covers(period: Resource | None, at: int) -> bool:
    """Whether a period, open where an end is missing, holds the moment."""
    period = period or {}
    started = "start" not in period or interval(period["start"]).low <= at
    return started and ("end" not in period or at < interval(period["end"]).high)


def codes(concepts: Any) -> Iterator[tuple[str, str]]:
    """System and code of every coding in one CodeableConcept or a list of them."""
    for concept in concepts if isinstance(concepts, list) else [concepts or {}]:
        for coding in concept.get("coding", ()):
            yield coding.get("system", ""), coding.get("code", "")


def has_code(concepts: Any, system: str, code: str) -> bool:
    return (system, code) in codes(concepts)


def code_in(concept: Any, system: str) -> str | None:
    """The code of that system, None where there is none."""
    return next((code for found, code in codes(concept) if found == system), None)


def extension(resource: Resource, url: str) -> Resource | None:
    """The first extension with that URL."""
    found: list[Resource] = resource.get("extension", [])
    return next((item for item in found if item.get("url") == url), None)


def ended_period(resource: Resource, at: int) -> Resource:
    """Its period, ended by the day; not before it began, whatever is told of the end."""
    period = resource.get("period", {})
    day = max(local_day(at).isoformat(), str(period.get("start", ""))[:10])
    return {**period, "end": day}


def without_end(resource: Resource) -> Resource:
    """It goes on: what is left of its period, if anything is."""
    period = {name: one for name, one in resource.get("period", {}).items() if name != "end"}
    rest = {name: value for name, value in resource.items() if name != "period"}
    return {**rest, "period": period} if period else rest


def with_extension(resource: Resource, value: Resource) -> Resource:
    """A copy in which `value` is the one extension with its URL."""
    others = [item for item in resource.get("extension", []) if item.get("url") != value["url"]]
    return {**resource, "extension": [*others, value]}


@lru_cache(maxsize=1024)
def local_day(at: int) -> date:
    """The day in England."""
    return moment(at).astimezone(LOCAL).date()


@lru_cache(maxsize=1024)
def local_time(at: int) -> str:
    """A FHIR dateTime in England's time, to the second."""
    found: datetime = moment(at).astimezone(LOCAL)
    return found.replace(microsecond=0).isoformat()
