"""What a commit remembers of its questions is what the store would find, whatever it writes."""

from random import Random
from typing import Any, Final

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir import canonicals
from fhir_server.operation.records import Lookup, Records
from fhir_server.search.ast import IdIn, Missing, Node, Not, SortKey, TokenIs
from fhir_server.storage.interface import Store
from fhir_server.validation.checker import standard_checker
from operations._person import IS_INPATIENT, any_of
from tests.operations.chart import concept
from tests.storage import questions

BASE: Final = "http://127.0.0.1:8080/fhir"
PEOPLE: Final = ("Patient/expected", "Patient/other")
BEGUN: Final = SortKey("date", "date", descending=True)
STATUSES: Final = ("draft", "active", "completed")
ASKED: Final[tuple[tuple[str, tuple[Node, ...], int, SortKey | None], ...]] = (
    ("CarePlan", (), 0, None),
    ("CarePlan", (), 2, None),
    ("CarePlan", (any_of("status", "active"),), 1, None),
    ("CarePlan", (any_of("status", "draft", "active"),), 0, None),
    ("CarePlan", (Not(Missing("encounter", "reference")),), 20, None),
    ("CarePlan", (Missing("encounter", "reference"), any_of("status", "active")), 2, None),
    ("CarePlan", (TokenIs("category", canonicals.CARE_PLAN_CATEGORY, None),), 3, BEGUN),
    ("CarePlan", (IdIn(("plan-1", "plan-2", "plan-3")),), 0, None),
    ("Encounter", (IS_INPATIENT,), 20, BEGUN),
    ("Encounter", (), 0, None),
)


def plan(chance: Random) -> dict[str, Any]:
    hangs = {"encounter": {"reference": "Encounter/stay-1"}} if chance.random() < 0.5 else {}
    kinds = [concept(canonicals.CARE_PLAN_CATEGORY, "discharge-plan")]
    return {
        "resourceType": "CarePlan",
        "id": f"plan-{chance.randrange(9)}",
        "status": chance.choice(STATUSES),
        "intent": "plan",
        "subject": {"reference": chance.choice(PEOPLE)},
        "period": {"start": f"2026-05-0{chance.randrange(1, 9)}"},
        **hangs,
        **({"category": kinds} if chance.random() < 0.5 else {}),
    }


def stay(chance: Random) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": f"stay-{chance.randrange(5)}",
        "status": "in-progress",
        "class": {"system": canonicals.ACT_CODE, "code": chance.choice(("IMP", "HH"))},
        "subject": {"reference": chance.choice(PEOPLE)},
        "period": {"start": f"2026-05-0{chance.randrange(1, 9)}"},
    }


async def write(unit: SessionUnit, chance: Random) -> None:
    resource = (plan if chance.random() < 0.7 else stay)(chance)
    there = await unit.read(resource["resourceType"], resource["id"])
    if there is not None and not there.deleted and chance.random() < 0.3:
        await unit.delete(there)
    else:
        await unit.put(resource, "PUT")


async def require_same(records: Records) -> None:
    """Of every question about everybody."""
    plain = Lookup(records.unit, base=BASE, now=0)
    for kind, further, latest, by in ASKED:
        order = {} if by is None else {"by": by}
        for person in PEOPLE:
            found = await records.about(kind, person, *further, latest=latest, **order)
            wanted = await plain.about(kind, person, *further, latest=latest, **order)
            assert found == wanted, (kind, person, further, latest)


async def test_what_is_remembered_is_what_would_be_found(store: Store) -> None:
    chance = Random(7)  # noqa: S311 - the same each time
    before = [plan(chance), stay(chance)]
    await questions.put(store, *({**one, "subject": {"reference": PEOPLE[1]}} for one in before))

    async def work(unit: SessionUnit) -> None:
        mine, rules = (
            Records(unit, base=BASE, now=0, checker=standard_checker()) for _ in range(2)
        )
        mine.expect_questions(PEOPLE[0])
        for step in range(30):
            await require_same(rules if step % 2 else mine)
            for _ in range(chance.randrange(5)):
                await write(unit, chance)

    await Session(store, ANONYMOUS, OpenPolicy()).commit("test", work)
