"""While a server serves, Python looks for cycles seldom, and never at what was there before."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server import garbage
from fhir_server.app import create_app
from fhir_server.settings import Settings


class _Tied:
    """Goes when somebody looks for cycles, and not before."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def frozen() -> Iterator[int]:
    """What these tests keep from the collector is looked at meanwhile, and put back."""
    gc.unfreeze()
    yield gc.get_freeze_count()
    gc.freeze()


async def _serve(path: Path) -> tuple[int, tuple[int, int, int]]:
    """What is frozen, and the thresholds, while an application serves."""
    app = create_app(Settings(store=f"sqlite:///{path / 'store.db'}", auth="none"))
    async with app.router.lifespan_context(app):
        return gc.get_freeze_count(), gc.get_threshold()


async def test_a_server_has_cycles_looked_for_seldom_and_not_among_what_was_there(
    tmp_path: Path, frozen: int
) -> None:
    before = gc.get_threshold()
    count, thresholds = await _serve(tmp_path)
    assert count > frozen == 0
    assert thresholds == (garbage.MOST, *before[1:])
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)


@pytest.mark.usefixtures("frozen")
async def test_what_others_have_frozen_stays_so(tmp_path: Path) -> None:
    """As these tests do with what they are made of, and who forks with what is shared."""
    gc.freeze()
    count = gc.get_freeze_count()
    await _serve(tmp_path)
    assert gc.get_freeze_count() > count // 2  # some of it may go by itself


def test_what_fails_in_cycles_goes_all_the_same() -> None:
    with garbage.seldom():
        tied = [weakref.ref(_Tied()) for _ in range(3 * garbage.MOST)]
        alive = sum(one() is not None for one in tied)
    assert alive <= 2 * garbage.MOST
