"""In hospital already when she is referred: Esi is 16, and nobody but the ward knows of her."""

from tests.operations.messages import Spell
from tests.stories import papers
from tests.stories.papers import Child
from tests.stories.telling import Telling


async def test_the_story_of_an_inpatient(telling: Telling) -> None:
    esi = Child("Esi", born="2009-09-14")
    stay = await _is_told_of(telling, esi)
    await _is_recorded(telling, esi)
    await _agrees_to_the_register(telling, esi)
    await _is_referred(telling, esi)
    await _is_visited_on_the_ward(telling, esi)
    await _comes_home(telling, esi, stay)


async def _is_told_of(telling: Telling, esi: Child) -> Spell:
    """The ward tells of her, and gets no more than that it was heard:

    Nobody has asked her yet.
    """
    keyworker, hospital = telling.keyworker, telling.hospital
    signatory = telling.paediatrician
    stay = Spell(esi.nhs_number, telling.clock.now, birth_date=esi.born)
    (answer,) = await hospital.tells(stay.admit())
    assert answer.startswith("The event is stored: Encounter/")
    await telling.is_known_from_the_hospital(esi)
    for person in (hospital, signatory, keyworker, telling.manager):
        assert await person.knows(esi) == set()
    assert await telling.esi.rating_of(esi) == ""
    asked = await telling.esi.to_do(esi)
    assert asked["obtain-consent"] == "2026-03-09", "five working days"
    return stay


async def _is_recorded(telling: Telling, esi: Child) -> None:
    """Who keeps the register keeps her record from then on, and adds what they know."""
    assert await telling.register.knows(esi) == {"Patient"}
    await telling.register.writes(papers.diagnosis(esi.reference))


async def _agrees_to_the_register(telling: Telling, esi: Child) -> None:
    """Three days later she agrees to be on the register, where she is blue."""
    hospital, signatory = telling.hospital, telling.paediatrician
    await telling.it_is("2026-03-05 10:00")
    await telling.esi.consents(esi, to="register")
    assert await signatory.rating_of(esi) == "blue"
    assert await hospital.knows(esi) == set()


async def _is_referred(telling: Telling, esi: Child) -> None:
    """Blue is referred as amber is. She waits for a keyworker while she is in hospital."""
    keyworker, hospital = telling.keyworker, telling.hospital
    await telling.social_worker.refers(esi, "Sectioned on Monday, nobody at home knows how")
    await telling.manager.moves(esi, to="consent-pending")
    await telling.esi.consents(esi, to="keyworking")
    await telling.manager.moves(esi, to="awaiting-allocation")
    assert await telling.manager.allocates(esi, keyworker) == 1
    assert await hospital.plans_of(esi) == {"discharge-plan": "draft"}, "the ward sees her plan now"


async def _is_visited_on_the_ward(telling: Telling, esi: Child) -> None:
    """The same begins in hospital:

    Family first, then the professionals, then a visit on the ward.
    """
    keyworker, hospital = telling.keyworker, telling.hospital
    due = await keyworker.to_do(esi)
    assert due["contact-family"] == "2026-03-12"
    assert due["T-CETR-POSTADM"] == "2026-03-16", "a fortnight from Monday, not from today"
    await keyworker.moves(esi, to="in-hospital")
    await keyworker.completes(esi, "contact-family")
    await keyworker.completes(esi, "contact-mdt")
    await telling.it_is("2026-03-12 15:00")
    await keyworker.visits(esi, where="FLD")
    await keyworker.completes(esi, "first-visit")
    await keyworker.gathers(esi, camhs=telling.nurse)
    (need,), (team,) = [await keyworker.sees(kind, esi) for kind in ("Condition", "CareTeam")]
    esi.need = f"Condition/{need['id']}"
    wish = ("I sleep at home, in my own bed", "Nights at home", "All of them", "2026-04-30")
    goal = await keyworker.writes(papers.goal(esi, telling.clock.now.date(), *wish))
    plan = await keyworker.plan_of(esi, "discharge-plan")
    plan = papers.followed(plan, "I want to sleep at home", goal, team)
    await keyworker.writes(plan)
    await keyworker.moves(esi, to="discharge-planning")
    assert await hospital.plans_of(esi) == {"discharge-plan": "active"}


async def _comes_home(telling: Telling, esi: Child, stay: Spell) -> None:
    """Home after three weeks."""
    keyworker, hospital = telling.keyworker, telling.hospital
    await telling.it_is("2026-03-25 10:00")
    await hospital.tells(stay.discharge(telling.clock.now))
    assert await hospital.knows(esi) == set()
    assert await keyworker.state_of(esi) == "plan-active"
    for person in (telling.esi, keyworker, telling.nurse):
        assert await person.rating_of(esi) == "red"
        assert await person.plans_of(esi) == {"discharge-plan": "active"}
    due = await keyworker.to_do(esi)
    assert due["T-CAREPLAN-SHARE"] == "2026-03-26 10:00"
    assert due["T-FU-7D"] == "2026-04-01 11:00", "seven days, and the clocks went forward"
    assert due["planning-visit"] == "2026-04-10", "there is no plan for home yet: ten working days"
    assert due["T-CETR-COMMUNITY"] == "2026-04-08", "nobody has reviewed yet why she went in"
