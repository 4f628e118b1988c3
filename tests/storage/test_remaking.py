"""Search parameters that are added at run time: the index is made beside live traffic, whole.

https://hl7.org/fhir/R4/searchparameter.html. Other processes are real ones on the same store.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.search.parameters import Definition, State
from fhir_server.storage.interface import Progress, Store, Unit
from fhir_server.storage.remaking import remake
from tests.storage.backends import BACKENDS, Backend
from tests.storage.crash_writer import TYPES, resources
from tests.storage.questions import delete, found, patient, put, query

ROOT: Final = Path(__file__).parents[2]
BIRTH_ORDER: Final = Definition(
    url="urn:birth-order",
    code="birth-order",
    type="number",
    expression="Patient.multipleBirth.ofType(integer)",
    bases=("Patient",),
)
MARK: Final = Definition(
    "urn:mark", "mark", "token", " | ".join(f"{name}.identifier" for name in TYPES), TYPES
)


async def define(store: Store, definition: Definition | None, name: str = "one") -> None:
    async def work(unit: Unit) -> None:
        await unit.define((await unit.parameters()).defined(name, definition))

    await store.commit(work)


def triplet(resource_id: str, place: int) -> Resource:
    return patient(resource_id, multipleBirthInteger=place)


async def states(store: Store) -> list[State]:
    return [one.state for one in (await store.parameters()).account.added]


@asynccontextmanager
async def another(backend: Backend, place: Path) -> AsyncIterator[Store]:
    store = await backend.open(place)
    yield store
    await store.close()


# What is searched, and when


async def test_a_new_parameter_is_not_searched_before_it_is_indexed(store: Store) -> None:
    await put(store, triplet("a", 1))
    await define(store, BIRTH_ORDER)
    with pytest.raises(FhirError, match=r"not indexed yet.*keyworking reindex") as caught:
        await found(store, "Patient?birth-order=1")
    assert caught.value.kind is Kind.INVALID


async def test_when_it_is_indexed_it_finds_what_was_there_and_what_comes(store: Store) -> None:
    await put(store, triplet("a", 1), triplet("b", 2), patient("c"))
    await define(store, BIRTH_ORDER)
    assert await remake(store)
    await put(store, triplet("d", 1), triplet("b", 1))
    await delete(store, "Patient", "a")
    assert sorted(await found(store, "Patient?birth-order=1")) == ["b", "d"]
    assert await found(store, "Patient?birth-order=2") == []
    assert await found(store, "Patient?birth-order:missing=true") == ["c"]


async def test_there_is_nothing_to_do_twice(store: Store) -> None:
    assert not await remake(store)
    await define(store, BIRTH_ORDER)
    assert await remake(store)
    assert not await remake(store)


async def test_another_description_of_the_same_parameter_costs_no_index(store: Store) -> None:
    await define(store, BIRTH_ORDER)
    await remake(store)
    await define(store, BIRTH_ORDER)
    assert await states(store) == [State.READY]


async def test_what_is_written_while_it_is_built_has_its_entries(store: Store) -> None:
    await put(store, *(triplet(f"p{number}", 1) for number in range(10)))
    await define(store, BIRTH_ORDER)

    async def begin(unit: Unit) -> Progress:
        await unit.define((await unit.parameters()).begun(whole=False))
        return await unit.reindex(4)

    assert await store.commit(begin) == Progress(4, 10)
    await put(store, triplet("p1", 2), triplet("p9", 2), triplet("new", 2))
    with pytest.raises(FhirError, match="not indexed yet"):
        await found(store, "Patient?birth-order=2")
    await remake(store)
    assert sorted(await found(store, "Patient?birth-order=2")) == ["new", "p1", "p9"]
    assert len(await found(store, "Patient?birth-order=1")) == 8


async def test_a_parameter_that_is_gone_is_not_searched_any_more(store: Store) -> None:
    await put(store, triplet("a", 1))
    await define(store, BIRTH_ORDER)
    await remake(store)
    before = query("Patient?birth-order=1", await store.parameters())
    await define(store, None)
    with pytest.raises(FhirError, match="is not a search parameter of Patient"):
        await found(store, "Patient?birth-order=1")
    for ask in (store.search(before, 10), store.total(before)):
        with pytest.raises(FhirError, match="ask again") as caught:
            await ask
        assert caught.value.kind is Kind.UNAVAILABLE


async def test_another_definition_never_finds_by_the_index_of_the_first(store: Store) -> None:
    await put(store, patient("a", "Ash", gender="male"), patient("b", "Male"))
    by_gender = Definition("urn:x", "x", "token", "Patient.gender", ("Patient",))
    by_name = Definition("urn:x", "x", "string", "Patient.name.family", ("Patient",))
    await define(store, by_gender)
    await remake(store)
    assert await found(store, "Patient?x=male") == ["a"]
    await define(store, by_name)
    with pytest.raises(FhirError, match="not indexed yet"):
        await found(store, "Patient?x=male")
    await remake(store)
    assert await found(store, "Patient?x=male") == ["b"]
    await define(store, by_gender)
    with pytest.raises(FhirError, match="not indexed yet"):
        await found(store, "Patient?x=male")


async def test_a_definition_that_is_taken_back_leaves_nothing(store: Store) -> None:
    async def work(unit: Unit) -> None:
        await unit.define((await unit.parameters()).defined("one", BIRTH_ORDER))
        raise LookupError

    with pytest.raises(LookupError):
        await store.commit(work)
    assert await states(store) == []
    await define(store, MARK)
    assert [one.definition for one in (await store.parameters()).account.added] == [MARK]
    await put(store, *resources("k", 1))
    await remake(store)
    assert await found(store, "Patient?mark=urn:key|k") == ["k"]


async def test_what_was_read_of_a_definition_that_is_taken_back_is_forgotten(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    async def work(unit: Unit) -> None:
        known = (await unit.parameters()).defined("one", BIRTH_ORDER).begun(whole=False).finished()
        await unit.define(known)
        await unit.search(query("Patient?birth-order=1", known), 10)
        raise LookupError

    with pytest.raises(LookupError):
        await store.commit(work)
    async with another(backend, tmp_path) as other:
        await other.commit(lambda unit: begin_with(unit, MARK))
        await put(store, *resources("k", 1))
        await remake(other)
    assert await found(store, "Patient?mark=urn:key|k") == ["k"]


async def begin_with(unit: Unit, definition: Definition) -> None:
    await unit.define((await unit.parameters()).defined("one", definition).begun(whole=False))
    await unit.reindex(1)


async def test_several_parameters_are_built_together_and_later_ones_after_them(
    store: Store,
) -> None:
    await put(store, triplet("a", 1), *resources("k", 1))
    await define(store, BIRTH_ORDER, "one")
    await define(store, MARK, "two")
    steps: list[Progress] = []

    def told(progress: Progress) -> None:
        steps.append(progress)

    await remake(store, told=told)
    assert len(steps) == 1, "one walk for both"
    assert await found(store, "Patient?birth-order=1") == ["a"]
    assert await found(store, "Observation?mark=urn:key|k") == ["k"]


async def test_one_that_comes_while_others_are_built_waits_for_a_walk_of_its_own(
    store: Store,
) -> None:
    await put(store, triplet("a", 1), *resources("k", 1))
    await define(store, BIRTH_ORDER, "one")
    await store.commit(begun)
    await define(store, MARK, "two")
    assert await states(store) == [State.BUILDING, State.NEW]
    await remake(store)
    assert await states(store) == [State.READY, State.READY]
    assert await found(store, "Patient?birth-order=1") == ["a"]
    assert await found(store, "CarePlan?mark=urn:key|k") == ["k"]


async def begun(unit: Unit) -> None:
    await unit.define((await unit.parameters()).begun(whole=False))
    await unit.reindex(1)


# Several processes


async def test_another_process_knows_of_each_change_at_once(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    await put(store, triplet("a", 1))
    async with another(backend, tmp_path) as other:
        await define(store, BIRTH_ORDER)
        with pytest.raises(FhirError, match="not indexed yet"):
            await found(other, "Patient?birth-order=1")
        await store.commit(begun)
        await put(other, triplet("b", 1))
        await remake(store)
        assert sorted(await found(other, "Patient?birth-order=1")) == ["a", "b"]
        before = query("Patient?birth-order=1", await other.parameters())
        await define(store, None)
        with pytest.raises(FhirError, match="is not a search parameter of Patient"):
            await found(other, "Patient?birth-order=1")
        with pytest.raises(FhirError, match="ask again"):
            await other.search(before, 10)


async def test_several_share_a_remaking(store: Store, backend: Backend, tmp_path: Path) -> None:
    total = backend.fewer(300, 100)
    await put(store, *(triplet(f"p{number}", 1) for number in range(total)))
    await define(store, BIRTH_ORDER)
    async with another(backend, tmp_path) as other:
        await asyncio.gather(remake(store), remake(other))
        for one in (store, other):
            assert len(await found(one, "Patient?birth-order=1")) == total


@contextmanager
def process(module: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", f"tests.storage.{module}", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as running:
        try:
            yield running
        finally:
            running.kill()


def lines(running: "subprocess.Popen[bytes]", count: int) -> list[list[int]]:
    """The next numbers that it prints; fewer where it ends."""
    assert running.stdout is not None
    read = (running.stdout.readline() for _ in range(count))
    return [[int(part) for part in line.split()] for line in read if line]


def go_on(running: "subprocess.Popen[bytes]") -> None:
    assert running.stdin is not None
    running.stdin.write(b".")
    running.stdin.flush()


@pytest.mark.parametrize("whole", ["", "whole"])
@pytest.mark.parametrize("name", sorted(BACKENDS))
async def test_one_that_is_killed_is_gone_on_with(name: str, whole: str, tmp_path: Path) -> None:
    store = await BACKENDS[name].open(tmp_path)
    total = BACKENDS[name].fewer(2000, 420)
    try:
        await put(store, *(triplet(f"p{number}", number % 3) for number in range(total)))
        await define(store, BIRTH_ORDER)
        with process("remaker", name, str(tmp_path), whole, "stepwise") as running:
            for _ in range(3):
                reached = lines(running, 1)[0][0]
                go_on(running)
        assert await states(store) == [State.BUILDING]
        with pytest.raises(FhirError, match="not indexed yet"):
            await found(store, "Patient?birth-order=1")
        with process("remaker", name, str(tmp_path), whole) as running:
            went = lines(running, 1000)
            assert running.wait() == 0
        assert 0 < reached < went[0][0] < total, "it begins where the other was"
        assert went[-1] == [total, total]
        for place in range(3):
            ask = query(f"Patient?birth-order={place}", await store.parameters())
            assert await store.total(ask) == len(range(place, total, 3))
    finally:
        await store.close()


@pytest.mark.parametrize("name", sorted(BACKENDS))
async def test_every_resource_is_found_that_others_wrote_meanwhile(
    name: str, tmp_path: Path
) -> None:
    """Two processes write without pause, and know of the parameter only by the store."""
    backend = BACKENDS[name]
    store = await backend.open(tmp_path)
    least = backend.fewer(600, 60) + 30
    more = backend.fewer(90, 20)
    try:
        await put(store, *(one for n in range(30) for one in resources(f"old{n}", 1)))
        await put(store, *(patient(f"p{n}", identifier=own(f"p{n}")) for n in range(least - 30)))
        writer = ("crash_writer", name, str(tmp_path), str(backend.fewer(32, 4)))
        with process(*writer) as one, process(*writer) as other:
            await asyncio.to_thread(acknowledged, one, more // 3)
            await asyncio.to_thread(acknowledged, other, more // 3)
            await define(store, MARK)
            with process("remaker", name, str(tmp_path)) as remaking:
                refused = await watched(store, remaking, least)
            await asyncio.to_thread(acknowledged, one, more)
            await asyncio.to_thread(acknowledged, other, more)
        assert refused, "it was asked for while it was built"
        await assert_marks_are_whole(store)
    finally:
        await store.close()


def own(value: str) -> list[dict[str, str]]:
    return [{"system": "urn:key", "value": value}]


def acknowledged(running: "subprocess.Popen[bytes]", count: int) -> None:
    assert running.stdout is not None
    for _ in range(count):
        assert running.stdout.readline(), "the writer died by itself"


async def watched(store: Store, remaking: "subprocess.Popen[bytes]", least: int) -> int:
    """How often the search was refused until the remaking ended; it never finds a part."""
    refused = 0
    while remaking.poll() is None:
        known = await store.parameters()
        if "mark" in known.indexed("Patient"):
            assert await store.total(query("Patient?mark=urn:key|", known)) >= least
        else:
            refused += 1
        await asyncio.sleep(0.005)
    assert remaking.returncode == 0
    return refused


async def assert_marks_are_whole(store: Store) -> None:
    """By R4's own parameter, which was always there, as many."""
    for type_ in TYPES:
        for criterion in ("urn:key|", "urn:generation|"):
            expected = await found(store, f"{type_}?identifier={criterion}", 1000)
            assert sorted(await found(store, f"{type_}?mark={criterion}", 1000)) == sorted(expected)
            assert len(expected) > 30


# All of it anew


async def test_while_all_is_made_anew_every_search_stays_whole(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    total = backend.fewer(600, 60)
    await put(store, *(triplet(f"p{number}", 1) for number in range(total)))
    await define(store, BIRTH_ORDER)
    await remake(store)
    totals: set[tuple[int, int]] = set()
    async with another(backend, tmp_path) as other:
        remaking = asyncio.create_task(remake(other, whole=True))
        while not remaking.done():
            known = await store.parameters()
            added = await store.total(query("Patient?birth-order=1", known))
            totals.add((await store.total(query("Patient?_id:missing=false")), added))
            await asyncio.sleep(0)
        assert await remaking
    assert totals == {(total, total)}


async def test_what_is_made_anew_goes_to_the_end_once(store: Store) -> None:
    await put(store, *(patient(f"p{number}", "Ash") for number in range(40)))
    steps: list[Progress] = []
    await remake(store, whole=True, told=steps.append)
    assert steps[-1] == Progress(40, 40)
    assert [step.done for step in steps] == sorted({step.done for step in steps})
    assert len(await found(store, "Patient?family=ash")) == 40
    assert not await remake(store)
