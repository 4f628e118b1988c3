"""A region for the matrix: one child for each age and each state of consent, with full papers.

Papers are written with short names (Patient/1, CareTeam/t), by which the slow oracle reads them;
`Child.stored` has them under names of the child's own. Whatever may not be seen has a word of its
own in its texts: `xq07flagf` is in Flag zq07-f of child zq07, and nowhere else.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any, Final

from fhir_server.access.labels import as_test_data
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.nhs_number import synthetic
from tests.access.oracle import Asker, Verdict, decide
from tests.access.people import (
    carer,
    child,
    coded,
    consent,
    episode,
    member,
    numbered,
    ods,
    organisation,
    ref,
    rule,
    stay,
    team,
)

SIGNATORIES: Final = {"H11": "health", "E11": "education"}
TODAY: Final = datetime.now(UTC).date()
AGES: Final = {"child": 12.5, "competent": 15.5, "not-competent": 14.9, "young-adult": 17.5}
"""In years; the two between 13 and 15 differ by what was found of their competence."""
STATES: Final = (
    *("active", "never", "withdrawn", "rejected", "expired", "not-yet", "register-only"),
    *("cetr-only", "wrong-giver", "denied", "narrowed", "named"),
)
LABEL: Final = {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}


def day(offset: float) -> str:
    """So many days from today; birthdays and periods stay far from any edge."""
    return (TODAY + timedelta(days=round(offset))).isoformat()


def _plan(plan_id: str, category: str, **rest: Any) -> Resource:
    return {
        "resourceType": "CarePlan",
        "id": plan_id,
        "status": "active",
        "intent": "plan",
        "title": "MARK",
        "description": "MARK",
        "category": [coded(canonicals.CARE_PLAN_CATEGORY, category)],
        "subject": ref("Patient/1"),
        "careTeam": [ref("CareTeam/t")],
        "goal": [ref("Goal/g")],
        "activity": [{"reference": ref("Task/k")}],
        "note": [{"text": "MARK"}],
        **rest,
    }


def _flag(flag_id: str, **rest: Any) -> Resource:
    return {
        "resourceType": "Flag",
        "id": flag_id,
        "status": "active",
        "category": [coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)],
        "code": {**coded(canonicals.DSR_RATING, "red"), "text": "MARK"},
        "subject": ref("Patient/1"),
        "author": ref("Practitioner/kw"),
        "period": {"start": day(-20)},
        **rest,
    }


def _about(resource_type: str, resource_id: str, element: str = "subject", **rest: Any) -> Resource:
    return {
        "resourceType": resource_type,
        "id": resource_id,
        element: ref("Patient/1"),
        **rest,
    }


def _work() -> list[Resource]:
    """What else is in the record."""
    heart = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "MARK"}
    vital = coded("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")
    entry = {"resource": {"resourceType": "Basic", "code": {"text": "MARK"}}}
    return [
        _about(
            *("Goal", "g"),
            lifecycleStatus="active",
            startDate=day(-3),
            description={"text": "MARK"},
        ),
        _about(
            *("Task", "k", "for"),
            status="requested",
            intent="order",
            authoredOn=day(-3),
            description="MARK",
        ),
        _about(
            *("Observation", "o"),
            status="final",
            category=[vital],
            code=heart,
            effectiveDateTime=day(-3),
            valueString="MARK",
        ),
        _about("QuestionnaireResponse", "q", status="completed", item=[{"linkId": "1"}]),
        _about("RiskAssessment", "r", status="final", note=[{"text": "MARK"}]),
        _about("Communication", "m", status="completed", payload=[{"contentString": "MARK"}]),
        _about("DocumentReference", "d", status="current", content=[{"attachment": _attached()}]),
        _about("Condition", "n", code={"text": "MARK"}, encounter=ref("Encounter/s")),
        _about("List", "l", status="current", mode="working", title="MARK"),
        _about("Composition", "w", status="final", title="MARK", section=[{"title": "MARK"}]),
        _about("Basic", "b", code={"text": "MARK"}),
        _about("Provenance", "v", "activity", activity={"text": "MARK"}, target=[ref("Patient/1")]),
        {"resourceType": "Bundle", "id": "u", "type": "collection", "entry": [entry]},
        {"resourceType": "Binary", "id": "y", "contentType": "text/plain", "data": "MARK"},
        {"resourceType": "Group", "id": "p", "member": [{"entity": ref("Patient/1")}]},
    ]


def _attached() -> dict[str, Any]:
    return {"contentType": "text/plain", "title": "MARK", "url": "Binary/y"}


def papers(age: str, state: str) -> list[Resource]:
    """By the short names."""
    born = day(-365.25 * AGES[age])
    named = [{"family": "NAMEMARK", "given": ["Test"]}]
    told: dict[str, Any] = {
        "name": named,
        "gender": "female",
        "managingOrganization": ods("M11"),
        "address": [{"text": "MARK", "city": "MARK"}],
    }
    return [
        child(born=born, identifier=numbered("NUMBER"), **told),
        carer("mum", name=[{"text": "MARK"}]),
        episode("Practitioner/kw", team=[ref("CareTeam/t")]),
        team(member("Practitioner/member"), name="MARK"),
        stay(ods("W11"), period={"start": day(-9)}, reasonCode=[{"text": "MARK"}]),
        _flag("f"),
        _flag("old", status="inactive"),
        _plan("a", "keyworking-plan", meta={"tag": [{"system": "urn:t", "code": "MARK"}]}),
        _plan("s", "step-down-plan"),
        _plan("h", "keyworking-plan", meta=LABEL),
        _plan("gone", "keyworking-plan"),
        *_work(),
        *_consents(age, state),
    ]


_GIVEN: Final = {
    "child": ("parental-responsibility", "RelatedPerson/mum", None),
    "competent": ("gillick-consent", "Patient/1", "gillick-competent"),
    "not-competent": ("parental-responsibility", "RelatedPerson/mum", "not-competent"),
    "young-adult": ("consent", "Patient/1", None),
}
_WRONGLY: Final = {
    "child": ("consent", "Patient/1", None),
    "competent": ("parental-responsibility", "RelatedPerson/mum", "gillick-competent"),
    "not-competent": ("gillick-consent", "Patient/1", "not-competent"),
    "young-adult": ("parental-responsibility", "RelatedPerson/mum", None),
}
_DENIED: Final = ("Practitioner/kw", "Practitioner/member", "RelatedPerson/mum", "Patient/1")
_CARE_PLANS: Final = [{"system": "http://hl7.org/fhir/resource-types", "code": "CarePlan"}]


def _consents(age: str, state: str) -> Iterator[Resource]:
    only = {"never": "", "register-only": "register", "cetr-only": "cetr"}
    for category in ("keyworking", "register", "cetr"):
        if only.get(state, category) != category:
            continue
        basis, giver, outcome = (_WRONGLY if state == "wrong-giver" else _GIVEN)[age]
        found = None if outcome is None else (outcome, day(-150))
        status = {"withdrawn": "inactive", "rejected": "rejected"}.get(state, "active")
        yield consent(
            *(category, basis, giver, found),
            id=category,
            status=status,
            dateTime=day(-150),
            provision=_provision(category, state),
            sourceAttachment={"title": "MARK"},
        )


def _provision(category: str, state: str) -> dict[str, Any]:
    over, coming = day(-30), day(30)
    period = {"expired": {"start": day(-150), "end": over}, "not-yet": {"start": coming}}.get(
        state, {"start": day(-150), "end": day(200)}
    )
    # Police, schools and panels need to be named, a panel as the organisation that it is of.
    named: tuple[dict[str, Any], ...] = {"register": (ods("E11"),), "cetr": (ods("K11"),)}.get(
        category, ()
    )
    if state == "named" and category == "keyworking":
        named = (ref("RelatedPerson/mum"), ref("Practitioner/kw"))
    inner: list[dict[str, Any]] = []
    if state == "denied":
        denied = (*map(ref, _DENIED), *map(ods, ("H11", "E11", "K11", "W11", "C11")))
        inner = [rule("deny", *denied)]
    if state == "narrowed":
        inner = [rule("deny", **{"class": _CARE_PLANS})]
    return rule("permit", *named, period=period, **({"provision": inner} if inner else {}))


@dataclass(frozen=True)
class Child:
    """One child of the region."""

    key: str
    """`zq07`: its Patient's id, and what its other ids begin with."""
    age: str
    state: str
    is_test: bool = False

    @cached_property
    def papers(self) -> Sequence[Resource]:
        return papers(self.age, self.state)

    @cached_property
    def stored(self) -> Sequence[Resource]:
        """As they are stored: under the child's own names, with a word of its own in each."""
        own = {f"{one['resourceType']}/{one['id']}": self.name(one) for one in self.papers}
        return [self._stored(one, own) for one in self.papers]

    def name(self, one: Mapping[str, Any]) -> str:
        """Type and id of a paper, as it is stored."""
        kind = one["resourceType"]
        return f"Patient/{self.key}" if kind == "Patient" else f"{kind}/{self.key}-{one['id']}"

    def word(self, one: Mapping[str, Any]) -> str:
        """What its texts say."""
        end = one["id"].replace("-", "").strip("1")
        return f"x{self.key[1:]}{one['resourceType'].lower()}{end}"

    @cached_property
    def words(self) -> Mapping[str, Resource]:
        """What may be read in answers, and of which paper."""
        told = {self.word(one): one for one in self.papers}
        return {**told, self.surname: self.papers[0]}

    @property
    def surname(self) -> str:
        """Which is seen through the mask."""
        return f"x{self.key[1:]}surname"

    def _stored(self, one: Resource, own: Mapping[str, str]) -> Resource:
        texts = {"MARK": self.word(one), "NAMEMARK": self.surname, "NUMBER": self.number, **own}
        found: Resource = replaced(one, texts)
        found["id"] = self.name(one).partition("/")[2]
        if one["resourceType"] == "Provenance":
            found["activity"] = {"text": self.word(one)}
        if one["resourceType"] == "Binary":
            found["data"] = base64.b64encode(self.word(one).encode()).decode()
        elif one["resourceType"] != "Bundle":
            text = f'<div xmlns="http://www.w3.org/1999/xhtml">{self.word(one)}</div>'
            found["text"] = {"status": "generated", "div": text}
        if self.is_test:
            found = as_test_data(found)
        return found

    @property
    def number(self) -> str:
        """A synthetic NHS number of its own."""
        return synthetic(int(self.key[2:]))

    @cached_property
    def _verdicts(self) -> dict[Asker, Verdict]:
        return {}

    def verdict(self, asker: Asker) -> Verdict:
        """By the slow reading of the table."""
        if asker not in self._verdicts:
            now = datetime.now(UTC)
            own = _as_in_papers(asker, self.key)
            self._verdicts[asker] = decide(self.papers, own, now, SIGNATORIES)
        return self._verdicts[asker]


def _as_in_papers(asker: Asker, key: str) -> Asker:
    """The asker with the names that this child's papers have for them."""
    if asker.kind == "patient":
        own = asker.names == {f"Patient/{key}"}
        return _named(asker, "Patient/1" if own else "Patient/2")
    if asker.kind == "related":
        own = asker.names == {f"RelatedPerson/{key}-mum"}
        return _named(asker, "RelatedPerson/mum" if own else "RelatedPerson/somebody")
    return asker


def _named(asker: Asker, name: str) -> Asker:
    return Asker(asker.kind, frozenset({name}), purpose=asker.purpose)


def replaced(value: Any, texts: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {name: replaced(one, texts) for name, one in value.items()}
        case list():
            return [replaced(one, texts) for one in value]
        case str():
            return texts.get(value, value)
        case _:
            return value


TEST_CHILD: Final = Child("zq90", "competent", "active", is_test=True)
CHILDREN: Final = (
    *(
        Child(f"zq{10 + number}", age, state)
        for number, (age, state) in enumerate((age, state) for age in AGES for state in STATES)
    ),
    TEST_CHILD,
)
SHARED: Final = (
    organisation("w", "W11", name="Ward"),
    organisation("h", "H11", name="Trust"),
    *({"resourceType": "Practitioner", "id": one} for one in ("kw", "member", "glass")),
)
ABOUT: Final = tuple(one for one in CHILDREN if one.state in ("active", "named"))[:2]
VISIT: Final[Resource] = {
    "resourceType": "Appointment",
    "id": "zq10-both",
    "status": "booked",
    "comment": "xqboth",
    "participant": [{"actor": ref(f"Patient/{one.key}"), "status": "accepted"} for one in ABOUT],
}
"""About two children: seen by who may see such things of both."""
GONE: Final = tuple(f"{child.key}-gone" for child in CHILDREN)
"""Care plans that are deleted."""


@cache
def everything() -> tuple[Resource, ...]:
    return (*SHARED, *(one for child in CHILDREN for one in child.stored), VISIT)
