"""A plan in plain words: sections of lines, whatever form they then get."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._easy_words import GOAL_STATES, ITEMS, ROLES, TASKS, TITLES, in_words
from operations._person import code_in, covers, extension, refers, status_of
from operations._record import is_open, task_code

_MOST_TASKS: Final = 5
_DONE: Final = ("completed",)
_GONE: Final = ("cancelled", "stopped", "entered-in-error")


@dataclass(frozen=True, slots=True)
class Line:
    """`own` is the project's sentence, `quoted` what somebody wrote, word for word."""

    own: str
    quoted: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Material:
    """What the caller may read of it."""

    plan: Resource
    patient: Resource
    goals: Sequence[Resource]
    team: Sequence[Resource]
    people: Mapping[str, str]
    """Names, by the references of the team."""
    tasks: Sequence[Resource]
    now: int


def title_of(plan: Resource) -> str:
    codes = (code_in([one], canonicals.CARE_PLAN_CATEGORY) for one in plan.get("category", ()))
    return next((TITLES[code] for code in codes if code in TITLES), "Your plan")


def sections(material: Material) -> list[Section]:
    """Those that have something to say, in the order in which they are read."""
    found = (
        Section(title_of(material.plan), [*_welcome(material)]),
        Section("What you told us", [*_voice(material.plan)]),
        Section("Your goals", [*_goals(material)]),
        Section("Who is who", [*_who(material)]),
        Section("What we will do", [*_activities(material.plan)]),
        Section("What happens next", [*_next(material)]),
        Section("If you want to talk", [*_talk()]),
    )
    return [one for one in found if one.lines]


def _welcome(material: Material) -> Iterator[Line]:
    name: Resource = next(iter(material.patient.get("name", ())), {})
    given = next(iter(name.get("given", ())), "")
    yield Line(f"Hello {given}." if given else "Hello.")
    yield Line("This plan is about you.")
    yield Line("It says what you want.")
    yield Line("It says who will help you.")
    yield Line("You can keep it and show it to people you trust.")


def _voice(plan: Resource) -> Iterator[Line]:
    said = (extension(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION) or {}).get("valueAnnotation")
    if said and said.get("text"):
        yield Line("You said this:", said["text"])


def _goals(material: Material) -> Iterator[Line]:
    for number, goal in enumerate(material.goals, 1):
        yield Line(f"Goal {number} is this:", goal.get("description", {}).get("text", ""))
        for note in goal.get("note", ()):
            author = note.get("authorReference")
            own = author is None or refers(author, material.patient)
            yield Line("In your own words:" if own else "Someone else said:", note.get("text", ""))
        yield from _targets(goal)
        if said := GOAL_STATES.get(str(goal.get("lifecycleStatus"))):
            yield Line(said)


def _targets(goal: Resource) -> Iterator[Line]:
    for target in goal.get("target", ()):
        if measure := target.get("measure", {}).get("text"):
            yield Line("This is how we will know:", measure)
        if detail := target.get("detailString"):
            yield Line("We hope for this much:", detail)
        if due := target.get("dueDate"):
            yield Line(f"We hope to get there by {in_words(due)}.")


def _who(material: Material) -> Iterator[Line]:
    seen: set[tuple[str, str]] = set()
    for team in material.team:
        for one in team.get("participant", ()):
            if not covers(one.get("period"), material.now):
                continue
            code = next((c for c in map(_role, one.get("role", ())) if c in ROLES), "")
            name = _name(one.get("member", {}), material.people)
            if code and (code, name) not in seen:
                seen.add((code, name))
                yield from _person(code, name)


def _role(concept: Resource) -> str:
    return code_in(concept, canonicals.CARE_TEAM_ROLE) or ""


def _name(member: Resource, people: Mapping[str, str]) -> str:
    return people.get(str(member.get("reference", "")), "") or str(member.get("display", ""))


def _person(code: str, name: str) -> Iterator[Line]:
    post, helps = ROLES[code]
    yield Line(f"{name} is {post}." if name else f"Someone is {post}.")
    yield Line(helps)


def _activities(plan: Resource) -> Iterator[Line]:
    details = [one["detail"] for one in plan.get("activity", ()) if "detail" in one]
    shown = [one for one in details if status_of(one) not in _GONE]
    to_do = [one for one in shown if status_of(one) not in _DONE]
    done = [one for one in shown if status_of(one) in _DONE]
    for intro, some in (("We still have to do this:", to_do), ("This is done:", done)):
        if some:
            yield Line(intro)
            yield from map(_activity, some)


def _activity(detail: Resource) -> Line:
    item = ITEMS.get(code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) or "")
    return Line(item) if item else Line("", str(detail.get("description", "")) or _text(detail))


def _text(detail: Resource) -> str:
    return str(detail.get("code", {}).get("text", ""))


def _next(material: Material) -> Iterator[Line]:
    for url, said in (
        (canonicals.PLANNED_DISCHARGE_EXTENSION, "We plan for you to leave hospital on"),
        (canonicals.NEXT_REVIEW_EXTENSION, "We will look at this plan with you on"),
    ):
        if day := (extension(material.plan, url) or {}).get("valueDate"):
            yield Line(f"{said} {in_words(day)}.")
    dated = [(due, task) for task in material.tasks if is_open(task) and (due := _due(task))]
    told = [(due, TASKS[code]) for due, task in dated if (code := task_code(task)) in TASKS]
    soonest: dict[str, str] = {}
    for due, said in sorted(told, key=lambda one: interval(one[0]).low):
        soonest.setdefault(said, due)  # nothing is said twice
    for said, due in [*soonest.items()][:_MOST_TASKS]:
        yield Line(said)
        is_late = interval(due).high <= material.now
        beginning = "We are late. It should have been by" if is_late else "This should be by"
        yield Line(f"{beginning} {in_words(due)}.")


def _due(task: Resource) -> str:
    return str(task.get("restriction", {}).get("period", {}).get("end", ""))


def _talk() -> Iterator[Line]:
    yield Line("You can ask us about any of this.")
    yield Line("You can tell us if it is wrong.")
    yield Line("You can change your mind.")
    yield Line("Talk to your keyworker, or to someone you trust.")
    yield Line("If you are in danger, ring 999.")


def names_of(resources: Iterable[Resource], roles: Iterable[Resource]) -> dict[str, str]:
    """Names by reference; a post has the name of whoever holds it."""
    found = {reference_to(one): _human(one) for one in resources}
    for role in roles:
        holder: dict[str, Any] = role.get("practitioner", {})
        found[reference_to(role)] = found.get(str(holder.get("reference")), "") or str(
            holder.get("display", "")
        )
    return found


def _human(resource: Resource) -> str:
    names: Any = resource.get("name")
    if isinstance(names, str):
        return names
    name: Resource = next(iter(names or ()), {})
    whole = " ".join([*name.get("given", ()), name.get("family", "")]).strip()
    return str(name.get("text", "")) or whole
