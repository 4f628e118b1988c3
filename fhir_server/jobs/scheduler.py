"""Sees to what time alone brings about: overdue tasks, birthdays, consents that end.

Rules ask for the moments at which they look again (`fhir_server.access.moments`). One process
leads and works them off, a piece at a time and each patient in a commit of its own; what it did and
the next moment land together. So nothing happens twice, and nothing is lost where a process is
killed: another takes the lead once the lease has run out.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind

_log: Final = logging.getLogger(__name__)
_SECOND: Final = 1_000_000
_LATER: Final = 3600 * _SECOND
"""How long a patient is left alone at whom the rules failed."""


@dataclass(frozen=True, slots=True)
class Diary:
    """Where the moments are: see `fhir_server.access.moments`."""

    come: Callable[[int, int], Awaitable[Sequence[str]]]
    lead: Callable[[str, int, int], Awaitable[bool]]
    let_go: Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Patients of one piece, and seconds: between two looks, and for which the lead is taken."""

    piece: int = 50
    poll: float = 1.0
    lease: float = 15.0


class Scheduler:
    """Works off moments that have come.

    Args:
        open_session: makes a session with the service's own rights.
    """

    def __init__(
        self,
        diary: Diary,
        open_session: Callable[[], Session],
        clock: Callable[[], int],
        pace: Pace | None = None,
    ) -> None:
        self._diary = diary
        self._open_session = open_session
        self._clock = clock
        self._pace = pace or Pace()
        self.name: Final = str(uuid4())
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.create_task(self._for_ever())

    async def stop(self) -> None:
        """Let go of the lead, so that another process may go on at once."""
        if self._watch is None:
            return
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        with contextlib.suppress(FhirError):
            await self._diary.let_go(self.name)

    async def _for_ever(self) -> None:
        while True:
            found = 0
            try:
                found = await self.work()
            except FhirError as error:
                _log.warning("What has become due cannot be seen to: %s", error)
            except Exception:
                _log.exception("What has become due cannot be seen to")
            await asyncio.sleep(0 if found else self._pace.poll)

    async def work(self) -> int:
        """Work off one piece, if this process leads; how many patients that were.

        Raises:
            FhirError: UNAVAILABLE when the store cannot write now.
        """
        found = await self._diary.come(self._clock(), self._pace.piece)
        if not found or not await self._leads():
            return 0
        until = self._clock() + int(self._pace.lease / 2 * _SECOND)
        for patient_id in found:
            if self._clock() >= until:
                break
            await self._see_to(patient_id)
            await asyncio.sleep(0)
        return len(found)

    async def _leads(self) -> bool:
        now = self._clock()
        return await self._diary.lead(self.name, now, now + int(self._pace.lease * _SECOND))

    async def _see_to(self, patient_id: str) -> None:
        async def work(unit: SessionUnit) -> None:
            await unit.come(patient_id, self.name)

        try:
            await self._open_session().commit("timers", work)
        except FhirError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            _log.warning("Patient/%s cannot be seen to: %s", patient_id, error)
            await self._put_off(patient_id)
        except Exception:
            _log.exception("Patient/%s cannot be seen to", patient_id)
            await self._put_off(patient_id)

    async def _put_off(self, patient_id: str) -> None:
        """Whoever comes after does not wait for a patient at whom the rules fail."""

        async def work(unit: SessionUnit) -> None:
            await unit.postpone(patient_id, self._clock() + _LATER)

        await self._open_session().commit("timers", work)
