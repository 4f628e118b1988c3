"""While a server serves, Python looks for cycles seldom, and never at what was there before."""

import gc
import weakref
from pathlib import Path

from fhir_server import garbage
from fhir_server.app import create_app
from fhir_server.settings import Settings


class _Tied:
    """Goes when somebody looks for cycles, and not before."""

    def __init__(self) -> None:
        self.itself = self


async def test_a_server_has_cycles_looked_for_seldom_and_not_among_what_was_there(
    tmp_path: Path,
) -> None:
    before = gc.get_threshold()
    app = create_app(Settings(store=f"sqlite:///{tmp_path / 'store.db'}", auth="none"))
    async with app.router.lifespan_context(app):
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (garbage.MOST, *before[1:])
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)


def test_what_fails_in_cycles_goes_all_the_same() -> None:
    with garbage.seldom():
        tied = [weakref.ref(_Tied()) for _ in range(3 * garbage.MOST)]
        alive = sum(one() is not None for one in tied)
    assert alive <= 2 * garbage.MOST
