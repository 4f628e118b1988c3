"""The clock of the stores in this process, moved on: nobody waits for what time brings about."""

import time

import pytest

from fhir_server.storage import clock


def go_ahead(monkeypatch: pytest.MonkeyPatch, microseconds: int) -> None:
    """Until the test ends, the system's clock is ahead by so much."""
    real = time.time_ns

    class Ahead:
        @staticmethod
        def time_ns() -> int:
            return real() + microseconds * 1000

    monkeypatch.setattr(clock, "time", Ahead)
