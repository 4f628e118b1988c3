"""The clock of a story, which stands where the story is."""

from datetime import datetime
from pathlib import Path

from fhir_server.fhir.dates import LOCAL
from fhir_server.storage.clock import MovableClock, system_clock


class Clock:
    """Moves the server's clock. A story begins on a day of its own, whatever today is."""

    def __init__(self, path: Path, begins: str) -> None:
        self.path = path
        ahead = round(_moment(begins).timestamp() * 1_000_000) - system_clock()
        path.write_text(str(ahead), encoding="ascii")
        self._moving = MovableClock(path)

    @property
    def now(self) -> datetime:
        """In England."""
        return datetime.fromtimestamp(self._moving() // 1_000_000, LOCAL)

    def move_to(self, moment: str) -> None:
        """Such as `2026-03-02 09:00`, in England; never back."""
        self._moving.move_to(_moment(moment))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LOCAL)
