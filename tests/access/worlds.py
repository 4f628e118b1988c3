"""Random patients with random papers, and random callers, small enough to meet each other."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from fhir_server.access.at_hand import gathered
from fhir_server.access.caller import Caller, Role
from fhir_server.access.case import Case, Terms
from fhir_server.access.facts import reading
from fhir_server.access.facts.record import Facts
from fhir_server.access.identities import Identities
from fhir_server.fhir.canonicals import ACT_CODE, ACT_REASON
from fhir_server.fhir.dates import microseconds
from fhir_server.fhir.json import Resource
from tests.access import oracle
from tests.access.people import (
    SENDS,
    carer,
    child,
    consent,
    episode,
    member,
    ods,
    ref,
    rule,
    stay,
    team,
)

SIGNATORIES: Final = {"H1": "health", "C1": "social-care", "E1": "education", "P1": "police"}
PEOPLE: Final = ("Practitioner/a", "Practitioner/b")
CODES: Final = ("H1", "C1", "E1", "W1")
RELATIVES: Final = ("RelatedPerson/mum", "RelatedPerson/dad")

MANAGING: Final = (*map(ods, CODES), ref("Organization/h1"))

DAYS: Final = (
    *("2024-02-28", "2024-02-29", "2024-03-01", "2025-03-29", "2025-03-30", "2025-10-26"),
    *("2026-02-28", "2026-03-01", "2026-11-21", "2026-11-22", "2026-11-23", "2027-02-01"),
)
BORN: Final = (
    *("2008-02-29", "2010-02-28", "2010-03-01", "2012-02-29", "2013-03-30", "2013-11-22"),
    *("2010-11-22", "2010-11-23", "2008-11-22", "2001-11-22", "2010", "2013-03", None),
)
days = st.sampled_from(DAYS)
moments = st.builds(
    lambda day, hours: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=hours),
    days,
    st.sampled_from((-61, -60, -1, 0, 1, 60, 720, 1440)),
)


def periods() -> st.SearchStrategy[dict[str, str] | None]:
    some = st.one_of(
        st.builds(lambda day: {"start": day}, days),
        st.builds(lambda day: {"end": day}, days),
        st.builds(lambda one, other: {"start": one, "end": other}, days, days),
    )
    return st.one_of(st.none(), st.none(), some)


def _given(**told: Any) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


actors = st.sampled_from(
    [*map(ref, (*PEOPLE, *RELATIVES, "Organization/h1", "CareTeam/t")), *map(ods, CODES)]
)
classes = st.sampled_from(("CarePlan", "Consent", "Flag")).map(
    lambda code: [{"system": "http://hl7.org/fhir/resource-types", "code": code}]
)
purposes = st.sampled_from(("TREAT", "HOPERAT")).map(
    lambda code: [{"system": ACT_REASON, "code": code}]
)
labels = st.sampled_from("RV").map(lambda code: [{"system": ACT_CODE, "code": code}])


@st.composite
def rules(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    rare = st.sampled_from((None, None, None, "x"))
    kind = draw(st.sampled_from(("permit", "permit", "deny") if not depth else ("permit", "deny")))
    named = draw(st.lists(actors, max_size=2))
    inner = draw(st.lists(rules(depth + 1), max_size=2)) if depth < 3 else []
    return rule(
        kind,
        *named,
        **_given(
            period=draw(periods()),
            purpose=draw(rare) and draw(purposes),
            securityLabel=draw(rare) and draw(labels),
            dataPeriod=draw(rare) and draw(rare) and {"start": "2020"},
            provision=inner or None,
            **{"class": draw(rare) and draw(classes)},
        ),
    )


_PLAIN: Final = {"type": "permit"}
bases = st.sampled_from(
    (
        *("consent", "gillick-consent", "parental-responsibility", "parental-responsibility"),
        *("best-interest", *oracle.PROXIES),
    )
)
_PERFORMERS: Final = {
    "consent": "Patient/1",
    "gillick-consent": "Patient/1",
    "parental-responsibility": "RelatedPerson/mum",
    "best-interest": "PractitionerRole/social-worker",
    "health-and-welfare-lasting-power-of-attorney": "RelatedPerson/dad",
    "court-appointed-personal-welfare-deputy": "RelatedPerson/dad",
}
_OUTCOMES: Final = {
    "consent": "capacity-presumed",
    "gillick-consent": "gillick-competent",
    "parental-responsibility": "not-competent",
}


@st.composite
def consents(draw: st.DrawFn, number: int) -> Resource:
    """Most of them as they should be: one that is wrong in two ways shows nothing."""
    basis = draw(bases)
    seldom = st.integers(0, 6).map(lambda drawn: drawn == 0)
    performer = draw(st.sampled_from(("Patient/1", *RELATIVES))) if draw(seldom) else None
    outcomes = ("gillick-competent", "not-competent", "lacks-capacity", "capacity-presumed")
    outcome = draw(st.sampled_from(outcomes)) if draw(seldom) else None
    told = consent(
        draw(st.sampled_from(("keyworking", "keyworking", "register", "cetr"))),
        basis,
        performer or _PERFORMERS[basis],
        (outcome or _OUTCOMES.get(basis, "lacks-capacity"), draw(days)),
        id=f"c{number}",
        status=draw(st.sampled_from(("active",) * 6 + ("inactive", "rejected", "proposed"))),
        dateTime=draw(days),
        provision=draw(st.one_of(st.just(_PLAIN), rules())),
    )
    if draw(seldom):
        told["verification"] = [{"verified": False}]
    if draw(seldom):
        del told["sourceAttachment"]
    return told


@st.composite
def worlds(draw: st.DrawFn) -> list[Resource]:
    died = {"deceasedDateTime": draw(days)} if draw(st.integers(0, 9)) == 0 else {}
    managed = _given(managingOrganization=draw(st.sampled_from((None, *MANAGING))))
    born = draw(st.sampled_from(BORN))
    patient = [child(born=born, **died, **managed)] if draw(st.integers(0, 9)) else []
    some = draw(st.lists(st.sampled_from("etsmd"), unique=True))
    found = [*patient, *(_paper(draw, kind) for kind in some)]
    return [*found, *(draw(consents(number)) for number in range(draw(st.integers(0, 4))))]


def _paper(draw: st.DrawFn, kind: str) -> Resource:
    told = _given(period=draw(periods()))
    person = st.sampled_from(PEOPLE)
    if kind == "e":
        status = draw(st.sampled_from(("active", "active", "planned", "finished")))
        manager = draw(st.one_of(st.none(), person))
        return episode(manager, status=status, team=[ref("CareTeam/t")], **told)
    if kind == "t":
        status = draw(st.sampled_from(("active", "active", "inactive")))
        return team(*(_member(draw) for _ in range(draw(st.integers(0, 3)))), status=status, **told)
    if kind == "s":
        status = draw(st.sampled_from(("in-progress", "onleave", "finished", "planned")))
        return stay(ods(draw(st.sampled_from(CODES))), status=status, **told)
    name = "mum" if kind == "m" else "dad"
    return carer(name, holds=draw(st.booleans()), **told)


def _member(draw: st.DrawFn) -> dict[str, Any]:
    who = draw(st.sampled_from([*map(ref, (*PEOPLE, *RELATIVES)), *map(ods, CODES)]))
    behalf = draw(st.one_of(st.none(), st.sampled_from(CODES).map(ods)))
    code = draw(st.sampled_from(("keyworker", "camhs")))
    return member(who, code, **_given(period=draw(periods()), onBehalfOf=behalf))


callers = st.builds(
    lambda user, code, roles, purpose, reason, sends: Caller(
        "c",
        user=user,
        organisation=code,
        roles=frozenset(roles),
        purpose=purpose,
        break_glass=reason,
        grants=SENDS if sends else (),
    ),
    st.sampled_from(("", *PEOPLE, *PEOPLE, *RELATIVES, *RELATIVES, "Patient/1", "Patient/2")),
    st.sampled_from(("", *CODES)),
    st.sampled_from(((),) * 8 + (*((one,) for one in Role), (Role.ADMINISTRATOR,))),
    st.sampled_from(("TREAT", "TREAT", "", "HOPERAT")),
    st.sampled_from(("",) * 8 + ("life at risk",)),
    st.booleans(),
)

_TEAM: Final = team(member("Practitioner/a", "keyworker"), member(ods("C1")))
_CARE: Final = (
    episode("Practitioner/a", team=[ref("CareTeam/t")]),
    _TEAM,
    stay(ods("W1")),
    carer("mum"),
    carer("dad"),
)
_BASES: Final = {
    "2012-05-04": (
        consent(id="c0"),
        consent("register", id="c1"),
        consent(
            "cetr", provision=rule("permit", ods("H1"), ods("E1"), "RelatedPerson/mum"), id="c2"
        ),
        consent("register", provision=rule("permit", ods("E1"), "RelatedPerson/mum"), id="c3"),
    ),
    "2014-05-04": (
        consent(
            "keyworking",
            "parental-responsibility",
            "RelatedPerson/mum",
            ("not-competent", "2026-03-02"),
            id="c0",
        ),
        consent("register", "parental-responsibility", "RelatedPerson/mum", None, id="c1"),
    ),
    "2011-11-22": (
        consent(
            "keyworking",
            "parental-responsibility",
            "RelatedPerson/mum",
            ("not-competent", "2026-03-02"),
            id="c0",
        ),
        consent(id="c1", provision=rule("permit", "RelatedPerson/dad", ods("C1"))),
    ),
    "2007-11-22": (
        consent("keyworking", "consent", "Patient/1", None, id="c0"),
        consent(
            "keyworking",
            "consent",
            "Patient/1",
            None,
            id="c1",
            provision=rule("permit", "RelatedPerson/mum", "Practitioner/b"),
        ),
        consent(
            "register",
            "health-and-welfare-lasting-power-of-attorney",
            "RelatedPerson/dad",
            ("lacks-capacity", "2026-03-02"),
            id="c2",
        ),
    ),
}
"""Papers as they should be, by a birth date that they fit on 22 November 2026."""


@st.composite
def likely_worlds(draw: st.DrawFn) -> list[Resource]:
    """Good papers, of which some are missing, and some are others."""
    born = draw(st.sampled_from(sorted(_BASES)))
    seldom = st.integers(0, 4).map(lambda drawn: drawn == 0)
    managed = draw(st.sampled_from(MANAGING))
    day = draw(st.sampled_from(BORN)) if draw(seldom) else born
    papers = [child(born=day, managingOrganization=managed), *_CARE]
    papers += [one for one in _BASES[born] if draw(st.booleans())]
    if draw(seldom):
        papers.pop(draw(st.integers(0, len(papers) - 1)))
    for number in range(4):
        if draw(st.integers(0, 3)) == 0:
            papers.append(_changed(draw, number))
    found = {(one["resourceType"], one["id"]): one for one in papers}
    return list(found.values())


def _changed(draw: st.DrawFn, number: int) -> Resource:
    """Another paper, or a good one with rules or a status of its own."""
    if draw(st.booleans()):
        return draw(consents(number))
    if draw(st.integers(0, 2)) == 0:
        return _paper(draw, draw(st.sampled_from("etsmd")))
    good = draw(st.sampled_from([one for several in _BASES.values() for one in several]))
    changed = {**good, "id": f"c{number}", "dateTime": draw(days)}
    if draw(st.integers(0, 4)) == 0:
        changed["status"] = "inactive"
    return {**changed, "provision": draw(rules())}


likely_moments = st.one_of(st.just(datetime(2026, 11, 22, 12, tzinfo=UTC)), moments)
likely_callers = st.builds(
    lambda who, purpose, reason: Caller(
        "c",
        user=who[0],
        organisation=who[1],
        purpose=purpose,
        break_glass=reason,
        roles=frozenset(who[2:]),
    ),
    st.sampled_from(
        (
            *(("Practitioner/a", "C1"), ("Practitioner/b", "C1"), ("", "C1"), ("", "W1")),
            *(("Practitioner/b", "W1"), ("Practitioner/b", "H1"), ("", "E1"), ("", "H1")),
            *(("RelatedPerson/mum", ""), ("RelatedPerson/dad", ""), ("Patient/1", "")),
            ("Practitioner/b", "H1", Role.CETR_PANEL),
            *(("", code, Role.ADMINISTRATOR) for code in ("C1", "H1", "W1", "E1")),
        )
    ),
    st.sampled_from(("TREAT", "TREAT", "TREAT", "")),
    st.sampled_from(("",) * 12 + ("life at risk",)),
)

_KINDS: Final = {
    "": "system",
    "Practitioner": "practitioner",
    "RelatedPerson": "related",
    "Patient": "patient",
}


def identity(caller: Caller) -> Identities:
    """As the records would say: H1 has an Organization, the others a code alone."""
    names = {f"ods:{caller.organisation}"} if caller.organisation else set()
    if caller.organisation == "H1":
        names.add("Organization/h1")
    person = frozenset({caller.user}) if caller.user else frozenset[str]()
    return Identities(caller.user.partition("/")[0], person, frozenset(names))


def asker(caller: Caller) -> oracle.Asker:
    who = identity(caller)
    return oracle.Asker(
        _KINDS[caller.user.partition("/")[0]],
        who.person,
        caller.organisation,
        who.organisations,
        frozenset(role.value for role in caller.roles),
        caller.purpose,
        caller.break_glass,
        bool(caller.grants),
    )


def facts_of(world: list[Resource]) -> Facts:
    told = [reading.contribution(resource) for resource in world]
    found = [one for one in told if one is not None and "Patient/1" in one.subjects]
    return gathered(found, "Patient/1")


def case(world: list[Resource], caller: Caller, now: datetime) -> Case:
    terms = Terms(SIGNATORIES, frozenset(CODES))  # type: ignore[arg-type]
    return Case("1", facts_of(world), caller, identity(caller), microseconds(now), terms)
