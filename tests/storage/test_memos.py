"""Memos: what the server keeps for itself, on every backend."""

from pathlib import Path

import pytest

from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Memo, Store, Unit
from tests.clock import go_ahead
from tests.storage.backends import Backend
from tests.storage.questions import patient, put

LONG_AGO = 1
FAR_AWAY = 4_000_000_000_000_000
HOUR = 3600 * 1_000_000


async def keep(store: Store, *memos: Memo) -> None:
    async def work(unit: Unit) -> None:
        for memo in memos:
            await unit.keep(memo)

    await store.commit(work)


def memo(key: str, value: bytes = b"v", space: str = "s", expires: int = 0) -> Memo:
    return Memo(space, key, value, expires)


async def keys(store: Store, prefix: str = "", count: int = 100, after: str = "") -> list[str]:
    return [found.key for found in await store.memos("s", prefix, count, after)]


async def test_a_memo_reads_back_and_is_replaced_under_its_key(store: Store) -> None:
    await keep(store, memo("a", b"\x00one"))
    assert await store.memo("s", "a") == memo("a", b"\x00one")
    await keep(store, memo("a", b"two", expires=FAR_AWAY))
    assert await store.memo("s", "a") == memo("a", b"two", expires=FAR_AWAY)
    assert await keys(store) == ["a"]


async def test_spaces_do_not_see_each_other(store: Store) -> None:
    await keep(store, memo("a", space="other"))
    assert await store.memo("s", "a") is None
    assert await keys(store) == []


async def test_an_expired_memo_is_as_if_it_were_not_there(store: Store) -> None:
    await keep(store, memo("old", expires=LONG_AGO), memo("new", expires=FAR_AWAY))
    assert await store.memo("s", "old") is None
    assert await keys(store) == ["new"]


async def test_memos_come_by_key_below_a_prefix_page_by_page(store: Store) -> None:
    await keep(store, *(memo(key) for key in ("b/2", "b/10", "b", "a/1", "b/é", "bc", "b/")))
    assert await keys(store, "b/") == ["b/", "b/10", "b/2", "b/é"]
    assert await keys(store, "b/", 2) == ["b/", "b/10"]
    assert await keys(store, "b/", 2, after="b/10") == ["b/2", "b/é"]


@pytest.mark.parametrize("wild", ["%", "_", "*", "[a]", "'"])
async def test_a_prefix_is_no_pattern(store: Store, wild: str) -> None:
    await keep(store, memo("a"), memo(f"{wild}b"))
    assert await keys(store, wild) == [f"{wild}b"]


async def test_forgetting_takes_what_begins_with_the_prefix_alone(store: Store) -> None:
    await keep(store, *(memo(key) for key in ("a", "b/1", "b/2", "c")), memo("b/1", space="t"))

    async def work(unit: Unit) -> None:
        await unit.forget("s", "b/")

    await store.commit(work)
    assert await keys(store) == ["a", "c"]
    assert await store.memo("t", "b/1") is not None


async def test_a_unit_sees_its_own_memos_and_a_failed_one_leaves_none(store: Store) -> None:
    async def work(unit: Unit) -> None:
        await unit.keep(memo("a"))
        assert await unit.memo("s", "a") == memo("a")
        assert [found.key for found in await unit.memos("s")] == ["a"]
        raise LookupError

    with pytest.raises(LookupError):
        await store.commit(work)
    assert await store.memo("s", "a") is None


async def test_memos_are_neither_history_nor_changes(store: Store) -> None:
    await put(store, patient("p"))
    await keep(store, memo("a"))
    assert [number for number, _ in await store.changes(0, 10)] == [1]


async def test_what_was_not_there_is_found_as_soon_as_it_is_kept(store: Store) -> None:
    for number in range(3):
        assert await store.memo("s", f"a{number}") is None
        assert await keys(store, f"a{number}") == []
        await keep(store, memo(f"a{number}"))
        assert await store.memo("s", f"a{number}") == memo(f"a{number}")
        assert await keys(store, f"a{number}") == [f"a{number}"]


async def test_another_process_keeps_and_forgets_and_it_is_seen_at_once(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    other = await backend.open(tmp_path)

    async def forget(unit: Unit) -> None:
        await unit.forget("s", "a")

    try:
        for _ in range(3):
            assert await store.memo("s", "a") is None
            await keep(other, memo("a"))
            assert await store.memo("s", "a") == memo("a")
            assert await keys(store) == ["a"]
            await other.commit(forget)
            assert await keys(store) == []
    finally:
        await other.close()


async def test_a_memo_that_was_read_expires_without_a_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = memo("a", expires=system_clock() + HOUR)
    await keep(store, soon, memo("b"))
    assert await store.memo("s", "a") == soon
    assert await keys(store) == ["a", "b"]
    go_ahead(monkeypatch, HOUR)
    assert await store.memo("s", "a") is None
    assert await keys(store) == ["b"]


async def test_what_a_commit_under_way_keeps_nobody_else_sees(store: Store) -> None:
    async def fails(unit: Unit) -> None:
        assert await unit.memo("s", "a") is None
        await unit.keep(memo("a"))
        assert await unit.memo("s", "a") == memo("a")
        assert await store.memo("s", "a") is None
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await store.commit(fails)
    assert await store.memo("s", "a") is None
