"""What each step asks of the server, what must come back, and what is told of it."""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.demo import readings
from fhir_server.demo.casting import YoungPerson
from fhir_server.demo.conversation import Conversation, Exchange, NotAsTold
from fhir_server.demo.telling import Teller, lines, rating_line, table
from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from fhir_server.fhir.json import Resource
from fhir_server.story import SPELL_SYSTEM, Stay

_FLOOR: Final = timedelta(days=14)
_FOLLOW_UPS: Final = {"T-CAREPLAN-SHARE": 24, "T-FU-72": 72, "T-FU-7D": 7 * 24}
"""Hours after the discharge by which each is due."""


@dataclass
class Tale:
    """What the steps know of one another."""

    server: Conversation
    teller: Teller
    person: YoungPerson
    stay: Stay
    before: str = ""
    """The rating before the admission."""
    answered: Any = None
    """What the server said to the admission."""
    encounter: str = ""
    plan: Resource = field(default_factory=dict)
    """The discharge plan as it was last read."""
    tasks: list[readings.OpenTask] = field(default_factory=list)
    left: datetime | None = None
    """When the young person was discharged."""

    @property
    def name(self) -> str:
        return self.person.name

    def risk(self) -> tuple[Exchange, readings.Rating]:
        answer = self.server.get(f"{self.person.reference}/$admission-risk")
        answer.require(200)
        return answer, readings.rating(answer.resource)

    def discharge_plan(self) -> Exchange:
        answer = self.server.get(f"{self.person.reference}/$discharge-plan")
        answer.require(200)
        return answer


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsTold(otherwise)


def meet(tale: Tale) -> None:
    answer = tale.server.get(tale.person.reference)
    answer.require(200)
    patient = answer.resource
    facts = (
        f"{tale.name} {patient['name'][0]['family']}, {readings.age(patient)} years old",
        f"NHS number {readings.spaced(tale.person.nhs_number)} (999: nobody real has it)",
    )
    tale.teller.tell(answer, shown=lines(facts))
    around = tale.server.get(
        "CareTeam",
        ("patient", tale.person.id),
        ("status", "active"),
        ("_include", "CareTeam:participant"),
    )
    teams = around.entries("match", "CareTeam")
    _require(bool(teams), f"{tale.name} has no care team")
    members = [entry["resource"] for entry in around.resource["entry"]]
    tale.teller.tell(around, shown=[table(("Role", "Who"), readings.team(teams[0], members))])


def camhs_reads_the_plan(tale: Tale) -> None:
    answer = tale.server.get(
        "CarePlan",
        ("patient", tale.person.id),
        ("category", f"{canonicals.CARE_PLAN_CATEGORY}|keyworking-plan"),
        ("status", "active"),
        ("_include", "CarePlan:goal"),
    )
    plans = answer.entries("match", "CarePlan")
    goals = readings.goals(answer.entries("include", "Goal"))
    _require(bool(plans and goals), f"{tale.name}'s plan did not come with its goals")
    said = readings.voice(plans[0])
    shown = lines([f'{tale.name} says: "{said}"', ""] if said else [])
    tale.teller.tell(answer, shown=[*shown, _goals(goals)])


def _goals(goals: list[tuple[str, str, str]]) -> Any:
    rows = [(wish, f'"{words}"' if words else "", due) for wish, words, due in goals]
    return table(("Goal", "In their own words", "By"), rows)


def risk_before(tale: Tale) -> None:
    answer, rating = tale.risk()
    _require(
        rating.colour not in (canonicals.BLUE, "none"), f"{tale.name} is rated {rating.colour}"
    )
    tale.before = rating.colour
    tale.teller.tell(answer, shown=_rating(rating))
    if rating.colour != canonicals.AMBER:
        tale.teller.say(f"Nobody at home is amber now, so {tale.name} begins at {rating.colour}.")


def _rating(rating: readings.Rating) -> list[Any]:
    if not rating.rules:
        return [rating_line(rating.colour, ", as on the register; no rule fired")]
    return [rating_line(rating.colour, ", because:"), table(("Rule", "What it says"), rating.rules)]


def admission(tale: Tale) -> None:
    message = tale.stay.admission()
    answer = tale.server.post("$process-message", message)
    answer.require(200)
    tale.answered = answer.received
    tale.encounter = _mentioned(answer, "Encounter/")
    tale.teller.tell(answer, _telling(message), lines(map(readings.shortened, answer.problems)))


def _mentioned(answer: Exchange, kind: str) -> str:
    for text in answer.problems:
        _, found, rest = text.partition(f": {kind}")
        if found:
            return kind + rest
    raise NotAsTold(f"The answer names no {kind.rstrip('/')}")


def _telling(message: Resource) -> list[str]:
    """The few lines of a message that matter, out of its hundred."""
    header, stay, patient = (entry["resource"] for entry in message["entry"][:3])
    period = stay["period"]
    return [
        f"message  {message['identifier']['value']}",
        f"event    {header['reason']['coding'][0]['code']} from {_ods(header['sender'])}",
        f"patient  NHS number {patient['identifier'][0]['value']}",
        f"stay     {stay['identifier'][0]['value']}, {stay['status']}, "
        + ", ".join(f"{name} {text}" for name, text in period.items()),
    ]


def _ods(organisation: Resource) -> str:
    return f"organisation {organisation['identifier']['value']}"


def rating_is_blue(tale: Tale) -> None:
    answer, rating = tale.risk()
    _require(rating.colour == canonicals.BLUE, f"The rating is {rating.colour}, not blue")
    _require("R-BLUE-INPATIENT" in rating.codes, "The rule for inpatients did not fire")
    tale.teller.tell(answer, shown=_rating(rating))


def plan_is_open(tale: Tale) -> None:
    answer = tale.discharge_plan()
    tale.plan = readings.parameter(answer.resource, "plan")
    items = readings.items(tale.plan)
    tale.tasks = _tasks_of_stay(tale, answer)
    _require(tale.plan["status"] == "draft", f"The plan is {tale.plan['status']}, not a draft")
    _require(
        tale.plan.get("encounter", {}).get("reference") == tale.encounter,
        "The open discharge plan is that of another stay",
    )
    _require(len(items) == len(DISCHARGE_ITEMS), f"The plan has {len(items)} items, not 14")
    _require(bool(tale.tasks), "The admission opened no tasks")
    shown = [
        *lines([f"Discharge plan, {tale.plan['status']}, {len(items)} items:"]),
        table(("Item", "State", "Due"), [(item.text, item.status, item.due) for item in items]),
        *lines(["", f"{len(tale.tasks)} tasks for this stay:"]),
        _tasks(tale.tasks),
    ]
    tale.teller.tell(answer, shown=shown)


def _tasks_of_stay(tale: Tale, answer: Exchange) -> list[readings.OpenTask]:
    found = readings.tasks(readings.resources(answer.resource, "task"))
    return [task for task in found if task.focus == tale.encounter]


def _tasks(tasks: list[readings.OpenTask]) -> Any:
    return table(("Task", "Due"), [(task.text, readings.day(task.due)) for task in tasks])


def same_message_again(tale: Tale) -> None:
    message = tale.stay.admission()
    answer = tale.server.post("$process-message", message)
    answer.require(200)
    _require(answer.received == tale.answered, "The same message was answered otherwise")
    same = "The same answer as before, to the letter."
    tale.teller.tell(answer, _telling(message)[:1], lines([same]))
    after = tale.discharge_plan()
    plan, tasks = readings.parameter(after.resource, "plan"), _tasks_of_stay(tale, after)
    _require(plan == tale.plan and tasks == tale.tasks, "The repeated message changed something")
    version = plan["meta"]["versionId"]
    unchanged = f"Still one plan, in version {version}, and the same {len(tasks)} tasks."
    tale.teller.tell(after, shown=lines([unchanged]))


def camhs_reads_the_discharge_plan(tale: Tale) -> None:
    answer = tale.server.get(
        "CarePlan",
        ("patient", tale.person.id),
        ("category", f"{canonicals.CARE_PLAN_CATEGORY}|discharge-plan"),
        ("encounter", tale.encounter),
        ("_include", "CarePlan:goal"),
        ("_include", "CarePlan:care-team"),
    )
    plans, goals = answer.entries("match", "CarePlan"), answer.entries("include", "Goal")
    teams = answer.entries("include", "CareTeam")
    _require([plan["id"] for plan in plans] == [tale.plan["id"]], "CAMHS found another plan")
    _require(bool(goals), "The discharge plan came without goals")
    found = f"1 discharge plan, {len(goals)} goals, {len(teams)} care team, in one answer:"
    tale.teller.tell(answer, shown=[*lines([found, ""]), _goals(readings.goals(goals))])


def somebody_works_on_the_plan(tale: Tale) -> None:
    plan = _with_first_item_done(tale.plan, tale.person.plan["author"])
    held = f'W/"{tale.plan["meta"]["versionId"]}"'
    answer = tale.server.put(plan, held)
    answer.require(200)
    _require(answer.etag not in ("", held), "The update made no new version")
    tale.plan = answer.resource
    done = [item.text for item in readings.items(tale.plan) if item.status == "completed"]
    _require(len(done) == 1, f"{len(done)} items are done, not one")
    body = ['"code": "dp-start", "status": "completed"']
    tale.teller.tell(answer, body, lines([f"Done: {done[0]}", "13 items are open."]))


def _with_first_item_done(plan: Resource, owner: Resource) -> Resource:
    """The plan is opened, and its owner named."""
    changed = deepcopy(plan)
    changed["activity"][0]["detail"] |= {"status": "completed", "performer": [owner]}
    return changed


def stale_version_is_refused(tale: Tale) -> None:
    answer = tale.server.put({**tale.plan, "title": "Old copy"}, 'W/"1"')
    answer.require(412)
    body = ['"title": "Old copy"  (made from version 1, which is no longer current)']
    tale.teller.tell(answer, body, lines(answer.problems))
    after = tale.server.get(f"CarePlan/{tale.plan['id']}")
    _require(after.received == tale.plan, "The refused update left a trace")
    kept = "The finished item is still there; nobody's work was lost."
    tale.teller.tell(after, shown=lines([kept]))


def bad_message_is_refused(tale: Tale) -> None:
    spell = f"{tale.stay.spell}-BAD"
    message = Stay(tale.person.nhs_number, spell, tale.stay.start).admission()
    del message["entry"][1]["resource"]["subject"]
    answer = tale.server.post("$process-message", message)
    answer.require(400)
    _require(bool(answer.problems), "The refusal does not say what is wrong")
    body = [*_telling(message)[:2], "the Encounter has no subject"]
    tale.teller.tell(answer, body, lines(answer.problems))
    stored = tale.server.get("Encounter", ("identifier", f"{SPELL_SYSTEM}|{spell}"))
    _require(not stored.entries("match", "Encounter"), "The refused message was stored")
    tale.teller.tell(stored, shown=lines(["Nothing of it was stored."]))


def discharge(tale: Tale) -> None:
    left = readings.now()
    message = tale.stay.discharge(left)
    answer = tale.server.post("$process-message", message)
    answer.require(200)
    tale.left = left
    tale.teller.tell(answer, _telling(message), lines(map(readings.shortened, answer.problems)))


def rating_is_red(tale: Tale) -> None:
    answer, rating = tale.risk()
    _require(rating.colour == canonicals.RED, f"The rating is {rating.colour}, not red")
    tale.teller.tell(answer, shown=_rating(rating))
    flags = tale.server.get("Flag", ("subject", tale.person.reference), ("_sort", "date"))
    history = flags.entries("match", "Flag")
    until = _floor(history, rating.flag)
    expected = _left(tale).date() + _FLOOR
    _require(until == expected.isoformat(), f"The floor is '{until}', not {expected}")
    rows = [_flag_row(flag) for flag in history if _colour(flag)]
    tale.teller.tell(flags, shown=[table(("Rating", "From", "To", "Not lower before"), rows)])


def _floor(flags: list[Resource], reference: str) -> str:
    return next((readings.floor(f) for f in flags if f"Flag/{f['id']}" == reference), "")


def _colour(flag: Resource) -> str:
    return readings.code_of(flag["code"], canonicals.DSR_RATING)


def _flag_row(flag: Resource) -> tuple[str, str, str, str]:
    period = flag.get("period", {})
    start, end = readings.day(period.get("start", "")), readings.day(period.get("end", "now"))
    return _colour(flag), start, end, readings.day(readings.floor(flag))


def _left(tale: Tale) -> datetime:
    if tale.left is None:
        raise NotAsTold("The young person was not discharged")
    return tale.left


def follow_up(tale: Tale) -> None:
    answer = tale.server.get(
        "Task", ("patient", tale.person.id), ("status", "requested"), ("focus", tale.encounter)
    )
    answer.require(200)
    tasks = readings.tasks(answer.entries("match", "Task"))
    due = {task.code: task.due for task in tasks}
    left = _left(tale).replace(microsecond=0)
    for code, hours in _FOLLOW_UPS.items():
        expected = left + timedelta(hours=hours)
        found = due.get(code)
        on_time = found is not None and datetime.fromisoformat(found) == expected
        _require(on_time, f"{code} is due {found}, not {expected.isoformat()}")
    tale.teller.tell(answer, shown=[_tasks(tasks)])


def plan_is_closed(tale: Tale) -> None:
    answer = close_plan(tale)
    answer.require(200)
    status = answer.resource["status"]
    _require(status == "completed", f"The discharge plan is {status}, not completed")
    body = ['"status": "completed"']
    tale.teller.tell(answer, body, lines(["The discharge plan is completed."]))


def close_plan(tale: Tale) -> Exchange:
    """The discharge plan, on which the discharge has noted its day, has done its work."""
    found = tale.server.get(f"CarePlan/{tale.plan['id']}").resource
    return tale.server.put({**found, "status": "completed"}, f'W/"{found["meta"]["versionId"]}"')


def history_of_the_plan(tale: Tale) -> None:
    answer = tale.server.get(f"CarePlan/{tale.plan['id']}/_history")
    answer.require(200)
    rows = [_version_row(entry["resource"]) for entry in answer.resource["entry"]]
    _require(len(rows) == 4, f"The history has {len(rows)} versions, not four")
    tale.teller.tell(answer, shown=[table(("Version", "When", "State", "Items done"), rows)])


def _version_row(plan: Resource) -> tuple[str, str, str, str]:
    items = readings.items(plan)
    done = sum(item.status == "completed" for item in items)
    meta = plan["meta"]
    when, finished = readings.day(meta["lastUpdated"]), f"{done} of {len(items)}"
    return meta["versionId"], when, plan["status"], finished
