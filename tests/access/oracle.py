"""The decision table read a second time, from DOMAIN.md section 7 and docs/decision-table.md.

Plain and slow: it looks at whole resources, has its own calendar, and shares nothing with the
server but FHIR's names. What a consent permits it asks type by type, label by label.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.access.oracle_chart import (
    AREAS,
    KW,
    TYPES,
    Chart,
    Resource,
    after,
    basis_of,
    category_of,
    code_of,
    competence_of,
    first,
    name_of,
    within,
)


@dataclass(frozen=True)
class Asker:
    """Who asks, with all the names that the records have for them."""

    kind: str
    """practitioner, related, patient or system."""
    names: frozenset[str]
    organisation: str = ""
    organisation_names: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    purpose: str = ""
    reason: str = ""
    creates_encounters: bool = False


@dataclass
class Verdict:
    row: int = 0
    sees: dict[str, str] = field(default_factory=dict)
    """Area -> all or colour."""
    types: frozenset[str] = frozenset(TYPES)
    hidden_labels: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    plans: frozenset[str] = frozenset()


ALL: Final = dict.fromkeys(AREAS, "all")


# Consent


def has_responsibility(chart: Chart, name: str) -> bool:
    for related in chart.of("RelatedPerson"):
        if f"RelatedPerson/{related['id']}" == name and within(related.get("period"), chart.now):
            told = related.get("extension", [{"extension": []}])[0]["extension"]
            return any(part.get("valueBoolean") is True for part in told)
    return False


def is_valid(chart: Chart, consent: Resource) -> bool:
    return not chart.dead and is_right(chart, consent)


def is_right(chart: Chart, consent: Resource) -> bool:
    """Whether whoever gave it could, and it has not come to its end by age."""
    given = first(consent["dateTime"]).astimezone(UTC)
    if given > chart.now or chart.most_age() >= 25:
        return False
    if any(check["verified"] is not True for check in consent.get("verification", ())):
        return False
    grown_up = chart.most_age() < 18 or chart.least_age(given) >= 18
    if "register" in category_of(consent) and not grown_up:
        return False
    return gives_rightly(chart, consent, given)


def gives_rightly(chart: Chart, consent: Resource, given: datetime) -> bool:
    basis, competence = basis_of(consent), competence_of(consent)
    outcome = competence[0] if competence else ""
    performers = [name_of(one) for one in consent["performer"]]
    if basis == "consent":
        old_enough = chart.least_age(given) >= 16 or outcome == "gillick-competent"
        able = outcome not in ("not-competent", "lacks-capacity")
        return performers == ["Patient/1"] and able and old_enough
    if basis == "gillick-consent":
        return performers == ["Patient/1"] and outcome == "gillick-competent"
    if basis == "parental-responsibility":
        if not all(has_responsibility(chart, name) for name in performers):
            return False
        if chart.most_age() < 13:
            return True
        reviewed = competence is not None and outcome == "not-competent"
        if chart.most_age() >= 16 or not reviewed or competence is None:
            return False
        assessed = first(competence[1])
        return assessed <= chart.now and chart.least_age(assessed) >= 13
    if chart.least_age() < 16 or outcome != "lacks-capacity":
        return False
    if basis == "best-interest":
        professional = all(name.startswith("Practitioner") for name in performers)
        return professional and "sourceAttachment" in consent
    related = {f"RelatedPerson/{one['id']}": one for one in chart.of("RelatedPerson")}
    return all(
        name.startswith("Practitioner")
        or (name in related and within(related[name].get("period"), chart.now))
        for name in performers
    )


@dataclass(frozen=True)
class Question:
    """What is asked of a consent: for whom, of which type, with which label."""

    names: frozenset[str]
    purpose: str
    now: datetime
    type: str
    label: str = ""


def about_asker(rule: Resource, asked: Question, must_name: str) -> bool:
    """`must_name`: no, listed or yes; denials always count where they list nobody."""
    if not within(rule.get("period"), asked.now):
        return False
    purposes = [coding["code"] for coding in rule.get("purpose", ())]
    permits = rule["type"] == "permit"
    if purposes and asked.purpose not in purposes and (permits or asked.purpose):
        return False
    actors = [name_of(one["reference"]) for one in rule.get("actor", ())]
    named = bool(asked.names & set(actors))
    if not permits:
        return named or not actors
    if must_name == "no":
        return True
    return named or (must_name == "listed" and not actors)


def says(rule: Resource, asked: Question, must_name: str) -> bool | None:
    """What the rule says of such a datum; None where it is not about it."""
    if not about_asker(rule, asked, must_name):
        return None
    types = [coding["code"] for coding in rule.get("class", ())]
    labels = [coding["code"] for coding in rule.get("securityLabel", ())]
    permits = rule["type"] == "permit"
    if permits and (labels or "dataPeriod" in rule):
        return None
    if types and asked.type not in types:
        return None
    if labels and asked.label not in labels:
        return None
    inside = "listed" if permits or must_name != "yes" else "yes"
    said = [says(one, asked, inside) for one in rule.get("provision", ())]
    if False in said:
        return False
    return True if True in said else permits


def has_denial(rule: Resource, asked: Question, must_name: str = "listed") -> bool:
    """Whether a denial for the asker counts anywhere on the way."""
    if rule["type"] == "deny":
        return True
    return any(
        about_asker(one, asked, must_name) and has_denial(one, asked)
        for one in rule.get("provision", ())
    )


@dataclass(frozen=True)
class Opened:
    """What consent leaves open to the asker."""

    types: frozenset[str]
    hidden_labels: frozenset[str]


def opened(
    chart: Chart,
    asker: Asker,
    category: str,
    must_name: str,
    bases: Sequence[str] = (),
    giver: str = "",
) -> Opened | None:
    """By the newest consents that say anything to the asker; None: closed."""
    consents = [one for one in chart.of("Consent") if category in category_of(one)]
    consents = [one for one in consents if one["status"] in ("active", "inactive", "rejected")]
    for moment in sorted({decided(one) for one in consents}, reverse=True):
        together = [one for one in consents if decided(one) == moment]
        if any(one["status"] != "active" for one in together):
            return None
        told = [(one, asked_of(chart, asker, one, must_name)) for one in together]
        if any(answer == "denied" for _, answer in told):
            return None
        counting = [
            answer
            for one, answer in told
            if isinstance(answer, Opened)
            and is_valid(chart, one)
            and (not bases or basis_of(one) in bases)
            and (not giver or giver in [name_of(who) for who in one["performer"]])
        ]
        if counting:
            types, hidden = counting[0].types, counting[0].hidden_labels
            for answer in counting[1:]:
                types, hidden = types & answer.types, hidden | answer.hidden_labels
            return Opened(types, hidden)
    return None


def decided(consent: Resource) -> datetime:
    """A refusal holds from the end of its day, as it may have come at any time of it."""
    if consent["status"] == "active":
        return first(consent["dateTime"]).astimezone(UTC)
    return after(consent["dateTime"]).astimezone(UTC) - timedelta(microseconds=1)


def asked_of(chart: Chart, asker: Asker, consent: Resource, must_name: str) -> Opened | str:
    names = asker.names | asker.organisation_names | teams_of(chart, asker)
    root = consent.get("provision")
    plain = {one: Question(names, asker.purpose, chart.now, one) for one in TYPES}
    if root is None or not about_asker(root, plain["Goal"], must_name):
        return "silent"
    open_types = frozenset(one for one in TYPES if says(root, plain[one], must_name) is True)
    if not open_types:
        return "denied" if has_denial(root, plain["Goal"]) else "silent"
    hidden = frozenset(
        label
        for label in ("R", "V")
        if any(
            says(root, Question(names, asker.purpose, chart.now, one, label), must_name) is not True
            for one in open_types
        )
    )
    return Opened(open_types, hidden)


def names_in_denials(rule: Resource, names: frozenset[str], now: datetime) -> bool:
    actors = {name_of(one["reference"]) for one in rule.get("actor", ())}
    if rule["type"] == "deny" and actors & names and within(rule.get("period"), now):
        return True
    return any(names_in_denials(one, names, now) for one in rule.get("provision", ()))


# Care


def members_of(chart: Chart) -> Iterator[tuple[str, Resource]]:
    for team in chart.of("CareTeam"):
        if team["status"] == "active" and within(team.get("period"), chart.now):
            for one in team["participant"]:
                if within(one.get("period"), chart.now):
                    yield f"CareTeam/{team['id']}", one


def is_member(asker: Asker, participant: Resource) -> bool:
    if asker.kind not in ("practitioner", "system"):
        return False
    who = name_of(participant["member"])
    if who in asker.organisation_names:
        return True
    behalf = name_of(participant["onBehalfOf"]) if "onBehalfOf" in participant else ""
    if asker.kind == "practitioner":
        return who in asker.names and (not behalf or behalf in asker.organisation_names)
    return who.startswith("Practitioner") and behalf in asker.organisation_names


def teams_of(chart: Chart, asker: Asker) -> frozenset[str]:
    return frozenset(team for team, one in members_of(chart) if is_member(asker, one))


def is_keyworker(chart: Chart, asker: Asker) -> bool:
    if asker.kind != "practitioner":
        return False
    for episode in chart.of("EpisodeOfCare"):
        open_now = episode["status"] in ("planned", "waitlist", "active", "onhold")
        if not open_now or not within(episode.get("period"), chart.now):
            continue
        if "careManager" in episode and name_of(episode["careManager"]) in asker.names:
            return True
        linked = {name_of(team) for team in episode.get("team", ())}
        for team, one in members_of(chart):
            roles = code_of(one["role"], f"{KW}/CodeSystem/care-team-role")
            in_person = name_of(one["member"]) in asker.names and is_member(asker, one)
            if team in linked and "keyworker" in roles and in_person:
                return True
    return False


def in_hospital(chart: Chart, asker: Asker) -> bool:
    return any(
        stay["class"]["code"] == "IMP"
        and stay["status"] in ("arrived", "triaged", "in-progress", "onleave")
        and within(stay.get("period"), chart.now)
        and name_of(stay["serviceProvider"]) in asker.organisation_names
        for stay in chart.of("Encounter")
    )


def keeps(chart: Chart, asker: Asker) -> bool:
    """Whether it is the client of who manages the record; it has no user."""
    managing = (chart.patient or {}).get("managingOrganization")
    is_client = asker.kind == "system" and "administrator" in asker.roles
    return is_client and managing is not None and name_of(managing) in asker.organisation_names


def keyworking_has_ended(chart: Chart) -> bool:
    consents = [one for one in chart.of("Consent") if "keyworking" in category_of(one)]
    consents = [one for one in consents if one["status"] in ("active", "inactive", "rejected")]
    if not any(was_right(chart, one) for one in consents):
        return False
    for one in sorted(consents, key=lambda one: (decided(one), one["status"] != "active"))[::-1]:
        if one["status"] != "active":
            return True
        if is_valid(chart, one) and within(one["provision"].get("period"), chart.now):
            return False
    return True


def was_right(chart: Chart, consent: Resource) -> bool:
    """When it was decided, by what was so then; and its time has come since."""
    if consent["status"] == "active" and decided(consent) > chart.now:
        return False
    begins = consent["provision"].get("period", {}).get("start")
    if begins and first(begins).astimezone(UTC) > chart.now:
        return False
    return is_right(Chart(chart.resources, decided(consent)), consent)


# The table


def decide(
    resources: Sequence[Resource], asker: Asker, now: datetime, signatories: Mapping[str, str]
) -> Verdict:
    chart = Chart(resources, now)
    found = by_row(chart, asker, signatories)
    works = asker.kind in ("practitioner", "system") and bool(asker.organisation)
    if asker.creates_encounters and works and found.row not in (13, 14):
        found.rights |= {"events"}
        found.row = found.row or 6
    if found.row not in (13, 14) and keeps(chart, asker):
        found.rights |= {"identity"}
    return found


def by_row(chart: Chart, asker: Asker, signatories: Mapping[str, str]) -> Verdict:
    works = asker.kind == "practitioner" or (asker.kind == "system" and bool(asker.organisation))
    if "load-test" in asker.roles:
        return Verdict(14)
    professional = asker.kind == "practitioner" and asker.organisation
    if asker.reason and professional and "commissioner" not in asker.roles and chart.patient:
        return Verdict(1, dict(ALL))
    if asker.roles & {"commissioner", "cetr-panel"}:
        shown = opened(chart, asker, "cetr", "yes") if works else None
        if shown and "cetr-panel" in asker.roles:
            return Verdict(13, dict(ALL), shown.types, shown.hidden_labels)
        return Verdict(13)
    if works:
        return for_services(chart, asker, signatories.get(asker.organisation, ""))
    if asker.kind == "patient":
        return for_patient(chart, asker)
    return for_relatives(chart, asker) if asker.kind == "related" else Verdict()


def for_services(chart: Chart, asker: Asker, kind: str) -> Verdict:
    if is_keyworker(chart, asker):
        shown = opened(chart, asker, "keyworking", "no")
        if shown:
            writes = frozenset({"plan", "risk"})
            rights = frozenset({"consent"})
            return Verdict(2, dict(ALL), shown.types, shown.hidden_labels, writes, rights)
        about = [one for one in chart.of("Consent") if "keyworking" in category_of(one)]
        about = [one for one in about if one["status"] in ("active", "inactive", "rejected")]
        names = asker.names | asker.organisation_names
        barred = any(
            names_in_denials(one["provision"], names, chart.now)
            for one in about
            if "provision" in one
        )
        if chart.patient and keyworking_has_ended(chart) and not barred:
            past = {area: "all" for area in AREAS if area != "flag"}
            return Verdict(15, past, rights=frozenset({"consent"}))
    if teams_of(chart, asker):
        shown = opened(chart, asker, "keyworking", "listed")
        if shown:
            own = frozenset({"own-activities"})
            return Verdict(3, dict(ALL), shown.types, shown.hidden_labels, rights=own)
    if asker.organisation and in_hospital(chart, asker):
        shown = opened(chart, asker, "keyworking", "no")
        if shown:
            plans = frozenset({"discharge-plan", "keyworking-plan"})
            return Verdict(5, dict(ALL), shown.types, shown.hidden_labels, plans=plans)
    if keeps(chart, asker):
        return Verdict(16, {"person": "all"})
    return for_signatories(chart, asker, kind)


def for_signatories(chart: Chart, asker: Asker, kind: str) -> Verdict:
    colour = {"person": "colour", "flag": "colour"}
    if kind in ("health", "social-care"):
        shown = opened(chart, asker, "register", "no")
        return Verdict(4, colour, shown.types, shown.hidden_labels) if shown else Verdict()
    if kind in ("education", "police", "voluntary"):
        shown = opened(chart, asker, "register", "yes")
        return Verdict(12, colour, shown.types, shown.hidden_labels) if shown else Verdict()
    return Verdict()


def newest_assessment(chart: Chart) -> tuple[str, str] | None:
    found = []
    for one in chart.of("Consent"):
        told = competence_of(one)
        decided_now = one["status"] in ("active", "inactive", "rejected")
        if told and decided_now and first(told[1]).astimezone(UTC) <= chart.now:
            found.append((first(told[1]), told[0] != "gillick-competent", told))
    return max(found)[2] if found else None


def for_patient(chart: Chart, asker: Asker) -> Verdict:
    if asker.names != {"Patient/1"} or chart.patient is None or chart.dead:
        return Verdict()
    told = newest_assessment(chart)
    if chart.least_age() >= 16 or (told and told[0] == "gillick-competent"):
        hidden = frozenset({"TBOO"})
        return Verdict(7, dict(ALL), hidden_labels=hidden, rights=frozenset({"consent"}))
    return Verdict()


PROXIES: Final = (
    "health-and-welfare-lasting-power-of-attorney",
    "court-appointed-personal-welfare-deputy",
)


def for_relatives(chart: Chart, asker: Asker) -> Verdict:
    (name,) = asker.names
    related = [one for one in chart.of("RelatedPerson") if f"RelatedPerson/{one['id']}" == name]
    if not any(within(one.get("period"), chart.now) for one in related):
        return Verdict()
    names = asker.names | asker.organisation_names
    barred = any(
        one["status"] == "active"
        and "provision" in one
        and names_in_denials(one["provision"], names, chart.now)
        for one in chart.of("Consent")
    )
    if chart.least_age() >= 16:
        own = ("consent", "gillick-consent", "best-interest", *PROXIES)
        found = as_relative(chart, asker, 11, barred, "yes", own)
        return found if found.row else as_relative(chart, asker, 11, barred, "no", PROXIES, name)
    if not has_responsibility(chart, name):
        return Verdict()
    if chart.most_age() < 13:
        return as_relative(chart, asker, 8, barred, "no", ("parental-responsibility",))
    if chart.least_age() < 13 or chart.most_age() >= 16:
        return Verdict()
    told = newest_assessment(chart)
    if told and chart.least_age(first(told[1])) >= 13:
        if told[0] == "not-competent":
            found = as_relative(chart, asker, 10, barred, "no", ("parental-responsibility",))
        else:
            found = as_relative(chart, asker, 10, barred, "yes", ("consent", "gillick-consent"))
        if found.row:
            return found
    return Verdict(9)


def as_relative(
    chart: Chart,
    asker: Asker,
    row: int,
    barred: bool,
    must_name: str,
    bases: Sequence[str],
    giver: str = "",
) -> Verdict:
    if barred:
        return Verdict()
    rights = frozenset({"consent"})
    shown = opened(chart, asker, "keyworking", must_name, bases, giver)
    if shown:
        hidden = shown.hidden_labels | {"TBOO"}
        return Verdict(row, dict(ALL), shown.types, hidden, rights=rights)
    shown = opened(chart, asker, "register", must_name, bases, giver)
    if shown:
        sees = {"person": "all", "flag": "all"}
        hidden = shown.hidden_labels | {"TBOO"}
        return Verdict(row, sees, shown.types, hidden, rights=rights)
    return Verdict()
