"""What resources say to people: names, days, and the few facts that the story is about."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.json import Resource

_LONG_ID: Final = re.compile(r"([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Rating:
    """An answer of `$admission-risk`."""

    colour: str
    flag: str
    """The reference of the rating on the register."""
    rules: Sequence[tuple[str, str]]
    """Code and words of each rule that fired."""

    @property
    def codes(self) -> set[str]:
        return {code for code, _ in self.rules}


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist of a discharge plan."""

    code: str
    text: str
    status: str
    due: str


@dataclass(frozen=True, slots=True)
class OpenTask:
    """Something that somebody must do."""

    id: str
    code: str
    text: str
    due: str
    """As the Task has it: a date or a moment."""
    focus: str


def now() -> datetime:
    """In England's time, to the millisecond."""
    found = datetime.now(UTC).astimezone(LOCAL)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def today() -> date:
    return now().date()


def day(text: str) -> str:
    """A FHIR date or dateTime as people write it; what is neither stays as it is."""
    try:
        if len(text) == len("2026-01-01"):
            return _written(date.fromisoformat(text))
        moment = datetime.fromisoformat(text).astimezone(LOCAL)
        return f"{_written(moment)}, {moment:%H:%M:%S}"
    except ValueError:
        return text


def _written(on: date) -> str:
    return f"{on:%a} {on.day} {on:%b %Y}"


def age(patient: Resource) -> str:
    born = date.fromisoformat(patient["birthDate"])
    on = today()
    return str(on.year - born.year - ((on.month, on.day) < (born.month, born.day)))


def spaced(nhs_number: str) -> str:
    """As it stands on letters: 999 000 0077."""
    return f"{nhs_number[:3]} {nhs_number[3:6]} {nhs_number[6:]}"


def team(care_team: Resource, members: Iterable[Resource]) -> list[tuple[str, str]]:
    """Role and name of each who is in the care team."""
    names = {f"{member['resourceType']}/{member['id']}": _name(member) for member in members}
    return [
        (_role(participant), names.get(participant["member"]["reference"], "not shown"))
        for participant in care_team.get("participant", ())
    ]


def _role(participant: Resource) -> str:
    code = code_of(participant.get("role", [{}])[0], canonicals.CARE_TEAM_ROLE)
    spelt = {"gp": "GP", "camhs": "CAMHS", "inpatient-rc": "responsible clinician in hospital"}
    return spelt.get(code, code.replace("-", " "))


def _name(member: Resource) -> str:
    if "practitioner" in member:
        return str(member["practitioner"].get("display", member["practitioner"].get("reference")))
    if not isinstance(member.get("name"), list):
        return str(member.get("name", member["id"]))
    name = member["name"][0]
    return " ".join([*name.get("given", ()), name.get("family", "")])


def voice(plan: Resource) -> str:
    """What the young person says at the top of the plan."""
    for extension in plan.get("extension", ()):
        if extension["url"] == canonicals.YOUNG_PERSONS_VOICE_EXTENSION:
            return str(extension["valueAnnotation"]["text"])
    return ""


def goals(resources: Iterable[Resource]) -> list[tuple[str, str, str]]:
    """What is wanted, how the young person puts it, and by when."""
    return [
        (
            str(goal["description"]["text"]),
            " ".join(str(note["text"]) for note in goal.get("note", ())),
            day(next((t["dueDate"] for t in goal.get("target", ()) if "dueDate" in t), "")),
        )
        for goal in resources
    ]


def rating(parameters: Resource) -> Rating:
    given = list(_named(parameters))
    registered = dict(next((value for name, value in given if name == "registered"), []))
    rules = [dict(value) for name, value in given if name == "rule"]
    return Rating(
        colour=str(dict(given).get("rating", "none")),
        flag=str(registered.get("flag", {}).get("reference", "")),
        rules=[(str(rule["code"]["code"]), str(rule["text"])) for rule in rules],
    )


def floor(flag: Resource) -> str:
    """The date before which the rating is not set lower; '' where there is none."""
    for extension in flag.get("extension", ()):
        if extension["url"] == canonicals.MINIMUM_UNTIL_EXTENSION:
            return str(extension["valueDate"])
    return ""


def parameter(parameters: Resource, name: str) -> Any:
    """The first value of that name, None where there is none."""
    return dict(reversed([*_named(parameters)])).get(name)


def resources(parameters: Resource, name: str) -> list[Resource]:
    return values(parameters, name)


def values(parameters: Resource, name: str) -> list[Any]:
    """All of that name; one with parts is a list of their names and values."""
    return [value for given, value in _named(parameters) if given == name]


def _named(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of Parameters; a value with parts is a list of such pairs."""
    for part in node.get("parameter", node.get("part", ())):
        if "part" in part:
            yield part["name"], list(_named(part))
        else:
            yield part["name"], next(value for name, value in part.items() if name != "name")


def items(plan: Resource) -> list[Item]:
    """The checklist of a discharge plan, in its order."""
    details = [activity["detail"] for activity in plan.get("activity", ()) if "detail" in activity]
    return [
        Item(code, str(detail["code"].get("text", code)), str(detail["status"]), _due(detail))
        for detail in details
        if (code := code_of(detail.get("code", {}), canonicals.DISCHARGE_ITEM))
    ]


def _due(detail: Resource) -> str:
    end = detail.get("scheduledPeriod", {}).get("end", "")
    return day(end) if end else str(detail.get("scheduledString", "")).partition(",")[0]


def shortened(text: str) -> str:
    """With long ids cut to what tells them apart."""
    return _LONG_ID.sub(r"\1…", text)


def tasks(resources: Iterable[Resource]) -> list[OpenTask]:
    """The first due first."""
    found = [
        OpenTask(
            str(task["id"]),
            code_of(task["code"], canonicals.TIMER) or code_of(task["code"], canonicals.TASK),
            str(task.get("description", task["code"].get("text", ""))),
            str(task.get("restriction", {}).get("period", {}).get("end", "")),
            str(task.get("focus", {}).get("reference", "")),
        )
        for task in resources
    ]
    return sorted(found, key=lambda task: task.due)


def code_of(concept: Resource, system: str) -> str:
    """The code that a CodeableConcept has in a code system, '' for none."""
    codings = concept.get("coding", ())
    return next((str(c["code"]) for c in codings if c.get("system") == system), "")
