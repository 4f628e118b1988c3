"""Settings of the clock that the server goes by."""

from pathlib import Path

from pydantic_settings import BaseSettings

from fhir_server.storage.clock import Clock, MovableClock, system_clock


class ClockSettings(BaseSettings):
    """Whose time it is."""

    movable_clock: Path | None = None
    """A file that moves the clock on, for tests and demonstrations; with `--auth none` alone."""

    scheduler: bool = True
    """Whether this process may see to what time alone brings about."""

    def require_clock(self, auth: str | None) -> None:
        """Raises ValueError where the clock may not be moved, and can be.

        A token that has ended would be good again, and what the audit tells not the time.
        """
        if self.movable_clock is not None and auth != "none":
            raise ValueError("movable_clock is for auth 'none' alone, which is on loopback")

    @property
    def clock(self) -> Clock:
        """The one that everything in the server goes by."""
        return system_clock if self.movable_clock is None else MovableClock(self.movable_clock)
