"""What is asked of SQLite does not depend on what was asked before, nor on how it is compiled."""

import gc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError
from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    DateCompares,
    Differs,
    IdIn,
    Not,
    Prefix,
    Query,
    ReferenceTo,
    SortKey,
    StringMatches,
    StringMode,
    TokenIn,
    TokenIs,
    UriBelow,
    conjunction,
    disjunction,
)
from fhir_server.search.parse import parse
from fhir_server.storage.interface import Position
from fhir_server.storage.sqlite.compile import Compiler
from fhir_server.storage.sqlite.places import Parting
from fhir_server.storage.sqlite.questions import _MOST, Questions
from fhir_server.storage.sqlite.sql import Lists, Place, Sql
from fhir_server.terminology.resolve import _terminological
from tests.search import ask
from tests.search.comparing import EXAMPLES, SEEDS
from tests.search.test_nodes import EXAMPLES as NODES
from tests.storage.questions import BASE, NOW, query

TYPES: Final = ("Patient", "CarePlan", "Observation", "Task", "Location", "ValueSet")


def hashed(text: str) -> int:
    return sum(map(ord, text)) + len(text) if text else 0


class Numbers:
    """Numbers of parameters; those that are not `known` have had no value."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    def __call__(self, resource_type: str, code: str) -> int:
        return 0 if code in self.unknown else hashed(f"{resource_type}.{code}")


def plain(asked: Query, most: int, after: Position | None) -> Sql:
    """Compiled with its values, and without anything that is kept."""
    return Compiler(asked, hashed, Numbers(), Lists()).page(most, after)


@pytest.fixture(scope="module")
def used() -> Questions:
    """Asked by all tests, one after the other."""
    return Questions(hashed, Numbers(), Lists())


def generated(random: Random) -> Query | None:
    """A search as clients may send it; None for one that is refused, or asks for terminology."""
    resource_type = random.choice(TYPES)
    pairs = [
        (name, value.replace("@", "2026-01-0"))
        for name, value in ask.parameters(resource_type, random)
    ]
    try:
        asked = parse(resource_type, pairs, base=BASE, now=NOW).query
    except FhirError:
        return None
    return None if [*_terminological(asked.where)] else asked


def position(asked: Query, random: Random) -> Position | None:
    if random.random() < 0.5:
        return None
    values = (random.choice((None, "x", 5, 2.5)) for _ in asked.sort)
    columns = [
        value if key.code not in ("_id", "_lastUpdated") else 7
        for key, value in zip(asked.sort, values, strict=True)
    ]
    return (*columns, random.randint(1, 99))


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(seeds=st.lists(SEEDS, min_size=20, max_size=20))
def test_what_was_compiled_before_is_what_would_be_compiled_now(
    used: Questions, seeds: list[int]
) -> None:
    for seed in seeds:
        random = Random(seed)  # noqa: S311
        asked = generated(random)
        if asked is not None:
            same(used, asked, random.choice((1, 21)), position(asked, random))


def same(questions: Questions, asked: Query, most: int, after: Position | None) -> None:
    expected = plain(asked, most, after)
    for _ in range(2):
        found = questions.page(asked, most, after, None).sql
        assert found is not None
        assert (found.text, found.arguments) == (expected.text, expected.arguments)
        assert [type(one) for one in found.arguments] == [type(one) for one in expected.arguments]
        total = questions.total(asked).sql
        assert total == Compiler(asked, hashed, Numbers(), Lists()).total()


STRANGE: Final = (
    ("Patient?family=ash", "Patient?family=%F4%8F%BF%BF", "Patient?family=a%F4%8F%BF%BF"),
    ("Patient?birthdate=2010", "Patient?birthdate=2010-06-15T10:00Z", "Patient?birthdate=ge2010"),
    ("Patient?gender=male", "Patient?gender=male,male", "Patient?gender=male,female"),
    ("Patient?identifier=a|1", "Patient?identifier=|1", "Patient?identifier=a|"),
    ("Task?patient=p", "Task?patient=Patient/p", "Task?patient=Patient/p/_history/1"),
    ("Task?subject=p,q", "Task?subject=p,p", f"Task?subject={','.join(map(str, range(60)))}"),
    ("Observation?value-quantity=5", "Observation?value-quantity=5.0||mg", "Task?_id=1,2"),
    ("Observation?value-quantity=5|urn:u|mg", "Observation?value-quantity=ap5", "Task?_id=1"),
    ("Patient?name:contains=a", "Patient?name:exact=A", "Patient?name=straße"),
    ("Patient?_has:Task:patient:status=a", "Patient?_has:Task:patient:status=b,c", "Patient"),
    ("Task?patient.name=a", "Task?patient.name=b", "Task?patient.name=%F4%8F%BF%BF"),
)


@pytest.mark.parametrize("texts", STRANGE, ids=lambda texts: texts[0])
def test_what_changes_the_form_changes_the_sql(used: Questions, texts: tuple[str, ...]) -> None:
    for text in (*texts, *reversed(texts)):
        same(used, query(text), 21, None)


@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_every_kind_of_node_comes_to_the_same(used: Questions, node: Any) -> None:
    try:
        expected = plain(Query("Observation", node), 21, None)
    except Exception as error:
        with pytest.raises(type(error)):
            used.page(Query("Observation", node), 21, None, None)
        return
    assert used.page(Query("Observation", node), 21, None, None).sql in (expected, None)


@pytest.mark.parametrize("after", [(None, 3), ("a", 3), ("b", 4)])
def test_where_an_order_has_no_value_the_next_page_begins_elsewhere(
    used: Questions, after: Position
) -> None:
    asked = query("Patient?family=ash&_sort=family")
    same(used, asked, 21, after)
    beyond = used.page(asked, 21, after, (None, 9)).sql
    assert beyond == Compiler(asked, hashed, Numbers(), Lists()).page(21, after, (None, 9))


def test_a_value_decides_nothing_while_its_form_is_compiled() -> None:
    place: Any = Place(0)
    looks: tuple[Callable[[Any], Any], ...] = (str, bool, "{}".format, sorted, len, hashed)
    for look in looks:
        with pytest.raises(TypeError):
            look(place)


def test_nothing_is_asked_of_a_parameter_that_never_had_a_value() -> None:
    numbers = Numbers()
    questions = Questions(hashed, numbers, Lists())
    asked = query("Task?patient=p&status=requested")
    numbers.unknown = {"patient"}
    assert questions.page(asked, 21, None, None).sql is None
    assert questions.total(asked).sql is None
    assert questions.page(query("Task?patient:missing=true"), 21, None, None).sql is not None
    numbers.unknown = set()
    assert questions.page(asked, 21, None, None).sql == plain(asked, 21, None)


def test_what_is_asked_by_added_parameters_is_told_each_time() -> None:
    questions = Questions(hashed, Numbers(), Lists())
    asked = Query("Patient", TokenIs("risk~3", None, "high"), (SortKey("age~4", "number"),))
    for _ in range(2):
        assert set(questions.page(asked, 21, None, None).added) == {"risk~3", "age~4"}
        assert set(questions.total(asked).added) == {"risk~3"}


@pytest.mark.parametrize(
    "asked",
    [
        Query("Task", ReferenceTo("patient", tuple(f"Patient/{n}" for n in range(900)))),
        Query("Task", IdIn(tuple(map(str, range(101))))),
        Query("Patient", Contains("Task", TokenIs("status", None, "a"))),
        Query("Task", TokenIn("code", frozenset((f"urn:{n}", "x") for n in range(200)))),
        Query("Task", And((TokenIs("code", None, "a"), UriBelow("_source", "urn:x")))),
        query("Task?_content=calm"),
    ],
    ids=["hundreds", "just too many", "contained", "a value set", "a stem", "words"],
)
def test_what_has_no_form_is_compiled_with_its_values(asked: Query) -> None:
    questions = Questions(hashed, Numbers(), Lists())
    found = questions.page(asked, 21, None, None).sql
    assert found == plain(asked, 21, None)
    assert not questions._known


def test_the_forms_that_are_kept_are_bounded() -> None:
    questions = Questions(hashed, Numbers(), Lists())
    for number in range(2 * _MOST):
        where = StringMatches(f"code-{number}", StringMode.EXACT, "Ash")
        questions.page(Query("Patient", where), 21, None, None)
        assert len(questions._known) <= _MOST
    assert questions._known


def test_long_sql_is_not_kept() -> None:
    questions = Questions(hashed, Numbers(), Lists())
    step = Chain("subject", "Patient", ("Patient/",), TokenIs("gender", None, "male"))
    wide = Query("Task", And((step,) * 90))
    for _ in range(2):
        found = questions.page(wide, 21, None, None).sql
        assert found is not None
        assert found == plain(wide, 21, None)
        assert len(found.text) > 20_000
        assert not questions._known


def test_searches_that_differ_in_values_alone_are_one_statement() -> None:
    """SQLite's own statements are kept by their text."""
    questions = Questions(hashed, Numbers(), Lists())
    texts = set()
    for number in range(50):
        date = DateCompares("date", Prefix.GE, number, number + 1)
        named = ReferenceTo("patient", (f"Patient/{number}",))
        found = questions.page(Query("CarePlan", conjunction(named, date)), 21, (number,), None)
        assert found.sql is not None
        texts.add(found.sql.text)
    assert len(texts) == len(questions._known) == 1


def _thousands(first: int) -> ReferenceTo:
    return ReferenceTo("patient", tuple(f"Patient/{n}" for n in range(first, first + 1_200)))


_LISTED: Final = IdIn(tuple(map(str, range(5_000))))
_SPLIT: Final = disjunction(Not(_thousands(0)), TokenIs("status", None, "a"))


@pytest.mark.parametrize(
    "wheres",
    [
        (_thousands(0), _thousands(7), _thousands(0)),
        (conjunction(_thousands(0), _LISTED), conjunction(_thousands(3), _LISTED)),
        (conjunction(_thousands(0), _SPLIT), conjunction(_thousands(9), _SPLIT)),
        (disjunction(_thousands(0), _thousands(1)),),
        (Differs("patient", _thousands(0)),),
    ],
    ids=["one", "two", "what a policy asks", "alternatives", "negated"],
)
def test_lists_of_thousands_come_to_the_same(wheres: tuple[Any, ...]) -> None:
    """As a policy has them: each is one value, whether it leads a search or is looked up in."""
    kept, now = Lists(), Lists()
    questions = Questions(hashed, Numbers(), kept)
    for where in wheres:
        asked = Query("Task", where)
        for sort in ((), (SortKey("code", "token"),)):
            now.clear()
            expected = Compiler(replace(asked, sort=sort), hashed, Numbers(), now).page(21, None)
            assert questions.page(replace(asked, sort=sort), 21, None, None).sql == expected
            assert kept.taken() == now.taken()
        now.clear()
        assert questions.total(asked).sql == Compiler(asked, hashed, Numbers(), now).total()
        assert kept.taken() == now.taken()


def test_what_has_no_form_holds_nothing_of_those_who_asked() -> None:
    """It is remembered that it has none; to raise one error again would keep all who were told."""
    questions = Questions(hashed, Numbers(), Lists())
    asked = Query("Task", _thousands(0))
    questions.total(asked)
    gc.collect()
    before = _tracebacks()
    for _ in range(50):
        questions.total(asked)
    assert _tracebacks() <= before + 5


def _tracebacks() -> int:
    return sum(type(one) is TracebackType for one in gc.get_objects())


def test_searches_within_other_thousands_are_one_statement() -> None:
    questions = Questions(hashed, Numbers(), Lists())
    pages = [questions.page(Query("Task", _thousands(n)), 21, None, None).sql for n in range(5)]
    assert len({page.text for page in pages if page}) == len(questions._known) == 1


def test_texts_that_are_the_same_have_one_place_however_they_are_met() -> None:
    parting = Parting()
    many = tuple(map(str, range(10)))
    first = parting.texts(many)
    assert [*first] == [*parting.texts(many)], "met before"
    assert [*parting.texts((*many[:5], "x", "x", "y", *many[5:]))][:5] == [*first][:5]
    assert parting.values == [*many, "x", "y"]
