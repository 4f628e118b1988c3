"""What parents see: Ivy turns 13 in March, and Jo 16 in April.

Parents decide for a child; from 13 on it is looked at who does, and from 16 on it is the young
person. The day of the birthday changes it, whatever anybody has written down.
"""

from typing import Any

from fhir_server.fhir import canonicals
from tests.access.people import coded, competence, rule
from tests.operations.chart import code_of
from tests.stories.papers import Child
from tests.stories.people import Person, refused
from tests.stories.telling import Telling


async def test_the_story_of_a_daughter_who_turns_13(telling: Telling) -> None:
    ivy = Child("Ivy", born="2013-03-20")
    await telling.is_brought(ivy)
    await _is_put_on_the_register(telling, ivy)
    await _is_given_a_keyworker(telling, ivy)
    await _turns_13(telling, ivy)
    await _decides(telling, ivy)
    await _takes_it_back(telling, ivy)


async def _is_put_on_the_register(telling: Telling, ivy: Child) -> None:
    """She is 12. Her mother decides whether she is on the register: till then nobody sees her."""
    mother = telling.ivys_mother
    for person in (mother, telling.paediatrician, telling.social_worker, telling.manager):
        assert await person.knows(ivy) == set()
    assert await telling.register.knows(ivy) == {"Patient", "RelatedPerson"}
    await mother.consents(ivy, to="register")
    await telling.paediatrician.rates(ivy, "amber", "She has not been to school since June")
    assert await mother.rating_of(ivy) == "amber"
    await telling.social_worker.refers(ivy, "It is too much for everybody")


async def _is_given_a_keyworker(telling: Telling, ivy: Child) -> None:
    """To keyworking too; who takes the referral writes it down with her, and nobody else does."""
    mother, father, keyworker = telling.ivys_mother, telling.ivys_father, telling.keyworker
    with refused(403, "recorded by the keyworker"):
        await telling.social_worker.records_consent(ivy, "keyworking", giver=ivy.mother)
    await _allocated(telling, ivy)
    for parent in (mother, father):
        assert {"Flag", "Task", "CareTeam", "Consent"} <= await parent.knows(ivy)
    assert await telling.ivy.knows(ivy) == set()
    assert (await keyworker.to_do(ivy))["T-PROXY-REVIEW"] == "2026-03-20"
    assert "T-PROXY-REVIEW" in await mother.to_do(ivy), "nobody is taken by surprise"


async def _turns_13(telling: Telling, ivy: Child) -> None:
    """Midnight: both parents see nothing, until somebody has talked with her."""
    mother, father, keyworker = telling.ivys_mother, telling.ivys_father, telling.keyworker
    await telling.it_is("2026-03-20 00:01")
    for parent in (mother, father):
        assert await parent.knows(ivy) == set()
        with refused(403):
            await parent.consents(ivy, to="keyworking")
    assert await keyworker.rating_of(ivy) == ""
    assert {"Task", "Consent"} <= await keyworker.knows(ivy), "what was, to go on from"


async def _decides(telling: Telling, ivy: Child) -> None:
    """She is found competent, and decides: her mother, her keyworker, and not her father."""
    mother, father, keyworker = telling.ivys_mother, telling.ivys_father, telling.keyworker
    await telling.it_is("2026-03-24 16:00")
    asked = [competence("gillick-competent", "2026-03-24")]
    own: dict[str, Any] = {
        "extension": asked,
        "policyRule": coded(canonicals.CONSENT_BASIS, "gillick-consent"),
        "provision": _permit(mother, keyworker),
    }
    for about in ("register", "keyworking"):
        await keyworker.records_consent(ivy, about, giver=ivy.reference, **own)
    for person in (telling.ivy, mother, keyworker):
        assert {"Flag", "Task", "Consent"} <= await person.knows(ivy)
    assert await father.knows(ivy) == set()
    assert await keyworker.done(ivy, "T-PROXY-REVIEW") == {"T-PROXY-REVIEW": "completed"}
    with refused(403):
        await mother.consents(ivy, to="cetr")


async def _takes_it_back(telling: Telling, ivy: Child) -> None:
    """What she has given she takes back by herself."""
    await telling.ivy.withdraws(ivy, "keyworking")
    assert "Task" not in await telling.ivys_mother.knows(ivy)
    assert {"Flag", "Task"} <= await telling.ivy.knows(ivy)


async def test_the_story_of_a_son_who_turns_16(telling: Telling) -> None:
    jo = Child("Jo", born="2010-04-02")
    keyworker = telling.keyworker
    await telling.is_brought(jo)
    mother = telling.jos_mother

    # He is 15, and was found not to understand yet what he would agree to: so his mother decides,
    # and who keeps the register writes it down. She does not assess him.
    with refused(403):
        await mother.consents(jo, to="register")
    found = [competence("not-competent", "2026-02-20")]
    await telling.register.records_consent(jo, "register", giver=jo.mother, extension=found)
    with refused(422, "an active rating that calls for it"):
        await telling.register.refers(jo, "His mother asks for somebody")
    await telling.paediatrician.rates(jo, "amber", "He has not been to school since June")
    await telling.register.refers(jo, "His mother asks for somebody")
    await _allocated(telling, jo, extension=found)
    assert {"Flag", "Task", "CareTeam", "Consent"} <= await mother.knows(jo)
    assert await telling.jo.knows(jo) == set()
    await telling.it_is("2026-03-05 09:00")
    assert (await keyworker.to_do(jo))["T-PROXY-16"] == "2026-04-02", "four weeks ahead"
    assert await _on_the_register_of(telling.paediatrician) == ["amber"]

    # He is 16: it is his. What his mother has agreed to has ended, for her and for everybody.
    await telling.it_is("2026-04-02 00:01")
    assert await mother.knows(jo) == set()
    assert {"Patient", "Flag", "Task", "Consent"} <= await telling.jo.knows(jo)
    for about in ("register", "keyworking"):
        (ended,) = await telling.jo.consents_of(jo, about)
        assert ended["status"] == "inactive"
        assert "ROLE_DEACTIVATED_END_DATE_REACHED" in str(ended["extension"])
    assert await keyworker.rating_of(jo) == ""
    assert await telling.paediatrician.knows(jo) == set()
    assert await _on_the_register_of(telling.paediatrician) == []
    assert await telling.jo.rating_of(jo) == "amber", "it stands, until he has been asked"

    # He agrees, for himself. He does not name his mother, who has no part in it by that.
    await telling.it_is("2026-04-02 17:00")
    await telling.jo.consents(jo, to="keyworking")
    assert "T-PROXY-16" in await telling.jo.to_do(jo), "about the register nobody has asked yet"
    await telling.jo.consents(jo, to="register")
    assert await _on_the_register_of(telling.paediatrician) == ["amber"]
    for person in (keyworker, telling.paediatrician):
        assert await person.rating_of(jo) == "amber"
    assert await mother.knows(jo) == set()
    assert await keyworker.done(jo, "T-PROXY-16") == {"T-PROXY-16": "completed"}
    assert (await keyworker.to_do(jo))["T-CONSENT-RECHECK"] == "2027-04-02"


async def _on_the_register_of(person: Person) -> list[str]:
    """The colours that the register shows them."""
    shown = [one["resource"] for one in (await person.gets("$register")).get("entry", ())]
    return [code_of(one["code"]) for one in shown if one["resourceType"] == "Flag"]


async def _allocated(telling: Telling, child: Child, **elements: Any) -> None:
    """With the consent of the mother to keyworking, as the manager takes it."""
    manager = telling.manager
    await manager.moves(child, to="consent-pending")
    await manager.records_consent(child, "keyworking", giver=child.mother, **elements)
    assert await manager.knows(child) == set(), "nothing by having written it down"
    await manager.moves(child, to="awaiting-allocation")
    await manager.allocates(child, telling.keyworker)


def _permit(*people: Person) -> dict[str, Any]:
    """For these alone, until the end of the year."""
    named = [person.reference for person in people]
    return rule("permit", *named, period={"start": "2026-03-24", "end": "2026-12-31"})
