"""The pathway of each young person of the synthetic caseload, and what they agreed to."""

from fhir_server.fhir import canonicals
from tests.caseload.reading import Caseload, code_of, extension, state

# Consent


def test_nobody_is_on_the_register_without_consent_to_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        if any(flag["status"] == "active" for flag in caseload.ratings(patient)):
            (consent,) = caseload.consents(patient, "register", "active")
            assert consent["provision"]["period"]["end"] > caseload.as_of


def test_no_rating_is_older_than_the_consent_to_the_register(caseload: Caseload) -> None:
    for patient in caseload.patients():
        given = min(c["dateTime"][:10] for c in caseload.of("Consent", patient))
        assert all(flag["period"]["start"] >= given for flag in caseload.ratings(patient))


def test_no_keyworking_without_consent_to_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        if episode["status"] in ("waitlist", "active"):
            (consent,) = caseload.consents(patient, "keyworking", "active")
            assert consent["provision"]["period"]["end"] > caseload.as_of
        pending = caseload.consents(patient, "keyworking", "proposed")
        assert bool(pending) == (state(episode) == "consent-pending")


def test_a_parent_never_decides_for_someone_of_sixteen(caseload: Caseload) -> None:
    for patient in caseload.patients():
        for consent in caseload.of("Consent", patient):
            if code_of(consent["policyRule"]) != "parental-responsibility":
                continue
            carer = consent["performer"][0]["reference"].partition("/")[2]
            (related,) = [r for r in caseload.by_type["RelatedPerson"] if r["id"] == carer]
            assert caseload.age(patient) < 16
            held = extension(related, canonicals.PARENTAL_RESPONSIBILITY_EXTENSION)[0]
            assert held == {"url": "held", "valueBoolean": True}


def test_a_parents_decision_ends_before_the_birthday_that_ends_it(caseload: Caseload) -> None:
    for patient in caseload.patients():
        for consent in caseload.of("Consent", patient):
            if code_of(consent["policyRule"]) == "parental-responsibility":
                born = caseload.born(patient)
                limit = 13 if caseload.age(patient) < 13 else 16
                birthday = f"{int(born[:4]) + limit}{born[4:]}"
                assert consent["provision"]["period"]["end"] < birthday


def test_every_recipient_of_a_consent_has_a_role(caseload: Caseload) -> None:
    for consent in caseload.by_type["Consent"]:
        for actor in consent["provision"]["actor"]:
            assert actor["role"]
            assert actor["reference"]


# The pathway


def test_a_keyworker_and_a_team_come_with_allocation(caseload: Caseload) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        allocated = episode["status"] in ("active", "finished")
        assert ("careManager" in episode) == allocated == bool(caseload.of("CareTeam", patient))


def test_the_status_history_ends_in_the_status_of_today(caseload: Caseload) -> None:
    for episode in caseload.by_type["EpisodeOfCare"]:
        *past, now = episode["statusHistory"]
        assert now["status"] == episode["status"]
        assert "end" not in now["period"]
        assert all("end" in one["period"] for one in past)


def test_a_closed_or_cancelled_episode_says_why_and_leaves_no_task_open(
    caseload: Caseload,
) -> None:
    for patient in caseload.patients():
        episode = caseload.episode(patient)
        over = episode["status"] in ("finished", "cancelled")
        assert bool(extension(episode, canonicals.CLOSE_REASON_EXTENSION)) == over
        if over:
            assert caseload.of("Task", patient, status="requested") == []


def test_the_family_is_contacted_before_the_team(caseload: Caseload) -> None:
    for patient in caseload.patients():
        due = {
            code_of(task["code"]): task["restriction"]["period"]["end"]
            for task in caseload.of("Task", patient)
        }
        if "contact-mdt" in due:
            assert due["contact-family"] < due["contact-mdt"]


def test_an_active_plan_has_the_young_persons_voice_and_a_goal(caseload: Caseload) -> None:
    plans = [p for p in caseload.by_type["CarePlan"] if p["status"] == "active"]
    assert plans
    for plan in plans:
        assert extension(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION)["text"]
        assert plan["goal"]


def test_goals_are_smart(caseload: Caseload) -> None:
    for goal in caseload.by_type["Goal"]:
        (target,) = goal["target"]
        assert len(goal["description"]["text"]) >= 10
        assert target["measure"]["text"]
        assert target["detailString"]
        assert target["dueDate"] > goal["startDate"]
        assert goal["addresses"]
        assert goal["note"][0]["text"]
        individual, agreed = extension(goal, canonicals.GOAL_ACCEPTANCE_EXTENSION)
        assert individual["valueReference"]["reference"] == goal["subject"]["reference"]
        pending = goal["lifecycleStatus"] == "proposed"
        assert agreed["valueCode"] == ("pending" if pending else "agree")


def test_an_active_goal_is_not_yet_due(caseload: Caseload) -> None:
    active = [g for g in caseload.by_type["Goal"] if g["lifecycleStatus"] == "active"]
    assert active
    assert all(goal["target"][0]["dueDate"] > caseload.as_of for goal in active)


def test_nothing_that_has_happened_lies_in_the_future(caseload: Caseload) -> None:
    for encounter in caseload.by_type["Encounter"]:
        assert encounter["period"]["start"][:10] <= caseload.as_of
    for task in caseload.by_type["Task"]:
        assert task["authoredOn"][:10] <= caseload.as_of
    for consent in caseload.by_type["Consent"]:
        assert consent["dateTime"][:10] <= caseload.as_of


def test_what_was_said_differs_from_one_young_person_to_the_next(caseload: Caseload) -> None:
    voices = {
        plan["subject"]["reference"]: extension(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION)[
            "text"
        ]
        for plan in caseload.by_type["CarePlan"]
    }
    assert len(set(voices.values())) == len(voices)


def test_a_task_is_done_no_later_than_the_day_of_the_caseload(caseload: Caseload) -> None:
    for task in caseload.by_type["Task"]:
        done = task["status"] == "completed"
        assert ("executionPeriod" in task) == done
        if done:
            period = task["executionPeriod"]
            assert task["authoredOn"][:10] <= period["end"] <= caseload.as_of
            assert period["start"] <= period["end"]


def test_a_visit_and_the_task_for_it_fall_on_the_same_day(caseload: Caseload) -> None:
    for patient in caseload.patients():
        done = {
            code_of(task["code"]): task["executionPeriod"]["end"]
            for task in caseload.of("Task", patient, status="completed")
        }
        visits = {
            visit["type"][0]["text"]: visit["period"]["start"][:10]
            for visit in caseload.of("Encounter", patient)
            if "text" in visit.get("type", [{}])[0]
        }
        assert done.get("first-visit") == visits.get("First visit")
        assert done.get("planning-visit") == visits.get("Planning visit")
